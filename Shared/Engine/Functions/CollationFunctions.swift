import Base
import DataModel

/// What the binder puts around texts that are compared by another collation than their bytes': their keys, which are
/// compared instead, and the way back. No statement can name these functions.
enum CollationFunctions {
    static let key = make("collation key", .text, .bytes, kernel: kernel(isPadded: false)) {
        text throws(StatementError) in try madeKey(of: text)
    }
    /// Trailing blanks of a char(n) do not count.
    static let paddedKey = make("collation key", .char, .bytes, kernel: kernel(isPadded: true)) {
        text throws(StatementError) in try madeKey(of: text.withoutTrailingBlanks)
    }
    static let keys = make("collation keys", .text.array, .bytes.array) { text throws(StatementError) in
        try madeKey(of: text)
    }
    static let paddedKeys = make("collation keys", .char.array, .bytes.array) {
        text throws(StatementError) in try madeKey(of: text.withoutTrailingBlanks)
    }
    /// Of a char(n) that is to be taken out again, with its blanks.
    static let wholeKey = make("collation key", .char, .bytes) { text throws(StatementError) in
        try madeKey(of: text.withoutTrailingBlanks, keeping: text)
    }
    static let wholeKeys = make("collation keys", .char.array, .bytes.array) { text throws(StatementError) in
        try madeKey(of: text.withoutTrailingBlanks, keeping: text)
    }
    /// The text that a key was made of; of an array, those of its elements.
    static let text = ScalarFunction("text of collation key", [.any], .element, example: nil) {
        arguments, result in
        { values, _ throws(StatementError) in
            switch values[0] {
            case .bytes(let key): .text(RootCollation.text(ofKey: key))
            case .array(let array):
                mapped(array, result.element) {
                    if case .bytes(let key) = $0 { .text(RootCollation.text(ofKey: key)) } else { $0 }
                }
            case _: values[0]
            }
        }
    }

    /// The key of an expression: of a text, or of an array of texts. `isWhole`: the text can be taken out again.
    static func key(of expression: BoundExpression, isWhole: Bool = false) -> BoundExpression {
        let isArray = expression.type.isArray
        let function: ScalarFunction
        if expression.type.kind == .char {
            function = isWhole ? (isArray ? wholeKeys : wholeKey) : (isArray ? paddedKeys : paddedKey)
        } else {
            function = isArray ? keys : key
        }
        return BoundExpression(
            form: .call(function, [expression]), type: isArray ? .bytes.array : .bytes, position: expression.position)
    }

    /// A value of `type` out of its whole key.
    static func text(ofKey expression: BoundExpression, _ type: DataType) -> BoundExpression {
        let function = text.specialized([expression.type], type)
        return BoundExpression(form: .call(function, [expression]), type: type, position: expression.position)
    }

    static func isKey(_ function: ScalarFunction) -> Bool {
        [key, paddedKey, wholeKey, keys, paddedKeys, wholeKeys].contains { $0 === function }
    }

    static func isText(_ function: ScalarFunction) -> Bool { function.origin === text }

    private static func make(
        _ name: String, _ parameter: DataType, _ result: DataType, kernel: Kernel? = nil,
        _ body: @escaping @Sendable (String) throws(StatementError) -> Value
    ) -> ScalarFunction {
        ScalarFunction(name, [.of(parameter)], .of(result), kernel: kernel, example: nil) {
            arguments, _ throws(StatementError) in
            switch arguments[0] {
            case .text(let text): return try body(text)
            case .array(let array):
                var keys: [Value] = []
                keys.reserveCapacity(array.elements.count)
                for element in array.elements {
                    if case .text(let text) = element { keys.append(try body(text)) } else { keys.append(element) }
                }
                return ArrayValue(result.element, dimensions: array.dimensions, elements: keys).map { .array($0) }
                    ?? .null
            case _: return arguments[0]  // NULL.
            }
        }
    }

    private static func mapped(_ array: ArrayValue, _ element: DataType, _ change: (Value) -> Value) -> Value {
        ArrayValue(element, dimensions: array.dimensions, elements: array.elements.map(change)).map { .array($0) }
            ?? .null
    }

    private static func madeKey(of text: String, keeping kept: String? = nil) throws(StatementError) -> Value {
        let bytes = Bytes(text.utf8), whole = kept.map { Bytes($0.utf8) }
        var key = Bytes()
        try bytes.withView { view throws(StatementError) in
            guard let whole else { return try RootCollation.appendKey(of: view, to: &key) }
            try whole.withView { kept throws(StatementError) in
                try RootCollation.appendKey(of: view, keeping: kept, to: &key)
            }
        }
        return .bytes(key)
    }

    /// What the keys of one column in a batch may take: offsets have 32 bits.
    private static let largestColumn = 1 << 30

    private static func kernel(isPadded: Bool) -> Kernel {
        { columns, count throws(StatementError) in
            guard case .bytes(let texts) = columns[0].storage else { return columns[0] }
            let stride = columns[0].stride
            var keys = ByteColumn(), failure: StatementError?
            keys.data.reserveCapacity(texts.data.count &* 3)
            texts.data.withUnsafeBytes { all in
                for row in 0..<count {
                    if !columns[0].isNull(at: row) {
                        let place = row &* stride
                        let view = ByteView(rebasing: all[Int(texts.offsets[place])..<Int(texts.offsets[place + 1])])
                        do throws(StatementError) {
                            try RootCollation.appendKey(
                                of: isPadded ? view.withoutTrailingBlanks : view, to: &keys.data)
                        } catch { failure = failure ?? error }
                        guard failure == nil, keys.data.count <= largestColumn else { return }
                    }
                    keys.offsets.append(Int32(truncatingIfNeeded: keys.data.count))
                }
            }
            if let failure { throw failure }
            guard keys.data.count <= largestColumn else {
                throw StatementError(
                    .outOfMemory, "out of memory", detail: "The texts of a batch of rows are too large.")
            }
            return Column(.bytes, .bytes(keys), validity: columns[0].validity, count: count)
        }
    }

    // MARK: Upper and lower case

    /// `lower`, `upper` and `initcap` under a collation; nil where they are what they are without one.
    static func casing(_ name: String, _ collation: Collation) -> ScalarFunction? {
        if collation == .root { return full[name] }
        return collation.knowsASCIIOnly ? plain[name] : nil
    }

    private static let full: [String: ScalarFunction] = [
        "lower": cased("lower") { text throws(StatementError) in try RootCollation.mapped(text, .lower) },
        "upper": cased("upper") { text throws(StatementError) in try RootCollation.mapped(text, .upper) },
        "initcap": cased("initcap") { text throws(StatementError) in try RootCollation.mapped(text, .title) },
    ]

    private static let plain: [String: ScalarFunction] = [
        "lower": cased("lower") { ascii($0) { letter, _ in letter | 0x20 } },
        "upper": cased("upper") { ascii($0) { letter, _ in letter & ~0x20 } },
        "initcap": cased("initcap") { ascii($0) { letter, isInWord in isInWord ? letter | 0x20 : letter & ~0x20 } },
    ]

    private static func cased(
        _ name: String, _ map: @escaping @Sendable (String) throws(StatementError) -> String
    ) -> ScalarFunction {
        ScalarFunction(name, [.of(.text)], .of(.text), example: nil) { arguments, _ throws(StatementError) in
            guard case .text(let text) = arguments[0] else { return .null }
            return .text(try map(text))
        }
    }

    /// The letters of ASCII changed, whatever else is there left; a word is made of letters and digits.
    private static func ascii(_ text: String, _ change: (_ letter: UInt8, _ isInWord: Bool) -> UInt8) -> String {
        var isInWord = false
        let bytes = text.utf8.map { byte in
            let isLetter = (0x61...0x7a).contains(byte | 0x20), isDigit = (0x30...0x39).contains(byte)
            defer { isInWord = isLetter || isDigit }
            return isLetter ? change(byte, isInWord) : byte
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
