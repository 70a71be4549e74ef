import Base
import Contracts

extension SQLParser {
    /// A type, with its modifiers and dimensions.
    mutating func typeName() throws(StatementError) -> Int32 {
        let start = offset
        var flags: PlanFlags = accept("setof") ? .isAll : []
        var type = try simpleType(isDefinition: true)
        var dimensions: Int64 = 0
        if accept("array") {
            dimensions = 1
            if accept("[") {
                _ = try wholeNumber()
                try expect("]")
            }
        } else {
            while accept("[") {
                if !at("]") { _ = try wholeNumber() }
                try expect("]")
                dimensions += 1
            }
        }
        flags.formUnion(type.flags)
        type.flags = flags
        return try emit(type, dimensions: dimensions, at: start)
    }

    /// A type before it is a node.
    struct TypeWords {
        var parts: [String], modifiers: [Int32] = [], flags: PlanFlags = []
    }

    private mutating func emit(
        _ type: TypeWords, dimensions: Int64, at start: Int
    ) throws(StatementError) -> Int32 {
        let (qualifier, name) = try qualified(type.parts, at: start)
        return try emit(
            .typeName, [qualifier, try list(type.modifiers)], name: name, number: dimensions, flags: type.flags,
            at: start)
    }

    /// A type without dimensions. Where a type stands alone CHAR is CHAR(1); in front of a literal it has no length.
    private mutating func simpleType(isDefinition: Bool) throws(StatementError) -> TypeWords {
        if case .keyword(let word) = token.kind, word.category == .columnName || at("double", "precision") {
            return try keywordType(isDefinition: isDefinition)
        }
        guard token.isTypeOrFunctionName else { throw syntaxError() }
        var type = TypeWords(parts: [token.text])
        advance()
        while accept(".") { type.parts.append(try label()) }
        if at("(") {
            advance()
            type.modifiers = try expressions()
            try expect(")")
        } else if at("%"), peek().says("type") || peek().text == "type" {
            index += 2
            type.flags.insert(.isMarked)
        }
        return type
    }

    private mutating func keywordType(isDefinition: Bool) throws(StatementError) -> TypeWords {
        let start = offset, word = token.text
        func builtIn(_ name: String) -> TypeWords { TypeWords(parts: [name], flags: .isBuiltIn) }
        advance()
        switch word {
        case "int", "integer": return builtIn("int4")
        case "smallint": return builtIn("int2")
        case "bigint": return builtIn("int8")
        case "real": return builtIn("float4")
        case "boolean": return builtIn("bool")
        case "double":
            try expect("precision")
            return builtIn("float8")
        case "float": return builtIn(try floatType(at: start))
        case "decimal", "dec", "numeric":
            var type = builtIn("numeric")
            type.modifiers = try modifiers()
            return type
        case "bit":
            var type = builtIn(accept("varying") ? "varbit" : "bit")
            type.modifiers = try modifiers()
            if type.modifiers.isEmpty, type.parts == ["bit"], isDefinition {
                type.modifiers = [try emit(.integer, number: 1, at: -1)]
            }
            return type
        case "national":
            guard accept("character") || accept("char") else { throw syntaxError() }
            return try characterType(isVarying: accept("varying"), isDefinition)
        case "character", "char", "nchar": return try characterType(isVarying: accept("varying"), isDefinition)
        case "varchar": return try characterType(isVarying: true, isDefinition)
        case "timestamp", "time": return try timeType(word)
        case "interval":
            var type = builtIn("interval")
            if let precision = try parenthesisedNumber() {
                type.modifiers = try intervalModifiers(0x7fff, precision)
            } else {
                type.modifiers = try intervalFields()
            }
            return type
        case _:
            index -= 1
            throw syntaxError()
        }
    }

    /// `(n, …)`, or nothing.
    private mutating func modifiers() throws(StatementError) -> [Int32] {
        guard accept("(") else { return [] }
        let values = try expressions()
        try expect(")")
        return values
    }

    /// `(n)`, or nothing.
    mutating func parenthesisedNumber() throws(StatementError) -> Int64? {
        guard accept("(") else { return nil }
        let value = try wholeNumber()
        try expect(")")
        return value
    }

    private mutating func floatType(at start: Int) throws(StatementError) -> String {
        let place = peek().range.lowerBound
        guard let precision = try parenthesisedNumber() else { return "float8" }
        if precision < 1 {
            throw failure("precision for type float must be at least 1 bit", .invalidParameterValue, at: place)
        }
        if precision > 53 {
            throw failure("precision for type float must be less than 54 bits", .invalidParameterValue, at: place)
        }
        return precision <= 24 ? "float4" : "float8"
    }

    private mutating func characterType(isVarying: Bool, _ isDefinition: Bool) throws(StatementError) -> TypeWords {
        var type = TypeWords(parts: [isVarying ? "varchar" : "bpchar"], flags: .isBuiltIn)
        let place = offset
        if let length = try parenthesisedNumber() {
            type.modifiers = [try emit(.integer, number: length, at: place)]
        } else if !isVarying, isDefinition {
            type.modifiers = [try emit(.integer, number: 1, at: -1)]
        }
        return type
    }

    private mutating func timeType(_ word: String) throws(StatementError) -> TypeWords {
        var type = TypeWords(parts: [word], flags: .isBuiltIn)
        let place = offset
        if let precision = try parenthesisedNumber() {
            type.modifiers = [try emit(.integer, number: precision, at: place)]
        }
        if at("with", "time") || at("without") {
            let isWith = at("with")
            advance()
            try expect("time", "zone")
            if isWith { type.parts = [word + "tz"] }
        }
        return type
    }

    // MARK: Intervals

    private mutating func intervalModifiers(_ mask: Int64, _ precision: Int64?) throws(StatementError) -> [Int32] {
        var modifiers = [try emit(.integer, number: mask, at: -1)]
        if let precision { modifiers.append(try emit(.integer, number: precision, at: -1)) }
        return modifiers
    }

    /// The bit of a field in the mask of an interval's modifier, as PostgreSQL numbers them.
    private static func bit(_ field: String) -> Int64 {
        switch field {
        case "month": 1 << 1
        case "year": 1 << 2
        case "day": 1 << 3
        case "hour": 1 << 10
        case "minute": 1 << 11
        case _: 1 << 12
        }
    }

    /// YEAR, DAY TO SECOND(3), … behind INTERVAL; none for nothing.
    private mutating func intervalFields() throws(StatementError) -> [Int32] {
        let fields = ["year", "month", "day", "hour", "minute", "second"]
        guard let first = fields.firstIndex(where: at) else { return [] }
        advance()
        if fields[first] == "second" {
            return try intervalModifiers(Self.bit("second"), try parenthesisedNumber())
        }
        guard fields[first] != "month", accept("to") else {
            return try intervalModifiers(Self.bit(fields[first]), nil)
        }
        let ends = first == 0 ? [1] : Array((first + 1)...5)
        guard let last = ends.first(where: { at(fields[$0]) }) else { throw syntaxError() }
        advance()
        let mask = (first...last).reduce(Int64(0)) { $0 | Self.bit(fields[$1]) }
        return try intervalModifiers(mask, last == 5 ? try parenthesisedNumber() : nil)
    }

    // MARK: Literals with a type in front

    /// True where a type of keywords is written in front of a literal: `int '1'`, `timestamp with time zone '…'`.
    /// Such a word with something else behind it is a column's name.
    var startsTypedLiteral: Bool {
        let next = peek()
        switch token.text {
        case "int", "integer", "smallint", "bigint", "real", "boolean": return next.isString
        case "float", "decimal", "dec", "numeric", "varchar", "interval":
            return next.isString || next.says("(")
        case "double": return next.says("precision")
        case "bit", "character", "char", "nchar":
            return next.isString || next.says("(") || next.says("varying")
        case "national": return next.says("character") || next.says("char")
        case "timestamp", "time":
            return next.isString || next.says("(") || next.says("with") && peek(2).says("time")
                || next.says("without")
        case _: return false
        }
    }

    mutating func typedLiteral() throws(StatementError) -> Int32 {
        let start = offset
        var type = try simpleType(isDefinition: false)
        guard token.isString else { throw syntaxError() }
        let text = try emit(.string, name: token.text, at: offset)
        advance()
        if type.parts == ["interval"], type.modifiers.isEmpty { type.modifiers = try intervalFields() }
        return try emit(.cast, [text, try emit(type, dimensions: 0, at: start)], at: start)
    }
}
