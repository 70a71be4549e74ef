import Base
import DataModel

/// Writes rows as a client gets them.
struct RowWriter {
    /// What printing depends on besides the type.
    var settings = TextSettings()

    /// Appends a DataRow. False: the record is none, and what was appended means nothing.
    func append(
        _ record: ByteView, _ columns: [ResultColumn], _ formats: [WireFormat], into buffer: inout ByteBuffer
    ) -> Bool {
        guard var reader = ColumnReader(record) else { return false }
        var field = reader.next(), isWhole = true
        buffer.message("D") { body in
            body.append(bigEndian: UInt16(truncatingIfNeeded: columns.count))
            for (index, column) in columns.enumerated() {
                guard let found = field, found.column == UInt32(truncatingIfNeeded: index &+ 1) else {
                    body.append(bigEndian: Int32(-1))
                    continue
                }
                if found.isNull {
                    body.append(bigEndian: Int32(-1))
                } else {
                    let start = body.count
                    body.append(bigEndian: Int32(0))
                    let format = index < formats.count ? formats[index] : .text
                    if !append(found, column.type, format, into: &body) { isWhole = false }
                    body.patch(at: start, Int32(truncatingIfNeeded: body.count - start - 4))
                }
                field = reader.next()
            }
        }
        return isWhole && field == nil && reader.isAtEnd
    }

    /// Appends a value that is not NULL, without its length. False: it is none.
    func append(
        _ field: RecordField, _ type: DataType, _ format: WireFormat, into buffer: inout ByteBuffer
    ) -> Bool {
        if format == .text, let number = field.integer, Self.isNumber(type) {
            buffer.append(decimal: number)
            return true
        }
        if let text = field.text, Self.isText(type) {
            buffer.append(text)
            return true
        }
        guard var value = field.value else { return false }
        if case .tuple(let parts) = value, type.kind != .record, parts.count == 2 {
            // The number of an object, and its name.
            guard format == .binary else {
                guard case .text(let name) = parts[1] else { return false }
                buffer.append(text: name)
                return true
            }
            value = parts[0]
        }
        switch format {
        case .text: ValueText.append(value, as: type, settings, into: &buffer)
        case .binary: ValueBinary.append(value, as: type, into: &buffer)
        }
        return true
    }

    private static func isNumber(_ type: DataType) -> Bool {
        !type.isArray && (type.kind == .int16 || type.kind == .int32 || type.kind == .int64)
    }

    private static func isText(_ type: DataType) -> Bool {
        !type.isArray && (type.kind == .text || type.kind == .varchar || type.kind == .char || type.kind == .name)
    }
}
