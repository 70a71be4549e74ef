import Base
import Contracts
import DataModel

/// ALTER DATABASE … SET, RESET: what holds for all clients of all protocols.
extension DefinitionPlanner {
    /// Whether keys of Redis name records of tables.
    private static let records = "resp.records"

    mutating func alterDatabase(_ node: LogicalPlan.Node) throws(StatementError) {
        let name = try qualifiedName(node.children[0])
        guard ClusterTables.names.contains(where: { $0.1 == name.name }) else {
            throw StatementError(.invalidCatalogName, "database \"\(name.name)\" does not exist")
        }
        try mustOwn(SystemCatalog.owner, "database", name.name)
        for index in plan.list(node.children[1]) {
            let action = plan[index]
            guard action.name.lowercased() == Self.records || action.kind == .reset && action.name == "all" else {
                throw Self.unsupported("ALTER DATABASE SET of \"\(action.name)\"", at: action.position)
            }
            let values = action.kind == .set ? plan.list(action.children[0]) : []
            nameRecords(values.isEmpty ? true : try isOn(values))
        }
    }

    private func isOn(_ values: [Int32]) throws(StatementError) -> Bool {
        let value = plan[values[0]]
        if values.count == 1 {
            switch value.kind {
            case .integer where value.number == 0 || value.number == 1: return value.number == 1
            case .string: if case .bool(let isOn)? = try? ValueText.parse(value.name, as: .bool) { return isOn }
            case _: break
            }
        }
        throw StatementError(.invalidParameterValue, "parameter \"\(Self.records)\" requires a Boolean value")
    }

    /// The collections come along as they are, with versions of their own: so whoever has them in use, by their names
    /// or by keys of Redis, is waited for, and asks again by the new catalog.
    private mutating func nameRecords(_ isOn: Bool) {
        guard catalog.namesRecords != isOn, var namespace = catalog.namespaces[.default] else { return }
        namespace.namesRecords = isOn
        put(namespace)
        for collection in tables where collection.namingColumn != nil { put(collection) }
    }
}
