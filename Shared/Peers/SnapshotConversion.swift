import Base
import Contracts
import Raft
import Replication

// The words of a snapshot's transfer, from and to the wire. What a peer sent is checked once, here.

extension SnapshotOfferMessage {
    package init(_ offer: SnapshotOffer) {
        self.init(
            transfer: offer.transfer, shard: offer.shard.rawValue, leaderTerm: offer.leaderTerm.rawValue,
            index: offer.metadata.last.index.rawValue, logTerm: offer.metadata.last.term.rawValue,
            membership: offer.metadata.membership.encoded(), manifest: offer.manifest, sizes: offer.sizes)
    }

    /// What was offered; nil for what no leader offers. The sizes are the receiver's to judge.
    package var offer: SnapshotOffer? {
        let membership = membership.withUnsafeBytes { Membership.decode($0) }
        guard let membership, leaderTerm <= PeerMessage.limit, index <= PeerMessage.limit, logTerm <= leaderTerm,
            index > 0
        else { return nil }
        let last = EntryID(term: Term(rawValue: logTerm), index: LogIndex(rawValue: index))
        return SnapshotOffer(
            transfer: transfer, shard: ShardID(rawValue: shard), leaderTerm: Term(rawValue: leaderTerm),
            metadata: SnapshotMetadata(last: last, membership: membership), manifest: manifest, sizes: sizes)
    }
}

extension SnapshotAnswerMessage {
    package init(_ progress: SnapshotProgress) {
        let state: State =
            switch progress.state {
            case .unknown: .unknown
            case .opening: .opening
            case .receiving(let written, let wanted):
                .receiving(written: Position(written), wanted: wanted.map { Position($0) })
            case .staged: .staged
            case .refused(let refusal): .refused(refusal.rawValue)
            }
        self = .state(transfer: progress.transfer, round: progress.round, state)
    }

    /// What a receiver said of a transfer; nil for a hello. A refusal that this version does not know is a failure.
    package var progress: SnapshotProgress? {
        guard case .state(let transfer, let round, let wire) = self else { return nil }
        let state: SnapshotProgress.State =
            switch wire {
            case .unknown: .unknown
            case .opening: .opening
            case .receiving(let written, let wanted):
                .receiving(written: written.position, wanted: wanted.map(\.position))
            case .staged: .staged
            case .refused(let refusal): .refused(SnapshotRefusal(rawValue: refusal) ?? .failed)
            }
        return SnapshotProgress(transfer: transfer, round: round, state: state)
    }
}

extension SnapshotAnswerMessage.Position {
    fileprivate init(_ position: SnapshotPosition) {
        self.init(file: UInt32(clamping: position.file), offset: position.offset)
    }

    fileprivate var position: SnapshotPosition { SnapshotPosition(file: Int(file), offset: offset) }
}
