import Base

/// A JSON document as a tree: what parsing gives and what is changed; `JSONBinary` is its form at rest.
package indirect enum JSONNode: Sendable {
    case null
    case bool(Bool)
    case number(Decimal)
    case string(String)
    case array([JSONNode])
    /// In any order, keys may repeat; encoding sorts them and keeps the last of equal ones.
    case object([(key: String, value: JSONNode)])

    /// Arrays and objects nest this deep at most: neither reading nor freeing may exhaust the stack.
    package static let depthLimit = 1000

    /// The document at rest.
    package var binary: JSONBinary {
        var buffer = ByteBuffer(capacity: 256)
        append(into: &buffer)
        return JSONBinary(encoded: buffer.readable.bytes)
    }

    func append(into buffer: inout ByteBuffer) {
        switch self {
        case .null: buffer.append(JSONBinary.nullTag)
        case .bool(let value): buffer.append(value ? JSONBinary.trueTag : JSONBinary.falseTag)
        case .number(let value):
            buffer.append(JSONBinary.numberTag)
            value.appendPayload(into: &buffer)
        case .string(let value):
            buffer.append(JSONBinary.stringTag)
            buffer.append(text: value)
        case .array(let elements):
            buffer.append(JSONBinary.arrayTag)
            buffer.append(littleEndian: UInt32(clamping: elements.count))
            var ends = EndTable(count: elements.count, in: &buffer)
            for element in elements {
                element.append(into: &buffer)
                ends.note(in: &buffer)
            }
        case .object(let members): Self.append(Self.sorted(members), into: &buffer)
        }
    }

    private static func append(_ members: [(key: String, value: JSONNode)], into buffer: inout ByteBuffer) {
        buffer.append(JSONBinary.objectTag)
        buffer.append(littleEndian: UInt32(clamping: members.count))
        var ends = EndTable(count: members.count * 2, in: &buffer)
        for member in members {
            buffer.append(text: member.key)
            ends.note(in: &buffer)
        }
        for member in members {
            member.value.append(into: &buffer)
            ends.note(in: &buffer)
        }
    }

    /// By length, then by bytes, as PostgreSQL's jsonb has them; of equal keys the last.
    private static func sorted(_ members: [(key: String, value: JSONNode)]) -> [(key: String, value: JSONNode)] {
        let order = members.indices.sorted { left, right in
            let order = JSONBinary.compareKeys(members[left].key, members[right].key)
            return order == 0 ? left < right : order < 0
        }
        var result: [(key: String, value: JSONNode)] = []
        for index in order {
            if let last = result.last, JSONBinary.compareKeys(last.key, members[index].key) == 0 {
                result[result.count - 1] = members[index]
            } else {
                result.append(members[index])
            }
        }
        return result
    }
}

/// Where the items of a container end, counted from behind the table; written as they get known.
private struct EndTable {
    private var position: Int
    private let start: Int

    init(count: Int, in buffer: inout ByteBuffer) {
        position = buffer.count
        for _ in 0..<count { buffer.append(littleEndian: 0 as UInt32) }
        start = buffer.count
    }

    mutating func note(in buffer: inout ByteBuffer) {
        let end = UInt32(clamping: buffer.count - start)
        buffer.mutableReadable.storeBytes(of: end.littleEndian, toByteOffset: position, as: UInt32.self)
        position += 4
    }
}

extension Decimal {
    /// Powers of the first place that a value may have.
    static let weights = -(scaleLimit / digitsPerPlace + 1)..<integralLimit / digitsPerPlace

    /// At rest, outside of keys: a byte for kind and sign, then scale and weight (zigzag) as varints, then the places
    /// in two bytes each, little-endian. 1.5 → 00 01 00 01 00 88 13
    package func appendPayload(into buffer: inout ByteBuffer) {
        buffer.append(isNegative ? 1 : kind.rawValue << 1)
        guard isFinite else { return }
        buffer.append(varint: UInt64(scale))
        buffer.append(varint: zigzag(Int64(places.isEmpty ? 0 : weight)))
        for place in places { buffer.append(littleEndian: place) }
    }

    /// Nil where the bytes are damaged.
    package init?(payload: ByteView) {
        var reader = ByteReader(payload)
        guard let head = reader.byte() else { return nil }
        guard head < 2 else {
            guard reader.isAtEnd else { return nil }
            switch head {
            case Kind.nan.rawValue << 1: self = .notANumber
            case Kind.infinity.rawValue << 1: self = .infinity
            case Kind.negativeInfinity.rawValue << 1: self = .negativeInfinity
            case _: return nil
            }
            return
        }
        guard let scale = reader.varint(), scale <= UInt64(Self.scaleLimit), let weight = reader.varint(),
            Self.weights.contains(Int(unzigzag(weight)))
        else { return nil }
        var places: [UInt16] = []
        places.reserveCapacity(reader.remaining / 2)
        while let place = reader.littleEndian(UInt16.self) {
            guard place < UInt16(Self.base) else { return nil }
            places.append(place)
        }
        guard reader.isAtEnd else { return nil }
        self.init(isNegative: head == 1, weight: Int(unzigzag(weight)), places: places, scale: Int(scale))
    }
}

/// Small numbers of either sign to small numbers without one, as protobuf does.
@inlinable package func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: (value << 1) ^ (value >> 63)) }

/// The other way.
@inlinable package func unzigzag(_ value: UInt64) -> Int64 {
    Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
}
