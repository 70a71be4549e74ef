import Base
import Contracts
import DataModel
import Engine
import GatewayKit

/// Looks for keys of Redis that records of new collections would hide: there must be none, unless the statement says
/// that they are to be hidden.
///
/// The names are locked by then, at every shard, so no such key comes any more; and one that is there all the time is
/// met by a scan. It goes on page by page, so that no shard is held up.
final class HiddenKeys: ReplyReceiver {
    /// Keys that one call looks at.
    private static let pageKeys: Int64 = 4096

    private let router: NodeRouter
    private var names: [String]
    private let completion: (StatementError?) -> Void
    private var cursor: UInt64 = 0

    private init(_ router: NodeRouter, _ names: [String], _ completion: @escaping (StatementError?) -> Void) {
        (self.router, self.names, self.completion) = (router, names, completion)
    }

    /// `completion` is called once, at once if there is nothing to look for.
    static func find(
        _ change: SchemaChange, by before: Catalog, _ router: NodeRouter,
        _ completion: @escaping (StatementError?) -> Void
    ) {
        var after = before
        for step in change.all { after.apply(step, version: after.version &+ 1) }
        let known = Set(before.namedCollections.map(\.collection.name))
        let names = after.namedCollections.map(\.collection.name).filter { !known.contains($0) }
        guard !names.isEmpty, !change.hidesKeys else { return completion(nil) }
        HiddenKeys(router, names.sorted(), completion).askNext()
    }

    private func askNext() {
        guard let name = names.last else { return completion(nil) }
        let bucket = Int(ScanCursor(rawValue: cursor)?.bucket.rawValue ?? 0)
        let slot = cursor == 0 ? router.slotOfEachShard.first ?? 0 : router.firstSlot(ofBucket: bucket)
        let pattern = Self.pattern(name), numbers = [Int64(bitPattern: cursor), Self.pageKeys]
        pattern.withUnsafeBytes { pattern in
            numbers.withUnsafeBufferPointer { numbers in
                withUnsafePointer(to: pattern) { argument in
                    router.call(
                        connection: 0, slot: slot, method: .scan, database: 0, key: ByteView(start: nil, count: 0),
                        flags: 1, numbers: numbers, arguments: UnsafeBufferPointer(start: argument, count: 1),
                        receiver: self, ticket: 0)
                }
            }
        }
    }

    /// Of keys that begin with the name and a colon.
    private static func pattern(_ name: String) -> Bytes {
        var pattern: Bytes = []
        for byte in name.utf8 {
            if [UInt8(ascii: "*"), UInt8(ascii: "?"), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: "\\")]
                .contains(byte)
            {
                pattern.append(UInt8(ascii: "\\"))
            }
            pattern.append(byte)
        }
        return pattern + Bytes(":*".utf8)
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        guard reply.kind == .list else {
            let error = reply.kind == .error ? reply.error : Self.malformed
            return end(StatementError(ofShard: error))
        }
        var items = reply.items
        guard case .data(let text)? = items.next(), let next = UInt64(String(decoding: text, as: UTF8.self)) else {
            return end(StatementError(ofShard: Self.malformed))
        }
        if items.next() != nil { return end(Self.occupied(names.last ?? "")) }
        cursor = next
        if next == 0 { names.removeLast() }
        router.after(milliseconds: nil) { [self] in askNext() }
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) { end(StatementError(ofShard: error)) }

    private func end(_ error: StatementError) { router.after(milliseconds: nil) { [self] in completion(error) } }

    private static let malformed = DatabaseError(
        .protocolViolation, "A shard has answered something else than was asked")

    private static func occupied(_ name: String) -> StatementError {
        var error = StatementError(
            .objectNotInPrerequisiteState,
            "there are keys of Redis that begin with \"\(name):\", which records of \"\(name)\" would hide")
        error.hint = """
            Remove them, or add WITH (resp_keys = 'hide') to CREATE TABLE: they come back with DROP TABLE, or where \
            "resp.records" is off.
            """
        return error
    }
}
