import Base
import Contracts
import DataModel

// Functions in FROM whose columns the call says: json_to_recordset(…) AS r(a int), json_populate_record(NULL::t, …).

extension Binder {
    /// Such a function as a relation, and its argument; nil for every other.
    func bindRecords(_ item: LogicalPlan.Node, isOrdinal: Bool, in scope: Scope) throws(StatementError)
        -> (function: RowsFunction, arguments: [BoundExpression])?
    {
        let call = plan[item.children[0]], definitions = plan.list(item.children[1])
        let shape = call.kind == .functionCall ? JSONRecords.shape(of: call.name) : nil
        guard let shape else {
            guard let first = definitions.first else { return nil }
            throw StatementError(
                .syntaxError, "a column definition list is only allowed for functions returning \"record\"",
                position: plan[first].position)
        }
        var arguments = plan.list(call.children[1])
        var columns: [(name: String, type: DataType)] = []
        if shape.isPopulating {
            guard let first = arguments.first, let collection = try recordType(first) else {
                throw unsupported("\(call.name) of anything but NULL::table", at: call.position)
            }
            arguments.removeFirst()
            columns = collection.columns.map { ($0.name, $0.type) }
        } else {
            columns = try definedColumns(definitions, isOrdinal: isOrdinal, at: call.position)
        }
        var bound: [BoundExpression] = []
        for argument in arguments {
            bound.append(
                try resolveUnknown(try bindExpression(argument, scope, .functionInFrom), as: shape.type))
        }
        guard bound.count == 1, bound[0].type == shape.type else {
            let types = bound.map(\.type.title).joined(separator: ", ")
            throw StatementError(
                .undefinedFunction,
                "function \(call.name)(\(shape.isPopulating ? "record, " : "")\(types)) does not exist",
                hint:
                    "No function matches the given name and argument types. You might need to add explicit type casts.",
                position: call.position)
        }
        return (JSONRecords.function(call.name, shape, columns), bound)
    }

    private func definedColumns(_ definitions: [Int32], isOrdinal: Bool, at position: Int32) throws(StatementError)
        -> [(name: String, type: DataType)]
    {
        guard let first = definitions.first else {
            throw StatementError(
                .syntaxError, "a column definition list is required for functions returning \"record\"",
                position: position)
        }
        guard !isOrdinal else {
            throw StatementError(
                .syntaxError, "WITH ORDINALITY cannot be used with a column definition list",
                hint: "Put the column definition list inside ROWS FROM().", position: plan[first].position)
        }
        var columns: [(name: String, type: DataType)] = []
        for index in definitions {
            let definition = plan[index]
            guard definition.children[1] == 0 else { throw unsupported("COLLATE of a column", at: definition.position) }
            guard !columns.contains(where: { $0.name == definition.name }) else {
                throw StatementError(
                    .duplicateColumn, "column name \"\(definition.name)\" specified more than once")
            }
            columns.append((definition.name, try bindType(definition.children[0])))
        }
        return columns
    }

    /// The table that `NULL::table` names.
    private func recordType(_ index: Int32) throws(StatementError) -> CollectionDescriptor? {
        let cast = plan[index]
        guard cast.kind == .cast, plan[cast.children[0]].kind == .null else { return nil }
        let type = plan[cast.children[1]]
        guard type.kind == .typeName, type.number == 0, type.children.dropFirst().allSatisfy({ $0 == 0 }) else {
            return nil
        }
        let qualifier = nameParts(type.children.first ?? 0)
        if qualifier.isEmpty, PostgresTypes.type(named: type.name) != nil { return nil }
        guard let found = try? findCollection(type.name, qualifier: qualifier, at: type.position) else {
            let full = (qualifier + [type.name]).joined(separator: ".")
            throw StatementError(.undefinedObject, "type \"\(full)\" does not exist", position: type.position)
        }
        return found
    }
}
