import Base
import Contracts
import Coordinator
import Glibc
import Net
import Placement
import ServiceKit
import TestKit
import Testing

/// A coordinator and its clients on one loop, which the test's thread runs until the story is told.
final class Stage {
    let loop: EventLoop
    let disk: SimulatedDisk
    let directory: String
    private(set) var node: PlacementNode
    private var isDone = false
    private var keep: [AnyObject] = []
    var socket: SocketAddress { .unix(path: "\(directory)/c") }

    init(
        disk: SimulatedDisk, directory: String, leaseMilliseconds: UInt64 = 60_000, user: UInt32 = getuid(),
        supportedReplicas: Int = 1, nodes: Int = 1
    ) throws {
        self.disk = disk
        self.directory = directory
        loop = try EventLoop()
        var settings = PlacementNode.Settings(directory: "/coordinator")
        settings.shardCount = 4
        settings.leaseMilliseconds = leaseMilliseconds
        settings.supportedReplicas = supportedReplicas
        settings.nodeCount = nodes
        settings.segmentBytes = 1 << 20
        node = try PlacementNode(
            settings, loop: loop, disk: disk, access: PlacementAccess(user: user, isInsecure: false), logger: .silent)
        try node.server.listen(on: socket)
    }

    func channel() -> GRPCClientChannel {
        let channel = GRPCClientChannel(loop: loop, address: socket)
        keep.append(channel)
        return channel
    }

    private func coordinators() -> CoordinatorClient {
        let client = CoordinatorClient(loop: loop, addresses: [socket])
        keep.append(client)
        return client
    }

    func watcher() -> PlacementWatcher {
        let watcher = PlacementWatcher(coordinators: coordinators(), logger: .silent)
        keep.append(watcher)
        return watcher
    }

    func lease(_ name: String, _ identity: NodeIdentity) -> NodeLease {
        let lease = NodeLease(
            coordinators: coordinators(), identity: identity, addresses: ["unix:/\(name)"], logger: .silent)
        keep.append(lease)
        return lease
    }

    func identity(_ name: String) throws -> NodeIdentity { try NodeIdentity.open("/\(name)", disk: disk) }

    /// Runs until `finish`; the timer only ends a test that would hang.
    func run(_ begin: () -> Void) {
        loop.schedule(afterMilliseconds: HangLimit.milliseconds) { [self] in loop.stop() }
        begin()
        loop.run()
        #expect(isDone, "the story did not come to its end")
    }

    /// Closes everything as SIGTERM does, then ends the run.
    func finish() {
        isDone = true
        for case let watcher as PlacementWatcher in keep { watcher.stop() }
        for case let client as CoordinatorClient in keep { client.close() }
        for case let channel as GRPCClientChannel in keep { channel.close() }
        node.drain { [self] in loop.stop() }
    }

    /// A directory for a socket, removed afterwards.
    static func with(_ test: (String) throws -> Void) throws {
        var template = Array("/tmp/orbit-placement-XXXXXX".utf8CString)
        let made = try #require(mkdtemp(&template)).pointee
        _ = made
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            unlink("\(path)/c")
            rmdir(path)
        }
        try test(path)
    }
}

private func decode<Value>(
    _ bytes: Bytes, _ read: (ByteView) throws(DatabaseError) -> Value
) -> Value? {
    try? bytes.withUnsafeBytes { view in try read(view) }
}

@Suite("PlacementService", .serialized)
struct PlacementServiceTests {
    @Test("a node registers, everybody sees it, it leaves, and a restart knows it all")
    func story() throws {
        try Stage.with { directory in
            let disk = SimulatedDisk(seed: 1)
            var cluster: UInt64 = 0
            var first: NodeLease.Grant?
            let stage = try Stage(disk: disk, directory: directory)
            let watcher = stage.watcher()
            let lease = stage.lease("n1", try stage.identity("n1"))
            var epochs: [UInt64] = []
            var described: DescribeResponse?
            stage.run {
                watcher.onChange = { map in
                    epochs.append(map.epoch.rawValue)
                    cluster = map.cluster
                    if map.isServed, first != nil {
                        stage.channel().unary(path: PlacementPath.describe, request: []) { result in
                            described = (try? result.get()).flatMap {
                                decode($0) { view throws(DatabaseError) in try DescribeResponse(decoding: view) }
                            }
                            lease.release {}
                        }
                    } else if map.nodes.first?.state == .down {
                        stage.finish()
                    }
                }
                lease.onGranted = { grant, map in
                    first = grant
                    #expect(map?.nodes.map(\.id) == [grant.node.rawValue])
                }
                // The watcher begins when there is a grant, so that the order of events is one.
                lease.start()
                stage.loop.schedule(afterMilliseconds: 1, repeating: true) {
                    if first != nil { watcher.start() }
                }
            }
            #expect(epochs == [2, 3])
            #expect(first?.node == NodeID(rawValue: 1) && first?.fencingToken == 1 && first?.cluster == cluster)
            #expect(described?.leases.map(\.node) == [1])
            #expect(described?.map?.shards.allSatisfy { $0.leader == 1 } == true)
            #expect(described?.logIndex == 3)  // The first entry is Raft's own.
            #expect(described?.watchers == 1)

            let again = try Stage(disk: disk, directory: directory)
            let returning = again.lease("n1", try again.identity("n1"))
            var second: NodeLease.Grant?
            again.run {
                returning.onGranted = { grant, _ in
                    second = grant
                    again.finish()
                }
                returning.start()
            }
            #expect(second?.node == NodeID(rawValue: 1) && second?.fencingToken == 2 && second?.cluster == cluster)
        }
    }

    @Test("a node that falls silent is down when its lease ends, and its shards have no leader")
    func silence() throws {
        try Stage.with { directory in
            let stage = try Stage(disk: SimulatedDisk(seed: 2), directory: directory, leaseMilliseconds: 300)
            let watcher = stage.watcher()
            var wasServed = false, isRegistered = false
            let request = RegisterRequest(uid: Bytes(0..<16), addresses: ["a:1"], incarnation: 1, cluster: 0)
            stage.run {
                watcher.onChange = { map in
                    if !isRegistered {
                        // Now that the watcher sees what follows.
                        isRegistered = true
                        stage.channel().unary(path: PlacementPath.registerNode, request: request.encode()) { _ in }
                    }
                    if map.isServed { wasServed = true }
                    if map.nodes.first?.state == .down {
                        #expect(wasServed)
                        #expect(RoutingTable(map)[slot: 0].leader == nil)
                        stage.finish()
                    }
                }
                watcher.start()
            }
        }
    }

    @Test("a renewed lease does not end")
    func renewal() throws {
        // A machine that lets the loop wait for too long proves nothing: again, with a longer lease.
        for lease in [2_500, 10_000, 40_000] where try isRenewed(lease) { return }
        print("placement: this machine is too slow to renew a lease of 40 s in time")
    }

    /// Whether a lease of that length is kept for more than twice as long. A loss is recorded where the loop ran, and
    /// makes this false where it stood still for so long that the lease may rightly have ended.
    private func isRenewed(_ milliseconds: Int) throws -> Bool {
        var grants = 0, losses: [NodeLease.Loss] = [], longest: UInt64 = 0
        try Stage.with { directory in
            let stage = try Stage(
                disk: SimulatedDisk(seed: 3), directory: directory, leaseMilliseconds: UInt64(milliseconds))
            let lease = stage.lease("n1", try stage.identity("n1"))
            var last = stage.loop.now
            stage.loop.schedule(afterMilliseconds: 20, repeating: true) {
                longest = max(longest, stage.loop.now - last)
                last = stage.loop.now
            }
            stage.run {
                lease.onGranted = { _, _ in
                    grants += 1
                    guard grants == 1 else { return }
                    // Only the calls in between keep it.
                    stage.loop.schedule(afterMilliseconds: milliseconds * 12 / 5) {
                        #expect(lease.isHeld || !losses.isEmpty)
                        lease.release { stage.finish() }
                    }
                }
                lease.onLost = { losses.append($0) }
                lease.start()
            }
            #expect(!lease.isHeld)
        }
        if !losses.isEmpty, longest > UInt64(milliseconds) * 1_000_000 / 12 { return false }
        #expect(losses.isEmpty && grants == 1, "lost: \(losses)")
        return true
    }

    @Test("a life that is over is told so at its next renewal and never comes back")
    func fencing() throws {
        try Stage.with { directory in
            let stage = try Stage(
                disk: SimulatedDisk(seed: 4), directory: directory,
                leaseMilliseconds: UInt64(2 * HangLimit.milliseconds))
            let old = stage.lease("n1", try stage.identity("n1"))
            let new = stage.lease("n1", try stage.identity("n1"))
            var losses: [NodeLease.Loss] = []
            var tokens: [UInt64] = []
            stage.run {
                old.onGranted = { grant, _ in
                    tokens.append(grant.fencingToken)
                    new.start()
                }
                new.onGranted = { grant, _ in
                    tokens.append(grant.fencingToken)
                    old.reportSoon()  // Its next renewal.
                }
                old.onLost = { loss in
                    losses.append(loss)
                    if case .refused = loss { stage.finish() }
                }
                old.start()
            }
            #expect(tokens == [1, 2])
            #expect(losses.count == 2)
            if case .revoked? = losses.first {} else { Issue.record("\(losses)") }
        }
    }

    @Test("refuses another user, another cluster, nonsense, and unknown leases")
    func refusals() throws {
        try Stage.with { directory in
            let stage = try Stage(disk: SimulatedDisk(seed: 5), directory: directory)
            let good = RegisterRequest(uid: Bytes(0..<16), addresses: ["a:1"], incarnation: 1, cluster: 0)
            var (short, foreign, homeless, badAddress) = (good, good, good, good)
            short.uid = [1]
            foreign.cluster = 12345
            homeless.addresses = []
            badAddress.addresses = ["nowhere"]
            let calls: [(String, Bytes, GRPCStatus.Code)] = [
                (PlacementPath.registerNode, short.encode(), .invalidArgument),
                (PlacementPath.registerNode, foreign.encode(), .failedPrecondition),
                (PlacementPath.registerNode, homeless.encode(), .invalidArgument),
                (PlacementPath.registerNode, badAddress.encode(), .invalidArgument),
                (PlacementPath.registerNode, [0xff, 0xff, 0xff], .invalidArgument),
                (PlacementPath.renewLease, RenewRequest(node: 9, fencingToken: 1).encode(), .failedPrecondition),
                (PlacementPath.releaseLease, ReleaseRequest(node: 9, fencingToken: 1).encode(), .failedPrecondition),
                (PlacementPath.allocateIDs, AllocateIDsRequest(kind: "", count: 1).encode(), .invalidArgument),
                (PlacementPath.allocateIDs, AllocateIDsRequest(kind: "x", count: 0).encode(), .invalidArgument),
                ("/orbit.v1.PlacementService/Nothing", [], .unimplemented),
            ]
            var answers = [GRPCStatus.Code?](repeating: nil, count: calls.count)
            var left = calls.count
            stage.run {
                let channel = stage.channel()
                for (index, call) in calls.enumerated() {
                    channel.unary(path: call.0, request: call.1) { result in
                        if case .failure(let status) = result { answers[index] = status.code }
                        left -= 1
                        if left == 0 { stage.finish() }
                    }
                }
            }
            #expect(answers == calls.map(\.2))
        }
        try Stage.with { directory in
            let stage = try Stage(disk: SimulatedDisk(seed: 6), directory: directory, user: getuid() &+ 1)
            var code: GRPCStatus.Code?
            stage.run {
                stage.channel().unary(path: PlacementPath.describe, request: []) { result in
                    if case .failure(let status) = result { code = status.code }
                    stage.finish()
                }
            }
            #expect(code == .permissionDenied)
        }
    }
}
