import Base
import Contracts
import DataModel

/// Rows whose columns have names: what a few functions give, so that a field can be taken by its name. The modifier of
/// the type says which.
enum RecordShape {
    /// PostgreSQL's function of `information_schema`, by which clients read the columns of keys.
    static let expandedArray = "_pg_expandarray"

    private static let elements: [DataType] = [.int16, .oid]

    /// What all fields are taken by.
    static let field = ScalarFunction("field", [.any], .of(.void), example: nil) { a, _ throws(StatementError) in a[0] }

    /// Names and types of the columns; nil where they have no names.
    static func columns(of type: DataType) -> [(name: String, type: DataType)]? {
        guard type.kind == .record, !type.isArray, elements.indices.contains(Int(type.modifier)) else { return nil }
        return [("x", elements[Int(type.modifier)]), ("n", .int32)]
    }

    static let functions: [RowsFunction] = elements.enumerated().flatMap { place, element in
        [element.array, DataType(element == .oid ? .oidVector : .int16Vector)].map { array in
            RowsFunction(
                expandedArray, [.of(array)], .of(DataType(.record, modifier: Int32(place))),
                columns: [("x", element), ("n", .int32)],
                example: ("information_schema.\(expandedArray)('{}'::\(element.name)[])", "NULL")
            ) { a, _ throws(StatementError) in
                ArrayFunctions.elements(a[0]).enumerated().map { [$0.element, .integer(Int64($0.offset + 1))] }
            }
        }
    }
}

extension Binder {
    /// `(row).name`.
    func bindField(_ node: LogicalPlan.Node, _ row: BoundExpression) throws(StatementError) -> BoundExpression {
        guard row.type.kind == .record, !row.type.isArray else {
            throw StatementError(
                .wrongObjectType,
                "column notation .\(node.name) applied to type \(row.type.title), which is not a composite type")
        }
        if case .row(let parts) = row.form, let place = parts.indices.first(where: { node.name == "f\($0 + 1)" }) {
            return placed(parts[place], node.position)
        }
        guard let columns = RecordShape.columns(of: row.type) else {
            throw unsupported("a field of a row without names", at: node.position)
        }
        guard let place = columns.firstIndex(where: { $0.name == node.name }) else {
            throw StatementError(
                .undefinedColumn, "could not identify column \"\(node.name)\" in record data type",
                position: node.position)
        }
        let type = columns[place].type
        let field = ScalarFunction(node.name, of: RecordShape.field, result: type, volatility: .immutable) {
            a, _ throws(StatementError) in
            guard case .tuple(let values) = a[0], values.indices.contains(place) else { return .null }
            return values[place]
        }
        return BoundExpression(form: .call(field, [row]), type: type, position: node.position)
    }
}
