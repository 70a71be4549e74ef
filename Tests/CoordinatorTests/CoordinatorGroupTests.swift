import Base
import Contracts
import Coordinator
import Glibc
import Net
import Placement
import Replication
import ServiceKit
import TestKit
import Testing

/// Three coordinators and their clients on one loop, over Unix sockets; each has a disk of its own.
private final class Trio {
    let loop: EventLoop
    let directory: String
    private(set) var nodes: [Int: PlacementNode] = [:]
    private let disks: [Int: SimulatedDisk]
    private let change: (inout PlacementNode.Settings) -> Void
    private var clients: [CoordinatorClient] = []
    var addresses: [SocketAddress] { (1...3).map { .unix(path: "\(directory)/\($0)") } }

    private init(_ directory: String, _ seed: UInt64, _ change: @escaping (inout PlacementNode.Settings) -> Void) throws
    {
        (self.directory, self.change) = (directory, change)
        loop = try EventLoop()
        disks = Dictionary(
            uniqueKeysWithValues: (1...3).map { ($0, SimulatedDisk(seed: seed &+ UInt64($0))) })
        for number in 1...3 { try start(number) }
    }

    func start(_ number: Int) throws {
        guard let disk = disks[number] else { return }
        var settings = PlacementNode.Settings(directory: "/coordinator")
        settings.group = try CoordinatorGroup(
            id: number, members: addresses.enumerated().map { "\($0.offset + 1)=\($0.element)" })
        settings.shardCount = 4
        // Longer than any test: however slow the machine, nobody's lease ends but by a mistake.
        settings.leaseMilliseconds = UInt64(2 * HangLimit.milliseconds)
        settings.segmentBytes = 64 << 10
        change(&settings)
        let node = try PlacementNode(
            settings, loop: loop, disk: disk, access: PlacementAccess(user: getuid(), isInsecure: false),
            logger: .silent)
        try node.server.listen(on: addresses[number - 1])
        nodes[number] = node
    }

    func kill(_ number: Int) { nodes.removeValue(forKey: number)?.close() }

    /// Who leads, as far as the rest agrees; nil in between.
    var leader: Int? {
        let leading = nodes.filter { $0.value.ledger.isLeading }
        return leading.count == 1 && nodes.values.allSatisfy { $0.readinessComplaint == nil } ? leading.first?.key : nil
    }

    /// Waits for one; by the time it is asked again, a machine that paused may have cost it its office.
    func awaitLeader() throws -> Int {
        var found: Int?
        _ = run { [self] in
            found = leader
            return found != nil
        }
        return try #require(found)
    }

    func coordinators() -> CoordinatorClient {
        let client = CoordinatorClient(loop: loop, addresses: addresses)
        clients.append(client)
        return client
    }

    func run(until condition: @escaping () -> Bool) -> Bool {
        var holds = false
        let poll = loop.schedule(afterMilliseconds: 2, repeating: true) { [loop] in
            holds = condition()
            if holds { loop.stop() }
        }
        let limit = loop.schedule(afterMilliseconds: HangLimit.milliseconds) { [loop] in loop.stop() }
        loop.run()
        poll.cancel()
        limit.cancel()
        return holds
    }

    /// Registers a node, however often it takes.
    func register(_ request: RegisterRequest) { register(request, coordinators()) }

    private func register(_ request: RegisterRequest, _ client: CoordinatorClient) {
        client.unary(path: PlacementPath.registerNode, request: request.encode()) { [self] result in
            guard case .failure = result else { return }
            loop.schedule(afterMilliseconds: 10) { [self] in register(request, client) }
        }
    }

    /// Everybody has applied the same.
    var isEven: Bool {
        let states = nodes.values.map(\.ledger.state)
        return states.allSatisfy { $0 == states.first } && leader != nil
    }

    static func with(
        seed: UInt64, _ change: @escaping (inout PlacementNode.Settings) -> Void = { _ in },
        _ test: (Trio) throws -> Void
    ) throws {
        var template = Array("/tmp/orbit-trio-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            for number in 1...3 { unlink("\(path)/\(number)") }
            rmdir(path)
        }
        let trio = try Trio(path, seed, change)
        defer {
            for client in trio.clients { client.close() }
            for number in trio.nodes.keys.sorted() { trio.kill(number) }
            trio.loop.runLater { trio.loop.stop() }
            trio.loop.run()
        }
        try test(trio)
    }
}

/// Asks for numbers one after the other, for ever; an unknown outcome may cost some.
private final class Allocator {
    private(set) var given: [UInt64] = []
    private let client: CoordinatorClient
    private var isOver = false

    init(_ client: CoordinatorClient) { self.client = client }

    func next() {
        guard !isOver else { return }
        let request = AllocateIDsRequest(kind: "test", count: 1).encode()
        client.unary(path: PlacementPath.allocateIDs, request: request, deadline: client.loop.now + 1_000_000_000) {
            [self] result in
            if case .success(let bytes) = result,
                let response = try? bytes.withUnsafeBytes({ try AllocateIDsResponse(decoding: $0) })
            {
                given.append(response.first)
            }
            client.loop.schedule(afterMilliseconds: 2) { [self] in next() }
        }
    }

    func stop() { isOver = true }
}

/// A call to one coordinator, with what it says of the leader.
private final class Question: GRPCStreamHandler {
    private(set) var status: GRPCStatus?
    private(set) var leader: String?
    private var stream: GRPCClientStream?

    init(_ channel: GRPCClientChannel, _ path: String, _ request: Bytes) {
        let stream = channel.open(path: path, handler: self)
        self.stream = stream
        stream.send { $0.append(request) }
        stream.end()
    }

    func received(_ message: ByteView) {}

    func closed(_ status: GRPCStatus) {
        leader = stream?.trailers.text(PlacementPath.leaderTrailer)
        self.status = status
    }
}

@Suite("Three coordinators", .serialized)
struct CoordinatorGroupTests {
    @Test("any of them may die: leases run on, numbers are given once, a watch misses nothing")
    func failOver() throws {
        try Trio.with(seed: 100) { trio in
            let lease = NodeLease(
                coordinators: trio.coordinators(),
                identity: try NodeIdentity.open("/n", disk: SimulatedDisk(seed: 9)), addresses: ["unix:/n"],
                logger: .silent)
            let watcher = PlacementWatcher(coordinators: trio.coordinators(), logger: .silent)
            let allocator = Allocator(trio.coordinators())
            var epochs: [UInt64] = []
            watcher.onChange = { epochs.append($0.epoch.rawValue) }
            lease.onLost = { Issue.record("lost: \($0)") }
            _ = try trio.awaitLeader()
            lease.start()
            watcher.start()
            allocator.next()
            #expect(trio.run { lease.isHeld && watcher.map?.isServed == true })
            let cluster = try #require(watcher.map?.cluster)
            var dead: Set<Int> = []
            for round in 1...6 {
                let leader = try trio.awaitLeader()
                dead.insert(leader)
                trio.kill(leader)
                let (before, last) = (allocator.given.count, try #require(epochs.last))
                lease.reportSoon()
                #expect(trio.run { trio.leader != nil && allocator.given.count > before }, "round \(round)")
                // A change that the new leader decides reaches those who watched the old one.
                let joins = RegisterRequest(
                    uid: Bytes(repeating: UInt8(round), count: 16), addresses: ["a:1"], incarnation: 1, cluster: cluster
                )
                trio.register(joins)
                #expect(trio.run { epochs.last ?? 0 > last }, "round \(round)")
                try trio.start(leader)
                #expect(trio.run { trio.nodes.count == 3 && trio.leader != nil })
            }
            allocator.stop()
            #expect(trio.run { trio.isEven })
            #expect(epochs == epochs.sorted() && Set(epochs).count == epochs.count)
            #expect(epochs.last == 8, "created, seven nodes")
            #expect(Set(allocator.given).count == allocator.given.count, "a number was given twice")
            #expect(lease.isHeld && watcher.map?.node(NodeID(rawValue: 1))?.fencingToken == 1)
            #expect(watcher.map?.nodes.allSatisfy { $0.state == .up } == true, "nobody is down for a fail-over")
            lease.release {}
            watcher.stop()
        }
    }

    @Test("who follows refuses everything and says who leads; who is asked to go hands over first")
    func directions() throws {
        try Trio.with(seed: 200) { trio in
            let leader = try trio.awaitLeader()
            let follower = leader % 3 + 1
            let channel = GRPCClientChannel(loop: trio.loop, address: trio.addresses[follower - 1])
            let paths = [
                PlacementPath.registerNode, PlacementPath.renewLease, PlacementPath.releaseLease, PlacementPath.watch,
                PlacementPath.allocateIDs, PlacementPath.describe, PlacementPath.drainNode, PlacementPath.activateNode,
                PlacementPath.rebalance,
            ]
            let questions = paths.map { Question(channel, $0, []) }
            #expect(trio.run { questions.allSatisfy { $0.status != nil } })
            for (path, question) in zip(paths, questions) {
                #expect(question.status?.code == .unavailable, "\(path)")
                #expect(question.leader == trio.addresses[leader - 1].description, "\(path)")
            }
            let direct = GRPCClientChannel(loop: trio.loop, address: trio.addresses[leader - 1])
            let watch = Question(direct, PlacementPath.watch, WatchRequest(knownEpoch: 0).encode())
            #expect(trio.run { trio.nodes[leader]?.service.watcherCount == 1 })
            var isDrained = false
            trio.nodes[leader]?.drain { isDrained = true }
            #expect(trio.run { watch.status != nil && isDrained })
            #expect(watch.status?.code == .unavailable)
            #expect(watch.leader != nil, "perhaps before it knew its successor")
            trio.kill(leader)
            #expect(trio.run { trio.leader != nil })
            channel.close()
            direct.close()
        }
    }

    @Test("one that lags behind the log goes on from the newest snapshot, and so does one that starts again")
    func lagging() throws {
        try Trio.with(
            seed: 300,
            {
                $0.snapshotInterval = 10
                $0.retainedBytes = 0
            }
        ) { trio in
            let leader = try trio.awaitLeader()
            let lagging = leader % 3 + 1
            trio.kill(lagging)
            let allocator = Allocator(trio.coordinators())
            allocator.next()
            #expect(trio.run { allocator.given.count > 300 })
            try trio.start(lagging)
            #expect(trio.run { trio.nodes[lagging]?.ledger.state.cluster != nil })
            allocator.stop()
            #expect(trio.run { trio.isEven })
            for number in 1...3 {
                trio.kill(number)
                try trio.start(number)
            }
            #expect(trio.run { trio.isEven })
            let count = allocator.given.count
            let more = Allocator(trio.coordinators())
            more.next()
            #expect(trio.run { more.given.count > 20 })
            more.stop()
            #expect(Set(allocator.given + more.given).count == count + more.given.count)
        }
    }

    @Test("the configuration names all coordinators, once and for ever")
    func configuration() throws {
        let three = ["1=unix:/a", "2=b:1", "3=c:1", "1=a:1"]
        let group = try CoordinatorGroup(id: 1, members: three)
        #expect(group.addresses[NodeID(rawValue: 1)]?.map(\.description) == ["unix:/a", "a:1"])
        #expect(try CoordinatorGroup(id: 1, members: []) == .alone)
        for (id, members) in [(4, three), (1, ["1=a:1"]), (1, ["1=a:1", "2=b:1"]), (1, ["a:1"]), (1, ["0=a:1"])] {
            #expect(throws: (any Error).self) { try CoordinatorGroup(id: id, members: members) }
        }
        let disk = SimulatedDisk(seed: 1)
        let loop = try EventLoop()
        func open(_ group: CoordinatorGroup) throws -> PlacementNode {
            var settings = PlacementNode.Settings(directory: "/c")
            settings.group = group
            settings.segmentBytes = 64 << 10
            return try PlacementNode(
                settings, loop: loop, disk: disk, access: PlacementAccess(user: 0, isInsecure: false), logger: .silent)
        }
        for _ in 1...2 {
            let alone = try open(.alone)
            let poll = loop.schedule(afterMilliseconds: 1, repeating: true) {
                if alone.ledger.publishedMap != nil { alone.drain { loop.stop() } }
            }
            loop.run()
            poll.cancel()
            #expect(throws: ConfigurationError.self, "its log is its own") { try open(group) }
        }
    }
}
