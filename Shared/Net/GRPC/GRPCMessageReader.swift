import Base

/// Cuts a stream of DATA into gRPC messages: one byte of flags, four bytes of length, the message.
///
/// A message that lies whole in the piece at hand is returned as a view of that piece; only one that is spread over
/// pieces is assembled, in a buffer that grows with what has arrived, never with what was announced.
struct GRPCMessageReader: ~Copyable {
    enum Step {
        /// Valid until the next call, and no longer than the piece.
        case message(ByteView)
        case needsMore
        case tooLarge(announced: Int)
        /// Compressed, or flags that nobody has defined.
        case unknownEncoding(flags: UInt8)
    }

    static let prefixSize = 5
    private static let keptCapacity = 64 << 10

    private var partial = ByteBuffer(capacity: 64)
    private var isDelivered = false

    /// Bytes held of an incomplete message.
    var heldBytes: Int { isDelivered ? 0 : partial.count }

    /// The next message of `piece`, which loses what was taken. After a refusal the stream is of no use.
    mutating func next(from piece: inout ByteView, limit: Int) -> Step {
        if isDelivered {
            isDelivered = false
            partial.removeAll()
            partial.trim(to: Self.keptCapacity)
        }
        if partial.isEmpty {
            var reader = ByteReader(piece)
            guard let flags = reader.byte(), let length: UInt32 = reader.bigEndian() else {
                return keep(&piece, piece.count)
            }
            if let refusal = Self.refusal(flags, length, limit) { return refusal }
            guard let message = reader.view(Int(length)) else { return keep(&piece, piece.count) }
            piece = reader.rest
            return .message(message)
        }
        if partial.count < Self.prefixSize { _ = keep(&piece, Self.prefixSize - partial.count) }
        var reader = ByteReader(partial.readable)
        guard let flags = reader.byte(), let length: UInt32 = reader.bigEndian() else { return .needsMore }
        if let refusal = Self.refusal(flags, length, limit) { return refusal }
        _ = keep(&piece, Self.prefixSize + Int(length) - partial.count)
        guard partial.count == Self.prefixSize + Int(length) else { return .needsMore }
        isDelivered = true
        return .message(ByteView(rebasing: partial.readable[Self.prefixSize...]))
    }

    private mutating func keep(_ piece: inout ByteView, _ wanted: Int) -> Step {
        let count = min(wanted, piece.count)
        partial.append(ByteView(rebasing: piece[..<count]))
        piece = ByteView(rebasing: piece[count...])
        return .needsMore
    }

    private static func refusal(_ flags: UInt8, _ length: UInt32, _ limit: Int) -> Step? {
        if flags != 0 { return .unknownEncoding(flags: flags) }
        return Int(length) > limit ? .tooLarge(announced: Int(length)) : nil
    }
}
