import Base
import Placement
import TestKit
import Testing

private let shard0 = ShardID(rawValue: 0)

@Suite("Replicas in the placement state")
struct ReplicaStateTests {
    private let nodes = (1...4).map { NodeID(rawValue: UInt32($0)) }

    /// A cluster of `nodes` nodes and two shards, whose nodes can keep `limit` replicas of a shard.
    private func cluster(_ count: Int, limit: Int = 16, zones: [String] = []) throws -> PlacementState {
        var state = PlacementState()
        _ = try state.apply(.createCluster(id: 1, bucketCount: 64, shardCount: 2, nodeCount: count))
        _ = try state.apply(.allowReplicas(limit))
        for index in 0..<count { try register(&state, index, zone: zones.isEmpty ? "" : zones[index % zones.count]) }
        return state
    }

    private func register(
        _ state: inout PlacementState, _ index: Int, incarnation: UInt64 = 1, zone: String = "", name: String = ""
    ) throws {
        _ = try state.apply(
            .registerNode(
                NodeRegistration(
                    uid: NodeUID(high: 0, low: UInt64(index)), addresses: ["a:\(index)"], incarnation: incarnation,
                    zone: zone, certificateName: name)))
    }

    private func report(
        _ state: inout PlacementState, _ leader: NodeID, term: UInt64, version: UInt64, shard: ShardID = shard0
    ) throws {
        _ = try state.apply(
            .reportLeaders([
                LeaderReport(shard: shard, leader: leader, term: Term(rawValue: term), version: version)
            ]))
    }

    @Test("the share-out gives a shard as many replicas as are asked for and possible, in different zones")
    func shareOut() throws {
        #expect(try cluster(3, limit: 1).map?.shards.map(\.voters.count) == [1, 1])
        let map = try #require(try cluster(4, zones: ["a", "a", "b", "c"]).map)
        for shard in map.shards {
            #expect(shard.voters.count == 3 && shard.leader == nil && !shard.isInForce && shard.version == 1)
            #expect(Set(shard.voters.compactMap { map.node($0)?.zone }).count == 3)
        }
        #expect(try cluster(2).map?.shards.map(\.voters.count) == [2, 2])
    }

    @Test("a leader's report counts by its term, and a lower one never undoes a higher")
    func terms() throws {
        var state = try cluster(3)
        func shard() throws -> ShardMap.Shard { try #require(state.map?.shard(shard0)) }
        try report(&state, nodes[0], term: 5, version: 0)
        #expect(try shard().leader == nodes[0] && !shard().isInForce)
        try report(&state, nodes[0], term: 5, version: 1)
        #expect(try shard().isInForce)
        let epoch = state.map?.epoch
        try report(&state, nodes[1], term: 4, version: 1)
        try report(&state, nodes[1], term: 5, version: 1)
        try report(&state, nodes[3], term: 9, version: 1)
        try report(&state, nodes[1], term: 9, version: 2)
        #expect(try shard().leader == nodes[0] && state.map?.epoch == epoch)
        try report(&state, nodes[1], term: 6, version: 0)
        #expect(try shard().leader == nodes[1] && shard().term == Term(rawValue: 6) && shard().isInForce)
        #expect(!state.isNews(LeaderReport(shard: shard0, leader: nodes[1], term: Term(rawValue: 6), version: 1)))
        #expect(state.isNews(LeaderReport(shard: shard0, leader: nodes[2], term: Term(rawValue: 7), version: 1)))
    }

    @Test("a planned step waits for the one before, and the leader is not taken away")
    func steps() throws {
        var state = try cluster(3)
        try register(&state, 3)
        #expect(throws: DatabaseError.self) { try state.apply(.move(.addReplica(shard0, nodes[3], replacing: nil))) }
        try report(&state, nodes[0], term: 1, version: 1)
        _ = try state.apply(.move(.addReplica(shard0, nodes[3], replacing: nodes[0])))
        #expect(throws: DatabaseError.self) { try state.apply(.move(.promote(shard0, nodes[3], replacing: nodes[0]))) }
        try report(&state, nodes[0], term: 1, version: 2)
        #expect(throws: DatabaseError.self) { try state.apply(.move(.promote(shard0, nodes[3], replacing: nodes[0]))) }
        _ = try state.apply(.move(.transferLeader(shard0, to: nodes[1])))
        #expect(state.map?.shard(shard0)?.membership.transfer == nodes[1])
        try report(&state, nodes[1], term: 2, version: 2)
        #expect(state.map?.shard(shard0)?.membership.transfer == nil)
        _ = try state.apply(.move(.promote(shard0, nodes[3], replacing: nodes[0])))
        let shard = try #require(state.map?.shard(shard0))
        #expect(Set(shard.voters) == [nodes[1], nodes[2], nodes[3]] && shard.version == 3)
        #expect(throws: DatabaseError.self) { try state.apply(.move(.removeReplica(shard0, nodes[1]))) }
    }

    @Test("while nodes keep one replica nothing moves, and a drain says so; it goes where it can")
    func drain() throws {
        var single = try cluster(2, limit: 1)
        #expect(throws: DatabaseError.self) { try single.apply(.move(.addReplica(shard0, nodes[1], replacing: nil))) }
        do throws(DatabaseError) {
            _ = try single.apply(.setDraining(nodes[0], true))
            Issue.record("drained")
        } catch { #expect(error.code == .featureNotSupported) }
        try register(&single, 2)
        _ = try single.apply(.setDraining(nodes[2], true))  // It holds nothing.
        var lonely = try cluster(1)
        do throws(DatabaseError) {
            _ = try lonely.apply(.setDraining(nodes[0], true))
            Issue.record("drained")
        } catch { #expect(error.code == .busy) }
        var state = try cluster(3)
        _ = try state.apply(.setDraining(nodes[0], true))
        try register(&state, 0, incarnation: 2)
        #expect(state.map?.node(nodes[0])?.isDraining == true)
        _ = try state.apply(.setDraining(nodes[0], false))
        #expect(state.map?.node(nodes[0])?.isDraining == false)
    }

    @Test("a certificate is one node's")
    func certificates() throws {
        var state = try cluster(1)
        try register(&state, 0, incarnation: 2, name: "n1")
        #expect(throws: DatabaseError.self) { try register(&state, 0, incarnation: 3, name: "n2") }
        #expect(throws: DatabaseError.self) { try register(&state, 1, name: "n1") }
        try register(&state, 0, incarnation: 3)
        try register(&state, 0, incarnation: 4, name: "n1")
        try register(&state, 1, name: "n2")
        #expect(state.isCertificate("n1", of: nodes[0]) && state.isCertificate("", of: nodes[0]))
        #expect(!state.isCertificate("n2", of: nodes[0]) && state.isCertificate("n2", of: nodes[1]))
        // A directory that was lost: its node is down, and a new one may come with its certificate.
        let token = try #require(state.map?.node(nodes[1])?.fencingToken)
        _ = try state.apply(.expireLease(node: nodes[1], fencingToken: token))
        try register(&state, 2, name: "n2")
    }

    @Test("entries of format 1 are still read")
    func format1() throws {
        var entry = ByteBuffer()
        for byte in [1, 2] as [UInt8] { entry.append(byte) }
        entry.append(NodeUID(high: 7, low: 8).bytes)
        entry.append(littleEndian: 3 as UInt64)
        entry.append(varint: 1)
        entry.append(varint: 3)
        entry.append(text: "a:1")
        let command = try PlacementCommand(decoding: entry.readable)
        #expect(command == .registerNode(uid: NodeUID(high: 7, low: 8), addresses: ["a:1"], incarnation: 3))
        var snapshot = ByteBuffer()
        for byte in [1, 6] as [UInt8] { snapshot.append(byte) }
        snapshot.append(littleEndian: 5 as UInt64)  // Cluster; then buckets, nodes at first, epoch, node, token.
        for count in [2, 1] as [UInt64] { snapshot.append(varint: count) }
        snapshot.append(littleEndian: 4 as UInt64)
        snapshot.append(littleEndian: 1 as UInt32)
        snapshot.append(littleEndian: 1 as UInt64)
        snapshot.append(varint: 1)  // One node.
        snapshot.append(littleEndian: 1 as UInt32)
        snapshot.append(NodeUID(high: 7, low: 8).bytes)
        for number in [3, 1] as [UInt64] { snapshot.append(littleEndian: number) }
        snapshot.append(1 as UInt8)
        snapshot.append(varint: 1)
        snapshot.append(varint: 3)
        snapshot.append(text: "a:1")
        snapshot.append(varint: 1)  // One shard: id, leader, replicas, buckets.
        for number in [0, 1] as [UInt32] { snapshot.append(littleEndian: number) }
        snapshot.append(varint: 1)
        snapshot.append(littleEndian: 1 as UInt32)
        for number in [1, 0, 2, 0] as [UInt64] { snapshot.append(varint: number) }
        guard case .snapshot(let state) = try PlacementCommand(decoding: snapshot.readable) else {
            Issue.record("no snapshot")
            return
        }
        let shard = try #require(state.map?.shards.first)
        #expect(shard.leader == nodes[0] && shard.voters == [nodes[0]] && shard.isInForce && shard.version == 1)
        #expect(state.settings == PlacementSettings() && state.replicaLimit == 1)
    }

    @Test("entries that are cut or damaged in any way are refused or harmless")
    func damaged() throws {
        let seed = freshSeed("replica commands")
        var random = SplitMix64(seed: seed)
        var state = try cluster(3)
        try report(&state, nodes[0], term: 1, version: 1)
        try register(&state, 3, zone: "z", name: "n4")
        _ = try state.apply(.move(.addReplica(shard0, nodes[3], replacing: nodes[1])))
        for command in [.snapshot(state), .move(.promote(shard0, nodes[3], replacing: nodes[1]))] as [PlacementCommand]
        {
            var entry = ByteBuffer()
            command.encode(into: &entry)
            let bytes = entry.readable.bytes
            for cut in Damage.truncations(of: bytes) {
                #expect(throws: DatabaseError.self) { try cut.withUnsafeBytes { try PlacementCommand(decoding: $0) } }
            }
            for damaged in Damage.corruptions(of: bytes, count: 2000, using: &random) {
                guard let read = try? damaged.withUnsafeBytes({ try PlacementCommand(decoding: $0) }) else { continue }
                var copy = state
                _ = try? copy.apply(read)
                _ = copy.map
                _ = PlacementPlanner.plan(
                    nodes: copy.plannedNodes { _ in 0 }, shards: copy.plannedShards(ReplicaReports()),
                    settings: copy.settings)
            }
        }
    }

    @Test("a copy is complete when it has what the leader had committed a report ago")
    func caughtUp() {
        var reports = ReplicaReports()
        func say(_ node: NodeID, term: UInt64 = 1, isLeader: Bool = false, applied: UInt64, committed: UInt64 = 0) {
            reports.take(
                [
                    ReplicaReport(
                        shard: shard0, term: Term(rawValue: term), isLeader: isLeader, version: 1,
                        applied: LogIndex(rawValue: applied), committed: LogIndex(rawValue: committed), bytes: 1,
                        rate: 1)
                ], from: node)
        }
        func isCaughtUp() -> Bool { reports.isCaughtUp(nodes[1], shard0, leader: nodes[0]) }
        say(nodes[0], isLeader: true, applied: 100, committed: 100)
        say(nodes[1], applied: 100)
        #expect(!isCaughtUp())
        say(nodes[0], isLeader: true, applied: 200, committed: 200)
        #expect(isCaughtUp())
        say(nodes[0], isLeader: true, applied: 300, committed: 300)
        #expect(!isCaughtUp())
        say(nodes[1], applied: 250)
        #expect(isCaughtUp())
        say(nodes[0], term: 2, isLeader: true, applied: 300, committed: 300)
        #expect(!isCaughtUp())
        reports.forget(nodes[0])
        #expect(!isCaughtUp() && reports[shard0, nodes[0]] == nil && reports.all.count == 1)
    }
}
