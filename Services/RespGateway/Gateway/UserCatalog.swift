import Base
import Contracts
import Crypto
import DataModel
import GatewayKit
import Net
import ServiceKit

/// The users of the cluster: records of `system.users`, read and written through the router like any record.
///
/// A login reads the user's record afresh and has a worker check the password (thousands of hashes). What ACL LIST and
/// access checks need is refreshed from all shards every second, so a change made elsewhere is felt within a second.
final class UserCatalog {
    static let refreshMilliseconds = 1_000
    /// Logins under way; more are refused as *busy*, because each costs milliseconds of a worker.
    private static let pendingLimit = 256
    /// Users read at a time.
    private static let scanLimit = 1_000

    private let router: NodeRouter
    private let server: ServerState
    private let loop: EventLoop
    private let workers: WorkerPool
    private let logger: Logger
    /// The user that AUTH with nothing but a password means when there is no user `default`.
    private let soleUser: String
    private var records: [String: UserRecord] = [:]
    private var waiting: [UInt64: (Int?) -> Void] = [:]
    private var derivations: [UInt64: ([UserRecord.Verifier]?) -> Void] = [:]
    private var lastTicket: UInt64 = 0
    private var isRefreshing = false
    /// Clients whose change is to be seen before they are answered: one entry each at most.
    private var waitingForRefresh: [() -> Void] = []
    /// Proof of passwords that were right a moment ago, so that a storm of connections does not cost a storm of hashes.
    /// Keyed by a random key of this process; gone when the verifier changes.
    private var proofs: [String: (verifier: String, proof: Bytes)] = [:]
    private let proofKey = randomBytes(32)
    /// The clients of users that do not exist any more.
    var onRemoval: ([UInt64]) -> Void = { _ in }
    /// Logins that were refused.
    private(set) var refusals: UInt64 = 0
    private var lastRefusalLogged: UInt64 = 0

    init(
        _ router: NodeRouter, _ server: ServerState, loop: EventLoop, workers: WorkerPool, logger: Logger,
        soleUser: String
    ) {
        self.router = router
        self.server = server
        self.loop = loop
        self.workers = workers
        self.logger = logger
        self.soleUser = soleUser
        loop.schedule(afterMilliseconds: Self.refreshMilliseconds, repeating: true) { [unowned self] in refresh() }
    }

    // MARK: Logging in

    /// `completion` is called later, never from inside.
    func authenticate(_ user: Bytes, _ password: Bytes, _ completion: @escaping (AuthenticationOutcome) -> Void) {
        let name = String(decoding: user, as: UTF8.self)
        guard Bytes(name.utf8) == user, waiting.count < Self.pendingLimit else {
            let outcome: AuthenticationOutcome =
                waiting.count < Self.pendingLimit
                ? .refused : .failed(DatabaseError(.busy, "Too many logins at once, try again"))
            loop.runLater { completion(outcome) }
            return
        }
        fetch(name) { [self] result in
            switch result {
            case .failure(let error): completion(.failed(error))
            case .success(.some(let record)): verify(record, password, completion)
            case .success(nil) where name == "default" && soleUser != name:
                fetch(soleUser) { [self] result in
                    switch result {
                    case .failure(let error): completion(.failed(error))
                    case .success(let record): verify(record, password, completion)
                    }
                }
            case .success(nil): verify(nil, password, completion)
            }
        }
    }

    private func verify(
        _ record: UserRecord?, _ password: Bytes, _ completion: @escaping (AuthenticationOutcome) -> Void
    ) {
        // An unknown user takes as long as a known one: the time says nothing about who exists.
        let verifiers = record.map(Self.scramTexts) ?? []
        if let record { adopt(record) }
        let user = record.flatMap { server.users.user(named: $0.name) }
        if let user, user.isEnabled, user.hasNoPassword { return completion(.accepted(user: user.name)) }
        if let user, user.isEnabled, let known = proofs[user.name], verifiers.contains(known.verifier),
            constantTimeEquals(known.proof, proof(of: password, known.verifier))
        {
            return completion(.accepted(user: user.name))
        }
        check(password, verifiers.isEmpty ? [Self.decoy] : verifiers) { [self] match in
            guard let match, let user, user.isEnabled, !verifiers.isEmpty else {
                noteRefusal()
                return completion(.refused)
            }
            proofs[user.name] = (verifiers[match], proof(of: password, verifiers[match]))
            completion(.accepted(user: user.name))
        }
    }

    /// Said once a second at most: whoever guesses passwords must not fill the log, too.
    private func noteRefusal() {
        refusals &+= 1
        guard loop.now &- lastRefusalLogged > 1_000_000_000 else { return }
        lastRefusalLogged = loop.now
        logger.warning("login refused", ["refused": .count(refusals)])
    }

    private func proof(of password: Bytes, _ verifier: String) -> Bytes {
        HMAC.sha256(key: proofKey, message: Bytes(verifier.utf8) + [0] + password)
    }

    /// Which of the verifiers the password fits, on a worker.
    private func check(_ password: Bytes, _ verifiers: [String], _ completion: @escaping (Int?) -> Void) {
        lastTicket += 1
        let ticket = lastTicket
        waiting[ticket] = completion
        let bound = LoopBound(self, loop: loop), loop = loop
        let isAccepted = workers.submit {
            let match = verifiers.firstIndex { SCRAMVerifier(parsing: $0)?.matches(password: password) ?? false }
            loop.execute { bound.value.checked(ticket, match) }
        }
        if !isAccepted { loop.runLater { [self] in checked(ticket, nil) } }
    }

    private func checked(_ ticket: UInt64, _ match: Int?) { waiting.removeValue(forKey: ticket)?(match) }

    private static func scramTexts(_ record: UserRecord) -> [String] {
        record.verifiers.filter { $0.mechanism == UserRecord.scramSHA256 }.map(\.text)
    }

    /// A verifier that no password fits, as expensive as a real one.
    private static let decoy: String = {
        let zeros = String(repeating: "A", count: 43) + "="
        return "SCRAM-SHA-256$\(SCRAMVerifier.defaultIterations):AAAAAAAAAAAAAAAAAAAAAA==$\(zeros):\(zeros)"
    }()

    // MARK: Changing

    /// Writes the changes one after another; `completion` is called later, with the first error.
    func apply(_ changes: [UserChange], _ completion: @escaping (DatabaseError?) -> Void) {
        guard let change = changes.first else {
            refresh { completion(nil) }
            return
        }
        let next: (DatabaseError?) -> Void = { [self] error in
            if let error { completion(error) } else { apply(Array(changes.dropFirst()), completion) }
        }
        switch change {
        case .remove(let name): write(name, nil, next)
        case .put(let name, let isEnabled, let rules, let passwords, let dropped, let keepsPasswords):
            fetch(name) { [self] result in
                guard case .success(let old) = result else {
                    if case .failure(let error) = result { next(error) }
                    return
                }
                var record = UserRecord(name: name, isEnabled: isEnabled, rules: rules)
                record.verifiers = keepsPasswords ? old?.verifiers ?? [] : []
                drop(dropped[...], from: record) { [self] result in
                    switch result {
                    case .failure(let error): next(error)
                    case .success(let record): derive(passwords, for: record, next)
                    }
                }
            }
        }
    }

    /// Takes away the verifiers of passwords; each must fit one.
    private func drop(
        _ passwords: ArraySlice<Bytes>, from record: UserRecord,
        _ completion: @escaping (Result<UserRecord, DatabaseError>) -> Void
    ) {
        guard let password = passwords.first else { return completion(.success(record)) }
        let texts = Self.scramTexts(record)
        check(password, texts) { [self] match in
            guard let match else {
                let why = "The password you are trying to remove from the user does not exist"
                return completion(.failure(.acl("<…", why)))
            }
            var record = record
            record.verifiers.removeAll { $0.text == texts[match] }
            drop(passwords.dropFirst(), from: record, completion)
        }
    }

    private func derive(
        _ passwords: [Bytes], for record: UserRecord, _ completion: @escaping (DatabaseError?) -> Void
    ) {
        guard !passwords.isEmpty else { return write(record.name, record, completion) }
        guard record.verifiers.count + passwords.count <= UserRecord.maximumVerifiers else {
            return completion(DatabaseError(.limitExceeded, "a user has too many passwords"))
        }
        lastTicket += 1
        let ticket = lastTicket
        derivations[ticket] = { [self] fresh in
            guard let fresh else { return completion(DatabaseError(.busy, "Too many logins at once, try again")) }
            var record = record
            record.verifiers += fresh
            write(record.name, record, completion)
        }
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

    private func fetch(_ name: String, _ completion: @escaping (Result<UserRecord?, DatabaseError>) -> Void) {
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

    private func write(_ name: String, _ record: UserRecord?, _ completion: @escaping (DatabaseError?) -> Void) {
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

    // MARK: Keeping up

    /// Reads all users of all shards, and then calls `completion`, whether they could be read or not.
    func refresh(_ completion: (() -> Void)? = nil) {
        let slots = router.slotOfEachShard
        guard !slots.isEmpty else {
            if let completion { loop.runLater(completion) }
            return
        }
        guard !isRefreshing else {
            // What is being read may be older than what the caller has just written.
            if let completion { waitingForRefresh.append(completion) }
            return
        }
        isRefreshing = true
        var missing = slots.count, found: [UserRecord]? = []
        for slot in slots {
            read(slot, after: [], limit: Self.scanLimit, []) { [self] users in
                // What is known stays until all of it can be read again.
                if let users { found?.append(contentsOf: users) } else { found = nil }
                missing -= 1
                guard missing == 0 else { return }
                isRefreshing = false
                if let found { replace(with: found) }
                completion?()
                guard !waitingForRefresh.isEmpty else { return }
                let waiting = waitingForRefresh
                waitingForRefresh = []
                refresh { for completion in waiting { completion() } }
            }
        }
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

    private func replace(with found: [UserRecord]) {
        let fresh = Dictionary(found.map { ($0.name, $0) }) { first, _ in first }
        guard fresh != records else { return }
        records = fresh
        publish()
    }

    /// A record that a login read: newer than what is known.
    private func adopt(_ record: UserRecord) {
        guard records[record.name] != record else { return }
        records[record.name] = record
        publish()
    }

    private func publish() {
        server.users.replace(
            with: records.values.map { record in
                let user = ACLUser(name: record.name, isEnabled: record.isEnabled, rules: record.rules, server.table)
                user.fingerprints = Self.scramTexts(record).compactMap { text in
                    SCRAMVerifier(parsing: text).map { Self.hexadecimal($0.storedKey) }
                }
                return user
            })
        onRemoval(server.usersChanged())
    }

    private static func hexadecimal(_ bytes: Bytes) -> String {
        bytes.flatMap { [$0 >> 4, $0 & 15] }.map { String($0, radix: 16) }.joined()
    }
}

/// A record operation's reply, copied out of its frame.
enum StoredReply { case nothing, data(Bytes), list([Bytes]) }

/// One record operation under way.
final class RecordRequest: ReplyReceiver {
    private let loop: EventLoop
    private let completion: (Result<StoredReply, DatabaseError>) -> Void

    init(_ loop: EventLoop, _ completion: @escaping (Result<StoredReply, DatabaseError>) -> Void) {
        self.loop = loop
        self.completion = completion
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
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
    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        loop.runLater { [self] in completion(.failure(error)) }
    }
}
