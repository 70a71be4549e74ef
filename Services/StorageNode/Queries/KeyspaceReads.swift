import Base
import Contracts
import DataModel
import Engine
import GatewayKit

/// Reads, and perhaps locks, rows of schema `redis` by their keys, or all fields of hashes by theirs.
final class KeyspaceRead: RowCursor {
    /// One call: a key, and of a hash without a field where it goes on.
    private struct Question {
        /// Its place among the keys that were given.
        let position: Int
        let key: KeyspaceKey
        var cursor: Int64 = 0
    }

    /// Fields of a hash that are asked for at once.
    private static let fieldCount: Int64 = 1000

    private let keeper: RowKeeper
    private let records: KeyspaceRecords
    private let keys: [Bytes]
    private let lock: InvocationScope.LockMode, wait: InvocationScope.WaitPolicy
    /// Rows that are not there are told as such, and all come at once.
    private let keepsMissing: Bool
    private var questions: [Question] = []
    private var isBegun = false, isAsking = false
    private var found: [Bytes?]
    private var page = StoredRows(keys: [], records: [])
    private var failure: StatementError?

    init(
        _ keeper: RowKeeper, _ records: KeyspaceRecords, _ keys: [Bytes], lock: InvocationScope.LockMode = .none,
        wait: InvocationScope.WaitPolicy = .wait, keepsMissing: Bool = false
    ) {
        (self.keeper, self.records, self.keys, self.lock) = (keeper, records, keys, lock)
        (self.wait, self.keepsMissing) = (wait, keepsMissing)
        found = Array(repeating: nil, count: keys.count)
    }

    func next() throws(StatementError) -> RowStep {
        if let failure { throw failure }
        if isAsking { return .waiting }
        if !isBegun {
            isBegun = true
            for (position, encoded) in keys.enumerated() {
                // A key that names a record is none of Redis.
                guard let key = KeyspaceKey(decoding: encoded), keeper.record(namedBy: key) == nil else { continue }
                questions.append(Question(position: position, key: key))
            }
            if keepsMissing, questions.isEmpty, !keys.isEmpty { return .rows(StoredRows(keys: keys, records: found)) }
        }
        if !page.keys.isEmpty {
            let rows = page
            page = StoredRows(keys: [], records: [])
            return .rows(rows)
        }
        guard !questions.isEmpty else { return .end }
        isAsking = true
        try ask()
        return .waiting
    }

    private func ask() throws(StatementError) {
        let asked = questions
        questions = []
        let division = try keeper.divide(slots: asked.map(\.key.slot))
        let shares = division.map { share in
            var builder = RowCallBuilder()
            for place in share.positions { append(asked[place], to: &builder) }
            return InteractiveRun.Share(slot: share.slot, body: builder.body, isWrite: false)
        }
        keeper.perform(shares, lock: lock, wait: wait) { [self] result in
            isAsking = false
            do throws(StatementError) {
                let batches = try result.get()
                try RowKeeper.read(batches, tolerated: .wrongType) { (share, call, reply) throws(StatementError) in
                    guard division[share].positions.indices.contains(call) else { throw RowKeeper.malformed }
                    try take(reply, of: asked[division[share].positions[call]])
                }
                if keepsMissing { page = StoredRows(keys: keys, records: found) }
            } catch {
                failure = error
            }
        }
    }

    private func append(_ question: Question, to builder: inout RowCallBuilder) {
        let key = question.key
        switch (records.table, key.field) {
        case (.keys, _):
            builder.append(.dump, database: key.database, key: key.key, flags: 2, numbers: [])
        case (.strings, _):
            builder.append(.dump, database: key.database, key: key.key, flags: 1, numbers: [])
        case (.hashes, let field?):
            builder.append(.hashGet, database: key.database, key: key.key, numbers: [], arguments: [field])
        case (.hashes, nil):
            builder.append(
                .hashScan, database: key.database, key: key.key, numbers: [question.cursor, Self.fieldCount])
        }
    }

    /// A key of another type, or that was skipped, is no row.
    private func take(_ reply: borrowing ReplyView, of question: Question) throws(StatementError) {
        let key = question.key
        switch reply.kind {
        case .null: return
        case .data:
            guard let field = key.field else { throw RowKeeper.malformed }
            try add(try records.record(key, field: field, reply.data), question)
        case .list where records.table == .hashes: try takeFields(reply, of: question)
        case .list: try takeDump(reply, of: question)
        case .ok, .integer, .number, .error, .batch: throw RowKeeper.malformed
        }
    }

    private func takeDump(_ reply: borrowing ReplyView, of question: Question) throws(StatementError) {
        var items = reply.items
        // Its version; then nothing, if there is no such key.
        guard case .integer = items.next() else { throw RowKeeper.malformed }
        guard let second = items.next() else { return }
        guard case .integer(let type) = second, items.next() != nil, case .integer(let expiresAt) = items.next() else {
            throw RowKeeper.malformed
        }
        if records.table == .keys {
            let name = KeyspaceRead.typeName(type)
            let record = try name.withView { (view: ByteView) throws(StatementError) in
                try records.record(question.key, view, expiresAt: expiresAt)
            }
            return try add(record, question)
        }
        guard type == KeyspaceRead.stringType else { return }
        guard case .data(let value) = items.next() else { throw RowKeeper.malformed }
        try add(try records.record(question.key, value, expiresAt: expiresAt), question)
    }

    /// A page of a hash: the cursor, fields and their values.
    private func takeFields(_ reply: borrowing ReplyView, of question: Question) throws(StatementError) {
        var items = reply.items
        guard case .data(let text) = items.next(), let next = Int64(String(decoding: text, as: UTF8.self)) else {
            throw RowKeeper.malformed
        }
        while let item = items.next() {
            guard case .data(let field) = item, case .data(let value) = items.next() else { throw RowKeeper.malformed }
            let key = KeyspaceKey(question.key.database, question.key.key, field: field.bytes)
            page.keys.append(key.encoded)
            page.records.append(try records.record(key, field: field.bytes, value))
        }
        guard next != 0 else { return }
        var more = question
        more.cursor = next
        questions.append(more)
    }

    private func add(_ record: Bytes, _ question: Question) throws(StatementError) {
        guard !keepsMissing else {
            found[question.position] = record
            return
        }
        page.keys.append(keys[question.position])
        page.records.append(record)
    }

    /// What a shard says of types.
    static let stringType: Int64 = 1
    static func typeName(_ type: Int64) -> Bytes { Bytes((type == stringType ? "string" : "hash").utf8) }
}

/// Reads the keys of all shards as rows of schema `redis`, a page of each shard and database at a time.
final class KeyspaceScan: RowCursor {
    /// What is left of a shard.
    private struct Part {
        let slot: UInt32
        let buckets: [Range<Int>]
        /// The databases that have more, and where they go on.
        var cursors: [(database: UInt8, cursor: Int64)]
    }

    /// Keys that are looked at in one step.
    private static let keyCount: Int64 = 1000

    private let keeper: RowKeeper
    private let request: ScanRequest
    private let records: KeyspaceRecords
    private let from: Bytes, to: Bytes
    private var parts: [Part] = []
    private var isStarted = false, isAsking = false
    private var pages = Queue<StoredRows>()
    /// Hashes with many fields, to be read one after another.
    private var large = Queue<Bytes>()
    /// What is read of keys that were found.
    private var inner: KeyspaceRead?
    private var failure: StatementError?
    private var rows = 0

    init(_ keeper: RowKeeper, _ table: KeyspaceTables.Table, _ request: ScanRequest, from: Bytes, to: Bytes) {
        (self.keeper, self.request, self.from, self.to) = (keeper, request, from, to)
        records = KeyspaceRecords(table, request.columns)
    }

    func next() throws(StatementError) -> RowStep {
        if let failure { throw failure }
        if !isStarted { start() }
        while true {
            if let step = try nextInner() { return step }
            if let limit = request.limit, rows >= limit { return .end }
            if let page = pages.popFirst() {
                guard request.isForUpdate else {
                    rows += page.keys.count
                    return .rows(page)
                }
                // Locked, and read again as they are then.
                inner = KeyspaceRead(keeper, records, page.keys, lock: .update)
            } else if let hash = large.popFirst() {
                inner = KeyspaceRead(keeper, records, [hash], lock: request.isForUpdate ? .update : .none)
            } else {
                ask()
                return isAsking ? .waiting : .end
            }
        }
    }

    /// Of what is being read of keys that were found; nil if there is nothing.
    private func nextInner() throws(StatementError) -> RowStep? {
        guard let inner else { return nil }
        switch try inner.next() {
        case .rows(let page):
            rows += page.keys.count
            return .rows(within(page))
        case .waiting: return .waiting
        case .columns, .blocks, .end:
            self.inner = nil
            return nil
        }
    }

    /// Without what lies outside of the range.
    private func within(_ page: StoredRows) -> StoredRows {
        guard !from.isEmpty || !to.isEmpty else { return page }
        let kept = page.keys.indices.filter { isMeant(page.keys[$0]) }
        return StoredRows(keys: kept.map { page.keys[$0] }, records: kept.map { page.records[$0] })
    }

    private func isMeant(_ key: Bytes) -> Bool {
        !key.lexicographicallyPrecedes(from) && (to.isEmpty || key.lexicographicallyPrecedes(to))
    }

    private func start() {
        isStarted = true
        let router = keeper.calls.router
        let databases = (0..<UInt8(KeyspaceTables.databaseCount)).filter { database in
            let prefix = KeyspaceKey.prefix(database).readable.bytes
            // Its keys are behind the prefix, and before all that is above it.
            let isBefore = prefix.lexicographicallyPrecedes(from) && !from.starts(with: prefix)
            return !isBefore && (to.isEmpty || prefix.lexicographicallyPrecedes(to))
        }
        for index in router.shards.indices {
            guard let slot = router.anySlot(ofShardIndex: index) else { continue }
            parts.append(
                Part(
                    slot: slot, buckets: router.buckets(ofShardIndex: index),
                    cursors: databases.map { ($0, 0) }))
        }
    }

    private func ask() {
        guard !isAsking, failure == nil else { return }
        parts.removeAll { $0.cursors.isEmpty }
        guard !parts.isEmpty else { return }
        isAsking = true
        let asked = parts, type = records.table == .hashes ? "hash" : "string"
        let isTyped = records.table != .keys, flags: UInt32 = (isTyped ? 2 : 0) | 4 | (records.hasValues ? 8 : 0)
        let shares = asked.map { part in
            var builder = RowCallBuilder()
            for (database, cursor) in part.cursors {
                builder.append(
                    .scan, database: database, key: [], flags: flags,
                    numbers: [cursor, Self.keyCount, RowKeeper.pageBytes], arguments: isTyped ? [Bytes(type.utf8)] : [])
            }
            return InteractiveRun.Share(slot: part.slot, body: builder.body, isWrite: false)
        }
        keeper.perform(shares) { [self] result in
            isAsking = false
            for index in parts.indices { parts[index].cursors = [] }
            do throws(StatementError) {
                let batches = try result.get()
                try RowKeeper.read(batches) { (share, call, reply) throws(StatementError) in
                    guard reply.kind == .list, asked[share].cursors.indices.contains(call) else {
                        throw RowKeeper.malformed
                    }
                    let database = asked[share].cursors[call].database
                    if let next = try take(reply, database, of: asked[share]) {
                        parts[share].cursors.append((database, next))
                    }
                }
            } catch {
                failure = error
            }
        }
    }

    /// What a shard says of some keys of a database; where it goes on, if it does.
    private func take(_ reply: borrowing ReplyView, _ database: UInt8, of part: Part) throws(StatementError) -> Int64? {
        var page = StoredRows(keys: [], records: []), items = reply.items
        while case .data(let name)? = items.next() {
            guard case .integer(let type)? = items.next() else {
                // It was the cursor.
                add(page)
                return try next(after: name, of: part)
            }
            guard case .integer(let expiresAt)? = items.next() else { throw RowKeeper.malformed }
            let key = KeyspaceKey(database, name.bytes)
            // A key that is hidden by a table with such a name is passed over, with what it holds.
            let isHidden = keeper.record(namedBy: key) != nil
            switch records.table {
            case .keys:
                try append(key, isHidden, &page) { () throws(StatementError) in
                    try KeyspaceRead.typeName(type).withView { (view: ByteView) throws(StatementError) in
                        try records.record(key, view, expiresAt: expiresAt)
                    }
                }
            case .strings:
                var value = ByteView(start: nil, count: 0)
                if records.hasValues {
                    guard case .data(let given)? = items.next() else { throw RowKeeper.malformed }
                    value = given
                }
                try append(key, isHidden, &page) { () throws(StatementError) in
                    try records.record(key, value, expiresAt: expiresAt)
                }
            case .hashes: try takeHash(key, isHidden, &items, &page)
            }
        }
        throw RowKeeper.malformed
    }

    private func takeHash(
        _ key: KeyspaceKey, _ isHidden: Bool, _ items: inout ReplyView.Items, _ page: inout StoredRows
    ) throws(StatementError) {
        guard case .integer(let count)? = items.next() else { throw RowKeeper.malformed }
        guard count >= 0 else {
            if !isHidden { large.append(key.encoded) }
            return
        }
        var left = count
        while left > 0 {
            guard case .data(let field)? = items.next(), case .data(let value)? = items.next() else {
                throw RowKeeper.malformed
            }
            left -= 1
            let row = KeyspaceKey(key.database, key.key, field: field.bytes)
            try append(row, isHidden, &page) { () throws(StatementError) in
                try records.record(row, field: field.bytes, value)
            }
        }
    }

    private func append(
        _ key: KeyspaceKey, _ isHidden: Bool, _ page: inout StoredRows, _ record: () throws(StatementError) -> Bytes
    ) throws(StatementError) {
        guard !isHidden else { return }
        let encoded = key.encoded
        guard isMeant(encoded) else { return }
        page.keys.append(encoded)
        page.records.append(try record())
    }

    private func add(_ page: StoredRows) { if !page.keys.isEmpty { pages.append(page) } }

    /// A cursor in a bucket of another shard is the end of this one.
    private func next(after text: ByteView, of part: Part) throws(StatementError) -> Int64? {
        guard let cursor = Int64(String(decoding: text, as: UTF8.self)) else { throw RowKeeper.malformed }
        guard let place = ScanCursor(rawValue: UInt64(bitPattern: cursor)) else { return nil }
        return part.buckets.contains { $0.contains(Int(place.bucket.rawValue)) } ? cursor : nil
    }
}
