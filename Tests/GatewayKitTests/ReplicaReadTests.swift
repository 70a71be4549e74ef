import Base
import Contracts
import Net
import TestKit
import Testing

@testable import GatewayKit

/// Reads below strong consistency on their way to replicas; node 1 leads.
@Suite("Reads from replicas", .serialized)
struct ReplicaReadTests {
    /// Runs a story once both followers (nodes 2 and 3) have been reached.
    private func run(_ begin: @escaping (Stage, Cast) -> Void) throws {
        try Cast.run { stage, nodes in
            nodes.leads[0] = true
            stage.router.adopt(try nodes.map(leader: 1))
            func look() {
                for node in 2...3 as ClosedRange<UInt32> { _ = stage.router.stream(to: NodeID(rawValue: node)) }
                let isReady = (2...3).allSatisfy { stage.router.stream(to: NodeID(rawValue: $0))?.isConnected ?? false }
                guard isReady, stage.router.isReady else { return stage.loop.runLater { look() } }
                begin(stage, nodes)
            }
            look()
        }
    }

    /// Makes reads one after the other, and calls `story` with the number and the outcome of each; it answers whether
    /// there is to be another.
    private func read(_ stage: Stage, _ terms: ReadTerms, _ story: @escaping (Int, Outcome) -> Bool) {
        var count = 0
        stage.caller.onOutcome = { [unowned stage] _, outcome in
            count += 1
            if story(count, outcome) { stage.caller.read(terms) } else { stage.finish() }
        }
        stage.caller.read(terms)
    }

    @Test("a follower answers, always the same one, and the leader is not asked")
    func follower() throws {
        try run { stage, cast in
            cast.applied = [9, 9, 9]
            read(stage, ReadTerms(.boundedStale)) { count, outcome in
                #expect(outcome == .reply(.integer))
                guard count == 20 else { return true }
                #expect(cast.reads.count == 20 && Set(cast.reads.map(\.node)).count == 1)
                #expect(cast.reads[0].node != 0 && cast.reads[0].terms.position == .zero)
                #expect(cast.reads[19].terms.position.rawValue == 9, "none sees less than the ones before it")
                return false
            }
        }
    }

    @Test("a follower that is too stale is passed over for the leader, whose position the next read demands")
    func tooStale() throws {
        try run { stage, cast in
            cast.applied = [7, nil, nil]
            read(stage, ReadTerms(.boundedStale)) { count, outcome in
                #expect(outcome == .reply(.integer))
                #expect(cast.reads.count == 2 * count && cast.reads.last?.node == 0)
                if count == 1 {
                    cast.applied = [8, 6, 6]
                    return true
                }
                #expect(cast.reads[2].terms.position.rawValue == 7)
                return false
            }
        }
    }

    @Test("when nobody can keep the terms the read is made strong, and what it saw counts by its bookmark")
    func strong() throws {
        try run { stage, cast in
            read(stage, ReadTerms(.boundedStale)) { count, outcome in
                #expect(outcome == .reply(.ok), "what this leader says to a strong call")
                #expect(cast.reads.count == 2 * count)
                if count == 1 { return true }
                #expect(cast.reads[2].terms.bookmark == Timestamp(rawValue: 5))
                return false
            }
        }
    }

    @Test("a replica that answers nothing is passed over for the next, and in the end the leader")
    func mute() throws {
        try run { stage, cast in
            cast.applied = [1, 1, 1]
            cast.mute = [1, 2]
            read(stage, ReadTerms(.any)) { _, outcome in
                #expect(outcome == .reply(.integer))
                #expect(cast.reads.map(\.node).sorted() == [0, 1, 2] && cast.reads.last?.node == 0)
                return false
            }
        }
    }

    @Test("a follower whose process ends costs no read an error")
    func lost() throws {
        try run { stage, cast in
            cast.applied = [1, 1, 1]
            cast.mute = [1, 2]
            var stopped: Set<Int> = []
            stage.caller.onOutcome = { [unowned stage] _, outcome in
                #expect(outcome == .reply(.integer))
                stage.finish()
            }
            stage.caller.read(ReadTerms(.any))
            func look() {
                for node in Set(cast.reads.map(\.node)).subtracting([0]) where stopped.insert(node).inserted {
                    cast.stop(node)
                }
                if stopped.count < 2, stage.caller.outcomes.isEmpty { stage.loop.runLater { look() } }
            }
            look()
        }
    }
}
