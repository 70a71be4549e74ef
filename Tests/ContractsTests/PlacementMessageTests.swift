import Base
import Contracts
import Testing

@Suite("Placement messages")
struct PlacementMessageTests {
    private static let map = {
        var map = bareMap
        map.shards[0].learners = [7]
        map.shards[0].term = .max
        (map.shards[0].version, map.shards[0].versionInForce) = (9, 8)
        (map.shards[0].adding, map.shards[0].replacing, map.shards[0].nextLeader) = (7, 1, 300)
        (map.nodes[0].zone, map.nodes[1].isDraining) = ("süd", true)
        return map
    }()

    private static let report = ReplicaReportMessage(
        shard: 3, term: 4, isLeader: true, membershipVersion: 5, appliedIndex: .max, committedIndex: 7, bytes: 8,
        rate: 9)

    private static let bareMap = ShardMapMessage(
        epoch: .max, cluster: 0x0102_0304_0506_0708, bucketCount: 64,
        shards: [
            ShardMapMessage.Shard(
                id: 0, buckets: [.init(first: 0, count: 10), .init(first: 20, count: 44)], leader: 1,
                voters: [1, 300]),
            ShardMapMessage.Shard(id: 1, buckets: [.init(first: 10, count: 10)], leader: 0, voters: []),
        ],
        nodes: [
            ShardMapMessage.Node(
                id: 1, uid: Bytes(0..<16), addresses: ["unix:/tmp/ä.sock", "127.0.0.1:50051"], fencingToken: 7, state: 1
            ),
            ShardMapMessage.Node(id: 300, uid: [], addresses: [], fencingToken: 0, state: 2),
        ])

    /// Bytes of each message, and a decoder that gives bytes again.
    private static let samples: [(name: String, bytes: Bytes, again: @Sendable (ByteView) throws -> Bytes)] = [
        (
            "RegisterRequest",
            RegisterRequest(
                uid: Bytes(0..<16), addresses: ["a:1", ""], incarnation: 9, cluster: 4, zone: "z"
            ).encode(),
            { try RegisterRequest(decoding: $0).encode() }
        ),
        (
            "RegisterResponse",
            RegisterResponse(node: 3, fencingToken: 4, leaseMilliseconds: 10_000, cluster: 1, map: map).encode(),
            { try RegisterResponse(decoding: $0).encode() }
        ),
        (
            "RenewRequest", RenewRequest(node: 1, fencingToken: .max, reports: [report, report]).encode(),
            { try RenewRequest(decoding: $0).encode() }
        ),
        (
            "ReleaseRequest", ReleaseRequest(node: 1, fencingToken: .max).encode(),
            { try ReleaseRequest(decoding: $0).encode() }
        ),
        ("NodeRequest", NodeRequest(node: .max).encode(), { try NodeRequest(decoding: $0).encode() }),
        (
            "RebalanceRequest", RebalanceRequest(isDryRun: true).encode(),
            { try RebalanceRequest(decoding: $0).encode() }
        ),
        (
            "RebalanceResponse",
            RebalanceResponse(
                moves: [
                    .init(kind: 1, shard: 2, node: 3, replacing: 4), .init(kind: 5, shard: 0, node: 1, replacing: 0),
                ],
                isTruncated: true
            ).encode(), { try RebalanceResponse(decoding: $0).encode() }
        ),
        ("RenewResponse", RenewResponse(leaseMilliseconds: 1).encode(), { try RenewResponse(decoding: $0).encode() }),
        ("WatchRequest", WatchRequest(knownEpoch: 12).encode(), { try WatchRequest(decoding: $0).encode() }),
        (
            "AllocateIDsRequest", AllocateIDsRequest(kind: "collection", count: 8).encode(),
            { try AllocateIDsRequest(decoding: $0).encode() }
        ),
        (
            "AllocateIDsResponse", AllocateIDsResponse(first: 1024, count: 8).encode(),
            { try AllocateIDsResponse(decoding: $0).encode() }
        ),
        (
            "DescribeResponse",
            DescribeResponse(
                map: map, leases: [.init(node: 1, remainingMilliseconds: 99)], logIndex: 5, watchers: 2,
                placement: PlacementDescription(
                    replicationFactor: 3, replicaLimit: 1, strategy: "spread", replacementDelayMilliseconds: .max,
                    movesLeft: 6, isRebalancing: true), reports: [.init(node: 1, replica: report)]
            ).encode(), { try DescribeResponse(decoding: $0).encode() }
        ),
        ("ShardMap", map.encode(), { try ShardMapMessage(decoding: $0).encode() }),
    ]

    @Test("survive their bytes, field by field")
    func roundTrip() throws {
        for (name, bytes, again) in Self.samples {
            #expect(try bytes.withUnsafeBytes(again) == bytes, "\(name)")
        }
        let decoded = try Self.map.encode().withUnsafeBytes { view throws(DatabaseError) in
            try ShardMapMessage(decoding: view)
        }
        #expect(decoded == Self.map)
        let response = RegisterResponse(node: 3, fencingToken: 4, leaseMilliseconds: 5, cluster: 6, map: nil)
        #expect(
            try response.encode().withUnsafeBytes { view throws(DatabaseError) in
                try RegisterResponse(decoding: view)
            } == response)
    }

    @Test("do not trap when cut or damaged", arguments: 1...10)
    func damaged(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for (_, bytes, again) in Self.samples {
            for length in 0...bytes.count { _ = try? Bytes(bytes.prefix(length)).withUnsafeBytes(again) }
            for _ in 0..<300 where !bytes.isEmpty {
                var copy = bytes
                copy[Int(random.next(below: UInt64(copy.count)))] = UInt8(truncatingIfNeeded: random.next())
                _ = try? copy.withUnsafeBytes(again)
            }
        }
    }
}
