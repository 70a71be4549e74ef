import Base
import Raft

/// What a restart found of a replica, made to fit together: log, store, and what a crash left between the two.
package struct RecoveredReplica: Sendable {
    /// What must be written before the replica takes part.
    enum Duty: Sendable {
        case none
        /// The store is behind the end of the log: it goes on there.
        case mark(EntryID)
        /// The store holds a snapshot of which the log does not know.
        case restart(SnapshotMetadata)
    }

    package let shard: ShardID
    var journal: ShardLogState
    var restored: RestoredReplica
    var duty = Duty.none
    /// Up to here the segments need nothing.
    var cuttable = LogIndex.zero

    /// A replica of which the log knows nothing: of a new group, or on a node that is new to it.
    package init(new shard: ShardID) {
        self.shard = shard
        journal = ShardLogState()
        restored = RestoredReplica(membership: Membership(voters: []))
    }

    /// A replica that has left, as it will begin if it comes back.
    init(gone shard: ShardID, _ journal: ShardLogState, mayVote: Bool) {
        self.shard = shard
        self.journal = journal
        restored = RestoredReplica(
            hardState: journal.hardState, membership: Membership(voters: []), mayVote: mayVote, floor: journal.floor)
    }

    fileprivate init(_ shard: ShardID, _ journal: ShardLogState, _ restored: RestoredReplica, _ duty: Duty) {
        (self.shard, self.journal, self.restored, self.duty) = (shard, journal, restored, duty)
        cuttable = journal.markIndex
    }

    /// How far the store has got, entries that a single replica has just replayed included.
    package var applied: LogIndex { restored.applied }

    /// The replica has left this node, and its store is empty; added again, it begins as one that is new.
    package var isGone: Bool { journal.removal != nil }
}

extension SegmentedLog {
    /// Whether everything that the log holds of `shard` is committed, since the shard has one replica, this `node`:
    /// then a restart applies all of it at once (`replay`). With several replicas, or one that is elsewhere, only what
    /// the leader says is committed, and `ReplicaGroup` hands it out; so it does for a node that does not know who it
    /// is.
    package func isSingle(_ shard: ShardID, on node: NodeID?) -> Bool {
        let state = state(of: shard)
        guard state.isWhole else { return false }  // It is here again, and may be where it was once alone.
        guard let membership = state.membership else { return true }  // Nothing was logged without one.
        return node.map { membership.everyone == [$0] } ?? false
    }

    /// A shard's replica as log and store remember it. Call it before the log belongs to a `LogWriter`.
    ///
    /// - Parameters:
    ///   - applied: how far the shard's store got, after `replay` if it `isSingle`.
    ///   - node: whose log it is.
    package func recovered(
        _ shard: ShardID, applied: LogIndex, on node: NodeID?
    ) throws(LogError) -> RecoveredReplica {
        var journal = state(of: shard)
        let membership = journal.membership ?? Membership(voters: [])
        let isAlone = isSingle(shard, on: node)
        let mayVote = isAlone || !journal.isCut
        if let snapshot = journal.unfinishedInstallation(applied: applied) {
            journal.note(restartAt: snapshot.last.index, snapshot.last.term)
            journal.note(snapshot.membership, at: snapshot.last.index)
            let restored = RestoredReplica(
                hardState: journal.hardState, compacted: snapshot.last, membership: snapshot.membership,
                mayVote: mayVote, floor: journal.floor)
            return RecoveredReplica(shard, journal, restored, .restart(snapshot))
        }
        if applied > journal.lastIndex || isAlone && applied == journal.lastIndex {
            // The store can be ahead of the log only after a power loss under `everySecond`; then this replica has
            // forgotten what it said. A replica that is alone needs nothing of what is applied already.
            let isAhead = applied > journal.lastIndex
            let place = EntryID(term: journal.lastTerm, index: applied)
            journal.note(markAt: place.index, place.term)
            let restored = RestoredReplica(
                hardState: journal.hardState, compacted: place, membership: membership,
                mayVote: mayVote && (isAlone || !isAhead), floor: journal.floor)
            var recovered = RecoveredReplica(shard, journal, restored, isAhead ? .mark(place) : .none)
            if !isAhead { recovered.cuttable = state(of: shard).markIndex }
            return recovered
        }
        var restored = try restored(shard, membership: membership, applied: applied)
        restored.mayVote = mayVote
        return RecoveredReplica(shard, journal, restored, .none)
    }
}
