import Base
import Contracts
import DataModel
import Net
import ServiceKit

extension Command {
    static let node = Command(
        "node", operands: "drain|activate ID", count: 2...2,
        summary: "Takes a storage node's replicas away, or lets it have some again.", options: [.data]
    ) { arguments in
        let verb = arguments.operands[0]
        guard ["drain", "activate"].contains(verb) else {
            throw UsageError(Arguments.unknown(verb, among: ["drain", "activate"]))
        }
        let (plan, _) = try existingCluster(arguments)
        let placement = try PlacementOperator(plan)
        let node = try placement.node(named: arguments.operands[1], plan)
        let path = verb == "drain" ? PlacementPath.drainNode : PlacementPath.activateNode
        _ = try placement.call(path, NodeRequest(node: node).encode())
        if verb == "drain" {
            try placement.watch { described in
                let left = described.map?.shards.count { ($0.voters + $0.learners).contains(node) } ?? 0
                return left == 0 ? nil : "\(left) shards are still on it"
            }
        }
        Console().out("\(arguments.operands[1]) is \(verb == "drain" ? "drained: it holds no shard" : "active").")
        return 0
    }

    static let rebalance = Command(
        "rebalance", summary: "Evens replicas and leaders out over the storage nodes.",
        options: [.data, CommandOption("dry-run", nil, "show what would be done, and do nothing")]
    ) { arguments in
        let placement = try PlacementOperator(existingCluster(arguments).0)
        let isDryRun = arguments.has("dry-run")
        var response = try placement.rebalance(isDryRun: isDryRun)
        let console = Console()
        for move in response.moves { console.out(PlacementOperator.words(move)) }
        if response.isTruncated { console.out("… and more") }
        if response.moves.isEmpty { console.out("Nothing to do: replicas and leaders are even.") }
        guard !isDryRun, !response.moves.isEmpty else { return 0 }
        for _ in 0..<PlacementOperator.rebalanceLimit {
            try placement.watch { described in
                guard let placement = described.placement, placement.isRebalancing else { return nil }
                return "\(placement.movesLeft) steps left"
            }
            // A coordinator that took over in the midst of it does not know what was asked of its predecessor.
            response = try placement.rebalance(isDryRun: false)
            if response.moves.isEmpty {
                console.out("Rebalanced.")
                return 0
            }
            console.progress("more is left to do: asked again")
        }
        throw UsageError("\(response.moves.count) steps are left, and the coordinators change; orbit status shows more")
    }
}

/// Asks the coordinator of a local cluster that leads, over its Unix socket, and waits for the answer.
struct PlacementOperator {
    private let loop: EventLoop
    private let coordinators: CoordinatorClient
    /// Covers a fail-over.
    private static let callTimeout: UInt64 = 5_000_000_000
    /// One that does not answer is left for the next.
    private static let attemptTimeout: UInt64 = 1_500_000_000
    private static let retryMilliseconds = 100
    private static let patienceMilliseconds = 600_000
    /// Times that a rebalance is asked for, once for each fail-over of the coordinator in the midst of it.
    static let rebalanceLimit = 10

    init(_ plan: ClusterPlan) throws {
        let addresses = plan.processes.filter { $0.role == .coordinator }.compactMap(\.addresses.first)
        guard !addresses.isEmpty else { throw UsageError("the cluster has no coordinator") }
        loop = try EventLoop()
        coordinators = CoordinatorClient(
            loop: loop, addresses: try addresses.map { try SocketAddress(parsing: $0) })
    }

    /// One call; a refusal becomes an error in the coordinator's own words. While no coordinator leads it is made
    /// again: everything that is asked here may be asked twice.
    func call(_ path: String, _ request: Bytes) throws -> Bytes {
        var answer: Result<Bytes, GRPCStatus> = .failure(GRPCStatus(.unavailable, "no answer"))
        loop.schedule(afterMilliseconds: 0) { [self] in
            attempt(path, request, until: loop.now + Self.callTimeout) { result in
                answer = result
                loop.stop()
            }
        }
        loop.run()
        switch answer {
        case .success(let bytes): return bytes
        case .failure(let status): throw UsageError("the coordinator refuses: \(status.message)")
        }
    }

    private func attempt(
        _ path: String, _ request: Bytes, until deadline: UInt64,
        _ completion: @escaping (Result<Bytes, GRPCStatus>) -> Void
    ) {
        let isAlone = coordinators.addresses.count == 1
        let end = isAlone ? deadline : min(deadline, loop.now + Self.attemptTimeout)
        coordinators.unary(path: path, request: request, deadline: end) { result in
            let again = loop.now + UInt64(Self.retryMilliseconds) * 1_000_000
            guard case .failure(let status) = result, !isAlone, again < deadline,
                [.unavailable, .unknown, .deadlineExceeded].contains(status.code)
            else { return completion(result) }
            loop.schedule(afterMilliseconds: Self.retryMilliseconds) {
                attempt(path, request, until: deadline, completion)
            }
        }
    }

    /// Has replicas evened out; a dry run only says what that takes.
    func rebalance(isDryRun: Bool) throws -> RebalanceResponse {
        try call(PlacementPath.rebalance, RebalanceRequest(isDryRun: isDryRun).encode())
            .withUnsafeBytes { try RebalanceResponse(decoding: $0) }
    }

    /// A slot of each shard, by the map.
    func slotOfEachShard() throws -> [UInt32] {
        guard let map = try describe().map, map.bucketCount > 0 else { return [] }
        let width = UInt32(Slot.count) / map.bucketCount
        return map.shards.compactMap { shard in shard.buckets.first.map { $0.first &* width } }
    }

    /// The numbers of the shards.
    func shards() throws -> [UInt32] { try describe().map?.shards.map(\.id).sorted() ?? [] }

    /// The number of the node that a process of the plan, or a number, names.
    func node(named name: String, _ plan: ClusterPlan) throws -> UInt32 {
        let nodes = try describe().map?.nodes ?? []
        if let number = UInt32(name), nodes.contains(where: { $0.id == number }) { return number }
        let specs = plan.processes.filter { $0.role == .storageNode }
        guard let spec = specs.first(where: { $0.id == name }) else {
            throw UsageError(Arguments.unknown(name, among: specs.map(\.id)))
        }
        guard let node = nodes.first(where: { !Set($0.addresses).isDisjoint(with: spec.addresses) }) else {
            throw UsageError("\(name) has not registered with the coordinator")
        }
        return node.id
    }

    private func describe() throws -> DescribeResponse {
        try call(PlacementPath.describe, []).withUnsafeBytes { try DescribeResponse(decoding: $0) }
    }

    /// Shows what `progress` says of the cluster whenever that changes, until it says nothing. What was asked for goes
    /// on when the command is interrupted.
    func watch(_ progress: (DescribeResponse) -> String?) throws {
        var last = ""
        let isDone = try poll(forMilliseconds: Self.patienceMilliseconds, every: 500) {
            guard let text = progress(try describe()) else { return true }
            if text != last { Console().progress(text) }
            last = text
            return false
        }
        guard isDone else { throw UsageError("it goes on, but takes long (\(last)); orbit status shows more") }
    }

    /// A step for people.
    static func words(_ move: RebalanceResponse.Move) -> String {
        let shard = "shard \(move.shard)"
        switch move.kind {
        case 1:
            return "\(shard): copy to node \(move.node)" + (move.replacing == 0 ? "" : ", instead of \(move.replacing)")
        case 2:
            return "\(shard): node \(move.node) votes" + (move.replacing == 0 ? "" : ", node \(move.replacing) leaves")
        case 3: return "\(shard): node \(move.node) leaves"
        case 4: return "\(shard): node \(move.node) stays"
        case 5: return "\(shard): node \(move.node) leads"
        case _: return "\(shard): an unknown step at node \(move.node)"
        }
    }
}
