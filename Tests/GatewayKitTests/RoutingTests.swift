import Base
import Contracts
import Glibc
import Net
import Placement
import TestKit
import Testing

@testable import GatewayKit

/// Nodes that lead, refuse or are gone, as the test tells them.
private final class Cast {
    /// What a node has done, in order: the tickets of SETs carry a number in their value.
    private(set) var done: [[UInt8]] = []
    var leads: [Bool]
    var hints: [UInt32?]
    private var fences: [UInt64]
    private var servers: [GRPCServer] = []
    private let stage: Stage
    private let directory: String

    init(_ stage: Stage, _ directory: String, nodes: Int) {
        (self.stage, self.directory) = (stage, directory)
        leads = Array(repeating: false, count: nodes)
        hints = Array(repeating: nil, count: nodes)
        fences = Array(repeating: 0, count: nodes)
        done = Array(repeating: [], count: nodes)
    }

    func address(_ node: Int) -> SocketAddress { .unix(path: "\(directory)/n\(node)") }

    func start(_ node: Int) throws {
        unlink("\(directory)/n\(node)")
        let server = GRPCServer(loop: stage.loop, limits: NodeStream.limits)
        server.register(path: "/orbit.v1.InvocationService/Stream") { [unowned self] stream in
            fences[node] = 0
            return Actor(stream) { [unowned self] in play(node, $0, $1, $2) }
        }
        try server.listen(on: address(node))
        while servers.count <= node { servers.append(server) }
        servers[node] = server
    }

    func stop(_ node: Int) { servers[node].close() }

    func close() { for server in servers { server.close() } }

    private func play(_ node: Int, _ call: InvocationView, _ route: UInt64, _ replies: ReplyBatchEncoder) {
        guard leads[node], route >= fences[node] else {
            replies.error(
                call.id, DatabaseError(.notLeader, "elsewhere"), leader: hints[node].map { NodeID(rawValue: $0) })
            if route >= fences[node] { fences[node] = route + 1 }
            return
        }
        if case .call(let call) = call.operation, call.method == .set { done[node].append(call.arguments[0][0]) }
        replies.ok(call.id)
    }

    /// Three replicas of one shard.
    func map(epoch: UInt64 = 1, leader: UInt32?, without: Int? = nil) throws -> ShardMap {
        let ids = leads.indices.map { NodeID(rawValue: UInt32($0 + 1)) }
        return try ShardMap(
            epoch: MapEpoch(rawValue: epoch), cluster: 1, bucketCount: 64,
            shards: [
                .init(
                    id: ShardID(rawValue: 1), buckets: [0..<64], leader: leader.map { NodeID(rawValue: $0) },
                    replicas: ids)
            ],
            nodes: ids.indices.map {
                .init(
                    id: ids[$0], uid: NodeUID(high: 0, low: UInt64($0)), addresses: ["\(address($0))"],
                    fencingToken: 1, state: .up)
            })
    }

    private final class Actor: GRPCStreamHandler {
        private let stream: GRPCServerStream
        private let onCall: (InvocationView, UInt64, ReplyBatchEncoder) -> Void
        private let decoder = InvocationBatchDecoder()

        init(_ stream: GRPCServerStream, _ onCall: @escaping (InvocationView, UInt64, ReplyBatchEncoder) -> Void) {
            (self.stream, self.onCall) = (stream, onCall)
        }

        func received(_ message: ByteView) {
            let replies = ReplyBatchEncoder()
            do { try decoder.decode(message) { onCall($0, decoder.route, replies) } } catch { Issue.record("\(error)") }
            stream.send { replies.write(bookmark: Timestamp(rawValue: 5), mapEpoch: .init(rawValue: 1), into: &$0) }
        }

        func receivedEnd() { stream.finish(.ok) }
        func closed(_ status: GRPCStatus) {}
        func writable() {}
    }
}

@Suite("Routing", .serialized)
struct RoutingTests {
    private func run(patience: UInt64 = UInt64(HangLimit.milliseconds), _ begin: (Stage, Cast) throws -> Void) throws {
        var template = Array("/tmp/orbit-routing-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var cast: Cast?
        defer {
            for node in 0..<3 { unlink("\(path)/n\(node)") }
            rmdir(path)
        }
        try Stage.run(patience: patience) { stage in
            let nodes = Cast(stage, path, nodes: 3)
            for node in 0..<3 { try nodes.start(node) }
            cast = nodes
            try begin(stage, nodes)
        }
        cast?.close()
    }

    @Test("refused calls follow the hint, in their order, and before what was called later")
    func followsHint() throws {
        try run { stage, cast in
            cast.leads[1] = true
            cast.hints = [2, nil, nil]
            stage.router.adopt(try cast.map(leader: 1))
            for number in 1...100 as ClosedRange<UInt8> { stage.caller.call([number]) }
            stage.caller.onOutcome = { [caller = stage.caller] _, outcome in
                #expect(outcome == .reply(.ok))
                // Calls made while answers come must stay behind what is on its way.
                if caller.made < 200 { caller.call([UInt8(caller.made + 1)]) }
                guard caller.outcomes.count == 200 else { return }
                #expect(cast.done[1] == Array(1...200))
                #expect(cast.done[0].isEmpty && cast.done[2].isEmpty && stage.router.inFlight == 0)
                stage.finish()
            }
        }
    }

    @Test("a leader that changes in the middle of a pipeline reorders nothing")
    func changesMidway() throws {
        try run { stage, cast in
            cast.leads[0] = true
            stage.router.adopt(try cast.map(leader: 1))
            var changes = 0
            stage.caller.call([1])
            stage.caller.onOutcome = { [caller = stage.caller] _, outcome in
                #expect(outcome == .reply(.ok))
                for _ in 0..<3 where caller.made < 240 { caller.call([UInt8(caller.made + 1)]) }
                if caller.outcomes.count % 20 == 0, changes < 8 {
                    changes += 1
                    let next = changes % 3
                    for node in 0..<3 {
                        cast.leads[node] = node == next
                        cast.hints[node] = changes % 2 == 0 ? nil : UInt32(next + 1)
                    }
                }
                guard caller.outcomes.count == 240 else { return }
                // Each node's calls rise, and together they are all, once.
                for node in 0..<3 { #expect(cast.done[node] == cast.done[node].sorted()) }
                #expect(cast.done.joined().sorted() == Array(1...240))
                stage.finish()
            }
        }
    }

    @Test("without a hint, or with the leader's process gone, the replicas are asked in turn")
    func asksInTurn() throws {
        try run { stage, cast in
            cast.leads[0] = true
            stage.router.adopt(try cast.map(leader: 1))
            stage.caller.call([1])
            // Only what was never sent may go elsewhere: until the loss is known, calls end as unknown and are made
            // again.
            var next: UInt8 = 2
            stage.caller.onOutcome = { [caller = stage.caller] ticket, outcome in
                if ticket == 1 {
                    cast.leads = [false, false, true]
                    cast.stop(0)
                } else if outcome != .failed(.outcomeUnknown) {
                    #expect(outcome == .reply(.ok))
                    next += 1
                }
                if next < 6 {
                    caller.call([next])
                } else {
                    #expect(cast.done[2] == [2, 3, 4, 5])
                    stage.finish()
                }
            }
        }
    }

    @Test("while nobody leads calls wait, and fail for certain when patience ends")
    func nobodyLeads() throws {
        try run(patience: 150) { stage, cast in
            stage.router.adopt(try cast.map(leader: 1))
            for number in 1...3 as ClosedRange<UInt8> { stage.caller.call([number]) }
            stage.caller.onOutcome = { [caller = stage.caller] ticket, outcome in
                if ticket <= 3 {
                    #expect(outcome == .failed(.unavailable))
                    guard ticket == 3 else { return }
                    cast.leads[2] = true
                    caller.call([4])
                } else if outcome == .failed(.unavailable), caller.made < 100 {
                    caller.call([4])  // The machine was busy for that long; it has certainly not been done.
                } else {
                    #expect(outcome == .reply(.ok) && Array(cast.done.joined()) == [4])
                    stage.finish()
                }
            }
        }
    }
}
