import Base

/// A regular expression of PostgreSQL (an ARE), in the spelling of PCRE2.
///
/// What differs is written out: word boundaries, anchors, what a dot matches, classes in brackets. What cannot be said
/// (look-behind of varying length, collating elements) is refused, never taken for something else.
struct RegexTranslation {
    struct Options: Hashable {
        var ignoresCase = false
        var isExpanded = false, isLiteral = false
        /// A dot and negated brackets stop at newlines; ^ and $ match beside them.
        var dotStops = false, anchorsAtLines = false
        var isGlobal = false
    }

    private(set) var pattern = ""
    private(set) var groups = 0
    private(set) var options: Options
    /// Of the whole: whether the longest match is wanted; nil where there is only one.
    private(set) var isGreedy: Bool?
    private(set) var hasBackReference = false

    private let source: [Unicode.Scalar]
    private var at = 0
    private var depth = 0
    /// Inside of what is counted once, lazily: all in it is lazy.
    private var isForcedLazy = false
    private var closed: Set<Int> = []
    private static let depthLimit = 200

    init(_ text: String, _ options: Options) throws(StatementError) {
        source = Array(text.unicodeScalars)
        self.options = options
        try readDirectors()
        if self.options.isLiteral {
            for scalar in source[at...] { emit(scalar) }
            return
        }
        isGreedy = try alternation()
        if at < source.count { throw Self.malformed("parentheses () not balanced") }
    }

    static func malformed(_ why: String) -> StatementError {
        StatementError(.invalidRegularExpression, "invalid regular expression: \(why)")
    }

    static func refused(_ what: String) -> StatementError {
        StatementError(.featureNotSupported, "\(what) in a regular expression is not supported")
    }

    /// What stands in an argument for flags.
    static func options(_ flags: String) throws(StatementError) -> Options {
        var options = Options()
        for flag in flags.unicodeScalars {
            if flag == "g" { options.isGlobal = true } else { try set(flag, &options, flags) }
        }
        return options
    }

    private static func set(_ flag: Unicode.Scalar, _ options: inout Options, _ all: String?) throws(StatementError) {
        switch flag {
        case "i": options.ignoresCase = true
        case "c": options.ignoresCase = false
        case "e", "t": break
        case "m", "n": (options.dotStops, options.anchorsAtLines) = (true, true)
        case "p": (options.dotStops, options.anchorsAtLines) = (true, false)
        case "s": (options.dotStops, options.anchorsAtLines) = (false, false)
        case "w": (options.dotStops, options.anchorsAtLines) = (false, true)
        case "x": options.isExpanded = true
        case "q": options.isLiteral = true
        case "b": throw refused("the basic syntax")
        case _:
            guard all != nil else { throw malformed("invalid embedded option") }
            throw StatementError(.invalidParameterValue, "invalid regular expression option: \"\(flag)\"")
        }
    }

    private mutating func readDirectors() throws(StatementError) {
        if options.isLiteral { return }
        if has("***=") {
            at += 4
            options.isLiteral = true
            return
        }
        if has("***:") { at += 4 } else if has("***") { throw Self.malformed("quantifier operand invalid") }
        // Options in front: (?i).
        if has("(?"), at + 2 < source.count, Self.isLetter(source[at + 2]) {
            at += 2
            while at < source.count, source[at] != ")" {
                try Self.set(source[at], &options, nil)
                at += 1
            }
            guard at < source.count else { throw Self.malformed("invalid embedded option") }
            at += 1
        }
    }

    private static func isLetter(_ scalar: Unicode.Scalar) -> Bool { (97...122).contains(scalar.value | 0x20) }

    private static func isDigit(_ scalar: Unicode.Scalar) -> Bool { (48...57).contains(scalar.value) }

    private func has(_ word: String) -> Bool {
        let wanted = word.unicodeScalars
        return at + wanted.count <= source.count && source[at..<(at + wanted.count)].elementsEqual(wanted)
    }

    private mutating func accept(_ word: String) -> Bool {
        guard has(word) else { return false }
        at += word.unicodeScalars.count
        return true
    }

    /// One character that means itself.
    private mutating func emit(_ scalar: Unicode.Scalar) { pattern += Self.literal(scalar) }

    private static func literal(_ scalar: Unicode.Scalar) -> String {
        isLetter(scalar) || isDigit(scalar) ? String(scalar) : "\\x{\(String(scalar.value, radix: 16))}"
    }

    // MARK: Structure

    /// Branches; whether the longest match is preferred.
    private mutating func alternation() throws(StatementError) -> Bool? {
        depth += 1
        guard depth <= Self.depthLimit else {
            throw StatementError(.statementTooComplex, "regular expression is too complex")
        }
        defer { depth -= 1 }
        var greedy = try branch(), isAlternative = false
        while accept("|") {
            pattern += "|"
            _ = try branch()
            isAlternative = true
        }
        if isAlternative { greedy = true }
        return greedy
    }

    /// As greedy as the first part of it that is either.
    private mutating func branch() throws(StatementError) -> Bool? {
        var greedy: Bool?
        while true {
            if options.isExpanded { skipBlanks() }
            guard at < source.count, source[at] != "|" else { return greedy }
            if source[at] == ")" {
                if depth > 1 { return greedy }
                throw Self.malformed("parentheses () not balanced")
            }
            let part = try quantified()
            greedy = greedy ?? part
        }
    }

    private mutating func skipBlanks() {
        while at < source.count {
            if source[at].properties.isWhitespace {
                at += 1
            } else if source[at] == "#" {
                while at < source.count, source[at] != "\n" { at += 1 }
            } else if has("(?#") {
                while at < source.count, source[at] != ")" { at += 1 }
                at += 1
            } else {
                return
            }
        }
    }

    private mutating func quantified() throws(StatementError) -> Bool? {
        let start = pattern.utf8.count, isGroup = at < source.count && source[at] == "("
        let first = at, groupsBefore = groups
        guard var greedy = try atom() else {
            // A constraint: nothing may be counted of it.
            if at < source.count, ["*", "+", "?"].contains(source[at]) || startsCount {
                throw Self.malformed("quantifier operand invalid")
            }
            return nil
        }
        if options.isExpanded { skipBlanks() }
        guard at < source.count, pattern.utf8.count > start || greedy != nil else { return greedy }
        let count: String, isFixed: Bool
        switch source[at] {
        case "*", "+", "?":
            (count, isFixed) = (String(source[at]), false)
            at += 1
        case "{" where startsCount: (count, isFixed) = try readCount()
        case _: return greedy
        }
        let isLazy = accept("?")
        if isGroup, count == "{1,1}", isLazy, !isForcedLazy {
            // What is counted once is as short as can be, whatever it is made of.
            let end = at
            pattern.removeSubrange(pattern.utf8.index(pattern.startIndex, offsetBy: start)...)
            (at, groups, isForcedLazy) = (first, groupsBefore, true)
            defer { (at, isForcedLazy) = (end, false) }
            _ = try atom()
        }
        if count == "+", !isGroup, !pattern.utf8.dropFirst(start).starts(with: "\\g".utf8) {
            // The automaton counts what it repeats once or more, and keeps every count apart.
            let piece = String(decoding: pattern.utf8.dropFirst(start), as: UTF8.self)
            pattern += piece + "*"
        } else {
            pattern += count
        }
        if isLazy || isForcedLazy && !isFixed { pattern += "?" }
        if at < source.count, ["*", "+", "?"].contains(source[at]) || startsCount {
            throw Self.malformed("quantifier operand invalid")
        }
        if !isFixed { greedy = .some(!isLazy) }
        return greedy
    }

    private var startsCount: Bool { at + 1 < source.count && source[at] == "{" && Self.isDigit(source[at + 1]) }

    private mutating func readCount() throws(StatementError) -> (String, isFixed: Bool) {
        func number() throws(StatementError) -> Int? {
            var value: Int?
            while at < source.count, Self.isDigit(source[at]) {
                value = min((value ?? 0) * 10 + Int(source[at].value - 48), 100_000)
                at += 1
            }
            if let value, value > 255 { throw Self.malformed("invalid repetition count(s)") }
            return value
        }
        at += 1
        let low = try number() ?? 0
        var high: Int? = low, isOpen = false
        let hasRange = accept(",")
        if hasRange {
            high = try number()
            isOpen = high == nil
        }
        guard accept("}") else {
            throw Self.malformed(at < source.count ? "invalid repetition count(s)" : "braces {} not balanced")
        }
        if let high, high < low { throw Self.malformed("invalid repetition count(s)") }
        if isOpen { return ("{\(low),}", false) }
        return hasRange ? ("{\(low),\(high ?? low)}", false) : ("{\(low)}", true)
    }

    /// What can be counted, and its greed; nil for a constraint.
    private mutating func atom() throws(StatementError) -> Bool?? {
        let scalar = source[at]
        at += 1
        switch scalar {
        case "^":
            pattern += options.anchorsAtLines ? "(?<![^\\n])" : "\\A"
            return nil
        case "$":
            pattern += options.anchorsAtLines ? "(?![^\\n])" : "\\z"
            return nil
        case ".": pattern += options.dotStops ? "[^\\n]" : "(?s:.)"
        case "(": return try group()
        case "[": return try bracket() ? .some(nil) : nil
        case "\\": return try escape() ? .some(nil) : nil
        case "*", "+", "?": throw Self.malformed("quantifier operand invalid")
        case "{" where at < source.count && Self.isDigit(source[at]): throw Self.malformed("quantifier operand invalid")
        case _: emit(scalar)
        }
        return .some(nil)
    }

    private mutating func group() throws(StatementError) -> Bool?? {
        if accept("?#") {
            while at < source.count, source[at] != ")" { at += 1 }
            at += 1
            return .some(nil)
        }
        for (look, isBehind) in [("?=", false), ("?!", false), ("?<=", true), ("?<!", true)] where accept(look) {
            pattern += "(" + look
            _ = try alternation()
            guard accept(")") else { throw Self.malformed("parentheses () not balanced") }
            pattern += ")"
            _ = isBehind
            return nil
        }
        var number: Int?
        if accept("?:") {
            pattern += "(?:"
        } else if has("?") {
            throw Self.malformed("quantifier operand invalid")
        } else {
            groups += 1
            number = groups
            pattern += "("
        }
        let greedy = try alternation()
        guard accept(")") else { throw Self.malformed("parentheses () not balanced") }
        pattern += ")"
        if let number { closed.insert(number) }
        return .some(greedy)
    }

    // MARK: Escapes

    private mutating func hexadecimal(_ count: Int, isExact: Bool) throws(StatementError) -> Unicode.Scalar {
        var value: UInt32 = 0, digits = 0
        while at < source.count, digits < count, let digit = Character(source[at]).hexDigitValue {
            value = value &* 16 &+ UInt32(digit)
            digits += 1
            at += 1
        }
        guard digits > 0, !isExact || digits == count, let scalar = Unicode.Scalar(value) else {
            throw Self.malformed("invalid escape \\ sequence")
        }
        return scalar
    }

    /// A character that an escape stands for; nil if it is none of these. Behind its letter.
    private mutating func escapedCharacter(_ letter: Unicode.Scalar) throws(StatementError) -> Unicode.Scalar? {
        switch letter {
        case "a": return "\u{7}"
        case "b": return "\u{8}"
        case "B": return "\\"
        case "e": return "\u{1b}"
        case "f": return "\u{c}"
        case "n": return "\n"
        case "r": return "\r"
        case "t": return "\t"
        case "v": return "\u{b}"
        case "c":
            guard at < source.count else { throw Self.malformed("invalid escape \\ sequence") }
            at += 1
            return Unicode.Scalar(source[at - 1].value & 0x1f)
        case "u": return try hexadecimal(4, isExact: true)
        case "U": return try hexadecimal(8, isExact: true)
        case "x": return try hexadecimal(255, isExact: false)
        case "0":
            var value: UInt32 = 0, digits = 0
            while at < source.count, digits < 2, (48...55).contains(source[at].value) {
                value = value * 8 + source[at].value - 48
                (at, digits) = (at + 1, digits + 1)
            }
            return Unicode.Scalar(value)
        case _: return Self.isLetter(letter) || Self.isDigit(letter) ? nil : letter
        }
    }

    /// False for a constraint.
    private mutating func escape() throws(StatementError) -> Bool {
        guard at < source.count else { throw Self.malformed("invalid escape \\ sequence") }
        let letter = source[at]
        at += 1
        if let scalar = try escapedCharacter(letter) {
            emit(scalar)
            return true
        }
        switch letter {
        case "d": pattern += "[0-9]"
        case "D": pattern += options.dotStops ? "[^0-9\\n]" : "[^0-9]"
        case "s": pattern += "[[:space:]]"
        case "S": pattern += "[^[:space:]]"
        case "w": pattern += "[[:alnum:]_]"
        case "W": pattern += options.dotStops ? "[^[:alnum:]_\\n]" : "[^[:alnum:]_]"
        case "A": pattern += "\\A"
        case "Z": pattern += "\\z"
        case "m": pattern += "\\b(?=\\w)"
        case "M": pattern += "\\b(?<=\\w)"
        case "y": pattern += "\\b"
        case "Y": pattern += "\\B"
        case _ where Self.isDigit(letter): try backReference(letter)
        case _: throw Self.malformed("invalid escape \\ sequence")
        }
        return !["A", "Z", "m", "M", "y", "Y"].contains(letter)
    }

    private mutating func backReference(_ first: Unicode.Scalar) throws(StatementError) {
        var number = Int(first.value - 48), end = at
        while end < source.count, Self.isDigit(source[end]), number < 1000 {
            number = number * 10 + Int(source[end].value - 48)
            end += 1
        }
        if number > 9, number > groups {
            // No such group: a character by its octal number.
            guard first.value < 56 else { throw Self.malformed("invalid backreference number") }
            var value = first.value - 48, digits = 1
            while at < source.count, digits < 3, (48...55).contains(source[at].value) {
                value = value * 8 + source[at].value - 48
                (at, digits) = (at + 1, digits + 1)
            }
            guard let scalar = Unicode.Scalar(value) else { throw Self.malformed("invalid escape \\ sequence") }
            return emit(scalar)
        }
        guard closed.contains(number) else { throw Self.malformed("invalid backreference number") }
        at = end
        hasBackReference = true
        pattern += "\\g{\(number)}"
    }

    // MARK: Brackets

    private static let classes: Set<String> = [
        "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "xdigit",
    ]

    private static let classSpellings = ["digit": "0-9", "xdigit": "0-9A-Fa-f", "word": "[:alnum:]_"]

    private func unbalanced() -> StatementError { Self.malformed("brackets [] not balanced") }

    /// False for a constraint: [[:<:]].
    private mutating func bracket() throws(StatementError) -> Bool {
        if accept("[:<:]]") {
            pattern += "\\b(?=\\w)"
            return false
        }
        if accept("[:>:]]") {
            pattern += "\\b(?<=\\w)"
            return false
        }
        var content = "", isFirst = true
        let isNegated = accept("^")
        while true {
            guard at < source.count else { throw unbalanced() }
            if source[at] == "]", !isFirst {
                at += 1
                break
            }
            isFirst = false
            let low = try bracketItem(&content)
            guard at + 1 < source.count, source[at] == "-", source[at + 1] != "]" else {
                if let low { content += Self.literal(low) }
                continue
            }
            at += 1
            var rest = ""
            guard let low, let high = try bracketItem(&rest), low.value <= high.value else {
                throw Self.malformed("invalid character range")
            }
            content += Self.literal(low) + "-" + Self.literal(high)
        }
        pattern += isNegated ? "[^" + content + (options.dotStops ? "\\n" : "") + "]" : "[" + content + "]"
        return true
    }

    /// One character, or nil where a class was added to the content.
    private mutating func bracketItem(_ content: inout String) throws(StatementError) -> Unicode.Scalar? {
        guard at < source.count else { throw unbalanced() }
        let scalar = source[at]
        at += 1
        if scalar == "[", at < source.count {
            let kind = source[at]
            guard kind == ":" || kind == "=" || kind == "." else { return scalar }
            at += 1
            var name = ""
            while at + 1 < source.count, source[at] != kind || source[at + 1] != "]" {
                name.unicodeScalars.append(source[at])
                at += 1
            }
            guard at + 1 < source.count else { throw unbalanced() }
            at += 2
            if kind == ":" {
                guard Self.classes.contains(name) || name == "word" else {
                    throw Self.malformed("invalid character class")
                }
                content += Self.classSpellings[name] ?? "[:\(name):]"
                return nil
            }
            let scalars = Array(name.unicodeScalars)
            guard scalars.count == 1 else { throw Self.malformed("invalid collating element") }
            return scalars[0]
        }
        guard scalar == "\\" else { return scalar }
        guard at < source.count else { throw Self.malformed("invalid escape \\ sequence") }
        let letter = source[at]
        at += 1
        switch letter {
        case "d": content += "0-9"
        case "s": content += "[:space:]"
        case "w": content += "[:alnum:]_"
        case _:
            guard let found = try escapedCharacter(letter) else { throw Self.malformed("invalid escape \\ sequence") }
            return found
        }
        return nil
    }
}
