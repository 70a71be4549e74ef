import Base
import DataModel

/// Batches of columns as bytes, between processes of one cluster.
///
///     rows varint, then for each column:
///     form u8 · 1 if there are NULLs u8 [bitmap: a word of u64 for 64 rows] · values
///
/// Integers, floats and the words of bitmaps are little-endian, eight bytes each; booleans a byte each; strings the
/// ends of all (u32 each) and then their bytes; other values one record (`RecordEncoding`) with a varint of its size
/// before it, in which the column number of a row is its place from 1, and NULLs are left out.
enum ColumnBlockCoding {
    static func append(_ batch: ColumnBatch, to buffer: inout ByteBuffer) {
        buffer.append(varint: UInt64(batch.count))
        for column in batch.columns { append(column.flattened(), to: &buffer) }
    }

    private static func append(_ column: Column, to buffer: inout ByteBuffer) {
        buffer.append(column.type.form.rawValue)
        buffer.append(column.validity == nil ? 0 : 1)
        if let validity = column.validity {
            for word in validity.words { buffer.append(littleEndian: word) }
        }
        switch column.storage {
        case .integers(let values): for value in values { buffer.append(littleEndian: value) }
        case .floats(let values): for value in values { buffer.append(littleEndian: value.bitPattern) }
        case .booleans(let values): for value in values { buffer.append(value ? 1 : 0) }
        case .bytes(let strings):
            for end in strings.offsets.dropFirst() { buffer.append(littleEndian: UInt32(bitPattern: end)) }
            buffer.append(strings.data)
        case .values(let values):
            var record = ByteBuffer(capacity: 32 * values.count + 16)
            var writer = ColumnWriter(into: &record)
            for (row, value) in values.enumerated() where !value.isNull {
                writer.append(value, column: UInt32(row + 1), into: &record)
            }
            buffer.append(varint: UInt64(record.count))
            buffer.append(record.readable)
        }
    }

    /// Nil where the bytes are none of columns of these types.
    static func decode(_ view: ByteView, _ types: [DataType]) -> ColumnBatch? {
        var reader = ByteReader(view)
        // Every row of every column takes something, but for those without columns.
        guard let rows = reader.varint(), let count = Int(exactly: rows), count <= Int(Int32.max),
            types.isEmpty || count <= view.count * 8
        else { return nil }
        var columns: [Column] = []
        for type in types {
            guard let column = column(&reader, type, count) else { return nil }
            columns.append(column)
        }
        return reader.isAtEnd ? ColumnBatch(columns, count: count) : nil
    }

    private static func column(_ reader: inout ByteReader, _ type: DataType, _ count: Int) -> Column? {
        guard reader.byte() == type.form.rawValue, let hasNull = reader.byte(), hasNull <= 1 else { return nil }
        var validity: Bitmap?
        if hasNull == 1 {
            guard let words = words(&reader, (count + 63) >> 6) else { return nil }
            validity = Bitmap(words: words, count: count)
        }
        guard let storage = storage(&reader, type.form, count) else { return nil }
        return Column(type, storage, validity: validity, count: count)
    }

    private static func words(_ reader: inout ByteReader, _ count: Int) -> [UInt64]? {
        guard let view = reader.view(count * 8) else { return nil }
        return (0..<count).map { UInt64(littleEndian: view.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) }
    }

    private static func storage(_ reader: inout ByteReader, _ form: ColumnForm, _ count: Int) -> Column.Storage? {
        switch form {
        case .integers: return words(&reader, count).map { .integers($0.map { Int64(bitPattern: $0) }) }
        case .floats: return words(&reader, count).map { .floats($0.map { Double(bitPattern: $0) }) }
        case .booleans: return reader.view(count).map { .booleans($0.map { $0 != 0 }) }
        case .bytes:
            guard let ends = reader.view(count * 4) else { return nil }
            var strings = ByteColumn()
            strings.offsets.reserveCapacity(count + 1)
            var last: Int32 = 0
            for row in 0..<count {
                let bits = UInt32(littleEndian: ends.loadUnaligned(fromByteOffset: row * 4, as: UInt32.self))
                guard bits <= UInt32(Int32.max), Int32(bitPattern: bits) >= last else { return nil }
                last = Int32(bitPattern: bits)
                strings.offsets.append(last)
            }
            guard let data = reader.view(Int(last)) else { return nil }
            strings.data = data.bytes
            return .bytes(strings)
        case .values:
            guard let view = reader.delimited(), let record = RecordEncoding.decode(view) else { return nil }
            var values = [Value](repeating: .null, count: count)
            for (number, value) in record {
                guard number >= 1, Int(number) <= count else { return nil }
                values[Int(number) - 1] = value
            }
            return .values(values)
        }
    }
}
