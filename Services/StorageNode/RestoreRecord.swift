import Backup
import Base
import Contracts
import DataModel

/// How far the restore of a bucket is, as a record of it: the shard's log and snapshots carry it like all others.
///
///     key     bucket u16 | collection u32 = 23 | index u8 = 0, big-endian
///     value   version u8 = 1, state u8, next piece u64 LE, the backup's id
struct RestoreRecord: Hashable {
    var state: RestoreAnswer.State
    /// Pieces below are loaded.
    var piece: UInt64 = 0
    /// Of which backup.
    var backup: Bytes

    /// Whether the bucket must not be served.
    var isUnderWay: Bool {
        switch state {
        case .loading, .complete: true
        case .none, .done: false
        }
    }

    var answer: RestoreAnswer { RestoreAnswer(state, backup: backup, piece: piece) }

    init(_ state: RestoreAnswer.State, backup: Bytes, piece: UInt64 = 0) {
        (self.state, self.backup, self.piece) = (state, backup, piece)
    }

    static func key(_ bucket: BucketID) -> Bytes {
        var buffer = ByteBuffer(capacity: 16)
        NativeKeyLayout.appendPrefix(bucket, .systemRestores, into: &buffer)
        return buffer.readable.bytes
    }

    func encode() -> Bytes {
        var buffer = ByteBuffer(capacity: 64)
        buffer.append(1 as UInt8)
        buffer.append(UInt8(truncatingIfNeeded: state.rawValue))
        buffer.append(littleEndian: piece)
        buffer.append(backup)
        return buffer.readable.bytes
    }

    /// Nil when it is damaged.
    init?(decoding view: ByteView) {
        var reader = ByteReader(view)
        guard reader.byte() == 1, let code = reader.byte(), let state = RestoreAnswer.State(rawValue: UInt32(code)),
            let piece: UInt64 = reader.littleEndian()
        else { return nil }
        self.init(state, backup: reader.rest.bytes, piece: piece)
    }
}
