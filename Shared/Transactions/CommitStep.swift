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
    }

    package let kind: Kind
    package let transaction: TransactionID
    /// Of COMMIT: the highest of the participants' timestamps. Of CONFIRM: that of the part's reply.
    package let timestamp: Timestamp
    package let participants: [Slot]

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
    /// Of CONFIRM: the locks were held all the time; they are released now.
    case held
    /// Of CONFIRM: they were not.
    case notHeld
    /// Nothing was done; ask again.
    case busy

    private var code: UInt8 {
        switch self {
        case .committed: 1
        case .aborted: 2
        case .prepared: 3
        case .nothing: 4
        case .held: 5
        case .notHeld: 6
        case .busy: 7
        }
    }

    /// As it travels in the reply's data: a byte, and eight of the timestamp, little-endian.
    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(code)
        switch self {
        case .committed(let timestamp), .prepared(let timestamp): buffer.append(littleEndian: timestamp.rawValue)
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
        case _: return nil
        }
    }
}
