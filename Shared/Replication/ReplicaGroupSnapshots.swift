import Base
import Raft

/// Snapshots: sending one where the log does not reach back, and putting one in place of the store.
///
/// A snapshot is installed in three durable steps, so that a crash between any two leaves something that fits
/// together:
///
///     announcing   the log says which snapshot is about to come          crash: store and log are the old ones
///     replacing    the sink puts it in place of the store                crash: the store is at the snapshot's index
///     restarting   the log begins anew behind it                                and the log knows which: see `adopt`
extension ReplicaGroup {
    func sendSnapshot(to peer: NodeID) {
        guard let source = groups.snapshotSource else {
            return groups.afterStep { [self] in step(.snapshotSent(to: peer, isDone: false)) }
        }
        source.sendSnapshot(
            of: shard, to: peer, message: { [weak self] in self?.snapshotMessage(at: $0, to: peer) },
            completion: { [weak self] isDone in
                self?.step(.snapshotSent(to: peer, isDone: isDone))
            })
    }

    func announce(_ metadata: SnapshotMetadata) {
        guard groups.snapshotSink != nil, installation == nil else {
            return groups.afterStep { [self] in step(.snapshotRefused(metadata)) }
        }
        writer.append(metadata, isInstalled: false, of: self)
        journal.installing = metadata
        installation = (metadata, .announcing(writer.nextTicket))
        groups.setPending()
    }

    /// The sink is at the store, or the store is ahead of what the log tells: nothing is applied meanwhile, although
    /// the leader may say that more is committed.
    var isStoreTaken: Bool {
        switch installation?.phase {
        case .replacing, .restarting: true
        case .announcing, nil: false
        }
    }

    /// Takes the next step when the one before is durable.
    func continueInstallation(_ ticket: LogTicket) {
        guard let (metadata, phase) = installation else { return }
        switch phase {
        case .announcing(let awaited):
            guard ticket >= awaited else { return }
            installation = (metadata, .replacing)
            groups.snapshotSink?.installSnapshot(metadata, of: shard) { [weak self] isDone in
                self?.replaced(metadata, isDone)
            }
        case .replacing:
            return
        case .restarting(let awaited):
            guard ticket >= awaited else { return }
            installation = nil
            step(.snapshotInstalled(metadata))
            onInstalled?(metadata)
        }
    }

    private func replaced(_ metadata: SnapshotMetadata, _ isDone: Bool) {
        guard isDone else {
            installation = nil
            step(.snapshotRefused(metadata))
            deliver()
            return
        }
        restart(behind: metadata)
        installation = (metadata, .restarting(writer.nextTicket))
    }

    /// Lets the log begin anew behind a snapshot that the store holds.
    func restart(behind metadata: SnapshotMetadata) {
        writer.append(metadata, isInstalled: true, of: self)
        journal.note(restartAt: metadata.last.index, metadata.last.term)
        journal.note(metadata.membership, at: metadata.last.index)
        cache.restart(at: LogIndex(rawValue: metadata.last.index.rawValue &+ 1))
        written = metadata.last.index
        lastCut = written
        cutTicket = writer.nextTicket
        committedIndex = metadata.last.index
        retention = LogRetention()
        groups.setPending()
    }
}

extension ShardLogState {
    /// The snapshot that a crash has left between store and log: the store was replaced, the log does not know yet.
    func unfinishedInstallation(applied: LogIndex) -> SnapshotMetadata? {
        guard let snapshot = installing, applied >= snapshot.last.index, markIndex < snapshot.last.index else {
            return nil
        }
        // If the log went there by itself later, it agrees with the snapshot: both are committed.
        let isInLog = snapshot.last.index <= lastIndex && term(at: snapshot.last.index) == snapshot.last.term
        return isInLog ? nil : snapshot
    }
}
