import Base
import DataModel

/// What is said about a part, once it is there, by the transaction's driver or by whoever recovers it.
package struct CommitStep: Hashable, Sendable {
    /// The raw values are the wire's.
    package enum Kind: UInt8, CaseIterable, Hashable, Sendable {
        /// The transaction is committed: apply the part. To the anchor first, which makes a record of it.
        case commit = 0
        /// Undo the part; one that comes later is refused. To the anchor first: its answer decides.
        case abort = 1
        /// To the anchor: every participant has committed, the record can go.
        case forget = 2
        /// To the anchor: what has become of the transaction? It decides, if nobody has.
        case resolve = 3
        /// From the anchor: is the intent there? If not, a part that comes later is refused.
        case fence = 4
        /// Of a transaction that only reads: was the lock held until now? It is released.
        case confirm = 5
        /// To a scope of an interactive transaction: make an intent of what was done. It takes the place of a part.
        case prepare = 6
        /// The same of the only participant: commit at once.
        case commitOne = 7
        /// To a scope: forget what was done in statements behind one.
        case rollbackTo = 8
        /// To a scope: the transaction lives.
        case keepAlive = 9
    }

    package let kind: Kind
    package let transaction: TransactionID
    /// Of COMMIT: the highest of the participants' timestamps. Of CONFIRM: that of the part's reply.
    package let timestamp: Timestamp
    package let participants: [Slot]
    /// Of steps to a scope: what its replies have named. Of ABORT too, where the transaction has a scope there.
    package var incarnation: UInt64 = 0
    /// Of PREPARE and COMMIT_ONE the last statement that was sent to the participant; of ROLLBACK_TO the last to stay.
    package var statement: UInt32 = 0

    package init(
        _ kind: Kind, _ transaction: TransactionID, timestamp: Timestamp = .zero, participants: [Slot]
    ) {
        (self.kind, self.transaction, self.timestamp) = (kind, transaction, timestamp)
        self.participants = participants
    }
}

/// What a participant answers to a step, once what it says is durable.
package enum StepAnswer: Hashable, Sendable {
    /// The part is committed.
    case committed(Timestamp)
    /// The part is undone or was never there, and never will be.
    case aborted
    /// The intent is there, and nothing is decided.
    case prepared(Timestamp)
    /// No trace: never heard of, or finished so long ago that it is forgotten.
    case nothing
    /// Of CONFIRM: the locks were held all the time; they are released now. Of steps to a scope: it is there.
    case held
    /// They were not; it is not.
    case notHeld
    /// Nothing was done; ask again.
    case busy
    /// Of PREPARE and COMMIT_ONE: nothing was done, and nothing will be; the scope is gone.
    case refused(PartRefusal)

    private var code: UInt8 {
        switch self {
        case .committed: 1
        case .aborted: 2
        case .prepared: 3
        case .nothing: 4
        case .held: 5
        case .notHeld: 6
        case .busy: 7
        case .refused: 8
        }
    }

    /// As it travels in the reply's data: a byte, and eight of the timestamp, little-endian.
    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(code)
        switch self {
        case .committed(let timestamp), .prepared(let timestamp): buffer.append(littleEndian: timestamp.rawValue)
        case .refused(let refusal): buffer.append(littleEndian: UInt64(refusal.rawValue))
        case .aborted, .nothing, .held, .notHeld, .busy: buffer.append(littleEndian: 0 as UInt64)
        }
    }

    /// Nil when it is damaged, or of a later version.
    package init?(decoding view: ByteView) {
        var reader = ByteReader(view)
        guard let code = reader.byte(), let time: UInt64 = reader.littleEndian(), reader.isAtEnd else { return nil }
        switch code {
        case 1: self = .committed(Timestamp(rawValue: time))
        case 2: self = .aborted
        case 3: self = .prepared(Timestamp(rawValue: time))
        case 4: self = .nothing
        case 5: self = .held
        case 6: self = .notHeld
        case 7: self = .busy
        case 8:
            guard let refusal = UInt8(exactly: time).flatMap(PartRefusal.init) else { return nil }
            self = .refused(refusal)
        case _: return nil
        }
    }
}
