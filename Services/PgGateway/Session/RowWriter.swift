import Base
import DataModel

/// Writes values as a client gets them.
struct ValueEncoder {
    /// False: values of this kind cannot be written yet, and nothing was.
    func append(
        _ value: Value, as type: DataType, _ format: WireFormat, into buffer: inout ByteBuffer
    ) -> Bool {
        guard format == .text else { return false }
        switch value {
        case .bool(let isTrue): buffer.append(isTrue ? "t" : "f")
        case .integer(let number): buffer.append(decimal: number)
        case .text(let text): buffer.append(text: text)
        case .null, .float, .decimal, .bytes, .uuid, .date, .time, .timeWithZone, .timestamp, .interval, .json, .array,
            .tuple:
            return false
        }
        return true
    }
}
