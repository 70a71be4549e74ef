import Base
import DataModel

/// What a row is refused for, in PostgreSQL's words. `values` are in the order of the collection's columns.
enum RowErrors {
    static func null(
        _ collection: CollectionDescriptor, _ column: CollectionDescriptor.Column, values: [Value],
        settings: EngineSettings
    ) -> StatementError {
        var error = StatementError(
            .notNullViolation,
            "null value in column \"\(column.name)\" of relation \"\(collection.name)\" violates not-null constraint",
            detail: failing(collection, values, settings))
        (error.table, error.column) = (collection.name, column.name)
        return error
    }

    static func check(
        _ collection: CollectionDescriptor, _ name: String, values: [Value], settings: EngineSettings
    ) -> StatementError {
        var error = StatementError(
            .checkViolation, "new row for relation \"\(collection.name)\" violates check constraint \"\(name)\"",
            detail: failing(collection, values, settings))
        (error.table, error.constraint) = (collection.name, name)
        return error
    }

    /// `index`: the name of a unique index and the places of its columns; nil for the primary key.
    static func duplicate(
        _ collection: CollectionDescriptor, _ index: (name: String, columns: [Int])?, values: [Value],
        settings: EngineSettings
    ) -> StatementError {
        let places =
            index?.columns ?? collection.primaryKey.compactMap { id in collection.columns.firstIndex { $0.id == id } }
        let names = places.map { collection.columns[$0].name }.joined(separator: ", ")
        let shown = places.map { TextForms.text(values[$0], collection.columns[$0].type, settings) }
        let name = index?.name ?? collection.primaryKeyName
        var error = StatementError(
            .uniqueViolation, "duplicate key value violates unique constraint \"\(name)\"",
            detail: "Key (\(names))=(\(shown.joined(separator: ", "))) already exists.")
        (error.table, error.constraint) = (collection.name, name)
        return error
    }

    private static func failing(
        _ collection: CollectionDescriptor, _ values: [Value], _ settings: EngineSettings
    ) -> String {
        let shown = zip(collection.columns, values).map { column, value in
            value.isNull ? "null" : TextForms.text(value, column.type, settings)
        }
        return "Failing row contains (\(shown.joined(separator: ", ")))."
    }
}
