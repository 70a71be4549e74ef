import Base
import Storage
import TestKit
import Testing

/// A shard's store against a dictionary, over both stores, with flushes that overlap writes and with crashes.
struct ShardStoreTests {
    typealias Kind = StoreConformanceTests.Kind

    /// What the shard must hold, and the log to replay after a crash.
    private struct Model {
        var records: [Bytes: Bytes] = [:]
        var log: [Bytes] = []

        mutating func apply(_ effects: Bytes) throws {
            log.append(effects)
            try effects.withUnsafeBytes { view in
                var reader = try EffectReader(view)
                while let effect = try reader.next() {
                    switch effect {
                    case .put(let key, let value): records[key.bytes] = value.bytes
                    case .delete(let key): records[key.bytes] = nil
                    case .timestamp, .note: break
                    case .deleteRange(let from, let to), .collectRange(let from, let to, _):
                        for key in records.keys where !key.lexicographicallyPrecedes(from.bytes) {
                            if key.lexicographicallyPrecedes(to.bytes) { records[key] = nil }
                        }
                    }
                }
            }
        }
    }

    private func randomKey(_ random: inout SplitMix64) -> Bytes {
        // Few and short, so that keys meet; some are prefixes of others.
        Bytes((0..<random.next(below: 4)).map { _ in UInt8(random.next(below: 6)) })
    }

    private func randomEffects(_ random: inout SplitMix64) -> Bytes {
        var batch = WriteBatch()
        for _ in 0..<random.next(below: 5) {
            switch random.next(below: 10) {
            case 0..<6: batch.put(randomKey(&random), random.bytes(Int(random.next(below: 40))))
            case 6..<8: batch.delete(randomKey(&random))
            case 8: random.bytes(Int(random.next(below: 9))).withUnsafeBytes { batch.note($0) }
            default: batch.deleteRange(from: randomKey(&random), to: randomKey(&random))
            }
        }
        return batch.effects.bytes
    }

    @Test(arguments: Kind.allCases, 0..<4) func agreesWithADictionary(kind: Kind, round: UInt64) throws {
        let seed = freshSeed("shard store")
        var random = SplitMix64(seed: seed)
        try withStore(kind) { store in
            // Two shards share the store; the second must not notice the first.
            var shards = [
                try ShardStore(shard: ShardID(rawValue: 1), store: store),
                try ShardStore(shard: ShardID(rawValue: 2), store: store),
            ]
            // Keys of the second shard begin with 0x80, those of the first do not.
            let prefixes: [Bytes] = [[], [0x80]]
            var models = [Model(), Model()]
            var jobs: [FlushJob?] = [nil, nil]
            for step in 0..<(kind == .memory ? 1500 : 400) {
                let turn = Int(random.next(below: 2))
                switch random.next(below: 20) {
                case 0..<12:
                    let effects = try prefixed(randomEffects(&random), prefixes[turn])
                    try models[turn].apply(effects)
                    let index = LogIndex(rawValue: UInt64(models[turn].log.count))
                    try effects.withUnsafeBytes { try shards[turn].apply($0, index: index) }
                case 12:
                    jobs[turn] = jobs[turn] ?? shards[turn].beginFlush()
                case 13:
                    try jobs[turn]?.write()
                case 14:
                    if let job = jobs[turn] {
                        try job.write()
                        try store.flush()
                        shards[turn].finishFlush(job)
                        jobs[turn] = nil
                    }
                case 15 where kind == .memory:
                    let memory = store as! MemoryStore
                    memory.crash(surviving: Int(random.next(below: 3)))
                    jobs = [nil, nil]
                    for number in 0..<2 {
                        let flushed = shards[number].flushedIndex
                        shards[number] = try ShardStore(shard: ShardID(rawValue: UInt32(number + 1)), store: store)
                        #expect(shards[number].appliedIndex >= flushed, "seed \(seed) step \(step)")
                        try replay(models[number].log, into: shards[number])
                    }
                case 16:
                    try shards[turn].discardOverlay()
                    jobs[turn] = nil
                    try replay(models[turn].log, into: shards[turn])
                default:
                    var limits = (prefixes[turn] + randomKey(&random), prefixes[turn] + randomKey(&random))
                    if limits.1.isEmpty { limits.1 = [0x80] }
                    try compare(shards[turn], models[turn], limits, "\(kind) seed \(seed) step \(step)")
                    let key = prefixes[turn] + randomKey(&random)
                    let found = try key.withUnsafeBytes { try shards[turn].get($0) }
                    #expect(found == models[turn].records[key], "\(kind) seed \(seed) step \(step)")
                }
            }
            for turn in 0..<2 {
                let all: (Bytes, Bytes) = turn == 0 ? ([], [0x80]) : ([0x80], [])
                try compare(shards[turn], models[turn], all, "\(kind) seed \(seed) end")
                try shards[turn].flush()
                try compare(shards[turn], models[turn], all, "\(kind) seed \(seed) flushed")
                #expect(shards[turn].overlayCount == 0)
            }
        }
    }

    private func prefixed(_ effects: Bytes, _ prefix: Bytes) throws -> Bytes {
        var batch = WriteBatch()
        try effects.withUnsafeBytes { view in
            var reader = try EffectReader(view)
            while let effect = try reader.next() {
                switch effect {
                case .put(let key, let value): batch.put(prefix + key.bytes, value.bytes)
                case .delete(let key): batch.delete(prefix + key.bytes)
                case .timestamp(let timestamp): batch.stamp(timestamp)
                case .note(let bytes): batch.note(bytes)
                case .deleteRange(let from, let to), .collectRange(let from, let to, _):
                    batch.deleteRange(from: prefix + from.bytes, to: prefix + to.bytes)
                }
            }
        }
        return batch.effects.bytes
    }

    private func replay(_ log: [Bytes], into shard: ShardStore) throws {
        for (position, effects) in log.enumerated().dropFirst(Int(shard.appliedIndex.rawValue)) {
            try effects.withUnsafeBytes { try shard.apply($0, index: LogIndex(rawValue: UInt64(position + 1))) }
        }
    }

    private func compare(_ shard: ShardStore, _ model: Model, _ limits: (Bytes, Bytes), _ context: String) throws {
        var found: [Bytes] = []
        try limits.0.withUnsafeBytes { from in
            try limits.1.withUnsafeBytes { to in
                try shard.scan(from: from, to: to) { key, value in
                    found.append(key.bytes)
                    #expect(model.records[key.bytes] == value.bytes, "\(context) key \(key.bytes)")
                    return true
                }
            }
        }
        let expected = model.records.keys.filter { key in
            !key.lexicographicallyPrecedes(limits.0) && (limits.1.isEmpty || key.lexicographicallyPrecedes(limits.1))
        }
        #expect(found == expected.sorted { $0.lexicographicallyPrecedes($1) }, "\(context)")
        // Going back by hints meets every record.
        var to = limits.1, back: [Bytes] = []
        while true {
            let hint = try to.withUnsafeBytes { to in
                try limits.0.withUnsafeBytes { try shard.key(2, before: to, from: $0) }
            }
            let start = hint ?? limits.0
            try start.withUnsafeBytes { start in
                try to.withUnsafeBytes { to in
                    var piece: [Bytes] = []
                    try shard.scan(from: start, to: to) { key, _ in
                        piece.append(key.bytes)
                        return true
                    }
                    back += piece.reversed()
                }
            }
            guard let hint, !hint.isEmpty else { break }
            #expect(!hint.lexicographicallyPrecedes(limits.0) && (to.isEmpty || hint.lexicographicallyPrecedes(to)))
            to = hint
        }
        #expect(back == found.reversed(), "\(context) backward")
    }

    @Test func refusesASkippedEntry() throws {
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: MemoryStore())
        #expect(throws: StoreError.self) {
            try [UInt8]([1]).withUnsafeBytes { try shard.apply($0, index: LogIndex(rawValue: 2)) }
        }
        #expect(throws: StoreError.self) {
            try [UInt8]([9]).withUnsafeBytes { try shard.apply($0, index: LogIndex(rawValue: 1)) }
        }
    }

    @Test func aFailedFlushCanBeRepeated() throws {
        let store = MemoryStore()
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
        var batch = WriteBatch()
        batch.put([1], [2])
        try shard.apply(batch.effects, index: LogIndex(rawValue: 1))
        store.failNext(with: StoreError(.full, "asked to"))
        #expect(throws: StoreError.self) { try shard.flush() }
        #expect(shard.flushedIndex == .zero && shard.isFlushing)
        try shard.flush()
        #expect(shard.flushedIndex == LogIndex(rawValue: 1))
        store.crash()
        let again = try ShardStore(shard: ShardID(rawValue: 1), store: store)
        #expect(try [UInt8]([1]).withUnsafeBytes { try again.get($0) } == [2])
    }

    @Test func scansStayFastWhileWritesAlternate() throws {
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: MemoryStore())
        var random = SplitMix64(seed: 1)
        var keys: Set<Bytes> = []
        for index in 1...5000 as ClosedRange<UInt64> {
            let key = random.bytes(6)
            keys.insert(key)
            var batch = WriteBatch()
            batch.put(key, [])
            try shard.apply(batch.effects, index: LogIndex(rawValue: index))
            var found: Bytes?
            try key.withUnsafeBytes { from in
                try shard.scan(from: from, to: ByteView(start: nil, count: 0)) { key, _ in
                    found = key.bytes
                    return false
                }
            }
            #expect(found == key)
        }
        #expect(shard.overlayCount == keys.count)
    }

    /// Lists of so many keys are sorted when they are applied, with what came before; what comes after lies between.
    @Test func bulkLoadsKeepTheOrder() throws {
        let seed = freshSeed("bulk loads")
        var random = SplitMix64(seed: seed)
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: MemoryStore())
        var model = Model()
        for count in [30, 5000, 3, 12_000, 700, 4096, 1] {
            var batch = WriteBatch()
            for _ in 0..<count { batch.put(random.bytes(1 + Int(random.next(below: 3))), random.bytes(4)) }
            if count == 12_000 { batch.deleteRange(from: [40], to: [90]) }
            let effects = batch.effects.bytes
            try model.apply(effects)
            let index = LogIndex(rawValue: UInt64(model.log.count))
            try effects.withUnsafeBytes { try shard.apply($0, index: index) }
            var found: [Bytes] = []
            try shard.scan(from: ByteView(start: nil, count: 0), to: ByteView(start: nil, count: 0)) { key, value in
                found.append(key.bytes)
                #expect(model.records[key.bytes] == value.bytes)
                return true
            }
            #expect(found == model.records.keys.sorted { $0.lexicographicallyPrecedes($1) })
        }
    }
}
