import Base
import Raft
import Replication
import TestKit

/// What goes wrong, and how it ends.
extension ClusterSimulation {
    /// Milliseconds as nanoseconds, between two bounds.
    private func time(_ range: Range<UInt64>) -> UInt64 {
        (range.lowerBound + random.next(below: range.upperBound - range.lowerBound)) * 1_000_000
    }

    /// A fault, and the time of the next.
    func causeFault() {
        scheduler.schedule(.fault, after: time(300..<5000))
        guard play == nil else { return }
        report.faults += 1
        if profile != .mixed, random.oneIn(2), beginSchedule() { return }
        switch random.next(below: 100) {
        case 0..<16: crash(victim(), powerLoss: random.oneIn(2))
        case 16..<19: crashAll()
        case 19..<31: partition()
        case 31..<37: cutOneWay()
        case 37..<41: usurp()
        case 41..<47: pause(victim(), for: time(50..<4000))
        case 47..<53: stopAtLease()
        case 53..<60: storm()
        case 60..<72: failDisk()
        case 72..<80: if profile == .mixed { changeMembership() }
        case 80..<88: transfer()
        case 88..<94: disturbClock()
        default: rest()
        }
    }

    /// Half of the time somebody who leads.
    private func victim() -> SimulatedNode {
        if random.oneIn(2), let leader = leader(ofShard: Int(random.next(below: UInt64(plan.shards)))) { return leader }
        return nodes[anyMachine() - 1]
    }

    func leader(ofShard shard: Int) -> SimulatedNode? {
        nodes.filter { $0.isAlive && !$0.isStopped && $0.shards[shard].group.isLeading }
            .max { $0.shards[shard].group.term < $1.shards[shard].group.term }
    }

    // MARK: Processes and machines

    private func crash(_ node: SimulatedNode, powerLoss: Bool) {
        guard node.isAlive else { return }
        node.die(powerLoss: powerLoss)
        report.crashes += 1
        if powerLoss { report.powerLosses += 1 }
        restart(node, within: 6_000_000_000)
    }

    /// The whole room loses power.
    private func crashAll() {
        for node in nodes where node.isAlive {
            node.die(powerLoss: true)
            report.powerLosses += 1
            restart(node, within: 1_500_000_000)
        }
    }

    func restart(_ node: SimulatedNode, within delay: UInt64) {
        scheduler.schedule(
            .repair(.start(node.number, life: node.life)), after: 20_000_000 + random.next(below: delay))
    }

    private func start(_ node: SimulatedNode) {
        node.clock.trueNanoseconds = scheduler.now
        if node.start() { return }
        if node.disk.capacity != .max, random.oneIn(3) { node.disk.capacity = .max }
        node.die(powerLoss: true)
        restart(node, within: 500_000_000)
    }

    func pause(_ node: SimulatedNode, for duration: UInt64) {
        guard node.isAlive, !node.isStopped else { return }
        report.pauses += 1
        trace?("\(scheduler.now / 1_000_000) ms: node \(node.id) stops for \(duration / 1_000_000) ms")
        node.stopProcess()
        scheduler.schedule(.repair(.resume(node.number, stop: node.stop)), after: duration)
    }

    /// Stops a leader between a read and the question whether its lease still runs.
    private func stopAtLease() {
        guard let node = leader(ofShard: Int(random.next(below: UInt64(plan.shards)))) else { return }
        node.stopsAtLease = time(600..<3000)
    }

    // MARK: Network

    private func partition() {
        report.partitions += 1
        var side: [UInt32] = []
        if random.oneIn(2) {
            side = [victim().id.rawValue]
        } else {
            side = nodes.map(\.id.rawValue).filter { _ in random.oneIn(2) }
        }
        trace?("\(scheduler.now / 1_000_000) ms: \(side) are cut off")
        network.partition(side, from: nodes.map(\.id.rawValue).filter { !side.contains($0) })
        scheduler.schedule(.repair(.network), after: time(200..<6000))
    }

    private func cutOneWay() {
        report.partitions += 1
        let node = victim().id.rawValue
        let isDeaf = random.oneIn(2)
        trace?("\(scheduler.now / 1_000_000) ms: node \(node) is \(isDeaf ? "deaf" : "mute")")
        for other in nodes.map(\.id.rawValue) where other != node && !random.oneIn(4) {
            network.cut(from: isDeaf ? other : node, to: isDeaf ? node : other)
        }
        scheduler.schedule(.repair(.network), after: time(200..<6000))
    }

    /// Somebody does not hear the leader, and campaigns. If that comes to anything, the leader hears of nothing more:
    /// it must not serve on a lease that the election did not respect.
    private func usurp() {
        let shard = Int(random.next(below: UInt64(plan.shards)))
        guard let leader = leader(ofShard: shard) else { return }
        let voters = leader.shards[shard].group.membership.voters.filter { $0 != leader.id }
        guard !voters.isEmpty else { return }
        let deaf = voters[Int(random.next(below: UInt64(voters.count)))]
        report.partitions += 1
        network.partition([leader.id.rawValue], from: [deaf.rawValue])
        let until = scheduler.now + time(1200..<2500)
        watch(Usurpation(shard: shard, leader: leader.number, deaf: Int(deaf.rawValue), until: until))
    }

    func watch(_ usurpation: Usurpation) {
        let (leader, deaf) = (nodes[usurpation.leader - 1], nodes[usurpation.deaf - 1])
        guard scheduler.now < usurpation.until, leader.isAlive, deaf.isAlive else { return network.heal() }
        let shard = usurpation.shard
        guard deaf.shards[shard].group.term > leader.shards[shard].group.term else {
            scheduler.schedule(.usurp(usurpation), after: 100_000)
            return
        }
        network.partition([leader.id.rawValue], from: nodes.map(\.id.rawValue).filter { $0 != leader.id.rawValue })
        scheduler.schedule(.repair(.network), after: time(500..<1500))
    }

    private func storm() {
        network.conditions.dropPermille = random.next(below: 300)
        network.conditions.duplicatePermille = random.next(below: 200)
        network.conditions.slowPermille = random.next(below: 300)
        network.conditions.slowNanoseconds = time(100..<1500)
        scheduler.schedule(.repair(.weather), after: time(500..<8000))
    }

    // MARK: Disks and clocks

    private func failDisk() {
        let node = victim()
        guard node.isAlive else { return }
        report.diskFaults += 1
        switch random.next(below: 6) {
        case 0:
            node.disk.failSyncs(1)
            node.isFaultPlanted = true
        case 1:
            node.disk.failWrites(1)
            node.isFaultPlanted = true
        case 2:
            node.disk.losePower(afterChanges: Int(random.next(below: 30)))
            node.isFaultPlanted = true
        case 3:
            node.disk.capacity = plan.segmentBytes * Int(2 + random.next(below: 3))
            scheduler.schedule(.repair(.disk(node.number)), after: time(500..<6000))
        case 4:
            node.slowSync = time(20..<600)
            scheduler.schedule(.repair(.disk(node.number)), after: time(500..<6000))
        default: rot(node)
        }
    }

    /// A byte of a log rots, and the process starts anew: it must refuse, or cut its last round and say so. Not of an
    /// only voter: what it alone has acknowledged is gone then.
    private func rot(_ node: SimulatedNode) {
        // One at a time: nothing promises to survive the loss of two.
        guard rotten.isEmpty, let names = try? node.disk.list(SimulatedNode.directory), !names.isEmpty else { return }
        let path = SimulatedNode.directory + "/" + names[Int(random.next(below: UInt64(names.count)))]
        let offset = Int(random.next(below: UInt64(plan.segmentBytes)))
        let mask = UInt8(1) << UInt8(random.next(below: 8))
        guard nodes.allSatisfy({ $0.isAlive && $0.shards.allSatisfy { $0.group.status.mayVote } }) else { return }
        let isAlone = nodes.contains { $0.shards.contains { $0.group.membership.isOnlyVoter(node.id) } }
        guard !isAlone else { return }
        node.die(powerLoss: false)
        guard (try? node.disk.corrupt(path, at: offset, mask: mask)) != nil else {
            return restart(node, within: 1_000_000_000)
        }
        rotten[node.number] = (path, offset, mask)
        restart(node, within: 1_000_000_000)
    }

    /// A log is refused: right, if it was hurt. The disk is exchanged for its mirror then.
    func damaged(_ node: SimulatedNode, _ error: LogError) {
        guard let (path, offset, mask) = rotten.removeValue(forKey: node.number) else {
            return violate("node \(node.id) refuses a log that nobody has hurt: \(error)")
        }
        try? node.disk.corrupt(path, at: offset, mask: mask)
    }

    private func disturbClock() {
        let node = nodes[anyMachine() - 1]
        node.clock.stepWall(milliseconds: Int64(random.next(below: 20_000)) - 10_000)
        changeRate(of: node)
    }

    /// Nobody asks for anything, long enough for the groups to fall quiet.
    private func rest() {
        areClientsResting = true
        scheduler.schedule(.repair(.clients), after: time(2000..<7000))
    }

    // MARK: Orders

    private func changeMembership() {
        let shard = Int(random.next(below: UInt64(plan.shards)))
        guard let leader = leader(ofShard: shard) else { return }
        var ids = nodes.map(\.id)
        for position in ids.indices.dropLast() {
            ids.swapAt(position, position + Int(random.next(below: UInt64(ids.count - position))))
        }
        let count = min(ids.count, 1 + Int(random.next(below: 5)))
        let voters = Array(ids[..<count])
        let learners = ids[count...].filter { _ in random.oneIn(2) }
        let wanted = Membership(voters: voters, learners: Array(learners))
        trace?("\(scheduler.now / 1_000_000) ms: shard \(shard) shall have \(wanted)")
        leader.clock.trueNanoseconds = scheduler.now
        try? leader.shards[shard].group.propose(wanted)
        leader.after(.later {}, in: 0)
    }

    private func transfer() {
        let shard = Int(random.next(below: UInt64(plan.shards)))
        guard let leader = leader(ofShard: shard) else { return }
        let voters = leader.shards[shard].group.membership.voters.filter { $0 != leader.id }
        guard !voters.isEmpty else { return }
        report.transfers += 1
        leader.clock.trueNanoseconds = scheduler.now
        let target = voters[Int(random.next(below: UInt64(voters.count)))]
        trace?("\(scheduler.now / 1_000_000) ms: shard \(shard) goes from \(leader.id) to \(target)")
        try? leader.shards[shard].group.transferLeadership(to: target)
        leader.after(.later {}, in: 0)
    }

    // MARK: Mending

    func mend(_ repair: Repair) {
        switch repair {
        case .start(let number, let life):
            let node = nodes[number - 1]
            if !node.isAlive, node.life == life { start(node) }
        case .resume(let number, let stop):
            nodes[number - 1].clock.trueNanoseconds = scheduler.now
            nodes[number - 1].resume(stop)
            let node = nodes[number - 1]
            if !node.isAlive { restart(node, within: 1_000_000_000) }
        case .network: network.heal()
        case .weather: network.conditions = plan.conditions
        case .disk(let number):
            nodes[number - 1].disk.capacity = .max
            nodes[number - 1].slowSync = 0
        case .clients: if !isSettling { areClientsResting = false }
        }
    }

    /// All faults end.
    func healAll() {
        endSchedule()
        network.heal()
        network.conditions = plan.conditions
        areClientsResting = false
        for node in nodes {
            node.disk.capacity = .max
            node.slowSync = 0
            node.stopsAtLease = nil
            if node.isAlive, node.isFaultPlanted { node.die(powerLoss: true) }
            if node.isAlive { mend(.resume(node.number, stop: node.stop)) }
            if !node.isAlive { start(node) }
        }
    }
}
