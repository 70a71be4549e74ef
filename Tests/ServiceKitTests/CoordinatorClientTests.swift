import Base
import Contracts
import Glibc
import Net
import Placement
import ServiceKit
import TestKit
import Testing

/// A coordinator that does what its script says.
private final class Coordinator {
    enum Script {
        case leads
        /// Says who leads, with any code.
        case follows(String, GRPCStatus.Code = .unavailable)
        case refuses(GRPCStatus)
        /// Takes calls and never answers.
        case silent
    }

    var script: Script
    let server: GRPCServer
    /// Paths of the calls that came.
    var calls: [String] = []
    /// Epochs that watchers said they knew.
    var known: [UInt64] = []
    private var watches: [GRPCServerStream] = []
    private var held: [GRPCUnaryCall] = []
    private let number: UInt8
    private(set) var epoch: UInt64 = 0

    init(_ number: UInt8, _ script: Script, loop: EventLoop, at address: SocketAddress) throws {
        self.number = number
        self.script = script
        server = GRPCServer(loop: loop)
        let answers: [(String, () -> Bytes)] = [
            (PlacementPath.describe, { [number] }),
            (
                PlacementPath.registerNode,
                {
                    RegisterResponse(node: 1, fencingToken: 5, leaseMilliseconds: 3_000, cluster: 1, map: nil).encode()
                }
            ),
            (PlacementPath.renewLease, { RenewResponse(leaseMilliseconds: 3_000).encode() }),
        ]
        for (path, answer) in answers {
            server.registerUnary(path: path) { [unowned self] _, call in
                if let refused = begin(path, call.stream) { return refused ? () : held.append(call) }
                call.reply(answer())
            }
        }
        server.register(path: PlacementPath.watch) { [unowned self] stream in
            WatchHandler { [unowned self] request in
                known.append(request.knownEpoch)
                guard begin(PlacementPath.watch, stream) == nil else { return }
                stream.sendHeaders()
                watches.append(stream)
                if epoch != 0, epoch != request.knownEpoch { send(epoch, on: stream) }
            }
        }
        try server.listen(on: address)
    }

    /// Nil: answer. True: it was refused. False: leave it.
    private func begin(_ path: String, _ stream: GRPCServerStream) -> Bool? {
        calls.append(path)
        switch script {
        case .leads: return nil
        case .silent: return false
        case .refuses(let status): stream.finish(status)
        case .follows(let leader, let code): stepDown(stream, leader, code)
        }
        return true
    }

    private func stepDown(_ stream: GRPCServerStream, _ leader: String, _ code: GRPCStatus.Code) {
        var trailers = GRPCMetadata()
        trailers.add(PlacementPath.leaderTrailer, leader)
        stream.finish(GRPCStatus(code, "not the leader"), trailers: trailers)
    }

    /// Ceases to lead: its watches end.
    func follow(_ leader: String) {
        script = .follows(leader)
        for stream in watches { stepDown(stream, leader, .unavailable) }
        watches = []
    }

    func publish(_ epoch: UInt64) {
        self.epoch = epoch
        for stream in watches { send(epoch, on: stream) }
    }

    private func send(_ epoch: UInt64, on stream: GRPCServerStream) {
        let map = ShardMapMessage(
            epoch: epoch, cluster: 1, bucketCount: 4,
            shards: [.init(id: 1, buckets: [.init(first: 0, count: 4)], leader: 0, voters: [])], nodes: [])
        stream.send { $0.append(map.encode()) }
    }
}

private final class WatchHandler: GRPCStreamHandler {
    private let onRequest: (WatchRequest) -> Void
    init(_ onRequest: @escaping (WatchRequest) -> Void) { self.onRequest = onRequest }

    func received(_ message: ByteView) {
        do { onRequest(try WatchRequest(decoding: message)) } catch { Issue.record("\(error)") }
    }

    func closed(_ status: GRPCStatus) {}
}

/// Three coordinators and their client on one loop.
private final class Stage {
    let loop: EventLoop
    let client: CoordinatorClient
    var coordinators: [Coordinator] = []
    private let directory: String

    init(_ directory: String, _ scripts: [Coordinator.Script?]) throws {
        self.directory = directory
        loop = try EventLoop()
        let addresses = (1...3).map { SocketAddress.unix(path: "\(directory)/\($0)") }
        client = CoordinatorClient(loop: loop, addresses: addresses)
        for (index, script) in scripts.enumerated() {
            guard let script else { continue }
            coordinators.append(try Coordinator(UInt8(index + 1), script, loop: loop, at: addresses[index]))
        }
    }

    func address(_ number: Int) -> String { "unix:\(directory)/\(number)" }

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

    /// Who answered, or with what it failed.
    func call(deadline: UInt64 = .max) -> Result<Bytes, GRPCStatus>? {
        var result: Result<Bytes, GRPCStatus>?
        client.unary(path: PlacementPath.describe, request: [], deadline: deadline) { result = $0 }
        _ = run { result != nil }
        return result
    }

    func code(deadline: UInt64 = .max) -> GRPCStatus.Code? {
        if case .failure(let status) = call(deadline: deadline) { status.code } else { nil }
    }

    var calls: [Int] { coordinators.map(\.calls.count) }

    static func with(_ scripts: [Coordinator.Script?], _ test: (Stage) throws -> Void) throws {
        var template = Array("/tmp/orbit-coordinators-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            for number in 1...3 { unlink("\(path)/\(number)") }
            rmdir(path)
        }
        let stage = try Stage(path, scripts)
        try test(stage)
        stage.client.close()
        for coordinator in stage.coordinators { coordinator.server.close() }
        stage.loop.runLater { stage.loop.stop() }
        stage.loop.run()
    }
}

@Suite("CoordinatorClient", .serialized)
struct CoordinatorClientTests {
    @Test(
        "a call finds the leader by what a follower says, and the next one knows",
        arguments: [
            GRPCStatus.Code.unavailable, .failedPrecondition,
        ])
    func hint(_ code: GRPCStatus.Code) throws {
        try Stage.with([.leads, .leads, .leads]) { stage in
            stage.coordinators[0].script = .follows("127.0.0.1:1,\(stage.address(3))", code)
            #expect(stage.call() == .success([3]))
            #expect(stage.call() == .success([3]))
            #expect(stage.calls == [1, 0, 2])
        }
    }

    @Test("an address that is not configured is not followed")
    func foreign() throws {
        try Stage.with([.follows("unix:/nowhere,nonsense,127.0.0.1:1"), .leads, nil]) { stage in
            #expect(stage.call() == .success([2]))
        }
    }

    @Test("while nobody leads a call fails as unavailable, after asking around")
    func leaderless() throws {
        try Stage.with([.follows("", .failedPrecondition), .follows(""), .follows("")]) { stage in
            #expect(stage.code() == .unavailable)
            #expect(stage.calls.reduce(0, +) == 4 && stage.calls.allSatisfy { $0 > 0 })
            // Round in circles.
            stage.coordinators[0].script = .follows(stage.address(2))
            stage.coordinators[1].script = .follows(stage.address(1))
            #expect(stage.code() == .unavailable)
            #expect(stage.calls.reduce(0, +) == 8)
        }
    }

    @Test("one that is away, or does not answer in time, fails its call; the next goes on")
    func away() throws {
        try Stage.with([nil, .silent, .leads]) { stage in
            #expect(stage.code() == .unavailable)
            #expect(stage.code(deadline: stage.loop.now + 30_000_000) == .deadlineExceeded)
            #expect(stage.call() == .success([3]))
            #expect(stage.call() == .success([3]))
        }
    }

    @Test("a refusal is the answer")
    func refusal() throws {
        let status = GRPCStatus(.failedPrecondition, "the lease has ended")
        try Stage.with([.refuses(status), .leads, .leads]) { stage in
            for _ in 0..<2 { #expect(stage.call() == .failure(status)) }
            #expect(stage.calls == [2, 0, 0])
        }
    }

    @Test("a watch goes on with the next leader, misses no epoch and never goes back")
    func watch() throws {
        try Stage.with([.leads, .leads, .leads]) { stage in
            let all = stage.coordinators
            for (index, coordinator) in all.enumerated() where index > 0 { coordinator.follow(stage.address(1)) }
            let watcher = PlacementWatcher(coordinators: stage.client, logger: .silent)
            var epochs: [UInt64] = []
            watcher.onChange = { epochs.append($0.epoch.rawValue) }
            all[0].publish(1)
            watcher.start()
            #expect(stage.run { epochs == [1] })
            all[0].publish(2)
            #expect(stage.run { epochs == [1, 2] })

            // The leadership moves; what happened meanwhile is there at once.
            all[1].script = .leads
            all[1].publish(3)
            all[0].follow(stage.address(2))
            #expect(stage.run { epochs == [1, 2, 3] })
            #expect(all[1].known == [2])

            // The leader dies. The others elect for a while; one that still thinks it leads has an old map.
            all[0].script = .leads
            all[0].publish(2)
            all[2].script = .follows("")
            all[1].server.close()
            #expect(stage.run { all[0].known.contains(3) }, "the old leader is asked")
            all[2].script = .leads
            all[2].publish(4)
            all[0].follow(stage.address(3))
            #expect(stage.run { epochs == [1, 2, 3, 4] })
            all[2].publish(5)
            #expect(stage.run { epochs == [1, 2, 3, 4, 5] })
            watcher.stop()
        }
    }

    @Test("a lease is renewed at whoever leads")
    func lease() throws {
        try Stage.with([.leads, .leads, .leads]) { stage in
            let all = stage.coordinators
            all[1].follow(stage.address(1))
            all[2].follow(stage.address(1))
            let identity = try NodeIdentity.open("/n", disk: SimulatedDisk(seed: 1))
            let lease = NodeLease(
                coordinators: stage.client, identity: identity, addresses: ["a:1"], logger: .silent)
            var grants = 0, losses = 0
            lease.onGranted = { _, _ in grants += 1 }
            lease.onLost = { _ in losses += 1 }
            lease.start()
            #expect(stage.run { grants == 1 })
            all[1].script = .leads
            all[0].script = .follows(stage.address(2), .failedPrecondition)
            #expect(stage.run { all[1].calls.contains(PlacementPath.renewLease) })
            all[2].script = .leads
            all[1].script = .silent
            #expect(stage.run { all[2].calls.contains(PlacementPath.renewLease) })
            #expect(grants == 1 && losses == 0 && lease.isHeld)
            lease.release {}
        }
    }
}
