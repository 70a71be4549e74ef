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

    private let router: NodeRouter
    private let store: UserRecords
    private let server: ServerState
    private let loop: EventLoop
    private let logger: Logger
    /// The user that AUTH with nothing but a password means when there is no user `default`.
    private let soleUser: String
    private var records: [String: UserRecord] = [:]
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
        store = UserRecords(router, loop: loop, workers: workers)
        self.logger = logger
        self.soleUser = soleUser
        loop.schedule(afterMilliseconds: Self.refreshMilliseconds, repeating: true) { [unowned self] in refresh() }
    }

    // MARK: Logging in

    /// `completion` is called later, never from inside.
    func authenticate(_ user: Bytes, _ password: Bytes, _ completion: @escaping (AuthenticationOutcome) -> Void) {
        let name = String(decoding: user, as: UTF8.self)
        guard Bytes(name.utf8) == user, !store.isBusy else {
            let outcome: AuthenticationOutcome =
                !store.isBusy
                ? .refused : .failed(DatabaseError(.busy, "Too many logins at once, try again"))
            loop.runLater { completion(outcome) }
            return
        }
        store.fetch(name) { [self] result in
            switch result {
            case .failure(let error): completion(.failed(error))
            case .success(.some(let record)): verify(record, password, completion)
            case .success(nil) where name == "default" && soleUser != name:
                store.fetch(soleUser) { [self] result in
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
        store.check(password, verifiers.isEmpty ? [Self.decoy] : verifiers) { [self] match in
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
        case .remove(let name): store.write(name, nil, next)
        case .put(let name, let isEnabled, let rules, let passwords, let dropped, let keepsPasswords):
            store.fetchRecord(name) { [self] result in
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
        store.check(password, texts) { [self] match in
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
        guard !passwords.isEmpty else { return store.write(record.name, record, completion) }
        guard record.verifiers.count + passwords.count <= UserRecord.maximumVerifiers else {
            return completion(DatabaseError(.limitExceeded, "a user has too many passwords"))
        }
        store.derive(passwords) { [self] fresh in
            guard let fresh else { return completion(DatabaseError(.busy, "Too many logins at once, try again")) }
            var record = record
            record.verifiers += fresh
            store.write(record.name, record, completion)
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
        var missing = slots.count + 1, found: [UserRecord]? = [], roles: [RoleDescriptor] = []
        let done = { [self] in
            missing -= 1
            guard missing == 0 else { return }
            isRefreshing = false
            if let found { replace(with: found, roles) }
            completion?()
            guard !waitingForRefresh.isEmpty else { return }
            let waiting = waitingForRefresh
            waitingForRefresh = []
            refresh { for completion in waiting { completion() } }
        }
        // What is known stays until all of it can be read again.
        store.readRoles { known in
            if let known { roles = known } else { found = nil }
            done()
        }
        for slot in slots {
            store.readAll(slot: slot) { users in
                if let users { found?.append(contentsOf: users) } else { found = nil }
                done()
            }
        }
    }

    private func replace(with found: [UserRecord], _ roles: [RoleDescriptor]) {
        var fresh = Dictionary(found.map { ($0.name, $0) }) { first, _ in first }
        for role in roles where fresh[role.name] != nil || role.attributes.contains(.login) {
            fresh[role.name] = role.user(fresh[role.name])
        }
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
                let mayLogIn = record.role?.mayLogIn ?? true
                let user = ACLUser(
                    name: record.name, isEnabled: record.isEnabled && mayLogIn, rules: record.rules, server.table)
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
