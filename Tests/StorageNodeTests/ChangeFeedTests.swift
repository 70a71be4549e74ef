import Base
import Contracts
import DataModel
import Feeds
import Storage
import TestKit
import Testing

@testable import StorageNode

/// Takes everything, or nothing for a while.
final class Listener: FeedConsumer {
    var isReady = true
    private(set) var changes: [Change] = []
    private(set) var positions: [(position: FeedPosition, count: Int)] = []
    private(set) var end: DatabaseError?
    private(set) var subscription: ShardSubscription?

    init(_ executor: ShardExecutor, from position: FeedPosition?, _ request: SubscribeRequest = SubscribeRequest()) {
        do {
            let feed = try #require(try executor.openFeed())
            let subscription = ShardSubscription(
                feed, try FeedFilter(request), wantsOldValues: request.wantsOldValues, from: position)
            self.subscription = subscription
            subscription.attach(self)
            feed.add(subscription)
        } catch {
            Issue.record("no feed: \(error)")
        }
    }

    func take(_ change: Change, _ position: FeedPosition) { changes.append(change) }

    func reached(_ position: FeedPosition, isMark: Bool) { positions.append((position, changes.count)) }

    func ended(_ error: DatabaseError) { end = error }

    func leave() { subscription?.cancel() }
}

/// What subscribers of a shard are told, live, from the log, and from the past that the store keeps.
@Suite("Change feeds of a shard", .serialized)
struct ChangeFeedTests {
    /// Makes calls one after another, so that each has an entry of its own, but for some that make and remove a key in
    /// one; and then calls `done`.
    private static func write(_ stage: Stage, _ count: Int, _ random: SplitMix64, then done: @escaping () -> Void) {
        var random = random, made = 0, pending = 0
        func next() {
            guard made < count else {
                stage.caller.onOutcome = { _, _ in }
                return done()
            }
            made += 1
            pending = 1
            let key = "k\(random.next(below: 12))", hash = "h\(random.next(below: 6))"
            let field = Bytes("f\(random.next(below: 4))".utf8), value = Bytes("v\(made)".utf8)
            switch random.next(below: 9) {
            case 0: stage.caller.call(.delete, key)
            case 1: stage.caller.call(.delete, hash)
            case 2: stage.caller.call(.hashDelete, hash, [field])
            case 3, 4: stage.caller.call(.hashSet, hash, [field, value])
            case 5:
                pending = 2
                let key = random.oneIn(2) ? key : "k-\(made)"
                stage.caller.call(.set, key, [value])
                stage.caller.call(.delete, key)
            case 6: stage.caller.call(.set, key, [value], numbers: [3_600_000], flags: .relativeTime)
            case _: stage.caller.call(.set, key, [value])
            }
        }
        stage.caller.onOutcome = { _, _ in
            pending -= 1
            if pending == 0 { next() }
        }
        next()
    }

    private static func past(_ executor: ShardExecutor, after: Timestamp, upTo: Timestamp) throws -> [Change] {
        let replay = try PastReplay(executor, after: after, upTo: upTo)
        defer { replay.close() }
        var changes: [Change] = [], last = after
        while last < upTo {
            guard let (found, resolved) = try replay.step() else { continue }
            changes += found
            last = resolved
        }
        return changes
    }

    private static func flush(_ store: ShardStore) throws {
        guard let job = store.beginFlush() else { return }
        try job.write()
        store.finishFlush(job)
    }

    @Test("live, from the log and from the past the same changes come in the same order")
    func sources() throws {
        let random = SplitMix64(seed: freshSeed("sources of a feed"))
        try Stage.withDirectory { directory in
            try Stage.run(directory) { stage in
                guard let executor = stage.node.executors.first else { return stage.finish() }
                // Before the first entry it has a position, but there is no past that reaches so far.
                Self.write(stage, 20, SplitMix64(seed: 1)) {
                    let live = Listener(executor, from: nil, SubscribeRequest(wantsOldValues: true))
                    let slow = Listener(executor, from: nil)
                    guard let start = live.positions.first?.position else { return stage.finish() }
                    func compare() {
                        let plain = live.changes.map { change in
                            var change = change
                            change.old = nil
                            // Of what has gone only the past knows the type; it is told to those who want old values.
                            if change.kind != .put { change.content.type = nil }
                            return change
                        }
                        #expect(!plain.isEmpty && slow.changes.isEmpty)
                        let again = Listener(executor, from: start, SubscribeRequest(wantsOldValues: true))
                        slow.isReady = true
                        slow.subscription?.resume()
                        var samples: [(Listener, Int)] = []
                        for (position, count) in live.positions.enumerated().filter({ $0.offset % 37 == 5 }).map(
                            \.element)
                        {
                            samples.append(
                                (Listener(executor, from: position, SubscribeRequest(wantsOldValues: true)), count))
                        }
                        do {
                            let newest = executor.store.newestTimestamp
                            let found = try Self.past(executor, after: start.resolved, upTo: newest)
                            #expect(found == plain)
                            let middle = plain[plain.count / 2].timestamp
                            let rest = try Self.past(executor, after: middle, upTo: newest)
                            #expect(rest == plain.filter { $0.timestamp > middle })
                        } catch {
                            Issue.record("the past: \(error)")
                        }
                        stage.poll {
                            guard again.changes.count >= live.changes.count, slow.changes.count >= plain.count,
                                samples.allSatisfy({ $0.0.changes.count >= live.changes.count - $0.1 })
                            else { return false }
                            #expect(again.changes == live.changes && slow.changes == plain)
                            for (listener, count) in samples {
                                #expect(listener.changes == Array(live.changes[count...]))
                            }
                            for listener in [live, slow, again] + samples.map(\.0) { listener.leave() }
                            #expect(executor.feed == nil)
                            stage.finish()
                            return true
                        }
                    }
                    slow.isReady = false
                    Self.write(stage, 120, random) {
                        do { try Self.flush(executor.store) } catch { Issue.record("flush: \(error)") }
                        Self.write(stage, 120, SplitMix64(seed: 5)) { compare() }
                    }
                }
            }
        }
    }

    @Test("a change has what it has put an end to")
    func oldValues() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory) { stage in
                guard let executor = stage.node.executors.first else { return stage.finish() }
                let live = Listener(executor, from: nil, SubscribeRequest(wantsOldValues: true))
                var hashes: [String: [Bytes: Bytes]] = [:], strings: [String: Bytes] = [:]
                Self.write(stage, 200, SplitMix64(seed: 3)) {
                    for change in live.changes {
                        let key = String(decoding: change.key, as: UTF8.self)
                        if key.hasPrefix("k") {
                            #expect(change.old?.value == strings[key])
                            strings[key] = change.kind == .put ? change.content.value : nil
                        } else {
                            for field in change.old?.fields ?? [] { #expect(hashes[key]?[field.name] == field.value) }
                            if change.kind == .delete {
                                #expect(change.old?.fields.count == hashes[key]?.count)
                                hashes[key] = nil
                            }
                            for field in change.content.fields { hashes[key, default: [:]][field.name] = field.value }
                        }
                    }
                    #expect(live.changes.count > 50)
                    live.leave()
                    stage.finish()
                }
            }
        }
    }

    @Test("events are recorded while somebody listens, and can be read from the log")
    func events() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory) { stage in
                guard let executor = stage.node.executors.first else { return stage.finish() }
                #expect(!executor.runtime.recordsEvents)
                let live = Listener(executor, from: nil, SubscribeRequest(wantsEvents: true))
                #expect(executor.runtime.recordsEvents)
                guard let start = live.positions.first?.position else { return stage.finish() }
                stage.caller.call(.set, "a", [[1]])
                stage.caller.call(.delete, "a")
                stage.caller.call(.get, "a")
                stage.caller.call(.set, "gone", [[1]], numbers: [1], flags: .relativeTime)
                func told(_ listener: Listener) -> [KeyEvent] {
                    listener.changes.flatMap { $0.events.flatMap(\.events) }
                }
                let all: [KeyEvent] = [.new, .set, .delete, .new, .set, .expire, .expired]
                stage.poll {
                    guard told(live).count >= all.count else { return false }
                    #expect(told(live) == all && live.changes.allSatisfy { $0.kind == .events })
                    let again = Listener(executor, from: start, SubscribeRequest(wantsEvents: true))
                    stage.poll {
                        guard told(again).count >= all.count else { return false }
                        #expect(again.changes == live.changes)
                        // The log says that the next leader is to go on.
                        let until = try? ClockBoundRecord.eventsUntil(executor.shard, from: executor.store)
                        #expect(until ?? 0 > executor.clock.wallMilliseconds)
                        for listener in [live, again] { listener.leave() }
                        #expect(executor.feed == nil && executor.runtime.recordsEvents)
                        executor.eventsUntil = 0
                        executor.inheritEvents()
                        #expect(executor.runtime.recordsEvents)
                        executor.eventsUntil = 0
                        executor.reviewEvents()
                        #expect(!executor.runtime.recordsEvents)
                        stage.finish()
                        return true
                    }
                    return true
                }
            }
        }
    }

    @Test("a time that has come is told as such, a time below the past is refused")
    func expiryAndFloor() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory) { stage in
                guard let executor = stage.node.executors.first else { return stage.finish() }
                let live = Listener(executor, from: nil)
                #expect(live.positions.allSatisfy { $0.position.resolved > .zero })
                stage.caller.call(.set, "gone", [[1]], numbers: [1], flags: .relativeTime)
                stage.poll {
                    guard live.changes.count == 2 else { return false }
                    #expect(live.changes.map(\.kind) == [.put, .expire])
                    executor.store.raiseFloor(to: executor.store.newestTimestamp)
                    #expect(throws: StoreError.self) {
                        try PastReplay(executor, after: Timestamp(rawValue: 5), upTo: executor.store.newestTimestamp)
                    }
                    live.leave()
                    stage.finish()
                    return true
                }
            }
        }
    }
}
