import Base
import DataModel

/// A statement about one record at most, compiled to run where the record is: on its shard's loop, as one call, without
/// operators and batches.
///
/// It is made from the same optimised plan as an execution, and does what that would do, error by error. What it has no
/// form for makes no program (`init` answers nil), and is executed as any other statement.
///
///     key       from parameters and constants alone, so that a gateway can tell which shard to ask
///     steps     filters and projections over the record's columns, in the order of the plan
///     action    what comes of it: a row for the client, and what becomes of the record
package final class PointProgram: Sendable {
    /// One column of the primary key.
    package enum KeyPart: Hashable, Sendable {
        /// The value of a parameter (from 0), whose type has the encoding of the column's.
        case parameter(Int, column: DataType)
        /// Encoded already.
        case constant(Bytes)
        /// The number of a new row, of a collection without a primary key: by chance, of `FreshKey`.
        case fresh
    }

    /// What becomes of the record.
    package enum Change: Hashable, Sendable { case none, put(Bytes), delete }

    /// What a run came to.
    package struct Outcome: Hashable, Sendable {
        /// Rows read or changed: 0 or 1.
        package var count = 0
        /// Of SELECT and RETURNING: the row, column n of the result with the number n + 1.
        package var row: Bytes?
        package var change = Change.none
    }

    private enum Step: Sendable {
        case filter(PointExpression)
        case compute([(place: Int, expression: PointExpression)])
    }

    private enum Conflict: Sendable {
        case fail, nothing
        case update([PointExpression], condition: PointExpression?)
    }

    private enum Action: Sendable {
        case read
        case update, delete
        case insert(Conflict)
    }

    package let collection: CollectionDescriptor
    package let key: [KeyPart]
    package let parameterTypes: [DataType]
    private let steps: [Step]
    private let action: Action
    /// Places of what the row for the client has.
    private let outputs: [PointExpression]
    private let givesRow: Bool
    private let placeCount: Int
    /// Places of the record's columns, and of its key.
    private let decoder: RecordColumns
    private let stored: [Int]
    private let keyPlace: Int?
    /// The name of the collection's namespace, which errors say.
    private let schema: String
    /// Places of new values, in the order of the collection's columns.
    private let values: [Int]
    private let form: RecordForm
    private let old: [Int]
    private let oldDecoder: RecordColumns
    private let checks: [(name: String, condition: PointExpression)]

    package var writes: Bool { if case .read = action { false } else { true } }

    /// Nil for a statement that is not one, or not one of one record.
    package convenience init?(_ prepared: PreparedPlan) {
        var compiler = PointCompiler()
        guard compiler.compile(prepared) else { return nil }
        self.init(compiler, prepared)
    }

    private init?(_ made: PointCompiler, _ prepared: PreparedPlan) {
        guard let collection = made.collection else { return nil }
        (self.collection, key, parameterTypes) = (collection, made.key, prepared.parameterTypes)
        steps = made.steps.map { step in
            switch step {
            case .filter(let condition): .filter(condition)
            case .compute(let list): .compute(list)
            }
        }
        let columns = made.scan?.outputs.compactMap(\.column) ?? []
        decoder = RecordColumns(collection, columns, hasKey: false)
        stored = made.scan?.outputs.compactMap { made.places[$0.attribute] } ?? []
        keyPlace = made.scan?.key.flatMap { made.places[$0] }
        oldDecoder = RecordColumns(collection, collection.columns.map(\.id), hasKey: false)
        old = made.old
        (values, checks, outputs, givesRow) = (made.values, made.checks, made.outputs, prepared.givesRows)
        (schema, form) = (made.schema, RecordForm(collection))
        placeCount = made.placeCount
        switch made.action {
        case .read: action = .read
        case .update: action = .update
        case .delete: action = .delete
        case .insert: action = .insert(.fail)
        case .insertOrNothing: action = .insert(.nothing)
        case .insertOrUpdate(let expressions, let condition):
            action = .insert(.update(expressions, condition: condition))
        }
    }

    /// The encoded primary key of the record that it is about; nil if that is none, because a part of it is NULL.
    /// `parameters` have the types of the program's; `chance` gives 64 bits of it.
    package func key(_ parameters: [Value], chance: () -> UInt64) -> Bytes? {
        var encoded: Bytes = []
        for part in key {
            switch part {
            case .constant(let bytes): encoded += bytes
            case .fresh: encoded += KeyEncoding.encode([FreshKey.value(chance())])
            case .parameter(let index, let column):
                guard parameters.indices.contains(index), !parameters[index].isNull else { return nil }
                encoded += KeyForms.encode([parameters[index]], [column])
            }
        }
        return encoded
    }

    /// Runs on the record that is there; nil: none is. `key` is its encoded primary key. `parameters` as many as there
    /// are types, of these types.
    package func run(
        _ record: Bytes?, key: ByteView, parameters: [Value], settings: EngineSettings
    ) throws(StatementError) -> Outcome {
        var fitted = parameters
        for (index, type) in parameterTypes.enumerated() where type.modifier >= 0 {
            fitted[index] = try Casts.fit(parameters[index], to: type, isExplicit: false)
        }
        let context = ExecutionContext(settings: settings, parameters: fitted, access: nil, attributes: 0)
        var row = PointRow(values: Array(repeating: .null, count: placeCount), context: context)
        switch action {
        case .insert(let conflict): return try insert(record, conflict, &row)
        case .read, .update, .delete: break
        }
        guard let record else { return Outcome() }
        try load(record, decoder, into: stored, &row)
        if let keyPlace { row.values[keyPlace] = .bytes(key.bytes) }
        guard try take(&row) else { return Outcome() }
        var outcome = Outcome(count: 1)
        switch action {
        case .read, .insert: break
        case .delete: outcome.change = .delete
        case .update:
            try check(row)
            outcome.change = .put(encode(row))
        }
        if givesRow { outcome.row = try result(row) }
        return outcome
    }

    private func insert(
        _ record: Bytes?, _ conflict: Conflict, _ row: inout PointRow
    ) throws(StatementError) -> Outcome {
        guard try take(&row) else { return Outcome() }
        try check(row)
        if let record {
            switch conflict {
            case .nothing: return Outcome()
            case .fail:
                throw errors(row).duplicate(nil, fresh(row))
            case .update(let expressions, let condition):
                try load(record, oldDecoder, into: old, &row)
                if let condition, try !condition.isTrue(row) { return Outcome() }
                var fresh: [Value] = []
                for expression in expressions { fresh.append(try expression.value(row)) }
                for (place, value) in zip(values, fresh) { row.values[place] = value }
                try check(row)
            }
        }
        var outcome = Outcome(count: 1, change: .put(encode(row)))
        if givesRow { outcome.row = try result(row) }
        return outcome
    }

    private func load(
        _ record: Bytes, _ decoder: RecordColumns, into places: [Int], _ row: inout PointRow
    ) throws(StatementError) {
        guard record.withUnsafeBytes({ decoder.read($0, into: &row.values, at: places) }) else {
            throw StatementError(.dataCorrupted, "a stored row cannot be read")
        }
    }

    /// False where a filter leaves the row out.
    private func take(_ row: inout PointRow) throws(StatementError) -> Bool {
        for step in steps {
            switch step {
            case .filter(let condition): guard try condition.isTrue(row) else { return false }
            case .compute(let list):
                for (place, expression) in list { row.values[place] = try expression.value(row) }
            }
        }
        return true
    }

    /// NOT NULL and CHECK.
    private func check(_ row: borrowing PointRow) throws(StatementError) {
        for (index, column) in collection.columns.enumerated()
        where (column.isNotNull || collection.primaryKey.contains(column.id)) && row.values[values[index]].isNull {
            throw errors(row).null(column, fresh(row))
        }
        for (name, condition) in checks {
            guard case .bool(false) = try condition.value(row) else { continue }
            throw errors(row).check(name, fresh(row))
        }
    }

    private func encode(_ row: borrowing PointRow) -> Bytes {
        form.encode { row.values[values[$0]] }
    }

    private func errors(_ row: borrowing PointRow) -> RowErrors {
        RowErrors(collection: collection, schema: schema, settings: row.context.settings)
    }

    /// New values, in the order of the collection's columns.
    private func fresh(_ row: borrowing PointRow) -> [Value] { values.map { row.values[$0] } }

    private func result(_ row: borrowing PointRow) throws(StatementError) -> Bytes {
        var buffer = ByteBuffer(capacity: 64)
        var writer = ColumnWriter(into: &buffer)
        for (index, output) in outputs.enumerated() {
            let value = try output.value(row)
            if !value.isNull { writer.append(value, column: UInt32(index + 1), into: &buffer) }
        }
        return buffer.readable.bytes
    }
}
