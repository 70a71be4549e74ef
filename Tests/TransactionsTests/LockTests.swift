import Base
import DataModel
import Testing

@testable import Transactions

/// Locks and their queue, one situation after the other.
@Suite("Lock table")
struct LockTests {
    private var table = LockTable()
    private var woken: [UInt64] = []

    private func part(_ id: UInt64, _ priority: UInt64, _ keys: String) -> Part {
        let slot = Slot(rawValue: 1)
        return Part(
            id: PartID(TransactionID(rawValue: id), slot), priority: priority, participants: [slot], isReadOnly: false,
            scope: scope(keys))
    }

    /// A key for every letter; "*" is the shard.
    private func scope(_ keys: String) -> LockScope {
        keys == "*" ? .shard : .keys(keys.utf8.map { LockKey(0, [$0]) })
    }

    private func call(_ token: UInt64, lane: UInt64 = 0, deadline: UInt64 = 100) -> WaitingCall {
        WaitingCall(token: token, lane: lane, bytes: 10, deadline: deadline)
    }

    private mutating func ask(_ id: UInt64, _ priority: UInt64, _ keys: String, lane: UInt64 = 0) -> LockTable.Verdict {
        table.request(part(id, priority, keys), call(id, lane: lane))
    }

    private mutating func plain(_ token: UInt64, _ keys: String, lane: UInt64 = 0) -> LockTable.Verdict {
        table.request(scope(keys), call(token, lane: lane))
    }

    private mutating func release(_ id: UInt64) -> [UInt64] {
        var woken: [LockTable.Woken] = []
        table.release(PartID(TransactionID(rawValue: id), Slot(rawValue: 1)), into: &woken)
        return woken.map(\.token)
    }

    @Test("the older waits, the younger is refused, calls always wait")
    mutating func waitDie() {
        #expect(table.isFree)
        #expect(ask(1, 50, "ab") == .granted)
        #expect(!table.isFree)
        #expect(ask(2, 60, "bc") == .refused(.conflict))
        #expect(ask(3, 40, "bc") == .waits)
        #expect(plain(4, "a") == .waits)
        #expect(plain(5, "z") == .granted)
        #expect(release(1) == [3, 4])
        #expect(plain(6, "a") == .granted)
        #expect(release(3) == [])
        #expect(table.isFree)
    }

    private mutating func statement(
        _ id: UInt64, exclusive: String = "", shared: String = "", token: UInt64
    ) -> LockTable.Verdict {
        var skipped: [LockKey] = []
        let part = PartID(TransactionID(rawValue: id), Slot(rawValue: 1))
        let locks = LockScope(exclusive: scope(exclusive).exclusive, shared: scope(shared).exclusive)
        let owner = LockOwner(id: part, rank: Rank(priority: id, part.transaction), kind: .interactive)
        return table.request(
            owner, locks: locks, reads: LockScope(), asOf: nil, .wait, call(token), now: token, skipped: &skipped)
    }

    @Test("nobody waits behind one that has come to wait for him")
    mutating func overtaking() {
        #expect(statement(1, shared: "a", token: 1) == .granted)
        #expect(statement(2, exclusive: "b", token: 2) == .granted)
        #expect(statement(3, exclusive: "a", token: 3) == .waits)
        #expect(statement(2, shared: "a", token: 4) == .waits, "behind 3, which waits for 1")
        #expect(statement(1, exclusive: "b", token: 5) == .waits, "for 2: now 3 waits for 2, too")
        var woken: [LockTable.Woken] = []
        table.overtake(waitingSince: 3, into: &woken)
        #expect(woken.isEmpty, "it has not waited for so long")
        table.overtake(waitingSince: 4, into: &woken)
        #expect(woken.map(\.token) == [4])
        #expect(release(2) == [5])
        #expect(release(1) == [3])
    }

    @Test("very many locks go some at a time, and those that have not gone yet hold")
    mutating func leaving() {
        var limits = LockTable.Limits()
        limits.slice = 2
        table = LockTable(limits: limits)
        #expect(ask(1, 50, "abcdefg") == .granted)
        #expect(ask(9, 60, "z") == .granted)
        let keys = "abcdefg".utf8.map { $0 }
        for key in keys { #expect(plain(UInt64(key), String(decoding: [key], as: UTF8.self)) == .waits) }
        var awake = release(1)
        #expect(awake.count == 2 && table.isLeaving)
        #expect(ask(2, 40, "abcdefg") == .waits)
        #expect(ask(1, 50, "y") == .refused(.busy), "it is over")
        for expected in [4, 6, 7] {
            var woken: [LockTable.Woken] = []
            table.letGo(into: &woken)
            awake += woken.map(\.token)
            #expect(awake.filter { $0 != 2 }.count == expected)
            #expect(awake.contains(2) == (expected == 7))
        }
        #expect(!table.isLeaving && awake.count == 8 && awake.last == 2)
        #expect(Set(awake) == Set(keys.map(UInt64.init) + [2]))
        #expect(release(2) == [] && table.isLeaving)
        for _ in 0..<3 {
            var woken: [LockTable.Woken] = []
            table.letGo(into: &woken)
            #expect(woken.isEmpty)
        }
        #expect(!table.isLeaving && !table.isFree)
        #expect(release(9) == [])
        #expect(table.isFree)
    }

    @Test(
        "nobody overtakes a transaction that waits; who waits behind a call waits for what it waits for"
    )
    mutating func queue() {
        #expect(ask(1, 10, "a") == .granted)
        #expect(plain(2, "ab") == .waits)
        // b is free, but the call was first; and through it this would wait for an older transaction.
        #expect(ask(3, 20, "b") == .refused(.conflict))
        #expect(ask(4, 5, "b") == .waits)
        // It leaves no lock, so it delays nobody.
        #expect(plain(5, "b") == .granted)
        #expect(release(1) == [2, 4])
        #expect(plain(6, "b") == .waits)
        #expect(release(4) == [6])
    }

    @Test("a lane keeps its order, whatever it touches")
    mutating func lanes() {
        #expect(ask(1, 10, "a") == .granted)
        #expect(plain(2, "a", lane: 7) == .waits)
        #expect(plain(3, "q", lane: 7) == .waits)
        #expect(plain(4, "q", lane: 8) == .granted)
        #expect(plain(5, "q") == .granted)
        #expect(ask(6, 20, "q") == .refused(.conflict))
        #expect(ask(7, 5, "q") == .waits)
        #expect(release(1) == [2, 3, 7])
        #expect(plain(8, "q") == .waits)
        #expect(release(7) == [8])
    }

    @Test("the whole shard waits for all, and all wait for it")
    mutating func wholeShard() {
        #expect(ask(1, 10, "a") == .granted)
        #expect(ask(2, 11, "b") == .granted)
        #expect(plain(3, "*") == .waits)
        #expect(plain(4, "z") == .granted)
        #expect(release(1) == [])
        #expect(ask(8, 12, "z") == .refused(.conflict))
        #expect(release(2) == [3])
        #expect(ask(5, 10, "*") == .granted)
        #expect(table.isLocked(0, ByteView(start: nil, count: 0)))
        #expect(plain(6, "a") == .waits)
        #expect(ask(7, 9, "c") == .waits)
        #expect(release(5) == [6, 7])
    }

    @Test("whoever is decided may be waited for by everybody")
    mutating func ending() {
        #expect(ask(1, 10, "a") == .granted)
        table.markEnding(PartID(TransactionID(rawValue: 1), Slot(rawValue: 1)))
        #expect(ask(2, 90, "a") == .waits)
        #expect(ask(3, 91, "a") == .refused(.conflict))
        #expect(release(1) == [2])
    }

    @Test("time runs out for those who wait, and those behind them go on")
    mutating func deadlines() {
        #expect(ask(1, 10, "a") == .granted)
        #expect(table.request(scope("ab"), call(2, deadline: 50)) == .waits)
        #expect(ask(3, 5, "b") == .waits)
        var woken: [LockTable.Woken] = []
        #expect(table.expire(49, into: &woken).isEmpty && woken.isEmpty)
        #expect(table.expire(50, into: &woken).map(\.token) == [2])
        #expect(woken.map(\.token) == [3])
        #expect(plain(4, "a") == .waits)
        #expect(table.cancel(4, into: &woken))
        #expect(!table.cancel(4, into: &woken))
        #expect(release(1) == [])
        #expect(release(3) == [])
        #expect(table.isFree)
    }

    @Test("what is beyond the bounds is refused")
    mutating func bounds() {
        var limits = LockTable.Limits()
        (limits.waiters, limits.bytes) = (2, 10_000)
        table = LockTable(limits: limits)
        #expect(ask(1, 10, "a") == .granted)
        #expect(plain(2, "a") == .waits)
        #expect(plain(3, "a") == .waits)
        #expect(plain(4, "a") == .refused(.busy))
        #expect(release(1) == [2, 3])
        #expect(ask(5, 10, "a") == .granted)
        let large = WaitingCall(token: 6, lane: 0, bytes: 20_000, deadline: 100)
        #expect(table.request(scope("a"), large) == .refused(.busy))
        #expect(release(5) == [])
        #expect(table.isFree)
    }
}
