import Base
import Contracts
import Crypto
import DataModel
import Net
import ServiceKit

/// The users of the cluster as gateways reach them: records of `system.users`, read and written through the router like
/// any record; and passwords checked on a worker, because each costs thousands of hashes.
package final class UserRecords {
    /// Checks under way; more are refused as *busy*.
    package static let pendingLimit = 256
    /// Users read at a time.
    private static let scanLimit = 1_000

    private let router: NodeRouter
    private let loop: EventLoop
    private let workers: WorkerPool
    private var checks: [UInt64: (Int?) -> Void] = [:]
    private var derivations: [UInt64: ([UserRecord.Verifier]?) -> Void] = [:]
    private var lastTicket: UInt64 = 0

    package init(_ router: NodeRouter, loop: EventLoop, workers: WorkerPool) {
        (self.router, self.loop, self.workers) = (router, loop, workers)
    }

    // MARK: Passwords

    /// Too many passwords are being checked.
    package var isBusy: Bool { checks.count >= Self.pendingLimit }

    /// Which of the verifiers (texts of SCRAM-SHA-256) the password fits, if one; told later, never from inside.
    package func check(_ password: Bytes, _ verifiers: [String], _ completion: @escaping (Int?) -> Void) {
        lastTicket += 1
        let ticket = lastTicket
        checks[ticket] = completion
        let bound = LoopBound(self, loop: loop), loop = loop
        let isAccepted = workers.submit {
            let match = verifiers.firstIndex { SCRAMVerifier(parsing: $0)?.matches(password: password) ?? false }
            loop.execute { bound.value.checked(ticket, match) }
        }
        if !isAccepted { loop.runLater { [self] in checked(ticket, nil) } }
    }

    private func checked(_ ticket: UInt64, _ match: Int?) { checks.removeValue(forKey: ticket)?(match) }

    /// Verifiers of new passwords; nil if there is too much to do. Told later, or at once when refused.
    package func derive(_ passwords: [Bytes], _ completion: @escaping ([UserRecord.Verifier]?) -> Void) {
        lastTicket += 1
        let ticket = lastTicket
        derivations[ticket] = completion
        let bound = LoopBound(self, loop: loop), loop = loop
        let isAccepted = workers.submit {
            let fresh = passwords.compactMap { password in
                (try? SCRAMVerifier(password: password)).map {
                    UserRecord.Verifier(mechanism: UserRecord.scramSHA256, text: $0.description)
                }
            }
            loop.execute {
                bound.value.derivations.removeValue(forKey: ticket)?(fresh.count == passwords.count ? fresh : nil)
            }
        }
        if !isAccepted { derivations.removeValue(forKey: ticket)?(nil) }
    }

    // MARK: Records

    private func key(_ name: String) -> Bytes { KeyEncoding.encode([.text(name)]) }

    /// Reads a user, nil if there is none.
    package func fetch(_ name: String, _ completion: @escaping (Result<UserRecord?, DatabaseError>) -> Void) {
        var operation = RecordOperationView()
        operation.kind = .get
        operation.collection = UserRecord.collection
        send(operation, key(name)) { reply in
            completion(
                reply.flatMap { reply in
                    guard case .data(let bytes) = reply else { return .success(nil) }
                    return Self.decode(bytes).map { .some($0) }
                })
        }
    }

    /// Writes a user; nil removes it.
    package func write(_ name: String, _ record: UserRecord?, _ completion: @escaping (DatabaseError?) -> Void) {
        var operation = RecordOperationView()
        operation.kind = record == nil ? .delete : .put
        operation.collection = UserRecord.collection
        let value = record?.encode() ?? []
        value.withUnsafeBytes { value in
            operation.value = value
            send(operation, key(name)) { reply in
                switch reply {
                case .success: completion(nil)
                case .failure(let error): completion(error)
                }
            }
        }
    }

    private func send(
        _ operation: RecordOperationView, _ key: Bytes,
        _ completion: @escaping (Result<StoredReply, DatabaseError>) -> Void
    ) {
        key.withUnsafeBytes { key in
            var operation = operation
            operation.key = key
            let slot = UInt32(Slot.ofPartition(key).rawValue)
            router.record(slot: slot, operation, receiver: RecordRequest(loop, completion), ticket: 0)
        }
    }

    private static func decode(_ bytes: Bytes) -> Result<UserRecord, DatabaseError> {
        do throws(DatabaseError) {
            return .success(
                try bytes.withView { (view: ByteView) throws(DatabaseError) in
                    try UserRecord(decoding: view)
                })
        } catch {
            return .failure(error)
        }
    }

    /// Reads all users of the shard with that slot; nil when they cannot be read.
    package func readAll(slot: UInt32, _ completion: @escaping ([UserRecord]?) -> Void) {
        read(slot, after: [], limit: Self.scanLimit, [], completion)
    }

    /// Reads the users of a shard page by page, from behind `key`; nil when a page cannot be read.
    private func read(
        _ slot: UInt32, after key: Bytes, limit: Int, _ users: [UserRecord],
        _ completion: @escaping ([UserRecord]?) -> Void
    ) {
        var operation = RecordOperationView()
        operation.kind = .scan
        operation.collection = UserRecord.collection
        operation.limit = limit
        let request = RecordRequest(loop) { [self] reply in
            switch reply {
            case .success(.list(let items)):
                var users = users
                for index in stride(from: 1, to: items.count, by: 2) {
                    if case .success(let record) = Self.decode(items[index]) { users.append(record) }
                }
                guard items.count >= 2 * limit else { return completion(users) }
                read(slot, after: items[items.count - 2], limit: limit, users, completion)
            case .failure(let error) where error.code == .limitExceeded && limit > 1:
                read(slot, after: key, limit: limit / 2, users, completion)  // Large records: fewer at a time.
            case .success(.nothing), .success(.data), .failure: completion(nil)
            }
        }
        key.withUnsafeBytes { key in
            operation.key = key
            router.record(slot: slot, operation, receiver: request, ticket: 0)
        }
    }
}

/// A record operation's reply, copied out of its frame.
package enum StoredReply { case nothing, data(Bytes), list([Bytes]) }

/// One record operation under way.
package final class RecordRequest: ReplyReceiver {
    private let loop: EventLoop
    private let completion: (Result<StoredReply, DatabaseError>) -> Void

    package init(_ loop: EventLoop, _ completion: @escaping (Result<StoredReply, DatabaseError>) -> Void) {
        self.loop = loop
        self.completion = completion
    }

    /// The node answered.
    package func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        switch reply.kind {
        case .error: completion(.failure(reply.error))
        case .data: completion(.success(.data(reply.data.bytes)))
        case .list:
            var items = reply.items, list: [Bytes] = []
            while let item = items.next() {
                if case .data(let view) = item { list.append(view.bytes) } else { list.append([]) }
            }
            completion(.success(.list(list)))
        case .null, .ok, .integer, .number, .batch: completion(.success(.nothing))
        }
    }

    /// May come while the request is being made: told later, so that callers need not care.
    package func failed(_ ticket: UInt64, _ error: DatabaseError) {
        loop.runLater { [self] in completion(.failure(error)) }
    }
}
