/// One bit for each row of a column: set where there is a value.
package struct Bitmap: Hashable, Sendable {
    private(set) var words: [UInt64]
    private(set) var count: Int

    init(repeating bit: Bool, count: Int) {
        words = Array(repeating: bit ? ~0 : 0, count: (count + 63) >> 6)
        self.count = count
    }

    /// `words` has a bit for each of `count` rows.
    init(words: [UInt64], count: Int) { (self.words, self.count) = (words, count) }

    subscript(index: Int) -> Bool {
        @inline(__always) get { words[index >> 6] >> UInt64(index & 63) & 1 != 0 }
        @inline(__always) set {
            let bit: UInt64 = 1 << UInt64(index & 63)
            if newValue { words[index >> 6] |= bit } else { words[index >> 6] &= ~bit }
        }
    }

    mutating func append(_ bit: Bool) {
        if count & 63 == 0 { words.append(0) }
        count += 1
        self[count - 1] = bit
    }

    /// True if a bit of a row is not set.
    var hasZero: Bool {
        guard count > 0 else { return false }
        for word in words.dropLast() where word != ~0 { return true }
        let rest = count & 63
        let mask: UInt64 = rest == 0 ? ~0 : (1 << UInt64(rest)) - 1
        return words[words.count - 1] & mask != mask
    }

    /// Set where both are; both have the same number of rows.
    func intersection(_ other: Bitmap) -> Bitmap {
        var result = self
        for index in result.words.indices { result.words[index] &= other.words[index] }
        return result
    }

    /// Set where both are, nil standing for all.
    static func both(_ left: Bitmap?, _ right: Bitmap?) -> Bitmap? {
        guard let left else { return right }
        guard let right else { return left }
        return left.intersection(right)
    }
}
