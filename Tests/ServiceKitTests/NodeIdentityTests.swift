import Base
import Contracts
import Placement
import ServiceKit
import TestKit
import Testing

@Suite("NodeIdentity")
struct NodeIdentityTests {
    @Test("keeps its uid, counts starts, and survives power loss at any moment", arguments: 1...30)
    func survives(_ seed: UInt64) throws {
        let disk = SimulatedDisk(seed: seed)
        var uid: NodeUID?
        var incarnation: UInt64 = 0
        for _ in 0..<5 {
            let identity = try NodeIdentity.open("/data/node", disk: disk, random: SplitMix64(seed: seed))
            if let uid { #expect(identity.uid == uid) }
            uid = identity.uid
            #expect(identity.incarnation > incarnation, "seed \(seed)")
            incarnation = identity.incarnation
            disk.losePower(afterChanges: Int(seed % 7))
            _ = try? NodeIdentity.open("/data/node", disk: disk)
            disk.crash()
        }
    }

    @Test("joins one cluster, for ever")
    func cluster() throws {
        let disk = SimulatedDisk(seed: 1)
        var identity = try NodeIdentity.open("/n", disk: disk)
        let node = NodeID(rawValue: 3)
        #expect(identity.cluster == 0 && identity.node == nil)
        #expect(NodeIdentity.lastNode("/n", disk: disk) == nil && NodeIdentity.lastNode("/m", disk: disk) == nil)
        try identity.join(7, as: node, "/n", disk: disk)
        try identity.join(7, as: node, "/n", disk: disk)
        #expect(throws: DatabaseError.self) { try identity.join(8, as: node, "/n", disk: disk) }
        #expect(NodeIdentity.lastNode("/n", disk: disk) == node)
        identity = try NodeIdentity.open("/n", disk: disk)
        #expect(identity.cluster == 7 && identity.node == node)
        // A directory of before the number was written down has none, until it joins again.
        let text = Bytes("uid = \(identity.uid)\nincarnation = 4\ncluster = 7\n".utf8)
        try text.withUnsafeBytes { try disk.replace("/n/identity", with: $0) }
        identity = try NodeIdentity.open("/n", disk: disk)
        #expect(identity.node == nil && identity.incarnation == 5)
        try identity.join(7, as: node, "/n", disk: disk)
        #expect(NodeIdentity.lastNode("/n", disk: disk) == node)
    }

    @Test("refuses a file that is damaged")
    func damaged() throws {
        let disk = SimulatedDisk(seed: 1)
        _ = try NodeIdentity.open("/n", disk: disk)
        for text in ["", "uid = 1\n", "uid\n", "uid = x\nincarnation = 1\ncluster = 0\n"] {
            try Bytes(text.utf8).withUnsafeBytes { try disk.replace("/n/identity", with: $0) }
            #expect(throws: DatabaseError.self, "\(text)") { try NodeIdentity.open("/n", disk: disk) }
        }
    }
}

@Suite("Shard maps on the wire")
struct ShardMapConversionTests {
    @Test("come back as they were, and contradictions are refused")
    func roundTrip() throws {
        var state = PlacementState()
        _ = try state.apply(.createCluster(id: 3, bucketCount: 64, shardCount: 5, nodeCount: 2))
        for low in 1...3 as ClosedRange<UInt64> {
            _ = try state.apply(
                .registerNode(uid: NodeUID(high: 1, low: low), addresses: ["a:1", "unix:/b"], incarnation: 1))
        }
        _ = try state.apply(.expireLease(node: NodeID(rawValue: 2), fencingToken: 2))
        let map = try #require(state.map)
        var message = ShardMapMessage(map)
        #expect(try ShardMap(message) == map)
        message.nodes[0].state = 77
        #expect(try ShardMap(message).nodes.first?.state == .down)
        message.shards[0].buckets[0].count = .max
        #expect(throws: DatabaseError.self) { try ShardMap(message) }
        message = ShardMapMessage(map)
        message.nodes[1].uid = []
        #expect(throws: DatabaseError.self) { try ShardMap(message) }
        message = ShardMapMessage(map)
        message.bucketCount = .max
        #expect(throws: DatabaseError.self) { try ShardMap(message) }
    }
}
