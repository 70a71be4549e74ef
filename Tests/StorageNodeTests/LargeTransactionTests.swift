import Base
import Contracts
import DataModel
import Feeds
import Storage
import TestKit
import Testing
import Transactions

@testable import StorageNode

/// Transactions that change more than an entry of the log holds, at the shards of a real node; what an entry holds is
/// made small for them.
@Suite("Transactions in pieces at a node", .serialized)
struct LargeTransactionTests {
    /// Keys that a transaction writes at a shard, and their values: some forty pieces.
    private static let count = 300, value = String(repeating: "x", count: 100)

    private static func small(_ settings: inout NodeSettings) {
        settings.transactions.cut(above: 1024)
        settings.log.inlineSyncNanoseconds = 0  // Or the loop itself would wait at the gate.
        (settings.transactions.recoveryMilliseconds, settings.transactions.repeatMilliseconds) = (20, 20)
    }

    /// Plays over two shards with a real disk, so that pieces take their time.
    private static func tell(
        _ directory: String, disk: any Disk = PosixDisk(), _ prepare: @escaping (Stage, Play) -> Void
    ) throws {
        try Stage.run(directory, shards: 2, settings: small, disk: disk, store: nil) { stage in
            let play = Play(stage)
            prepare(stage, play)
            play.begin()
        }
    }

    private static func names(_ key: String) -> [String] { (0..<count).map { "{\(key)}\($0)" } }

    private static func write(_ transaction: OpenTransaction, at key: String) {
        for first in stride(from: 0, to: count, by: 50) {
            transaction.run(at: key) { batch in
                for name in names(key)[first..<first + 50] { batch.set(name, value) }
            }
        }
    }

    /// How many of the keys the store of their shard shows, and pieces that are stored there.
    private static func stored(_ stage: Stage, _ key: String) throws -> (keys: Int, pieces: Int, isMarked: Bool) {
        let slot = OpenTransaction.slot(key)
        guard let executor = stage.node.executors.first(where: { $0.shard.rawValue == (slot == 0 ? 1 : 2) })
        else { return (0, 0, false) }
        var keys = 0, pieces = 0
        for name in names(key) {
            var record = ByteBuffer(capacity: 64)
            Bytes(name.utf8).withUnsafeBytes {
                NativeKeyLayout.appendRecord(slotOf: 0, $0, bucketCount: executor.bucketCount, into: &record)
            }
            if try executor.store.get(record.readable) != nil { keys += 1 }
        }
        for bucket in executor.buckets.joined() {
            var prefix = ByteBuffer(capacity: 16)
            TransactionKey.appendPiecePrefix(BucketID(rawValue: UInt16(bucket)), into: &prefix)
            let from = prefix.readable.bytes
            NativeKeyLayout.makeRangeEnd(&prefix)
            try from.withView { (from: ByteView) throws(StoreError) in
                try executor.store.scan(from: from, to: prefix.readable) { _, _ in
                    pieces += 1
                    return true
                }
            }
        }
        return (keys, pieces, executor.reads.isHalfDone)
    }

    private static func isOver(_ stage: Stage) -> Bool {
        stage.isQuiet && stage.node.executors.allSatisfy { $0.transactions.participant.orphanCount == 0 }
    }

    @Test("at one shard, committed at once: others wait, replicas without locks are told, nothing is left")
    func single() throws {
        try Stage.withDirectory { directory in
            try Self.tell(directory) { stage, play in
                let caller = stage.caller, one = OpenTransaction(stage, 7), key = stage.pair("a").0
                var commit: UInt64 = 0, read: UInt64 = 0, halves = 0, most = 0
                Self.write(one, at: key)
                play.when({ one.isSettled }) { commit = one.commit(at: key) }
                play.when({
                    guard let now = try? Self.stored(stage, key) else { return false }
                    most = max(most, now.pieces)
                    if now.keys != 0, now.keys != Self.count {
                        halves += 1
                        #expect(now.isMarked)
                        if read == 0 { read = caller.get("{\(key)}0") }
                    }
                    return one.isSettled && caller.isSettled && Self.isOver(stage) && now.keys == Self.count
                }) {
                    #expect(one.isCommitted(commit) && halves > 1 && most > 4)
                    #expect(caller[read] == .reply(.text(Self.value)))
                    let now = try? Self.stored(stage, key)
                    #expect(now?.pieces == 0 && now?.isMarked == false)
                }
                play.when({ true }) { read = caller.call(.databaseSize, key) }
                play.when({ caller.isSettled }) { #expect(caller[read] == .reply(.integer(Int64(Self.count)))) }
            }
        }
    }

    @Test("given up while its pieces are written, it leaves nothing")
    func abort() throws {
        try Stage.withDirectory { directory in
            try Self.tell(directory) { stage, play in
                let one = OpenTransaction(stage, 7), key = stage.pair("a").0
                var prepare: UInt64 = 0, most = 0
                Self.write(one, at: key)
                play.when({ one.isSettled }) { prepare = one.step(.prepare, at: key, participants: [key]) }
                play.when({
                    most = (try? Self.stored(stage, key).pieces) ?? 0
                    return most > 1
                }) { one.step(.abort, at: key) }
                play.when({ one.isSettled && Self.isOver(stage) && (try? Self.stored(stage, key).pieces) == 0 }) {
                    #expect(!one.isPrepared(prepare) && (try? Self.stored(stage, key).keys) == 0)
                }
            }
        }
    }

    @Test(
        "at several shards, killed after so many rounds of the log: all of it or nothing",
        arguments: Array(stride(from: 1, to: 100, by: 7)) + [45, 46, 47, 48, 49, 500])
    func killed(_ moment: Int) throws {
        try Stage.withDirectory { directory in
            let disk = GatedDisk(PosixDisk())
            var commit: UInt64 = 0, isCommitted = false, keys: [String] = []
            try Self.tell(directory, disk: disk) { stage, play in
                let one = OpenTransaction(stage, 7)
                keys = [stage.pair("a").0, stage.pair("a").1]
                for key in keys { Self.write(one, at: key) }
                play.when({ one.isSettled }) {
                    let last = disk.syncs + moment
                    disk.shut(after: last)
                    for key in keys { one.step(.prepare, at: key, participants: keys) }
                    stage.poll {
                        if one.isSettled, commit == 0 {
                            commit = one.step(
                                .commit, at: keys[0], participants: keys, incarnation: 0,
                                timestamp: Timestamp(rawValue: 1))
                        }
                        isCommitted = one.isCommitted(commit)
                        guard disk.syncs > last || isCommitted && Self.isOver(stage) else { return false }
                        stage.finish(.kill)
                        disk.open()
                        return true
                    }
                }
                play.when({ false }) {}
            }
            try Self.tell(directory) { stage, play in
                func isOver() -> Bool {
                    Self.isOver(stage) && keys.allSatisfy { (try? Self.stored(stage, $0).pieces) == 0 }
                }
                play.when(isOver) {
                    do {
                        let found = try keys.map { try Self.stored(stage, $0) }
                        #expect(found.allSatisfy { !$0.isMarked })
                        let counts = Set(found.map(\.keys))
                        #expect(counts == [Self.count] || counts == [0] && !isCommitted, "\(found) at \(moment)")
                        print("killed at \(moment): \(counts) are there, told: \(isCommitted)")
                    } catch {
                        Issue.record(error)
                    }
                }
            }
        }
    }

    @Test("a feed tells the commit whole, whether it listens or comes later")
    func feeds() throws {
        try Stage.withDirectory { directory in
            try Self.tell(directory) { stage, play in
                let one = OpenTransaction(stage, 7), key = stage.pair("a").0
                let fields = (0..<Self.count).map { Bytes("f\($0)".utf8) }
                let executor = stage.node.executors[OpenTransaction.slot(key) == 0 ? 0 : 1]
                let early = Listener(executor, from: nil)
                guard let start = early.positions.first?.position else { return }
                var late: Listener?
                one.run(at: key) { batch in
                    for field in fields { batch.add(.hashSet, "{\(key)}h", [field, Bytes(Self.value.utf8)]) }
                }
                Self.write(one, at: key)
                play.when({ one.isSettled }) { one.commit(at: key) }
                play.when({ executor.reads.isHalfDone }) { late = Listener(executor, from: start) }
                func check(_ listener: Listener?) {
                    let changes = listener?.changes ?? []
                    #expect(changes.count == Self.count + 1 && Set(changes.map(\.timestamp)).count == 1)
                    #expect(changes.first { $0.key.last == UInt8(ascii: "h") }?.content.fields.count == Self.count)
                }
                play.when({
                    one.isSettled && Self.isOver(stage) && early.changes.count > Self.count
                        && (late?.changes.count ?? 0) > Self.count
                }) {
                    check(early)
                    check(late)
                    early.leave()
                    late?.leave()
                }
            }
        }
    }
}
