import Actors
import Base
import DataModel
import Storage
import Transactions

// Transactions that change more than an entry of the log holds: the participant says what comes when
// (`ParticipantPieces.swift`), here it is done. A piece a tick: where the log's disk is fast, an entry is committed in
// the tick that has proposed it.
extension ShardExecutor {
    /// Pieces that one step removes which belong to nothing.
    private static let removalStep = 8

    /// The next piece of what a scope has done goes into the open entry, as a record. With the last one it is
    /// prepared, or committed.
    func writePiece(of id: PartID) {
        guard !isLogFull, pendingBytes < Self.pendingLimit, makeRoom(), transactions.participant.mayWritePiece(id),
            let scope = transactions.scopes[id]
        else { return }  // The participant asks again.
        let effects = transactions.partEffects, size = transactions.participant.pieceSize
        effects.reset()
        let counters = scope.evaluation.writePiece(effects) { effects.isEmpty || effects.size + $0 <= size }
        var duties: [ParticipantDuty] = []
        transactions.participant.writePiece(id, effects.payload.bytes, moment, into: &duties)
        if let counters {
            // Above every moment that anybody has read at, as of any part.
            let timestamp = nextTimestamp()
            transactions.participant.finishPieces(id, counters, timestamp: timestamp, moment, into: &duties)
            transactions.scopes.end(id)
        }
        note(duties)
    }

    /// The next piece of a part that is committed is applied.
    func applyPiece(of id: PartID) {
        guard !isLogFull, pendingBytes < Self.pendingLimit else { return }
        happen { $0.applyPiece(id, $1, into: &$2) }
    }

    /// A piece of a part that is committed is applied. It was written before that, so the store has it.
    func adopt(_ piece: StoredPiece) {
        do {
            var stored: Bytes?
            try piece.key.withView { (key: ByteView) throws(StoreError) in stored = try store.get(key) }
            guard let stored else { throw DatabaseError(.corruption, "a piece of a transaction is not there") }
            try append(stored, committedAt: piece.timestamp)
            try noteChanges(stored, at: clock.last)
        } catch {
            fail(error)
        }
    }

    /// From the open entry on the store shows half of a transaction, or not any more.
    func mark(_ isHalfDone: Bool) {
        HalfDoneMark.key(firstBucket: buckets.first?.lowerBound ?? 0).withUnsafeBytes { key in
            // What it says does not matter, only that it is there.
            if isHalfDone { open.put(key: key, value: ByteView(rebasing: key[..<1])) } else { open.delete(key: key) }
        }
    }

    // MARK: Pieces that a leader has left

    /// Tells the participant whose pieces are stored. Looks at one of each part.
    func restorePieces() throws(StoreError) {
        for bucket in buckets.joined() {
            var prefix = ByteBuffer(capacity: 64)
            TransactionKey.appendPiecePrefix(BucketID(rawValue: UInt16(truncatingIfNeeded: bucket)), into: &prefix)
            var next: Bytes? = prefix.readable.bytes
            NativeKeyLayout.makeRangeEnd(&prefix)
            while let from = next {
                next = nil
                try from.withView { (from: ByteView) throws(StoreError) in
                    try store.scan(from: from, to: prefix.readable) { key, _ in
                        guard let id = TransactionKey.parsePiece(key).map(Self.part) else { return false }
                        transactions.participant.restore(piecesOf: id)
                        next = range(ofPieces: id).to
                        return false
                    }
                }
            }
        }
    }

    private static func part(_ name: (transaction: UInt64, slot: Slot)) -> PartID {
        PartID(TransactionID(rawValue: name.transaction), name.slot)
    }

    private func range(ofPieces id: PartID) -> (from: Bytes, to: Bytes) {
        var buffer = ByteBuffer(capacity: 64)
        let bucket = id.slot.bucket(of: transactions.participant.bucketCount)
        TransactionKey.appendPieces(of: id.transaction.rawValue, id.slot, bucket, into: &buffer)
        let from = buffer.readable.bytes
        NativeKeyLayout.makeRangeEnd(&buffer)
        return (from, buffer.readable.bytes)
    }

    /// Deletes some pieces that belong to nothing; those that the open entry has deleted before are met again.
    func removePieces(of id: PartID) {
        let (from, to) = range(ofPieces: id)
        var keys: [Bytes] = []
        do throws(StoreError) {
            try from.withView { (from: ByteView) throws(StoreError) in
                try to.withView { (to: ByteView) throws(StoreError) in
                    try store.scan(from: from, to: to) { key, _ in
                        keys.append(key.bytes)
                        return keys.count < Self.removalStep
                    }
                }
            }
        } catch {
            return fail(error)
        }
        for key in keys { key.withUnsafeBytes { open.delete(key: $0) } }
        if keys.count < Self.removalStep { transactions.participant.removedPieces(of: id) }
    }
}

/// The record that says that a shard's store shows half of a transaction: put with the entry that commits one in
/// pieces, deleted with the last of them. Who answers from the store without asking for locks looks at it.
enum HalfDoneMark {
    static func key(firstBucket: Int) -> Bytes {
        var buffer = ByteBuffer(capacity: 64)
        TransactionKey.appendMark(BucketID(rawValue: UInt16(truncatingIfNeeded: firstBucket)), into: &buffer)
        return buffer.readable.bytes
    }
}
