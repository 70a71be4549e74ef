import Base
import Contracts
import Crypto
import Glibc
import Net
import Peers
import Raft
import Replication
import TestKit
import Testing

/// Writes down what a process hears from its peers.
final class Recorder: PeerReceiver {
    struct Heard: Equatable {
        var message: Message
        var shard: ShardID
        var payload: Bytes
    }

    var heard: [Heard] = []
    /// `up 2`, `down 2`, `unreachable 2`, in order.
    var news: [String] = []
    var onMessage: ((Message, ShardID) -> Void)?

    func received(_ message: Message, of shard: ShardID, payload: ByteView) {
        heard.append(Heard(message: message, shard: shard, payload: payload.bytes))
        onMessage?(message, shard)
    }

    func unreachable(_ peer: NodeID) { news.append("unreachable \(peer)") }
    func peerUp(_ peer: NodeID) { news.append("up \(peer)") }
    func peerDown(_ peer: NodeID) { news.append("down \(peer)") }
}

/// One process: its server, its links, and what it heard.
final class Replica {
    let links: PeerLinks
    let recorder = Recorder()
    let metrics = Metrics()
    let server: GRPCServer
    let node: NodeID
    let loop: EventLoop

    init(
        _ number: UInt32, on loop: EventLoop, settings: PeerSettings, tls: TLSContext? = nil,
        clock: @escaping () -> HLC.Sample = Replica.systemClock
    ) {
        node = NodeID(rawValue: number)
        self.loop = loop
        server = GRPCServer(loop: loop)
        links = PeerLinks(
            loop: loop, settings: settings, tls: tls, clock: clock, logger: .silent, metrics: metrics,
            random: SplitMix64(seed: UInt64(number)))
        links.receiver = recorder
        links.register(on: server)
    }

    static let systemClock: @Sendable () -> HLC.Sample = {
        let clock = SystemClock()
        return HLC.Sample(
            wallMilliseconds: clock.wallMilliseconds(), monotonicNanoseconds: clock.monotonicNanoseconds())
    }

    static func uid(_ number: UInt32) -> Bytes { Bytes(repeating: UInt8(truncatingIfNeeded: number), count: 16) }

    func join(incarnation: UInt64 = 1, cluster: UInt64 = 7) {
        links.join(
            as: .init(node: node, uid: Self.uid(node.rawValue), incarnation: incarnation, cluster: cluster))
    }

    @discardableResult
    func send(_ message: Message, shard: UInt32 = 1, _ payload: Bytes = []) -> Bool {
        links.send(message, of: ShardID(rawValue: shard)) { $0.append(payload) }
    }

    /// A small append whose index tells which it is.
    @discardableResult
    func append(_ index: UInt64, to peer: UInt32, bytes: Int = 10) -> Bool {
        let previous = EntryID(term: Term(rawValue: 1), index: LogIndex(rawValue: index))
        let run = EntryRun(
            first: LogIndex(rawValue: index + 1), term: Term(rawValue: 1), sizes: [UInt32(bytes)])
        let body = Message.Append(previous: previous, entries: run, commit: previous.index, round: index)
        return send(
            Message(from: node, to: NodeID(rawValue: peer), term: Term(rawValue: 1), body: .append(body)),
            Bytes(repeating: UInt8(truncatingIfNeeded: index), count: bytes))
    }

    /// The rounds of the appends that came, in order.
    var rounds: [UInt64] {
        recorder.heard.compactMap { if case .append(let body) = $0.message.body { body.round } else { nil } }
    }

    func isUp(_ peer: UInt32) -> Bool { links.isUp(NodeID(rawValue: peer)) }

    func figure(_ name: String, _ peer: UInt32) -> Int? {
        let row = metrics.prometheusText().split(separator: "\n").first { $0.hasPrefix("\(name){peer=\"\(peer)\"}") }
        return row.flatMap { Int($0.split(separator: " ").last ?? "") }
    }

    func close() {
        links.close()
        server.close()
    }
}

/// Processes on one loop, which the test's thread runs from one condition to the next.
final class Stage {
    let loop: EventLoop
    let directory: String
    var replicas: [UInt32: Replica] = [:]
    private var keep: [AnyObject] = []

    private init(_ directory: String) throws {
        self.directory = directory
        loop = try EventLoop()
    }

    static func settings(_ change: (inout PeerSettings) -> Void = { _ in }) -> PeerSettings {
        var settings = PeerSettings(role: "storage-node", user: getuid())
        settings.probeMilliseconds = 10
        settings.firstBackOff = 2
        settings.lastBackOff = 20
        // A machine under load pauses: nobody is held for silent unless the test is about that.
        settings.silenceMilliseconds = UInt64(HangLimit.milliseconds)
        settings.patienceMilliseconds = UInt64(HangLimit.milliseconds)
        settings.attemptMilliseconds = HangLimit.milliseconds
        change(&settings)
        return settings
    }

    func address(_ number: UInt32) -> SocketAddress { .unix(path: "\(directory)/\(number)") }

    func peers(_ numbers: ClosedRange<UInt32>) -> [PeerLinks.Peer] {
        numbers.map { .init(node: NodeID(rawValue: $0), uid: Replica.uid($0), addresses: [address($0)]) }
    }

    /// Starts process `number` of `count`.
    @discardableResult
    func start(
        _ number: UInt32, of count: UInt32, incarnation: UInt64 = 1, settings: PeerSettings = Stage.settings(),
        clock: @escaping () -> HLC.Sample = Replica.systemClock
    ) throws -> Replica {
        let replica = Replica(number, on: loop, settings: settings, clock: clock)
        try replica.server.listen(on: address(number))
        replica.links.update(peers(1...count))
        replica.join(incarnation: incarnation)
        replicas[number] = replica
        return replica
    }

    /// Serves the socket of process `number` with something else.
    func serve(_ number: UInt32, _ make: @escaping (GRPCServerStream) -> any GRPCStreamHandler) throws {
        let server = GRPCServer(loop: loop)
        server.register(path: PeerPath.exchange, make)
        try server.listen(on: address(number))
        keep.append(server)
    }

    /// A stream to process `number`, of the test's own.
    func call(_ number: UInt32) -> RawCall {
        let channel = GRPCClientChannel(loop: loop, address: address(number))
        keep.append(channel)
        return RawCall(channel)
    }

    /// Runs the loop until the condition holds; false when it does not come to that.
    func run(until condition: @escaping () -> Bool) -> Bool {
        var holds = false
        let poll = loop.schedule(afterMilliseconds: 1, repeating: true) { [loop] in
            holds = condition()
            if holds { loop.stop() }
        }
        let limit = loop.schedule(afterMilliseconds: HangLimit.milliseconds) { [loop] in loop.stop() }
        loop.run()
        poll.cancel()
        limit.cancel()
        return holds
    }

    private func finish() {
        for replica in replicas.values { replica.close() }
        for case let server as GRPCServer in keep { server.close() }
        for case let channel as GRPCClientChannel in keep { channel.close() }
        loop.runLater { [loop] in loop.stop() }
        loop.run()
    }

    /// Runs a test in a directory of its own.
    static func with(_ test: (Stage) throws -> Void) throws {
        var template = Array("/tmp/orbit-peers-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            for number in 1...3 { unlink("\(path)/\(number)") }
            rmdir(path)
        }
        let stage = try Stage(path)
        defer { stage.finish() }
        try test(stage)
    }
}

/// A peer's stream that says what the test wants.
final class RawCall: GRPCStreamHandler {
    private(set) var stream: GRPCClientStream?
    private(set) var answers: [PeerAnswer] = []
    private(set) var status: GRPCStatus?

    init(_ channel: GRPCClientChannel) { stream = channel.open(path: PeerPath.exchange, handler: self) }

    func send(_ bytes: Bytes) { stream?.send { $0.append(bytes) } }

    func received(_ message: ByteView) {
        if let answer = try? PeerAnswer(decoding: message) { answers.append(answer) }
    }

    func closed(_ status: GRPCStatus) { self.status = status }
}

/// A served stream of a peer that does what the test wants.
final class RawPeer: GRPCStreamHandler {
    let stream: GRPCServerStream
    private(set) var hellos: [PeerHello] = []
    /// Messages in each frame behind the hello.
    private(set) var frames: [Int] = []
    private(set) var clocks = 0
    private(set) var isClosed = false
    private let decoder = PeerBatchDecoder()
    private let onHello: (RawPeer, PeerHello) -> Void

    init(_ stream: GRPCServerStream, _ onHello: @escaping (RawPeer, PeerHello) -> Void) {
        (self.stream, self.onHello) = (stream, onHello)
    }

    /// The answer of a peer that keeps to the protocol.
    static func answer(_ hello: PeerHello) -> PeerAnswer {
        PeerAnswer(
            hello: PeerHello(
                role: hello.role, cluster: hello.cluster, node: hello.peer, peer: hello.node,
                uid: Replica.uid(hello.peer.rawValue), incarnation: 1, clock: hello.clock))
    }

    func received(_ message: ByteView) {
        var count = 0
        do { try decoder.decode(message) { _ in count += 1 } } catch { Issue.record("\(error)") }
        if decoder.clock != nil { clocks += 1 }
        if let hello = decoder.hello {
            hellos.append(hello)
            onHello(self, hello)
        } else if count > 0 {
            frames.append(count)
        }
    }

    func closed(_ status: GRPCStatus) { isClosed = true }
}

extension Message {
    /// A message of any kind, with a payload that fits its entries.
    static func random(from: NodeID, to: NodeID, using random: inout SplitMix64) -> (message: Message, payload: Bytes) {
        func index() -> LogIndex { LogIndex(rawValue: random.next(below: 1 << 40)) }
        func term() -> Term { Term(rawValue: random.next(below: 1000)) }
        let last = EntryID(term: term(), index: index())
        let request = VoteRequest(last: last, isTransfer: random.oneIn(2))
        let membership = Membership(voters: [from, to], learners: [NodeID(rawValue: 77)])
        var payload: Bytes = []
        var run = EntryRun(first: LogIndex(rawValue: last.index.rawValue + 1))
        var newest = last.term.rawValue
        for _ in 0..<random.next(below: 5) {
            newest += random.next(below: 2)
            switch random.next(below: 5) {
            case 0: run.append(term: Term(rawValue: newest), size: 0, content: .empty)
            case 1:
                let bytes = membership.encoded()
                run.append(term: Term(rawValue: newest), size: UInt32(bytes.count), content: .configuration(membership))
                payload += bytes
            case _:
                let bytes = random.bytes(Int(random.next(below: 200)))
                run.append(term: Term(rawValue: newest), size: UInt32(bytes.count))
                payload += bytes
            }
        }
        let rejoin = Rejoin(nonce: random.next(), commit: index())
        let bodies: [Body] = [
            .append(Append(previous: last, entries: run, commit: index(), round: random.next(below: 1 << 40))),
            .appendReply(AppendReply(outcome: .matched(index()), round: 5)),
            .appendReply(AppendReply(outcome: .rejected(previous: index(), hint: last), round: 6)),
            .heartbeat(Heartbeat(commit: index(), round: 7, isQuiescing: random.oneIn(2))),
            .heartbeat(Heartbeat(commit: index(), round: 8, rejoin: rejoin)),
            .heartbeatReply(HeartbeatReply(round: 9, rejoin: random.oneIn(2) ? random.next() : 0)),
            .preVoteRequest(request), .voteRequest(request),
            .preVoteReply(.init(isGranted: random.oneIn(2), isCut: random.oneIn(2))),
            .voteReply(.init(isGranted: random.oneIn(2), isCut: random.oneIn(2))), .timeoutNow,
            .snapshot(SnapshotMetadata(last: last, membership: membership)),
        ]
        let body = bodies[Int(random.next(below: UInt64(bodies.count)))]
        let message = Message(from: from, to: to, term: Term(rawValue: newest + 1), body: body)
        if case .append = body { return (message, payload) }
        return (message, [])
    }
}
