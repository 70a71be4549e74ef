import Base
import CProto

/// Where the methods of `orbit.v1.BackupService` are.
package enum BackupPath {
    package static let service = "orbit.v1.BackupService"
    package static let begin = "/orbit.v1.BackupService/Begin"
    package static let read = "/orbit.v1.BackupService/Read"
    package static let end = "/orbit.v1.BackupService/End"
    package static let restore = "/orbit.v1.BackupService/Restore"
}

/// Asks a node for the present, and to keep it.
package struct BackupBegin: Hashable, Sendable {
    /// Names the run.
    package var backup: UInt64
    package var holdMilliseconds: UInt32

    package init(backup: UInt64, holdMilliseconds: UInt32) {
        (self.backup, self.holdMilliseconds) = (backup, holdMilliseconds)
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__backup_begin__unpack, orbit__v1__backup_begin__free_unpacked
        ) { message throws(DatabaseError) in
            BackupBegin(backup: message.backup, holdMilliseconds: message.hold_ms)
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__backup_begin__init) { ($0.backup, $0.hold_ms) = (backup, holdMilliseconds) }
        }
    }
}

/// A node's clock, and its cluster.
package struct BackupBegan: Hashable, Sendable {
    package var timestamp: Timestamp
    package var cluster: UInt64
    package var buckets: UInt32
    package var shards: UInt32

    package init(timestamp: Timestamp, cluster: UInt64, buckets: UInt32, shards: UInt32) {
        (self.timestamp, self.cluster, self.buckets, self.shards) = (timestamp, cluster, buckets, shards)
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__backup_began__unpack, orbit__v1__backup_began__free_unpacked
        ) { message throws(DatabaseError) in
            BackupBegan(
                timestamp: Timestamp(rawValue: message.timestamp), cluster: message.cluster, buckets: message.buckets,
                shards: message.shards)
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__backup_began__init) {
                ($0.timestamp, $0.cluster) = (timestamp.rawValue, cluster)
                ($0.buckets, $0.shards) = (buckets, shards)
            }
        }
    }
}

/// A piece of a bucket by its content.
package struct BackupPiece: Hashable, Sendable {
    package var from: Bytes
    package var size: UInt64
    package var digest: Bytes

    package init(from: Bytes, size: UInt64, digest: Bytes) {
        (self.from, self.size, self.digest) = (from, size, digest)
    }

    init(_ message: Orbit__V1__BackupPiece) {
        self.init(from: Protobuf.bytes(message.from), size: message.size, digest: Protobuf.bytes(message.digest))
    }

    func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__BackupPiece>? {
        arena.make(orbit__v1__backup_piece__init) {
            ($0.from, $0.size, $0.digest) = (arena.data(from), size, arena.data(digest))
        }
    }
}

/// Asks for a bucket as of a moment.
package struct BackupRead: Hashable, Sendable {
    package var backup: UInt64
    package var timestamp: Timestamp
    package var bucket: UInt32
    /// What the caller has; each begins behind the one before.
    package var known: [BackupPiece]

    package init(backup: UInt64, timestamp: Timestamp, bucket: UInt32, known: [BackupPiece]) {
        (self.backup, self.timestamp, self.bucket, self.known) = (backup, timestamp, bucket, known)
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__backup_read__unpack, orbit__v1__backup_read__free_unpacked
        ) { message throws(DatabaseError) in
            BackupRead(
                backup: message.backup, timestamp: Timestamp(rawValue: message.timestamp), bucket: message.bucket,
                known: Protobuf.messages(message.known, message.n_known).map { BackupPiece($0) })
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__backup_read__init) {
                ($0.backup, $0.timestamp, $0.bucket) = (backup, timestamp.rawValue, bucket)
                ($0.known, $0.n_known) = (arena.array(known.map { $0.build(arena) }), known.count)
            }
        }
    }
}

/// One message of a bucket on its way into a backup.
package enum BackupPart: Hashable, Sendable {
    /// The known piece at this place is as it was.
    case same(UInt32)
    case changed(from: Bytes, records: Bytes, digest: Bytes)
    /// That was all: so many records and bytes, those of kept pieces among them.
    case end(records: UInt64, bytes: UInt64)

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__backup_part__unpack, orbit__v1__backup_part__free_unpacked
        ) { message throws(DatabaseError) in
            switch message.what_case {
            case ORBIT__V1__BACKUP_PART__WHAT_SAME: return .same(message.same)
            case ORBIT__V1__BACKUP_PART__WHAT_CHANGED:
                guard let change = message.changed?.pointee else { break }
                return .changed(
                    from: Protobuf.bytes(change.from), records: Protobuf.bytes(change.records),
                    digest: Protobuf.bytes(change.digest))
            case ORBIT__V1__BACKUP_PART__WHAT_END:
                guard let end = message.end?.pointee else { break }
                return .end(records: end.records, bytes: end.bytes)
            case _: break
            }
            throw DatabaseError(.protocolViolation, "a part of a backup with nothing in it")
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__backup_part__init) {
                switch self {
                case .same(let place): ($0.what_case, $0.same) = (ORBIT__V1__BACKUP_PART__WHAT_SAME, place)
                case .changed(let from, let records, let digest):
                    $0.what_case = ORBIT__V1__BACKUP_PART__WHAT_CHANGED
                    $0.changed = arena.make(orbit__v1__backup_change__init) {
                        ($0.from, $0.records) = (arena.data(from), arena.data(records))
                        $0.digest = arena.data(digest)
                    }
                case .end(let records, let bytes):
                    $0.what_case = ORBIT__V1__BACKUP_PART__WHAT_END
                    $0.end = arena.make(orbit__v1__backup_bucket_end__init) {
                        ($0.records, $0.bytes) = (records, bytes)
                    }
                }
            }
        }
    }
}

/// A backup is over.
package struct BackupEnd: Hashable, Sendable {
    package var backup: UInt64

    package init(backup: UInt64) { self.backup = backup }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__backup_end__unpack, orbit__v1__backup_end__free_unpacked
        ) { message throws(DatabaseError) in BackupEnd(backup: message.backup) }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in arena.make(orbit__v1__backup_end__init) { $0.backup = backup } }
    }
}

/// One step of the restore of a bucket.
package struct RestoreStep: Hashable, Sendable {
    /// What is to be done; the raw value is on the wire.
    package enum Kind: UInt32, CaseIterable, Hashable, Sendable {
        case status = 0, begin, load, complete, finish, cancel
    }

    package var kind: Kind
    /// Names the backup.
    package var backup: Bytes
    package var bucket: UInt32
    /// With `begin`: the moment that the backup shows, and the buckets of the cluster that it is of.
    package var timestamp = Timestamp.zero
    package var buckets: UInt32 = 0
    /// With `load`: which piece, and its records.
    package var piece: UInt64 = 0
    package var records: Bytes = []
    /// With `complete`: all pieces.
    package var pieces: [BackupPiece] = []

    package init(_ kind: Kind, backup: Bytes, bucket: UInt32) {
        (self.kind, self.backup, self.bucket) = (kind, backup, bucket)
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__restore_step__unpack, orbit__v1__restore_step__free_unpacked
        ) { message throws(DatabaseError) in
            guard let kind = Kind(rawValue: UInt32(truncatingIfNeeded: message.kind.rawValue)) else {
                throw DatabaseError(.featureNotSupported, "this node does not know the step of a restore")
            }
            var step = RestoreStep(kind, backup: Protobuf.bytes(message.backup), bucket: message.bucket)
            (step.timestamp, step.buckets) = (Timestamp(rawValue: message.timestamp), message.buckets)
            (step.piece, step.records) = (message.piece, Protobuf.bytes(message.records))
            step.pieces = Protobuf.messages(message.pieces, message.n_pieces).map { BackupPiece($0) }
            return step
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__restore_step__init) {
                $0.kind = Orbit__V1__RestoreStep__Kind(rawValue: kind.rawValue)
                ($0.backup, $0.bucket) = (arena.data(backup), bucket)
                ($0.timestamp, $0.buckets) = (timestamp.rawValue, buckets)
                ($0.piece, $0.records) = (piece, arena.data(records))
                ($0.pieces, $0.n_pieces) = (arena.array(pieces.map { $0.build(arena) }), pieces.count)
            }
        }
    }
}

/// How far the restore of a bucket is.
package struct RestoreAnswer: Hashable, Sendable {
    /// What every call gets meanwhile.
    package static let underWay = DatabaseError(
        .unavailable, "The cluster is being restored from a backup, and not complete; orbit restore goes on with it")

    /// The raw value is on the wire, and on disk.
    package enum State: UInt32, CaseIterable, Hashable, Sendable {
        case none = 0, loading, complete, done
    }

    package var state: State
    /// Of which backup.
    package var backup: Bytes
    /// While loading: the piece that is wanted next.
    package var piece: UInt64

    package init(_ state: State, backup: Bytes = [], piece: UInt64 = 0) {
        (self.state, self.backup, self.piece) = (state, backup, piece)
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__restore_answer__unpack, orbit__v1__restore_answer__free_unpacked
        ) { message throws(DatabaseError) in
            guard let state = State(rawValue: UInt32(truncatingIfNeeded: message.state.rawValue))
            else { throw DatabaseError(.protocolViolation, "an unknown state of a restore") }
            return RestoreAnswer(state, backup: Protobuf.bytes(message.backup), piece: message.piece)
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__restore_answer__init) {
                $0.state = Orbit__V1__RestoreAnswer__State(rawValue: state.rawValue)
                ($0.backup, $0.piece) = (arena.data(backup), piece)
            }
        }
    }
}
