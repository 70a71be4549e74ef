import Base
import Raft
import TestKit
import Testing

/// Nothing that a peer says may trap, whatever the replica is doing.
@Suite("Hostile peers")
struct HostileTests {
    private struct Liar {
        var random: SplitMix64

        mutating func number() -> UInt64 {
            switch random.next(below: 8) {
            case 0: .max
            case 1: .max - random.next(below: 3)
            case 2: random.next()
            case _: random.next(below: 8)
            }
        }

        mutating func entry() -> EntryID {
            EntryID(term: Term(rawValue: number()), index: LogIndex(rawValue: number()))
        }

        mutating func run(after previous: EntryID) -> EntryRun {
            let first = random.oneIn(4) ? number() : previous.index.rawValue &+ 1
            var run = EntryRun(first: LogIndex(rawValue: first))
            for _ in 0..<random.next(below: 5) {
                let voters = (0..<random.next(below: 3)).map { _ in node(UInt32(1 + random.next(below: 4))) }
                let content: EntryContent =
                    random.oneIn(4) ? .configuration(Membership(voters: voters)) : random.oneIn(2) ? .empty : .normal
                run.append(
                    term: Term(rawValue: random.oneIn(3) ? number() : previous.term.rawValue), size: .max,
                    content: content)
            }
            return run
        }

        mutating func body() -> Message.Body {
            switch random.next(below: 10) {
            case 0: return .preVoteRequest(.init(last: entry(), isTransfer: random.oneIn(2)))
            case 1: return .preVoteReply(.init(isGranted: random.oneIn(2), isCut: random.oneIn(2)))
            case 2: return .voteRequest(.init(last: entry(), isTransfer: random.oneIn(2)))
            case 3: return .voteReply(.init(isGranted: random.oneIn(2), isCut: random.oneIn(2)))
            case 4, 5:
                let previous = entry()
                return .append(
                    .init(
                        previous: previous, entries: run(after: previous), commit: LogIndex(rawValue: number()),
                        round: number()))
            case 6:
                let outcome: Message.AppendReply.Outcome =
                    random.oneIn(2)
                    ? .matched(LogIndex(rawValue: number()))
                    : .rejected(previous: LogIndex(rawValue: number()), hint: entry())
                return .appendReply(.init(outcome: outcome, round: number()))
            case 7:
                return .heartbeat(
                    .init(
                        commit: LogIndex(rawValue: number()), round: number(), isQuiescing: random.oneIn(2),
                        rejoin: random.oneIn(2) ? .init(nonce: number(), commit: LogIndex(rawValue: number())) : nil))
            case 8: return .heartbeatReply(.init(round: number(), rejoin: random.oneIn(2) ? number() : 0))
            case _:
                return random.oneIn(2)
                    ? .timeoutNow : .snapshot(.init(last: entry(), membership: Membership(voters: [])))
            }
        }
    }

    @Test("never trap a replica")
    func lies() {
        var liar = Liar(random: SplitMix64(seed: freshSeed("hostile peers")))
        for life in 0..<300 {
            let membership = Membership(voters: [node(1), node(2), node(3)])
            var core = RaftCore(
                RaftConfiguration(id: node(1), seed: UInt64(life)), restored: RestoredReplica(membership: membership),
                now: 0)
            var effects = Effects()
            var now: UInt64 = 1_000_000_000
            for _ in 0..<60 {
                now += liar.random.next(below: 300_000_000)
                let term = liar.random.oneIn(3) ? Term(rawValue: liar.number()) : core.term
                let peer = node(UInt32(liar.random.next(below: 5)))
                core.step(
                    .received(Message(from: peer, to: node(1), term: term, body: liar.body())), now: now, into: &effects
                )
                core.step(.persisted(write: effects.write), now: now, into: &effects)
                if liar.random.oneIn(3) { core.step(.tick, now: now, into: &effects) }
                if liar.random.oneIn(3) { core.step(.propose(sizes: [1, 2, 3]), now: now, into: &effects) }
                if liar.random.oneIn(5) { core.step(.readIndex(token: 1), now: now, into: &effects) }
                if liar.random.oneIn(5) { core.step(.applied(core.commitIndex), now: now, into: &effects) }
                if liar.random.oneIn(9) { core.step(.compacted(core.appliedIndex), now: now, into: &effects) }
            }
            #expect(core.commitIndex <= core.lastIndex)
        }
    }
}
