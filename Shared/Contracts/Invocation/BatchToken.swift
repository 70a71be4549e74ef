import Base

/// An idempotency token that goes with a batch of calls and not with the stream that it comes on (`BatchToken`).
package struct BatchToken: Hashable, Sendable {
    /// Not 0, both of them.
    package let session: UInt64, id: UInt64
    /// Nothing is done: the batch of this token never will be, if it was not before.
    package let isFence: Bool

    package init(session: UInt64, id: UInt64, isFence: Bool = false) {
        (self.session, self.id, self.isFence) = (session, id, isFence)
    }

    func encode(into buffer: inout ByteBuffer) {
        buffer.appendField(1, fixed: session)
        buffer.appendField(2, varint: id)
        buffer.appendField(3, varint: isFence ? 1 : 0)
    }

    init(_ message: ByteView) throws(DatabaseError) {
        var session: UInt64 = 0, id: UInt64 = 0, isFence = false
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                session = value
            case 2 << 3, 3 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                if tag == 2 << 3 { id = value } else { isFence = value != 0 }
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        guard session != 0, id != 0 else { throw Wire.malformed }
        self.init(session: session, id: id, isFence: isFence)
    }
}
