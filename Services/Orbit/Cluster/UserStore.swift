import Base
import Contracts
import Crypto
import DataModel
import Net

/// Users of a cluster, read and written as records of `system.users` through the nodes' invocation service.
///
/// `orbit` knows no shard map: it asks one node after another, and the one that leads the record's shard answers.
struct UserStore {
    static let path = "/orbit.v1.InvocationService/Invoke"
    static let timeoutMilliseconds = 5_000
    /// Nobody leads a shard for a moment after a start or a failover.
    static let attempts = 50
    static let pauseMilliseconds = 100

    /// Addresses of the nodes that are asked.
    let nodes: [SocketAddress]
    let loop: EventLoop

    init(nodes: [SocketAddress], loop: EventLoop) {
        self.nodes = nodes
        self.loop = loop
    }

    /// The nodes of a local cluster, over their Unix sockets.
    init(plan: ClusterPlan, loop: EventLoop) throws(DatabaseError) {
        var nodes: [SocketAddress] = []
        for spec in plan.processes where spec.role == .storageNode {
            nodes.append(try SocketAddress(parsing: spec.addresses[0]))
        }
        self.init(nodes: nodes, loop: loop)
    }

    /// What a node replied, copied.
    enum Reply: Hashable {
        case null, ok, integer(Int64), data(Bytes), list([Bytes])
    }

    typealias Completion = (Result<Reply, DatabaseError>) -> Void

    /// The record's key: the name as a key-encoded text.
    static func key(_ name: String) -> Bytes { KeyEncoding.encode([.text(name)]) }

    /// The user's record with a verifier of `password`.
    static func record(_ name: String, password: String, rules: String = UserRecord.allRules) throws -> UserRecord {
        let verifier = try SCRAMVerifier(password: Bytes(password.utf8))
        return UserRecord(
            name: name, rules: rules,
            verifiers: [.init(mechanism: UserRecord.scramSHA256, text: verifier.description)])
    }

    func get(_ name: String, _ completion: @escaping Completion) {
        perform(.get, key: Self.key(name), completion)
    }

    /// Replies null when the user was to be absent and is not.
    func put(_ record: UserRecord, onlyIfAbsent: Bool, _ completion: @escaping Completion) {
        perform(.put, key: Self.key(record.name), value: record.encode(), onlyIfAbsent: onlyIfAbsent, completion)
    }

    /// Replies how many there were.
    func delete(_ name: String, _ completion: @escaping Completion) {
        perform(.delete, key: Self.key(name), completion)
    }

    /// Users of a page, unless the records are large.
    static let pageLimit = 1_000

    /// Users of the shard that has the slot, from behind `key`: key, value, key, value, …
    func page(ofShardWith slot: UInt32, after key: Bytes, limit: Int, _ completion: @escaping Completion) {
        perform(.scan, key: key, slot: slot, limit: limit, completion)
    }

    private func perform(
        _ kind: RecordOperationView.Kind, key: Bytes, value: Bytes = [], onlyIfAbsent: Bool = false,
        slot: UInt32? = nil, limit: Int = 0, _ completion: @escaping Completion
    ) {
        var encoder = InvocationBatchEncoder(session: 0)
        encoder.begin(bookmark: .zero, schemaVersion: 0, mapEpoch: MapEpoch(rawValue: 0))
        let request = key.withUnsafeBytes { key in
            value.withUnsafeBytes { value in
                var operation = RecordOperationView()
                operation.kind = kind
                operation.collection = .systemUsers
                operation.key = key
                operation.value = value
                operation.onlyIfAbsent = onlyIfAbsent
                operation.limit = limit
                encoder.append(id: 1, slot: slot ?? UInt32(Slot.ofPartition(key).rawValue), record: operation)
                return encoder.message.bytes
            }
        }
        // On the loop's own turn, where its clock is fresh.
        loop.schedule(afterMilliseconds: 0) { attempt(request, number: 0, completion) }
    }

    private func attempt(_ request: Bytes, number: Int, _ completion: @escaping Completion) {
        let channel = GRPCClientChannel(loop: loop, address: nodes[number % nodes.count])
        let deadline = loop.now + UInt64(Self.timeoutMilliseconds) * 1_000_000
        channel.unary(path: Self.path, request: request, deadline: deadline) { result in
            channel.close()
            let reply = Self.decode(result)
            if case .failure(let error) = reply, error != RestoreAnswer.underWay,
                error.code.row.retry == .afterRefresh || error.code == .unavailable,
                number + 1 < Self.attempts
            {
                // The last pass over all nodes found no leader: give it a moment.
                let pause = (number + 1) % nodes.count == 0 ? Self.pauseMilliseconds : 0
                loop.schedule(afterMilliseconds: pause) { attempt(request, number: number + 1, completion) }
                return
            }
            completion(reply)
        }
    }

    private static func decode(_ result: Result<Bytes, GRPCStatus>) -> Result<Reply, DatabaseError> {
        let frame: Bytes
        switch result {
        case .success(let bytes): frame = bytes
        case .failure(let status):
            let code: ErrorCode = status.code == .unavailable ? .unavailable : .internalFailure
            return .failure(DatabaseError(code, status.description))
        }
        var reply: Result<Reply, DatabaseError> = .failure(DatabaseError(.protocolViolation, "the node sent no reply"))
        var decoder = ReplyBatchDecoder()
        var failure: DatabaseError?
        frame.withUnsafeBytes { view in
            do throws(DatabaseError) { try decoder.decode(view) { reply = copy($0) } } catch { failure = error }
        }
        return failure.map { .failure($0) } ?? reply
    }

    private static func copy(_ view: borrowing ReplyView) -> Result<Reply, DatabaseError> {
        switch view.kind {
        case .null: return .success(.null)
        case .ok: return .success(.ok)
        case .integer: return .success(.integer(view.integer))
        case .data: return .success(.data(view.data.bytes))
        case .list:
            var items = view.items
            var list: [Bytes] = []
            while let item = items.next() {
                if case .data(let data) = item { list.append(data.bytes) }
            }
            return .success(.list(list))
        case .error: return .failure(view.error)
        case .number, .batch: return .failure(DatabaseError(.protocolViolation, "an unexpected kind of reply"))
        }
    }
}

/// Makes user `orbit` at the first start; with `ORBIT_PASSWORD`, sets its password at every start.
struct FirstUser {
    let plan: ClusterPlan
    let password: ClusterDirectory.Password
    let loop: EventLoop

    /// Calls back with what went wrong, or nil.
    func ensure(_ completion: @escaping (String?) -> Void) {
        let isGiven = if case .given = password { true } else { false }
        do {
            let record = try UserStore.record("orbit", password: password.text)
            try UserStore(plan: plan, loop: loop).put(record, onlyIfAbsent: !isGiven) { result in
                switch result {
                case .success: completion(nil)
                // The users come with the rest of the backup.
                case .failure(let error) where error == RestoreAnswer.underWay: completion(nil)
                case .failure(let error): completion(error.message)
                }
            }
        } catch { completion("\(error)") }
    }
}
