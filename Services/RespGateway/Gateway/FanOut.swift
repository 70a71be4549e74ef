import Base
import Contracts
import DataModel
import GatewayKit

/// One command for several shards: sends the parts and merges the answers into one.
///
/// A cluster of one shard never comes here with more than one part, and its answers pass through untouched. If a part
/// fails, the whole fails: what the other shards have done or said is never shown as if it were everything.
final class FanOut: ReplyReceiver {
    private enum Merge {
        case sum, allOK, concatenation
        /// One of the answers that are not Null; each shard is as likely as another.
        case anyOne(random: UInt64)
    }

    private let client: ClientConnection
    private let token: UInt64
    private let merge: Merge
    private let count: Int
    private var missing: Int
    /// Parts that were carried out.
    private var done = 0
    private var sum: Int64 = 0
    private var failure: DatabaseError?
    private let parts = ReplyBatchEncoder()
    private var candidates: [Bytes] = []

    private init(_ client: ClientConnection, _ token: UInt64, _ merge: Merge, _ count: Int) {
        self.client = client
        self.token = token
        self.merge = merge
        self.count = count
        missing = count
        if case .concatenation = merge { parts.beginList(token) }
    }

    static func begin(
        _ token: UInt64, _ call: CallFrame, _ client: ClientConnection, _ router: NodeRouter, random: () -> UInt64
    ) throws(DatabaseError) {
        let slots = router.slotOfEachShard
        guard let first = slots.first else { throw DatabaseError(.unavailable, "The shard map is not known yet") }
        switch call.target {
        case .cursor where slots.count > 1:
            // The cursor names the bucket where to go on; at the end of a shard's buckets that is the next one's first.
            let cursor = ScanCursor(rawValue: UInt64(bitPattern: call.numbers.first ?? 0))
            client.send(token, call, router.firstSlot(ofBucket: Int(cursor?.bucket.rawValue ?? 0)), client)
        case .everyShard where slots.count > 1, .anyShard where slots.count > 1:
            let merge: Merge =
                switch call.method {
                case .databaseSize: .sum
                case .keys: .concatenation
                case .randomKey: .anyOne(random: random())
                default: .allOK
                }
            let fanOut = FanOut(client, token, merge, slots.count)
            for slot in slots { client.send(token, call, slot, fanOut) }
        case .key, .keys, .everyShard, .cursor, .anyShard:
            client.send(token, call, first, client)
        }
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        switch (merge, reply.kind) {
        case (_, .error): note(reply.error)
        case (.sum, .integer):
            sum &+= reply.integer
            done += 1
        case (.allOK, .ok): done += 1
        case (.concatenation, .list):
            var items = reply.items
            while let item = items.next() { parts.listItem(item) }
            done += 1
        case (.anyOne, .data):
            candidates.append(reply.data.bytes)
            done += 1
        case (.anyOne, .null): done += 1
        case (.sum, _), (.allOK, _), (.concatenation, _), (.anyOne, _):
            note(DatabaseError(.internalFailure, "A shard answered with something else than was asked"))
        }
        partDone()
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        note(error)
        partDone()
    }

    /// An unknown outcome of one part makes the whole unknown.
    private func note(_ error: DatabaseError) {
        if failure == nil || error.code == .outcomeUnknown { failure = error }
    }

    private func partDone() {
        missing -= 1
        guard missing == 0 else { return }
        if let failure {
            guard case .allOK = merge, done > 0 else { return client.failed(token, failure) }
            let extent = "(it was carried out on \(done) of \(count) shards)"
            return client.failed(token, DatabaseError(failure.code, "\(failure.message) \(extent)"))
        }
        switch merge {
        case .sum: parts.integer(token, sum)
        case .allOK: parts.ok(token)
        case .concatenation: parts.endList()
        case .anyOne where candidates.isEmpty: parts.null(token)
        case .anyOne(let random):
            candidates[Int(random % UInt64(candidates.count))].withUnsafeBytes { parts.data(token, $0) }
        }
        parts.deliver(to: client)
    }
}

/// The keys of all databases on all shards, for INFO.
final class KeyCount: ReplyReceiver {
    static let databases = 16
    private var missing: Int
    private var counts = [UInt64](repeating: 0, count: databases)
    private var failure: DatabaseError?
    private let completion: (Result<[UInt64], DatabaseError>) -> Void

    private init(_ missing: Int, _ completion: @escaping (Result<[UInt64], DatabaseError>) -> Void) {
        self.missing = missing
        self.completion = completion
    }

    /// `completion` is called later, never from inside.
    static func begin(_ router: NodeRouter, _ completion: @escaping (Result<[UInt64], DatabaseError>) -> Void) {
        let slots = router.slotOfEachShard
        let count = KeyCount(slots.count * databases + 1, completion)
        let none = ByteView(start: nil, count: 0)
        for slot in slots {
            for database in 0..<databases {
                router.call(
                    connection: 0, slot: slot, method: .databaseSize, database: UInt8(database), key: none, flags: 0,
                    numbers: UnsafeBufferPointer(start: nil, count: 0),
                    arguments: UnsafeBufferPointer(start: nil, count: 0), receiver: count, ticket: UInt64(database))
            }
        }
        count.partDone()
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        if reply.kind == .integer {
            counts[Int(ticket)] &+= UInt64(max(reply.integer, 0))
        } else {
            failure = reply.error
        }
        partDone()
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        failure = error
        partDone()
    }

    private func partDone() {
        missing -= 1
        if missing == 0 { completion(failure.map { .failure($0) } ?? .success(counts)) }
    }
}

extension ReplyBatchEncoder {
    /// Appends an item of another list to the open one.
    func listItem(_ item: ReplyView.Item) {
        switch item {
        case .null: listNull()
        case .integer(let value): listInteger(value)
        case .number(let value): listNumber(value)
        case .data(let view): listData(view)
        }
    }

    /// Hands what was encoded to the client as if a node had sent it.
    func deliver(to client: ClientConnection) {
        var frame = ByteBuffer(capacity: size + 64)
        write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
        var decoder = ReplyBatchDecoder()
        do throws(DatabaseError) {
            try decoder.decode(frame.readable) { reply in client.completed(reply.id, reply) }
        } catch {
            client.failed(0, error)  // Not reached: these are our own bytes.
        }
    }
}
