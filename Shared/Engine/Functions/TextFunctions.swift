import Base
import DataModel

/// Strings: lengths and positions count characters (code points), as PostgreSQL does with UTF-8.
enum TextFunctions {
    static let rows: [ScalarFunction] = named + trims + anyConcatenations + byteRows

    private static let named: [ScalarFunction] = [
        concatenate, length("length"), length("char_length"), length("character_length"), octets, bits, lower, upper,
        initcap, substr("substr"), substr("substring"), substrFrom("substr"), substrFrom("substring"), position, strpos,
        replace, left, right, lpad, lpadWith, rpad, rpadWith, repeated, reverse, splitPart, ascii, chr, concat,
        concatWith, translate, overlay, overlayFor, startsWith, quoteLiteral, quoteIdent, quoteNullable, toHex32,
        toHex64,
    ]

    static func text(_ value: Value) -> String {
        if case .text(let text) = value { return text }
        return ""
    }

    static func integer(_ value: Value) -> Int {
        if case .integer(let number) = value { return Int(number) }
        return 0
    }

    private static func row(
        _ name: String, _ parameters: [DataType], _ result: DataType, _ example: (String, String), isSafe: Bool = true,
        _ body: @escaping @Sendable ([Value]) throws(StatementError) -> Value
    ) -> ScalarFunction {
        ScalarFunction(name, parameters.map { .of($0) }, .of(result), isSafe: isSafe, example: example) {
            arguments, _ throws(StatementError) in try body(arguments)
        }
    }

    static let concatenate = row("||", [.text, .text], .text, ("'ab' || 'cd'", "abcd")) { a throws(StatementError) in
        .text(text(a[0]) + text(a[1]))
    }

    /// `'a' || 1`: what is no text is written as one.
    private static let anyConcatenations: [ScalarFunction] = [
        ScalarFunction("||", [.of(.text), .anyNonArray], .of(.text), volatility: .stable, example: nil) {
            a, context throws(StatementError) in .text(text(a[0]) + TextForms.untyped(a[1], context.settings))
        },
        ScalarFunction("||", [.anyNonArray, .of(.text)], .of(.text), volatility: .stable, example: nil) {
            a, context throws(StatementError) in .text(TextForms.untyped(a[0], context.settings) + text(a[1]))
        },
    ]

    private static func length(_ name: String) -> ScalarFunction {
        ScalarFunction(
            name, [.of(.text)], .of(.int32), isSafe: true, kernel: lengthKernel, example: ("\(name)('häß')", "3")
        ) { a, _ throws(StatementError) in .integer(Int64(text(a[0]).unicodeScalars.count)) }
    }

    private static let lengthKernel: Kernel = { columns, count throws(StatementError) in
        guard case .bytes(let strings) = columns[0].storage else { return columns[0] }
        let stride = columns[0].stride
        let lengths = (0..<count).map { row in
            strings.withBytes(at: row * stride) { view in
                var length: Int64 = 0
                for byte in view where byte & 0xc0 != 0x80 { length += 1 }
                return length
            }
        }
        return Column(.int32, .integers(lengths), validity: columns[0].validity, count: count)
    }

    static let octets = row("octet_length", [.text], .int32, ("octet_length('häß')", "5")) { a throws(StatementError) in
        .integer(Int64(text(a[0]).utf8.count))
    }
    static let bits = row("bit_length", [.text], .int32, ("bit_length('ab')", "16")) { a throws(StatementError) in
        .integer(Int64(text(a[0]).utf8.count * 8))
    }
    static let lower = row("lower", [.text], .text, ("lower('ABC')", "abc")) { a throws(StatementError) in
        .text(mapped(text(a[0])) { $0.properties.lowercaseMapping })
    }
    static let upper = row("upper", [.text], .text, ("upper('abc')", "ABC")) { a throws(StatementError) in
        .text(mapped(text(a[0])) { $0.properties.uppercaseMapping })
    }

    /// Character by character, as the C library does: those whose counterpart is several stay.
    static func mapped(_ text: String, _ map: (Unicode.Scalar) -> String) -> String {
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            let other = map(scalar).unicodeScalars
            result.append(other.count == 1 ? other.first ?? scalar : scalar)
        }
        return String(result)
    }

    static let initcap = row("initcap", [.text], .text, ("initcap('hi THOMAS')", "Hi Thomas")) {
        a throws(StatementError) in
        var result = String.UnicodeScalarView(), isInWord = false
        for scalar in text(a[0]).unicodeScalars {
            let isWord = scalar.properties.isAlphabetic || scalar.properties.numericType != nil
            let mapping = isInWord ? scalar.properties.lowercaseMapping : scalar.properties.uppercaseMapping
            result.append(
                contentsOf: mapping.unicodeScalars.count == 1 ? mapping.unicodeScalars : String(scalar).unicodeScalars)
            isInWord = isWord
        }
        return .text(String(result))
    }

    /// Characters `from` up to and without `end`, counted from 1; either may lie outside.
    static func slice(_ text: String, from: Int, end: Int) -> String {
        let scalars = text.unicodeScalars
        guard end > from, end > 1 else { return "" }
        let first = max(from, 1) - 1
        guard let start = scalars.index(scalars.startIndex, offsetBy: first, limitedBy: scalars.endIndex) else {
            return ""
        }
        let stop = scalars.index(start, offsetBy: end - 1 - first, limitedBy: scalars.endIndex) ?? scalars.endIndex
        return String(scalars[start..<stop])
    }

    private static func substr(_ name: String) -> ScalarFunction {
        row(name, [.text, .int32, .int32], .text, ("\(name)('alphabet', 3, 2)", "ph"), isSafe: false) {
            a throws(StatementError) in
            let count = integer(a[2])
            guard count >= 0 else {
                throw StatementError(.substringError, "negative substring length not allowed")
            }
            return .text(slice(text(a[0]), from: integer(a[1]), end: integer(a[1]) + count))
        }
    }
    private static func substrFrom(_ name: String) -> ScalarFunction {
        row(name, [.text, .int32], .text, ("\(name)('alphabet', 3)", "phabet")) { a throws(StatementError) in
            .text(slice(text(a[0]), from: integer(a[1]), end: .max))
        }
    }

    /// Where `part` begins in `whole`, in characters from 1; 0: nowhere.
    static func find(_ part: String, in whole: String) -> Int {
        let part = Array(part.utf8), whole = Array(whole.utf8)
        if part.isEmpty { return 1 }
        guard part.count <= whole.count else { return 0 }
        for start in 0...(whole.count - part.count) where whole[start] == part[0] {
            if whole[start..<(start + part.count)].elementsEqual(part) {
                return whole[..<start].reduce(1) { $0 + ($1 & 0xc0 != 0x80 ? 1 : 0) }
            }
        }
        return 0
    }

    static let position = row("position", [.text, .text], .int32, ("position('om' in 'Thomas')", "3")) {
        a throws(StatementError) in .integer(Int64(find(text(a[1]), in: text(a[0]))))
    }
    static let strpos = row("strpos", [.text, .text], .int32, ("strpos('high', 'ig')", "2")) {
        a throws(StatementError) in .integer(Int64(find(text(a[1]), in: text(a[0]))))
    }

    static func replacing(_ whole: String, _ part: String, _ fresh: String) -> String {
        let whole = Array(whole.utf8), part = Array(part.utf8), fresh = Array(fresh.utf8)
        guard !part.isEmpty else { return String(decoding: whole, as: UTF8.self) }
        var result: Bytes = []
        var index = 0
        while index < whole.count {
            if whole[index] == part[0], index + part.count <= whole.count,
                whole[index..<(index + part.count)].elementsEqual(part)
            {
                result += fresh
                index += part.count
            } else {
                result.append(whole[index])
                index += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    static let replace = row(
        "replace", [.text, .text, .text], .text, ("replace('abcdefabcdef', 'cd', 'XX')", "abXXefabXXef")
    ) { a throws(StatementError) in .text(replacing(text(a[0]), text(a[1]), text(a[2]))) }

    static let left = row("left", [.text, .int32], .text, ("left('abcde', 2)", "ab")) { a throws(StatementError) in
        let count = integer(a[1]), whole = text(a[0])
        return .text(slice(whole, from: 1, end: (count < 0 ? whole.unicodeScalars.count + count : count) + 1))
    }
    static let right = row("right", [.text, .int32], .text, ("right('abcde', 2)", "de")) { a throws(StatementError) in
        let count = integer(a[1]), whole = text(a[0])
        // As there, where the negation of the least number is that number.
        if count == Int(Int32.min) { return a[0] }
        let length = whole.unicodeScalars.count
        return .text(slice(whole, from: count < 0 ? 1 - count : max(length - count, 0) + 1, end: .max))
    }

    static func padded(_ whole: String, _ length: Int, _ fill: String, isLeft: Bool) throws(StatementError) -> String {
        let count = whole.unicodeScalars.count
        if count >= length { return slice(whole, from: 1, end: max(length, 0) + 1) }
        let filling = Array(fill.unicodeScalars)
        if filling.isEmpty { return whole }
        guard length <= 1 << 28 else { throw StatementError(.programLimitExceeded, "requested length too large") }
        var padding = String.UnicodeScalarView()
        for index in 0..<(length - count) { padding.append(filling[index % filling.count]) }
        return isLeft ? String(padding) + whole : whole + String(padding)
    }

    static let lpad = row("lpad", [.text, .int32], .text, ("lpad('hi', 5) || '|'", "   hi|"), isSafe: false) {
        a throws(StatementError) in .text(try padded(text(a[0]), integer(a[1]), " ", isLeft: true))
    }
    static let lpadWith = row("lpad", [.text, .int32, .text], .text, ("lpad('hi', 5, 'xy')", "xyxhi"), isSafe: false) {
        a throws(StatementError) in .text(try padded(text(a[0]), integer(a[1]), text(a[2]), isLeft: true))
    }
    static let rpad = row("rpad", [.text, .int32], .text, ("rpad('hi', 5) || '|'", "hi   |"), isSafe: false) {
        a throws(StatementError) in .text(try padded(text(a[0]), integer(a[1]), " ", isLeft: false))
    }
    static let rpadWith = row("rpad", [.text, .int32, .text], .text, ("rpad('hi', 5, 'xy')", "hixyx"), isSafe: false) {
        a throws(StatementError) in .text(try padded(text(a[0]), integer(a[1]), text(a[2]), isLeft: false))
    }
    static let repeated = row("repeat", [.text, .int32], .text, ("repeat('Pg', 4)", "PgPgPgPg"), isSafe: false) {
        a throws(StatementError) in
        let count = max(integer(a[1]), 0), whole = text(a[0])
        guard whole.utf8.count * count <= 1 << 28 else {
            throw StatementError(.programLimitExceeded, "requested length too large")
        }
        return .text(String(repeating: whole, count: count))
    }
    static let reverse = row("reverse", [.text], .text, ("reverse('abcde')", "edcba")) { a throws(StatementError) in
        var view = String.UnicodeScalarView()
        view.append(contentsOf: text(a[0]).unicodeScalars.reversed())
        return .text(String(view))
    }
    static let splitPart = row(
        "split_part", [.text, .text, .int32], .text, ("split_part('abc~@~def~@~ghi', '~@~', 2)", "def"), isSafe: false
    ) { a throws(StatementError) in
        let wanted = integer(a[2])
        guard wanted != 0 else { throw StatementError(.invalidParameterValue, "field position must not be zero") }
        let parts = split(text(a[0]), text(a[1]))
        let index = wanted > 0 ? wanted - 1 : parts.count + wanted
        return .text(parts.indices.contains(index) ? parts[index] : "")
    }

    static func split(_ whole: String, _ separator: String) -> [String] {
        let whole = Array(whole.utf8), separator = Array(separator.utf8)
        if separator.isEmpty || whole.isEmpty { return [String(decoding: whole, as: UTF8.self)] }
        var parts: [String] = [], start = 0, index = 0
        while index + separator.count <= whole.count {
            if whole[index] == separator[0], whole[index..<(index + separator.count)].elementsEqual(separator) {
                parts.append(String(decoding: whole[start..<index], as: UTF8.self))
                index += separator.count
                start = index
            } else {
                index += 1
            }
        }
        parts.append(String(decoding: whole[start...], as: UTF8.self))
        return parts
    }

    static let ascii = row("ascii", [.text], .int32, ("ascii('x')", "120")) { a throws(StatementError) in
        .integer(Int64(text(a[0]).unicodeScalars.first?.value ?? 0))
    }
    static let chr = row("chr", [.int32], .text, ("chr(65)", "A"), isSafe: false) { a throws(StatementError) in
        guard integer(a[0]) >= 0 else {
            throw StatementError(.invalidParameterValue, "character number must be positive")
        }
        guard let scalar = Unicode.Scalar(UInt32(clamping: integer(a[0]))), scalar.value != 0 else {
            throw integer(a[0]) == 0
                ? StatementError(.programLimitExceeded, "null character not permitted")
                : StatementError(.programLimitExceeded, "requested character too large for encoding: \(integer(a[0]))")
        }
        return .text(String(scalar))
    }
    static let concat = ScalarFunction(
        "concat", [.any], .of(.text), volatility: .stable, isStrict: false, isVariadic: true,
        example: ("concat('abcde', 2, NULL, 22)", "abcde222")
    ) { types, _ in
        { a, context throws(StatementError) in
            .text(a.indices.map { TextForms.text(a[$0], types[$0], context.settings) }.joined())
        }
    }
    static let concatWith = ScalarFunction(
        "concat_ws", [.of(.text), .any], .of(.text), volatility: .stable, isStrict: false, isVariadic: true,
        example: ("concat_ws(',', 'abcde', 2, NULL, 22)", "abcde,2,22")
    ) { types, _ in
        { a, context throws(StatementError) in
            guard case .text(let separator) = a[0] else { return .null }
            let there = a.indices.dropFirst().filter { !a[$0].isNull }
            let parts = there.map { TextForms.text(a[$0], types[$0], context.settings) }
            return .text(parts.joined(separator: separator))
        }
    }

    static let translate = row(
        "translate", [.text, .text, .text], .text, ("translate('12345', '143', 'ax')", "a2x5")
    ) { a throws(StatementError) in
        let from = Array(text(a[1]).unicodeScalars), to = Array(text(a[2]).unicodeScalars)
        var result = String.UnicodeScalarView()
        for scalar in text(a[0]).unicodeScalars {
            guard let place = from.firstIndex(of: scalar) else {
                result.append(scalar)
                continue
            }
            if place < to.count { result.append(to[place]) }
        }
        return .text(String(result))
    }
    private static func overlaid(_ a: [Value], count: Int) throws(StatementError) -> Value {
        let start = integer(a[2])
        guard start > 0 else { throw StatementError(.substringError, "negative substring length not allowed") }
        guard start + count <= Int(Int32.max) else { throw Casts.outOfRange(.int32) }
        let whole = text(a[0])
        return .text(
            slice(whole, from: 1, end: start) + text(a[1]) + slice(whole, from: max(start + count, 1), end: .max))
    }
    static let overlay = row(
        "overlay", [.text, .text, .int32], .text, ("overlay('Txxxxas', 'hom', 2)", "Thomxas"), isSafe: false
    ) { a throws(StatementError) in try overlaid(a, count: text(a[1]).unicodeScalars.count) }
    static let overlayFor = row(
        "overlay", [.text, .text, .int32, .int32], .text, ("overlay('Txxxxas' placing 'hom' from 2 for 4)", "Thomas"),
        isSafe: false
    ) { a throws(StatementError) in try overlaid(a, count: integer(a[3])) }
    static let startsWith = row("starts_with", [.text, .text], .bool, ("starts_with('alphabet', 'alph')", "true")) {
        a throws(StatementError) in .bool(text(a[0]).utf8.starts(with: text(a[1]).utf8))
    }
    static let quoteLiteral = row("quote_literal", [.text], .text, ("quote_literal('O''Reilly')", "'O''Reilly'")) {
        a throws(StatementError) in .text(quoted(text(a[0])))
    }
    static let quoteNullable = ScalarFunction(
        "quote_nullable", [.of(.text)], .of(.text), isStrict: false, example: ("quote_nullable(NULL)", "NULL")
    ) { a, _ throws(StatementError) in a[0].isNull ? .text("NULL") : .text(quoted(text(a[0]))) }
    static let quoteIdent = row("quote_ident", [.text], .text, ("quote_ident('Foo bar')", "\"Foo bar\"")) {
        a throws(StatementError) in .text(identifier(text(a[0])))
    }

    /// Words that are no names without quotes.
    private static let keywords: Set<String> = Set(
        """
        all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case
        cast char character check coalesce collate collation column concurrently constraint create cross
        current_catalog current_date current_role current_schema current_time current_timestamp current_user dec
        decimal default deferrable desc distinct do else end except exists extract false fetch float for foreign freeze
        from full grant greatest group grouping having ilike in initially inner inout int integer intersect interval
        into is isnull join lateral leading least left like limit localtime localtimestamp national natural nchar none
        normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay placing position
        precision primary real references returning right row select session_user setof similar smallint some substring
        symmetric table tablesample then time timestamp to trailing treat trim true union unique user using values
        varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest
        xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
        """.split(whereSeparator: \.isWhitespace).map(String.init))

    /// A name as it is written in a statement.
    static func identifier(_ name: String) -> String {
        let isPlain =
            !name.isEmpty
            && name.utf8.enumerated().allSatisfy { index, byte in
                byte == UInt8(ascii: "_") || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                    || index > 0 && (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            }
        return isPlain && !keywords.contains(name) ? name : "\"\(replacing(name, "\"", "\"\""))\""
    }

    static func quoted(_ text: String) -> String {
        let body = replacing(replacing(text, "\\", "\\\\"), "'", "''")
        return text.utf8.contains(UInt8(ascii: "\\")) ? "E'\(body)'" : "'\(body)'"
    }
    static let toHex32 = row("to_hex", [.int32], .text, ("to_hex(2147483647)", "7fffffff")) {
        a throws(StatementError) in
        .text(String(UInt32(truncatingIfNeeded: integer(a[0])), radix: 16))
    }
    static let toHex64 = row("to_hex", [.int64], .text, ("to_hex(255::int8)", "ff")) { a throws(StatementError) in
        .text(String(UInt64(bitPattern: Int64(integer(a[0]))), radix: 16))
    }

    // MARK: Trimming

    private static let trims: [ScalarFunction] = [
        ("btrim", true, true), ("ltrim", true, false), ("rtrim", false, true),
    ]
    .flatMap { (name: String, isLeft: Bool, isRight: Bool) -> [ScalarFunction] in
        let plain = isLeft && isRight ? "ab" : isLeft ? "ab " : " ab"
        let chosen = isLeft && isRight ? "trim" : isLeft ? "trimyx" : "xytrim"
        return [
            row(name, [.text], .text, ("'<' || \(name)(' ab ') || '>'", "<\(plain)>")) { a throws(StatementError) in
                .text(trimmed(text(a[0]), " ", isLeft, isRight))
            },
            row(name, [.text, .text], .text, ("\(name)('xytrimyx', 'xyz')", chosen)) { a throws(StatementError) in
                .text(trimmed(text(a[0]), text(a[1]), isLeft, isRight))
            },
        ]
    }

    private static func trimmed(_ text: String, _ characters: String, _ isLeft: Bool, _ isRight: Bool) -> String {
        let set = Set(characters.unicodeScalars)
        var view = Substring(text).unicodeScalars
        while isLeft, let first = view.first, set.contains(first) { view.removeFirst() }
        while isRight, let last = view.last, set.contains(last) { view.removeLast() }
        return String(Substring(view))
    }

    // MARK: Bytes

    private static let byteRows: [ScalarFunction] = [
        row("||", [.bytes, .bytes], .bytes, ("'\\x01'::bytea || '\\x02'::bytea", "\\x0102")) {
            a throws(StatementError) in
            guard case .bytes(let left) = a[0], case .bytes(let right) = a[1] else { return .null }
            return .bytes(left + right)
        },
        row("length", [.bytes], .int32, ("length('\\x0102'::bytea)", "2")) { a throws(StatementError) in
            if case .bytes(let bytes) = a[0] { .integer(Int64(bytes.count)) } else { .null }
        },
        // With the blanks that fill it, which other functions do not see.
        row("octet_length", [.char], .int32, ("octet_length('ab'::char(4))", "4")) { a throws(StatementError) in
            .integer(Int64(text(a[0]).utf8.count))
        },
        row("octet_length", [.bytes], .int32, ("octet_length('\\x0102'::bytea)", "2")) { a throws(StatementError) in
            if case .bytes(let bytes) = a[0] { .integer(Int64(bytes.count)) } else { .null }
        },
    ]
}
