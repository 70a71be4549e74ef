import Base
import Contracts
import DataModel
import GatewayKit
import Glibc
import Net
import Placement
import TestKit
import Testing

/// What became of a call.
enum Outcome: Hashable {
    case reply(ReplyView.Kind)
    case failed(ErrorCode)
}

/// Makes calls and writes down what becomes of them.
final class Caller: ReplyReceiver {
    private let router: NodeRouter
    private var nextTicket: UInt64 = 1
    /// In the order in which they came.
    private(set) var outcomes: [(ticket: UInt64, outcome: Outcome)] = []
    var onOutcome: (UInt64, Outcome) -> Void = { _, _ in }

    init(_ router: NodeRouter) { self.router = router }

    /// Calls GET, or SET when there is a value.
    @discardableResult
    func call(_ value: Bytes? = nil, slot: UInt32 = 0) -> UInt64 {
        let ticket = nextTicket
        nextTicket += 1
        let method: Method = value == nil ? .get : .set
        (value ?? []).withUnsafeBytes { bytes in
            withUnsafePointer(to: bytes) { argument in
                router.call(
                    connection: 1, slot: slot, method: method, database: 0, key: ByteView(rebasing: bytes.prefix(1)),
                    flags: 0,
                    numbers: .init(start: nil, count: 0),
                    arguments: .init(start: argument, count: value == nil ? 0 : 1),
                    receiver: self, ticket: ticket)
            }
        }
        return ticket
    }

    /// A SET in a batch of its own.
    func batch(_ value: Bytes) {
        var encoder = CallBatchEncoder()
        value.withUnsafeBytes { bytes in
            withUnsafePointer(to: bytes) { argument in
                encoder.append(
                    method: .set, database: 0, key: bytes, flags: 0, numbers: .init(start: nil, count: 0),
                    arguments: .init(start: argument, count: 1))
            }
        }
        nextTicket += 1
        router.batch(
            connection: 1, slot: 0, body: encoder.message, isWrite: true, receiver: self, ticket: nextTicket - 1)
    }

    /// A step of the transaction with that id.
    func step(_ id: UInt64) {
        nextTicket += 1
        router.step(
            connection: 1, slot: 0, TransactionStep(.commit, id: id, participants: [0]), receiver: self,
            ticket: nextTicket - 1)
    }

    /// A GET that is content with less than strong consistency.
    @discardableResult
    func read(_ terms: ReadTerms) -> UInt64 {
        let ticket = nextTicket
        nextTicket += 1
        router.read(
            terms, connection: 1, slot: 0, method: .get, database: 0, key: ByteView(start: nil, count: 0), flags: 0,
            numbers: .init(start: nil, count: 0), arguments: .init(start: nil, count: 0), receiver: self,
            ticket: ticket)
        return ticket
    }

    func write() -> UInt64 { call([1]) }

    func read() -> UInt64 { call() }

    var made: Int { Int(nextTicket) - 1 }

    subscript(_ ticket: UInt64) -> Outcome? { outcomes.first { $0.ticket == ticket }?.outcome }

    /// Every call had one outcome, not none and not two.
    var isSettled: Bool { outcomes.count == made && Set(outcomes.map(\.ticket)).count == made }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) { note(ticket, .reply(reply.kind)) }

    func failed(_ ticket: UInt64, _ error: DatabaseError) { note(ticket, .failed(error.code)) }

    private func note(_ ticket: UInt64, _ outcome: Outcome) {
        outcomes.append((ticket, outcome))
        onOutcome(ticket, outcome)
    }
}

/// A stream as a node has it, that answers as the test tells it.
final class Peer: GRPCStreamHandler {
    let stream: GRPCServerStream
    private(set) var ids: [UInt64] = []
    private(set) var hasEnded = false
    private let onMessage: (Peer) -> Void
    private let decoder = InvocationBatchDecoder()

    init(_ stream: GRPCServerStream, _ onMessage: @escaping (Peer) -> Void) {
        (self.stream, self.onMessage) = (stream, onMessage)
    }

    func received(_ message: ByteView) {
        do { try decoder.decode(message) { ids.append($0.id) } } catch { Issue.record("\(error)") }
        onMessage(self)
    }

    func receivedEnd() {
        hasEnded = true
        onMessage(self)
    }

    func closed(_ status: GRPCStatus) {}

    /// Answers everything so far.
    func answer() {
        let replies = ReplyBatchEncoder()
        for id in ids { replies.ok(id) }
        ids = []
        stream.send { replies.write(bookmark: Timestamp(rawValue: 5), mapEpoch: MapEpoch(rawValue: 1), into: &$0) }
        if hasEnded { stream.finish(.ok) }
    }
}

/// A router and the nodes it talks to, on one loop that the test's thread runs until the story is told.
final class Stage {
    let loop: EventLoop
    let router: NodeRouter
    let caller: Caller
    private let directory: String
    private var server: GRPCServer?
    private var isDone = false

    var address: SocketAddress { .unix(path: directory + "/n") }

    private init(_ directory: String, callTimeout: UInt64, patience: UInt64, reviewPeriod: Int) throws {
        self.directory = directory
        loop = try EventLoop()
        router = NodeRouter(
            loop: loop, tls: nil, session: 7, callTimeout: callTimeout, connectPatience: patience, checkPeriod: 5,
            reviewPeriod: reviewPeriod)
        caller = Caller(router)
    }

    /// A map with one shard on one node, at the stage's socket.
    func map(epoch: UInt64 = 1, node: UInt32 = 1, isUp: Bool = true) throws -> ShardMap {
        let id = NodeID(rawValue: node)
        return try ShardMap(
            epoch: MapEpoch(rawValue: epoch), cluster: 1, bucketCount: 64,
            shards: [.init(id: ShardID(rawValue: 1), buckets: [0..<64], leader: id, replicas: [id])],
            nodes: [
                .init(
                    id: id, uid: NodeUID(high: 0, low: 1), addresses: ["\(address)"], fencingToken: 1,
                    state: isUp ? .up : .down)
            ])
    }

    /// Serves the stage's socket; a test that does so again replaces the server.
    @discardableResult
    func serve(_ onMessage: @escaping (Peer) -> Void) throws -> GRPCServer {
        unlink(directory + "/n")
        var limits = GRPCLimits()
        limits.messageSize = 40 << 20
        let server = GRPCServer(loop: loop, limits: limits)
        server.register(path: "/orbit.v1.InvocationService/Stream") { Peer($0, onMessage) }
        try server.listen(on: address)
        self.server = server
        return server
    }

    func finish() {
        isDone = true
        router.close()
        server?.close()
        loop.runLater { [loop] in loop.stop() }
    }

    /// Runs a story in a directory of its own until `finish`; the timer only ends a test that would hang.
    static func run(
        callTimeout: UInt64 = UInt64(HangLimit.milliseconds), patience: UInt64 = UInt64(HangLimit.milliseconds),
        reviewPeriod: Int = 100, _ begin: (Stage) throws -> Void
    ) throws {
        var template = Array("/tmp/orbit-gateway-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            unlink(path + "/n")
            rmdir(path)
        }
        let stage = try Stage(path, callTimeout: callTimeout, patience: patience, reviewPeriod: reviewPeriod)
        stage.loop.schedule(afterMilliseconds: HangLimit.milliseconds) { stage.loop.stop() }
        try begin(stage)
        stage.loop.run()
        #expect(stage.isDone, "the story did not come to its end")
        if !stage.isDone { stage.router.close() }
        #expect(stage.caller.isSettled, "\(stage.caller.made) calls, \(stage.caller.outcomes)")
    }
}
