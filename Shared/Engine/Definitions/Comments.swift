import Base
import Contracts
import DataModel

/// COMMENT ON.
extension DefinitionPlanner {
    mutating func comment(_ node: LogicalPlan.Node) throws(StatementError) {
        let kind: CollectionDescriptor.Kind, title: String
        switch PlanObject(rawValue: node.number) {
        case .table: (kind, title) = (.table, "a table")
        case .view: (kind, title) = (.view, "a view")
        case .sequence: (kind, title) = (.sequence, "a sequence")
        case let object:
            throw Self.unsupported("COMMENT ON " + (object.map { "\($0)".uppercased() } ?? "this"), at: node.position)
        }
        let name = try qualifiedName(node.children[0])
        guard var object = try find(name), object.entriesOf == nil else {
            throw StatementError(.undefinedTable, "relation \"\(name.text)\" does not exist")
        }
        guard object.kind == kind else {
            throw StatementError(.wrongObjectType, "\"\(name.name)\" is not \(title)")
        }
        let text = plan[node.children[2]]
        object.comment = text.kind == .null ? "" : text.name
        put(object)
    }
}
