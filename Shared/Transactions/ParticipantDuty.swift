import Base
import DataModel

/// What the executor does for its participant, strictly in order: what follows from carrying one out (a call that runs
/// and lets locks go, say) comes behind all that are there. A call that was woken may look at keys that a later one
/// has locked by then, so it must not be overtaken.
package enum ParticipantDuty: Hashable, Sendable {
    /// Into the open entry.
    case put(key: Bytes, value: Bytes)
    /// From the store, by the open entry.
    case delete(key: Bytes)
    /// The part is committed: its effects go into the open entry; the shard's clock goes above the timestamp.
    case apply(CommittedPart)
    /// The store has what a transaction has changed: activations of its exclusive keys, or of all where it may have
    /// changed the whole shard, are forgotten and read again. Calls that only read have made them before that.
    case reread(LockScope)
    /// The step's answer, now.
    case answer(UInt64, StepAnswer)
    /// A waiting call or part will not be evaluated.
    case refuse(UInt64, PartRefusal)
    /// A waiting call or part is evaluated now, without asking again: a part has its locks.
    case run(UInt64)
    /// A step that had to wait for an entry goes to `handle` again.
    case again(CommitStep, at: Slot, UInt64)
    /// A step for another shard, or for this one under another slot. Its answer goes to `answered` with `from`; nil
    /// when there is none.
    case send(CommitStep, to: Slot, from: PartID)
    /// An interactive transaction's scope is over, without having been sealed: what it has done is forgotten.
    case dropScope(PartID)
    /// What the scope has done in later statements is forgotten.
    case rollBack(PartID, to: UInt32)
    /// The scope is to be prepared, or to be committed at once (`isOnly`); its locks are hard, and what it has read is
    /// locked. `prepare`, `commitOne` or `fail` must follow at once. The token is of interest to the participant only.
    case seal(PartID, isOnly: Bool, UInt64)
    /// What the scope has done is more than an entry holds: `writePiece` with the next piece, if `mayWritePiece`, and
    /// with the last one `finishPieces`.
    case writePiece(PartID)
    /// `applyPiece`, with an open entry that has room.
    case applyPiece(PartID)
    /// The stored piece goes into the open entry, with the time of its transaction.
    case adopt(StoredPiece)
    /// Some of the part's pieces, which belong to nothing, are deleted by the open entry; `removedPieces` when that
    /// were all of them.
    case removePieces(PartID)
    /// With the open entry the store begins, or ceases, to show half of a transaction: the mark is put or deleted.
    case mark(Bool)
    /// `letGo`, when others have had their turn.
    case letGo
}

/// A piece of a part that is committed.
package struct StoredPiece: Hashable, Sendable {
    package let key: Bytes
    package let timestamp: Timestamp
}

/// What a commit adds to the entry.
package struct CommittedPart: Hashable, Sendable {
    package let id: PartID
    package let timestamp: Timestamp
    /// Its counters change now; `reread` of its keys follows when the entry is applied, and they are locked until then.
    package let effects: PartEffects
    package let scope: LockScope
}
