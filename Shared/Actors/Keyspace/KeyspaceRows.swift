import Base
import Contracts
import DataModel

/// A key that a step of SCAN has found, and where.
struct FoundKey {
    let bucket: BucketID
    let hash: UInt32
    let key: Bytes

    var position: ScanCursor { ScanCursor(bucket: bucket, hash: hash) }
}

// SCAN for who shows keys as rows: with what they hold.

extension ActorRuntime {
    /// Hashes with more fields are told of, and not told.
    private static let fieldsTold = 128

    /// Answers the keys with their types and times, and with what they hold if that is asked for, as far as there is
    /// room: where they go on is what the cursor says then. `next` is where the scan stands behind all of them.
    func describe(
        _ found: [FoundKey], before next: ScanCursor?, _ call: ActorCallView, _ reply: Reply
    ) throws(DatabaseError) {
        let wanted = call.numbers[2] > 0 ? Int(clamping: call.numbers[2]) : .max
        let room = min(wanted, limits.replyBytes / 2), isWhole = call.flags & 8 != 0
        var cursor = next, last: ScanCursor?, size = 0
        reply.beginList()
        do throws(DatabaseError) {
            for item in found {
                // Keys of one hash are told together, or the cursor could not tell them apart.
                if size >= room, item.position != last {
                    cursor = item.position
                    break
                }
                last = item.position
                try item.key.withView { (key: ByteView) throws(DatabaseError) in
                    try describe(key, call.database, isWhole: isWhole, &size, reply)
                }
                guard size <= limits.replyBytes else { throw Failure.replyTooLarge }
            }
        } catch {
            reply.encoder.cancelList()
            throw error
        }
        reply.item(Bytes(String(cursor?.rawValue ?? 0).utf8))
        reply.encoder.endList()
    }

    private func describe(
        _ key: ByteView, _ database: UInt8, isWhole: Bool, _ size: inout Int, _ reply: Reply
    ) throws(DatabaseError) {
        guard let found = try visible(database, key) else { return }
        size += key.count + 24
        var fields: [(name: Bytes, value: Bytes)]?
        if isWhole, let state = found.fields, state.count <= Self.fieldsTold {
            // If all of them have no room in one reply, they are told by and by.
            let isSmall = !state.isComplete || state.memorySize <= limits.replyBytes / 4
            fields = isSmall ? try allFields(found) : nil
        }
        reply.encoder.listData(key)
        reply.encoder.listInteger(found.kind == .hash ? 2 : 1)
        reply.encoder.listInteger(Int64(clamping: found.expiresAt))
        guard isWhole else { return }
        guard found.kind == .hash else {
            size += found.bytes.count
            return reply.item(found.bytes)
        }
        reply.encoder.listInteger(fields.map { Int64($0.count) } ?? -1)
        for field in fields ?? [] {
            size += field.name.count + field.value.count + 16
            reply.item(field.name)
            reply.item(field.value)
        }
    }
}
