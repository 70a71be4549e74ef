import Base
import Contracts
import DataModel
import GatewayKit
import Net
import Storage
import TestKit
import Testing
import Transactions

@testable import StorageNode

/// Parts of transactions at the shards of a real node, which recovers them by asking itself over its own socket.
@Suite("Transactions over shards", .serialized)
struct TransactionTests {
    private static func quick(_ settings: inout NodeSettings) {
        (settings.transactions.recoveryMilliseconds, settings.transactions.repeatMilliseconds) = (20, 20)
        settings.transactions.holdMilliseconds = 50
    }

    /// Runs a story over two shards of a node.
    private func tell(
        _ directory: String? = nil, disk: any Disk = SimulatedDisk(seed: 1), store: (any Store)? = MemoryStore(),
        settings: @escaping (inout NodeSettings) -> Void = quick, _ begin: @escaping (Stage) -> Void
    ) throws {
        if let directory {
            return try Stage.run(directory, shards: 2, settings: settings, disk: disk, store: store, begin)
        }
        try Stage.withDirectory { directory in
            try Stage.run(directory, shards: 2, settings: settings, disk: disk, store: store, begin)
        }
    }

    /// Waits for a condition, then goes on.
    private func when(_ stage: Stage, _ condition: @escaping () -> Bool, _ next: @escaping () -> Void) {
        stage.poll {
            guard condition() else { return false }
            next()
            return true
        }
    }

    private func transfer(_ keys: (String, String), _ amount: Int64 = 1) -> [MortalDriver.Part] {
        [
            .init(at: keys.0) {
                $0.add(.incrementBy, keys.0, numbers: [-amount])
                $0.add(.get, keys.0)
            },
            .init(at: keys.1) { $0.add(.incrementBy, keys.1, numbers: [amount]) },
        ]
    }

    @Test("all parts are done, everybody sees them, and nothing is left behind")
    func commits() throws {
        try tell { stage in
            let keys = stage.pair("a"), run = MortalDriver(stage, id: 7, priority: 1, parts: transfer(keys))
            run.begin()
            when(stage, { run.answer != nil }) {
                guard case .committed(_, missing: []) = run.answer else {
                    Issue.record("\(String(describing: run.answer))")
                    return stage.finish()
                }
                #expect(run.replies == [.batch([.integer(-1), .text("-1")]), .batch([.integer(1)])])
                // Single calls wait for the locks and then see it.
                let reads = [stage.caller.get(keys.0), stage.caller.get(keys.1)]
                let size = [keys.0, keys.1].map { stage.caller.call(.databaseSize, $0) }
                when(stage, { stage.caller.isSettled && stage.isQuiet }) {
                    #expect(reads.map { stage.caller[$0] } == [.reply(.text("-1")), .reply(.text("1"))])
                    #expect(size.map { stage.caller[$0] } == [.reply(.integer(1)), .reply(.integer(1))])
                    stage.finish()
                }
            }
        }
    }

    @Test("a gateway's driver gets its replies; of many that want the same keys each is done once")
    func gateway() throws {
        try tell { stage in
            let keys = stage.pair("a"), count = 20
            var random = SplitMix64(seed: 5), outcomes: [TransactionRun.Outcome] = []
            func share(_ key: String) -> TransactionRun.Share {
                var encoder = CallBatchEncoder()
                encoder.add(.incrementBy, key, numbers: [1])
                return .init(
                    slot: Bytes(key.utf8).withUnsafeBytes { UInt32(Slot.of($0).rawValue) }, body: encoder.message.bytes)
            }
            for number in 0..<count {
                // In either order: the anchor is another one.
                let shares = number % 2 == 0 ? [share(keys.0), share(keys.1)] : [share(keys.1), share(keys.0)]
                stage.router.transact(
                    shares, connection: UInt64(number % 7), isReadOnly: false, priority: UInt64(number),
                    random: { random.next() }
                ) { outcomes.append($0) }
            }
            when(stage, { outcomes.count == count && stage.isQuiet }) {
                for outcome in outcomes {
                    guard case .done(let replies) = outcome else {
                        Issue.record("\(outcome)")
                        continue
                    }
                    #expect(replies.count == 2 && replies[0] == replies[1])
                }
                let reads = [stage.caller.get(keys.0), stage.caller.get(keys.1)]
                when(stage, { stage.caller.isSettled }) {
                    #expect(reads.map { stage.caller[$0] } == Array(repeating: .reply(.text("\(count)")), count: 2))
                    stage.finish()
                }
            }
        }
    }

    @Test("a watch that does not hold at one shard undoes all")
    func aborts() throws {
        try tell { stage in
            let keys = stage.pair("a")
            stage.caller.set(keys.1, "5")
            when(stage, { stage.caller.isSettled }) {
                let run = MortalDriver(
                    stage, id: 7, priority: 1,
                    parts: [
                        .init(at: keys.0) { $0.set(keys.0, "1") },
                        .init(at: keys.1) {
                            $0.absent(keys.1)
                            $0.set(keys.1, "1")
                        },
                    ])
                run.begin()
                when(stage, { run.answer != nil && stage.isQuiet }) {
                    #expect(run.answer == .failed(part: 1))
                    let reads = [stage.caller.get(keys.0), stage.caller.get(keys.1)]
                    when(stage, { stage.caller.isSettled }) {
                        #expect(reads.map { stage.caller[$0] } == [.reply(.null), .reply(.text("5"))])
                        stage.finish()
                    }
                }
            }
        }
    }

    @Test("a driver that dies is cleared up after: committed if all parts were there, else aborted", arguments: 0...9)
    func deadDriver(life: Int) throws {
        try tell { stage in
            let keys = stage.pair("a")
            // Waits behind the transaction wherever that holds the keys.
            let run = MortalDriver(stage, id: 7, priority: 1, parts: transfer(keys), life: life)
            run.begin()
            when(stage, { run.isDead || run.answer != nil }) {
                // Every shard that was asked has heard it when a later call is answered.
                stage.caller.call(.exists, "{\(keys.0)}x")
                stage.caller.call(.exists, "{\(keys.1)}x")
                when(stage, { stage.caller.isSettled && stage.isQuiet }) {
                    let reads = [stage.caller.get(keys.0), stage.caller.get(keys.1)]
                    when(stage, { stage.caller.isSettled }) {
                        let values = reads.map { stage.caller[$0] }
                        let done: [Outcome?] = [.reply(.text("-1")), .reply(.text("1"))]
                        #expect(values == done || values == [.reply(.null), .reply(.null)])
                        if case .committed = run.answer { #expect(values == done) }
                        if life >= 2 { #expect(values == done) } else { #expect(values != done) }
                        stage.finish()
                    }
                }
            }
        }
    }

    @Test("intents outlive the process: their keys are locked until the transaction is decided")
    func reopened() throws {
        try Stage.withDirectory { directory in
            var keys = ("", "")
            func slow(_ settings: inout NodeSettings) { settings.transactions.recoveryMilliseconds = 1 << 40 }
            try tell(directory, disk: PosixDisk(), store: nil, settings: slow) { stage in
                keys = stage.pair("a")
                stage.caller.set(keys.0, "10")
                when(stage, { stage.caller.isSettled }) {
                    let run = MortalDriver(stage, id: 7, priority: 1, parts: self.transfer(keys), life: 2)
                    run.begin()
                    when(
                        stage,
                        { run.isDead && stage.node.executors.allSatisfy { $0.transactions.participant.partCount == 1 } }
                    ) {
                        // Durable, or this is not.
                        for key in [keys.0, keys.1] { stage.caller.set("{\(key)}x", "1") }
                        when(stage, { stage.caller.isSettled }) { stage.finish(.kill) }
                    }
                }
            }
            try tell(directory, disk: PosixDisk(), store: nil) { stage in
                #expect(stage.node.executors.count == 2)
                let reads = [stage.caller.get(keys.0), stage.caller.call(.incrementBy, keys.1, numbers: [1])]
                when(stage, { stage.caller.isSettled && stage.isQuiet }) {
                    #expect(reads.map { stage.caller[$0] } == [.reply(.text("9")), .reply(.integer(2))])
                    stage.finish()
                }
            }
        }
    }

    @Test("calls that meet a lock wait in their order; others go on; calls on the whole shard wait for all")
    func locks() throws {
        try tell { stage in
            let keys = stage.pair("a"), other = stage.pair("b")
            // Nobody decides: recovery does, when it is time.
            let run = MortalDriver(stage, id: 7, priority: 1, parts: transfer(keys), life: 2)
            run.begin()
            when(
                stage,
                { stage.node.executors.allSatisfy { $0.transactions.participant.partCount == 1 } || stage.isQuiet }
            ) {
                var order: [UInt64] = []
                let caller = stage.caller
                caller.onOutcome = { ticket, _ in order.append(ticket) }
                let first = caller.call(.incrementBy, keys.0, numbers: [10])
                let behind = caller.call(.append, other.0, [[0x31]])  // Of the same connection.
                let third = caller.call(.incrementBy, keys.0, numbers: [10], connection: 2)
                let size = caller.call(.databaseSize, keys.0, connection: 3)
                let batch = caller.batch(at: keys.0, connection: 4) {
                    $0.add(.get, keys.0)
                    $0.add(.incrementBy, keys.0, numbers: [100])
                }
                when(stage, { caller.isSettled && stage.isQuiet }) {
                    #expect(caller[first] == .reply(.integer(9)) && caller[behind] == .reply(.integer(1)))
                    #expect(caller[third] == .reply(.integer(19)) && caller[size] == .reply(.integer(2)))
                    #expect(caller[batch] == .reply(.batch([.text("19"), .integer(119)])))
                    stage.finish()
                }
            }
        }
    }

    @Test("reads over shards hold locks in memory, and leave nothing in the log")
    func reads() throws {
        try tell { stage in
            let keys = stage.pair("a")
            stage.caller.set(keys.0, "1")
            stage.caller.set(keys.1, "2")
            when(stage, { stage.caller.isSettled }) {
                let before = stage.node.executors.map { $0.group.lastIndex }
                let run = MortalDriver(
                    stage, id: 7, priority: 1,
                    parts: [
                        .init(at: keys.0) { $0.add(.get, keys.0) },
                        .init(at: keys.1) { $0.add(.get, keys.1) },
                    ], isReadOnly: true)
                run.begin()
                when(stage, { run.answer != nil && stage.isQuiet }) {
                    guard case .committed = run.answer else {
                        Issue.record("\(String(describing: run.answer))")
                        return stage.finish()
                    }
                    #expect(run.replies == [.batch([.text("1")]), .batch([.text("2")])])
                    #expect(stage.node.executors.map { $0.group.lastIndex } == before)
                    stage.finish()
                }
            }
        }
    }

    @Test("parts that cannot be taken are refused, and leave no lock")
    func refused() throws {
        try tell { stage in
            let keys = stage.pair("a")
            func answer(_ build: @escaping (inout CallBatchEncoder) -> Void, isReadOnly: Bool = false) -> MortalDriver {
                let run = MortalDriver(
                    stage, id: UInt64(stage.caller.made) + 100, priority: 1,
                    parts: [.init(at: keys.0, build), .init(at: keys.1) { $0.set(keys.1, "1") }], isReadOnly: isReadOnly
                )
                run.begin()
                return run
            }
            let runs = [
                answer { $0.set(keys.1, "1") },
                answer { $0.add(.install, keys.0, [[1], [2]], numbers: [1, 0, 0]) },
            ]
            when(stage, { runs.allSatisfy { $0.answer != nil } && stage.isQuiet }) {
                #expect(runs[0].replies[0] == .error(.staleMap) && runs[1].replies[0] == .error(.syntax))
                let get = stage.caller.get(keys.1)
                when(stage, { stage.caller.isSettled }) {
                    #expect(stage.caller[get] == .reply(.null))
                    stage.finish()
                }
            }
        }
    }

    @Test("FLUSHALL is part of a transaction: done with the rest, or not at all", arguments: [true, false])
    func flush(_ isDone: Bool) throws {
        try tell { stage in
            let keys = stage.pair("a"), others = stage.pair("b")
            for key in [keys.0, keys.1, others.0, others.1] { stage.caller.set(key, "1") }
            when(stage, { stage.caller.isSettled }) {
                let run = MortalDriver(
                    stage, id: 7, priority: 1,
                    parts: [
                        .init(at: keys.0) {
                            $0.set(keys.0, "2")
                            $0.add(.flushAll)
                            $0.set(others.0, "3")
                        },
                        .init(at: keys.1) {
                            if !isDone { $0.absent(keys.1) }
                            $0.add(.flushAll)
                            $0.set(keys.1, "4")
                        },
                    ])
                run.begin()
                when(stage, { run.answer != nil && stage.isQuiet }) {
                    let reads = [keys.0, others.0, keys.1, others.1].map { stage.caller.get($0) }
                    let sizes = [keys.0, keys.1].map { stage.caller.call(.databaseSize, $0) }
                    when(stage, { stage.caller.isSettled }) {
                        let values = isDone ? [nil, "3", "4", nil] : ["1", "1", "1", "1"]
                        #expect(
                            reads.map { stage.caller[$0] } == values.map { .reply($0.map { .text($0) } ?? .null) })
                        #expect(
                            sizes.map { stage.caller[$0] }
                                == Array(repeating: .reply(.integer(isDone ? 1 : 2)), count: 2))
                        stage.finish()
                    }
                }
            }
        }
    }

    @Test("a part whose intent the log does not take is not done, and nobody is told so")
    func tooLargeIntent() throws {
        try tell { stage in
            let keys = stage.pair("a")
            // What is locked is in the intent, too.
            let long = "{\(keys.0)}" + String(repeating: "x", count: 9 << 20)
            let run = MortalDriver(
                stage, id: 7, priority: 1,
                parts: [
                    .init(at: keys.0) {
                        for key in [keys.0, "{\(keys.0)}b"] { $0.add(.setRange, key, [[1]], numbers: [6 << 20]) }
                        $0.add(.exists, long)
                    },
                    .init(at: keys.1) { $0.set(keys.1, "1") },
                ])
            run.begin()
            when(stage, { run.answer != nil && stage.isQuiet }) {
                #expect(run.answer == .failed(part: 0))
                #expect(run.replies[0] == .error(.limitExceeded))
                let reads = [stage.caller.get(keys.0), stage.caller.get(keys.1)]
                when(stage, { stage.caller.isSettled }) {
                    #expect(reads.map { stage.caller[$0] } == [.reply(.null), .reply(.null)])
                    stage.finish()
                }
            }
        }
    }

    @Test("a leader answers no stale read from what is applied while something may be decided and not applied")
    func staleReads() throws {
        func slow(_ settings: inout NodeSettings) { settings.transactions.recoveryMilliseconds = 1 << 40 }
        try tell(settings: slow) { stage in
            let keys = stage.pair("a"), executor = stage.node.executors[0]
            func isAnswered() -> Bool {
                Bytes(keys.0.utf8).withUnsafeBytes { key in
                    var invocation = InvocationView()
                    let call = ActorCallView(
                        method: .get, database: 0, key: key, flags: 0,
                        numbers: NumberList(UnsafeBufferPointer(start: nil, count: 0)),
                        arguments: ViewList(UnsafeBufferPointer(start: nil, count: 0)))
                    (invocation.id, invocation.operation) = (7, .call(call))
                    return executor.read(
                        invocation, ReadTerms(.boundedStale), bookmark: .zero, scratch: ReplyBatchEncoder(),
                        ready: ReplyBatchEncoder())
                }
            }
            // Not before the first entry of the term is committed.
            when(stage, isAnswered) {
                let run = MortalDriver(stage, id: 7, priority: 1, parts: self.transfer(keys), life: 2)
                run.begin()
                when(stage, { executor.transactions.participant.partCount == 1 }) {
                    #expect(!isAnswered())
                    stage.finish()
                }
            }
        }
    }
}
