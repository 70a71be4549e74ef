import Base
import Raft
import TestKit
import Testing

/// A random schedule: everything that can happen, in any order.
struct Schedule {
    var cluster: Cluster
    var random: SplitMix64
    let voters: Int

    init(voters: Int, seed: UInt64, bugs: PlantedBugs = []) {
        self.voters = voters
        random = SplitMix64(seed: seed)
        cluster = Cluster(voters: voters, spare: 2, seed: seed)
        let isLeaseOn = random.oneIn(2)
        let quiesceAfter: UInt64? = random.oneIn(3) ? 300_000_000 : nil
        let inFlight = random.oneIn(3) ? 2 : 64
        cluster.configure = {
            $0.plantedBugs = bugs
            $0.isLeaseOn = isLeaseOn
            $0.quiesceAfter = quiesceAfter
            $0.inFlightMessages = inFlight
            $0.appendEntries = 3
        }
        cluster.installsAtOnce = false
        for position in cluster.replicas.indices {
            cluster.replicas[position].pace = 950 + random.next(below: 101)
            cluster.start(position)
        }
        begin()
    }

    /// Most schedules begin with a leader: what goes wrong at the very beginning is little.
    private mutating func begin() {
        guard !random.oneIn(4) else { return }
        cluster.time += 600_000_000
        cluster.replicas[0].ahead = 1_000_000_000
        cluster.step(0, .tick)
        for _ in 0..<4 {
            for position in cluster.replicas.indices { cluster.persist(position) }
            while !cluster.network.isEmpty { cluster.deliver(0) }
        }
    }

    private mutating func anybody() -> Int { Int(random.next(below: UInt64(cluster.replicas.count))) }

    private func leaders() -> [Int] { cluster.replicas.indices.filter { cluster.replicas[$0].core?.isLeader == true } }

    private mutating func someLeader() -> Int? {
        let all = leaders()
        return all.isEmpty ? nil : all[Int(random.next(below: UInt64(all.count)))]
    }

    mutating func run(steps: Int) {
        for _ in 0..<steps where cluster.violations.isEmpty { step() }
        if cluster.violations.isEmpty { cluster.checkLogMatching() }
    }

    private mutating func step() {
        switch random.next(below: 100) {
        case 0..<43: deliver()
        case 43..<45: upheaval()
        case 45..<63: cluster.persist(anybody(), random.oneIn(3) ? 1 : .max)
        case 63..<75: cluster.pass(milliseconds: 20 + random.next(below: random.oneIn(8) ? 600 : 60))
        case 75..<83: if let leader = someLeader() { cluster.propose(leader, count: 1 + Int(random.next(below: 4))) }
        case 83..<88: if let leader = someLeader() { cluster.read(leader) }
        case 88..<90: crashOrStart()
        case 90..<92: partition()
        case 92..<94: changeMembership()
        case 94:
            if let leader = someLeader() { cluster.step(leader, .transferLeadership(to: node(UInt32(1 + anybody())))) }
        case 95: cluster.compact(anybody())
        case 96: cluster.finishInstall(anybody())
        case 97: cluster.step(anybody(), .peerDown(node(UInt32(1 + anybody()))))
        case 98: cluster.flush(anybody())
        case _: if random.oneIn(4) { cluster.checkLogMatching() }
        }
    }

    private mutating func deliver() {
        for _ in 0..<(1 + random.next(below: 6)) where !cluster.network.isEmpty {
            // Mostly the oldest ones; now and then one that overtakes.
            let span = random.oneIn(5) ? cluster.network.count : min(3, cluster.network.count)
            let index = Int(random.next(below: UInt64(span)))
            if random.oneIn(24) {
                cluster.network.append(cluster.network[index])
            } else if random.oneIn(24) {
                let lost = cluster.network.remove(at: index).message
                if case .snapshot = lost.body {
                    cluster.step(cluster.position(lost.from), .snapshotSent(to: lost.to, isDone: false))
                }
            }
            if index < cluster.network.count { cluster.deliver(index) }
        }
    }

    private mutating func crashOrStart() {
        let position = anybody()
        if cluster.replicas[position].core == nil {
            cluster.start(position)
        } else if random.oneIn(3) {
            // Recovery has cut the end of its log; nearly always that was nothing that anybody had been told of.
            let hasLost = random.oneIn(2) && canLose
            cluster.crash(position)
            if hasLost { cluster.replicas[position].loseEnd(1 + Int(random.next(below: 3))) }
            cluster.start(position, mayVote: false)
        } else {
            cluster.crash(position)
            if random.oneIn(2) { cluster.start(position) }
        }
    }

    /// A disk may lose what it has promised only where the others suffice: one at a time, of three voters or more.
    private var canLose: Bool {
        cluster.replicas.allSatisfy { replica in
            guard let core = replica.core else { return false }
            return core.mayVote && !core.membership.isJoint && core.membership.voters.count >= 3
        }
    }

    private mutating func partition() {
        guard cluster.cut.isEmpty else { return cluster.cut.removeAll() }
        let lonely = Set((0..<(1 + random.next(below: 2))).map { _ in anybody() })
        let isOneWay = random.oneIn(3)
        for inside in lonely {
            for outside in cluster.replicas.indices where !lonely.contains(outside) {
                cluster.cut.insert([cluster.replicas[inside].id, cluster.replicas[outside].id])
                if !isOneWay { cluster.cut.insert([cluster.replicas[outside].id, cluster.replicas[inside].id]) }
            }
        }
    }

    /// A leader is cut off until somebody else leads, or not quite.
    private mutating func upheaval() {
        guard cluster.cut.isEmpty, let leader = someLeader() else { return }
        for other in cluster.replicas.indices where other != leader {
            cluster.cut.insert([cluster.replicas[leader].id, cluster.replicas[other].id])
            cluster.cut.insert([cluster.replicas[other].id, cluster.replicas[leader].id])
        }
        for _ in 0..<(4 + random.next(below: 6)) {
            cluster.pass(milliseconds: 150)
            for position in cluster.replicas.indices where !random.oneIn(8) { cluster.persist(position) }
            for _ in 0..<3 { deliver() }
        }
    }

    private mutating func changeMembership() {
        guard let leader = someLeader() else { return }
        var everybody = cluster.replicas.map(\.id)
        everybody.shuffle(using: &random)
        let count = max(1, voters - 1 + Int(random.next(below: 3)))
        let target = Membership(
            voters: Array(everybody.prefix(count)), learners: Array(everybody.dropFirst(count).prefix(1)))
        cluster.step(leader, .proposeMembership(target))
    }

    /// Everything works again: within a few seconds somebody leads and a new entry is committed by all that belong.
    mutating func settle() {
        cluster.cut.removeAll()
        for position in cluster.replicas.indices where cluster.replicas[position].core == nil {
            cluster.start(position)
        }
        var proposedAt: Int?
        for _ in 0..<400 where cluster.violations.isEmpty {
            for position in cluster.replicas.indices {
                cluster.finishInstall(position)
                cluster.persist(position)
            }
            var left = cluster.network.count * 4 + 64
            while !cluster.network.isEmpty, left > 0, cluster.violations.isEmpty {
                cluster.deliver(0)
                left -= 1
            }
            for position in cluster.replicas.indices { cluster.persist(position) }
            cluster.pass(milliseconds: 50)
            // An entry of the end's own: quiescent groups need no waking.
            guard let leader = leaders().max(by: { term(of: $0) < term(of: $1) }) else { continue }
            if proposedAt != leader {
                proposedAt = leader
                cluster.propose(leader)
            }
            guard let core = cluster.replicas[leader].core, core.commitIndex == core.lastIndex else { continue }
            let everyone = core.membership.everyone.map { cluster.replicas[cluster.position($0)] }
            if everyone.allSatisfy({ $0.core?.commitIndex == core.commitIndex }), !core.membership.isJoint { return }
        }
        guard cluster.violations.isEmpty else { return }
        let states = cluster.replicas.map { replica in
            "\(replica.id): \(replica.core.map { "\($0.status)" } ?? "down")"
        }
        cluster.violations.append("does not settle:\n" + states.joined(separator: "\n"))
    }

    private func term(of position: Int) -> Term { cluster.replicas[position].core?.term ?? Term(rawValue: 0) }
}

@Suite("Safety of random schedules")
struct PropertyTests {
    @Test("nothing unsafe happens, and a group that is left in peace settles", arguments: [3, 5])
    func properties(voters: Int) {
        let first = freshSeed("raft schedules of \(voters)")
        var elections = 0, commits = 0, reads = 0
        for seed in first..<(first &+ 1000) {
            var schedule = Schedule(voters: voters, seed: seed)
            schedule.run(steps: 250)
            if seed % 4 == 0 { schedule.settle() }
            elections += schedule.cluster.elections
            commits += schedule.cluster.committed.count
            reads += schedule.cluster.readsServed
            guard schedule.cluster.violations.isEmpty else {
                Issue.record("ORBIT_SEED=\(seed), \(voters) voters: \(schedule.cluster.violations[0])")
                return
            }
        }
        print("raft schedules of \(voters): \(elections) elections, \(commits) commits, \(reads) reads")
        #expect(elections > 750 && commits > 2000 && reads > 400)
    }
}
