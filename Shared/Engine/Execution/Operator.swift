import Base
import DataModel

/// What an operator answers when it is asked for rows.
enum OperatorStep {
    /// At least one row.
    case batch(ColumnBatch)
    /// Not yet: a source below waits for the world outside.
    case waiting
    case end
}

/// A node of a running plan: pulled batch by batch, from the root down. After `waiting` it is asked again and goes on
/// where it was, so every operator keeps in its own fields how far it is.
class Operator {
    let layout: Layout
    let types: [DataType]
    let context: ExecutionContext

    init(layout: Layout, types: [DataType], context: ExecutionContext) {
        (self.layout, self.types, self.context) = (layout, types, context)
    }

    func next() throws(StatementError) -> OperatorStep { .end }

    /// Begins anew: outer rows have changed.
    func restart() throws(StatementError) {}

    /// Columns of no rows.
    var empty: ColumnBatch { ColumnBatch(types.map { ColumnBuilder($0).finish() }, count: 0) }
}

/// Gathers rows until there is a batch of them.
struct BatchBuilder {
    private let types: [DataType]
    private var builders: [ColumnBuilder]
    private(set) var count = 0

    init(_ types: [DataType]) {
        self.types = types
        builders = types.map { ColumnBuilder($0) }
    }

    var isFull: Bool { count >= ColumnBatch.rows }

    mutating func append(_ row: [Value]) {
        for index in builders.indices { builders[index].append(row[index]) }
        count += 1
    }

    mutating func append(_ batch: ColumnBatch) {
        for index in builders.indices { builders[index].append(batch.columns[index], range: 0..<batch.count) }
        count += batch.count
    }

    mutating func append(_ batch: ColumnBatch, row: Int) {
        for index in builders.indices { builders[index].append(batch.columns[index], row: row) }
        count += 1
    }

    /// What was gathered; empty afterwards.
    mutating func take() -> ColumnBatch {
        let batch = ColumnBatch(builders.map { $0.finish() }, count: count)
        builders = types.map { ColumnBuilder($0) }
        count = 0
        return batch
    }
}

/// Reads all that its child gives into one batch, and accounts for it.
struct Gathering {
    private var pieces: [ColumnBatch] = []
    private(set) var charged = 0
    private let types: [DataType]

    init(_ types: [DataType]) { self.types = types }

    /// Nil while the child waits.
    mutating func run(_ child: Operator, _ context: ExecutionContext) throws(StatementError) -> ColumnBatch? {
        while true {
            switch try child.next() {
            case .batch(let batch):
                let bytes = batch.footprint
                try context.charge(bytes)
                charged += bytes
                pieces.append(batch)
                if try context.isSliceOver() { return nil }
            case .waiting: return nil
            case .end:
                let whole = Self.join(pieces, types)
                pieces = []
                return whole
            }
        }
    }

    static func join(_ pieces: [ColumnBatch], _ types: [DataType]) -> ColumnBatch {
        if pieces.count == 1 { return pieces[0] }
        var builder = BatchBuilder(types)
        for piece in pieces { builder.append(piece) }
        return builder.take()
    }
}
