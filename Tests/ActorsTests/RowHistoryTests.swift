import Actors
import Base
import Contracts
import DataModel
import Testing

/// Random calls for records against a plain model: with entries not committed, leaders that change, time that passes,
/// and transactions that are open, taken back and committed.
@Suite("Random histories of records")
struct RowHistoryTests {
    private struct Stored: Equatable {
        var record: String, expiresAt: UInt64
    }

    private final class Run {
        let rows: RowRig, rig: Rig
        var random: SplitMix64
        var model: [CollectionID: [Int64: Stored]] = [:]
        /// What a leader who begins now finds.
        var committed: [CollectionID: [Int64: Stored]] = [:]
        /// The model with each finished entry.
        var finished: [[CollectionID: [Int64: Stored]]] = []

        init(seed: UInt64) {
            var limits = ActorLimits()
            limits.memoryBytes = 8_000  // So that much is read from the store.
            rig = Rig(limits: limits, seed: seed)
            rows = RowRig(rig)
            random = SplitMix64(seed: seed)
            rows.define([RowRig.descriptor(), RowRig.descriptor(RowRig.orders, "orders")])
            rig.settle()
        }

        func pick(_ limit: Int) -> Int { Int(random.next(below: UInt64(limit))) }

        func visible(_ collection: CollectionID) -> [Int64: Stored] {
            (model[collection] ?? [:]).filter { $0.value.expiresAt == 0 || rig.now < $0.value.expiresAt }
        }

        func step() {
            let collection = pick(3) == 0 ? RowRig.orders : RowRig.users
            switch pick(8) {
            case 0, 1, 2: put(collection)
            case 3: delete(collection)
            case 4: get(collection)
            case 5: expire(collection)
            case _: scan(collection)
            }
        }

        private func numbers() -> [Int64] { (0...pick(4)).map { _ in Int64(pick(24)) } }

        private func put(_ collection: CollectionID) {
            let numbers = numbers(), records = numbers.map { "\($0)-\(pick(1000))" }
            let flags = [RowPutFlags(), .insert, .update, [.insert, .whole], [.update, .whole]][pick(5)]
            var arguments: [String] = [], wanted: [Answer] = [], now = visible(collection)
            for (number, record) in zip(numbers, records) {
                arguments += arguments.isEmpty ? [record] : [RowRig.key(number, of: collection), record]
                let isThere = now[number] != nil
                guard isThere ? !flags.contains(.insert) : !flags.contains(.update) else {
                    wanted.append(.integer(0))
                    continue
                }
                wanted.append(.integer(isThere ? 2 : 1))
                now[number] = Stored(record: record, expiresAt: now[number]?.expiresAt ?? 0)
            }
            if flags.contains(.whole), wanted.contains(.integer(0)) {
                wanted = numbers.map { _ in .integer(0) }
                now = visible(collection)
            }
            let answer = rows.call(
                .rowPut, RowRig.key(numbers[0], of: collection), arguments, flags: flags.rawValue)
            #expect(answer == .list(wanted))
            model[collection] = now
        }

        private func delete(_ collection: CollectionID) {
            let numbers = numbers(), keys = numbers.map { RowRig.key($0, of: collection) }
            // All are looked up first: one that comes twice is there both times, or gone the second.
            var now = visible(collection)
            let wanted = numbers.map { Answer.integer(now.removeValue(forKey: $0) == nil ? 0 : 1) }
            #expect(rows.call(.rowDelete, keys[0], Array(keys[1...])) == .list(wanted))
            model[collection] = now
        }

        private func get(_ collection: CollectionID) {
            let numbers = numbers(), keys = numbers.map { RowRig.key($0, of: collection) }, now = visible(collection)
            let wanted = numbers.map { now[$0].map { Answer.data($0.record) } ?? .null }
            #expect(rows.call(.rowGet, keys[0], Array(keys[1...])) == .list(wanted))
        }

        private func expire(_ collection: CollectionID) {
            let number = Int64(pick(24)), key = RowRig.key(number, of: collection)
            var now = visible(collection)
            let time = UInt64(1 + pick(60))
            #expect(
                rows.call(.expire, key, numbers: [Int64(time)], flags: ExpireFlags.relativeTime.rawValue)
                    == .integer(now[number] == nil ? 0 : 1))
            now[number]?.expiresAt = rig.now + time
            model[collection] = now
        }

        func scan(_ collection: CollectionID) {
            let from = pick(3) == 0 ? Int64(pick(24)) : nil, to = pick(3) == 0 ? Int64(pick(24)) : nil
            let found = rows.scan(
                collection, from: from.map(RowRig.primaryKey) ?? "", to: to.map(RowRig.primaryKey) ?? "",
                records: Int64(pick(6)), bytes: Int64(pick(3) * 20))
            let wanted = visible(collection).filter { $0.key >= from ?? .min && $0.key < to ?? .max }
            var seen: [Int64: String] = [:]
            for item in found ?? [] {
                #expect(seen.updateValue(item.record, forKey: RowRig.number(item.key)) == nil, "twice")
            }
            #expect(found != nil && seen == wanted.mapValues(\.record))
            // It looks into every bucket for every page.
            guard pick(12) == 0 else { return }
            let isBackward = pick(2) == 0
            let ordered = rows.scanInOrder(
                collection, from: from.map(RowRig.primaryKey) ?? "", to: to.map(RowRig.primaryKey) ?? "",
                records: Int64(pick(3) * 5), bytes: Int64(pick(2) * 80), isBackward: isBackward)
            let numbers = wanted.keys.sorted { isBackward ? $0 > $1 : $0 < $1 }
            #expect(ordered?.map { RowRig.number($0.key) } == numbers)
            #expect(ordered?.map(\.record) == numbers.map { wanted[$0]?.record ?? "" })
        }

        // MARK: The log

        func finish() {
            if rig.finish() { finished.append(model) }
        }

        func commit(_ count: Int) {
            let count = min(count, finished.count)
            guard count > 0 else { return }
            rig.commit(count)
            committed = finished[count - 1]
            finished.removeFirst(count)
        }

        func crash() {
            rig.restart()
            finished = []
            model = committed
        }

        func settle() {
            finish()
            commit(.max)
        }
    }

    @Test("calls and scans are what a plain model says", arguments: 1...12 as ClosedRange<UInt64>)
    func histories(_ seed: UInt64) throws {
        let run = Run(seed: seed)
        for _ in 0..<400 {
            run.step()
            switch run.pick(20) {
            case 0...5: run.finish()
            case 6...8: run.commit(1 + run.pick(3))
            case 9: run.crash()
            case 10: run.rig.now += UInt64(run.pick(30))
            case 11: run.rig.runtime.sweep(now: run.rig.now)
            case 12: _ = try run.rig.expire(limit: 1 + run.pick(4))
            case _: break
            }
        }
    }

    @Test("transactions see what they do, and leave what they commit", arguments: 1...12 as ClosedRange<UInt64>)
    func scopes(_ seed: UInt64) throws {
        let run = Run(seed: seed), scope = ScopeRig(run.rig)
        for _ in 0..<20 {
            for _ in 0..<run.pick(6) { run.step() }
            run.settle()
            let outside = run.model
            scope.open(isRepeatable: run.pick(2) == 0)
            var before: [(number: UInt32, model: [CollectionID: [Int64: Stored]])] = []
            for _ in 0...run.pick(6) {
                before.append((scope.number, run.model))
                scope.begin()
                for _ in 0..<run.pick(5) { run.step() }
                switch run.pick(6) {
                case 0:
                    scope.undo()
                    run.model = before[before.count - 1].model
                case 1:
                    scope.end()
                    let position = run.pick(before.count)
                    run.model = before[position].model
                    scope.scope.rollBack(to: before[position].number)
                    before.removeSubrange(position...)
                case _: scope.end()
                }
                let inside = run.model
                run.model = outside
                run.scan(RowRig.users)
                run.model = inside
            }
            if run.pick(3) == 0 {
                run.model = outside
            } else {
                try scope.commit()
            }
            run.committed = run.model
            run.scan(RowRig.users)
            run.scan(RowRig.orders)
        }
    }
}
