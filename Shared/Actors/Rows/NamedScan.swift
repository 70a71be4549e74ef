import Base
import Contracts
import DataModel

// SCAN and KEYS of a pattern that begins with the name of a collection and a colon: the names of its records, as keys
// of Redis. Other patterns are met by keys of Redis alone.
//
// A cursor has no room for a primary key, so a step takes whole buckets: as many as bring what was asked for, or
// `Seen.limit` records.

/// What a step has looked at, and what it has found.
private struct Seen {
    static let limit = 4096

    var records = 0
    var keys: [Bytes] = []
    var bytes = 0
}

extension ActorRuntime {
    /// The collection whose records a pattern asks for: nothing before its first colon stands for something else.
    func namedCollection(ofPattern call: ActorCallView) throws(DatabaseError) -> NamedCollection? {
        guard schema.mayName, call.database == 0 else { return nil }
        let pattern = call.arguments[0]
        let special: [UInt8] = [UInt8(ascii: "*"), UInt8(ascii: "?"), UInt8(ascii: "["), UInt8(ascii: "\\")]
        guard let colon = pattern.firstIndex(of: UInt8(ascii: ":")),
            !pattern[..<colon].contains(where: { special.contains($0) })
        else { return nil }
        return try recordNames()?.find(pattern)?.collection
    }

    /// SCAN
    func scanNamed(
        _ call: ActorCallView, _ named: NamedCollection, _ start: ScanCursor?, count: Int, _ reply: Reply
    ) throws(DatabaseError) {
        let pattern = GlobPattern(call.arguments[0]), isOfHashes = call.flags & 2 == 0
        let isWanted = isOfHashes || kind(named: call.arguments[1]) == .hash
        var cursor = start, seen = Seen()
        let pending = pendingRows(named.id, from: Self.anywhere, to: Self.anywhere)
        while let position = cursor, buckets.contains(Int(position.bucket.rawValue)) {
            if isWanted { try gather(Int(position.bucket.rawValue), named, pattern, pending, &seen, reply) }
            cursor = ScanCursor(bucket: position.bucket, hash: .max).next(bucketCount: bucketCount)
            if seen.keys.count >= count || seen.records >= Seen.limit { break }
        }
        reply.beginList()
        reply.item(Bytes(String(cursor?.rawValue ?? 0).utf8))
        for key in seen.keys { reply.item(key) }
        reply.encoder.endList()
    }

    /// KEYS
    func namedKeys(_ call: ActorCallView, _ named: NamedCollection, _ reply: Reply) throws(DatabaseError) {
        let pattern = GlobPattern(call.arguments[0])
        var seen = Seen()
        let pending = pendingRows(named.id, from: Self.anywhere, to: Self.anywhere)
        for bucket in buckets { try gather(bucket, named, pattern, pending, &seen, reply) }
        reply.beginList()
        for key in seen.keys { reply.item(key) }
        reply.encoder.endList()
    }

    private static var anywhere: ByteView { ByteView(start: nil, count: 0) }

    /// The names of the records of one bucket that the pattern matches.
    private func gather(
        _ bucket: Int, _ named: NamedCollection, _ pattern: GlobPattern, _ pending: [PendingRow],
        _ seen: inout Seen, _ reply: Reply
    ) throws(DatabaseError) {
        var room = RowScanRoom(
            records: .max, bytes: limits.replyBytes, isKeysOnly: true, now: now, gathered: [])
        try scanRows(bucket, named.id, Self.anywhere, Self.anywhere, pending, &room, reply)
        guard room.next == nil else { throw Failure.replyTooLarge }
        for primaryKey in room.gathered ?? [] {
            seen.records += 1
            guard let value = primaryKey.withUnsafeBytes({ KeyEncoding.decode($0)?.first }) else {
                throw Failure.damaged
            }
            let key = Bytes("\(named.name):\(ValueText.text(of: value, as: named.key.type))".utf8)
            guard pattern.matchesAll || key.withUnsafeBytes({ pattern.matches($0) }) else { continue }
            seen.keys.append(key)
            seen.bytes += key.count + 16
        }
        guard seen.bytes <= limits.replyBytes else { throw Failure.replyTooLarge }
    }
}
