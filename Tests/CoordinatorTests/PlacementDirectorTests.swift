import Base
import Contracts
import Coordinator
import Net
import Placement
import ServiceKit
import TestKit
import Testing

/// A storage node as the coordinator sees it: holds what the map says, leads what it may, reports both.
private final class PaperNode {
    let lease: NodeLease
    private(set) var id: NodeID?
    private let watcher: PlacementWatcher

    init(_ stage: Stage, _ name: String) throws {
        lease = stage.lease(name, try stage.identity(name))
        watcher = stage.watcher()
        lease.onGranted = { [unowned self] grant, map in
            id = grant.node
            watcher.start()
            if let map { watcher.adopt(map) }
        }
        watcher.onChange = { [unowned self] _ in lease.reportSoon() }
        lease.reports = { [unowned self] in reports() }
        lease.start()
    }

    var map: ShardMap? { watcher.map }

    private func reports() -> [ReplicaReport] {
        guard let id, let map else { return [] }
        return map.shards(on: id).map { shard in
            // Who is asked to lead does, and so does the first voter while nobody leads.
            let next = shard.membership.transfer ?? shard.leader ?? shard.voters.first
            let isNew = next == id && shard.leader != id
            return ReplicaReport(
                shard: shard.id, term: Term(rawValue: shard.term.rawValue + (isNew ? 1 : 0)), isLeader: next == id,
                version: shard.version, applied: LogIndex(rawValue: 100), committed: LogIndex(rawValue: 100),
                bytes: 1 << 20, rate: 10)
        }
    }
}

@Suite("PlacementDirector", .serialized)
struct PlacementDirectorTests {
    @Test("a node that joins gets replicas, one that drains gives all of its up, step by step")
    func joinAndDrain() throws {
        try Stage.with { directory in
            // Nothing is planned for as long as a lease lasts. Nodes that lose theirs on a slow machine come back.
            let stage = try Stage(
                disk: SimulatedDisk(seed: 11), directory: directory, leaseMilliseconds: 4000, supportedReplicas: 16,
                nodes: 3)
            var nodes: [PaperNode] = []
            stage.run {
                nodes = ["n1", "n2", "n3"].compactMap { try? PaperNode(stage, $0) }
                var phase = 0
                stage.loop.schedule(afterMilliseconds: 10, repeating: true) {
                    guard let map = nodes.first?.map else { return }
                    let isSettled = map.shards.allSatisfy {
                        $0.isInForce && $0.membership.move == nil && $0.membership.transfer == nil && $0.leader != nil
                    }
                    guard isSettled else { return }
                    switch phase {
                    case 0 where map.shards.allSatisfy({ $0.voters.count == 3 }):
                        phase = 1
                        if let node = try? PaperNode(stage, "n4") { nodes.append(node) }
                    case 1 where nodes.last?.id.map({ !map.shards(on: $0).isEmpty }) == true:
                        phase = 2
                        let request = NodeRequest(node: 1).encode()
                        stage.channel().unary(path: PlacementPath.drainNode, request: request) { result in
                            if case .failure(let status) = result { Issue.record("\(status)") }
                        }
                    case 2 where map.shards(on: NodeID(rawValue: 1)).isEmpty:
                        phase = 3
                        #expect(map.shards.allSatisfy { $0.voters.count == 3 })
                        #expect(map.node(NodeID(rawValue: 1))?.isDraining == true)
                        for node in nodes { node.lease.release {} }
                        stage.finish()
                    default:
                        break
                    }
                }
            }
        }
    }

    @Test("a cluster whose nodes keep one replica says that nothing can move, and stays as it is")
    func single() throws {
        try Stage.with { directory in
            let stage = try Stage(disk: SimulatedDisk(seed: 12), directory: directory)
            var answers: [GRPCStatus.Code] = []
            var described: DescribeResponse?
            var node: PaperNode?
            stage.run {
                node = try? PaperNode(stage, "n1")
                let channel = stage.channel()
                func ask(_ path: String, _ request: Bytes) {
                    channel.unary(path: path, request: request) { result in
                        if case .failure(let status) = result { answers.append(status.code) }
                        if answers.count == 3 { node?.lease.release { stage.finish() } }
                    }
                }
                func describe() {
                    channel.unary(path: PlacementPath.describe, request: []) { result in
                        described = (try? result.get()).flatMap { bytes in
                            try? bytes.withUnsafeBytes { try DescribeResponse(decoding: $0) }
                        }
                        // The node reports some time after it has joined.
                        guard described?.reports.count == 4 else {
                            stage.loop.schedule(afterMilliseconds: 10) { describe() }
                            return
                        }
                        ask(PlacementPath.drainNode, NodeRequest(node: 1).encode())
                        ask(PlacementPath.rebalance, RebalanceRequest(isDryRun: true).encode())
                        ask(PlacementPath.activateNode, NodeRequest(node: 9).encode())
                    }
                }
                describe()
            }
            #expect(answers.filter { $0 == .unimplemented }.count == 2)
            #expect(described?.placement?.replicaLimit == 1 && described?.placement?.replicationFactor == 3)
            #expect(described?.placement?.movesLeft == 0)
            #expect(described?.reports.count == 4)
            #expect(described?.map?.shards.allSatisfy { $0.voters == [1] && $0.leader == 1 } == true)
        }
    }
}
