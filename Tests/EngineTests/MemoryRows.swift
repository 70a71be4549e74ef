import Base
import DataModel

@testable import Engine

/// The rows of a collection by their encoded keys.
struct MemoryCollection {
    private var records: [Bytes: Bytes] = [:]
    /// In the order of the bytes.
    private(set) var keys: [Bytes] = []

    var isEmpty: Bool { keys.isEmpty }

    subscript(key: Bytes) -> Bytes? { records[key] }

    /// Where the key is, or would be.
    private func place(of key: Bytes) -> Int {
        var low = 0, high = keys.count
        while low < high {
            let middle = (low + high) / 2
            if keys[middle].lexicographicallyPrecedes(key) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    mutating func put(_ record: Bytes, at key: Bytes) {
        if records.updateValue(record, forKey: key) == nil { keys.insert(key, at: place(of: key)) }
    }

    mutating func remove(_ key: Bytes) -> Bool {
        guard records.removeValue(forKey: key) != nil else { return false }
        keys.remove(at: place(of: key))
        return true
    }

    func keys(from: Bytes, to: Bytes?) -> ArraySlice<Bytes> {
        let start = place(of: from), end = to.map { place(of: $0) } ?? keys.count
        return keys[start..<max(start, end)]
    }
}

/// What the engine reads and writes, in memory: for one statement, over a copy that its database takes if it ends well.
final class MemoryRows: RowAccess {
    struct Behaviour: Sendable {
        /// Rows that a cursor answers at once.
        var page = 1000
        /// Everything that is asked for comes at the second asking.
        var isLate = false
        /// Rows come in the order of their slots, as from many shards, not in that of the keys.
        var isScattered = false
        /// What can be done with rows where they are is done there, a page of rows at a time.
        var prefersFragments = false
        /// Statements about one record are carried out by a program, as by a shard.
        var prefersPoints = false
    }

    private let database: MemoryDatabase
    private let behaviour: Behaviour
    /// What is late stands for a transaction, which sees what others commit meanwhile.
    var readsOneTime: Bool { !behaviour.isLate }
    var contents: MemoryDatabase.Contents
    /// How often somebody was told to wait: a statement that waits for nothing would wait for ever.
    private(set) var waits = 0
    /// How many rows were read, and the requests.
    private(set) var rowsRead = 0
    private(set) var scans: [ScanRequest] = []
    private var drawing: Set<CollectionID> = []

    init(_ database: MemoryDatabase, _ behaviour: Behaviour) {
        (self.database, self.behaviour, contents) = (database, behaviour, database.contents)
    }

    /// Whether the asker is put off; `asked` is its own memory of having been.
    private func isPutOff(_ asked: inout Bool) -> Bool {
        guard behaviour.isLate else { return false }
        asked.toggle()
        if asked { waits += 1 }
        return asked
    }

    func scan(_ request: ScanRequest) throws(StatementError) -> any RowCursor {
        scans.append(request)
        let collection = contents.collections[request.collection.id] ?? MemoryCollection()
        var keys: [Bytes]
        switch request.range {
        case .all: keys = collection.keys
        case .between(let from, let to): keys = Array(collection.keys(from: from, to: to))
        case .ranges(let ranges): keys = ranges.flatMap { Array(collection.keys(from: $0.from, to: $0.to)) }
        case .keys(let wanted) where KeyspaceTables.table(request.collection) == .hashes:
            keys = wanted.flatMap { collection.keys(from: $0, to: KeyForms.successor($0)) }
        case .keys(let wanted): keys = wanted.filter { collection[$0] != nil }
        }
        if let order = request.order {
            if case .ranges(let ranges) = request.range, order == .descending {
                keys = ranges.flatMap { collection.keys(from: $0.from, to: $0.to).reversed() }
            }
            return Cursor(self, keys, collection, page: request.limit)
        }
        if behaviour.isScattered {
            let places = keys.map { key in key.withUnsafeBytes { Slot.ofPartition($0).rawValue } }
            keys = keys.indices.sorted { places[$0] < places[$1] }.map { keys[$0] }
        }
        if let limit = request.limit { keys = Array(keys.prefix(limit)) }
        return Cursor(self, keys, collection, behaviour.prefersFragments ? request.fragment : nil)
    }

    /// The rows of a page as the request's fragment makes something of them; half of them come as a block.
    private func blocks(_ keys: [Bytes], _ collection: MemoryCollection, _ call: FragmentCall)
        throws(StatementError) -> RowStep
    {
        var settings = database.settings
        settings.transactionTime = call.transactionTime
        settings.statementTime = call.statementTime
        let run = try FragmentRun(call.fragment, call.parameters, settings: settings, limit: call.limit ?? 0)
        for (place, key) in keys.enumerated() {
            guard let record = collection[key] else { continue }
            let isTaken = key.withUnsafeBytes { key in record.withUnsafeBytes { run.add(key, $0) } }
            guard isTaken else { throw StatementError(.dataCorrupted, "a row is damaged") }
            if place == keys.count / 2 { try run.process(run.take()) }
        }
        try run.process(run.take())
        return .blocks(try run.finish())
    }

    func lock(_ request: LockRequest) throws(StatementError) -> any RowCursor {
        Cursor(self, request.keys, contents.collections[request.collection.id] ?? MemoryCollection())
    }

    func write(_ changes: [RowChange], to collection: CollectionDescriptor) throws(StatementError) -> any RowWriting {
        Writing(self, changes, collection.id)
    }

    func set(_ sequence: CollectionID, to number: Int64, isCalled: Bool) throws(StatementError) -> Int64? {
        if waits(for: sequence) { return nil }
        database.drawn[sequence] = (number, isCalled)
        return number
    }

    private func waits(for sequence: CollectionID) -> Bool {
        var asked = drawing.contains(sequence)
        if isPutOff(&asked) {
            drawing.insert(sequence)
            return true
        }
        drawing.remove(sequence)
        return false
    }

    func draw(_ count: Int, from sequence: CollectionID) throws(StatementError) -> [Int64]? {
        if waits(for: sequence) { return nil }
        guard let descriptor = contents.catalog.collection(sequence), let terms = descriptor.sequence else {
            throw StatementError(.internalError, "there is no sequence \(sequence.rawValue)")
        }
        var numbers: [Int64] = []
        for _ in 0..<count {
            let next: (partialValue: Int64, overflow: Bool) =
                switch database.drawn[sequence] {
                case (let last, true)?: last.addingReportingOverflow(terms.increment)
                case (let first, false)?: (partialValue: first, overflow: false)
                case nil: (partialValue: terms.start, overflow: false)
                }
            if next.overflow || next.partialValue > terms.maximum || next.partialValue < terms.minimum {
                guard terms.cycles else {
                    let end =
                        terms.increment > 0
                        ? "maximum value of sequence \"\(descriptor.name)\" (\(terms.maximum))"
                        : "minimum value of sequence \"\(descriptor.name)\" (\(terms.minimum))"
                    throw StatementError(.sequenceGeneratorLimitExceeded, "nextval: reached \(end)")
                }
                database.drawn[sequence] = (terms.increment > 0 ? terms.minimum : terms.maximum, true)
            } else {
                database.drawn[sequence] = (next.partialValue, true)
            }
            numbers.append(database.drawn[sequence]?.last ?? 0)
        }
        return numbers
    }

    private final class Cursor: RowCursor {
        private let rows: MemoryRows
        private var keys: ArraySlice<Bytes>
        private let collection: MemoryCollection
        private let fragment: FragmentCall?
        private let page: Int
        private var asked = false

        init(
            _ rows: MemoryRows, _ keys: [Bytes], _ collection: MemoryCollection, _ fragment: FragmentCall? = nil,
            page: Int? = nil
        ) {
            (self.rows, self.keys, self.collection, self.fragment) = (rows, keys[...], collection, fragment)
            self.page = min(page ?? .max, rows.behaviour.page)
        }

        func next() throws(StatementError) -> RowStep {
            if rows.isPutOff(&asked) { return .waiting }
            guard !keys.isEmpty else { return .end }
            let page = Array(keys.prefix(self.page))
            keys = keys.dropFirst(page.count)
            rows.rowsRead += page.count
            if let fragment { return try rows.blocks(page, collection, fragment) }
            return .rows(StoredRows(keys: page, records: page.map { collection[$0] }))
        }
    }

    private final class Writing: RowWriting {
        private let rows: MemoryRows
        private let changes: [RowChange]
        private let id: CollectionID
        private var asked = false
        private var done: [RowOutcome]?

        init(_ rows: MemoryRows, _ changes: [RowChange], _ id: CollectionID) {
            (self.rows, self.changes, self.id) = (rows, changes, id)
        }

        func outcomes() throws(StatementError) -> [RowOutcome]? {
            if rows.isPutOff(&asked) { return nil }
            if let done { return done }
            var collection = rows.contents.collections.removeValue(forKey: id) ?? MemoryCollection()
            var outcomes: [RowOutcome] = []
            for change in changes {
                let old = collection[change.key]
                switch (change.mode, old) {
                case (.insert, let old?): outcomes.append(.exists(old))
                case (.update, nil): outcomes.append(.absent)
                case (.delete, _): outcomes.append(collection.remove(change.key) ? .done : .absent)
                case (.insert, nil), (.upsert, _), (.update, _):
                    collection.put(change.record, at: change.key)
                    outcomes.append(.done)
                }
            }
            rows.contents.collections[id] = collection
            done = outcomes
            return outcomes
        }
    }
}
