import Base
import Contracts

/// How the data of a COPY looks: PostgreSQL's options, with its rules of what goes with what.
package struct CopyFormat: Hashable, Sendable {
    package enum Kind: Hashable, Sendable { case text, csv, binary }

    package enum Header: Hashable, Sendable {
        case none
        /// There is a line of names: skipped when it is read.
        case line
        /// The names must be those of the columns.
        case match
    }

    /// Columns that an option names.
    package enum Columns: Hashable, Sendable {
        case all
        case named([String])

        /// Which of `columns` are meant. One that is none of them is refused; `isListed`: the statement named them.
        package func chosen(
            of columns: [String], table: String, option: String, isListed: Bool
        ) throws(StatementError) -> [Bool] {
            switch self {
            case .all: return columns.map { _ in true }
            case .named(let names):
                for name in names where !columns.contains(name) {
                    guard !isListed else {
                        throw StatementError(
                            .invalidColumnReference, "\(option) column \"\(name)\" not referenced by COPY")
                    }
                    throw StatementError(
                        .undefinedColumn, "column \"\(name)\" of relation \"\(table)\" does not exist")
                }
                return columns.map { names.contains($0) }
            }
        }
    }

    package var kind = Kind.text
    package var delimiter = UInt8(ascii: "\t")
    package var null = Bytes("\\N".utf8)
    package var header = Header.none
    package var quote = UInt8(ascii: "\""), escape = UInt8(ascii: "\"")
    package var forceQuote = Columns.named([])
    package var forceNotNull: [String] = [], forceNull: [String] = []
    package var isFreeze = false

    package init() {}
}

extension CopyFormat {
    /// The options of a `copy`.
    init(_ options: [Int32], of plan: LogicalPlan, isFrom: Bool) throws(StatementError) {
        var given = Given()
        for index in options { try given.take(index, plan, isFrom: isFrom) }
        self.init()
        kind = given.kind ?? .text
        (header, isFreeze) = (given.header ?? .none, given.isFreeze ?? false)
        (forceQuote, forceNotNull) = (given.forceQuote ?? .named([]), given.forceNotNull ?? [])
        forceNull = given.forceNull ?? []
        try adopt(given, isFrom: isFrom)
    }

    /// What was said, each at most once.
    private struct Given {
        var kind: Kind?
        var isFreeze: Bool?
        var delimiter: String?, null: String?, quote: String?, escape: String?, encoding: String?
        var header: Header?
        var forceQuote: Columns?
        var forceNotNull: [String]?, forceNull: [String]?

        mutating func take(_ index: Int32, _ plan: LogicalPlan, isFrom: Bool) throws(StatementError) {
            let node = plan[index], position = Int(node.position)
            let isRepeated: Bool
            switch node.name {
            case "format":
                isRepeated = kind != nil
                switch try CopyFormat.text(node, plan) {
                case "text": kind = .text
                case "csv": kind = .csv
                case "binary": kind = .binary
                case let other:
                    throw StatementError(
                        .invalidParameterValue, "COPY format \"\(other)\" not recognized", position: position)
                }
            case "freeze":
                isRepeated = isFreeze != nil
                isFreeze = try CopyFormat.flag(node, plan)
            case "delimiter": isRepeated = try CopyFormat.set(&delimiter, node, plan)
            case "null": isRepeated = try CopyFormat.set(&null, node, plan)
            case "quote": isRepeated = try CopyFormat.set(&quote, node, plan)
            case "escape": isRepeated = try CopyFormat.set(&escape, node, plan)
            case "header":
                isRepeated = header != nil
                header = try CopyFormat.header(node, plan, isFrom: isFrom)
            case "force_quote":
                isRepeated = forceQuote != nil
                forceQuote = try CopyFormat.columns(node, plan)
            case "force_not_null":
                isRepeated = forceNotNull != nil
                forceNotNull = try CopyFormat.names(node, plan)
            case "force_null":
                isRepeated = forceNull != nil
                forceNull = try CopyFormat.names(node, plan)
            case "encoding":
                isRepeated = try CopyFormat.set(&encoding, node, plan)
                try CopyFormat.checkEncoding(encoding ?? "", at: position)
            case let other:
                throw StatementError(.syntaxError, "option \"\(other)\" not recognized", position: position)
            }
            if isRepeated {
                throw StatementError(.syntaxError, "conflicting or redundant options", position: position)
            }
        }
    }

    /// The characters, checked in PostgreSQL's order.
    private mutating func adopt(_ given: Given, isFrom: Bool) throws(StatementError) {
        let isCSV = kind == .csv
        if kind == .binary {
            if given.delimiter != nil { throw Self.syntax("cannot specify DELIMITER in BINARY mode") }
            if given.null != nil { throw Self.syntax("cannot specify NULL in BINARY mode") }
        }
        let separator = Bytes((given.delimiter ?? (isCSV ? "," : "\t")).utf8)
        null = Bytes((given.null ?? (isCSV ? "" : "\\N")).utf8)
        guard separator.count == 1 else {
            throw Self.unsupported("COPY delimiter must be a single one-byte character")
        }
        delimiter = separator[0]
        let breaks: Set<UInt8> = [UInt8(ascii: "\n"), UInt8(ascii: "\r")]
        if breaks.contains(delimiter) { throw Self.invalid("COPY delimiter cannot be newline or carriage return") }
        if null.contains(where: breaks.contains) {
            throw Self.invalid("COPY null representation cannot use newline or carriage return")
        }
        if !isCSV, "\\.abcdefghijklmnopqrstuvwxyz0123456789".utf8.contains(delimiter) {
            throw Self.invalid("COPY delimiter cannot be \"\(given.delimiter ?? "")\"")
        }
        if kind == .binary, header != .none { throw Self.unsupported("cannot specify HEADER in BINARY mode") }
        quote = try Self.character(given.quote, "quote", isCSV) ?? UInt8(ascii: "\"")
        if isCSV, delimiter == quote { throw Self.invalid("COPY delimiter and quote must be different") }
        escape = try Self.character(given.escape, "escape", isCSV) ?? quote
        try checkForced(given, isFrom: isFrom)
        if null.contains(delimiter) {
            throw Self.unsupported("COPY delimiter must not appear in the NULL specification")
        }
        if isCSV, null.contains(quote) {
            throw Self.unsupported("CSV quote character must not appear in the NULL specification")
        }
    }

    private func checkForced(_ given: Given, isFrom: Bool) throws(StatementError) {
        let options: [(String, isGiven: Bool, isOfFrom: Bool)] = [
            ("force quote", given.forceQuote != nil, false), ("force not null", given.forceNotNull != nil, true),
            ("force null", given.forceNull != nil, true),
        ]
        for (name, isGiven, isOfFrom) in options where isGiven {
            if kind != .csv { throw Self.unsupported("COPY \(name) available only in CSV mode") }
            if isFrom != isOfFrom {
                throw Self.unsupported("COPY \(name) only available using COPY \(isOfFrom ? "FROM" : "TO")")
            }
        }
    }

    // MARK: Values of options

    private static func text(_ node: LogicalPlan.Node, _ plan: LogicalPlan) throws(StatementError) -> String {
        let value = plan[node.children.first ?? 0]
        switch value.kind {
        case .string, .identifier, .decimal: return value.name
        case .integer: return String(value.number)
        case .boolean: return value.number == 0 ? "false" : "true"
        case .star: return "*"
        case _: throw syntax("\(node.name) requires a parameter")
        }
    }

    private static func set(
        _ place: inout String?, _ node: LogicalPlan.Node, _ plan: LogicalPlan
    ) throws(StatementError) -> Bool {
        let isRepeated = place != nil
        place = try text(node, plan)
        return isRepeated
    }

    private static func flag(_ node: LogicalPlan.Node, _ plan: LogicalPlan) throws(StatementError) -> Bool {
        guard (node.children.first ?? 0) != 0 else { return true }
        switch try text(node, plan).lowercased() {
        case "true", "on", "1": return true
        case "false", "off", "0": return false
        case _: throw syntax("\(node.name) requires a Boolean value")
        }
    }

    private static func header(
        _ node: LogicalPlan.Node, _ plan: LogicalPlan, isFrom: Bool
    ) throws(StatementError) -> Header {
        guard (node.children.first ?? 0) != 0 else { return .line }
        switch try text(node, plan).lowercased() {
        case "true", "on", "1": return .line
        case "false", "off", "0": return .none
        case "match":
            guard isFrom else { throw unsupported("cannot use \"match\" with HEADER in COPY TO") }
            return .match
        case _: throw syntax("\(node.name) requires a Boolean value or \"match\"")
        }
    }

    private static func columns(_ node: LogicalPlan.Node, _ plan: LogicalPlan) throws(StatementError) -> Columns {
        plan[node.children.first ?? 0].kind == .star ? .all : .named(try names(node, plan))
    }

    private static func names(_ node: LogicalPlan.Node, _ plan: LogicalPlan) throws(StatementError) -> [String] {
        let list = plan[node.children.first ?? 0]
        guard list.kind == .list else {
            throw StatementError(
                .invalidParameterValue, "argument to option \"\(node.name)\" must be a list of column names",
                position: Int(node.position))
        }
        let names = list.children.map { plan[$0].name }
        try CopyStatement.checkUnique(names)
        return names
    }

    private static func character(
        _ text: String?, _ option: String, _ isCSV: Bool
    ) throws(StatementError) -> UInt8? {
        guard let text else { return nil }
        guard isCSV else { throw unsupported("COPY \(option) available only in CSV mode") }
        guard text.utf8.count == 1, let byte = text.utf8.first else {
            throw unsupported("COPY \(option) must be a single one-byte character")
        }
        return byte
    }

    private static func checkEncoding(_ name: String, at position: Int) throws(StatementError) {
        let plain = name.lowercased().filter { $0.isLetter || $0.isNumber }
        if plain == "utf8" || plain == "unicode" { return }
        throw StatementError(
            .featureNotSupported, "COPY knows the encoding UTF8 only, not \"\(name)\"", position: position)
    }

    private static func syntax(_ message: String) -> StatementError { StatementError(.syntaxError, message) }
    private static func unsupported(_ message: String) -> StatementError {
        StatementError(.featureNotSupported, message)
    }
    private static func invalid(_ message: String) -> StatementError {
        StatementError(.invalidParameterValue, message)
    }
}
