import Base
import DataModel

/// Rows that came with the execution, a batch at a time.
final class InputOperator: Operator {
    private let decoder: RecordColumns
    private var position = 0

    init(_ outputs: [OutputColumn], context: ExecutionContext) {
        let types = outputs.map(\.type)
        decoder = RecordColumns(types: types)
        super.init(layout: Layout(outputs.map(\.attribute)), types: types, context: context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        try context.checkCancelled()
        guard position < context.input.count else { return .end }
        let records = context.input[position..<min(position + ColumnBatch.rows, context.input.count)]
        position += records.count
        let batch = try decoder.decode(StoredRows(keys: [], records: Array(records)), types)
        for (column, type) in zip(batch.columns, types) where type.form == .values {
            for row in 0..<batch.count where !column.value(at: row).isKind(of: type) {
                throw StatementError(.protocolViolation, "a row of the input has a value of another type")
            }
        }
        return .batch(batch)
    }

    override func restart() throws(StatementError) { position = 0 }
}

extension Value {
    /// Whether it is what a column of that type holds: rows of an input come from outside.
    fileprivate func isKind(of type: DataType) -> Bool {
        switch self {
        case .null: true
        case .array(let array): type.isArray && array.element.kind == type.kind
        case .decimal: !type.isArray && type.kind == .decimal
        case .uuid: !type.isArray && type.kind == .uuid
        case .timeWithZone: !type.isArray && type.kind == .timeWithZone
        case .interval: !type.isArray && type.kind == .interval
        case .json: !type.isArray && type.kind == .jsonb
        case .bool, .integer, .float, .text, .bytes, .date, .time, .timestamp, .tuple: false
        }
    }
}
