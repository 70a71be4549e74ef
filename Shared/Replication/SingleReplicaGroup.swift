import Base
import Raft

/// A shard with one replica: it leads always, and an entry is committed when the log says it is durable. The same
/// `propose`, `committedIndex` and `onCommitted` as a Raft group's, so that whoever drives a shard need not know
/// which it is. Loop-confined.
package final class SingleReplicaGroup {
    package let shard: ShardID
    /// Grows with every start, and is in the log before the first entry of this life: it fences what an earlier life
    /// handed out.
    package let term: Term
    /// The newest entry proposed.
    package private(set) var lastIndex: LogIndex
    /// The newest entry that is durable under the configured policy; its replies may go.
    package private(set) var committedIndex: LogIndex
    /// Called on the loop whenever `committedIndex` has moved, with the new one.
    package var onCommitted: ((LogIndex) -> Void)?
    private let writer: LogWriter
    /// Whether the writer has it on its list of this tick.
    var isProposing = false

    /// - Parameters:
    ///   - recovered: what the log said about the shard when it was opened.
    ///   - appliedIndex: how far the shard's store got. It can be ahead of the log only after a power loss under
    ///     `everySecond`; the log then goes on behind it.
    package init(shard: ShardID, writer: LogWriter, recovered: ShardLogState, appliedIndex: LogIndex = .zero) {
        self.shard = shard
        self.writer = writer
        term = Term(rawValue: max(recovered.hardState.term, recovered.lastTerm).rawValue + 1)
        lastIndex = max(recovered.lastIndex, appliedIndex)
        committedIndex = lastIndex  // One replica: what is in the log, and was synced when it opened, is committed.
        writer.append(HardState(term: term, votedFor: nil), of: self)
        if appliedIndex > recovered.lastIndex { writer.append(markAt: appliedIndex, recovered.lastTerm, of: self) }
    }

    /// Proposes an entry whose payload `encode` writes in place (it must only append), and returns its index. Nothing
    /// has happened when it throws: `diskFull`, `busy` (the disk is far behind), or `limitExceeded` for a payload
    /// that is too large.
    ///
    /// `proposed` sees the payload as it lies in the batch, and the index: to apply it to pending state without a copy.
    package func propose(
        _ encode: (inout ByteBuffer) -> Void, _ proposed: (LogIndex, ByteView) -> Void = { _, _ in }
    ) throws(DatabaseError) -> LogIndex {
        let index = LogIndex(rawValue: lastIndex.rawValue + 1)
        try writer.append(self, term: term, index: index, encode) { proposed(index, $0) }
        lastIndex = index
        return index
    }

    /// For cold code.
    package func propose(_ payload: ByteView) throws(DatabaseError) -> LogIndex {
        try propose { $0.append(payload) }
    }

    /// The store holds everything up to `index` durably: the log may be cut.
    package func noteFlushed(_ index: LogIndex) {
        writer.noteFlushed(shard, index)
    }

    func commit(_ index: LogIndex) {
        guard index > committedIndex else { return }
        committedIndex = index
        onCommitted?(index)
    }
}
