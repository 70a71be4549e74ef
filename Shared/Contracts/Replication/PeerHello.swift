import Base
import CProto

/// A look at a clock, asked and answered.
package struct PeerClock: Hashable, Sendable {
    /// The asker's monotonic clock, in nanoseconds; answered as it came.
    package var sent: UInt64
    /// The wall as the speaker's hybrid logical clock believes it.
    package var time: Timestamp

    package init(sent: UInt64, time: Timestamp) {
        self.sent = sent
        self.time = time
    }

    /// It lies in hot messages, so it is coded by hand.
    init(decoding bytes: ByteView) throws(DatabaseError) {
        self.init(sent: 0, time: .zero)
        var reader = ByteReader(bytes)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                sent = value
            case 2 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                time = Timestamp(rawValue: value)
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
    }

    var encodedSize: Int { (sent == 0 ? 0 : 9) + (time.rawValue == 0 ? 0 : 9) }

    func append(to buffer: inout ByteBuffer) {
        if sent != 0 {
            buffer.append(1 << 3 | 1)
            buffer.append(littleEndian: sent)
        }
        if time.rawValue != 0 {
            buffer.append(2 << 3 | 1)
            buffer.append(littleEndian: time.rawValue)
        }
    }

    fileprivate init(_ message: Orbit__V1__PeerClock) {
        self.init(sent: message.sent, time: Timestamp(rawValue: message.time))
    }

    fileprivate func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__PeerClock> {
        arena.make(orbit__v1__peer_clock__init) {
            $0.sent = sent
            $0.time = time.rawValue
        }
    }
}

/// Who speaks on a peer stream, and with whom it means to speak.
package struct PeerHello: Hashable, Sendable {
    /// The versions of the service that the speaker understands.
    package var protocolMinimum: UInt32
    package var protocolMaximum: UInt32
    package var role: String
    /// 0: the cluster has no id yet.
    package var cluster: UInt64
    package var node: NodeID
    package var peer: NodeID
    /// 16 bytes.
    package var uid: Bytes
    package var incarnation: UInt64
    package var clock: PeerClock

    package init(
        protocols: ClosedRange<UInt32> = PeerPath.protocolVersions, role: String, cluster: UInt64, node: NodeID,
        peer: NodeID, uid: Bytes, incarnation: UInt64, clock: PeerClock
    ) {
        (protocolMinimum, protocolMaximum) = (protocols.lowerBound, protocols.upperBound)
        self.role = role
        self.cluster = cluster
        self.node = node
        self.peer = peer
        self.uid = uid
        self.incarnation = incarnation
        self.clock = clock
    }

    init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(bytes, orbit__v1__peer_hello__unpack, orbit__v1__peer_hello__free_unpacked) {
            message throws(DatabaseError) in PeerHello(message)
        }
    }

    init(_ message: Orbit__V1__PeerHello) {
        protocolMinimum = message.protocol_min
        protocolMaximum = message.protocol_max
        role = Protobuf.text(message.role)
        cluster = message.cluster
        node = NodeID(rawValue: message.node)
        peer = NodeID(rawValue: message.peer)
        uid = Protobuf.bytes(message.uid)
        incarnation = message.incarnation
        clock = message.clock.map { PeerClock($0.pointee) } ?? PeerClock(sent: 0, time: .zero)
    }

    func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__PeerHello> {
        arena.make(orbit__v1__peer_hello__init) {
            $0.protocol_min = protocolMinimum
            $0.protocol_max = protocolMaximum
            $0.role = arena.text(role)
            $0.cluster = cluster
            $0.node = node.rawValue
            $0.peer = peer.rawValue
            $0.uid = arena.data(uid)
            $0.incarnation = incarnation
            $0.clock = clock.build(arena)
        }
    }

    /// The `PeerBatch` that opens a stream: this hello and nothing else.
    package func encodeBatch() -> Bytes {
        Protobuf.encode { arena in arena.make(orbit__v1__peer_batch__init) { $0.hello = build(arena) } }
    }
}

/// What a receiver says on the sender's stream.
package struct PeerAnswer: Hashable, Sendable {
    package var hello: PeerHello?
    package var clock: PeerClock?

    package init(hello: PeerHello? = nil, clock: PeerClock? = nil) {
        self.hello = hello
        self.clock = clock
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(bytes, orbit__v1__peer_answer__unpack, orbit__v1__peer_answer__free_unpacked) {
            message throws(DatabaseError) in
            PeerAnswer(
                hello: message.hello.map { PeerHello($0.pointee) }, clock: message.clock.map { PeerClock($0.pointee) })
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__peer_answer__init) {
                $0.hello = hello?.build(arena)
                $0.clock = clock?.build(arena)
            }
        }
    }
}
