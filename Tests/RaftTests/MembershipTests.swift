import Base
import Raft
import TestKit
import Testing

/// A node id, for short.
func node(_ number: UInt32) -> NodeID { NodeID(rawValue: number) }

@Suite("Membership")
struct MembershipTests {
    static let samples = [
        Membership(voters: [node(1)]),
        Membership(voters: [node(3), node(1), node(2)], learners: [node(9)]),
        Membership(voters: [node(1), node(2), node(3)], incoming: [node(2), node(3), node(4)], learners: [node(1)]),
        Membership(voters: (1...32).map { node($0) }),
        Membership(voters: [node(1), node(2)], incoming: [node(2)], version: 1 << 40),
    ]

    @Test("survives its bytes", arguments: samples)
    func roundTrip(_ membership: Membership) {
        #expect(membership.encoded().withUnsafeBytes { Membership.decode($0) } == membership)
    }

    @Test("refuses what it did not write")
    func hostile() {
        var random = SplitMix64(seed: freshSeed("membership"))
        for membership in Self.samples {
            let bytes = membership.encoded()
            for damaged in Damage.truncations(of: bytes) {
                #expect(damaged.withUnsafeBytes { Membership.decode($0) } == nil)
            }
            for damaged in Damage.corruptions(of: bytes, count: 300, using: &random) {
                guard let read = damaged.withUnsafeBytes({ Membership.decode($0) }) else { continue }
                #expect(read.isWellFormed && read.encoded() == damaged)
            }
        }
    }

    @Test("a joint membership needs both majorities")
    func quorum() {
        let joint = Membership(voters: [node(1), node(2), node(3)], incoming: [node(3), node(4), node(5)])
        #expect(!joint.isQuorum { [node(1), node(2)].contains($0) })
        #expect(!joint.isQuorum { [node(3), node(4), node(5)].contains($0) })
        #expect(joint.isQuorum { [node(1), node(3), node(5)].contains($0) })
        #expect(joint.final == Membership(voters: [node(3), node(4), node(5)]))
        #expect(Membership(voters: [node(1)], incoming: [node(2)], version: 3).final.version == 3)
        #expect(!Membership(voters: [node(1)], learners: [node(1)]).isWellFormed)
        #expect(Membership(voters: [node(1), node(2)], incoming: [node(2)], learners: [node(1)]).isWellFormed)
    }
}
