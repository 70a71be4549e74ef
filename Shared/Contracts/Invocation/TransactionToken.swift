import Base

/// Names a transaction that is open, and the node that drives it. Nobody can guess one, so it is the right to take
/// part.
package struct TransactionToken: Hashable, Sendable, CustomStringConvertible {
    /// Where the transaction is.
    package let home: NodeID
    /// Random.
    package let high: UInt64, low: UInt64

    package init(home: NodeID, high: UInt64, low: UInt64) { (self.home, self.high, self.low) = (home, high, low) }

    /// It names a node, and no transaction.
    package var isNone: Bool { high == 0 && low == 0 }

    /// `<node>-<32 hexadecimal digits>`, as `description` writes it and in no other way; nil for anything else.
    package init?(parsing text: String) {
        let utf8 = Array(text.utf8)
        guard let dash = utf8.firstIndex(of: UInt8(ascii: "-")), dash <= 10, utf8.count == dash + 33 else { return nil }
        func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
            UInt64(String(decoding: digits, as: UTF8.self), radix: 16)
        }
        guard let node = UInt32(String(decoding: utf8[..<dash], as: UTF8.self)),
            let high = number(utf8[(dash + 1)..<(dash + 17)]), let low = number(utf8[(dash + 17)...])
        else { return nil }
        self.init(home: NodeID(rawValue: node), high: high, low: low)
        guard description == text else { return nil }  // A sign, a capital, a zero too many.
    }

    package var description: String { "\(home.rawValue)-\(Self.hexadecimal(high))\(Self.hexadecimal(low))" }

    private static func hexadecimal(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
