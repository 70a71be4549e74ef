import Base
import Contracts
import Storage
import TestKit
import Testing

@testable import StorageNode

@Suite("Node", .serialized)
struct NodeTests {
    @Test(
        "pipelined writes and reads over two shards: each answered once, in the order of its key",
        arguments: [false, true])
    func pipelined(isEverySecond: Bool) throws {
        let seed = freshSeed("Node.pipelined")
        try Stage.withDirectory { directory in
            try Stage.run(
                directory, shards: 2, settings: { if isEverySecond { $0.durability = .everySecond } }
            ) { stage in
                var random = SplitMix64(seed: seed)
                let caller = stage.caller
                var counters: [String: Int64] = [:], texts: [String: String] = [:]
                var expected: [UInt64: Outcome] = [:]
                func burst() {
                    for _ in 0..<(1 + random.next(below: 400)) {
                        let key = "k\(random.next(below: 30))"
                        switch random.next(below: 5) {
                        case 0, 1:
                            counters["n" + key, default: 0] += 3
                            let ticket = caller.call(.incrementBy, "n" + key, numbers: [3])
                            expected[ticket] = .reply(.integer(counters["n" + key]!))
                        case 2:
                            texts[key] = "v\(caller.made)"
                            expected[caller.set(key, texts[key]!)] = .reply(.ok)
                        case 3:
                            let ticket = caller.set(key, "x", flags: .ifAbsent)
                            expected[ticket] = .reply(texts[key] == nil ? .ok : .null)
                            if texts[key] == nil { texts[key] = "x" }
                        default: expected[caller.get(key)] = .reply(texts[key].map { .text($0) } ?? .null)
                        }
                    }
                }
                caller.onOutcome = { ticket, outcome in
                    #expect(outcome == expected[ticket], "call \(ticket)")
                    if caller.made < 4000 {
                        if random.next(below: 100) == 0 { burst() }
                        if caller.isSettled { burst() }
                    } else if caller.isSettled {
                        #expect(stage.node.invocations == caller.made && stage.router.inFlight == 0)
                        stage.finish()
                    }
                }
                burst()
            }
        }
    }

    @Test("no reply leaves before what it observed is durable; what observed nothing pending does not wait")
    func durability() throws {
        try Stage.withDirectory { directory in
            let disk = GatedDisk(SimulatedDisk(seed: 2))
            // As on a slow disk: syncs run on the log's thread, and the loop goes on.
            try Stage.run(
                directory, shards: 2, settings: { $0.log.inlineSyncNanoseconds = 0 }, disk: disk
            ) { stage in
                let caller = stage.caller
                caller.set("{b}old", "0")
                var held: [UInt64] = [], rounds = 0, syncs = 0
                caller.onOutcome = { ticket, outcome in
                    if ticket == 1 {
                        disk.shut()
                        syncs = disk.syncs
                        held = [
                            caller.set("a", "1"), caller.get("a"), caller.set("a", "2", flags: .ifAbsent),
                            caller.call(.stringLength, "a"), caller.set("{b}new", "1"), caller.get("{b}new"),
                        ]
                        caller.get("{b}old")
                        return
                    }
                    guard !held.contains(ticket) else { return }
                    rounds += 1
                    #expect(outcome == .reply(.text("0")))
                    #expect(held.allSatisfy { caller[$0] == nil }, "a reply overtook its entry")
                    // The entry lies before the gate, and reads of other keys of the same shard come and go.
                    if rounds < 50 || disk.syncs == syncs {
                        caller.get("{b}old")
                    } else {
                        disk.open()
                        stage.poll {
                            guard caller.isSettled else { return false }
                            let replies: [Reply] = [.ok, .text("1"), .null, .integer(1), .ok, .text("1")]
                            for (ticket, reply) in zip(held, replies) { #expect(caller[ticket] == .reply(reply)) }
                            stage.finish()
                            return true
                        }
                    }
                }
            }
        }
    }

    @Test(
        "closed or killed and opened again, a node has everything, and its timestamps go on above",
        arguments: [Stage.End.drain, .kill])
    func reopened(_ end: Stage.End) throws {
        try Stage.withDirectory { directory in
            var last = Timestamp.zero
            for life in 0..<3 {
                try Stage.run(directory, shards: 2, disk: PosixDisk(), store: nil) { stage in
                    let caller = stage.caller
                    let first = stage.node.clock.next()
                    #expect(first > last, "life \(life) begins below the one before")
                    for number in 0..<500 {
                        caller.get("key\(number)")
                        caller.call(.hashGet, "hash\(number % 20)", [Bytes("f\(number)".utf8)])
                    }
                    for number in 0..<500 {
                        caller.set("key\(number)", "\(life).\(number)")
                        caller.call(.hashSet, "hash\(number % 20)", [Bytes("f\(number)".utf8), Bytes("\(life)".utf8)])
                    }
                    caller.onOutcome = { _, _ in
                        guard caller.isSettled else { return }
                        for number in 0..<500 {
                            let ticket = UInt64(2 * number + 1)
                            #expect(caller[ticket] == .reply(life == 0 ? .null : .text("\(life - 1).\(number)")))
                            #expect(caller[ticket + 1] == .reply(life == 0 ? .null : .text("\(life - 1)")))
                            #expect(caller[ticket + 1000] == .reply(.ok))
                        }
                        last = stage.node.clock.last
                        stage.finish(end)
                    }
                }
            }
        }
    }

    @Test("a full disk refuses writes, serves reads, and takes writes again when there is room")
    func diskFull() throws {
        try Stage.withDirectory { directory in
            let disk = SimulatedDisk(seed: 3), store = MemoryStore()
            let value = String(repeating: "x", count: 20_000)
            var acknowledged: [String] = []
            func grow(_ settings: inout NodeSettings) { settings.log.segmentBytes = 256 << 10 }
            try Stage.run(directory, settings: grow, disk: disk, store: store) { stage in
                let caller = stage.caller
                disk.capacity = 3 << 20
                var keys: [UInt64: String] = [:], reads: Set<UInt64> = []
                var refusals = 0, isRoomy = false, newest: Outcome?
                func write() {
                    let key = "k\(caller.made)"
                    keys[caller.set(key, value)] = key
                }
                caller.onOutcome = { ticket, outcome in
                    if reads.contains(ticket) { return #expect(outcome == .reply(.text(value))) }
                    newest = outcome
                    if outcome == .reply(.ok) {
                        acknowledged.append(keys[ticket]!)
                    } else {
                        #expect(outcome == .reply(.error(.diskFull)))
                        refusals += 1
                    }
                }
                stage.poll {
                    if !isRoomy {
                        // What was accepted before waits for room; the others are refused at once.
                        write()
                        if refusals >= 20, reads.isEmpty {
                            for key in acknowledged.suffix(5) { reads.insert(caller.get(key)) }
                        }
                        guard refusals >= 40, reads.allSatisfy({ caller[$0] != nil }) else { return false }
                        isRoomy = true
                        disk.capacity = .max
                    }
                    guard caller.isSettled else { return false }
                    if newest == .reply(.ok) {
                        stage.finish(.kill)
                        return true
                    }
                    write()
                    return false
                }
            }
            #expect(acknowledged.count > 20)
            // Reopened, everything that was acknowledged is there: in the log, or flushed when that made room.
            store.crash()
            try Stage.run(directory, settings: grow, disk: disk, store: store) { stage in
                for key in acknowledged { stage.caller.get(key) }
                stage.caller.onOutcome = { _, outcome in
                    #expect(outcome == .reply(.text(value)))
                    if stage.caller.isSettled { stage.finish() }
                }
            }
        }
    }

    @Test("an entry that the log will never take: its callers are told, nothing of it happened, the shard goes on")
    func abandoned() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, settings: { $0.log.segmentBytes = 128 << 10 }) { stage in
                let caller = stage.caller
                caller.set("a", "0")
                caller.onOutcome = { ticket, outcome in
                    switch ticket {
                    case 1:
                        // One tick, one entry.
                        caller.set("a", "1")
                        caller.set("large", String(repeating: "x", count: 200_000))
                        caller.get("a")
                    case 2...4:
                        #expect(outcome == .reply(.error(.limitExceeded)))
                        if ticket == 4 { caller.get("large") }
                    default:
                        // Until the shard has rebuilt what is pending it says so.
                        if outcome == .reply(.error(.busy)) {
                            caller.get("large")
                            return
                        }
                        if outcome == .reply(.null) {
                            caller.get("a")
                            return
                        }
                        if outcome == .reply(.text("0")) {
                            caller.set("a", "2")
                            return
                        }
                        #expect(outcome == .reply(.ok))
                        stage.finish()
                    }
                }
            }
        }
    }

    @Test("a connection with too much to send waits, in order, and the others do not", arguments: [false, true])
    func backlog(isHeld: Bool) throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, settings: { $0.replyShare = 1 << 20 }) { stage in
                let caller = stage.caller
                let old = String(repeating: "x", count: 100_000), new = String(repeating: "y", count: 100_000)
                var last: UInt64 = 0, order: [UInt64] = []
                caller.onOutcome = { ticket, outcome in
                    if ticket == 2 {
                        // Replies that wait for an entry, in the second case.
                        if isHeld { caller.set("a", old) }
                        for _ in 0..<200 { caller.get("a") }
                        caller.set("a", new)
                        for _ in 0..<200 { caller.get("a") }
                        last = caller.made
                        caller.call(.set, "b", [Bytes("z".utf8)], connection: 2)
                        caller.call(.get, "b", connection: 3)
                        caller.call(.get, "c", connection: 4)
                    }
                    order.append(ticket)
                    guard caller.isSettled else { return }
                    let first: UInt64 = isHeld ? 4 : 3, set = first + 200
                    let isOld = (first..<set).allSatisfy { caller[$0] == .reply(.text(old)) }
                    let isNew = (set + 1...last).allSatisfy { caller[$0] == .reply(.text(new)) }
                    #expect(isOld && isNew)
                    #expect(caller[set] == .reply(.ok))
                    #expect(caller[last + 1] == .reply(.ok) && caller[last + 2] == .reply(.text("z")))
                    #expect(caller[last + 3] == .reply(.text("c")))
                    // Ahead of all but a share or two of those who asked before. The others wait for the log, and how
                    // many replies leave meanwhile is the machine's to say.
                    let position = order.firstIndex(of: last + 3)
                    #expect(position.map { $0 < 50 } == true, "it came as number \(position ?? -1)")
                    stage.finish()
                }
                caller.set("c", "c")
                caller.set("a", old)
            }
        }
    }

    @Test("connections wait while the stream has too much, each call is answered once")
    func sharedBacklog() throws {
        try Stage.withDirectory { directory in
            try Stage.run(
                directory,
                settings: {
                    $0.replyBacklog = 2 << 20
                    $0.replyShare = 1 << 20
                },
                { stage in
                    let caller = stage.caller, value = String(repeating: "x", count: 100_000)
                    caller.onOutcome = { ticket, outcome in
                        if ticket == 1 {
                            for number in 0..<600 { caller.call(.get, "a", connection: UInt64(number % 20)) }
                        } else {
                            let isRight = outcome == .reply(.text(value))
                            #expect(isRight)
                        }
                        if caller.isSettled { stage.finish() }
                    }
                    caller.set("a", value)
                })
        }
    }
}
