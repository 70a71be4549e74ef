import Base
import Contracts
import DataModel
import Net
import Storage
import TestKit
import Testing

@testable import StorageNode

@Suite("Batches", .serialized)
struct BatchTests {
    /// Waits for every call so far, then goes on.
    private func settled(_ stage: Stage, _ next: @escaping () -> Void) {
        stage.poll {
            guard stage.caller.isSettled else { return false }
            next()
            return true
        }
    }

    @Test("calls are done in order and in one entry; an error of one is its reply")
    func inOrder() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory) { stage in
                let caller = stage.caller, executor = stage.node.executors[0]
                caller.set("warm", "1")
                settled(stage) {
                    let before = executor.group.lastIndex.rawValue
                    caller.set("x", "1")
                    let batch = caller.batch(at: "a") {
                        $0.set("a", "1")
                        $0.add(.incrementBy, "a", numbers: [5])
                        $0.add(.hashSet, "a", [[1], [2]])
                        $0.add(.get, "a")
                        $0.add(.databaseSize)
                        $0.add(.get, "missing")
                    }
                    caller.get("a")
                    let empty = caller.batch(at: "a") { _ in }
                    settled(stage) {
                        #expect(
                            caller[batch]
                                == .reply(
                                    .batch([.ok, .integer(6), .error(.wrongType), .text("6"), .integer(3), .null])))
                        #expect(caller[batch + 1] == .reply(.text("6")) && caller[empty] == .reply(.batch([])))
                        // What was open before it has an entry of its own.
                        #expect(executor.group.lastIndex.rawValue == before + 2)
                        stage.finish()
                    }
                }
            }
        }
    }

    @Test("watches: all hold, or nothing is done")
    func watches() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory) { stage in
                let caller = stage.caller
                caller.set("a", "1")
                let tickets = [caller.call(.version, "a"), caller.call(.version, "b")]
                settled(stage) {
                    let versions = tickets.map { ticket -> Int64 in
                        guard case .reply(.integer(let version)) = caller[ticket] else { return 0 }
                        return version
                    }
                    func attempt() -> UInt64 {
                        caller.batch(at: "a") {
                            $0.watch("a", versions[0])
                            $0.watch("b", versions[1])
                            $0.absent("c")
                            $0.add(.incrementBy, "n", numbers: [1])
                        }
                    }
                    // Twice well, because it touches none of them; a write in the same tick is seen.
                    let first = [attempt(), attempt()]
                    caller.set("b", "1")
                    let second = [attempt()]
                    caller.call(.delete, "b")
                    let third = [attempt()]
                    let absent = (0..<2).map { _ in
                        caller.batch(at: "d") {
                            $0.absent("d")
                            $0.set("d", "1")
                        }
                    }
                    let count = caller.get("n")
                    settled(stage) {
                        #expect(
                            first.map { caller[$0] } == [.reply(.batch([.integer(1)])), .reply(.batch([.integer(2)]))])
                        #expect((second + third).allSatisfy { caller[$0] == .reply(.null) })
                        #expect(absent.map { caller[$0] } == [.reply(.batch([.ok])), .reply(.null)])
                        #expect(caller[count] == .reply(.text("2")))
                        stage.finish()
                    }
                }
            }
        }
    }

    @Test("calls without a key may be in a batch")
    func keyless() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory) { stage in
                let caller = stage.caller
                for number in 0..<10 { caller.set("k\(number)", "1") }
                let batch = caller.batch(at: "a") {
                    $0.add(.databaseSize)
                    $0.set("a", "1")
                    $0.add(.flushDatabase)
                    $0.set("b", "2")
                    $0.add(.keys, "", [Bytes("*".utf8)])
                    $0.add(.randomKey)
                    $0.add(.scan, numbers: [0, 100])
                    $0.add(.get, "k1")
                }
                let size = caller.call(.databaseSize, "")
                settled(stage) {
                    #expect(
                        caller[batch]
                            == .reply(
                                .batch([
                                    .integer(10), .ok, .ok, .ok, .list(["b"]), .text("b"), .list(["0", "b"]), .null,
                                ])))
                    #expect(caller[size] == .reply(.integer(1)))
                    stage.finish()
                }
            }
        }
    }

    @Test("the reply waits until the entry is durable, and a batch of reads for what it saw")
    func durability() throws {
        try Stage.withDirectory { directory in
            let disk = GatedDisk(SimulatedDisk(seed: 2))
            try Stage.run(directory, settings: { $0.log.inlineSyncNanoseconds = 0 }, disk: disk) { stage in
                let caller = stage.caller
                caller.set("old", "0")
                settled(stage) {
                    disk.shut()
                    let syncs = disk.syncs
                    let held = [
                        caller.batch(at: "a") {
                            $0.set("a", "1")
                            $0.set("b", "1")
                        },
                        caller.batch(at: "a", isWrite: false) {
                            $0.add(.get, "old")
                            $0.add(.get, "a")
                        },
                        caller.batch(at: "a") {
                            $0.absent("b")
                            $0.set("a", "2")
                        },
                    ]
                    let free = caller.batch(at: "old", isWrite: false) { $0.add(.get, "old") }
                    var rounds = 0
                    stage.poll {
                        guard caller[free] != nil, disk.syncs > syncs else { return false }
                        if rounds == 0 {
                            #expect(caller[free] == .reply(.batch([.text("0")])))
                            #expect(held.allSatisfy { caller[$0] == nil }, "a reply overtook its entry")
                            disk.open()
                        }
                        rounds += 1
                        guard caller.isSettled else { return false }
                        let replies: [Reply] = [.batch([.ok, .ok]), .batch([.text("0"), .text("1")]), .null]
                        #expect(held.map { caller[$0] } == replies.map { .reply($0) })
                        stage.finish()
                        return true
                    }
                }
            }
        }
    }

    @Test("a batch with too many effects, or too large a reply, is not done; what came before it in the tick is")
    func tooLarge() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, settings: { $0.log.segmentBytes = 64 << 20 }) { stage in
                let caller = stage.caller
                caller.call(.set, "big", [Bytes(repeating: 0x61, count: 7 << 20)])
                settled(stage) {
                    let before = caller.set("before", "1")
                    let copies = caller.batch(at: "a") {
                        $0.set("a", "1")
                        for number in 0..<4 {
                            $0.add(.copy, "big", [Bytes("copy\(number)".utf8)], numbers: [-1])
                        }
                    }
                    settled(stage) {
                        let reads = [true, false].map { isWrite in
                            caller.batch(at: "a", isWrite: isWrite) {
                                if isWrite { $0.set("a", "1") }
                                for _ in 0..<4 { $0.add(.get, "big") }
                            }
                        }
                        settled(stage) {
                            let after = caller.batch(at: "a") {
                                $0.add(.databaseSize)
                                $0.add(.get, "a")
                                $0.add(.exists, "copy0", [Bytes("copy1".utf8)])
                                $0.add(.get, "before")
                                $0.set("a", "2")
                            }
                            settled(stage) {
                                #expect(caller[before] == .reply(.ok))
                                for ticket in [copies] + reads {
                                    #expect(caller[ticket] == .reply(.error(.limitExceeded)))
                                }
                                #expect(
                                    caller[after]
                                        == .reply(.batch([.integer(2), .null, .integer(0), .text("1"), .ok])))
                                stage.finish()
                            }
                        }
                    }
                }
            }
        }
    }

    @Test("a batch that the log does not take is undone, and told")
    func abandoned() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, settings: { $0.log.segmentBytes = 128 << 10 }) { stage in
                let caller = stage.caller
                let before = caller.set("before", "1")
                let batch = caller.batch(at: "a") {
                    $0.set("a", "1")
                    $0.add(.set, "large", [Bytes(repeating: 0x61, count: 200_000)])
                }
                settled(stage) {
                    let after = caller.batch(at: "a") {
                        for key in ["before", "a", "large"] { $0.add(.get, key) }
                    }
                    settled(stage) {
                        #expect(caller[before] == .reply(.ok))
                        #expect(caller[batch] == .reply(.error(.limitExceeded)))
                        #expect(caller[after] == .reply(.batch([.text("1"), .null, .null])))
                        stage.finish()
                    }
                }
            }
        }
    }

    @Test("what is not this shard's, and a part of nothing, is refused as a whole")
    func refused() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, shards: 2) { stage in
                let caller = stage.caller
                let names = (0..<20).map { "k\($0)" }
                func shard(_ name: String) -> Int? {
                    stage.router.shardIndex(ofSlot: Bytes(name.utf8).withUnsafeBytes { UInt32(Slot.of($0).rawValue) })
                }
                guard let here = names.first(where: { shard($0) == 0 }),
                    let there = names.first(where: { shard($0) == 1 })
                else {
                    Issue.record("no keys")
                    return stage.finish()
                }
                let cases: [(UInt64, ErrorCode)] = [
                    (
                        caller.batch(at: here) {
                            $0.set(here, "1")
                            $0.set(there, "1")
                        }, .staleMap
                    ),
                    (
                        caller.batch(at: here) {
                            $0.absent(there)
                            $0.set(here, "1")
                        }, .staleMap
                    ),
                    (
                        caller.batch(at: here) {
                            $0.set(here, "1")
                            // The slot that it is sent to is none of them.
                            $0.append(TransactionPart(id: 1, priority: 1, participants: [0, 16383]))
                        }, .invalidArgument
                    ),
                ]
                let get = caller.get(here)
                settled(stage) {
                    for (ticket, code) in cases { #expect(caller[ticket] == .reply(.error(code))) }
                    #expect(caller[get] == .reply(.null))
                    stage.finish()
                }
            }
        }
    }

    @Test("a batch with a token is done once, and answered again; another one with the same token is refused")
    func token() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory) { stage in
                func request(_ id: UInt64, by delta: Int64) -> Bytes {
                    var batch = CallBatchEncoder(), encoder = InvocationBatchEncoder(session: 0)
                    batch.add(.incrementBy, "n", numbers: [delta])
                    batch.set("m", "1")
                    encoder.append(id: id, connection: 1, slot: 5, batch: batch.message)
                    var body: Bytes = []
                    try? encoder.message.bytes.withUnsafeBytes { frame in
                        try InvocationBatchDecoder().decode(frame) { body = $0.encoded.bytes }
                    }
                    body += [9 << 3, 1]
                    return [1 << 3 | 1, 9, 0, 0, 0, 0, 0, 0, 0, InvocationView.tag, UInt8(body.count)] + body
                }
                let done = Reply.batch([.integer(4), .ok])
                let story: [(Bytes, Reply)] = [
                    (request(1, by: 4), done), (request(1, by: 4), done),
                    (request(1, by: 5), .error(.invalidArgument)),
                    (request(2, by: 4), .batch([.integer(8), .ok])), (request(1, by: 4), done),
                ]
                let channel = GRPCClientChannel(
                    loop: stage.loop, address: stage.address, limits: InvocationStream.limits)
                func ask(_ index: Int) {
                    guard index < story.count else {
                        channel.close()
                        return stage.finish()
                    }
                    channel.unary(path: "/orbit.v1.InvocationService/Invoke", request: story[index].0) { result in
                        var replies: [UInt64: Reply]?
                        if case .success(let bytes) = result {
                            replies = bytes.withUnsafeBytes { try? Reply.decode($0) }
                        }
                        #expect(replies.map { Array($0.values) } == [story[index].1], "step \(index): \(result)")
                        ask(index + 1)
                    }
                }
                ask(0)
            }
        }
    }

    @Test("money that batches move is neither lost nor made, whoever looks and whenever the process dies")
    func bank() throws {
        let seed = freshSeed("Batches.bank")
        try Stage.withDirectory { directory in
            var random = SplitMix64(seed: seed)
            for life in 0..<4 {
                try Stage.run(directory, disk: PosixDisk(), store: nil) { stage in
                    let caller = stage.caller
                    var looks: Set<UInt64> = []
                    func look() {
                        looks.insert(
                            caller.batch(at: "0", isWrite: false) { batch in
                                for account in 0..<8 { batch.add(.get, "\(account)") }
                            })
                    }
                    look()
                    var left = 300 + random.next(below: 300)
                    caller.onOutcome = { ticket, outcome in
                        if looks.contains(ticket), case .reply(let reply) = outcome {
                            guard case .batch(let replies) = reply else {
                                Issue.record("\(reply)")
                                return
                            }
                            let sum = replies.reduce(0) { sum, reply in
                                guard case .text(let text) = reply else { return sum }
                                return sum + (Int(text) ?? 1 << 40)
                            }
                            #expect(sum == 0 && replies.count == 8, "life \(life)")
                        }
                        guard left > 0 else { return }
                        left -= 1
                        // In the middle of what is on its way.
                        if left == 0 { return stage.finish(.kill) }
                        for _ in 0..<(caller.made - UInt64(caller.outcomes.count) > 20 ? 1 : 2) {
                            let (from, to) = (random.next(below: 8), random.next(below: 8))
                            let amount = Int64(random.next(below: 100))
                            switch random.next(below: 4) {
                            case 0: look()
                            case 1: caller.set("other\(from)", "x")
                            default:
                                caller.batch(at: "0", connection: from) {
                                    $0.add(.incrementBy, "\(from)", numbers: [-amount])
                                    $0.add(.incrementBy, "\(to)", numbers: [amount])
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
