import Base
import Storage

/// The payload of an entry in a simulated cluster.
struct SimulatedEntry {
    var operation: UInt64
    var key: Int
    var isAppend: Bool
    var number: Int
    var session: Int
    /// Above zero: the shard remembers it.
    var sequence: UInt32
    /// Of an actor: the version that it was evaluated on, and whose activation did it.
    var base: UInt32 = 0
    var term: UInt64 = 0
    var node: UInt32 = 0

    static let headerSize = 8 + 4 + 1 + 8 + 4 + 4 + 4 + 8 + 4

    init(_ request: ClientRequest, number: Int, isAppend: Bool) {
        (operation, key, session, sequence) = (request.operation, request.key, request.client, request.sequence)
        (self.number, self.isAppend) = (number, isAppend)
    }

    func encode(into buffer: inout ByteBuffer) {
        buffer.append(littleEndian: operation)
        buffer.append(littleEndian: UInt32(key))
        buffer.append(isAppend ? 1 : 0 as UInt8)
        buffer.append(littleEndian: UInt64(number))
        buffer.append(littleEndian: UInt32(session))
        buffer.append(littleEndian: sequence)
        buffer.append(littleEndian: base)
        buffer.append(littleEndian: term)
        buffer.append(littleEndian: node)
    }

    init?(_ payload: ByteView) {
        var reader = ByteReader(payload)
        guard let operation = reader.littleEndian(UInt64.self), let key = reader.littleEndian(UInt32.self),
            let kind = reader.byte(), let number = reader.littleEndian(UInt64.self),
            let session = reader.littleEndian(UInt32.self), let sequence = reader.littleEndian(UInt32.self),
            let base = reader.littleEndian(UInt32.self), let term = reader.littleEndian(UInt64.self),
            let node = reader.littleEndian(UInt32.self)
        else { return nil }
        (self.operation, self.key, isAppend) = (operation, Int(key), kind == 1)
        (self.number, self.session, self.sequence) = (Int(number), Int(session), sequence)
        (self.base, self.term, self.node) = (base, term, node)
    }
}

/// What a key holds, as its record says: a version that counts its writes, and a list of numbers.
struct SimulatedValue: Hashable {
    var version: UInt32 = 0
    var numbers: [Int] = []

    init() {}

    init?(_ bytes: Bytes) {
        let value: SimulatedValue? = bytes.withUnsafeBytes { view in
            var reader = ByteReader(view)
            var value = SimulatedValue()
            guard let version = reader.littleEndian(UInt32.self) else { return nil }
            value.version = version
            while let number = reader.littleEndian(UInt32.self) { value.numbers.append(Int(number)) }
            return reader.isAtEnd ? value : nil
        }
        guard let value else { return nil }
        self = value
    }

    /// After a write of `entry`.
    func after(_ entry: SimulatedEntry) -> SimulatedValue {
        var next = self
        next.version += 1
        next.numbers = entry.isAppend ? numbers + [entry.number] : [entry.number]
        return next
    }

    var bytes: Bytes {
        var bytes: Bytes = []
        bytes.reserveCapacity(4 + numbers.count * 4)
        func add(_ number: UInt32) {
            for shift in [0, 8, 16, 24] as [UInt32] { bytes.append(UInt8(truncatingIfNeeded: number >> shift)) }
        }
        add(version)
        for number in numbers { add(UInt32(truncatingIfNeeded: number)) }
        return bytes
    }
}

/// Where a simulated shard's records lie.
enum SimulatedKey {
    static func range(_ shard: Int) -> KeyRange {
        KeyRange(from: [UInt8(shard + 1)], to: [UInt8(shard + 2)])
    }

    static func value(_ shard: Int, _ key: Int) -> Bytes { [UInt8(shard + 1), 0, UInt8(key)] }

    static func session(_ shard: Int, _ session: Int) -> Bytes { [UInt8(shard + 1), 1, UInt8(session)] }

    /// The bucket whose keys are the outcomes that the shard remembers: they begin with the shard's byte and 2.
    static func outcomes(_ shard: Int) -> BucketID { BucketID(rawValue: UInt16(shard + 1) << 8 | 2) }

    /// Of a payload: the same for the same bytes only.
    static func digest(_ payload: ByteView) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        var reader = ByteReader(payload)
        while let word = reader.littleEndian(UInt64.self) { hash = (hash ^ word) &* 0x9E37_79B9_7F4A_7C15 ^ hash >> 29 }
        while let byte = reader.byte() { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return hash ^ UInt64(payload.count)
    }
}
