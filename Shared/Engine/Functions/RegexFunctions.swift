import Base
import DataModel

/// Regular expressions: ~ and its like, regexp_…, substring, SIMILAR TO.
enum RegexFunctions {
    static let rows: [ScalarFunction] =
        operators + replacing + finding + counting + [
            .row("similar_to_escape", [.text], .text, ("'abc' SIMILAR TO '%(b|d)%'", "true")) {
                a, _ throws(StatementError) in .text(try similar(a[0].string, "\\"))
            },
            .row("similar_to_escape", [.text, .text], .text, ("'10%' SIMILAR TO '[0-9]+#%' ESCAPE '#'", "true")) {
                a, _ throws(StatementError) in .text(try similar(a[0].string, a[1].string))
            },
        ]

    /// A pattern made ready once for an execution.
    private static func matcher(_ pattern: String, _ options: RegexTranslation.Options, _ context: ExecutionContext)
        throws(StatementError) -> RegexMatcher
    {
        let key = PatternKey(pattern: Bytes(pattern.utf8), options: options)
        if let known = context.patterns[key] {
            known.beginCall()
            return known
        }
        let fresh = try RegexMatcher(pattern, options)
        fresh.beginCall()
        if context.patterns.count >= 64 { context.patterns.removeAll() }
        context.patterns[key] = fresh
        return fresh
    }

    private static let operators: [ScalarFunction] = [
        ("~", false, false, "'thomas' ~ 't.*ma'", "true"), ("~*", false, true, "'thomas' ~* 'T.*ma'", "true"),
        ("!~", true, false, "'thomas' !~ '^th'", "false"), ("!~*", true, true, "'thomas' !~* 'vadim'", "true"),
    ].flatMap { (name: String, isNegated: Bool, ignoresCase: Bool, expression: String, result: String) in
        [DataType.text, .char].map { type in
            let expression = type == .char ? expression.replacing("'thomas'", with: "'thomas'::bpchar") : expression
            return .row(name, [type, .text], .bool, (expression, result)) { a, context throws(StatementError) in
                let matcher = try matcher(a[1].string, .init(ignoresCase: ignoresCase), context)
                return .bool(try matcher.matches(Bytes(a[0].string.utf8)) != isNegated)
            }
        }
    }

    // MARK: Matches

    private static func piece(_ text: Bytes, _ range: Range<Int>?) -> Value {
        range.map { .text(String(decoding: text[$0], as: UTF8.self)) } ?? .null
    }

    /// All matches from `start`, or the first ones only. `isSplitting` leaves out empty ones at the ends and right
    /// behind another.
    private static func matches(
        _ text: Bytes, _ matcher: RegexMatcher, from start: Int = 0, limit: Int = .max, isSplitting: Bool = false
    ) throws(StatementError) -> [RegexMatcher.Match] {
        var found: [RegexMatcher.Match] = [], at = start, last = 0
        while at <= text.count, found.count < limit, let match = try matcher.first(in: text, from: at) {
            let whole = match.whole
            if !isSplitting || whole.lowerBound < text.count && whole.upperBound > last {
                found.append(match)
                last = whole.upperBound
            }
            at = whole.isEmpty ? next(text, whole.upperBound) : whole.upperBound
        }
        return found
    }

    /// Behind the character that begins here.
    private static func next(_ text: Bytes, _ at: Int) -> Int {
        var at = at + 1
        while at < text.count, text[at] & 0xc0 == 0x80 { at += 1 }
        return at
    }

    /// The byte at which a character begins, by its number from 1.
    private static func offset(_ text: Bytes, ofCharacter number: Int) -> Int {
        var at = 0, rest = number - 1
        while rest > 0, at <= text.count {
            at = next(text, at)
            rest -= 1
        }
        return at
    }

    private static func characters(_ text: Bytes, upTo end: Int) -> Int64 {
        text[..<end].reduce(0) { $0 + ($1 & 0xc0 != 0x80 ? 1 : 0) }
    }

    private static func options(_ flags: Value?, global name: String? = nil, _ hint: String? = nil)
        throws(StatementError) -> RegexTranslation.Options
    {
        let options = try RegexTranslation.options(flags?.string ?? "")
        if options.isGlobal, let name {
            throw StatementError(
                .invalidParameterValue, "\(name)() does not support the \"global\" option", hint: hint)
        }
        return options
    }

    private static func plain(_ options: RegexTranslation.Options) -> RegexTranslation.Options {
        var options = options
        options.isGlobal = false
        return options
    }

    // MARK: Replacing

    private static let replacing: [ScalarFunction] =
        [
            .row("regexp_replace", [.text, .text, .text], .text, ("regexp_replace('Thomas', '.[mN]a.', 'M')", "ThM")) {
                a, context throws(StatementError) in try replace(a, options(nil), from: 0, number: 1, context)
            },
            .row(
                "regexp_replace", [.text, .text, .text, .text], .text,
                ("regexp_replace('foobarbaz', 'b(..)', 'X\\1Y', 'g')", "fooXarYXazY")
            ) { a, context throws(StatementError) in
                // A number there was meant as the start.
                if let first = a[3].string.utf8.first, (48...57).contains(first) {
                    throw StatementError(
                        .invalidParameterValue, "invalid regular expression option: \"\(a[3].string.prefix(1))\"",
                        hint:
                            "If you meant to use regexp_replace() with a start parameter, cast the fourth argument to "
                            + "integer explicitly.")
                }
                let options = try options(a[3])
                return try replace(a, options, from: 0, number: options.isGlobal ? 0 : 1, context)
            },
        ]
        + (4...6).map { count in
            let types: [DataType] = [.text, .text, .text, .int32, .int32, .text]
            let examples = [
                ("regexp_replace('foobarbaz', 'b..', 'X', 5)", "foobarX"),
                ("regexp_replace('foobarbaz', 'b..', 'X', 1, 2)", "foobarX"),
                ("regexp_replace('fooBarbaz', 'b..', 'X', 1, 2, 'i')", "fooBarX"),
            ]
            return .row("regexp_replace", Array(types.prefix(count)), .text, examples[count - 4]) {
                a, context throws(StatementError) in
                let start = try positive(a[3], "start")
                let number = count > 4 ? try notNegative(a[4], "n") : 1
                let options = try options(count > 5 ? a[5] : nil)
                let text = Bytes(a[0].string.utf8)
                return try replace(
                    a, options, from: offset(text, ofCharacter: start),
                    number: options.isGlobal && count < 5 ? 0 : number, context)
            }
        }

    private static func positive(_ value: Value, _ name: String) throws(StatementError) -> Int {
        guard value.int > 0 else {
            throw StatementError(.invalidParameterValue, "invalid value for parameter \"\(name)\": \(value.int)")
        }
        return Int(value.int)
    }

    private static func notNegative(_ value: Value, _ name: String) throws(StatementError) -> Int {
        guard value.int >= 0 else {
            throw StatementError(.invalidParameterValue, "invalid value for parameter \"\(name)\": \(value.int)")
        }
        return Int(value.int)
    }

    /// `number` 0: all.
    private static func replace(
        _ a: [Value], _ options: RegexTranslation.Options, from start: Int, number: Int, _ context: ExecutionContext
    ) throws(StatementError) -> Value {
        let text = Bytes(a[0].string.utf8), template = Bytes(a[2].string.utf8)
        let matcher = try matcher(a[1].string, plain(options), context)
        guard start <= text.count else { return a[0] }
        let all = try matches(text, matcher, from: start, limit: number == 0 ? .max : number)
        var result: Bytes = [], at = 0
        for (index, match) in all.enumerated() where number == 0 || index == number - 1 {
            result += text[at..<match.whole.lowerBound]
            append(template, match, text, to: &result)
            at = match.whole.upperBound
            guard result.count < 1 << 28 else {
                throw StatementError(.programLimitExceeded, "requested length too large")
            }
        }
        result += text[at...]
        return .text(String(decoding: result, as: UTF8.self))
    }

    /// The template with `\1` … `\9` and `\&` filled in.
    private static func append(_ template: Bytes, _ match: RegexMatcher.Match, _ text: Bytes, to result: inout Bytes) {
        var index = 0
        while index < template.count {
            let byte = template[index]
            guard byte == UInt8(ascii: "\\"), index + 1 < template.count else {
                result.append(byte)
                index += 1
                continue
            }
            let next = template[index + 1]
            index += 2
            switch next {
            case UInt8(ascii: "1")...UInt8(ascii: "9"):
                let group = Int(next - 48)
                if group < match.ranges.count, let range = match.ranges[group] { result += text[range] }
            case UInt8(ascii: "&"): result += text[match.whole]
            case UInt8(ascii: "\\"): result.append(next)
            case _:
                result.append(byte)
                index -= 1
            }
        }
    }

    // MARK: Finding

    private static func groups(_ text: Bytes, _ match: RegexMatcher.Match) -> Value {
        let ranges = match.ranges.count > 1 ? match.ranges.dropFirst() : match.ranges[...]
        return .array(ArrayValue(.text, ranges.map { piece(text, $0) }))
    }

    private static let finding: [ScalarFunction] =
        [false, true].flatMap { (hasFlags: Bool) -> [ScalarFunction] in
            let types: [DataType] = hasFlags ? [.text, .text, .text] : [.text, .text], flags = hasFlags ? ", 'i'" : ""
            return [
                .row(
                    "regexp_match", types, .text.array,
                    ("regexp_match('foobarbequebaz', '(bar)(beque)'\(flags))", "{bar,beque}")
                ) { a, context throws(StatementError) in
                    let options = try options(
                        hasFlags ? a[2] : nil, global: "regexp_match", "Use the regexp_matches function instead.")
                    let text = Bytes(a[0].string.utf8)
                    guard let match = try matcher(a[1].string, options, context).first(in: text, from: 0) else {
                        return .null
                    }
                    return groups(text, match)
                },
                .row(
                    "regexp_like", types, .bool,
                    ("regexp_like('Hello World', 'world$'\(flags))", hasFlags ? "true" : "false")
                ) {
                    a, context throws(StatementError) in
                    let options = try options(hasFlags ? a[2] : nil, global: "regexp_like")
                    return .bool(try matcher(a[1].string, options, context).matches(Bytes(a[0].string.utf8)))
                },
                .row(
                    "regexp_split_to_array", types, .text.array,
                    ("regexp_split_to_array('hello world', '\\s+'\(flags))", "{hello,world}")
                ) { a, context throws(StatementError) in
                    .array(ArrayValue(.text, try split(a, "regexp_split_to_array", context)))
                },
            ]
        } + [
            .row("substring", [.text, .text], .text, ("substring('foobar' from 'o(.)b')", "o")) {
                a, context throws(StatementError) in try substring(a[0].string, a[1].string, context)
            },
            .row(
                "substring", [.text, .text, .text], .text,
                ("substring('foobar' similar '%#\"o_b#\"%' escape '#')", "oob")
            ) {
                a, context throws(StatementError) in
                try substring(a[0].string, try similar(a[1].string, a[2].string), context)
            },
        ]

    private static func substring(_ text: String, _ pattern: String, _ context: ExecutionContext)
        throws(StatementError) -> Value
    {
        let bytes = Bytes(text.utf8)
        guard let match = try matcher(pattern, .init(), context).first(in: bytes, from: 0) else { return .null }
        return piece(bytes, match.ranges.count > 1 ? match.ranges[1] : match.whole)
    }

    /// What lies between the matches.
    static func split(_ a: [Value], _ name: String, _ context: ExecutionContext) throws(StatementError) -> [Value] {
        let options = try options(a.count > 2 ? a[2] : nil, global: name)
        let text = Bytes(a[0].string.utf8)
        let all = try matches(text, try matcher(a[1].string, options, context), isSplitting: true)
        var parts: [Value] = [], at = 0
        for match in all {
            parts.append(piece(text, at..<match.whole.lowerBound))
            at = match.whole.upperBound
        }
        return parts + [piece(text, at..<text.count)]
    }

    /// The rows of regexp_matches.
    static func matchRows(_ a: [Value], _ context: ExecutionContext) throws(StatementError) -> [[Value]] {
        let options = try options(a.count > 2 ? a[2] : nil)
        let text = Bytes(a[0].string.utf8)
        let matcher = try matcher(a[1].string, plain(options), context)
        return try matches(text, matcher, limit: options.isGlobal ? .max : 1).map { [groups(text, $0)] }
    }

    // MARK: Counting

    private static let counting: [ScalarFunction] =
        (2...4).map { count in
            let types: [DataType] = [.text, .text, .int32, .text]
            let arguments = ["'Abcabc', 'abc'", "'Abcabc', 'abc', 2", "'Abcabc', 'abc', 1, 'i'"]
            return .row(
                "regexp_count", Array(types.prefix(count)), .int32,
                ("regexp_count(\(arguments[count - 2]))", count == 4 ? "2" : "1")
            ) { a, context throws(StatementError) in
                let start = count > 2 ? try positive(a[2], "start") : 1
                let options = try options(count > 3 ? a[3] : nil, global: "regexp_count")
                let text = Bytes(a[0].string.utf8)
                let matcher = try matcher(a[1].string, options, context)
                return .integer(
                    Int64(try matches(text, matcher, from: offset(text, ofCharacter: start)).count))
            }
        }
        + (2...7).map { count in
            let types: [DataType] = [.text, .text, .int32, .int32, .int32, .text, .int32]
            let tails = ["", ", 2", ", 1, 2", ", 1, 1, 1", ", 1, 1, 0, 'i'", ", 1, 1, 0, '', 1"]
            let answers = ["2", "2", "5", "4", "2", "3"]
            return .row(
                "regexp_instr", Array(types.prefix(count)), .int32,
                ("regexp_instr('abcabc', 'b(c)'\(tails[count - 2]))", answers[count - 2])
            ) { a, context throws(StatementError) in
                let start = count > 2 ? try positive(a[2], "start") : 1
                let number = count > 3 ? try positive(a[3], "n") : 1
                let ends = count > 4 ? a[4].int : 0
                guard ends == 0 || ends == 1 else {
                    throw StatementError(.invalidParameterValue, "invalid value for parameter \"endoption\": \(ends)")
                }
                let group = count > 6 ? try notNegative(a[6], "subexpr") : 0
                let options = try options(count > 5 ? a[5] : nil, global: "regexp_instr")
                let text = Bytes(a[0].string.utf8)
                guard let range = try range(text, a[1].string, options, start, number, group, context) else {
                    return .integer(0)
                }
                return .integer(characters(text, upTo: ends == 1 ? range.upperBound : range.lowerBound) + 1)
            }
        }
        + (2...6).map { count in
            let types: [DataType] = [.text, .text, .int32, .int32, .text, .int32]
            let tails = ["", ", 3", ", 1, 2", ", 1, 2, 'i'", ", 1, 2, '', 1"]
            let answers = ["b1", "b2", "b2", "b2", "2"]
            return .row(
                "regexp_substr", Array(types.prefix(count)), .text,
                ("regexp_substr('ab1ab2', 'b(.)'\(tails[count - 2]))", answers[count - 2])
            ) { a, context throws(StatementError) in
                let start = count > 2 ? try positive(a[2], "start") : 1
                let number = count > 3 ? try positive(a[3], "n") : 1
                let group = count > 5 ? try notNegative(a[5], "subexpr") : 0
                let options = try options(count > 4 ? a[4] : nil, global: "regexp_substr")
                let text = Bytes(a[0].string.utf8)
                return piece(text, try range(text, a[1].string, options, start, number, group, context))
            }
        }

    private static func range(
        _ text: Bytes, _ pattern: String, _ options: RegexTranslation.Options, _ start: Int, _ number: Int,
        _ group: Int, _ context: ExecutionContext
    ) throws(StatementError) -> Range<Int>? {
        let matcher = try matcher(pattern, options, context)
        let all = try matches(text, matcher, from: offset(text, ofCharacter: start), limit: number)
        guard all.count == number, group < all[number - 1].ranges.count else { return nil }
        return all[number - 1].ranges[group]
    }

    // MARK: SIMILAR TO

    /// A pattern of SQL's own as a regular expression of the whole text.
    static func similar(_ pattern: String, _ escape: String) throws(StatementError) -> String {
        let escapes = Array(escape.unicodeScalars)
        guard escapes.count <= 1 else {
            throw StatementError(
                .invalidEscapeSequence, "invalid escape string", hint: "Escape string must be empty or one character.")
        }
        var result = "^(?:", isEscaped = false, isBracket = false, quotes = 0
        for scalar in pattern.unicodeScalars {
            if isEscaped {
                isEscaped = false
                if scalar == "\"", !isBracket {
                    // escape-double-quote: the parts before and behind what substring gives.
                    switch quotes {
                    case 0: result += "){1,1}?("
                    case 1: result += "){1,1}(?:"
                    case _:
                        throw StatementError(
                            .invalidUseOfEscapeCharacter,
                            "SQL regular expression may not contain more than two escape-double-quote separators")
                    }
                    quotes += 1
                } else {
                    result += "\\"
                    result.unicodeScalars.append(scalar)
                }
                continue
            }
            if scalar == escapes.first {
                isEscaped = true
                continue
            }
            if isBracket {
                if scalar == "\\" { result += "\\" }
                result.unicodeScalars.append(scalar)
                if scalar == "]" { isBracket = false }
                continue
            }
            switch scalar {
            case "[":
                isBracket = true
                result += "["
            case "%": result += ".*"
            case "_": result += "."
            case "(": result += "(?:"
            case "\\", ".", "^", "$":
                result += "\\"
                result.unicodeScalars.append(scalar)
            case _: result.unicodeScalars.append(scalar)
            }
        }
        return result + ")$"
    }
}

/// A pattern and how it is read.
struct PatternKey: Hashable {
    /// By its bytes: two texts that Unicode calls equal are two patterns.
    let pattern: Bytes
    let options: RegexTranslation.Options
}
