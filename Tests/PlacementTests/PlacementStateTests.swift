import Base
import Placement
import Testing

/// Commands as a hostile and a sane world would send them, from a seed.
private struct CommandSource {
    var random: SplitMix64
    /// Nodes by uid: incarnation and the token of the last registration.
    var lives: [UInt64: (incarnation: UInt64, node: NodeID, token: UInt64)] = [:]

    mutating func next() -> PlacementCommand {
        let uid = random.next(below: 6)
        let life = lives[uid] ?? (0, NodeID(rawValue: 99), 0)
        switch random.next(below: 15) {
        case 10:
            return .setDraining(life.node, random.oneIn(2))
        case 11:
            return .configure(PlacementSettings(replicationFactor: Int(random.next(below: 6))))
        case 12:
            return .allowReplicas(Int(random.next(below: 20)))
        case 13:
            return .reportLeaders(
                (0..<random.next(below: 4)).map { _ in
                    LeaderReport(
                        shard: ShardID(rawValue: UInt32(random.next(below: 9))),
                        leader: NodeID(rawValue: UInt32(random.next(below: 7))),
                        term: Term(rawValue: random.next(below: 50)), version: random.next(below: 20))
                })
        case 14:
            return .move(nextMove())
        case 0, 1, 2:
            let incarnation = random.oneIn(3) ? life.incarnation : life.incarnation + random.next(below: 2)
            return .registerNode(
                uid: NodeUID(high: 7, low: uid), addresses: ["127.0.0.1:\(random.next(below: 3))"],
                incarnation: incarnation)
        case 3:
            return .registerNode(uid: NodeUID(high: 7, low: uid), addresses: [], incarnation: 0)
        case 4, 5:
            return .expireLease(node: life.node, fencingToken: random.oneIn(4) ? life.token &- 1 : life.token)
        case 6:
            return .removeNode(life.node)
        case 7:
            return .createCluster(
                id: random.next(below: 3), bucketCount: 1 << Int(random.next(below: 8)),
                shardCount: Int(random.next(below: 9)), nodeCount: Int(random.next(below: 5)))
        default:
            return .allocateIDs(
                kind: random.oneIn(2) ? "collection" : "index", count: random.next(below: 100))
        }
    }

    private mutating func nextMove() -> PlacementMove {
        let shard = ShardID(rawValue: UInt32(random.next(below: 9)))
        let node = NodeID(rawValue: UInt32(1 + random.next(below: 6)))
        let other = random.oneIn(2) ? nil : NodeID(rawValue: UInt32(1 + random.next(below: 6)))
        switch random.next(below: 5) {
        case 0: return .addReplica(shard, node, replacing: other)
        case 1: return .promote(shard, node, replacing: other)
        case 2: return .removeReplica(shard, node)
        case 3: return .keepReplica(shard, node)
        default: return .transferLeader(shard, to: node)
        }
    }

    mutating func learn(_ command: PlacementCommand, _ events: [PlacementEvent]) {
        guard case .registerNode(let registration) = command,
            case .nodeRegistered(let node, let token)? = events.first
        else { return }
        lives[registration.uid.low] = (registration.incarnation, node, token)
    }
}

private func encoded(_ command: PlacementCommand) -> Bytes {
    var buffer = ByteBuffer()
    command.encode(into: &buffer)
    return buffer.readable.bytes
}

private func decoded(_ bytes: Bytes) throws -> PlacementCommand {
    try bytes.withUnsafeBytes { view in try PlacementCommand(decoding: view) }
}

@Suite("PlacementState")
struct PlacementStateTests {
    @Test("keeps its invariants under any commands, and a replay of the log gives the same state", arguments: 1...40)
    func invariants(_ seed: UInt64) throws {
        var source = CommandSource(random: SplitMix64(seed: seed))
        var state = PlacementState()
        var log: [Bytes] = []
        var (epoch, token): (UInt64, UInt64) = (0, 0)
        var nextID: [String: UInt64] = [:]
        for step in 0..<400 {
            let command = source.next()
            let before = state
            guard let events = try? state.apply(command) else {
                #expect(state == before, "seed \(seed), step \(step): a refusal changed the state")
                continue
            }
            source.learn(command, events)
            log.append(encoded(command))
            let now = state.map?.epoch.rawValue ?? 0
            #expect((state.map != before.map) == (now > epoch), "seed \(seed), step \(step)")
            #expect(now >= epoch, "seed \(seed), step \(step)")
            #expect(events.contains(.mapChanged(MapEpoch(rawValue: now))) == (now > epoch))
            epoch = now
            for event in events {
                if case .nodeRegistered(_, let given) = event, before.map != state.map {
                    #expect(given > token, "seed \(seed), step \(step)")
                    token = given
                }
                if case .idsAllocated(let kind, let range) = event {
                    #expect(range.lowerBound == nextID[kind] ?? (kind == "collection" ? 1024 : 1))
                    nextID[kind] = range.upperBound
                }
            }
            if let map = state.map {
                // The map's own initialiser refuses a bucket without exactly one shard.
                #expect(map.shards.reduce(0) { $0 + $1.buckets.reduce(0) { $0 + $1.count } } == map.bucketCount)
                #expect(map.nodes.allSatisfy { $0.fencingToken <= token })
                for shard in map.shards {
                    let old = before.map?.shard(shard.id)
                    #expect(shard.term >= old?.term ?? shard.term, "seed \(seed), step \(step): a lower term")
                    #expect(shard.versionInForce >= old?.versionInForce ?? 0, "seed \(seed), step \(step)")
                }
            } else {
                #expect(state.cluster == nil)
            }
        }
        var replay = PlacementState()
        for entry in log { _ = try replay.apply(decoded(entry)) }
        #expect(replay == state, "seed \(seed)")
        var installed = PlacementState()
        _ = try installed.apply(decoded(encoded(.snapshot(state))))
        #expect(installed == state, "seed \(seed)")
    }

    @Test("shares contiguous, even bucket ranges out when the last node arrives")
    func initialAssignment() throws {
        for (shards, nodes) in [(1, 1), (3, 3), (16, 3), (5, 2), (64, 64), (2, 3)] {
            var state = PlacementState()
            _ = try state.apply(.createCluster(id: 9, bucketCount: 64, shardCount: shards, nodeCount: nodes))
            for node in 0..<nodes {
                #expect(state.map?.shards.allSatisfy { $0.leader == nil } == true)
                _ = try state.apply(
                    .registerNode(uid: NodeUID(high: 0, low: UInt64(node)), addresses: ["unix:/x"], incarnation: 1))
            }
            let map = try #require(state.map)
            #expect(map.isServed)
            var next = 0
            for shard in map.shards {
                #expect(shard.buckets.count == 1)
                #expect(shard.buckets.first?.lowerBound == next)
                next = shard.buckets.first?.upperBound ?? 0
                #expect((64 / shards...64 / shards + 1).contains(shard.buckets.first?.count ?? 0))
                #expect(shard.leader.map { [$0] } == shard.replicas)
            }
            let loads = map.nodes.map { map.shards(on: $0.id).count }
            #expect((loads.max() ?? 0) - (loads.min() ?? 0) <= 1)
        }
    }

    @Test("fences a life that is over, keeps the token of one that asks again, and keeps ids of nodes")
    func lives() throws {
        var state = PlacementState()
        let uid = NodeUID(high: 1, low: 2)
        func register(_ incarnation: UInt64, _ address: String = "a:1") throws -> PlacementEvent? {
            try state.apply(.registerNode(uid: uid, addresses: [address], incarnation: incarnation)).first
        }
        #expect(throws: DatabaseError.self) { try register(1) }
        _ = try state.apply(.createCluster(id: 1, bucketCount: 64, shardCount: 1, nodeCount: 1))
        let node = NodeID(rawValue: 1)
        #expect(try register(5) == .nodeRegistered(node, fencingToken: 1))
        #expect(try register(5) == .nodeRegistered(node, fencingToken: 1))
        #expect(try register(6) == .nodeRegistered(node, fencingToken: 2))
        #expect(throws: DatabaseError.self) { try register(5) }
        #expect(throws: DatabaseError.self) { try state.checkLease(node, 1) }
        try state.checkLease(node, 2)
        #expect(throws: DatabaseError.self) { try state.apply(.expireLease(node: node, fencingToken: 1)) }
        #expect(throws: DatabaseError.self) { try state.apply(.removeNode(node)) }
        #expect(
            try state.apply(.expireLease(node: node, fencingToken: 2)).first == .leaseExpired(node, fencingToken: 2))
        #expect(state.map?.isServed == false)
        #expect(throws: DatabaseError.self) { try state.checkLease(node, 2) }
        #expect(throws: DatabaseError.self) { try state.apply(.removeNode(node)) }
        #expect(try register(6, "b:1") == .nodeRegistered(node, fencingToken: 3))
        #expect(state.map?.nodes.first?.addresses == ["b:1"])
        #expect(state.map?.isServed == true)
        #expect(state.leaseHolders.map { $0.fencingToken } == [3])
    }

    @Test("a node that joins later holds nothing and can leave")
    func joinAndLeave() throws {
        var state = PlacementState()
        _ = try state.apply(.createCluster(id: 1, bucketCount: 64, shardCount: 4, nodeCount: 1))
        for low in 1...2 as ClosedRange<UInt64> {
            _ = try state.apply(.registerNode(uid: NodeUID(high: 0, low: low), addresses: ["a:1"], incarnation: 1))
        }
        let late = NodeID(rawValue: 2)
        #expect(state.map?.shards(on: late).isEmpty == true)
        _ = try state.apply(.expireLease(node: late, fencingToken: 2))
        #expect(state.map?.isServed == true)
        #expect(try state.apply(.removeNode(late)).first == .nodeRemoved(late))
        #expect(state.map?.node(late) == nil)
        // A node that comes back after it was removed is a new node: ids are never reused.
        let again = try state.apply(.registerNode(uid: NodeUID(high: 0, low: 2), addresses: ["a:1"], incarnation: 2))
        #expect(again.first == .nodeRegistered(NodeID(rawValue: 3), fencingToken: 3))
    }
}

@Suite("Placement log entries")
struct PlacementCommandTests {
    private func samples() throws -> [PlacementCommand] {
        var state = PlacementState()
        _ = try state.apply(.createCluster(id: 77, bucketCount: 64, shardCount: 3, nodeCount: 2))
        for low in 1...3 as ClosedRange<UInt64> {
            _ = try state.apply(
                .registerNode(
                    uid: NodeUID(high: .max, low: low), addresses: ["unix:/tmp/n", "127.0.0.1:50051"], incarnation: low)
            )
        }
        _ = try state.apply(.allocateIDs(kind: "collection", count: 5))
        try replicate(&state)
        let simple: [PlacementCommand] = [
            .createCluster(id: 77, bucketCount: 64, shardCount: 3, nodeCount: 2),
            .registerNode(uid: NodeUID(high: 1, low: .max), addresses: ["unix:/tmp/n", "ä:1"], incarnation: .max),
            .expireLease(node: NodeID(rawValue: 3), fencingToken: 9), .removeNode(NodeID(rawValue: 3)),
            .allocateIDs(kind: "index", count: 10), .snapshot(state), .snapshot(PlacementState()),
            .registerNode(
                NodeRegistration(
                    uid: NodeUID(high: 1, low: 2), addresses: ["a:1"], incarnation: 3, zone: "süd",
                    certificateName: "storage-node-1")),
            .setDraining(NodeID(rawValue: 3), true),
            .configure(
                PlacementSettings(replicationFactor: 5, strategy: .sticky, replacementDelayMilliseconds: .max)),
            .allowReplicas(3),
            .reportLeaders([
                LeaderReport(
                    shard: ShardID(rawValue: 1), leader: NodeID(rawValue: 2), term: Term(rawValue: .max), version: 300),
                LeaderReport(
                    shard: ShardID(rawValue: 2), leader: NodeID(rawValue: 1), term: Term(rawValue: 1), version: 0),
            ]),
            .reportLeaders([]),
        ]
        let shard = ShardID(rawValue: 2), one = NodeID(rawValue: 1), two = NodeID(rawValue: 2)
        return simple
            + [
                .addReplica(shard, two, replacing: one), .addReplica(shard, two, replacing: nil),
                .promote(shard, two, replacing: one), .removeReplica(shard, one), .keepReplica(shard, one),
                .transferLeader(shard, to: two),
            ].map { .move($0) }
    }

    /// Moves under way, so that a snapshot holds all that a state can hold.
    private func replicate(_ state: inout PlacementState) throws {
        let (one, two, three) = (NodeID(rawValue: 1), NodeID(rawValue: 2), NodeID(rawValue: 3))
        let shards = (0..<3).map { ShardID(rawValue: $0) }
        _ = try state.apply(.allowReplicas(16))
        _ = try state.apply(.configure(PlacementSettings(strategy: .leastLoaded)))
        _ = try state.apply(.setDraining(three, true))
        _ = try state.apply(.move(.addReplica(shards[0], two, replacing: one)))
        _ = try state.apply(.move(.addReplica(shards[1], two, replacing: nil)))
        _ = try state.apply(
            .reportLeaders([LeaderReport(shard: shards[1], leader: one, term: Term(rawValue: 4), version: 2)]))
        _ = try state.apply(.move(.promote(shards[1], two, replacing: nil)))
        _ = try state.apply(
            .reportLeaders([LeaderReport(shard: shards[1], leader: one, term: Term(rawValue: 4), version: 3)]))
        _ = try state.apply(.move(.transferLeader(shards[1], to: two)))
    }

    @Test("survive their bytes, and are refused when cut or prolonged")
    func roundTrip() throws {
        for command in try samples() {
            let bytes = encoded(command)
            #expect(try decoded(bytes) == command)
            for length in 0..<bytes.count {
                #expect(throws: DatabaseError.self, "\(command) cut to \(length)") {
                    try decoded(Bytes(bytes.prefix(length)))
                }
            }
            #expect(throws: DatabaseError.self) { try decoded(bytes + [0]) }
        }
    }

    @Test("do not trap when damaged", arguments: 1...20)
    func damaged(_ seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        for command in try samples() {
            for _ in 0..<200 {
                var bytes = encoded(command)
                for _ in 0...random.next(below: 3) {
                    bytes[Int(random.next(below: UInt64(bytes.count)))] = UInt8(truncatingIfNeeded: random.next())
                }
                // A changed number may be as good as the old one; then applying it must be safe as well.
                guard let survivor = try? decoded(bytes) else { continue }
                var state = PlacementState()
                _ = try? state.apply(survivor)
                _ = state.map
            }
        }
    }

    @Test("of a newer format are told apart from damage")
    func newerFormat() {
        #expect(throws: DatabaseError(.featureNotSupported, "placement log entry of format 3: use a newer version")) {
            try [3, 1].withUnsafeBytes { view throws(DatabaseError) in try PlacementCommand(decoding: view) }
        }
    }
}
