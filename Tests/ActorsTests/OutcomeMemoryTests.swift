import Actors
import Base
import DataModel
import TestKit
import Testing

/// A memory over records, with the steps that an executor takes by hand.
private final class OutcomeRig {
    let records = MemoryRecords()
    var memory: OutcomeMemory
    var now: UInt64 = 1_700_000_000_000
    private var limits: OutcomeLimits
    private var entries: [(index: LogIndex, effects: [Effect])] = []
    private var open = EffectList()
    private var index = LogIndex(rawValue: 1)

    init(window: Int = 4, count: Int = 1000, buckets: Range<Int> = 0..<8) {
        limits = OutcomeLimits()
        (limits.window, limits.count, limits.replyBytes) = (window, count, 16)
        limits.retentionMilliseconds = 1000
        memory = OutcomeMemory(reader: records, buckets: buckets, limits: limits)
    }

    static func token(_ sequence: UInt64, session: UInt64 = 7, bucket: UInt16 = 3) -> OutcomeToken {
        OutcomeToken(bucket: BucketID(rawValue: bucket), session: session, sequence: sequence)
    }

    enum Answer: Hashable {
        case executed
        /// Not executed again; nil: the reply is not there any more.
        case known(String?, at: UInt64)
        case refused(ErrorCode)
    }

    func call(_ token: OutcomeToken, digest: UInt64 = 1, reply: String = "r") -> Answer {
        do throws(DatabaseError) {
            if let known = try memory.recall(token, digest: digest) {
                return .known(known.reply.map { text($0) }, at: known.index.rawValue)
            }
        } catch {
            return .refused(error.code)
        }
        latin(reply).withUnsafeBytes {
            memory.remember(
                token, digest: digest, reply: $0, at: Timestamp(milliseconds: now), entryIndex: index, into: open)
        }
        return .executed
    }

    func expire() throws -> Int { try memory.expire(now: now, limit: 100, into: open) }

    /// Closes the entry.
    func propose() {
        entries.append((index, open.effects))
        open = EffectList()
        index = LogIndex(rawValue: index.rawValue + 1)
    }

    func commit() {
        guard !entries.isEmpty else { return }
        let entry = entries.removeFirst()
        records.apply(entry.effects)
        memory.committed(upTo: entry.index)
    }

    /// Another replica leads: `isLost`: what is not committed never will be.
    func lead(isLost: Bool) {
        open = EffectList()
        if isLost { entries = [] }
        while !entries.isEmpty { commit() }
        memory = OutcomeMemory(reader: records, buckets: 0..<8, limits: limits)
    }
}

@Suite("OutcomeMemory")
struct OutcomeMemoryTests {
    private func token(_ sequence: UInt64, session: UInt64 = 7, bucket: UInt16 = 3) -> OutcomeToken {
        OutcomeRig.token(sequence, session: session, bucket: bucket)
    }

    @Test("a token is executed once: while it is pending, when it is committed, and under another leader")
    func once() {
        let rig = OutcomeRig()
        #expect(rig.call(token(1), reply: "one") == .executed)
        #expect(rig.call(token(1), reply: "two") == .known("one", at: 1))
        rig.propose()
        #expect(rig.call(token(1)) == .known("one", at: 1))
        #expect(rig.call(token(2), reply: "two") == .executed)
        rig.commit()
        #expect(rig.call(token(1)) == .known("one", at: 1))
        #expect(rig.call(token(2)) == .known("two", at: 2))
        rig.propose()
        rig.lead(isLost: false)
        #expect(rig.call(token(1)) == .known("one", at: 0))
        #expect(rig.call(token(2)) == .known("two", at: 0))
        #expect(rig.memory.count == 2)
    }

    @Test("what a lost leadership took with it is executed again")
    func lost() {
        let rig = OutcomeRig()
        #expect(rig.call(token(1)) == .executed)
        rig.propose()
        rig.commit()
        #expect(rig.call(token(2)) == .executed)
        rig.propose()
        #expect(rig.call(token(3)) == .executed)
        rig.lead(isLost: true)
        #expect(rig.call(token(1)) == .known("r", at: 0))
        #expect(rig.call(token(2)) == .executed)
        #expect(rig.call(token(3)) == .executed)
    }

    @Test("sessions and buckets have tokens of their own; a token is good for one call")
    func distinct() {
        let rig = OutcomeRig()
        #expect(rig.call(token(1), reply: "a") == .executed)
        #expect(rig.call(token(1, session: 8), reply: "b") == .executed)
        #expect(rig.call(token(1, bucket: 4), reply: "c") == .executed)
        #expect(rig.call(token(1), digest: 2) == .refused(.invalidArgument))
        rig.propose()
        rig.commit()
        #expect(rig.call(token(1), digest: 2) == .refused(.invalidArgument))
        #expect(rig.call(token(1, session: 8)) == .known("b", at: 1))
        rig.lead(isLost: false)
        #expect(rig.call(token(1), digest: 2) == .refused(.invalidArgument))
        #expect(rig.call(token(1)) == .known("a", at: 0))
        #expect(rig.call(token(1, bucket: 4)) == .known("c", at: 0))
    }

    @Test("a session's window keeps the highest sequences, in whatever order they came; what is below is refused")
    func window() {
        let rig = OutcomeRig(window: 4)
        for sequence: UInt64 in [10, 30, 20, 40] { #expect(rig.call(token(sequence)) == .executed) }
        #expect(rig.call(token(5)) == .refused(.outcomeUnknown))
        #expect(rig.call(token(15)) == .executed)
        #expect(rig.call(token(10)) == .refused(.outcomeUnknown))
        rig.propose()
        rig.commit()
        rig.lead(isLost: false)
        #expect(rig.memory.count == 0 && rig.records.keys.count == 4)
        for sequence: UInt64 in [15, 20, 30, 40] { #expect(rig.call(token(sequence)) == .known("r", at: 0)) }
        for sequence: UInt64 in [1, 10, 14] { #expect(rig.call(token(sequence)) == .refused(.outcomeUnknown)) }
        #expect(rig.call(token(50)) == .executed)
        #expect(rig.call(token(15)) == .refused(.outcomeUnknown))
        #expect(rig.call(token(1, session: 9)) == .executed)
        rig.propose()
        rig.commit()
        #expect(rig.memory.count == 5 && rig.records.keys.count == 5)
    }

    @Test("a reply that is too large is not kept, but that it was given")
    func largeReply() {
        let rig = OutcomeRig()
        #expect(rig.call(token(1), reply: String(repeating: "x", count: 16)) == .executed)
        #expect(rig.call(token(2), reply: String(repeating: "x", count: 17)) == .executed)
        for index: UInt64 in [1, 0] {
            #expect(rig.call(token(1)) == .known(String(repeating: "x", count: 16), at: index))
            #expect(rig.call(token(2)) == .known(nil, at: index))
            rig.propose()
            rig.lead(isLost: false)
        }
    }

    @Test("a full memory refuses new tokens, remembers the old ones, and takes others when some have expired")
    func bounded() throws {
        let rig = OutcomeRig(window: 2, count: 3)
        for session: UInt64 in 1...3 { #expect(rig.call(token(1, session: session)) == .executed) }
        #expect(rig.call(token(1, session: 4)) == .refused(.busy))
        #expect(rig.call(token(2, session: 1)) == .refused(.busy))
        #expect(rig.call(token(1, session: 2)) == .known("r", at: 1))
        rig.propose()
        rig.commit()
        rig.now += 1000
        #expect(try rig.expire() == 3)
        rig.propose()
        rig.commit()
        #expect(rig.memory.count == 0 && rig.records.keys.isEmpty)
        for sequence: UInt64 in 1...9 { #expect(rig.call(token(sequence)) == .executed) }
        #expect(rig.memory.count == 2)
    }

    @Test("a session is forgotten as a whole, when its newest call is old; not before it is committed")
    func expiry() throws {
        let rig = OutcomeRig()
        #expect(rig.call(token(1)) == .executed)
        rig.now += 999
        #expect(rig.call(token(2)) == .executed)
        #expect(rig.call(token(1, session: 8)) == .executed)
        rig.propose()
        rig.now += 1
        #expect(try rig.expire() == 0)
        rig.now += 999
        #expect(try rig.expire() == 0)  // Due, and not committed.
        rig.commit()
        #expect(try rig.expire() == 2)
        #expect(rig.call(token(2)) == .executed)
        rig.propose()
        rig.lead(isLost: true)  // The deletions never happened.
        #expect(rig.call(token(1)) == .known("r", at: 0))
        // A leader that is asked nothing reads what there is, a bucket at a time, and then expires it.
        rig.lead(isLost: false)
        var steps = 0
        while try rig.expire() == 0, steps < 100 { steps += 1 }
        #expect(steps == 8)
        rig.propose()
        rig.commit()
        #expect(rig.records.keys.isEmpty)
    }

    @Test("a damaged record refuses every token, and is not read twice")
    func damaged() throws {
        let rig = OutcomeRig()
        #expect(rig.call(token(1)) == .executed)
        #expect(rig.call(token(1, bucket: 5)) == .executed)
        rig.propose()
        rig.commit()
        let key = try #require(rig.records.keys.last)
        let value = rig.records.value(key)
        rig.lead(isLost: false)
        for damaged in Damage.truncations(of: Bytes(value[..<18])) + [[2] + value.dropFirst(), [1, 2] + value[2...]] {
            rig.records.put(key, damaged)
            for _ in 0..<2 { #expect(rig.call(token(2)) == .refused(.corruption)) }
        }
        rig.records.put(key, value)
        #expect(rig.call(token(2)) == .executed)
        #expect(rig.memory.count == 3)
    }

    @Test("of a random history no token is executed twice, and none of the newest is forgotten", arguments: 1...20)
    func history(_ seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let rig = OutcomeRig(window: 4)
        /// By session: the sequences that were executed.
        var executed: [UInt64: [UInt64]] = [:]
        for _ in 0..<2000 {
            switch random.next(below: 10) {
            case 0: rig.propose()
            case 1:
                for _ in 0..<random.next(below: 4) { rig.commit() }
            case 2 where random.oneIn(5):
                rig.propose()
                rig.lead(isLost: false)
            case 3 where random.oneIn(5):
                rig.lead(isLost: true)
                executed = [:]  // Which of them were committed, the rig knows alone.
                for key in rig.records.keys {
                    guard let name = key.withUnsafeBytes({ OutcomeRecord.parse(key: $0) }) else { continue }
                    executed[name.session, default: []].append(name.sequence)
                }
            case _:
                let session = random.next(below: 3) + 1, sequence = random.next(below: 30) + 1
                let known = executed[session, default: []].sorted().suffix(4)
                let answer = rig.call(token(sequence, session: session), reply: "\(sequence)")
                if known.contains(sequence) {
                    guard case .known("\(sequence)", _) = answer else {
                        Issue.record("seed \(seed): \(session).\(sequence) \(answer)")
                        return
                    }
                } else if known.count == 4, let lowest = known.first, sequence < lowest {
                    #expect(answer == .refused(.outcomeUnknown), "seed \(seed)")
                } else {
                    #expect(answer == .executed, "seed \(seed)")
                    executed[session, default: []].append(sequence)
                }
            }
        }
    }
}
