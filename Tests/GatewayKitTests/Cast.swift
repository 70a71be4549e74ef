import Base
import Contracts
import Glibc
import Net
import Placement
import TestKit
import Testing

@testable import GatewayKit

/// Nodes that lead, refuse or are gone, as the test tells them.
final class Cast {
    /// What a node has done, in order: the tickets of SETs carry a number in their value.
    private(set) var done: [[UInt8]] = []
    var leads: [Bool]
    var hints: [UInt32?]
    /// Nodes that take calls and answer nothing, and what they will do when they wake up, batch by batch.
    private var hung: Set<Int> = []
    private var late: [() -> Void] = []
    /// Nodes with whom there is, or was, a stream.
    private(set) var met: Set<Int> = []
    /// Told of each batch that a node which hangs has been sent.
    var onUnread: () -> Void = {}
    private var fences: [UInt64]
    /// How far a node's log is applied: what reads below strong are answered with. Nil: it is too stale.
    var applied: [UInt64?]
    /// Nodes that leave reads below strong unanswered.
    var mute: Set<Int> = []
    /// Reads below strong that came, in order.
    private(set) var reads: [(node: Int, terms: ReadTerms)] = []
    /// Answers batches and steps in the place of a node that leads.
    var onTransaction: ((_ node: Int, InvocationView, ReplyBatchEncoder) -> Void)?
    private var servers: [GRPCServer] = []
    private let stage: Stage
    private let directory: String

    init(_ stage: Stage, _ directory: String, nodes: Int) {
        (self.stage, self.directory) = (stage, directory)
        leads = Array(repeating: false, count: nodes)
        hints = Array(repeating: nil, count: nodes)
        fences = Array(repeating: 0, count: nodes)
        done = Array(repeating: [], count: nodes)
        applied = Array(repeating: nil, count: nodes)
    }

    func address(_ node: Int) -> SocketAddress { .unix(path: "\(directory)/n\(node)") }

    func start(_ node: Int) throws {
        unlink("\(directory)/n\(node)")
        let server = GRPCServer(loop: stage.loop, limits: NodeStream.limits)
        server.register(path: "/orbit.v1.InvocationService/Stream") { [unowned self] stream in
            fences[node] = 0
            met.insert(node)
            return Actor(
                stream, whenHung: { [unowned self] in hold(node, $0) },
                onCall: { [unowned self] in play(node, $0, $1, $2) })
        }
        try server.listen(on: address(node))
        while servers.count <= node { servers.append(server) }
        servers[node] = server
    }

    func stop(_ node: Int) { servers[node].close() }

    func close() { for server in servers { server.close() } }

    private func play(_ node: Int, _ call: InvocationView, _ route: UInt64, _ replies: ReplyBatchEncoder) {
        if let terms = call.readTerms { return read(node, call.id, terms, replies) }
        guard leads[node], route >= fences[node] else {
            replies.error(
                call.id, DatabaseError(.notLeader, "elsewhere"), leader: hints[node].map { NodeID(rawValue: $0) })
            if route >= fences[node] { fences[node] = route + 1 }
            return
        }
        switch call.operation {
        case .batch, .step:
            if let onTransaction { return onTransaction(node, call, replies) }
        case .call, .record, .home, .unknown: break
        }
        switch call.operation {
        case .call(let call) where call.method == .set: done[node].append(call.arguments[0][0])
        case .batch(let batch):
            var calls = batch.calls
            while let call = calls.next() { done[node].append(call.arguments[0][0]) }
        case .step(let step): done[node].append(UInt8(truncatingIfNeeded: step.id))
        case .call, .record, .home, .unknown: break
        }
        replies.ok(call.id)
    }

    private func read(_ node: Int, _ id: UInt64, _ terms: ReadTerms, _ replies: ReplyBatchEncoder) {
        reads.append((node, terms))
        guard !mute.contains(node) else { return }
        guard let applied = applied[node], applied >= terms.position.rawValue else {
            return replies.error(id, DatabaseError(.tooStale, "behind"))
        }
        let one = ReplyBatchEncoder()
        one.integer(id, Int64(node))
        replies.move(one, position: LogIndex(rawValue: applied))
    }

    /// Has a node take calls and do nothing.
    func hang(_ node: Int) { hung.insert(node) }

    private func hold(_ node: Int, _ answer: @escaping () -> Void) -> Bool {
        guard hung.contains(node) else { return false }
        unlink("\(directory)/n\(node)")  // Nor would it say hello to who connects again.
        late.append(answer)
        onUnread()
        return true
    }

    /// Has a node that hangs do the oldest batch that it was sent.
    func answerOne() { late.removeFirst()() }

    /// Has those that hang go on, and do what they were sent.
    func wake() {
        hung = []
        while !late.isEmpty { answerOne() }
    }

    /// Three replicas of each shard; two shards have half of the slots each.
    func map(epoch: UInt64 = 1, leaders: [(node: UInt32?, term: UInt64)]) throws -> ShardMap {
        let ids = leads.indices.map { NodeID(rawValue: UInt32($0 + 1)) }
        let width = 64 / leaders.count
        return try ShardMap(
            epoch: MapEpoch(rawValue: epoch), cluster: 1, bucketCount: 64,
            shards: leaders.indices.map { index in
                .init(
                    id: ShardID(rawValue: UInt32(index + 1)), buckets: [index * width..<(index + 1) * width],
                    leader: leaders[index].node.map { NodeID(rawValue: $0) },
                    term: Term(rawValue: leaders[index].term), membership: ShardMembership(voters: ids), version: 1,
                    versionInForce: 1)
            },
            nodes: ids.indices.map {
                .init(
                    id: ids[$0], uid: NodeUID(high: 0, low: UInt64($0)), addresses: ["\(address($0))"],
                    fencingToken: 1, state: .up)
            })
    }

    /// Three replicas of one shard.
    func map(epoch: UInt64 = 1, leader: UInt32?, term: UInt64 = 0) throws -> ShardMap {
        try map(epoch: epoch, leaders: [(leader, term)])
    }

    /// Runs a story with three nodes in a directory of its own.
    static func run(
        patience: UInt64 = UInt64(HangLimit.milliseconds), reviewPeriod: Int = HangLimit.milliseconds,
        _ begin: (Stage, Cast) throws -> Void
    ) throws {
        var template = Array("/tmp/orbit-routing-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var cast: Cast?
        defer {
            for node in 0..<3 { unlink("\(path)/n\(node)") }
            rmdir(path)
        }
        try Stage.run(patience: patience, reviewPeriod: reviewPeriod) { stage in
            let nodes = Cast(stage, path, nodes: 3)
            for node in 0..<3 { try nodes.start(node) }
            cast = nodes
            try begin(stage, nodes)
        }
        cast?.close()
    }

    private final class Actor: GRPCStreamHandler {
        private let stream: GRPCServerStream
        private let whenHung: (@escaping () -> Void) -> Bool
        private let onCall: (InvocationView, UInt64, ReplyBatchEncoder) -> Void
        private let decoder = InvocationBatchDecoder()

        init(
            _ stream: GRPCServerStream, whenHung: @escaping (@escaping () -> Void) -> Bool,
            onCall: @escaping (InvocationView, UInt64, ReplyBatchEncoder) -> Void
        ) {
            (self.stream, self.whenHung, self.onCall) = (stream, whenHung, onCall)
        }

        func received(_ message: ByteView) {
            let copy = message.bytes
            if !whenHung({ self.take(copy) }) { take(copy) }
        }

        private func take(_ message: Bytes) {
            let replies = ReplyBatchEncoder()
            message.withUnsafeBytes { bytes in
                do {
                    try decoder.decode(ByteView(rebasing: bytes[...])) { onCall($0, decoder.route, replies) }
                } catch {
                    Issue.record("\(error)")
                }
            }
            stream.send { replies.write(bookmark: Timestamp(rawValue: 5), mapEpoch: .init(rawValue: 1), into: &$0) }
        }

        func receivedEnd() { stream.finish(.ok) }
        func closed(_ status: GRPCStatus) {}
        func writable() {}
    }
}
