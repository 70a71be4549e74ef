import Base
import DataModel

/// format(), sizes and names for people, and what else is composed of values of any type.
enum TextComposition {
    static let rows: [ScalarFunction] = [
        ScalarFunction(
            "format", [.of(.text), .any], .of(.text), volatility: .stable, isStrict: false, isVariadic: true,
            example: ("format('%s, %I is %L|%-4s|', 'Hi', 'a b', 'x''y', 7)", "Hi, \"a b\" is 'x''y'|7   |")
        ) { types, _ in
            { a, context throws(StatementError) in
                guard case .text(let template) = a[0] else { return .null }
                let shown = a.indices.dropFirst().map { index in
                    a[index].isNull ? nil : TextForms.text(a[index], types[index], context.settings)
                }
                return .text(try Template(template, shown).text())
            }
        },
        .row("format", [.text], .text, ("format('100%%')", "100%"), volatility: .stable) {
            a, _ throws(StatementError) in
            .text(try Template(a[0].string, []).text())
        },
        ScalarFunction(
            "quote_literal", [.anyElement], .of(.text), volatility: .stable, example: ("quote_literal(42.5)", "'42.5'")
        ) { types, _ in
            { a, context throws(StatementError) in
                .text(TextFunctions.quoted(TextForms.text(a[0], types[0], context.settings)))
            }
        },
        ScalarFunction(
            "quote_nullable", [.anyElement], .of(.text), volatility: .stable, isStrict: false,
            example: ("quote_nullable(42.5)", "'42.5'")
        ) { types, _ in
            { a, context throws(StatementError) in
                guard !a[0].isNull else { return .text("NULL") }
                return .text(TextFunctions.quoted(TextForms.text(a[0], types[0], context.settings)))
            }
        },
        ScalarFunction(
            "pg_typeof", [.any], .of(.regtype), volatility: .stable, isStrict: false,
            example: ("pg_typeof(1.5)::oid", "1700")
        ) { types, _ in
            { _, _ throws(StatementError) in .integer(Int64(types[0].unconstrained.oid)) }
        },
        ScalarFunction(
            "num_nulls", [.any], .of(.int32), isStrict: false, isVariadic: true,
            example: ("num_nulls(1, NULL, 'a')", "1")
        ) { a, _ throws(StatementError) in .integer(Int64(a.count { $0.isNull })) },
        ScalarFunction(
            "num_nonnulls", [.any], .of(.int32), isStrict: false, isVariadic: true,
            example: ("num_nonnulls(1, NULL, 'a')", "2")
        ) { a, _ throws(StatementError) in .integer(Int64(a.count { !$0.isNull })) },
        .row("unistr", [.text], .text, ("unistr('d\\0061t\\+000061')", "data")) { a, _ throws(StatementError) in
            .text(try unescaped(a[0].string))
        },
        .row("^@", [.text, .text], .bool, ("'alphabet' ^@ 'alph'", "true")) { a, _ throws(StatementError) in
            .bool(a[0].string.utf8.starts(with: a[1].string.utf8))
        },
    ]

    private static func unescaped(_ text: String) throws(StatementError) -> String {
        let scalars = Array(text.unicodeScalars)
        var result = String.UnicodeScalarView(), index = 0, surrogate: UInt32?
        let invalid = StatementError(
            .syntaxError, "invalid Unicode escape",
            hint: "Unicode escapes must be \\XXXX, \\+XXXXXX, \\uXXXX, or \\UXXXXXXXX.")
        while index < scalars.count {
            guard scalars[index] == "\\" else {
                result.append(scalars[index])
                index += 1
                continue
            }
            if index + 1 < scalars.count, scalars[index + 1] == "\\" {
                result.append("\\")
                index += 2
                continue
            }
            var start = index + 1, count = 4
            if start < scalars.count {
                switch scalars[start] {
                case "+": (start, count) = (start + 1, 6)
                case "u": start += 1
                case "U": (start, count) = (start + 1, 8)
                case _: break
                }
            }
            guard start + count <= scalars.count else { throw invalid }
            var value: UInt32 = 0
            for scalar in scalars[start..<(start + count)] {
                guard let digit = Character(scalar).hexDigitValue else { throw invalid }
                value = value &* 16 &+ UInt32(digit)
            }
            index = start + count
            if let high = surrogate {
                guard (0xdc00...0xdfff).contains(value) else {
                    throw StatementError(.syntaxError, "invalid Unicode surrogate pair")
                }
                value = 0x10000 + (high - 0xd800) * 0x400 + value - 0xdc00
                surrogate = nil
            } else if (0xd800...0xdbff).contains(value) {
                surrogate = value
                continue
            }
            guard let scalar = Unicode.Scalar(value) else {
                throw StatementError(.syntaxError, "invalid Unicode surrogate pair")
            }
            result.append(scalar)
        }
        guard surrogate == nil else { throw StatementError(.syntaxError, "invalid Unicode surrogate pair") }
        return String(result)
    }

    /// The template of format().
    private struct Template {
        private let scalars: [Unicode.Scalar]
        private let arguments: [String?]
        private var index = 0
        /// The argument that is next where none is named.
        private var next = 0

        init(_ template: String, _ arguments: [String?]) {
            scalars = Array(template.unicodeScalars)
            self.arguments = arguments
        }

        private static func error(_ message: String, hint: String? = nil) -> StatementError {
            StatementError(.invalidParameterValue, message, hint: hint)
        }

        private static var unterminated: StatementError {
            error("unterminated format() type specifier", hint: "For a single \"%\" use \"%%\".")
        }

        consuming func text() throws(StatementError) -> String {
            var walker = self
            return try walker.walk()
        }

        private mutating func walk() throws(StatementError) -> String {
            var result = ""
            while index < scalars.count {
                guard scalars[index] == "%" else {
                    result.unicodeScalars.append(scalars[index])
                    index += 1
                    continue
                }
                index += 1
                guard index < scalars.count else { throw Self.unterminated }
                if scalars[index] == "%" {
                    result += "%"
                    index += 1
                    continue
                }
                result += try specifier()
                guard result.utf8.count < 1 << 28 else {
                    throw StatementError(.programLimitExceeded, "requested length too large")
                }
            }
            return result
        }

        private mutating func number() throws(StatementError) -> Int? {
            var value: Int?
            while index < scalars.count, (48...57).contains(scalars[index].value) {
                value = (value ?? 0) * 10 + Int(scalars[index].value - 48)
                guard let value, value <= Int(Int32.max) else {
                    throw StatementError(.numericValueOutOfRange, "number is out of range")
                }
                index += 1
            }
            if value != nil, index >= scalars.count { throw Self.unterminated }
            return value
        }

        private mutating func specifier() throws(StatementError) -> String {
            var position: Int?, isLeft = false, width = 0
            let start = index
            if let number = try number() {
                if scalars[index] == "$" {
                    position = number
                    index += 1
                    guard number > 0 else {
                        throw Self.error("format specifies argument 0, but arguments are numbered from 1")
                    }
                } else {
                    index = start
                }
            }
            while index < scalars.count, scalars[index] == "-" {
                isLeft = true
                index += 1
            }
            guard index < scalars.count else { throw Self.unterminated }
            if scalars[index] == "*" {
                index += 1
                var place = next
                if let number = try number() {
                    guard scalars[index] == "$" else {
                        throw Self.error("width argument position must be ended by \"$\"")
                    }
                    guard number > 0 else {
                        throw Self.error("format specifies argument 0, but arguments are numbered from 1")
                    }
                    index += 1
                    place = number - 1
                }
                let value = Int(Int32(clamping: Int(try argument(place) ?? "0") ?? 0))
                next = place + 1
                if value < 0 { isLeft = true }
                width = Int(min(value.magnitude, 1 << 28))
            } else if let number = try number() {
                width = number
            }
            guard index < scalars.count else { throw Self.unterminated }
            let kind = scalars[index]
            index += 1
            guard ["s", "I", "L"].contains(kind) else {
                throw Self.error(
                    "unrecognized format() type specifier \"\(kind)\"", hint: "For a single \"%\" use \"%%\".")
            }
            let place = position.map { $0 - 1 } ?? next
            next = place + 1
            return try padded(shown(try argument(place), kind), width, isLeft)
        }

        private func argument(_ place: Int) throws(StatementError) -> String? {
            guard place < arguments.count else { throw Self.error("too few arguments for format()") }
            return arguments[place]
        }

        private func shown(_ text: String?, _ kind: Unicode.Scalar) throws(StatementError) -> String {
            switch kind {
            case "I":
                guard let text else {
                    throw StatementError(
                        .nullValueNotAllowed, "null values cannot be formatted as an SQL identifier")
                }
                return TextFunctions.identifier(text)
            case "L":
                // No blank in front of E'…' here.
                return text.map { String(TextFunctions.quoted($0).drop { $0 == " " }) } ?? "NULL"
            case _: return text ?? ""
            }
        }

        private func padded(_ text: String, _ width: Int, _ isLeft: Bool) throws(StatementError) -> String {
            let missing = width - text.unicodeScalars.count
            guard missing > 0 else { return text }
            guard missing < 1 << 28 else { throw StatementError(.programLimitExceeded, "requested length too large") }
            let blanks = String(repeating: " ", count: missing)
            return isLeft ? text + blanks : blanks + text
        }
    }
}
