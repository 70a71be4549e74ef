import Base
import CProto

/// The two ways between Swift values and protobuf-c's structs, for every message but the two hot ones.
///
/// A value is encoded by building protobuf-c's structs in an arena; it is decoded by copying out of the structs that
/// protobuf-c unpacked, so that nothing of protobuf-c leaves this module. Depth is no concern: `Proto/` has no
/// recursive message, so a decoder goes no deeper than the schema. Text ends at a zero byte, as protobuf-c's strings
/// do.
enum Protobuf {
    /// The largest message decoded; transports have limits of their own below it.
    static let sizeLimit = 64 << 20

    /// Packs the message that `build` makes in the arena it is given.
    static func encode<Message>(_ build: (ProtobufArena) -> UnsafeMutablePointer<Message>) -> Bytes {
        let arena = ProtobufArena()
        return withExtendedLifetime(arena) {
            let message = UnsafeRawPointer(build(arena)).assumingMemoryBound(to: ProtobufCMessage.self)
            let size = protobuf_c_message_get_packed_size(message)
            return Bytes(unsafeUninitializedCapacity: size) { room, count in
                count = size == 0 ? 0 : protobuf_c_message_pack(message, room.baseAddress)
            }
        }
    }

    /// Unpacks `bytes` with the generated functions of a message and hands the struct to `read`.
    static func decode<Message, Value>(
        _ bytes: ByteView,
        _ unpack: (UnsafeMutablePointer<ProtobufCAllocator>?, Int, UnsafePointer<UInt8>?) -> UnsafeMutablePointer<
            Message
        >?,
        _ free: (UnsafeMutablePointer<Message>?, UnsafeMutablePointer<ProtobufCAllocator>?) -> Void,
        _ read: (Message) throws(DatabaseError) -> Value
    ) throws(DatabaseError) -> Value {
        guard bytes.count <= sizeLimit else { throw DatabaseError(.limitExceeded, "message of \(bytes.count) bytes") }
        guard let message = unpack(nil, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)) else {
            throw DatabaseError(.protocolViolation, "malformed protobuf message")
        }
        defer { free(message, nil) }
        return try read(message.pointee)
    }

    /// A string of a decoded message; bytes that are not UTF-8 are replaced.
    static func text(_ pointer: UnsafePointer<CChar>?) -> String { pointer.map { String(cString: $0) } ?? "" }

    /// The strings of a repeated field.
    static func texts(_ start: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ count: Int) -> [String] {
        UnsafeBufferPointer(start: start, count: start == nil ? 0 : count).map { text($0) }
    }

    /// The messages of a repeated field.
    static func messages<Message>(
        _ start: UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?, _ count: Int
    ) -> [Message] {
        UnsafeBufferPointer(start: start, count: start == nil ? 0 : count).compactMap { $0?.pointee }
    }

    /// The numbers of a repeated field.
    static func numbers(_ start: UnsafeMutablePointer<UInt32>?, _ count: Int) -> [UInt32] {
        Array(UnsafeBufferPointer(start: start, count: start == nil ? 0 : count))
    }

    /// The byte strings of a repeated field.
    static func byteStrings(_ start: UnsafeMutablePointer<ProtobufCBinaryData>?, _ count: Int) -> [Bytes] {
        UnsafeBufferPointer(start: start, count: start == nil ? 0 : count).map { bytes($0) }
    }

    static func bytes(_ data: ProtobufCBinaryData) -> Bytes {
        Bytes(UnsafeBufferPointer(start: data.data, count: data.data == nil ? 0 : data.len))
    }
}

/// Memory for the structs of one message being encoded; freed with it.
final class ProtobufArena {
    private var blocks: [UnsafeMutableRawPointer] = []

    deinit { for block in blocks { block.deallocate() } }

    private func allocate(_ size: Int, alignment: Int) -> UnsafeMutableRawPointer {
        let block = UnsafeMutableRawPointer.allocate(byteCount: max(size, 1), alignment: alignment)
        blocks.append(block)
        return block
    }

    /// A message set up by its generated `init` function and then by `fill`.
    func make<Message>(
        _ initialize: (UnsafeMutablePointer<Message>?) -> Void, _ fill: (inout Message) -> Void = { _ in }
    ) -> UnsafeMutablePointer<Message> {
        let block = allocate(MemoryLayout<Message>.size, alignment: MemoryLayout<Message>.alignment)
        let message = block.bindMemory(to: Message.self, capacity: 1)
        initialize(message)
        fill(&message.pointee)
        return message
    }

    func text(_ text: String) -> UnsafeMutablePointer<CChar> {
        let utf8 = Bytes(text.utf8.prefix { $0 != 0 }) + [0]
        let block = allocate(utf8.count, alignment: 1)
        block.copyMemory(from: utf8, byteCount: utf8.count)
        return block.assumingMemoryBound(to: CChar.self)
    }

    func data(_ bytes: Bytes) -> ProtobufCBinaryData {
        let block = allocate(bytes.count, alignment: 1)
        block.copyMemory(from: bytes, byteCount: bytes.count)
        return ProtobufCBinaryData(len: bytes.count, data: block.assumingMemoryBound(to: UInt8.self))
    }

    func texts(_ texts: [String]) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? { array(texts.map(text)) }

    /// A C array of plain values: numbers, binary data, or pointers to messages.
    func array<Element>(_ elements: [Element]) -> UnsafeMutablePointer<Element>? {
        guard !elements.isEmpty else { return nil }
        let stride = MemoryLayout<Element>.stride
        let block = allocate(stride * elements.count, alignment: MemoryLayout<Element>.alignment)
        let array = block.bindMemory(to: Element.self, capacity: elements.count)
        array.initialize(from: elements, count: elements.count)
        return array
    }
}
