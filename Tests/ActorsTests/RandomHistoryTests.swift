import Actors
import Base
import Contracts
import DataModel
import Testing

/// Random commands against a plain model, while entries commit late, activations are put out, time passes, leadership
/// is lost and processes change.
@Suite("Random histories")
struct RandomHistoryTests {
    struct Value: Hashable {
        var text: String?
        var fields: [String: String] = [:]
        var expiresAt: UInt64 = 0
    }

    struct Model {
        var databases = [[String: Value]](repeating: [:], count: 3)

        func value(_ database: Int, _ key: String, _ now: UInt64) -> Value? {
            guard let value = databases[database][key], value.expiresAt == 0 || now < value.expiresAt else {
                return nil
            }
            return value
        }
    }

    final class Run {
        let rig: Rig
        var random: SplitMix64
        var model = Model()
        /// The model after each finished entry that is not committed, and after the last committed.
        var snapshots: [Model] = []
        var stable = Model()
        let seed: UInt64
        var step = 0

        init(seed: UInt64) {
            var limits = ActorLimits()
            limits.completeFields = 6
            limits.cachedFields = 10
            limits.valueBytes = 400_000
            limits.memoryBytes = 20_000
            limits.idleMilliseconds = 50
            self.seed = seed
            rig = Rig(limits: limits, seed: seed)
            random = SplitMix64(seed: seed)
        }

        func pick(_ bound: Int) -> Int { Int(random.next(below: UInt64(bound))) }
        var key: String { "key\(pick(12))" }
        var field: String { "f\(pick(20))" }
        var database: Int { pick(10) < 7 ? 0 : pick(3) }
        var longText: String {
            String(repeating: Character(Unicode.Scalar(UInt8(97 + pick(26)))), count: 64_000 + pick(40_000))
        }
        var word: String { pick(50) == 0 ? longText : "w\(pick(1000))" }

        func expect(_ got: Answer, _ wanted: Answer, _ what: @autoclosure () -> String) {
            #expect(got == wanted, "seed \(seed) step \(step): \(what())")
        }
    }

    @Test("state is what a plain model says, and survives", arguments: 1...16 as ClosedRange<UInt64>)
    func histories(_ seed: UInt64) throws {
        let run = Run(seed: seed)
        for step in 0..<500 {
            run.step = step
            switch run.pick(20) {
            case 0...14: run.command()
            case 15: run.finish()
            case 16: run.commit(1 + run.pick(3))
            case 17:
                run.rig.now += UInt64(run.pick(60))
                run.rig.runtime.sweep(now: run.rig.now, limit: 64)
            case 18: run.inspect()
            default: try run.rare()
            }
        }
        try run.close()
    }
}

extension RandomHistoryTests.Run {
    func finish() { if rig.finish() { snapshots.append(model) } }

    func commit(_ count: Int) {
        let count = min(count, snapshots.count)
        if count > 0 { stable = snapshots[count - 1] }
        snapshots.removeFirst(count)
        rig.commit(count)
    }

    func rare() throws {
        switch pick(8) {
        case 0:  // Leadership is lost: what is not committed is gone.
            rig.runtime.reset(committed: rig.committed, floor: rig.stamp)
            rig.entries = []
            rig.nextIndex = LogIndex(rawValue: rig.committed.rawValue + 1)
            model = stable
            snapshots = []
        case 1:
            finish()
            commit(.max)
            rig.restart()
        case 2, 3:
            _ = try rig.expire(limit: 1 + pick(10))
        case 4:
            _ = try rig.collect(limit: 1 + pick(5))
        case 5 where pick(3) == 0:
            expect(rig.call(.flushAll), .ok, "flushall")
            model = .init()
        case 6 where pick(2) == 0:
            let database = database
            expect(rig.call(.flushDatabase, database: UInt8(database)), .ok, "flushdb")
            model.databases[database] = [:]
        default:
            scan()
        }
    }

    func command() {
        let database = database, key = key
        let old = model.value(database, key, rig.now)
        switch pick(10) {
        case 0...3: stringCommand(database, key, old)
        case 4...6: hashCommand(database, key, old)
        case 7, 8: keyCommand(database, key, old)
        default: moveCommand(database, key, old)
        }
    }

    private func stringCommand(_ database: Int, _ key: String, _ old: RandomHistoryTests.Value?) {
        let base = UInt8(database)
        let isHash = old != nil && old?.text == nil
        let wrong = Answer.error("Operation against a key holding the wrong kind of value")
        var new = old ?? .init()
        let current = old?.text ?? ""
        switch pick(7) {
        case 0, 1:
            let value = word
            let time = pick(3) == 0 ? Int64(1 + pick(100)) : 0
            let got = rig.call(
                .set, key, [value], numbers: time > 0 ? [time] : [],
                flags: time > 0 ? SetFlags.relativeTime.rawValue : 0, database: base)
            expect(got, .ok, "set \(key)")
            model.databases[database][key] = .init(text: value, expiresAt: time > 0 ? rig.now + UInt64(time) : 0)
        case 2:
            let value = word
            guard current.utf8.count + value.utf8.count <= 400_000 else { return }
            let got = rig.call(.append, key, [value], database: base)
            if isHash { return expect(got, wrong, "append \(key)") }
            new.text = current + value
            model.databases[database][key] = new
            expect(got, .integer(Int64(current.utf8.count + value.utf8.count)), "append \(key)")
        case 3:
            let offset = pick(5) == 0 ? pick(200_000) : pick(20)
            let got = rig.call(.setRange, key, ["XYZ"], numbers: [Int64(offset)], database: base)
            if isHash { return expect(got, wrong, "setrange \(key)") }
            var bytes = Bytes(latin(current))
            if bytes.count < offset + 3 { bytes += Bytes(repeating: 0, count: offset + 3 - bytes.count) }
            bytes.replaceSubrange(offset..<offset + 3, with: latin("XYZ"))
            new.text = text(bytes)
            model.databases[database][key] = new
            expect(got, .integer(Int64(bytes.count)), "setrange \(key) \(offset)")
        case 4:
            let got = rig.call(.incrementBy, key, numbers: [5], database: base)
            if isHash { return expect(got, wrong, "incr \(key)") }
            guard let number = old == nil ? 0 : Int64(current) else {
                return expect(got, .error("value is not an integer or out of range"), "incr \(key)")
            }
            new.text = String(number + 5)
            model.databases[database][key] = new
            expect(got, .integer(number + 5), "incr \(key)")
        case 5:
            let got = rig.call(.getDelete, key, database: base)
            if isHash { return expect(got, wrong, "getdel \(key)") }
            model.databases[database][key] = nil
            expect(got, old == nil ? .null : .data(current), "getdel \(key)")
        default:
            let got = rig.call(.get, key, database: base)
            expect(got, isHash ? wrong : old == nil ? .null : .data(current), "get \(key)")
        }
    }

    private func hashCommand(_ database: Int, _ key: String, _ old: RandomHistoryTests.Value?) {
        let base = UInt8(database)
        let wrong = Answer.error("Operation against a key holding the wrong kind of value")
        let isString = old?.text != nil
        var new = old ?? .init()
        let name = field
        switch pick(6) {
        case 0, 1, 2:
            var arguments: [String] = []
            var added: Set<String> = []
            for _ in 0...pick(6) {
                let name = field, value = "v\(pick(1000))"
                arguments += [name, value]
                if new.fields[name] == nil { added.insert(name) }
                new.fields[name] = value
            }
            let got = rig.call(.hashSet, key, arguments, database: base)
            if isString { return expect(got, wrong, "hset \(key)") }
            model.databases[database][key] = new
            expect(got, .integer(Int64(added.count)), "hset \(key) \(arguments)")
        case 3:
            let names = [name, field, field]
            let got = rig.call(.hashDelete, key, names, database: base)
            if isString { return expect(got, wrong, "hdel \(key)") }
            var removed: Int64 = 0
            for name in names where new.fields.removeValue(forKey: name) != nil { removed += 1 }
            if old != nil { model.databases[database][key] = new.fields.isEmpty ? nil : new }
            expect(got, .integer(removed), "hdel \(key) \(names)")
        case 4:
            let got = rig.call(.hashGet, key, [name], database: base)
            expect(got, isString ? wrong : old?.fields[name].map { .data($0) } ?? .null, "hget \(key) \(name)")
        default:
            let got = rig.call(.hashLength, key, database: base)
            expect(got, isString ? wrong : .integer(Int64(old?.fields.count ?? 0)), "hlen \(key)")
        }
    }

    private func keyCommand(_ database: Int, _ key: String, _ old: RandomHistoryTests.Value?) {
        let base = UInt8(database)
        switch pick(5) {
        case 0:
            expect(rig.call(.delete, key, database: base), .integer(old == nil ? 0 : 1), "del \(key)")
            model.databases[database][key] = nil
        case 1:
            let time = Int64(pick(80)) - 5
            let got = rig.call(
                .expire, key, numbers: [time], flags: ExpireFlags.relativeTime.rawValue, database: base)
            expect(got, .integer(old == nil ? 0 : 1), "expire \(key) \(time)")
            if old != nil {
                model.databases[database][key]?.expiresAt = UInt64(Int64(rig.now) + time)
                if time <= 0 { model.databases[database][key] = nil }
            }
        case 2:
            expect(
                rig.call(.persist, key, database: base), .integer(old.map { $0.expiresAt != 0 } ?? false ? 1 : 0),
                "persist \(key)")
            if old != nil { model.databases[database][key]?.expiresAt = 0 }
        case 3:
            let left: Int64 = old.map { $0.expiresAt == 0 ? -1 : Int64($0.expiresAt - rig.now) } ?? -2
            expect(rig.call(.timeToLive, key, database: base), .integer(left), "pttl \(key)")
        default:
            expect(rig.call(.exists, key, database: base), .integer(old == nil ? 0 : 1), "exists \(key)")
        }
    }

    private func moveCommand(_ database: Int, _ key: String, _ old: RandomHistoryTests.Value?) {
        let base = UInt8(database)
        // Half of the time a key of the same bucket.
        let other = pick(2) == 0 ? self.key : "{\(key)}\(pick(3))"
        switch pick(3) {
        case 0:
            let got = rig.call(.rename, key, [other], database: base)
            guard let old else { return expect(got, .error("no such key"), "rename \(key) \(other)") }
            model.databases[database][key] = nil
            model.databases[database][other] = old
            expect(got, .ok, "rename \(key) \(other)")
        case 1:
            let got = rig.call(.copy, key, [other], numbers: [-1], flags: 1, database: base)
            if key == other {
                return expect(got, .error("source and destination objects are the same"), "copy \(key)")
            }
            if let old { model.databases[database][other] = old }
            expect(got, .integer(old == nil ? 0 : 1), "copy \(key) \(other)")
        default:
            let target = (database + 1) % 3
            let isFree = model.value(target, key, rig.now) == nil
            let got = rig.call(.move, key, numbers: [Int64(target)], database: base)
            expect(got, .integer(old != nil && isFree ? 1 : 0), "move \(key) \(target)")
            if let old, isFree {
                model.databases[database][key] = nil
                model.databases[target][key] = old
            }
        }
    }

    func scan() {
        let database = database
        let keys = model.databases[database].keys.filter { model.value(database, $0, rig.now) != nil }
        let found = rig.scanAll(.scan, count: Int64(1 + pick(5)), database: UInt8(database)) {
            if pick(3) == 0 { finish() }
            if pick(3) == 0 { commit(1) }
        }
        #expect(found.sorted() == keys.sorted(), "seed \(seed) step \(step): scan")
        let all = rig.call(.keys, "", ["*"], database: UInt8(database)).texts
        #expect(all.sorted() == keys.sorted(), "seed \(seed) step \(step): keys")
        if case .data(let key) = rig.call(.randomKey, database: UInt8(database)) {
            #expect(keys.contains(key), "seed \(seed) step \(step): randomkey")
        } else {
            #expect(keys.isEmpty, "seed \(seed) step \(step): randomkey")
        }
    }

    /// Compares everything about every key.
    func inspect() {
        for (number, database) in model.databases.enumerated() {
            for key in database.keys {
                let base = UInt8(number)
                guard let value = model.value(number, key, rig.now) else {
                    expect(rig.call(.exists, key, database: base), .integer(0), "expired \(key)")
                    continue
                }
                if let string = value.text {
                    expect(rig.call(.get, key, database: base), .data(string), "get \(key)")
                    continue
                }
                let all = rig.call(.hashGetAll, key, database: base).texts
                var fields: [String: String] = [:]
                for position in stride(from: 0, to: all.count - 1, by: 2) { fields[all[position]] = all[position + 1] }
                #expect(fields == value.fields, "seed \(seed) step \(step): hgetall \(key)")
                #expect(all.count == value.fields.count * 2, "seed \(seed) step \(step): hgetall \(key)")
                let scanned = rig.scanAll(.hashScan, key, count: 3, database: base)
                #expect(scanned.count == all.count, "seed \(seed) step \(step): hscan \(key)")
            }
        }
    }

    /// Everything is committed, another process sees the same, and in the end nothing is left that no key needs.
    func close() throws {
        inspect()
        finish()
        commit(.max)
        inspect()
        rig.restart()
        inspect()
        scan()
        rig.now += 1000
        while try rig.expire() > 0 { rig.settle() }
        for database in 0..<3 {
            let visible = model.databases[database].keys.filter { model.value(database, $0, rig.now) != nil }
            expect(
                rig.call(.databaseSize, database: UInt8(database)), .integer(Int64(visible.count)), "dbsize \(database)"
            )
        }
        while try rig.collect() > 0 { rig.settle() }
        rig.settle()
        checkRecords()
        expect(rig.call(.flushAll), .ok, "flushall")
        rig.settle()
        let left = rig.records.keys.filter { key in
            if case .counter? = key.withUnsafeBytes({ NativeKey(parsing: $0) }) { return false }
            return true
        }
        #expect(left.isEmpty, "seed \(seed): flushall left records")
    }

    private func checkRecords() {
        var generations: Set<UInt64> = [], expiries: [String: UInt64] = [:], indexed: [String: UInt64] = [:]
        var counts: [String: Int64] = [:], counters: [String: Int64] = [:]
        for key in rig.records.keys {
            let value = rig.records.value(key)
            key.withUnsafeBytes { view in
                switch NativeKey(parsing: view) {
                case .record(let bucket, let database, _, let name)?:
                    guard let record = value.withUnsafeBytes({ KeyspaceRecord(decoding: $0) }) else { return }
                    generations.insert(record.generation.rawValue)
                    counts["\(bucket) \(database)", default: 0] += 1
                    if record.expiresAtMilliseconds != 0 {
                        expiries["\(database) \(text(name))"] = record.expiresAtMilliseconds
                    }
                case .expiry(_, let time, let database, let name)?: indexed["\(database) \(text(name))"] = time
                case .hashField(_, let generation, _, _)?, .stringChunk(_, let generation, _)?:
                    #expect(generations.contains(generation.rawValue), "seed \(seed): a lost sub-record")
                case .garbage?: Issue.record("seed \(seed): garbage is left")
                case .counter(let bucket, let database)?:
                    let count = value.withUnsafeBytes { $0.loadUnaligned(as: Int64.self) }
                    if count != 0 { counters["\(bucket) \(database)"] = count }
                case nil: Issue.record("seed \(seed): a strange key")
                }
            }
        }
        #expect(expiries == indexed, "seed \(seed): expiry index")
        #expect(counts == counters, "seed \(seed): counters")
    }
}
