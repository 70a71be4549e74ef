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

    private static func key(_ name: String) -> Bytes { KeyEncoding.encode([.text(name)]) }

    /// Reads a user, nil if there is none: its record, the role of its name, or both.
    package func fetch(_ name: String, _ completion: @escaping (Result<UserRecord?, DatabaseError>) -> Void) {
        fetchRecord(name) { [self] result in
            guard case .success(let record) = result else { return completion(result) }
            readRoles { roles in
                // What a role takes away from a user must not be missed.
                guard let roles else { return completion(.failure(Self.noRoles)) }
                guard let role = roles.first(where: { $0.name.utf8.elementsEqual(name.utf8) }) else {
                    return completion(result)
                }
                completion(.success(role.user(record)))
            }
        }
    }

    private static let noRoles = DatabaseError(.unavailable, "The roles of the cluster cannot be read")

    /// The roles that CREATE ROLE has made; nil when they cannot be read. Told later.
    package func readRoles(_ completion: @escaping ([RoleDescriptor]?) -> Void) {
        guard let slot = router.slotOfEachShard.first else { return loop.runLater { completion(nil) } }
        let request = RecordRequest(loop) { reply in
            guard case .success(.list(let items)) = reply else { return completion(nil) }
            var roles: [RoleDescriptor] = []
            for item in items where !item.isEmpty {
                let object = try? item.withView { (view: ByteView) throws(DatabaseError) in
                    try CatalogObject(decoding: view)
                }
                guard case .role(let role)? = object else { return completion(nil) }
                roles.append(role)
            }
            completion(roles)
        }
        withUnsafePointer(to: -1 as Int64) { version in
            router.call(
                connection: 0, slot: slot, method: .schemaRead, database: RowKey.database,
                key: ByteView(start: nil, count: 0), flags: 1,
                numbers: UnsafeBufferPointer(start: version, count: 1),
                arguments: UnsafeBufferPointer(start: nil, count: 0), receiver: request, ticket: 0)
        }
    }

    /// Reads a user's record alone: for who changes it.
    package func fetchRecord(_ name: String, _ completion: @escaping (Result<UserRecord?, DatabaseError>) -> Void) {
        Self.fetchRecord(name, router, loop, completion)
    }

    /// Reads a user's record through any router.
    package static func fetchRecord(
        _ name: String, _ router: NodeRouter, _ loop: EventLoop,
        _ completion: @escaping (Result<UserRecord?, DatabaseError>) -> Void
    ) {
        var operation = RecordOperationView()
        operation.kind = .get
        operation.collection = UserRecord.collection
        send(operation, key(name), router, loop) { reply in
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
            Self.send(operation, Self.key(name), router, loop) { reply in
                switch reply {
                case .success: completion(nil)
                case .failure(let error): completion(error)
                }
            }
        }
    }

    private static func send(
        _ operation: RecordOperationView, _ key: Bytes, _ router: NodeRouter, _ loop: EventLoop,
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

extension RoleDescriptor {
    /// The role as a user of the cluster, with what a record of that user says. Without one, it may do nothing in
    /// Redis unless it may do everything.
    package func user(_ record: UserRecord?) -> UserRecord {
        let isSuperuser = attributes.contains(.superuser), mayLogIn = attributes.contains(.login)
        var user =
            record
            ?? UserRecord(
                name: name, isEnabled: mayLogIn, rules: isSuperuser ? UserRecord.allRules : "resetkeys -@all")
        // The newest comes last.
        if let verifier, !isOver {
            user.verifiers.append(.init(mechanism: UserRecord.scramSHA256, text: verifier))
        }
        user.role = UserRecord.Role(number: id.rawValue, isSuperuser: isSuperuser, mayLogIn: mayLogIn)
        return user
    }

    /// VALID UNTIL has come.
    private var isOver: Bool {
        guard let validUntil else { return false }
        return validUntil <= Int64(clamping: SystemClock().wallMilliseconds()) &* 1000
    }
}
