import Base
import CProto

/// Where the methods of `orbit.v1.SnapshotService` are.
package enum SnapshotPath {
    package static let service = "orbit.v1.SnapshotService"
    package static let send = "/orbit.v1.SnapshotService/Send"
}

/// `orbit.v1.SnapshotOffer` as it came: nothing is checked here.
package struct SnapshotOfferMessage: Hashable, Sendable {
    package var transfer: UInt64
    package var shard: UInt32
    package var leaderTerm: UInt64
    package var index: UInt64
    package var logTerm: UInt64
    package var membership: Bytes
    package var manifest: Bytes
    package var sizes: [UInt64]

    package init(
        transfer: UInt64, shard: UInt32, leaderTerm: UInt64, index: UInt64, logTerm: UInt64, membership: Bytes,
        manifest: Bytes, sizes: [UInt64]
    ) {
        (self.transfer, self.shard, self.leaderTerm) = (transfer, shard, leaderTerm)
        (self.index, self.logTerm, self.membership) = (index, logTerm, membership)
        (self.manifest, self.sizes) = (manifest, sizes)
    }

    fileprivate init(_ message: Orbit__V1__SnapshotOffer) {
        (transfer, shard, leaderTerm) = (message.transfer, message.shard, message.leader_term)
        (index, logTerm) = (message.index, message.log_term)
        membership = Protobuf.bytes(message.membership)
        manifest = Protobuf.bytes(message.manifest)
        sizes = Array(UnsafeBufferPointer(start: message.sizes, count: message.sizes == nil ? 0 : message.n_sizes))
    }

    fileprivate func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__SnapshotOffer> {
        arena.make(orbit__v1__snapshot_offer__init) {
            ($0.transfer, $0.shard, $0.leader_term) = (transfer, shard, leaderTerm)
            ($0.index, $0.log_term) = (index, logTerm)
            $0.membership = arena.data(membership)
            $0.manifest = arena.data(manifest)
            ($0.sizes, $0.n_sizes) = (arena.array(sizes), sizes.count)
        }
    }
}

/// `orbit.v1.SnapshotPart`: what the sender of a snapshot says.
package enum SnapshotPartMessage: Hashable, Sendable {
    case hello(PeerHello)
    case offer(SnapshotOfferMessage)
    /// Bytes of a file.
    case data(transfer: UInt64, file: UInt32, offset: UInt64, Bytes)

    /// The largest that is decoded: an offer's manifest and sizes, or a part of a megabyte.
    static let sizeLimit = 8 << 20

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        guard bytes.count <= Self.sizeLimit else {
            throw DatabaseError(.limitExceeded, "part of a snapshot of \(bytes.count) bytes")
        }
        self = try Protobuf.decode(bytes, orbit__v1__snapshot_part__unpack, orbit__v1__snapshot_part__free_unpacked) {
            message throws(DatabaseError) in
            if let hello = message.hello { return .hello(PeerHello(hello.pointee)) }
            if let offer = message.offer { return .offer(SnapshotOfferMessage(offer.pointee)) }
            return .data(
                transfer: message.transfer, file: message.file, offset: message.offset, Protobuf.bytes(message.data))
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__snapshot_part__init) {
                switch self {
                case .hello(let hello): $0.hello = hello.build(arena)
                case .offer(let offer): $0.offer = offer.build(arena)
                case .data(let transfer, let file, let offset, let bytes):
                    ($0.transfer, $0.file, $0.offset) = (transfer, file, offset)
                    $0.data = arena.data(bytes)
                }
            }
        }
    }
}

/// `orbit.v1.SnapshotAnswer`: what the receiver of a snapshot says.
package enum SnapshotAnswerMessage: Hashable, Sendable {
    /// A place in a file.
    package struct Position: Hashable, Sendable {
        package var file: UInt32
        package var offset: UInt64

        package init(file: UInt32, offset: UInt64) {
            self.file = file
            self.offset = offset
        }
    }

    /// `SnapshotAnswer.State`; a refusal carries the number of `SnapshotAnswer.Refusal`.
    package enum State: Hashable, Sendable {
        case unknown, opening, staged
        case receiving(written: Position, wanted: Position?)
        case refused(UInt32)
    }

    case hello(PeerHello)
    case state(transfer: UInt64, round: UInt64, State)

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__snapshot_answer__unpack, orbit__v1__snapshot_answer__free_unpacked
        ) { message throws(DatabaseError) in
            if let hello = message.hello { return .hello(PeerHello(hello.pointee)) }
            return .state(transfer: message.transfer, round: message.round, try Self.state(message))
        }
    }

    private static func state(_ message: Orbit__V1__SnapshotAnswer) throws(DatabaseError) -> State {
        switch message.state {
        case ORBIT__V1__SNAPSHOT_ANSWER__STATE__UNKNOWN: .unknown
        case ORBIT__V1__SNAPSHOT_ANSWER__STATE__OPENING: .opening
        case ORBIT__V1__SNAPSHOT_ANSWER__STATE__RECEIVING:
            .receiving(
                written: Position(file: message.file, offset: message.offset),
                wanted: message.is_gap != 0
                    ? Position(file: message.wanted_file, offset: message.wanted_offset) : nil)
        case ORBIT__V1__SNAPSHOT_ANSWER__STATE__STAGED: .staged
        case ORBIT__V1__SNAPSHOT_ANSWER__STATE__REFUSED:
            .refused(UInt32(truncatingIfNeeded: message.refusal.rawValue))
        default: throw DatabaseError(.protocolViolation, "unknown state of a snapshot's transfer")  // C's open enum.
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__snapshot_answer__init) {
                switch self {
                case .hello(let hello): $0.hello = hello.build(arena)
                case .state(let transfer, let round, let state):
                    ($0.transfer, $0.round) = (transfer, round)
                    Self.fill(&$0, state)
                }
            }
        }
    }

    private static func fill(_ message: inout Orbit__V1__SnapshotAnswer, _ state: State) {
        switch state {
        case .unknown: message.state = ORBIT__V1__SNAPSHOT_ANSWER__STATE__UNKNOWN
        case .opening: message.state = ORBIT__V1__SNAPSHOT_ANSWER__STATE__OPENING
        case .staged: message.state = ORBIT__V1__SNAPSHOT_ANSWER__STATE__STAGED
        case .refused(let refusal):
            message.state = ORBIT__V1__SNAPSHOT_ANSWER__STATE__REFUSED
            message.refusal = Orbit__V1__SnapshotAnswer__Refusal(rawValue: .init(truncatingIfNeeded: refusal))
        case .receiving(let written, let wanted):
            message.state = ORBIT__V1__SNAPSHOT_ANSWER__STATE__RECEIVING
            (message.file, message.offset) = (written.file, written.offset)
            guard let wanted else { return }
            message.is_gap = 1
            (message.wanted_file, message.wanted_offset) = (wanted.file, wanted.offset)
        }
    }
}
