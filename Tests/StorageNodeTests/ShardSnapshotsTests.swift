import Base
import Glibc
import Net
import Peers
import Raft
import Replication
import ServiceKit
import Storage
import TestKit
import Testing

@testable import StorageNode

/// Snapshots from node to node: real stores, real disks, real streams.
@Suite("Shard snapshots", .serialized)
struct ShardSnapshotsTests {
    @Test("a shard reaches another node, and nothing is left behind")
    func travels() throws {
        try SnapshotStage.with { stage in
            let (leader, follower) = (try stage.start(1), try stage.start(2))
            let index = try leader.fill(2_000)
            _ = try follower.fill(10)
            var outcome: Bool?
            leader.send(to: follower) { outcome = $0 }
            #expect(stage.run { outcome != nil && !follower.installed.isEmpty })
            #expect(outcome == true && follower.installed == [true])
            #expect(follower.shard.appliedIndex == index && follower.shard.base?.index == index)
            #expect(try follower.content() == leader.content())
            #expect(stage.run { leader.snapshotFiles.isEmpty && follower.snapshotFiles.isEmpty })
            // It has everything now.
            outcome = nil
            leader.send(to: follower) { outcome = $0 }
            #expect(stage.run { outcome != nil } && outcome == false)
            #expect(stage.run { leader.snapshotFiles.isEmpty && follower.snapshotFiles.isEmpty })
        }
    }

    @Test("a transfer goes on over a new stream where the old one broke")
    func resumes() throws {
        try SnapshotStage.with { stage in
            let leader = try stage.start(1, rate: 1 << 20)
            let follower = try stage.start(2)
            _ = try leader.fill(2_000)
            var outcome: Bool?
            leader.send(to: follower) { outcome = $0 }
            #expect(stage.run { follower.snapshotFiles.contains { $0.hasSuffix("000001") } })
            follower.server.close()
            follower.server = try follower.serve()
            #expect(stage.run { outcome != nil && !follower.installed.isEmpty })
            #expect(outcome == true && follower.installed == [true])
            #expect(try follower.content() == leader.content())
        }
    }

    @Test("a disk without room refuses, on either side, and keeps nothing")
    func fullDisk() throws {
        try SnapshotStage.with { stage in
            let full = UInt64(1) << 60
            let (leader, follower) = (try stage.start(1), try stage.start(2, reserve: full))
            _ = try leader.fill(100)
            _ = try follower.fill(1)
            for (from, to) in [(leader, follower), (follower, leader)] {
                var outcome: Bool?
                from.send(to: to) { outcome = $0 }
                #expect(stage.run { outcome != nil } && outcome == false)
            }
            #expect(stage.run { leader.snapshotFiles.isEmpty && follower.snapshotFiles.isEmpty })
            #expect(leader.installed.isEmpty && follower.installed.isEmpty)
        }
    }

    @Test("no more transfers at once than the limit, and none to a stranger")
    func limits() throws {
        try SnapshotStage.with { stage in
            let leader = try stage.start(1, rate: 1 << 20)
            let followers = [try stage.start(2), try stage.start(3), try stage.start(4)]
            _ = try leader.fill(1_000)
            var outcomes: [Int: Bool] = [:]
            for (number, follower) in followers.enumerated() { leader.send(to: follower) { outcomes[number] = $0 } }
            leader.links.sendSnapshot(of: leader.shard.shard, to: NodeID(rawValue: 9), message: leader.message) {
                outcomes[3] = $0
            }
            #expect(stage.run { outcomes.count >= 2 })
            #expect(outcomes[2] == false && outcomes[3] == false)
            #expect(stage.run { outcomes.count == 4 && followers.prefix(2).allSatisfy { $0.installed == [true] } })
            #expect(outcomes[0] == true && outcomes[1] == true)
            for follower in followers.prefix(2) { #expect(try follower.content() == leader.content()) }
        }
    }

    /// Two would take the follower's inbox from each other, part by part, and get nowhere.
    @Test("one transfer of a shard to a node at a time, the one of the newest term")
    func again() throws {
        try SnapshotStage.with { stage in
            let leader = try stage.start(1, rate: 1 << 20)
            let follower = try stage.start(2)
            _ = try leader.fill(1_000)
            var outcomes: [Int: Bool] = [:]
            leader.send(to: follower) { outcomes[0] = $0 }
            leader.send(to: follower) { outcomes[1] = $0 }
            #expect(stage.run { outcomes[1] == false && !follower.snapshotFiles.isEmpty })
            leader.send(to: follower) { outcomes[2] = $0 }
            #expect(stage.run { outcomes[2] == false } && outcomes[0] == nil)
            leader.term = Term(rawValue: 5)
            leader.send(to: follower) { outcomes[3] = $0 }
            #expect(stage.run { outcomes.count == 4 && !follower.installed.isEmpty })
            #expect(outcomes[0] == false && outcomes[3] == true && follower.installed == [true])
            #expect(try follower.content() == leader.content())
        }
    }

    @Test("a shard's keys are those of its buckets and its clock's bound")
    func ranges() {
        let ranges = ShardSnapshots.ranges(of: ShardID(rawValue: 1), buckets: [0..<3, 255..<257])
        #expect(
            ranges == [
                KeyRange(from: [0, 0], to: [0, 3]), KeyRange(from: [0, 255], to: [1, 1]),
                KeyRange(
                    from: [0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 1], to: [0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 1, 0]),
            ])
    }
}

/// A node as far as snapshots concern it.
private final class SnapshotSite: PeerReceiver {
    let stage: SnapshotStage
    let node: NodeID
    let store: RocksDBStore
    let shard: ShardStore
    let snapshots: ShardSnapshots
    let peers: PeerLinks
    let links: SnapshotLinks
    var server: GRPCServer
    /// Of the messages that it sends.
    var term = Term(rawValue: 4)
    private(set) var installed: [Bool] = []

    init(_ number: UInt32, _ stage: SnapshotStage, rate: UInt64, reserve: UInt64) throws {
        (self.stage, node) = (stage, NodeID(rawValue: number))
        store = try RocksDBStore(directory: "\(stage.directory)/store-\(number)")
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
        self.shard = shard
        let area = SnapshotArea(PosixDisk(), path: "\(stage.directory)/snapshots-\(number)", reserve: reserve)
        var limits = ShardSnapshots.Limits()
        (limits.fileBytes, limits.step) = (100_000, 50_000)
        let ranges = ShardSnapshots.ranges(of: shard.shard, buckets: [0..<64])
        snapshots = ShardSnapshots(
            loop: stage.loop, workers: stage.workers, area: area, limits: limits, logger: .silent
        ) { $0 == shard.shard ? .init(store: shard, ranges: ranges) : nil }
        var settings = PeerSettings(role: "storage-node", user: getuid())
        settings.attemptMilliseconds = HangLimit.milliseconds
        let clock = SystemClock()
        peers = PeerLinks(
            loop: stage.loop, settings: settings, tls: nil,
            clock: {
                HLC.Sample(
                    wallMilliseconds: clock.wallMilliseconds(), monotonicNanoseconds: clock.monotonicNanoseconds())
            }, logger: .silent, metrics: Metrics())
        var transfer = SnapshotLinks.Limits()
        transfer.sender = SnapshotSender.Limits(rate: rate)
        transfer.sender.chunk = 16 << 10
        transfer.backOffMilliseconds = 10
        var random = SplitMix64(seed: UInt64(number))
        links = SnapshotLinks(
            peers: peers, staging: snapshots, limits: transfer, logger: .silent, random: &random)
        server = GRPCServer(loop: stage.loop)
        snapshots.onConsumed = { [unowned self] in links.consumed($0) }
        peers.receiver = self
        server = try serve()
        peers.update(
            (1...4).map {
                PeerLinks.Peer(
                    node: NodeID(rawValue: $0), uid: Bytes(repeating: UInt8($0), count: 16),
                    addresses: [stage.address($0)])
            })
        peers.join(
            as: .init(node: node, uid: Bytes(repeating: UInt8(number), count: 16), incarnation: 1, cluster: 7))
    }

    func serve() throws -> GRPCServer {
        unlink("\(stage.directory)/\(node)")
        let server = GRPCServer(loop: stage.loop)
        peers.register(on: server)
        links.register(on: server)
        try server.listen(on: stage.address(node.rawValue))
        return server
    }

    /// Entries of about a kilobyte.
    func fill(_ entries: Int) throws -> LogIndex {
        var random = SplitMix64(seed: UInt64(node.rawValue))
        for _ in 0..<entries {
            var batch = WriteBatch()
            let key: Bytes = [0, UInt8(random.next(below: 64))] + random.bytes(8)
            batch.put(key, random.bytes(1000))
            try shard.apply(batch.effects, index: LogIndex(rawValue: shard.appliedIndex.rawValue + 1))
        }
        try shard.flush()
        return shard.appliedIndex
    }

    func content() throws -> [Bytes: Bytes] {
        var found: [Bytes: Bytes] = [:]
        let iterator = try store.scan(from: [], to: [0xff])
        while iterator.isValid {
            found[iterator.key.bytes] = iterator.value.bytes
            iterator.next()
        }
        try iterator.check()
        return found
    }

    func message(_ index: LogIndex) -> Message? {
        let metadata = SnapshotMetadata(
            last: EntryID(term: Term(rawValue: 3), index: index), membership: Membership(voters: [node]))
        return Message(from: node, to: node, term: term, body: .snapshot(metadata))
    }

    func send(to peer: SnapshotSite, _ completion: @escaping (Bool) -> Void) {
        links.sendSnapshot(of: shard.shard, to: peer.node, message: message, completion: completion)
    }

    /// Paths below the node's directory of snapshots.
    var snapshotFiles: [String] {
        let disk = PosixDisk()
        let root = "\(stage.directory)/snapshots-\(node)"
        return ((try? disk.list(root)) ?? []).flatMap { name in
            [name] + ((try? disk.list("\(root)/\(name)")) ?? []).map { "\(name)/\($0)" }
        }
    }

    func received(_ message: Message, of shard: ShardID, payload: ByteView) {
        guard case .snapshot(let metadata) = message.body else { return }
        #expect(message.term >= Term(rawValue: 4) && message.to == node && message.from != node)
        // As a group does: one that is applied already is of no use.
        guard metadata.last.index > self.shard.appliedIndex, !self.shard.isInstalling else { return }
        snapshots.installSnapshot(metadata, of: shard) { [self] in installed.append($0) }
    }

    func unreachable(_ peer: NodeID) {}
    func peerUp(_ peer: NodeID) {}
    func peerDown(_ peer: NodeID) {}

    func close() {
        links.close()
        peers.close()
        server.close()
    }
}

/// Two nodes on one loop, which the test's thread runs.
private final class SnapshotStage {
    let loop: EventLoop
    let workers = WorkerPool(threads: 2)
    let directory: String
    private var sites: [SnapshotSite] = []

    private init(_ directory: String) throws {
        self.directory = directory
        loop = try EventLoop()
    }

    func address(_ number: UInt32) -> SocketAddress { .unix(path: "\(directory)/\(number)") }

    func start(_ number: UInt32, rate: UInt64 = 0, reserve: UInt64 = 0) throws -> SnapshotSite {
        let site = try SnapshotSite(number, self, rate: rate, reserve: reserve)
        sites.append(site)
        return site
    }

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
        for site in sites { site.close() }
        loop.runLater { [loop] in loop.stop() }
        loop.run()
        workers.close()
        for site in sites { site.store.close() }
        sites = []
    }

    static func with(_ test: (SnapshotStage) throws -> Void) throws {
        var template = Array("/tmp/orbit-snapshots-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { remove(path) }
        let stage = try SnapshotStage(path)
        defer { stage.finish() }
        try test(stage)
    }

    private static func remove(_ path: String) {
        let disk = PosixDisk()
        for name in (try? disk.list(path)) ?? [] { remove("\(path)/\(name)") }
        try? disk.remove(path)
    }
}
