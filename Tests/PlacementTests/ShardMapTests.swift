import Base
import Placement
import Testing

@Suite("ShardMap")
struct ShardMapTests {
    private func node(_ id: UInt32, _ state: NodeState = .up) -> ShardMap.Node {
        ShardMap.Node(
            id: NodeID(rawValue: id), uid: NodeUID(high: 0, low: UInt64(id)), addresses: ["a:\(id)"],
            fencingToken: UInt64(id), state: state)
    }

    private func shard(_ id: UInt32, _ buckets: [Range<Int>], _ node: UInt32?) -> ShardMap.Shard {
        let leader = node.map { NodeID(rawValue: $0) }
        return ShardMap.Shard(
            id: ShardID(rawValue: id), buckets: buckets, leader: leader, replicas: leader.map { [$0] } ?? [])
    }

    private func map(_ shards: [ShardMap.Shard], _ nodes: [ShardMap.Node], buckets: Int = 8) throws -> ShardMap {
        try ShardMap(epoch: MapEpoch(rawValue: 3), cluster: 1, bucketCount: buckets, shards: shards, nodes: nodes)
    }

    @Test("finds shard and leader of every slot")
    func lookup() throws {
        let table = RoutingTable(
            try map(
                [shard(0, [0..<2, 6..<8], 1), shard(1, [2..<5], 2), shard(2, [5..<6], nil)],
                [node(1), node(2, .down)]))
        #expect(table.epoch == MapEpoch(rawValue: 3))
        for slot in 0..<16384 as Range<UInt16> {
            let bucket = Int(slot) / 2048
            #expect(Int(table.bucket(ofSlot: slot).rawValue) == bucket)
            switch bucket {
            case 0, 1, 6, 7: #expect(table[slot: slot].leader == NodeID(rawValue: 1))
            case 2, 3, 4: #expect(table[slot: slot].shard == ShardID(rawValue: 1) && table[slot: slot].leader == nil)
            default: #expect(table[slot: slot].shard == ShardID(rawValue: 2) && table[slot: slot].leader == nil)
            }
        }
        #expect(table[slot: .max] == table[slot: 16383])
    }

    @Test("routes for every number of buckets", arguments: [1, 2, 64, 16384])
    func bucketCounts(_ count: Int) throws {
        let table = RoutingTable(try map([shard(0, [0..<count], 1)], [node(1)], buckets: count))
        for slot in [0, 1, 8191, 8192, 16383] as [UInt16] {
            #expect(Int(table.bucket(ofSlot: slot).rawValue) == Int(slot) / (16384 / count))
            #expect(table[slot: slot].leader == NodeID(rawValue: 1))
        }
    }

    @Test("refuses maps that contradict themselves")
    func refusals() {
        #expect(throws: DatabaseError.self) { try map([shard(0, [0..<7], 1)], [node(1)]) }
        #expect(throws: DatabaseError.self) { try map([shard(0, [0..<8], 1), shard(1, [7..<8], 1)], [node(1)]) }
        #expect(throws: DatabaseError.self) { try map([shard(0, [0..<9], 1)], [node(1)]) }
        #expect(throws: DatabaseError.self) { try map([shard(0, [-1..<8], 1)], [node(1)]) }
        #expect(throws: DatabaseError.self) { try map([shard(0, [0..<8], 2)], [node(1)]) }
        #expect(throws: DatabaseError.self) { try map([shard(0, [0..<4], 1), shard(0, [4..<8], 1)], [node(1)]) }
        #expect(throws: DatabaseError.self) { try map([shard(0, [0..<8], 1)], [node(1), node(1)]) }
        #expect(throws: DatabaseError.self) { try map([shard(0, [0..<6], 1)], [node(1)], buckets: 6) }
        #expect(throws: DatabaseError.self) { try map([], [], buckets: 0) }
    }

    @Test("node uids survive their bytes and their text")
    func uids() {
        let uid = NodeUID(high: 0x0123, low: .max)
        #expect(uid.description == "0000000000000123ffffffffffffffff")
        #expect(NodeUID(parsing: uid.description) == uid)
        #expect(uid.bytes.withUnsafeBytes { NodeUID($0) } == uid)
        for bad in ["", "0", "g000000000000123ffffffffffffffff", "+000000000000123ffffffffffffffff"] {
            #expect(NodeUID(parsing: bad) == nil)
        }
    }
}

@Suite("LeaseTable")
struct LeaseTableTests {
    @Test("ends leases in time, and only those of the registration meant")
    func expiry() {
        var leases = LeaseTable(durationNanoseconds: 100)
        let (one, two) = (NodeID(rawValue: 1), NodeID(rawValue: 2))
        #expect(leases.nextDeadline == nil)
        leases.extend(one, 1, now: 0)
        leases.extend(two, 2, now: 50)
        #expect(leases.nextDeadline == 100)
        #expect(leases.expired(now: 99).isEmpty)
        #expect(leases.expired(now: 100).map(\.node) == [one])
        leases.extend(one, 1, now: 99)
        #expect(leases.expired(now: 150).map(\.node) == [two])
        leases.end(two, 1)
        #expect(leases.expired(now: 150).map(\.fencingToken) == [2])
        leases.end(two, 2)
        #expect(leases.nextDeadline == 199)
    }
}
