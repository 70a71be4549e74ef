import Base
import Placement
import Raft
import Storage
import TestKit
import Testing

@testable import Replication
@testable import StorageNode

/// A shard is given to another node while this one is away, and back again.
@Suite("Departures", .serialized)
struct DepartureTests {
    private static let (here, there) = (NodeID(rawValue: 1), NodeID(rawValue: 2))
    private static let shards = (1...2 as ClosedRange<UInt32>).map { ShardID(rawValue: $0) }

    /// The first shard is here; of the second it is said.
    private static func map(
        _ address: String, epoch: UInt64, voters: [NodeID], learners: [NodeID] = [], version: UInt64, inForce: UInt64
    ) throws -> ShardMap {
        let move = learners.first.map { ReplicaMove(adding: $0, replacing: nil) }
        let membership = try #require(
            ShardMembership(voters: voters, learners: learners, move: move, transfer: nil))
        let half = Stage.bucketCount / 2
        return try ShardMap(
            epoch: MapEpoch(rawValue: epoch), cluster: 1, bucketCount: Stage.bucketCount,
            shards: [
                .init(id: shards[0], buckets: [0..<half], leader: here, replicas: [here]),
                .init(
                    id: shards[1], buckets: [half..<Stage.bucketCount], leader: nil, term: Term(rawValue: 0),
                    membership: membership, version: version, versionInForce: inForce),
            ],
            nodes: [here, there].map {
                .init(
                    id: $0, uid: NodeUID(high: 0, low: UInt64($0.rawValue)), addresses: [address],
                    fencingToken: UInt64($0.rawValue), state: .up)
            })
    }

    /// Keys of either shard.
    private static let keys = (0..<200).map { "key\($0)" }

    /// Records of the shard that the store holds.
    private static func records(_ store: any Store, _ shard: Int) throws -> Int {
        let half = Stage.bucketCount / 2
        let ranges = ShardSnapshots.ranges(of: shards[shard], buckets: [shard * half..<(shard + 1) * half])
        var count = 0
        for range in ranges {
            let found = try store.scan(from: range.from, to: range.to)
            while found.isValid {
                count += 1
                found.next()
            }
        }
        return count
    }

    private func fill(_ directory: String, _ disk: any Disk, _ store: any Store) throws {
        try Stage.run(directory, shards: 2, disk: disk, store: store) { stage in
            for key in Self.keys { stage.caller.set(key, "1") }
            stage.caller.onOutcome = { _, _ in if stage.caller.isSettled { stage.finish() } }
        }
        (store as? MemoryStore)?.crash()  // Open again.
        #expect(try Self.records(store, 0) > 50 && Self.records(store, 1) > 50)
    }

    @Test("what the map has given away for good is deleted, in log and store, and may come back at once")
    func givenAway() throws {
        try Stage.withDirectory { directory in
            let disk = SimulatedDisk(seed: 1), store = MemoryStore()
            try fill(directory, disk, store)
            let mine = try Self.records(store, 0)
            try Stage.run(
                directory, disk: disk, store: store,
                map: { try Self.map($0, epoch: 2, voters: [Self.there], version: 2, inForce: 1) }
            ) { stage in
                // Not in force yet: it may be needed.
                var rounds = 0, isAskedBack = false
                stage.poll {
                    rounds += 1
                    let left = stage.node.departures.isLeaving(Self.shards[1])
                    if rounds == 1 {
                        stage.node.letGo()
                        #expect(stage.node.hasUnstarted && !stage.node.departures.isLeaving(Self.shards[1]))
                        try? stage.node.adopt(
                            Self.map(
                                "\(stage.address)", epoch: 3, voters: [Self.there], version: 2, inForce: 2),
                            as: Self.here)
                        stage.node.letGo()
                        #expect(stage.node.departures.isLeaving(Self.shards[1]) && !stage.node.hasUnstarted)
                        // Asked back before it has quite left: it waits for that.
                        try? stage.node.adopt(
                            Self.map(
                                "\(stage.address)", epoch: 4, voters: [Self.there], learners: [Self.here], version: 3,
                                inForce: 2), as: Self.here)
                        #expect(!stage.node.executors.contains { $0.shard == Self.shards[1] })
                        isAskedBack = true
                        return false
                    }
                    guard isAskedBack, !left,
                        let back = stage.node.executors.first(where: { $0.shard == Self.shards[1] })
                    else { return false }
                    #expect(back.store.appliedIndex == .zero && back.group.lastIndex == .zero)
                    #expect(back.group.membership.learners == [Self.here] && back.group.term > Term(rawValue: 0))
                    #expect((try? Self.records(store, 1)) == 0 && (try? Self.records(store, 0)) == mine)
                    stage.finish(.kill)
                    return true
                }
            }
        }
    }

    @Test("a crash between the log and the store is made good by the next start")
    func crashed() throws {
        try Stage.withDirectory { directory in
            let disk = SimulatedDisk(seed: 2), store = MemoryStore()
            try fill(directory, disk, store)
            // The log says that it is gone; the store was not told.
            let log = try SegmentedLog(disk: disk, directory: directory + "/data/log")
            let half = Stage.bucketCount / 2
            let removal = ShardRemoval(
                shard: Self.shards[1],
                ranges: ShardSnapshots.ranges(of: Self.shards[1], buckets: [half..<Stage.bucketCount]))
            var batch = LogBatch()
            batch.append(
                removedAt: EntryID(term: Term(rawValue: 1), index: log.state(of: Self.shards[1]).lastIndex),
                note: removal.encoded(), shard: Self.shards[1])
            try log.write(&batch)
            try log.close()
            try Stage.run(
                directory, disk: disk, store: store,
                map: { try Self.map($0, epoch: 2, voters: [Self.there], version: 2, inForce: 2) }
            ) { stage in
                #expect((try? Self.records(store, 1)) == 0 && !stage.node.hasUnstarted)
                stage.finish(.kill)
            }
        }
    }
}
