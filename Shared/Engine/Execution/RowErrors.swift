import Base
import DataModel

/// What a row is refused for, in PostgreSQL's words. Values are in the order of the collection's columns.
struct RowErrors {
    let collection: CollectionDescriptor
    /// The name of its namespace.
    let schema: String
    let settings: EngineSettings

    func null(_ column: CollectionDescriptor.Column, _ values: [Value]) -> StatementError {
        StatementError(
            .notNullViolation,
            "null value in column \"\(column.name)\" of relation \"\(collection.name)\" violates not-null constraint",
            detail: failing(values), schema: schema, table: collection.name, column: column.name)
    }

    func check(_ name: String, _ values: [Value]) -> StatementError {
        StatementError(
            .checkViolation, "new row for relation \"\(collection.name)\" violates check constraint \"\(name)\"",
            detail: failing(values), schema: schema, table: collection.name, constraint: name)
    }

    /// `index`: the name of a unique index and the places of its columns; nil for the primary key.
    func duplicate(_ index: (name: String, columns: [Int])?, _ values: [Value]) -> StatementError {
        let places =
            index?.columns ?? collection.primaryKey.compactMap { id in collection.columns.firstIndex { $0.id == id } }
        let names = places.map { collection.columns[$0].name }.joined(separator: ", ")
        let shown = places.map { text($0, values) }.joined(separator: ", ")
        let name = index?.name ?? collection.primaryKeyName
        return StatementError(
            .uniqueViolation, "duplicate key value violates unique constraint \"\(name)\"",
            detail: isReadable ? "Key (\(names))=(\(shown)) already exists." : nil, schema: schema,
            table: collection.name,
            constraint: name)
    }

    private func failing(_ values: [Value]) -> String? {
        guard isReadable else { return nil }
        return "Failing row contains (\(collection.columns.indices.map { text($0, values) }.joined(separator: ", ")))."
    }

    /// Who may not read the table must not learn from errors what is in it.
    private var isReadable: Bool {
        guard let catalog = settings.catalog, let user = settings.restrictedUser(catalog) else { return true }
        return AccessRights(catalog).privileges(of: user, on: collection).contains(.select)
    }

    private func text(_ place: Int, _ values: [Value]) -> String {
        let value = values[place]
        return value.isNull ? "null" : TextForms.text(value, collection.columns[place].type, settings)
    }
}
