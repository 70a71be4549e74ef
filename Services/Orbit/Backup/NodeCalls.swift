import Base
import Contracts
import Net
import ServiceKit

/// Calls of a local cluster's storage nodes over their Unix sockets, many at a time, on one loop. What concerns a
/// bucket goes to the node that led its shard last; one that refuses because it does not lead is left for the next.
final class NodeCalls {
    private static let callTimeout: UInt64 = 60_000_000_000
    private static let pauseMilliseconds = 50
    /// Covers fail-overs and restarts.
    private static let patience: UInt64 = 60_000_000_000

    let loop: EventLoop
    /// The names of the nodes' processes.
    let names: [String]
    private let channels: [GRPCClientChannel]
    /// By bucket.
    private var leaders: [UInt32: Int] = [:]

    init(_ plan: ClusterPlan) throws {
        loop = try EventLoop()
        let specs = plan.processes.filter { $0.role == .storageNode }
        names = specs.map(\.id)
        var backOff = GRPCBackOff()
        backOff.maximumMilliseconds = 500
        channels = try specs.map { [loop] spec in
            GRPCClientChannel(loop: loop, address: try SocketAddress(parsing: spec.addresses[0]), backOff: backOff)
        }
    }

    var count: Int { channels.count }

    /// Who led the bucket's shard last, or is asked next.
    func leader(of bucket: UInt32) -> Int { leaders[bucket] ?? Int(bucket) % count }

    /// One node, once.
    func ask(_ node: Int, _ path: String, _ request: Bytes, _ completion: @escaping (Result<Bytes, GRPCStatus>) -> Void)
    {
        channels[node].unary(
            path: path, request: request, deadline: loop.now + Self.callTimeout, completion: completion)
    }

    /// Opens a stream at the node that is believed to lead.
    func open(_ path: String, bucket: UInt32, request: Bytes, handler: any GRPCStreamHandler) {
        let stream = channels[leader(of: bucket)].open(path: path, handler: handler)
        stream.send { $0.append(request) }
        stream.end()
    }

    /// What the leader of a bucket's shard answers; asked again while nobody leads, or it is busy. Only for what may be
    /// asked twice.
    func askLeader(
        of bucket: UInt32, _ path: String, _ request: Bytes, until end: UInt64? = nil,
        _ completion: @escaping (Result<Bytes, DatabaseError>) -> Void
    ) {
        let end = end ?? loop.now + Self.patience
        ask(leader(of: bucket), path, request) { [self] result in
            switch result {
            case .success(let bytes): completion(.success(bytes))
            case .failure(let status):
                guard mayRetry(status, bucket), loop.now < end else {
                    return completion(.failure(error(status, bucket)))
                }
                loop.schedule(afterMilliseconds: Self.pauseMilliseconds) { [self] in
                    askLeader(of: bucket, path, request, until: end, completion)
                }
            }
        }
    }

    /// Whether a call that failed may be made again; turns to another node where that is of use.
    func mayRetry(_ status: GRPCStatus, _ bucket: UInt32) -> Bool {
        switch status.code {
        case .unavailable, .deadlineExceeded, .unknown, .cancelled:
            leaders[bucket] = (leader(of: bucket) + 1) % count
            return true
        case .resourceExhausted: return true
        case _: return false
        }
    }

    /// A refusal, for people.
    func error(_ status: GRPCStatus, _ bucket: UInt32) -> DatabaseError {
        DatabaseError(.internalFailure, "\(names[leader(of: bucket)]) refuses: \(status.message)")
    }

    /// Runs the loop until `stop`.
    func run(_ body: @escaping () -> Void) {
        loop.schedule(afterMilliseconds: 0, body)
        loop.run()
    }

    func stop() { loop.stop() }

    func close() { for channel in channels { channel.close() } }
}
