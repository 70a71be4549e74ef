import Base
import Contracts
import DataModel
import Storage
import TestKit
import Testing
import Transactions

@testable import StorageNode

/// Interactive transactions at the shards of a real node.
@Suite("Open transactions at a node", .serialized)
struct ScopeTests {
    private static func quick(_ settings: inout NodeSettings) {
        (settings.transactions.recoveryMilliseconds, settings.transactions.repeatMilliseconds) = (20, 20)
    }

    /// Plays over two shards of a node.
    private func tell(
        settings: @escaping (inout NodeSettings) -> Void = quick, _ prepare: @escaping (Stage, Play) -> Void
    ) throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, shards: 2, settings: settings) { stage in
                let play = Play(stage)
                prepare(stage, play)
                play.begin()
            }
        }
    }

    private func waiters(_ stage: Stage) -> Int {
        stage.node.executors.reduce(0) { $0 + $1.transactions.participant.locks.waiterCount }
    }

    private func intents(_ stage: Stage) -> Int {
        stage.node.executors.reduce(0) { $0 + $1.transactions.participant.intentCount }
    }

    private func scopes(_ stage: Stage) -> Int { stage.node.executors.reduce(0) { $0 + $1.transactions.scopes.count } }

    @Test("only the transaction sees what it does; reads pass its locks, writes wait until it has committed")
    func isolation() throws {
        try tell { stage, play in
            let caller = stage.caller, one = OpenTransaction(stage, 7)
            var tickets: [UInt64] = [], reads: [UInt64] = [], write: UInt64 = 0, commit: UInt64 = 0
            caller.set("k", "10")
            play.when({ caller.isSettled }) { tickets = [one.add("k", 5), one.set("n", "new"), one.get("k")] }
            play.when({ one.isSettled }) {
                #expect(tickets.map { one[$0] } == [[.integer(15)], [.ok], [.text("15")]])
                reads = [caller.get("k"), caller.get("n"), caller.call(.databaseSize, "k")]
            }
            play.when({ caller.isSettled }) {
                #expect(reads.map { caller[$0] } == [.reply(.text("10")), .reply(.null), .reply(.integer(1))])
                write = caller.call(.incrementBy, "k", numbers: [100])
            }
            play.when({ waiters(stage) == 1 }) {
                #expect(caller[write] == nil)
                commit = one.commit(at: "k")
            }
            play.when({ caller.isSettled && one.isSettled && stage.isQuiet }) {
                #expect(one.isCommitted(commit) && caller[write] == .reply(.integer(115)))
                reads = [caller.get("k"), caller.get("n")]
            }
            play.when({ caller.isSettled }) {
                #expect(reads.map { caller[$0] } == [.reply(.text("115")), .reply(.text("new"))])
                #expect(scopes(stage) == 0)
            }
        }
    }

    @Test("the version of a key that a transaction has made and removed again is another one")
    func versions() throws {
        try tell { stage, play in
            let caller = stage.caller, one = OpenTransaction(stage, 7)
            var before: UInt64 = 0, after: UInt64 = 0
            before = caller.call(.version, "k")
            play.when({ caller.isSettled }) {
                one.set("k", "1")
                one.run(at: "k") { $0.add(.delete, "k") }
            }
            play.when({ one.isSettled }) { one.commit(at: "k") }
            play.when({ one.isSettled && stage.isQuiet }) { after = caller.call(.version, "k") }
            play.when({ caller.isSettled }) { #expect(caller[before] != caller[after]) }
        }
    }

    @Test("several participants: prepared, committed, and a plain read waits for what is prepared")
    func severalShards() throws {
        try tell { stage, play in
            let caller = stage.caller, one = OpenTransaction(stage, 7), keys = stage.pair("a")
            let both = [keys.0, keys.1]
            var prepared: [UInt64] = [], read: UInt64 = 0
            one.add(keys.0, -3)
            one.add(keys.1, 3)
            play.when({ one.isSettled }) { prepared = both.map { one.step(.prepare, at: $0, participants: both) } }
            play.when({ one.isSettled }) {
                #expect(prepared.allSatisfy(one.isPrepared) && scopes(stage) == 0)
                read = caller.get(keys.1)
            }
            play.when({ waiters(stage) == 1 || caller.isSettled }) {
                one.step(.commit, at: keys.0, participants: both, incarnation: 0, timestamp: Timestamp(rawValue: 1))
            }
            play.when({ one.isSettled }) {
                one.step(.commit, at: keys.1, participants: both, incarnation: 0, timestamp: Timestamp(rawValue: 1))
                one.step(.forget, at: keys.0, participants: both, incarnation: 0)
            }
            play.when({ one.isSettled && caller.isSettled && stage.isQuiet }) {
                #expect(caller[read] == .reply(.text("3")))
                read = caller.get(keys.0)
            }
            play.when({ caller.isSettled }) { #expect(caller[read] == .reply(.text("-3"))) }
        }
    }

    @Test("a prepared transaction whose driver is gone is decided without it, all or nothing")
    func deadDriver() throws {
        try tell { stage, play in
            let caller = stage.caller, one = OpenTransaction(stage, 7), keys = stage.pair("a")
            let both = [keys.0, keys.1]
            var reads: [UInt64] = []
            one.set(keys.0, "1")
            one.set(keys.1, "1")
            play.when({ one.isSettled }) { one.step(.prepare, at: keys.1, participants: both) }
            // The anchor was never asked: recovery finds no intent there.
            play.when({ one.isSettled && intents(stage) == 0 }) {
                one.step(.abort, at: keys.0)
            }
            play.when({ one.isSettled && stage.isQuiet }) { reads = both.map { caller.get($0) } }
            play.when({ caller.isSettled }) {
                #expect(reads.map { caller[$0] } == [.reply(.null), .reply(.null)] && scopes(stage) == 0)
            }
        }
    }

    @Test("savepoints: what came later is undone, and what comes then stays")
    func savepoints() throws {
        try tell { stage, play in
            let caller = stage.caller, one = OpenTransaction(stage, 7)
            var back: UInt64 = 0, read: UInt64 = 0, get: UInt64 = 0
            for value in 1...3 { one.set("k", "\(value)") }
            one.set("{k}2", "x")
            play.when({ one.isSettled }) { back = one.step(.rollbackTo, at: "k", statement: 2) }
            play.when({ one.isSettled }) {
                #expect(one.answers[back] == .held)
                read = one.run(at: "k") {
                    $0.add(.get, "k")
                    $0.add(.exists, "{k}2")
                }
            }
            play.when({ one.isSettled }) {
                #expect(one[read] == [.text("2"), .integer(0)])
                one.run(at: "k") { $0.add(.append, "k", [Bytes("!".utf8)]) }
                one.step(.keepAlive, at: "k")
            }
            play.when({ one.isSettled }) { one.commit(at: "k") }
            play.when({ one.isSettled }) { get = caller.get("k") }
            play.when({ caller.isSettled }) { #expect(caller[get] == .reply(.text("2!"))) }
        }
    }

    @Test("a rolled back transaction leaves nothing, and frees who waits")
    func abort() throws {
        try tell { stage, play in
            let caller = stage.caller, one = OpenTransaction(stage, 7)
            var write: UInt64 = 0, late: UInt64 = 0
            one.set("k", "1")
            play.when({ one.isSettled }) { write = caller.set("k", "2", flags: .ifAbsent) }
            play.when({ waiters(stage) == 1 }) { one.step(.abort, at: "k") }
            play.when({ one.isSettled && caller.isSettled }) {
                #expect(caller[write] == .reply(.ok) && scopes(stage) == 0)
                late = one.get("k")
            }
            play.when({ one.isSettled }) { #expect(one.error(late) == .transactionAborted) }
        }
    }

    @Test("a write waits until what was changed before it had the lock can be seen: no update is lost")
    func pendingWrites() throws {
        try tell { stage, play in
            let caller = stage.caller, one = OpenTransaction(stage, 7)
            var sum: UInt64 = 0, share: UInt64 = 0
            // In one message: the plain write is not durable when the statement comes.
            caller.call(.incrementBy, "k", numbers: [1])
            sum = one.add("k", 1)
            caller.set("s", "x")
            share = one.run(at: "s", lock: .share) { $0.add(.get, "s") }
            play.when({ one.isSettled && caller.isSettled }) {
                #expect(one[sum] == [.integer(2)] && one[share] == [.text("x")])
                one.commit(at: "k")
            }
            play.when({ one.isSettled }) { sum = caller.get("k") }
            play.when({ caller.isSettled }) { #expect(caller[sum] == .reply(.text("2"))) }
        }
    }

    @Test("locks: shared ones are shared, NOWAIT is told, SKIP LOCKED passes by, and a time-out ends a wait")
    func policies() throws {
        try tell { stage, play in
            let caller = stage.caller
            let one = OpenTransaction(stage, 7), two = OpenTransaction(stage, 8)
            var shared: UInt64 = 0, refused: UInt64 = 0, skipped: UInt64 = 0, late: UInt64 = 0
            caller.set("k", "1")
            caller.set("{k}l", "1")
            play.when({ caller.isSettled }) { one.run(at: "k", lock: .share) { $0.add(.get, "k") } }
            play.when({ one.isSettled }) { shared = two.run(at: "k", lock: .share) { $0.add(.get, "k") } }
            play.when({ two.isSettled }) {
                #expect(two[shared] == [.text("1")])
                one.run(at: "{k}l", lock: .update) { $0.add(.get, "{k}l") }
            }
            play.when({ one.isSettled }) {
                refused = two.run(at: "{k}l", lock: .update, wait: .noWait) { $0.add(.get, "{k}l") }
                skipped = two.run(at: "{k}l", lock: .update, wait: .skipLocked) {
                    $0.add(.get, "{k}l")
                    $0.add(.get, "k")
                }
            }
            play.when({ two.isSettled }) {
                #expect(two.error(refused) == .lockNotAvailable)
                #expect(two[skipped].first == .null)
                late = two.run(at: "{k}l", timeout: 1) { $0.set("{k}l", "2") }
            }
            play.when({ two.isSettled }) {
                #expect(two.error(late) == .lockTimeout)
                one.step(.abort, at: "k")
                two.step(.abort, at: "k")
            }
            play.when({ one.isSettled && two.isSettled && stage.isQuiet }) {}
        }
    }

    @Test("what is too large is refused, and the rest can be committed")
    func tooLarge() throws {
        try tell(settings: { $0.scopes.scope.effectBytes = 10_000 }) { stage, play in
            let caller = stage.caller, one = OpenTransaction(stage, 7)
            var large: UInt64 = 0, reads: [UInt64] = []
            one.set("a", "small")
            large = one.set("b", String(repeating: "x", count: 20_000))
            play.when({ one.isSettled }) {
                #expect(one.error(large) == .transactionTooLarge)
                one.commit(at: "a")
            }
            play.when({ one.isSettled }) { reads = [caller.get("a"), caller.get("b")] }
            play.when({ caller.isSettled }) {
                #expect(reads.map { caller[$0] } == [.reply(.text("small")), .reply(.null)])
            }
        }
    }

    @Test("what is no statement is refused: calls alone, parts, flushes, other levels, keys of other shards")
    func malformed() throws {
        try tell { stage, play in
            let keys = stage.pair("a"), one = OpenTransaction(stage, 7)
            var tickets: [UInt64] = []
            tickets.append(one.run(at: keys.0) { $0.add(.flushAll) })
            tickets.append(one.run(at: keys.0) { $0.set(keys.1, "1") })
            tickets.append(one.step(.prepare, at: keys.0, participants: [keys.0], incarnation: 99))
            tickets.append(one.step(.rollbackTo, at: keys.0, incarnation: 99))
            play.when({ one.isSettled }) {
                #expect(one.error(tickets[0]) == .featureNotSupported && one.error(tickets[1]) == .staleMap)
                #expect(one.answers[tickets[2]] == .refused(.aborted) && one.answers[tickets[3]] == .notHeld)
                #expect(scopes(stage) == 0 && stage.isQuiet)
            }
        }
    }

    @Test("two that wait for each other on different shards: within a second or so the younger one is told")
    func deadlock() throws {
        try tell { stage, play in
            let keys = stage.pair("a"), old = OpenTransaction(stage, 7), young = OpenTransaction(stage, 8)
            var wanted: UInt64 = 0, refused: UInt64 = 0
            old.set(keys.0, "old")
            young.set(keys.1, "young")
            play.when({ old.isSettled && young.isSettled }) {
                wanted = old.run(at: keys.1, timeout: 60_000) { $0.set(keys.1, "old") }
                refused = young.run(at: keys.0, timeout: 60_000) { $0.set(keys.0, "young") }
            }
            play.when({ young.isSettled }) {
                #expect(young.error(refused) == .deadlock)
                for key in [keys.0, keys.1] { young.step(.abort, at: key) }
            }
            play.when({ old.isSettled && young.isSettled }) {
                #expect(old[wanted] == [.ok])
                for key in [keys.0, keys.1] { old.step(.abort, at: key) }
            }
            play.when({ old.isSettled && stage.isQuiet }) {}
        }
    }

    @Test("many transactions on ten keys: each is done once or not at all, and all come to an end")
    func hotKeys() throws {
        try tell { stage, play in
            let keys = (0..<10).map { "{hot}\($0)" }, caller = stage.caller
            let runners = (0..<12).map { HotRunner(stage, keys, number: UInt64($0), rounds: 8) }
            var reads: [UInt64] = []
            play.when({
                for runner in runners { runner.go() }
                return runners.allSatisfy(\.isDone)
            }) {
                reads = keys.map { caller.get($0) }
            }
            play.when({ caller.isSettled && stage.isQuiet }) {
                let sum = reads.reduce(0) { sum, read in
                    guard case .reply(.text(let text))? = caller[read] else { return sum }
                    return sum + (Int(text) ?? 0)
                }
                #expect(sum == 12 * 8 * 3 && scopes(stage) == 0)
            }
        }
    }

    /// Begins a play when there is a time for the transactions to read at; writes of before are below it.
    private func tellAtTime(
        _ before: [(String, String)], _ prepare: @escaping (Stage, Play, Timestamp) -> Void
    ) throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, shards: 2, settings: Self.quick) { stage in
                for (key, value) in before { stage.caller.set(key, value) }
                Play.whenSettled(stage) {
                    stage.router.readTimestamp { result in
                        let play = Play(stage)
                        prepare(stage, play, (try? result.get()) ?? .zero)
                        play.begin()
                    }
                }
            }
        }
    }

    private func open(
        _ stage: Stage, _ id: UInt64, _ isolation: InvocationScope.Isolation, at time: Timestamp
    ) -> OpenTransaction {
        let transaction = OpenTransaction(stage, id)
        (transaction.scope.isolation, transaction.scope.readTimestamp) = (isolation, time)
        return transaction
    }

    @Test("a snapshot stays as it was, with what the transaction does itself; the first committer wins")
    func snapshot() throws {
        try tellAtTime([("k", "1"), ("{k}2", "1")]) { stage, play, time in
            let caller = stage.caller, one = open(stage, 7, .snapshot, at: time)
            let two = open(stage, 8, .snapshot, at: time), three = open(stage, 9, .snapshot, at: time)
            var reads: [UInt64] = [], lost: UInt64 = 0, waits: UInt64 = 0, freed: UInt64 = 0
            caller.set("k", "plain")
            play.when({ caller.isSettled }) {
                reads = [one.get("k"), one.set("{k}2", "one"), one.get("{k}2")]
                reads.append(one.run(at: "k") { $0.add(.databaseSize) })
            }
            play.when({ one.isSettled }) {
                #expect(reads.map { one[$0] } == [[.text("1")], [.ok], [.text("one")], [.integer(2)]])
                lost = three.set("k", "three")
                waits = two.set("{k}2", "two")
            }
            play.when({ three.isSettled && waiters(stage) == 1 }) {
                #expect(three.error(lost) == .serializationFailure)
                freed = caller.set("k", "freed")  // Nobody waits for one that cannot commit any more.
                one.commit(at: "k")
            }
            play.when({ one.isSettled && two.isSettled && caller.isSettled }) {
                #expect(two.error(waits) == .serializationFailure)
                #expect(caller[freed] == .reply(.ok))
                reads = [caller.get("k"), caller.get("{k}2")]
            }
            play.when({ caller.isSettled && stage.isQuiet }) {
                #expect(reads.map { caller[$0] } == [.reply(.text("freed")), .reply(.text("one"))])
                #expect(scopes(stage) == 0)
                #expect(stage.node.executors.allSatisfy { $0.store.holds == 0 })
            }
        }
    }

    @Test("write skew: SNAPSHOT lets it happen, SERIALIZABLE refuses one", arguments: [false, true])
    func writeSkew(isSerializable: Bool) throws {
        try tellAtTime([("k", "1"), ("{k}2", "1")]) { stage, play, time in
            let level: InvocationScope.Isolation = isSerializable ? .serializable : .snapshot
            let one = open(stage, 7, level, at: time), two = open(stage, 8, level, at: time)
            var commits: (UInt64, UInt64) = (0, 0)
            one.get("k")
            two.get("{k}2")
            play.when({ one.isSettled && two.isSettled }) {
                one.set("{k}2", "0")
                two.set("k", "0")
            }
            play.when({ one.isSettled && two.isSettled }) { commits.0 = one.commit(at: "k") }
            play.when({ one.isSettled }) { commits.1 = two.commit(at: "k") }
            play.when({ two.isSettled && stage.isQuiet }) {
                let done = [one.isCommitted(commits.0), two.isCommitted(commits.1)]
                if isSerializable {
                    // Whoever comes first meets the other's lock on what it has read.
                    #expect(done.count { $0 } <= 1)
                } else {
                    #expect(done == [true, true])
                }
                #expect(scopes(stage) == 0)
            }
        }
    }

    @Test("a SERIALIZABLE transaction whose reads are still true commits, one that has read what was changed does not")
    func readSets() throws {
        try tellAtTime([("k", "1"), ("{k}2", "1")]) { stage, play, time in
            let caller = stage.caller
            let good = open(stage, 7, .serializable, at: time), bad = open(stage, 8, .serializable, at: time)
            var commits: [UInt64] = []
            good.get("k")
            good.set("{k}3", "good")
            bad.get("{k}2")
            bad.set("{k}4", "bad")
            play.when({ good.isSettled && bad.isSettled }) { caller.set("{k}2", "changed") }
            play.when({ caller.isSettled }) { commits = [good.commit(at: "k"), bad.commit(at: "k")] }
            play.when({ good.isSettled && bad.isSettled && stage.isQuiet }) {
                #expect(good.isCommitted(commits[0]))
                #expect(bad.answers[commits[1]] == .refused(.serializationFailure))
            }
        }
    }

    @Test("a restart loses what is open, and nothing that was committed")
    func restart() throws {
        try Stage.withDirectory { directory in
            var incarnation: UInt64 = 0
            try Stage.run(directory, settings: Self.quick, disk: PosixDisk(), store: nil) { stage in
                let play = Play(stage, end: .kill), one = OpenTransaction(stage, 7), two = OpenTransaction(stage, 8)
                one.set("a", "1")
                two.set("b", "1")
                play.when({ one.isSettled && two.isSettled }) { one.commit(at: "a") }
                play.when({ one.isSettled }) { incarnation = two.incarnations[OpenTransaction.slot("b")] ?? 0 }
                play.begin()
            }
            try Stage.run(directory, settings: Self.quick, disk: PosixDisk(), store: nil) { stage in
                let play = Play(stage), caller = stage.caller, two = OpenTransaction(stage, 8)
                two.incarnations[OpenTransaction.slot("b")] = incarnation
                let late = two.get("b"), commit = two.commit(at: "b"), reads = [caller.get("a"), caller.get("b")]
                let write = caller.set("b", "2")
                play.when({ two.isSettled && caller.isSettled && stage.isQuiet }) {
                    #expect(two.error(late) == .transactionAborted && two.answers[commit] == .refused(.aborted))
                    #expect(reads.map { caller[$0] } == [.reply(.text("1")), .reply(.null)])
                    #expect(caller[write] == .reply(.ok))
                }
                play.begin()
            }
        }
    }
}

/// Adds one to three of the keys, in any order, again and again; a transaction that is refused is begun anew.
private final class HotRunner {
    private let stage: Stage
    private let keys: [String]
    private let number: UInt64
    private var random: SplitMix64
    private var left: Int
    private var attempt: UInt64 = 0
    private var chosen: [String] = []
    private var transaction: OpenTransaction?
    private var next = 0
    private var last: UInt64 = 0

    init(_ stage: Stage, _ keys: [String], number: UInt64, rounds: Int) {
        (self.stage, self.keys, self.number, left) = (stage, keys, number, rounds)
        random = SplitMix64(seed: 40 + number)
    }

    var isDone: Bool { left == 0 && transaction == nil }

    /// The next call, if the last one is answered.
    func go() {
        guard let transaction else { return begin() }
        guard transaction.isSettled else { return }
        if next > 0, next <= chosen.count, transaction.error(last) != nil {
            transaction.step(.abort, at: keys[0])
            (next, self.transaction) = (0, nil)
            return
        }
        switch next {
        case ..<chosen.count: last = transaction.add(chosen[next], 1)
        case chosen.count: last = transaction.commit(at: keys[0])
        default:
            if transaction.isCommitted(last) { left -= 1 }
            self.transaction = nil
        }
        next += 1
    }

    private func begin() {
        guard left > 0 else { return }
        attempt += 1
        var rest = keys
        chosen = (0..<3).map { _ in rest.remove(at: Int(random.next(below: UInt64(rest.count)))) }
        transaction = OpenTransaction(stage, number << 32 | attempt, priority: attempt << 32 | number)
        next = 0
    }
}
