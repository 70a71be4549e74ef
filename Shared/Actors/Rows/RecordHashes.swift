import Base
import Contracts
import DataModel

// The commands of hashes, on records: typed, and by the rules of their collection.

/// A record as the columns that are not NULL.
struct RecordFields {
    private var columns: [(column: UInt32, value: Value)] = []

    init() {}

    init(_ record: Bytes, of collection: NamedCollection) throws(DatabaseError) {
        guard let columns = record.withUnsafeBytes({ RecordEncoding.decode($0) }) else { throw Failure.damaged }
        self.columns = columns.filter { !$0.value.isNull }
        for column in collection.columns {
            if let missing = column.missing, !columns.contains(where: { $0.column == column.id }) {
                set(column, missing)
            }
        }
    }

    subscript(_ column: NamedCollection.Column) -> Value? { columns.first { $0.column == column.id }?.value }

    /// As it is shown; nil: it is NULL.
    func text(_ column: NamedCollection.Column) -> Bytes? {
        self[column].map { Bytes(ValueText.text(of: $0, as: column.type).utf8) }
    }

    mutating func set(_ column: NamedCollection.Column, _ value: Value?) {
        columns.removeAll { $0.column == column.id }
        guard let value, !value.isNull else { return }
        let position = columns.firstIndex { $0.column > column.id } ?? columns.count
        columns.insert((column.id, value), at: position)
    }

    var record: Bytes { RecordEncoding.encode(columns) }
}

/// A record that a command is for.
private struct NamedRecord {
    let collection: NamedCollection
    /// The value of the key.
    let primaryKey: Value
    let item: Activation
    /// Nothing is kept: see `Method.draft`.
    let isDraft: Bool
    var fields: RecordFields

    var isThere: Bool { item.kind != .absent }

    /// The columns that are not NULL, in their order.
    var shown: [(name: Bytes, value: Bytes)] {
        collection.columns.compactMap { column in fields.text(column).map { (column.name, $0) } }
    }

    func column(_ name: ByteView) throws(DatabaseError) -> NamedCollection.Column {
        guard let column = collection.column(named: name) else {
            throw DatabaseError(
                .invalidArgument,
                "column \"\(String(decoding: name, as: UTF8.self))\" of relation \"\(collection.name)\" does not exist")
        }
        return column
    }

    /// The field of a name, as text.
    func text(_ name: ByteView) -> Bytes? { collection.column(named: name).flatMap { fields.text($0) } }

    /// Sets a column; that of the key keeps its value.
    mutating func set(_ column: NamedCollection.Column, _ text: ByteView) throws(DatabaseError) {
        let value = try NamedCollection.value(text, of: column)
        guard !column.isKey || value.forKey(as: column.type) == primaryKey else {
            throw DatabaseError(.invalidArgument, "the primary key of a record cannot be changed")
        }
        fields.set(column, value)
    }

    /// Refuses a record without what its collection demands.
    func check() throws(DatabaseError) {
        for column in collection.columns where fields[column] == nil {
            let name = String(decoding: column.name, as: UTF8.self)
            guard !column.isNotNull else {
                throw DatabaseError(
                    .invalidArgument,
                    "null value in column \"\(name)\" of relation \"\(collection.name)\" violates not-null constraint")
            }
        }
    }
}

extension ActorRuntime {
    /// Evaluates a call whose key names a record; false for one of Redis keys alone.
    @inline(never)
    func evaluateOnRecords(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) -> Bool {
        guard !call.method.isKeyless, call.method.rawValue < Method.rowGet.rawValue, let names = try recordNames()
        else { return false }
        var isAny = false
        call.forEachKey { if $0 == 0, names.find($1) != nil { isAny = true } }
        guard isAny else { return false }
        switch call.method.keys {
        case .all: try evaluateOnSeveral(call, names, reply)
        case .firstTwice, .two: throw Failure.otherKind
        case .pairs: throw Failure.wrongType
        case .none, .collection, .catalog: return false
        case .first:
            guard let (collection, text) = names.find(call.key) else { return false }
            let key = try rowKey(collection, text)
            try key.withView { (view: ByteView) throws(DatabaseError) in
                guard owns(RowKey.database, view) else { throw Failure.staleSchema }
                callKey = view.baseAddress
                try evaluate(call, on: view, collection, reply)
            }
        }
        return true
    }

    /// DEL, EXISTS, TOUCH, MGET: of several keys, of both kinds.
    private func evaluateOnSeveral(
        _ call: ActorCallView, _ names: RecordNames, _ reply: Reply
    ) throws(DatabaseError) {
        guard call.method != .bitOperation else { throw Failure.wrongType }
        var found: [Activation] = []
        for position in -1..<call.arguments.count {
            let key = position < 0 ? call.key : call.arguments[position]
            guard let (collection, text) = names.find(key) else {
                found.append(try call.method == .delete ? writable(0, key) : activation(0, key))
                continue
            }
            let row = try rowKey(collection, text)
            try collection.admit(call.method)
            try row.withView { (view: ByteView) throws(DatabaseError) in
                guard owns(RowKey.database, view) else { throw Failure.staleSchema }
                found.append(
                    try call.method == .delete ? writable(RowKey.database, view) : activation(RowKey.database, view))
            }
        }
        if call.method == .multiGet {
            reply.beginList()
            for item in found {
                if item.kind == .string, item.isVisible(at: now) {
                    reply.item(item.bytes)
                } else {
                    reply.encoder.listNull()
                }
            }
            return reply.encoder.endList()
        }
        var count = 0
        for item in found where item.isVisible(at: now) {
            count += 1
            if call.method == .delete { drop(item) }
        }
        reply.integer(count)
    }

    private func evaluate(
        _ call: ActorCallView, on key: ByteView, _ collection: NamedCollection, _ reply: Reply
    ) throws(DatabaseError) {
        var call = call
        let isDraft = call.flags & Method.draft != 0 && call.method.recordEffect == .changes
        call.flags &= ~Method.draft
        if !isDraft { try collection.admit(call.method) }
        var general = call
        (general.database, general.key) = (RowKey.database, key)
        if call.method == .objectEncoding {
            return try visible(RowKey.database, key) == nil ? reply.null() : reply.data("hashtable")
        }
        if general.isOfRecords { return try dispatch(general, reply) }
        let item = call.method.isWrite ? try writable(RowKey.database, key) : try activation(RowKey.database, key)
        var record = NamedRecord(
            collection: collection, primaryKey: try primaryKey(of: key), item: item, isDraft: isDraft,
            fields: RecordFields())
        if item.isVisible(at: now) { record.fields = try RecordFields(item.bytes, of: collection) }
        if isDraft { return try draft(call, &record, reply) }
        if call.method.isWrite { try change(call, &record, reply) } else { try read(call, record, reply) }
    }

    private func primaryKey(of key: ByteView) throws(DatabaseError) -> Value {
        guard let value = KeyEncoding.decode(RowKey.primaryKey(of: key))?.first else { throw Failure.noRecord }
        return value
    }

    // MARK: Reading

    private func read(_ call: ActorCallView, _ record: NamedRecord, _ reply: Reply) throws(DatabaseError) {
        switch call.method {
        case .hashGet: if let text = record.text(call.arguments[0]) { reply.data(text) } else { reply.null() }
        case .hashMultiGet:
            reply.beginList()
            for position in 0..<call.arguments.count {
                if let text = record.text(call.arguments[position]) {
                    reply.item(text)
                } else {
                    reply.encoder.listNull()
                }
            }
            reply.encoder.endList()
        case .hashGetAll: list(record.shown.flatMap { [$0.name, $0.value] }, reply)
        case .hashKeys: list(record.shown.map(\.name), reply)
        case .hashValues: list(record.shown.map(\.value), reply)
        case .hashLength: reply.integer(record.shown.count)
        case .hashExists: reply.integer(record.text(call.arguments[0]) == nil ? 0 : 1)
        case .hashStringLength: reply.integer(record.text(call.arguments[0])?.count ?? 0)
        case .hashScan:
            let pattern = call.flags & 1 != 0 ? GlobPattern(call.arguments[0]) : nil
            let items = record.shown.filter { item in item.name.withUnsafeBytes { pattern?.matches($0) ?? true } }
            list([Bytes("0".utf8)] + items.flatMap { [$0.name, $0.value] }, reply)
        case .hashRandomField: try randomField(call, record.shown, reply)
        case .dump: throw Failure.otherKind
        case _: throw Failure.wrongType
        }
    }

    private func list(_ items: [Bytes], _ reply: Reply) {
        reply.beginList()
        for item in items { reply.item(item) }
        reply.encoder.endList()
    }

    private func randomField(
        _ call: ActorCallView, _ shown: [(name: Bytes, value: Bytes)], _ reply: Reply
    ) throws(DatabaseError) {
        guard call.flags & 1 != 0 else {
            guard !shown.isEmpty else { return reply.null() }
            return reply.data(shown[Int(random.next(below: UInt64(shown.count)))].name)
        }
        let count = call.numbers[0]
        var chosen: [(name: Bytes, value: Bytes)] = []
        if count < 0, !shown.isEmpty {
            guard count.magnitude <= 65_536 else { throw Failure.outOfRange }
            for _ in 0..<count.magnitude { chosen.append(shown[Int(random.next(below: UInt64(shown.count)))]) }
        } else if count > 0 {
            chosen = Array(shown.shuffled(using: &random).prefix(Int(clamping: count)))
        }
        list(chosen.flatMap { call.flags & 2 != 0 ? [$0.name, $0.value] : [$0.name] }, reply)
    }

    // MARK: Changing

    /// Tells what the call would make of the record.
    private func draft(
        _ call: ActorCallView, _ record: inout NamedRecord, _ reply: Reply
    ) throws(DatabaseError) {
        let before = record.isThere ? record.item.bytes : nil, own = ReplyBatchEncoder()
        try change(call, &record, Reply(id: 0, encoder: own))
        var frame = ByteBuffer(capacity: own.size + 32)
        own.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
        reply.beginList()
        if let before { reply.item(before) } else { reply.encoder.listNull() }
        reply.item(record.fields.record)
        reply.encoder.listData(frame.readable)
        reply.encoder.endList()
    }

    private func change(
        _ call: ActorCallView, _ record: inout NamedRecord, _ reply: Reply
    ) throws(DatabaseError) {
        switch call.method {
        case .hashSet: try set(call, &record, reply)
        case .hashDelete: try delete(call, &record, reply)
        case .hashIncrementBy:
            let old = record.text(call.arguments[0]), column = try record.column(call.arguments[0])
            guard let number = old.map({ $0.withUnsafeBytes { decimalInteger($0) } }) ?? 0 else {
                throw Failure.hashNotAnInteger
            }
            let (sum, overflow) = number.addingReportingOverflow(call.numbers[0])
            guard !overflow else { throw Failure.overflow }
            try put(decimalBytes(sum), at: column, &record)
            reply.integer(sum)
        case .hashIncrementByFloat:
            let old = record.text(call.arguments[0]), column = try record.column(call.arguments[0])
            guard let increment = parseLongDouble(call.arguments[1]) else { throw Failure.notAFloat }
            guard increment.isFinite else { throw Failure.incrementNotFinite }
            guard let number = old.map({ $0.withUnsafeBytes { parseLongDouble($0) } }) ?? 0 else {
                throw Failure.hashNotAFloat
            }
            guard (number + increment).isFinite else { throw Failure.notFinite }
            try put(formatLongDouble(number + increment), at: column, &record)
            reply.data(record.fields.text(column) ?? [])
        case .install: throw Failure.otherKind
        case _: throw Failure.wrongType
        }
    }

    private func put(
        _ text: Bytes, at column: NamedCollection.Column, _ record: inout NamedRecord
    ) throws(DatabaseError) {
        var changed = record
        try text.withView { (view: ByteView) throws(DatabaseError) in try changed.set(column, view) }
        record = changed
        try store(&record)
    }

    private func set(_ call: ActorCallView, _ record: inout NamedRecord, _ reply: Reply) throws(DatabaseError) {
        let arguments = call.arguments
        guard arguments.count > 0, arguments.count % 2 == 0 else { throw Failure.syntax }
        if call.flags & 1 != 0, record.text(arguments[0]) != nil { return reply.integer(0) }
        var added = 0
        for position in stride(from: 0, to: arguments.count, by: 2) {
            let column = try record.column(arguments[position])
            if record.fields[column] == nil { added += 1 }
            try record.set(column, arguments[position + 1])
        }
        try store(&record)
        reply.integer(added)
    }

    private func delete(_ call: ActorCallView, _ record: inout NamedRecord, _ reply: Reply) throws(DatabaseError) {
        guard record.isThere else { return reply.integer(0) }
        var removed = 0
        for position in 0..<call.arguments.count {
            guard let column = record.collection.column(named: call.arguments[position]) else { continue }
            if record.fields[column] == nil { continue }
            removed += 1
            record.fields.set(column, nil)
        }
        guard removed > 0 else { return reply.integer(0) }
        try store(&record)
        reply.integer(removed)
    }

    /// Keeps a record that the command has changed, if its collection allows it.
    private func store(_ record: inout NamedRecord) throws(DatabaseError) {
        if !record.isThere { record.fields.set(record.collection.key, record.primaryKey) }
        guard !record.isDraft else { return }
        try record.check()
        let bytes = record.fields.record
        guard bytes.count <= limits.valueBytes else { throw Failure.recordTooLong }
        try allowEffects(bytes.count &+ 3 &* record.item.keyCount)
        if record.item.kind == .absent {
            record.item.kind = .row
            record.item.expiresAt = 0
        }
        record.item.bytes = bytes
        changed(record.item, bytes: bytes.count)
    }
}
