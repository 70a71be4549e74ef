import Actors
import Base
import Contracts
import DataModel

/// A shard's committed records in memory, sorted.
final class MemoryRecords: RecordReader {
    private(set) var keys: [Bytes] = []
    private var values: [Bytes: Bytes] = [:]
    var failure: DatabaseError?

    func get(_ key: ByteView) throws(DatabaseError) -> Bytes? {
        if let failure { throw failure }
        return values[Bytes(key)]
    }

    func scan(
        from: ByteView, to: ByteView, _ body: (ByteView, ByteView) -> Bool
    ) throws(DatabaseError) {
        if let failure { throw failure }
        let end = Bytes(to)
        var position = lowerBound(Bytes(from))
        while position < keys.count, keys[position].lexicographicallyPrecedes(end) {
            let key = keys[position], value = values[key] ?? []
            guard key.withUnsafeBytes({ key in value.withUnsafeBytes { body(key, $0) } }) else { return }
            position += 1
        }
    }

    func key(_ count: Int, before to: ByteView, from: ByteView) throws(DatabaseError) -> Bytes? {
        let place = lowerBound(Bytes(to)) - count
        return place >= lowerBound(Bytes(from)) ? keys[place] : nil
    }

    init() {}

    /// What is there now, whatever happens to the other.
    init(_ other: MemoryRecords) { (keys, values) = (other.keys, other.values) }

    func apply(_ effects: [Effect]) {
        for effect in effects {
            switch effect {
            case .put(let key, let value): put(key, value)
            case .delete(let key): delete(key)
            case .deleteRange(let from, let to):
                let range = lowerBound(from)..<max(lowerBound(from), lowerBound(to))
                for key in keys[range] { values[key] = nil }
                keys.removeSubrange(range)
            }
        }
    }

    func put(_ key: Bytes, _ value: Bytes) {
        if values.updateValue(value, forKey: key) == nil { keys.insert(key, at: lowerBound(key)) }
    }

    func delete(_ key: Bytes) {
        if values.removeValue(forKey: key) != nil { keys.remove(at: lowerBound(key)) }
    }

    func value(_ key: Bytes) -> Bytes { values[key] ?? [] }

    private func lowerBound(_ key: Bytes) -> Int {
        var low = 0, high = keys.count
        while low < high {
            let middle = (low + high) / 2
            if keys[middle].lexicographicallyPrecedes(key) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

enum Effect: Hashable {
    case put(Bytes, Bytes)
    case delete(Bytes)
    case deleteRange(Bytes, Bytes)
}

/// The effects of one entry, in order.
final class EffectList: EffectSink {
    var effects: [Effect] = []
    func put(key: ByteView, value: ByteView) { effects.append(.put(Bytes(key), Bytes(value))) }
    func delete(key: ByteView) { effects.append(.delete(Bytes(key))) }
    func deleteRange(from: ByteView, to: ByteView) { effects.append(.deleteRange(Bytes(from), Bytes(to))) }
    var notes: Bytes = []
    func note(_ events: ByteView) { notes += events.bytes }
}

/// A reply as a value. Text stands for bytes: each is one scalar.
enum Answer: Hashable, CustomStringConvertible {
    case null, ok
    case integer(Int64)
    case data(String)
    case list([Answer])
    case error(String)

    var description: String {
        switch self {
        case .null: "null"
        case .ok: "ok"
        case .integer(let value): "\(value)"
        case .data(let text): "\"\(text.count > 60 ? String(text.prefix(60)) + "…" : text)\""
        case .list(let items): "\(items)"
        case .error(let message): "error: \(message)"
        }
    }

    static func items(_ texts: [String]) -> Answer { .list(texts.map { .data($0) }) }

    var texts: [String] {
        guard case .list(let items) = self else { return [] }
        return items.map { if case .data(let text) = $0 { text } else { "\($0)" } }
    }
}

func latin(_ text: String) -> Bytes { text.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) } }
func text(_ bytes: some Sequence<UInt8>) -> String {
    var result = String.UnicodeScalarView()
    for byte in bytes { result.append(Unicode.Scalar(byte)) }
    return String(result)
}

/// A shard without log: entries are finished and committed when the test says so.
final class Rig {
    let records = MemoryRecords()
    var limits: ActorLimits
    var runtime: ActorRuntime
    /// Finished and not committed.
    var entries: [(index: LogIndex, effects: [Effect])] = []
    var nextIndex = LogIndex(rawValue: 1)
    var committed = LogIndex.zero
    var now: UInt64 = 1_700_000_000_000
    var counter: UInt64 = 0
    var newest = LogIndex.zero
    let seed: UInt64
    /// Calls are those of this transaction.
    var scope: ScopeEvaluation?
    /// What entries say of events, since somebody last took it.
    var notes: Bytes = []

    init(limits: ActorLimits = .init(), seed: UInt64 = 1) {
        self.limits = limits
        self.seed = seed
        runtime = ActorRuntime(reader: records, buckets: 0..<64, limits: limits, seed: seed)
    }

    var stamp: Timestamp {
        counter += 1
        return Timestamp(rawValue: now << 16 + counter)
    }

    func call(
        _ method: ActorMethod, _ key: String = "", _ arguments: [String] = [], numbers: [Int64] = [], flags: UInt32 = 0,
        database: UInt8 = 0
    ) -> Answer {
        let words = [latin(key)] + arguments.map(latin)
        let flat: Bytes = Bytes(words.joined()) + [0]
        let encoder = ReplyBatchEncoder()
        flat.withUnsafeBytes { base in
            var offset = 0
            let views = words.map { word in
                defer { offset += word.count }
                return ByteView(rebasing: base[offset..<offset + word.count])
            }
            views.withUnsafeBufferPointer { views in
                numbers.withUnsafeBufferPointer { numbers in
                    let call = ActorCallView(
                        method: method, database: database, key: views[0], flags: flags, numbers: NumberList(numbers),
                        arguments: ViewList(UnsafeBufferPointer(rebasing: views[1...])))
                    evaluate(call, encoder)
                }
            }
        }
        return decode(encoder)
    }

    private func evaluate(_ call: ActorCallView, _ encoder: ReplyBatchEncoder) {
        if let scope {
            scope.evaluate(call, id: 7, now: now, writeTimestamp: stamp, replies: encoder)
        } else {
            newest = runtime.evaluate(
                call, id: 7, now: now, writeTimestamp: stamp, entryIndex: nextIndex, replies: encoder)
        }
    }

    /// What WATCH remembers of a key.
    func version(_ key: String, database: UInt8 = 0) -> UInt64 {
        guard case .integer(let version) = call(.version, key, database: database) else { return 0 }
        return UInt64(bitPattern: version)
    }

    /// Whether a watched key is as it was.
    func holds(_ key: String, _ condition: WatchView.Condition, database: UInt8 = 0) throws -> Bool {
        try latin(key).withUnsafeBytes { key in
            let (holds, index) = try runtime.holds(
                WatchView(database: database, key: key, condition: condition), now: now)
            newest = index
            return holds
        }
    }

    private func decode(_ encoder: ReplyBatchEncoder) -> Answer {
        var buffer = ByteBuffer()
        encoder.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &buffer)
        var answers: [Answer] = []
        var decoder = ReplyBatchDecoder()
        try? decoder.decode(buffer.readable) { reply in
            switch reply.kind {
            case .null: answers.append(.null)
            case .ok: answers.append(.ok)
            case .integer: answers.append(.integer(reply.integer))
            case .number: answers.append(.data("\(reply.number)"))
            case .data: answers.append(.data(text(reply.data)))
            case .batch: answers.append(.error("a reply to a batch"))
            case .error: answers.append(.error(reply.error.message))
            case .list:
                var items: [Answer] = []
                var walk = reply.items
                while let item = walk.next() {
                    switch item {
                    case .null: items.append(.null)
                    case .integer(let value): items.append(.integer(value))
                    case .number(let value): items.append(.data("\(value)"))
                    case .data(let view): items.append(.data(text(view)))
                    }
                }
                answers.append(.list(items))
            }
        }
        return answers.count == 1 ? answers[0] : .error("\(answers.count) replies")
    }

    /// Finishes the entry being built; false if there is nothing in it.
    @discardableResult func finish() -> Bool {
        let sink = EffectList()
        guard runtime.finishEntry(sink) else { return false }
        entries.append((nextIndex, sink.effects))
        notes += sink.notes
        nextIndex = LogIndex(rawValue: nextIndex.rawValue + 1)
        return true
    }

    /// Commits up to `count` finished entries.
    func commit(_ count: Int = .max) {
        for entry in entries.prefix(count) {
            records.apply(entry.effects)
            committed = entry.index
        }
        entries.removeFirst(min(count, entries.count))
        runtime.didCommit(committed)
    }

    func settle() {
        finish()
        commit()
    }

    /// Another process takes over with what is committed.
    func restart() {
        entries = []
        nextIndex = LogIndex(rawValue: committed.rawValue + 1)
        runtime = ActorRuntime(reader: records, buckets: 0..<64, limits: limits, seed: seed &+ counter)
        runtime.didCommit(committed)
    }

    func expire(limit: Int = 1000) throws -> Int {
        try runtime.expireDue(now: now, writeTimestamp: stamp, entryIndex: nextIndex, limit: limit)
    }

    func collect(limit: Int = 1000) throws -> Int { try runtime.collectGarbage(entryIndex: nextIndex, limit: limit) }

    /// Every key or field that a whole scan returns.
    func scanAll(
        _ method: ActorMethod, _ key: String = "", count: Int64 = 10, flags: UInt32 = 0, arguments: [String] = [],
        database: UInt8 = 0, between: () -> Void = {}
    ) -> [String] {
        var cursor: Int64 = 0
        var found: [String] = []
        repeat {
            let texts = call(
                method, key, arguments, numbers: [cursor, count], flags: flags, database: database
            ).texts
            guard let first = texts.first, let next = Int64(first) else { return ["\(texts)"] }
            found += texts.dropFirst()
            cursor = next
            between()
        } while cursor != 0
        return found
    }
}

/// `Method` is also a name of the runtime.
typealias ActorMethod = Contracts.Method
