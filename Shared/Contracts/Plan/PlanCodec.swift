import Base

/// `orbit.v1.Plan`, coded by hand: a plan goes with every statement that is not prepared, and a decoder of our own
/// knows a bound on the nodes before it makes them.
extension LogicalPlan {
    /// Bytes of an encoded plan.
    package static let sizeLimit = 64 << 20

    package func encode() -> Bytes {
        var buffer = ByteBuffer(capacity: 32 + nodes.count * 16)
        buffer.field(1, varint: UInt64(dialect.rawValue))
        buffer.field(2, varint: UInt64(UInt32(bitPattern: root)))
        for node in nodes {
            let childrenSize = node.children.reduce(0) { $0 + varintSize(UInt64(UInt32(bitPattern: $1))) }
            buffer.append(varint: 3 << 3 | Wire.delimited)
            buffer.append(varint: UInt64(node.encodedSize(childrenSize)))
            node.encode(childrenSize, into: &buffer)
        }
        return Bytes(buffer.readable)
    }

    /// A plan that may be walked: see `validate()`.
    package init(decoding message: ByteView) throws(DatabaseError) {
        guard message.count <= Self.sizeLimit else {
            throw DatabaseError(.limitExceeded, "plan of \(message.count) bytes")
        }
        var dialect: Dialect?, root: UInt64 = 0, nodes: [Node] = []
        try WireField.forEach(message) { number, field throws(DatabaseError) in
            switch number {
            case 1: dialect = UInt8(exactly: field.number).flatMap { Dialect(rawValue: $0) }
            case 2: root = field.number
            case 3:
                guard nodes.count < Self.nodeLimit else {
                    throw DatabaseError(.limitExceeded, "plan of more than \(Self.nodeLimit) nodes")
                }
                nodes.append(try Node(decoding: field.view))
            case _: break
            }
        }
        guard let dialect, let root = Int32(exactly: root) else { throw Wire.malformed }
        self.init(dialect: dialect, nodes: nodes, root: root)
        try validate()
    }

    /// 128 bits of the encoded form, the same for ever and everywhere. Not proof against somebody who looks for two
    /// plans that share one: a cache that finds a plan by it compares the plan.
    package var fingerprint: PlanFingerprint { PlanFingerprint(of: encode()) }
}

/// See `LogicalPlan.fingerprint`.
package struct PlanFingerprint: Hashable, Sendable, CustomStringConvertible {
    package let high: UInt64, low: UInt64

    /// Of a plan's encoded form.
    package init(of encoded: Bytes) {
        // The second half hashes the first half's result in front of the bytes: halves of their own.
        let first = encoded.withView { ByteHash.stable($0) }
        var buffer = ByteBuffer(capacity: encoded.count + 8)
        buffer.append(littleEndian: first)
        buffer.append(encoded)
        (high, low) = (first, ByteHash.stable(buffer.readable))
    }

    /// 16 bytes.
    package var bytes: Bytes {
        [high, low].flatMap { half in (0..<8).map { UInt8(truncatingIfNeeded: half >> (56 - 8 * UInt64($0))) } }
    }

    package var description: String {
        [high, low].map { half in
            let digits = String(half, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}

extension LogicalPlan.Node {
    fileprivate func encodedSize(_ childrenSize: Int) -> Int {
        func size(_ value: UInt64) -> Int { value == 0 ? 0 : 1 + varintSize(value) }
        func size(ofBytes count: Int) -> Int { count == 0 ? 0 : 1 + varintSize(UInt64(count)) + count }
        return size(UInt64(kind.rawValue)) + size(ofBytes: childrenSize) + size(ofBytes: name.utf8.count)
            + size(zigZag(number)) + size(UInt64(flags.rawValue)) + size(UInt64(UInt32(bitPattern: position)))
    }

    fileprivate func encode(_ childrenSize: Int, into buffer: inout ByteBuffer) {
        buffer.field(1, varint: UInt64(kind.rawValue))
        if childrenSize > 0 {
            buffer.append(varint: 2 << 3 | Wire.delimited)
            buffer.append(varint: UInt64(childrenSize))
            for child in children { buffer.append(varint: UInt64(UInt32(bitPattern: child))) }
        }
        if !name.isEmpty {
            buffer.append(varint: 3 << 3 | Wire.delimited)
            buffer.append(varint: UInt64(name.utf8.count))
            buffer.append(text: name)
        }
        buffer.field(4, varint: zigZag(number))
        buffer.field(5, varint: UInt64(flags.rawValue))
        buffer.field(6, varint: UInt64(UInt32(bitPattern: position)))
    }

    fileprivate init(decoding message: ByteView) throws(DatabaseError) {
        var kind = PlanKind.none, children: [Int32] = [], name = ""
        var number: Int64 = 0, flags = PlanFlags(), position: Int32 = 0
        try WireField.forEach(message) { field, value throws(DatabaseError) in
            switch field {
            case 1:
                guard let known = UInt16(exactly: value.number).flatMap({ PlanKind(rawValue: $0) }) else {
                    throw DatabaseError(.featureNotSupported, "plan has a node of an unknown kind \(value.number)")
                }
                kind = known
            case 2:
                var reader = ByteReader(value.view)
                children.reserveCapacity(value.view.count)
                while !reader.isAtEnd {
                    guard let child = reader.varint(), let index = Int32(exactly: child) else { throw Wire.malformed }
                    children.append(index)
                }
            case 3: name = String(decoding: value.view, as: UTF8.self)
            case 4: number = unZigZag(value.number)
            case 5: flags = PlanFlags(rawValue: UInt32(truncatingIfNeeded: value.number))
            case 6: position = Int32(truncatingIfNeeded: value.number)
            case _: break
            }
        }
        self.init(kind, children, name: name, number: number, flags: flags, position: position)
    }
}
