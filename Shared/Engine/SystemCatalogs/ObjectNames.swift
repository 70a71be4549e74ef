import Base
import Contracts
import DataModel

/// Objects of the catalog by name and by number: what values of `regclass` and its like are read from and written as.
struct ObjectNames {
    private let system: SystemCatalog

    init(_ system: SystemCatalog) { self.system = system }

    static let kinds: Set<DataType.Kind> = [.regclass, .regtype, .regproc, .regnamespace, .regrole]

    // MARK: Out

    func text(_ number: Int64, _ kind: DataType.Kind) -> String {
        let oid = UInt32(truncatingIfNeeded: number)
        if oid == 0 { return "-" }
        let name: String? =
            switch kind {
            case .regclass: system.relation(oid) == nil ? nil : relation(oid)
            case .regtype: typeName(oid)
            case .regproc: SystemRoutine.name(oid).map(SQLWriter.quoted)
            case .regnamespace: system.namespaceName(oid).map(SQLWriter.quoted)
            case .regrole: system.roleName(oid).map(SQLWriter.quoted)
            case _: nil
            }
        return name ?? String(oid)
    }

    /// With its namespace, unless the search path finds it without.
    func relation(_ oid: UInt32, isAlwaysQualified: Bool = false) -> String {
        guard let relation = system.relation(oid) else { return String(oid) }
        let name = SQLWriter.quoted(relation.name)
        if !isAlwaysQualified, system.isVisible(relation) { return name }
        return SQLWriter.quoted(system.namespaceName(relation.namespace) ?? "") + "." + name
    }

    private func typeName(_ oid: UInt32) -> String? {
        PostgresTypes.type(oid: oid)?.formattedWithoutLength ?? PolymorphicType.names[oid]
    }

    // MARK: In

    func number(_ text: String, _ kind: DataType.Kind) throws(StatementError) -> UInt32 {
        if text == "-" { return 0 }
        if let number = UInt32(text), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) { return number }
        switch kind {
        case .regclass: return try relationNumber(text)
        case .regtype:
            guard let type = Self.type(text) else {
                throw StatementError(.undefinedObject, "type \"\(text)\" does not exist")
            }
            return type.oid
        case .regproc: return try routineNumber(text)
        case .regnamespace:
            let parts = try Self.parts(text)
            guard parts.count == 1, let found = system.namespace(named: parts[0]) else {
                throw StatementError(.invalidSchemaName, "schema \"\(parts.joined(separator: "."))\" does not exist")
            }
            return found.oid
        case _:
            let parts = try Self.parts(text)
            guard parts.count == 1, let role = system.roles.first(where: { $0.name == parts[0] }) else {
                throw StatementError(.undefinedObject, "role \"\(parts.joined(separator: "."))\" does not exist")
            }
            return role.oid
        }
    }

    private func relationNumber(_ text: String) throws(StatementError) -> UInt32 {
        var parts = try Self.parts(text)
        if parts.count == 3, parts[0] == system.settings.database { parts.removeFirst() }
        guard parts.count <= 2, let name = parts.last else {
            throw StatementError(.featureNotSupported, "cross-database references are not implemented: \(text)")
        }
        let places: [UInt32]
        if parts.count == 2 {
            guard let namespace = system.namespace(named: parts[0]) else {
                throw StatementError(.invalidSchemaName, "schema \"\(parts[0])\" does not exist")
            }
            places = [namespace.oid]
        } else {
            places = system.path.map(\.oid)
        }
        for place in places {
            if let found = system.relation(named: name, in: place) { return found.oid }
        }
        throw StatementError(.undefinedTable, "relation \"\(parts.joined(separator: "."))\" does not exist")
    }

    private func routineNumber(_ text: String) throws(StatementError) -> UInt32 {
        let parts = try Self.parts(text)
        let missing = StatementError(.undefinedFunction, "function \"\(text)\" does not exist")
        guard let name = parts.last, parts.count == 1 || parts == ["pg_catalog", name] else { throw missing }
        if let inner = SystemRoutine.innerNumber(name) { return inner }
        let found = SystemRoutine.named(name)
        guard found.count <= 1 else {
            throw StatementError(.ambiguousFunction, "more than one function named \"\(text)\"")
        }
        guard let only = found.first else { throw missing }
        return only.oid
    }

    /// Names with dots between, each in quotes or folded to lower case.
    static func parts(_ text: String) throws(StatementError) -> [String] {
        let invalid = StatementError(.invalidName, "invalid name syntax")
        var parts: [String] = []
        var rest = Array(text.unicodeScalars)[...]
        func skipBlanks() { while let first = rest.first, first.properties.isWhitespace { rest.removeFirst() } }
        while true {
            skipBlanks()
            var name = String.UnicodeScalarView()
            if rest.first == "\"" {
                rest.removeFirst()
                while let next = rest.popFirst() {
                    if next == "\"" {
                        guard rest.first == "\"" else { break }
                        rest.removeFirst()
                    }
                    name.append(next)
                }
            } else {
                while let next = rest.first, next != ".", !next.properties.isWhitespace {
                    guard next != "\"" else { throw invalid }
                    // Other letters stay as they are written, as they do where a statement names something.
                    name.append(("A"..."Z").contains(next) ? Unicode.Scalar(UInt8(next.value) | 0x20) : next)
                    rest.removeFirst()
                }
            }
            guard !name.isEmpty else { throw invalid }
            parts.append(String(name))
            skipBlanks()
            guard let next = rest.popFirst() else { return parts }
            guard next == "." else { throw invalid }
        }
    }

    /// A type as SQL writes it: `character varying(10)[]`, `pg_catalog.int4`, `"char"`.
    static func type(_ text: String) -> DataType? {
        var words = text.trimmingBlanks
        var isArray = false
        while words.hasSuffix("]") {
            guard let open = words.lastIndex(of: "[") else { return nil }
            isArray = true
            words = String(words[..<open]).trimmingBlanks
        }
        let isQuoted = words.contains("\"")
        if isQuoted {
            guard let parts = try? parts(words), let name = parts.last, parts.count == 1 || parts.first == "pg_catalog"
            else { return nil }
            return PostgresTypes.type(named: name).map { isArray ? $0.array : $0 }
        }
        words = words.lowercased()
        if let open = words.firstIndex(of: "("), let close = words.firstIndex(of: ")"), open < close {
            words =
                String(words[..<open]).trimmingBlanks + " "
                + String(words[words.index(after: close)...]).trimmingBlanks
        }
        words = words.split(separator: " ").joined(separator: " ")
        if words.hasPrefix("pg_catalog.") {
            return PostgresTypes.type(named: String(words.dropFirst(11))).map { isArray ? $0.array : $0 }
        }
        guard let type = PostgresTypes.type(spelled: words) else { return nil }
        return isArray ? type.unconstrained.array : type.unconstrained
    }
}

extension DataType {
    /// What `format_type` says of a type without a modifier.
    var formattedWithoutLength: String {
        kind == .char ? isArray ? "character[]" : "character" : unconstrained.formatted
    }
}
