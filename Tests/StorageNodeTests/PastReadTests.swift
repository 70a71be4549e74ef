import Base
import Contracts
import DataModel
import GatewayKit
import Net
import Storage
import TestKit
import Testing

@testable import StorageNode

/// Reads at a time, at a real node.
@Suite("Reads of the past", .serialized)
struct PastReadTests {
    private static func tell(
        shards: Int = 1, disk: any Disk = SimulatedDisk(seed: 1), settings: ((inout NodeSettings) -> Void)? = nil,
        _ begin: @escaping (Stage) -> Void
    ) throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, shards: shards, settings: settings, disk: disk, begin)
        }
    }

    @Test("a time shows what was there then: values, hashes, keys that are gone, counts and scans")
    func history() throws {
        try Self.tell { stage in
            let caller = stage.caller
            caller.set("a", "1")
            caller.set("gone", "x")
            caller.call(.hashSet, "h", [Bytes("f".utf8), Bytes("old".utf8)])
            stage.settled {
                stage.time { first in
                    caller.set("a", "2")
                    caller.set("new", "y")
                    caller.call(.delete, "gone")
                    caller.call(.hashSet, "h", [Bytes("f".utf8), Bytes("new".utf8), Bytes("g".utf8), Bytes("1".utf8)])
                    stage.settled {
                        stage.time { second in
                            caller.call(.delete, "h")
                            caller.set("a", "3")
                            stage.settled {
                                let then = InvocationScope(asOf: first), later = InvocationScope(asOf: second)
                                let asked: [(UInt64, Reply)] = [
                                    (caller.scoped(then, .get, "a"), .text("1")),
                                    (caller.scoped(later, .get, "a"), .text("2")),
                                    (caller.get("a"), .text("3")),
                                    (caller.scoped(then, .get, "gone"), .text("x")),
                                    (caller.scoped(later, .get, "gone"), .null),
                                    (caller.scoped(then, .get, "new"), .null),
                                    (caller.scoped(then, .hashGetAll, "h"), .list(["f", "old"])),
                                    (caller.scoped(later, .hashLength, "h"), .integer(2)),
                                    (caller.call(.hashLength, "h"), .integer(0)),
                                    (caller.scoped(then, .databaseSize), .integer(3)),
                                    (caller.scoped(later, .databaseSize), .integer(3)),
                                    (caller.call(.databaseSize, ""), .integer(2)),
                                    (
                                        caller.scopedBatch(then, at: "a") {
                                            $0.add(.get, "a")
                                            $0.add(.exists, "new", [Bytes("gone".utf8)])
                                            $0.add(.incrementBy, "h")
                                        }, .error(.readOnly)
                                    ),
                                    (
                                        caller.scopedBatch(then, at: "a") {
                                            $0.add(.get, "a")
                                            $0.add(.exists, "new", [Bytes("gone".utf8)])
                                            $0.add(.get, "h")
                                        }, .batch([.text("1"), .integer(1), .error(.wrongType)])
                                    ),
                                ]
                                let scan = caller.scoped(then, .scan, "", numbers: [0, 100], slot: 0)
                                stage.settled {
                                    for (ticket, reply) in asked {
                                        #expect(caller[ticket] == .reply(reply), "\(ticket)")
                                    }
                                    guard case .reply(.list(let found))? = caller[scan] else {
                                        Issue.record("\(String(describing: caller[scan]))")
                                        return stage.finish()
                                    }
                                    #expect(Set(found.dropFirst()) == ["a", "gone", "h"])
                                    stage.finish()
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    @Test("a read waits for what is on its way into the log, and a time that is told lies below what comes later")
    func inFlight() throws {
        let disk = GatedDisk(SimulatedDisk(seed: 2))
        try Self.tell(disk: disk, settings: { $0.log.inlineSyncNanoseconds = 0 }) { stage in
            let caller = stage.caller
            caller.set("a", "1")
            caller.set("b", "1")
            stage.settled {
                let syncs = disk.syncs
                disk.shut()
                let write = caller.set("a", "2")
                stage.when({ disk.syncs > syncs }) {
                    stage.time { time in
                        let past = caller.scoped(InvocationScope(asOf: time), .get, "a"), other = caller.get("b")
                        stage.when({ caller[other] != nil }) {
                            #expect(caller[past] == nil && caller[write] == nil)
                            let late = caller.set("a", "3")
                            disk.open()
                            stage.settled {
                                #expect(caller[past] == .reply(.text("2")) && caller[late] == .reply(.ok))
                                stage.finish()
                            }
                        }
                    }
                }
            }
        }
    }

    @Test("what is no read, no time, or not known is refused", arguments: [false, true])
    func refusals(isFlushed: Bool) throws {
        try Self.tell { stage in
            let caller = stage.caller, node = stage.node
            caller.set("a", "1")
            stage.settled {
                stage.time { time in
                    let then = InvocationScope(asOf: time)
                    var ahead = InvocationScope(asOf: Timestamp(milliseconds: time.milliseconds + 60_000))
                    var sampled = InvocationScope(asOf: node.executors[0].servingSince)
                    sampled.isolation = .snapshot
                    let fresh = caller.scoped(sampled, .get, "a")
                    sampled.readTimestamp = Timestamp(rawValue: sampled.readTimestamp.rawValue - 1)
                    var asked: [(UInt64, ErrorCode)] = [
                        (caller.scoped(then, .set, "a", [Bytes("2".utf8)]), .readOnly),
                        (caller.scoped(then, .version, "a"), .invalidArgument),
                        (caller.scoped(InvocationScope(), .get, "a"), .invalidArgument),
                        (caller.scoped(sampled, .get, "a"), .tooStale),
                        (caller.scoped(ahead, .get, "a"), .invalidArgument),
                        (caller.scopedBatch(then, at: "a") { $0.watch("a", 1) }, .invalidArgument),
                    ]
                    ahead.readTimestamp = Timestamp(rawValue: .max)
                    asked.append((caller.scoped(ahead, .get, "a"), .invalidArgument))
                    stage.settled {
                        #expect(caller[fresh] == .reply(.text("1")) || caller[fresh] == .reply(.null))
                        for (ticket, code) in asked { #expect(caller[ticket] == .reply(.error(code)), "\(ticket)") }
                        // What was deleted as a whole is not kept.
                        caller.call(.flushAll, "")
                        stage.settled {
                            if isFlushed { #expect(throws: Never.self) { try node.executors[0].store.flush() } }
                            let late = caller.scoped(then, .get, "a"), now = caller.get("a")
                            stage.settled {
                                #expect(caller[late] == .reply(.error(.snapshotTooOld)) && caller[now] == .reply(.null))
                                stage.finish()
                            }
                        }
                    }
                }
            }
        }
    }

    @Test("the past outlives the process, and its leader", arguments: [Stage.End.drain, .kill])
    func restart(end: Stage.End) throws {
        try Stage.withDirectory { directory in
            var times: [Timestamp] = []
            try Stage.run(directory, disk: PosixDisk(), store: nil) { stage in
                stage.caller.set("a", "1")
                stage.settled {
                    stage.time { first in
                        stage.caller.set("a", "2")
                        stage.settled {
                            stage.time { second in
                                times = [first, second]
                                stage.caller.call(.delete, "a")
                                stage.settled { stage.finish(end) }
                            }
                        }
                    }
                }
            }
            guard times.count == 2 else { return }
            try Stage.run(directory, disk: PosixDisk(), store: nil) { stage in
                let caller = stage.caller
                var sampled = InvocationScope(asOf: times[1])
                sampled.isolation = .snapshot
                let asked = [
                    caller.scoped(InvocationScope(asOf: times[0]), .get, "a"),
                    caller.scoped(InvocationScope(asOf: times[1]), .get, "a"), caller.get("a"),
                    caller.scoped(sampled, .get, "a"),
                ]
                stage.settled {
                    let replies = asked.map { caller[$0] }
                    #expect(
                        replies == [
                            .reply(.text("1")), .reply(.text("2")), .reply(.null), .reply(.error(.tooStale)),
                        ])
                    stage.finish()
                }
            }
        }
    }

    @Test("a part that is prepared is waited for, and then seen or not seen at every shard", arguments: [false, true])
    func prepared(commits: Bool) throws {
        try Self.tell(shards: 2, settings: { $0.transactions.recoveryMilliseconds = 600_000 }) { stage in
            let keys = stage.pair("a")
            stage.time { before in Self.prepare(stage, keys, commits: commits, before) }
        }
    }

    private static func prepare(_ stage: Stage, _ keys: (String, String), commits: Bool, _ before: Timestamp) {
        let caller = stage.caller
        let driver = MortalDriver(
            stage, id: 7, priority: 1,
            parts: [
                .init(at: keys.0) { $0.set(keys.0, "1") }, .init(at: keys.1) { $0.set(keys.1, "1") },
            ], life: 2)
        driver.begin()
        let slots = [keys.0, keys.1].map { key in
            Bytes(key.utf8).withUnsafeBytes { UInt32(Slot.of($0).rawValue) }
        }
        stage.when({ stage.node.executors.allSatisfy { $0.transactions.participant.intentCount == 1 } }) {
            stage.time { time in
                let then = InvocationScope(asOf: time)
                // Of a connection of its own: what comes behind a call that waits, waits.
                let past = [keys.0, keys.1].map { caller.scoped(then, .get, $0, connection: 2) }
                // Other keys are free, and so is what was there before.
                let others = stage.pair("other"), earlier = InvocationScope(asOf: before)
                let free = [
                    caller.get(others.0), caller.get(others.1), caller.scoped(earlier, .get, keys.0),
                    caller.scoped(earlier, .get, keys.1),
                ]
                stage.when({ free.allSatisfy { caller[$0] != nil } }) {
                    #expect(free.allSatisfy { caller[$0] == .reply(.null) })
                    #expect(past.allSatisfy { caller[$0] == nil })
                    if commits {
                        caller.step(at: slots[0], TransactionStep(.resolve, id: 7, participants: slots))
                    } else {
                        for slot in slots {
                            caller.step(at: slot, TransactionStep(.abort, id: 7, participants: slots))
                        }
                    }
                    stage.settled {
                        let expected = Outcome.reply(commits ? .text("1") : .null)
                        #expect(past.map { caller[$0] } == [expected, expected])
                        stage.finish()
                    }
                }
            }
        }
    }

    @Test("a snapshot beside transfers over shards and pairs of one shard shows all of each or nothing")
    func wholeOrNothing() throws {
        try Self.tell(shards: 2) { stage in
            let caller = stage.caller, keys = stage.pair("a"), count = 40
            var ended = 0, begun = 0, lookers = 2, sums: [Int64] = [], random = SplitMix64(seed: 5)
            func share(_ key: String, _ amount: Int64) -> TransactionRun.Share {
                var encoder = CallBatchEncoder()
                encoder.add(.incrementBy, key, numbers: [amount])
                return .init(
                    slot: Bytes(key.utf8).withUnsafeBytes { UInt32(Slot.of($0).rawValue) }, body: encoder.message.bytes)
            }
            func transfer() {
                guard begun < count else { return }
                begun += 1
                stage.router.transact(
                    [share(keys.0, -1), share(keys.1, 1)], connection: 3, isReadOnly: false, priority: UInt64(begun),
                    random: { random.next() }
                ) { _ in
                    ended += 1
                    transfer()
                }
            }
            func look() {
                stage.time { time in
                    let then = InvocationScope(asOf: time)
                    let reads = [caller.scoped(then, .get, keys.0), caller.scoped(then, .get, keys.1)]
                    stage.when({ reads.allSatisfy { caller[$0] != nil } }) {
                        sums.append(
                            reads.reduce(0) { sum, ticket in
                                switch caller[ticket] {
                                case .reply(.text(let text))?: sum + (Int64(text) ?? 1000)
                                case .reply(.null)?: sum
                                case .reply?, .failed?, nil: sum + 1_000_000
                                }
                            })
                        if ended < count { look() } else { lookers -= 1 }
                    }
                }
            }
            transfer()
            transfer()
            look()
            look()
            stage.when({ ended == count && lookers == 0 && caller.isSettled }) {
                #expect(Set(sums) == [0], "\(sums)")
                stage.finish()
            }
        }
    }

    @Test("every time shows the state of then, also when it is flushed in between")
    func model() throws {
        try Self.tell { stage in
            let caller = stage.caller, seed = freshSeed("reads of the past")
            var random = SplitMix64(seed: seed), state: [String: String] = [:]
            var known: [(time: Timestamp, state: [String: String])] = []
            func step(_ left: Int) {
                guard left > 0 else { return check() }
                for _ in 0...random.next(below: 3) {
                    let key = "k\(random.next(below: 6))"
                    if random.next(below: 4) == 0 {
                        caller.call(.delete, key)
                        state[key] = nil
                    } else {
                        caller.set(key, "\(left)")
                        state[key] = "\(left)"
                    }
                }
                stage.settled {
                    stage.time { time in
                        known.append((time, state))
                        if random.next(below: 5) == 0 { try? stage.node.executors[0].store.flush() }
                        step(left - 1)
                    }
                }
            }
            func check() {
                let keys = (0..<6).map { "k\($0)" }
                let asked = known.map { moment in
                    caller.scoped(
                        InvocationScope(asOf: moment.time), .multiGet, keys[0], keys.dropFirst().map { Bytes($0.utf8) })
                }
                let counts = known.map { caller.scoped(InvocationScope(asOf: $0.time), .databaseSize) }
                stage.settled {
                    for (position, moment) in known.enumerated() {
                        let expected = Reply.list(keys.map { moment.state[$0] ?? "nil" })
                        #expect(caller[asked[position]] == .reply(expected), "time \(position)")
                        #expect(caller[counts[position]] == .reply(.integer(Int64(moment.state.count))))
                    }
                    stage.finish()
                }
            }
            step(60)
        }
    }
}

extension Stage {
    /// Waits for a condition, then goes on.
    fileprivate func when(_ condition: @escaping () -> Bool, _ next: @escaping () -> Void) {
        poll {
            guard condition() else { return false }
            next()
            return true
        }
    }

    /// Goes on when every call is answered.
    fileprivate func settled(_ next: @escaping () -> Void) { when({ [caller] in caller.isSettled }, next) }

    /// Goes on with a time that shows everything acknowledged so far.
    fileprivate func time(_ next: @escaping (Timestamp) -> Void) {
        router.readTimestamp { result in
            switch result {
            case .success(let time): next(time)
            case .failure(let error): Issue.record("no time: \(error)")
            }
        }
    }
}
