import Base
import Contracts

/// Building batches from text.
extension CallBatchEncoder {
    mutating func add(
        _ method: Contracts.Method, _ key: String = "", _ arguments: [Bytes] = [], numbers: [Int64] = [],
        flags: UInt32 = 0
    ) {
        Self.encoded(method, key, arguments, numbers: numbers, flags: flags).withUnsafeBytes { append(call: $0) }
    }

    /// A call on its own.
    static func encoded(
        _ method: Contracts.Method, _ key: String = "", _ arguments: [Bytes] = [], numbers: [Int64] = [],
        flags: UInt32 = 0
    ) -> Bytes {
        encoded(method, key: Bytes(key.utf8), arguments, numbers: numbers, flags: flags, database: 0)
    }

    /// A call on its own, whose key is no text.
    static func encoded(
        _ method: Contracts.Method, key: Bytes, _ arguments: [Bytes] = [], numbers: [Int64] = [], flags: UInt32 = 0,
        database: UInt8
    ) -> Bytes {
        let all = key + arguments.joined()
        var alone = ByteBuffer(capacity: 64)
        all.withUnsafeBytes { all in
            var views: [ByteView] = [], start = key.count
            for argument in arguments {
                views.append(ByteView(rebasing: all[start..<start + argument.count]))
                start += argument.count
            }
            numbers.withUnsafeBufferPointer { numbers in
                views.withUnsafeBufferPointer { views in
                    CallBatchEncoder.encode(
                        method: method, database: database, key: ByteView(rebasing: all.prefix(key.count)),
                        flags: flags, numbers: numbers, arguments: views, into: &alone)
                }
            }
        }
        return alone.readable.bytes
    }

    mutating func set(_ key: String, _ value: String) { add(.set, key, [Bytes(value.utf8)]) }

    mutating func watch(_ key: String, _ version: Int64) {
        let bytes = Bytes(key.utf8)
        var taken = CallBatchEncoder()
        swap(&taken, &self)
        bytes.withUnsafeBytes { taken.append(watch: $0, database: 0, version: UInt64(bitPattern: version)) }
        swap(&taken, &self)
    }

    mutating func absent(_ key: String) {
        let bytes = Bytes(key.utf8)
        var taken = CallBatchEncoder()
        swap(&taken, &self)
        bytes.withUnsafeBytes { taken.append(absent: $0, database: 0) }
        swap(&taken, &self)
    }
}
