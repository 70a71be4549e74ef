import Base
import Contracts
import Net
import ServiceKit

/// Asks the storage nodes of a local cluster for actors, over their Unix sockets, and waits for the answers.
///
/// It asks one node after another: the one that leads the shard answers.
final class DirectoryClient {
    private static let callTimeout: UInt64 = 1_500_000_000
    /// Covers a fail-over.
    private static let patience: UInt64 = 10_000_000_000
    private static let pauseMilliseconds = 100
    /// Times that the list of a shard is begun; again when its leader changes meanwhile.
    private static let listAttempts = 5
    static let pageLimit = 1000

    /// The storage nodes by the names of their processes.
    private let nodes: [(name: String, address: SocketAddress)]
    private let loop: EventLoop
    private let clock = SystemClock()
    private var channels: [Int: GRPCClientChannel] = [:]
    /// Who answered last: shards often have the same leader.
    private var current = 0

    init(_ plan: ClusterPlan) throws {
        nodes = try plan.processes.filter { $0.role == .storageNode }.map { spec in
            (spec.id, try SocketAddress(parsing: spec.addresses[0]))
        }
        loop = try EventLoop()
    }

    /// Where an actor lives, and the process that leads its shard.
    func locate(_ request: LocateRequest) throws -> (answer: LocateResponse, process: String) {
        let (bytes, node) = try askLeader(DirectoryPath.locate, request.encode())
        return (try bytes.withUnsafeBytes { try LocateResponse(decoding: $0) }, nodes[node].name)
    }

    /// Up to `limit` actors of a shard that are in memory, the process that has them, and whether these are all. All
    /// are of one leadership.
    func list(
        shard: UInt32, type: String, limit: Int
    ) throws -> (actors: [ActiveActorMessage], process: String, isComplete: Bool) {
        attempts: for _ in 0..<Self.listAttempts {
            var request = ListActorsRequest(type: type, shard: shard)
            request.pageSize = UInt32(min(limit, Self.pageLimit))
            let (first, node) = try askLeader(DirectoryPath.listActors, request.encode())
            var page = try first.withUnsafeBytes { try ListActorsResponse(decoding: $0) }
            let term = page.shards.first?.term
            var actors = page.actors
            while !page.nextPageToken.isEmpty, actors.count < limit {
                request.pageToken = page.nextPageToken
                request.pageSize = UInt32(min(limit - actors.count, Self.pageLimit))
                guard case .success(let bytes) = ask(node, DirectoryPath.listActors, request.encode()) else {
                    continue attempts
                }
                page = try bytes.withUnsafeBytes { try ListActorsResponse(decoding: $0) }
                guard page.shards.first?.term == term else { continue attempts }
                actors += page.actors
            }
            return (actors, nodes[node].name, page.nextPageToken.isEmpty)
        }
        throw UsageError("the leader of shard \(shard) changes all the time; orbit status shows more")
    }

    /// The answer of the node that leads, and which it is. While nobody leads, all are asked again.
    private func askLeader(_ path: String, _ request: Bytes) throws -> (answer: Bytes, node: Int) {
        let end = clock.monotonicNanoseconds() + Self.patience
        var asked = 0
        while true {
            let node = (current + asked) % nodes.count
            asked += 1
            switch ask(node, path, request) {
            case .success(let bytes):
                current = node
                return (bytes, node)
            case .failure(let status) where [.unavailable, .deadlineExceeded].contains(status.code):
                guard asked % nodes.count == 0 else { continue }
                guard clock.monotonicNanoseconds() < end else {
                    throw UsageError("nobody leads the shard (\(status.message)); orbit status shows more")
                }
                loop.schedule(afterMilliseconds: Self.pauseMilliseconds) { [loop] in loop.stop() }
                loop.run()
            case .failure(let status): throw UsageError("\(nodes[node].name) refuses: \(status.message)")
            }
        }
    }

    private func ask(_ node: Int, _ path: String, _ request: Bytes) -> Result<Bytes, GRPCStatus> {
        let channel = channels[node] ?? GRPCClientChannel(loop: loop, address: nodes[node].address)
        channels[node] = channel
        var answer: Result<Bytes, GRPCStatus> = .failure(GRPCStatus(.unavailable, "no answer"))
        // On the loop's own turn, where its clock is fresh.
        loop.schedule(afterMilliseconds: 0) { [loop] in
            channel.unary(path: path, request: request, deadline: loop.now + Self.callTimeout) { result in
                answer = result
                loop.stop()
            }
        }
        loop.run()
        if case .failure = answer {
            // Its pause before it connects again is not ours.
            channel.close()
            channels[node] = nil
        }
        return answer
    }
}
