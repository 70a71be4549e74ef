import Base

/// Fields of the messages that are coded by hand here; default values are left out, as proto3 says.
extension ByteBuffer {
    mutating func field(_ number: UInt64, varint value: UInt64) {
        guard value != 0 else { return }
        append(varint: number << 3 | Wire.varint)
        append(varint: value)
    }

    mutating func field(_ number: UInt64, fixed value: UInt64) {
        guard value != 0 else { return }
        append(varint: number << 3 | Wire.fixed64)
        append(littleEndian: value)
    }

    mutating func field(_ number: UInt64, bytes: Bytes) {
        guard !bytes.isEmpty else { return }
        append(varint: number << 3 | Wire.delimited)
        append(varint: UInt64(bytes.count))
        append(bytes)
    }

    mutating func field(_ number: UInt64, text: StaticString) {
        guard text.utf8CodeUnitCount > 0 else { return }
        append(varint: number << 3 | Wire.delimited)
        append(varint: UInt64(text.utf8CodeUnitCount))
        append(ByteView(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// A message, even an empty one.
    mutating func field(_ number: UInt64, _ message: (inout ByteBuffer) -> Void) {
        var nested = ByteBuffer(capacity: 256)
        message(&nested)
        append(varint: number << 3 | Wire.delimited)
        append(varint: UInt64(nested.count))
        append(nested.readable)
    }
}

/// One field of a message that is being read.
enum WireField {
    case number(UInt64)
    case bytes(ByteView)

    /// Reads the fields of a message one after another; those of a wire type that we do not use are skipped.
    static func forEach(
        _ message: ByteView, _ body: (UInt64, WireField) throws(DatabaseError) -> Void
    ) throws(DatabaseError) {
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint(), tag >> 3 != 0 else { throw Wire.malformed }
            switch tag & 7 {
            case Wire.varint:
                guard let value = reader.varint() else { throw Wire.malformed }
                try body(tag >> 3, .number(value))
            case Wire.fixed64:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                try body(tag >> 3, .number(value))
            case Wire.delimited:
                guard let value = reader.delimited() else { throw Wire.malformed }
                try body(tag >> 3, .bytes(value))
            case let type:
                guard Wire.skip(type, in: &reader) else { throw Wire.malformed }
            }
        }
    }

    var number: UInt64 { if case .number(let value) = self { value } else { 0 } }

    var view: ByteView { if case .bytes(let view) = self { view } else { ByteView(start: nil, count: 0) } }
}
