import Base
import DataModel

/// INSERT, UPDATE, DELETE. All rows of the child are read before the first is written, so that a statement never sees
/// what it does itself. Then they are written in pieces: the rows, and the entries of each index (`IndexEntries`).
final class ModifyOperator: Operator {
    let plan: ModifyPlan
    let child: Operator
    let access: any RowAccess
    let valuePlaces: [Int]
    let oldPlaces: [Int]
    private let checks: [(name: String, condition: Evaluator)]
    private let returning: [Evaluator]
    let conflict: [Evaluator]
    let conflictCondition: Evaluator?
    private let form: RecordForm
    let forms: [EntryForm]

    private var gathering: Gathering
    private var rows: ColumnBatch?
    private var drawn: [[Int64]] = []
    private var position = 0
    /// Rows whose numbers are drawn, but that must not be written with those before them.
    private var remainder: ColumnBatch?
    private var current: Piece?
    /// Keys that this statement has written, for ON CONFLICT and for joins that meet a row twice.
    var written = KeyTable()

    /// Rows that are written together, and how far they are.
    struct Piece {
        var batch: ColumnBatch
        /// Rows of the batch that count; others were left out.
        var rows: [Int32]
        /// Rows that take the place of others (ON CONFLICT DO UPDATE).
        var updated: [Int32] = []
        /// Of rows to be inserted: their keys.
        var keys: [Bytes] = []
        var steps: [Step] = []
        /// Where the rows, and their entries, have been inserted.
        var done: [Target] = []
        var conflicts: [Conflict] = []
        var isPrepared = false
        var pending: Pending?
    }

    /// What is written: the rows, or the entries of an index.
    enum Target: Hashable { case rows, entries(Int) }

    enum Step {
        /// The rows that still count, or their entries, as new ones.
        case insert(Target)
        case change(ChangedRows)
        case changeEntries(Int, ChangedRows)
        case update
        case write(Write)
    }

    /// Rows that are there, and what becomes of them.
    struct ChangedRows {
        /// Of the piece's batch; all else has one for each of them.
        let rows: [Int32]
        let keys: [Bytes]
        let freshKeys: [Bytes]
        /// In the order of the collection's columns; nil where no index asks.
        let old: ColumnBatch?
        let fresh: ColumnBatch?
        let isDelete: Bool
    }

    /// A row to be inserted that meets one that is there.
    struct Conflict {
        let row: Int32
        let key: Bytes
        let record: Bytes
    }

    /// Changes of one collection.
    struct Write {
        let target: Target
        let changes: [RowChange]
        /// Rows of the batch, one for each change.
        let rows: [Int32]
        /// Rows that are in the way may be left out or updated: it is an INSERT's.
        let isInsert: Bool
        /// It only tidies up: whatever comes out is right.
        var isRepair = false
    }

    enum Pending {
        case write(Write, any RowWriting)
        case owners(OwnerRead, any RowCursor)
    }

    /// Entries that are in the way, while the rows are read which they name.
    struct OwnerRead {
        let index: Int
        let isInsert: Bool
        struct Suspect {
            let row: Int32
            /// The entry that was to be written, and the key of the row that the one in its place names.
            let wanted: RowChange
            let owner: Bytes
        }

        let suspects: [Suspect]
        var found: [Bytes: Bytes] = [:]
    }

    init(_ plan: ModifyPlan, _ child: Operator) throws(StatementError) {
        guard let access = child.context.access else {
            throw StatementError(.internalError, "rows are written where there are none")
        }
        (self.plan, self.child, self.access) = (plan, child, access)
        valuePlaces = try child.layout.places(of: plan.values)
        var evaluators: [(name: String, condition: Evaluator)] = []
        for (name, condition) in plan.checks {
            evaluators.append((name, try Evaluator(condition, layout: child.layout)))
        }
        checks = evaluators
        var returned: [Evaluator] = []
        for projection in plan.returning { returned.append(try Evaluator(projection.expression, layout: child.layout)) }
        returning = returned
        var values: [Evaluator] = [], condition: Evaluator?
        if case .insert(.update(let expressions, let filter)) = plan.action {
            let layout = Layout(child.layout.attributes + plan.old.map(\.attribute))
            for expression in expressions { values.append(try Evaluator(expression, layout: layout)) }
            if let filter { condition = try Evaluator(filter, layout: layout) }
            oldPlaces = []
        } else if case .insert = plan.action {
            oldPlaces = []
        } else {
            oldPlaces = try child.layout.places(of: plan.old.map(\.attribute))
        }
        (conflict, conflictCondition) = (values, condition)
        form = RecordForm(plan.collection)
        forms = plan.indexes.map { index in
            EntryForm(isUnique: index.isUnique, types: index.columns.map { plan.collection.columns[$0].type })
        }
        gathering = Gathering(child.types)
        super.init(
            layout: Layout(plan.outputs.map(\.attribute)), types: plan.outputs.map(\.type), context: child.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if rows == nil {
            guard let all = try gathering.run(child, context) else { return .waiting }
            rows = all
        }
        while let all = rows {
            if current == nil {
                if let rest = remainder {
                    current = Piece(batch: rest, rows: Array(0..<Int32(rest.count)))
                } else {
                    guard position < all.count else { return .end }
                    let end = min(position + ColumnBatch.rows, all.count)
                    let batch = all.slice(position..<end)
                    current = Piece(batch: batch, rows: Array(0..<Int32(batch.count)))
                    position = end
                }
            }
            guard try advance() else { return .waiting }
            guard var piece = current else { continue }
            current = nil
            if !piece.updated.isEmpty { piece.rows = (piece.rows + piece.updated).sorted() }
            if plan.isCounted { context.rowsChanged += piece.rows.count }
            guard !returning.isEmpty, !piece.rows.isEmpty else {
                if try context.isSliceOver() { return .waiting }
                continue
            }
            let source = piece.rows.count == piece.batch.count ? piece.batch : piece.batch.gathered(piece.rows)
            var columns: [Column] = []
            for evaluator in returning { columns.append(try evaluator.evaluate(source, context)) }
            return .batch(ColumnBatch(columns, count: source.count))
        }
        return .end
    }

    /// Takes the piece to its end; false while something waits.
    private func advance() throws(StatementError) -> Bool {
        guard var piece = current else { return true }
        if !piece.isPrepared {
            if remainder == nil {
                guard try draw(&piece) else { return false }
            }
            remainder = nil
            try prepare(&piece)
            try check(piece.batch, piece.rows)
            piece.isPrepared = true
        }
        while true {
            if let pending = piece.pending {
                guard try settle(pending, &piece) else {
                    current = piece
                    return false
                }
            } else if piece.steps.isEmpty {
                current = piece
                return true
            } else {
                try begin(piece.steps.removeFirst(), &piece)
            }
        }
    }

    /// Rows from `count` on are written later, after the others.
    func postpone(from count: Int, _ piece: inout Piece) {
        remainder = piece.batch.slice(count..<piece.batch.count)
        piece.batch = piece.batch.slice(0..<count)
        piece.rows = Array(0..<Int32(count))
        piece.keys.removeLast(piece.keys.count - count)
    }

    // MARK: Preparation

    /// Numbers of sequences into the columns that want them; false while they are not there.
    private func draw(_ piece: inout Piece) throws(StatementError) -> Bool {
        while drawn.count < plan.draws.count {
            let draw = plan.draws[drawn.count]
            let count = try drawRows(draw, piece.batch).count
            if count == 0 {
                drawn.append([])
                continue
            }
            guard let numbers = try access.draw(count, from: draw.sequence) else { return false }
            guard numbers.count == count else {
                throw StatementError(.internalError, "a sequence gave another count of numbers than was asked for")
            }
            context.sequences.drew(numbers, from: draw.sequence)
            drawn.append(numbers)
        }
        for (draw, numbers) in zip(plan.draws, drawn) where !numbers.isEmpty {
            let place = try child.layout.places(of: [draw.value])[0]
            let targets = try drawRows(draw, piece.batch)
            let old = piece.batch.columns[place]
            var values = (0..<piece.batch.count).map { old.value(at: $0) }
            for (row, number) in zip(targets, numbers) {
                guard Casts.range(of: old.type.kind).contains(number) else { throw Casts.outOfRange(old.type.kind) }
                values[Int(row)] = .integer(number)
            }
            piece.batch = Self.replacing(piece.batch, place, with: values)
        }
        drawn = []
        return true
    }

    private func drawRows(_ draw: ModifyPlan.Draw, _ batch: ColumnBatch) throws(StatementError) -> [Int32] {
        guard let flag = draw.flag else { return Array(0..<Int32(batch.count)) }
        let column = batch.columns[try child.layout.places(of: [flag])[0]]
        guard case .booleans(let flags) = column.storage else { return [] }
        return (0..<Int32(batch.count)).filter { flags[Int($0)] }
    }

    static func replacing(_ batch: ColumnBatch, _ place: Int, with values: [Value]) -> ColumnBatch {
        var columns = batch.columns
        var builder = ColumnBuilder(columns[place].type)
        for value in values { builder.append(value) }
        columns[place] = builder.finish()
        return ColumnBatch(columns, count: batch.count)
    }

    /// NOT NULL and CHECK.
    func check(_ batch: ColumnBatch, _ rows: [Int32]) throws(StatementError) {
        if case .delete = plan.action { return }
        let collection = plan.collection
        for (index, column) in collection.columns.enumerated()
        where column.isNotNull || collection.primaryKey.contains(column.id) {
            let values = batch.columns[valuePlaces[index]]
            guard values.validity != nil else { continue }
            for row in rows where values.isNull(at: Int(row)) {
                var error = errors.null(column, fresh(batch, Int(row)))
                error.row = Int(row) + 1
                throw error
            }
        }
        for (name, condition) in checks {
            let column = try condition.evaluate(batch, context)
            guard case .booleans(let flags) = column.storage else { continue }
            for row in rows where !flags[Int(row)] && !column.isNull(at: Int(row)) {
                var error = errors.check(name, fresh(batch, Int(row)))
                error.row = Int(row) + 1
                throw error
            }
        }
    }

    var errors: RowErrors {
        RowErrors(collection: plan.collection, schema: plan.schema, settings: context.settings)
    }

    /// New values of a row, in the order of the collection's columns.
    func fresh(_ batch: ColumnBatch, _ row: Int) -> [Value] { valuePlaces.map { batch.columns[$0].value(at: row) } }

    func primaryKey(_ batch: ColumnBatch, _ places: [Int], _ row: Int) -> Bytes {
        var values: [Value] = [], types: [DataType] = []
        for id in plan.collection.primaryKey {
            guard let index = plan.collection.columns.firstIndex(where: { $0.id == id }) else { continue }
            values.append(batch.columns[places[index]].value(at: row))
            types.append(plan.collection.columns[index].type)
        }
        return KeyForms.encode(values, types)
    }

    func record(_ batch: ColumnBatch, _ places: [Int], _ row: Int) -> Bytes {
        form.encode { batch.columns[places[$0]].value(at: row) }
    }

    /// Keys of rows to be inserted; a table without a primary key has numbers that nobody sees.
    func newKeys(_ batch: ColumnBatch) throws(StatementError) -> [Bytes] {
        guard plan.collection.primaryKey.isEmpty else {
            return (0..<batch.count).map { primaryKey(batch, valuePlaces, $0) }
        }
        return (0..<batch.count).map { _ in
            KeyEncoding.encode([FreshKey.value(context.settings.random())])
        }
    }
}
