import Base
import Contracts
import DataModel
import TestKit
import Testing
import Transactions

@testable import StorageNode

/// A collection `users`, and calls for its records.
enum Users {
    static let id = CollectionID(rawValue: 16_385)
    static let idBytes: Bytes = [0, 0, 0x40, 1]

    static func primaryKey(_ number: Int64) -> Bytes { KeyEncoding.encode([.integer(number)]) }

    static func key(_ number: Int64) -> Bytes {
        primaryKey(number).withUnsafeBytes { RowKey.make(id, primaryKey: $0) }
    }

    /// The first record on the shard of a key, of two.
    static func number(besides key: String) -> Int64 {
        (1...).first { number in
            let slot = Self.key(number).withUnsafeBytes { Slot.of(RowKey.database, $0).rawValue }
            return (slot < 8192) == (OpenTransaction.slot(key) < 8192)
        } ?? 0
    }

    static func descriptor(_ version: UInt64) -> Bytes {
        let users = CollectionDescriptor(
            id: id, namespace: .default, name: "users", kind: .table, version: version, owner: "orbit")
        return CatalogObject.collection(users).encode()
    }
}

extension CallBatchEncoder {
    mutating func row(
        _ method: Contracts.Method, _ key: Bytes, _ arguments: [Bytes] = [], numbers: [Int64] = [1], flags: UInt32 = 0
    ) {
        let call = Self.encoded(
            method, key: key, arguments, numbers: numbers, flags: flags, database: RowKey.database)
        call.withUnsafeBytes { append(call: $0) }
    }

    mutating func put(_ number: Int64, _ record: String, version: Int64 = 1) {
        row(.rowPut, Users.key(number), [Bytes(record.utf8)], numbers: [version])
    }

    mutating func get(_ number: Int64, version: Int64 = 1) { row(.rowGet, Users.key(number), numbers: [version]) }

    /// The first definition is made by version 0 of the catalog, each later one by that before.
    mutating func define(_ version: Int64) {
        row(
            .schemaPut, Users.idBytes, [Users.descriptor(UInt64(version))],
            numbers: [version, version - 1])
    }

    mutating func scan(from bucket: Int64 = 0) {
        row(.rowScan, Users.idBytes, [[], [], []], numbers: [1, bucket, 0, 0, 0], flags: 1)
    }
}

/// Records of collections, and their schema, at the shards of a real node.
@Suite("Records at a node", .serialized)
struct RowTests {
    private func tell(shards: Int = 1, _ prepare: @escaping (Stage, Play) -> Void) throws {
        try Stage.withDirectory { directory in
            try Stage.run(
                directory, shards: shards,
                settings: {
                    ($0.transactions.recoveryMilliseconds, $0.transactions.repeatMilliseconds) = (20, 20)
                }
            ) { stage in
                let play = Play(stage)
                prepare(stage, play)
                play.begin()
            }
        }
    }

    private func waiters(_ stage: Stage) -> Int {
        stage.node.executors.reduce(0) { $0 + $1.transactions.participant.locks.waiterCount }
    }

    private func replies(_ outcome: Outcome?) -> [Reply] {
        guard case .reply(.batch(let replies))? = outcome else { return [] }
        return replies
    }

    @Test("a schema is made on all shards at once, and records are put, read and scanned by it")
    func schema() throws {
        try tell(shards: 2) { stage, play in
            let caller = stage.caller, one = OpenTransaction(stage, 7), keys = stage.pair("a"), both = [keys.0, keys.1]
            let numbers = both.map { Users.number(besides: $0) }
            var tickets: [UInt64] = []
            for key in both { one.run(at: key) { $0.define(1) } }
            play.when({ one.isSettled }) {
                tickets = zip(both, numbers).map { key, number in
                    one.run(at: key) {
                        $0.put(number, "own")
                        $0.scan(from: OpenTransaction.slot(key) == 0 ? 0 : 32)
                    }
                }
                tickets.append(caller.batch(at: keys.0, isWrite: false) { $0.get(numbers[0]) })
            }
            play.when({ one.isSettled && caller.isSettled }) {
                for (position, next) in ["32", "64"].enumerated() {
                    let own = String(decoding: Users.primaryKey(numbers[position]), as: UTF8.self)
                    #expect(one[tickets[position]] == [.list(["1"]), .list([own, next, ""])])
                }
                #expect(replies(caller.outcomes[tickets[2]]) == [.error(.staleSchema)])
                for key in both { one.step(.prepare, at: key, participants: both) }
            }
            play.when({ one.isSettled }) {
                let time = Timestamp(rawValue: 1)
                one.step(.commit, at: keys.0, participants: both, incarnation: 0, timestamp: time)
            }
            play.when({ one.isSettled }) {
                let time = Timestamp(rawValue: 1)
                one.step(.commit, at: keys.1, participants: both, incarnation: 0, timestamp: time)
                one.step(.forget, at: keys.0, participants: both, incarnation: 0)
            }
            play.when({ one.isSettled && stage.isQuiet }) {
                tickets = zip(both, numbers).map { key, number in
                    caller.batch(at: key, isWrite: false) { $0.get(number) }
                }
                tickets.append(caller.batch(at: keys.0) { $0.put(numbers[0], "x", version: 2) })
                tickets.append(caller.batch(at: keys.0) { $0.put(numbers[1], "elsewhere") })
            }
            play.when({ caller.isSettled }) {
                #expect(replies(caller.outcomes[tickets[0]]) == [.list(["own"])])
                #expect(replies(caller.outcomes[tickets[1]]) == [.list(["own"])])
                #expect(replies(caller.outcomes[tickets[2]]) == [.error(.staleSchema)])
                #expect(stage.node.executors.allSatisfy { (try? $0.catalog().version) == 1 })
            }
        }
    }

    @Test("locks, conflicts and versions of records are those of keys")
    func locks() throws {
        try tell { stage, play in
            let caller = stage.caller, one = OpenTransaction(stage, 7)
            var read: UInt64 = 0, write: UInt64 = 0, own: UInt64 = 0, commit: UInt64 = 0
            caller.batch(at: "k") { $0.define(1) }
            caller.batch(at: "k") { $0.put(1, "old") }
            own = one.run(at: "k") {
                $0.get(1)
                $0.put(1, "new")
                $0.get(1)
            }
            play.when({ caller.isSettled && one.isSettled }) {
                #expect(one[own] == [.list(["old"]), .list(["2"]), .list(["new"])])
                read = caller.batch(at: "k", isWrite: false) { $0.get(1) }
                write = caller.batch(at: "k", connection: 2) {
                    $0.row(.rowPut, Users.key(1), [Bytes("last".utf8)], flags: RowPutFlags.update.rawValue)
                }
            }
            play.when({ waiters(stage) == 1 }) { commit = one.commit(at: "k") }
            play.when({ one.isSettled && caller.isSettled && stage.isQuiet }) {
                #expect(one.isCommitted(commit))
                #expect(replies(caller.outcomes[read]) == [.list(["old"])])
                #expect(replies(caller.outcomes[write]) == [.list(["2"])])
                read = caller.batch(at: "k", isWrite: false) { $0.get(1) }
            }
            play.when({ caller.isSettled }) { #expect(replies(caller.outcomes[read]) == [.list(["last"])]) }
        }
    }

    @Test("who changes a collection waits for the transactions that use it, and they wait for him")
    func schemaLocks() throws {
        try tell { stage, play in
            let caller = stage.caller, user = OpenTransaction(stage, 7), definer = OpenTransaction(stage, 8)
            let late = OpenTransaction(stage, 9)
            var use: UInt64 = 0, change: UInt64 = 0, commit: UInt64 = 0
            caller.batch(at: "k") { $0.define(1) }
            play.when({ caller.isSettled }) { use = user.run(at: "k") { $0.get(1) } }
            play.when({ user.isSettled }) {
                #expect(user[use] == [.list(["nil"])])
                change = definer.run(at: "k") { $0.define(2) }
            }
            play.when({ waiters(stage) == 1 }) {
                #expect(!definer.isSettled)
                user.step(.abort, at: "k")
            }
            play.when({ user.isSettled && definer.isSettled }) {
                #expect(definer[change] == [.ok])
                use = late.run(at: "k") { $0.put(1, "x") }
            }
            play.when({ waiters(stage) == 1 }) { commit = definer.commit(at: "k") }
            play.when({ late.isSettled && definer.isSettled }) {
                #expect(definer.isCommitted(commit) && late[use] == [.error(.staleSchema)])
                use = late.run(at: "k") { $0.put(1, "x", version: 2) }
            }
            play.when({ late.isSettled }) {
                #expect(late[use] == [.list(["1"])])
                late.step(.abort, at: "k")
            }
            play.when({ late.isSettled && stage.isQuiet }) {}
        }
    }

    @Test("the first committer of a record wins, and the past of a collection is as it was")
    func snapshots() throws {
        try tell { stage, play in
            let caller = stage.caller, one = OpenTransaction(stage, 7)
            var read: UInt64 = 0, write: UInt64 = 0, scan: UInt64 = 0
            caller.batch(at: "k") { $0.define(1) }
            caller.batch(at: "k") { $0.put(1, "old") }
            play.when({ caller.isSettled }) {
                stage.router.readTimestamp { result in
                    one.scope.isolation = .snapshot
                    one.scope.readTimestamp = (try? result.get()) ?? .zero
                    caller.batch(at: "k") {
                        $0.put(1, "new")
                        $0.put(2, "new")
                    }
                }
            }
            play.when({ caller.isSettled && one.scope.readTimestamp > .zero }) {
                read = one.run(at: "k") { $0.get(1) }
                scan = one.run(at: "k") { $0.scan() }
            }
            play.when({ one.isSettled }) {
                #expect(one[read] == [.list(["old"])])
                #expect(one[scan] == [.list([String(decoding: Users.primaryKey(1), as: UTF8.self), "64", ""])])
                write = one.run(at: "k") { $0.put(1, "mine") }
            }
            play.when({ one.isSettled && stage.isQuiet }) { #expect(one.error(write) == .serializationFailure) }
        }
    }

    @Test("records and schema are there when the node begins again")
    func restart() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, disk: PosixDisk(), store: nil) { stage in
                stage.caller.batch(at: "k") { $0.define(1) }
                stage.caller.batch(at: "k") { $0.put(1, "kept") }
                Play.whenSettled(stage) { stage.finish() }
            }
            try Stage.run(directory, disk: PosixDisk(), store: nil) { stage in
                let read = stage.caller.batch(at: "k", isWrite: false) {
                    $0.get(1)
                    $0.row(.schemaRead, [], numbers: [1])
                }
                Play.whenSettled(stage) {
                    #expect(replies(stage.caller.outcomes[read]) == [.list(["kept"]), .list(["1"])])
                    stage.finish()
                }
            }
        }
    }
}
