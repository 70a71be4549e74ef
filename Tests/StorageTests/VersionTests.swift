import Base
import Storage
import TestKit
import Testing

/// The past of a shard's records against lists of all their versions, over both stores, with flushes that overlap
/// writes, crashes, replays, range deletions, compactions, holds, and a floor that rises.
struct VersionTests {
    typealias Kind = StoreConformanceTests.Kind

    /// All versions of all records.
    private struct Model {
        var versions: [Bytes: [(timestamp: UInt64, value: Bytes?)]] = [:]
        /// When something was last done to a key, whether it changed it or not.
        var touched: [Bytes: UInt64] = [:]
        var log: [Bytes] = []

        mutating func set(_ key: Bytes, _ value: Bytes?, at timestamp: UInt64) {
            touched[key] = timestamp
            var list = versions[key] ?? []
            if list.last?.timestamp == timestamp { list.removeLast() }
            if value != nil || list.last?.value != nil { list.append((timestamp, value)) }
            versions[key] = list
        }

        func state(_ key: Bytes, asOf time: UInt64) -> (timestamp: UInt64, value: Bytes?)? {
            versions[key]?.last { $0.timestamp <= time }
        }

        func content(_ from: Bytes, _ to: Bytes, asOf time: UInt64) -> [Bytes: Bytes] {
            var found: [Bytes: Bytes] = [:]
            for key in versions.keys where isInside(key, from, to) { found[key] = state(key, asOf: time)?.value }
            return found
        }
    }

    private static func isInside(_ key: Bytes, _ from: Bytes, _ to: Bytes) -> Bool {
        !key.lexicographicallyPrecedes(from) && (to.isEmpty || key.lexicographicallyPrecedes(to))
    }

    /// One shard, its model and its clock.
    private final class Subject {
        let store: any Store
        var shard: ShardStore
        var model = Model()
        var now: UInt64 = 100
        var job: FlushJob?
        var random: SplitMix64
        let context: String

        init(_ store: any Store, seed: UInt64, _ context: String) throws {
            self.store = store
            random = SplitMix64(seed: seed)
            self.context = context
            shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
            shard.buckets = 0..<4
        }

        func key() -> Bytes {
            if random.oneIn(6) { return Bytes((0..<random.next(below: 4)).map { _ in UInt8(random.next(below: 3)) }) }
            let bytes: [UInt8] = [0, 1, 0xfe, 0xff]
            let key: Bytes =
                [0, UInt8(random.next(below: 3)), 0, 0, 0, 1, 0]
                + (0..<random.next(below: 3)).map { _ in bytes[Int(random.next(below: 4))] }
            // A long key has room for a version, and differs from others far behind.
            return random.oneIn(2) ? key : key + Bytes(repeating: 0xab, count: 24) + [bytes[Int(random.next(below: 2))]]
        }

        /// Time since the floor, or now and then any.
        func time() -> UInt64 {
            let floor = shard.historyFloor.rawValue
            return floor + random.next(below: max(now, floor) - floor + 3)
        }

        func write(ranges: Bool) throws {
            var batch = WriteBatch()
            let before = now
            now += 2 + random.next(below: 3)
            var fresh: Set<Bytes> = []
            // A part of a transaction, committed a little before the entry.
            if random.oneIn(4), now - 1 > before {
                batch.stamp(Timestamp(rawValue: now - 1))
                let key = key()
                batch.put(key, [0xcc])
                fresh.insert(key)
                model.set(key, [0xcc], at: now - 1)
            }
            batch.stamp(Timestamp(rawValue: now))
            for _ in 0..<random.next(below: 5) {
                let key = key()
                if fresh.contains(key) { continue }
                switch random.next(below: 20) {
                case 0..<13:
                    let value = random.bytes(Int(random.next(below: 30)))
                    batch.put(key, value)
                    model.set(key, value, at: now)
                case 13 where ranges:
                    let to = self.key()
                    batch.deleteRange(from: key, to: to)
                    for other in model.versions.keys where VersionTests.isInside(other, key, to) && !to.isEmpty {
                        if model.state(other, asOf: now)?.value != nil { model.set(other, nil, at: now) }
                    }
                default:
                    batch.delete(key)
                    model.set(key, nil, at: now)
                }
            }
            model.log.append(batch.effects.bytes)
            try shard.apply(batch.effects, index: LogIndex(rawValue: UInt64(model.log.count)))
        }

        func replay() throws {
            for (position, effects) in model.log.enumerated().dropFirst(Int(shard.appliedIndex.rawValue)) {
                try effects.withUnsafeBytes { try shard.apply($0, index: LogIndex(rawValue: UInt64(position + 1))) }
            }
        }

        func reopen() throws {
            job = nil
            shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
            shard.buckets = 0..<4
            try replay()
        }

        // MARK: Comparing

        func compare() throws {
            let time = time()
            var from = key(), to = random.oneIn(3) ? [] : key()
            if !to.isEmpty, to.lexicographicallyPrecedes(from) { (from, to) = (to, from) }
            var found: [Bytes: Bytes] = [:], order: [Bytes] = []
            try from.withUnsafeBytes { from in
                try to.withUnsafeBytes { to in
                    try shard.scan(from: from, to: to, asOf: Timestamp(rawValue: time)) { key, value in
                        found[key.bytes] = value.bytes
                        order.append(key.bytes)
                        return true
                    }
                }
            }
            #expect(found == model.content(from, to, asOf: time), "\(context) scan as of \(time)")
            #expect(order == order.sorted { $0.lexicographicallyPrecedes($1) }, "\(context)")
            for _ in 0..<3 {
                let key = key()
                let value = try key.withUnsafeBytes { try shard.get($0, asOf: Timestamp(rawValue: time)) }
                #expect(value == model.state(key, asOf: time)?.value, "\(context) key \(key) as of \(time)")
                let latest = try key.withUnsafeBytes { try shard.get($0) }
                #expect(latest == model.state(key, asOf: .max)?.value, "\(context) key \(key)")
                try compareChange(key, since: time)
            }
            try compareChanges(from, to, after: time)
            for _ in 0..<3 { try compareVersions(key(), after: time) }
        }

        private func compareVersions(_ key: Bytes, after: UInt64) throws {
            let upTo = after + random.next(below: 40)
            var found: [UInt64: Bytes?] = [:], count = 0
            try key.withUnsafeBytes {
                try shard.versions(of: $0, after: Timestamp(rawValue: after), upTo: Timestamp(rawValue: upTo)) {
                    switch $0 {
                    case .put(let value, let timestamp): found[timestamp.rawValue] = .some(value.bytes)
                    case .deleted(let old, let timestamp):
                        found[timestamp.rawValue] = .some(nil)
                        let before = model.state(key, asOf: timestamp.rawValue - 1)?.value
                        #expect(old.bytes == before, "\(context) key \(key) deleted at \(timestamp)")
                    }
                    count += 1
                    return true
                }
            }
            var wanted: [UInt64: Bytes?] = [:]
            for version in model.versions[key] ?? [] where version.timestamp > after && version.timestamp <= upTo {
                wanted[version.timestamp] = .some(version.value)
            }
            #expect(found == wanted && count == wanted.count, "\(context) key \(key) from \(after) to \(upTo)")
        }

        private func compareChange(_ key: Bytes, since time: UInt64) throws {
            let isChanged = try key.withUnsafeBytes { try shard.isChanged($0, since: Timestamp(rawValue: time)) }
            let last = model.versions[key]?.last?.timestamp ?? 0
            if last > time { #expect(isChanged, "\(context) key \(key) since \(time)") }
            if (model.touched[key] ?? 0) <= time { #expect(!isChanged, "\(context) key \(key) since \(time)") }
        }

        private func compareChanges(_ from: Bytes, _ to: Bytes, after: UInt64) throws {
            let upTo = after + random.next(below: 40)
            var found: [Bytes: (value: Bytes?, timestamp: UInt64)] = [:]
            try from.withUnsafeBytes { from in
                try to.withUnsafeBytes { to in
                    try shard.changes(
                        from: from, to: to, after: Timestamp(rawValue: after), upTo: Timestamp(rawValue: upTo)
                    ) { change in
                        found[change.key.bytes] = (change.value?.bytes, change.timestamp.rawValue)
                        return true
                    }
                }
            }
            let place = "\(context) changes \(after) to \(upTo)"
            for key in model.versions.keys where VersionTests.isInside(key, from, to) {
                let state = model.state(key, asOf: upTo)
                let isNew = (state?.timestamp ?? 0) > after
                if let state, isNew, state.value != nil || model.state(key, asOf: after)?.value != nil {
                    // What was deleted again in between may have the later time.
                    let time = found[key]?.timestamp ?? 0
                    #expect(
                        time == state.timestamp || state.value == nil && time > state.timestamp,
                        "\(place) key \(key)")
                }
                if let change = found[key] {
                    #expect(change.value == state?.value, "\(place) key \(key)")
                    #expect(change.timestamp > after && change.timestamp <= upTo, "\(place) key \(key)")
                }
            }
        }
    }

    /// What may happen beside writes.
    private struct Plan {
        var ranges = false, floor = false, budget = false
    }

    private func run(_ subject: Subject, _ plan: Plan, steps: Int) throws {
        var holds: [(hold: HistoryHold, time: UInt64)] = []
        for _ in 0..<steps {
            switch subject.random.next(below: 24) {
            case 0..<12: try subject.write(ranges: plan.ranges)
            case 12:
                let budget = plan.budget ? Int(subject.random.next(below: 12)) : .max
                subject.job = subject.job ?? subject.shard.beginFlush(historyBudget: budget)
            case 13: try subject.job?.write()
            case 14, 15:
                guard let job = subject.job else { break }
                try job.write()
                try subject.store.flush()
                subject.shard.finishFlush(job)
                subject.job = nil
            case 16:
                guard let memory = subject.store as? MemoryStore else { break }
                memory.crash(surviving: Int(subject.random.next(below: 3)))
                holds = []
                try subject.reopen()
            case 17 where subject.random.oneIn(3):
                subject.store.reclaim([KeyRange(from: [], to: [0xff])])
            case 18 where plan.floor:
                subject.shard.raiseFloor(to: Timestamp(rawValue: subject.time()))
            case 19 where (plan.floor || plan.budget):
                let time = subject.time()
                if let hold = subject.shard.hold(at: Timestamp(rawValue: time), untilMilliseconds: .max) {
                    holds.append((hold, time))
                }
                if holds.count > 2 { subject.shard.release(holds.removeFirst().hold) }
            default: try subject.compare()
            }
            if !plan.ranges, let oldest = holds.map(\.time).min() {
                #expect(subject.shard.historyFloor.rawValue <= oldest, "\(subject.context)")
            }
            if !plan.ranges, !plan.floor, !plan.budget { #expect(subject.shard.historyFloor == .zero) }
        }
    }

    @Test(arguments: Kind.allCases, 0..<5) func tellsThePast(kind: Kind, round: Int) throws {
        let seed = freshSeed("versions") &+ UInt64(round)
        try withStore(kind) { store in
            let subject = try Subject(store, seed: seed, "\(kind) seed \(seed) round \(round)")
            var plan = Plan()
            plan.ranges = round >= 3
            plan.floor = round == 1 || round == 4
            plan.budget = round == 2 || round == 4
            try run(subject, plan, steps: kind == .memory ? 1500 : 500)
            try subject.job?.write()
            try subject.shard.flush()
            for _ in 0..<30 { try subject.compare() }
        }
    }

    @Test func aCounterLeavesOneRecordOfHistory() throws {
        let store = MemoryStore()
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
        let key: Bytes = [0, 1, 0, 0, 0, 1, 0, 7]
        for index in 1...1000 as ClosedRange<UInt64> {
            var batch = WriteBatch()
            batch.stamp(Timestamp(rawValue: index * 10))
            batch.put(key, [UInt8(index % 256)])
            try shard.apply(batch.effects, index: LogIndex(rawValue: index))
        }
        try shard.flush()
        #expect(store.count == 3)  // The newest, what it superseded, the applied index.
        for index in [1, 2, 500, 999, 1000] as [UInt64] {
            for time in [index * 10, index * 10 + 9] {
                let value = try key.withUnsafeBytes { try shard.get($0, asOf: Timestamp(rawValue: time)) }
                #expect(value == [UInt8(index % 256)])
            }
        }
        #expect(try key.withUnsafeBytes { try shard.get($0, asOf: Timestamp(rawValue: 9)) } == nil)
    }

    @Test func aCrashBetweenHistoryAndDataChangesNothing() throws {
        func key(_ number: UInt8) -> Bytes { [0, 1, 0, 0, 0, 1, 0, number] }
        for surviving in 0..<6 {
            let store = MemoryStore()
            var log: [Bytes] = []
            for time in [10, 20, 30] as [UInt64] {
                var batch = WriteBatch()
                batch.stamp(Timestamp(rawValue: time))
                let value = Bytes(repeating: UInt8(time), count: 20_000)
                for number in 0..<40 as Range<UInt8> { batch.put(key(number), value) }
                log.append(batch.effects.bytes)
            }
            func replay(upTo end: Int) throws -> ShardStore {
                let shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
                for (position, effects) in log.enumerated().prefix(end).dropFirst(Int(shard.appliedIndex.rawValue)) {
                    try effects.withUnsafeBytes { try shard.apply($0, index: LogIndex(rawValue: UInt64(position + 1))) }
                }
                return shard
            }
            try replay(upTo: 1).flush()
            let job = try #require(try replay(upTo: 2).beginFlush())
            try job.write()
            #expect(store.unflushedBatches > 2)
            store.crash(surviving: surviving)
            let shard = try replay(upTo: 3)
            for isFlushed in [false, true] {
                if isFlushed { try shard.flush() }
                for number in 0..<40 as Range<UInt8> {
                    for time in [9, 10, 19, 20, 29, 30] as [UInt64] {
                        let moment = Timestamp(rawValue: time), expected = time < 10 ? nil : UInt8(time / 10 * 10)
                        let value = try key(number).withUnsafeBytes { try shard.get($0, asOf: moment) }
                        #expect(value?.first == expected, "\(surviving) as of \(time)")
                    }
                }
            }
        }
    }

    @Test func belowTheFloorIsAnError() throws {
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: MemoryStore())
        shard.raiseFloor(to: Timestamp(rawValue: 50))
        let old = Timestamp(rawValue: 49)
        let key: Bytes = [1]
        #expect(failure { _ = try key.withUnsafeBytes { try shard.get($0, asOf: old) } } == .tooOld)
        #expect(failure { try scan(shard, asOf: old) } == .tooOld)
        #expect(failure { _ = try key.withUnsafeBytes { try shard.get($0, asOf: Timestamp(rawValue: 50)) } } == nil)
        #expect(shard.hold(at: old, untilMilliseconds: 1) == nil)
    }

    @Test func aHoldEndsByItself() throws {
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: MemoryStore())
        let hold = try #require(shard.hold(at: Timestamp(rawValue: 5), untilMilliseconds: 1000))
        shard.raiseFloor(to: Timestamp(rawValue: 50))
        #expect(shard.historyFloor == Timestamp(rawValue: 5))
        #expect(shard.prolong(hold, untilMilliseconds: 2000))
        shard.expireHolds(nowMilliseconds: 1999)
        #expect(shard.holds == 1)
        shard.expireHolds(nowMilliseconds: 2000)
        #expect(shard.holds == 0 && !shard.prolong(hold, untilMilliseconds: 3000))
        shard.raiseFloor(to: Timestamp(rawValue: 50))
        #expect(shard.historyFloor == Timestamp(rawValue: 50))
    }

    @Test func garbageThatIsCollectedRaisesTheFloorAndKeepsNothing() throws {
        let store = MemoryStore()
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
        let key: Bytes = [0, 1, 0, 0, 0, 2, 0, 7]
        var batch = WriteBatch()
        batch.stamp(Timestamp(rawValue: 10))
        batch.put(key, [1])
        try shard.apply(batch.effects, index: LogIndex(rawValue: 1))
        try shard.flush()
        batch.removeAll()
        batch.stamp(Timestamp(rawValue: 100))
        key.withUnsafeBytes { from in
            (key + [0]).withUnsafeBytes { batch.collectRange(from: from, to: $0, floor: Timestamp(rawValue: 60)) }
        }
        try shard.apply(batch.effects, index: LogIndex(rawValue: 2))
        #expect(shard.historyFloor == Timestamp(rawValue: 60))
        try shard.flush()
        #expect(store.count == 1)
        #expect(try ShardStore(shard: ShardID(rawValue: 1), store: store).historyFloor == Timestamp(rawValue: 60))
    }

    @Test(arguments: Kind.allCases) func theHistoryMovesWithASnapshot(kind: Kind) throws {
        let key: Bytes = [0, 1, 0, 0, 0, 1, 0, 7]
        try withNode(kind) { source in
            for index in 1...9 as ClosedRange<UInt64> {
                var batch = WriteBatch()
                batch.stamp(Timestamp(rawValue: index * 10))
                batch.put(key, [UInt8(index)])
                try source.shard.apply(batch.effects, index: LogIndex(rawValue: index))
                if index == 5 { source.shard.raiseFloor(to: Timestamp(rawValue: 20)) }
                if index % 3 == 0 { try source.shard.flush() }
            }
            let manifest = try source.export()
            #expect(manifest.floor == Timestamp(rawValue: 20) && manifest.newest == Timestamp(rawValue: 90))
            try withNode(kind) { target in
                try target.receive(manifest, from: source)
                try target.install(manifest)
                let again = try ShardStore(shard: target.shard.shard, store: target.store)
                for shard in [target.shard, again] {
                    #expect(shard.historyFloor == manifest.floor && shard.newestTimestamp == manifest.newest)
                    for time in 20...95 as ClosedRange<UInt64> {
                        let value = try key.withUnsafeBytes { try shard.get($0, asOf: Timestamp(rawValue: time)) }
                        #expect(value == [UInt8(time / 10)], "as of \(time)")
                    }
                }
            }
        }
    }

    // MARK: Damage

    @Test func damagedRecordsAreErrors() throws {
        let seed = freshSeed("versions damage")
        var random = SplitMix64(seed: seed)
        let key: Bytes = [0, 1, 0, 0, 0, 1, 0, 7]
        for round in 0..<300 {
            let store = MemoryStore()
            let shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
            for index in 1...4 as ClosedRange<UInt64> {
                var batch = WriteBatch()
                batch.stamp(Timestamp(rawValue: index * 10))
                batch.put(key, random.bytes(3))
                try shard.apply(batch.effects, index: LogIndex(rawValue: index))
            }
            try shard.flush()
            // Any record but the applied index becomes something else.
            var records: [(Bytes, Bytes)] = []
            let iterator = try store.scan(from: [], to: [0xff])
            while iterator.isValid {
                records.append((iterator.key.bytes, iterator.value.bytes))
                iterator.next()
            }
            var (name, value) = records[Int(random.next(below: UInt64(records.count)))]
            switch round % 3 {
            case 0: value = random.bytes(Int(random.next(below: 24)))
            case 1: value = Bytes(value.prefix(Int(random.next(below: UInt64(value.count)))))
            default: value[Int(random.next(below: UInt64(value.count)))] ^= 1 << UInt8(random.next(below: 8))
            }
            var batch = WriteBatch()
            if random.oneIn(4), name.count > 9 {
                batch.delete(name)
                name = Bytes(name.prefix(Int(random.next(below: UInt64(name.count)))))
            }
            batch.put(name, value)
            try store.write(batch)
            read(shard, key)
        }
    }

    /// Whatever it finds, it comes back.
    private func read(_ shard: ShardStore, _ key: Bytes) {
        key.withUnsafeBytes { key in
            for time in [0, 5, 15, 25, 35, 45, UInt64.max] {
                let time = Timestamp(rawValue: time)
                _ = try? shard.get(key)
                _ = try? shard.get(key, asOf: time)
                _ = try? shard.isChanged(key, since: time)
                let nothing = ByteView(start: nil, count: 0)
                try? shard.scan(from: nothing, to: nothing) { _, _ in true }
                try? shard.scan(from: nothing, to: nothing, asOf: time) { _, _ in true }
                try? shard.changes(from: nothing, to: nothing, after: .zero, upTo: time) { _ in true }
                try? shard.versions(of: key, after: .zero, upTo: time) { _ in true }
            }
        }
    }

    @Test func aShortValueIsCorruption() throws {
        let store = MemoryStore()
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
        var batch = WriteBatch()
        batch.put([0, 1, 2], [1, 2, 3, 4, 5, 6, 7])
        try store.write(batch)
        let key: Bytes = [0, 1, 2]
        #expect(failure { _ = try key.withUnsafeBytes { try shard.get($0) } } == .corruption)
        #expect(failure { _ = try key.withUnsafeBytes { try shard.get($0, asOf: .zero) } } == .corruption)
        #expect(failure { _ = try key.withUnsafeBytes { try shard.isChanged($0, since: .zero) } } == .corruption)
        #expect(failure { try scan(shard, asOf: nil) } == .corruption)
        #expect(failure { try scan(shard, asOf: .zero) } == .corruption)
    }

    private func scan(_ shard: ShardStore, asOf time: Timestamp?) throws {
        let nothing = ByteView(start: nil, count: 0)
        guard let time else { return try shard.scan(from: nothing, to: nothing) { _, _ in true } }
        try shard.scan(from: nothing, to: nothing, asOf: time) { _, _ in true }
    }

    private func failure(_ body: () throws -> Void) -> StoreError.Kind? {
        do { try body() } catch { return (error as? StoreError)?.kind }
        return nil
    }
}
