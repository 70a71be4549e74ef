import Base
import Contracts
import Testing

/// A reply as a test compares it: text for bytes, the code alone for an error.
indirect enum Reply: Hashable {
    case null, ok
    case integer(Int64)
    case text(String)
    case list([String])
    case batch([Reply])
    case error(ErrorCode)

    init(_ view: borrowing ReplyView) {
        switch view.kind {
        case .null: self = .null
        case .ok: self = .ok
        case .integer: self = .integer(view.integer)
        case .number: self = .text("\(view.number)")
        case .data: self = .text(String(decoding: view.data, as: UTF8.self))
        case .error: self = .error(view.error.code)
        case .batch:
            var replies: [Reply] = [], walk = view.replies
            while let reply = walk.next() { replies.append(Reply(reply)) }
            self = .batch(replies)
        case .list:
            var items: [String] = []
            var walk = view.items
            while let item = walk.next() {
                switch item {
                case .null: items.append("nil")
                case .integer(let value): items.append("\(value)")
                case .number(let value): items.append("\(value)")
                case .data(let bytes): items.append(String(decoding: bytes, as: UTF8.self))
                }
            }
            self = .list(items)
        }
    }

    /// The replies of a message, by id; an id that comes twice is an error of the sender.
    static func decode(_ message: ByteView) throws -> [UInt64: Reply] {
        var found: [UInt64: Reply] = [:]
        var decoder = ReplyBatchDecoder()
        try decoder.decode(message) { view in
            let id = view.id
            let twice = found.updateValue(Reply(view), forKey: id) != nil
            #expect(!twice, "two replies to \(id)")
        }
        return found
    }

    static func decode(_ encoder: ReplyBatchEncoder) throws -> [UInt64: Reply] {
        var buffer = ByteBuffer(capacity: 256)
        encoder.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &buffer)
        return try decode(buffer.readable)
    }
}
