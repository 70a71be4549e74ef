import Base
import Contracts
import Peers
import Raft
import Replication
import TestKit
import Testing

/// The words of a snapshot's transfer over the wire.
@Suite("Snapshot messages")
struct SnapshotConversionTests {
    private static let hello = PeerHello(
        role: "storage-node", cluster: 7, node: NodeID(rawValue: 1), peer: NodeID(rawValue: 2), uid: Bytes(0..<16),
        incarnation: 3, clock: PeerClock(sent: 0, time: .zero))
    private static let offer = SnapshotOffer(
        transfer: .max, shard: ShardID(rawValue: 3), leaderTerm: Term(rawValue: 9),
        metadata: SnapshotMetadata(
            last: EntryID(term: Term(rawValue: 8), index: LogIndex(rawValue: 1 << 40)),
            membership: Membership(voters: [NodeID(rawValue: 1), NodeID(rawValue: 300)])),
        manifest: Bytes(0..<200), sizes: [16 << 20, 0, 7])

    private func again(_ part: SnapshotPartMessage) throws(DatabaseError) -> SnapshotPartMessage {
        try part.encode().withView { view throws(DatabaseError) in try SnapshotPartMessage(decoding: view) }
    }

    private func again(_ answer: SnapshotAnswerMessage) throws(DatabaseError) -> SnapshotAnswerMessage {
        try answer.encode().withView { view throws(DatabaseError) in try SnapshotAnswerMessage(decoding: view) }
    }

    private static let states: [SnapshotProgress.State] =
        [
            .unknown, .opening, .staged, .receiving(written: SnapshotPosition(file: 2, offset: 1 << 33), wanted: nil),
            .receiving(written: SnapshotPosition(file: 0, offset: 0), wanted: SnapshotPosition(file: 65536, offset: 0)),
        ] + SnapshotRefusal.allCases.map { .refused($0) }

    @Test("survive their bytes")
    func roundTrip() throws {
        #expect(try again(SnapshotPartMessage.hello(Self.hello)) == .hello(Self.hello))
        #expect(try again(SnapshotAnswerMessage.hello(Self.hello)) == .hello(Self.hello))
        let data = SnapshotPartMessage.data(transfer: 5, file: 6, offset: 1 << 40, Bytes(repeating: 7, count: 1 << 20))
        #expect(try again(data) == data)
        guard case .offer(let wire) = try again(.offer(SnapshotOfferMessage(Self.offer))) else {
            Issue.record("an offer is an offer")
            return
        }
        #expect(wire.offer == Self.offer)
        for state in Self.states {
            let progress = SnapshotProgress(transfer: 4, round: 1 << 50, state: state)
            #expect(try again(SnapshotAnswerMessage(progress)).progress == progress)
        }
    }

    @Test("what no peer says is refused")
    func refusals() throws {
        func refuses(_ change: (inout SnapshotOfferMessage) -> Void) {
            var wire = SnapshotOfferMessage(Self.offer)
            change(&wire)
            #expect(wire.offer == nil)
        }
        refuses { $0.membership = [] }
        refuses { $0.membership.append(1) }
        refuses { $0.leaderTerm = .max }
        refuses { $0.index = .max }
        refuses { $0.index = 0 }
        refuses { $0.logTerm = $0.leaderTerm + 1 }
        let unknown = SnapshotAnswerMessage.state(transfer: 1, round: 2, .refused(77))
        #expect(try again(unknown).progress?.state == .refused(.failed))
        let large = SnapshotPartMessage.data(transfer: 1, file: 0, offset: 0, Bytes(repeating: 0, count: 9 << 20))
        #expect(throws: DatabaseError.self) { try again(large) }
    }

    @Test("no damage of their bytes reaches a trap")
    func damage() throws {
        var random = SplitMix64(seed: freshSeed("snapshot messages"))
        let parts = [
            SnapshotPartMessage.offer(SnapshotOfferMessage(Self.offer)).encode(),
            SnapshotPartMessage.hello(Self.hello).encode(),
            SnapshotPartMessage.data(transfer: 5, file: 6, offset: 7, [8, 9]).encode(),
        ]
        let answers = Self.states.map {
            SnapshotAnswerMessage(SnapshotProgress(transfer: 4, round: 5, state: $0)).encode()
        }
        for bytes in parts + answers {
            let copies = Damage.truncations(of: bytes) + Damage.corruptions(of: bytes, count: 300, using: &random)
            for copy in copies {
                let part = try? copy.withView { view throws(DatabaseError) in try SnapshotPartMessage(decoding: view) }
                if case .offer(let offer) = part { _ = offer.offer }
                let answer = try? copy.withView { view throws(DatabaseError) in
                    try SnapshotAnswerMessage(decoding: view)
                }
                _ = answer?.progress
            }
        }
    }
}
