// A whole cluster in one thread, driven by one seed: machines with the product's replica driver, its log and its
// snapshots on disks that lie, clocks that drift, a network that loses, doubles and cuts, clients that do not know
// what became of what they asked, and faults at random.
//
// A run has three phases: at least 57 s of true time with faults, until there were three elections and five faults;
// then everything is mended, and the clients must get on; then they stop, and all replicas must agree.

import Base
import Raft
import Replication
import Storage
import TestKit

/// One run.
package final class ClusterSimulation {
    private enum Phase { case faults, healing, settling, over }

    /// A simulated cluster is bounded in time: one that needs more than this does not come to rest.
    static let faultTime: UInt64 = 57_000_000_000
    static let latestFault: UInt64 = 150_000_000_000
    static let healingTime: UInt64 = 20_000_000_000
    static let settlingTime: UInt64 = 20_000_000_000

    let bug: ClusterBug?
    let profile: FaultProfile
    var random: SplitMix64
    let plan: ClusterPlan
    var scheduler: VirtualScheduler<ClusterEvent>
    /// Between machines.
    var network: VirtualNetwork
    /// Between clients and machines.
    private var access: VirtualNetwork
    private(set) var nodes: [SimulatedNode] = []
    private(set) var clients: [SimulatedClient] = []
    var history: OperationHistory
    var areClientsResting = false
    /// The schedule that is being played, and whom clients ask meanwhile.
    var play: SchedulePlay?
    var guidance: ClientGuidance?
    package internal(set) var report = ClusterReport()
    private var violation: String?
    private var phase = Phase.faults
    private var phaseEnd: UInt64 = 0
    private var lastNumber = 0
    private var checkers: [ShardCheckers]
    /// Machines whose log was hurt on purpose, and how to mend it.
    var rotten: [Int: (path: String, offset: Int, mask: UInt8)] = [:]
    private var unreachable: Set<Int> = []

    /// Is told what happens, when somebody looks for a bug.
    package var trace: ((String) -> Void)?

    package init(seed: UInt64, bug: ClusterBug? = nil, profile: FaultProfile? = nil) {
        self.bug = bug
        self.profile = profile ?? FaultProfile(seed: seed)
        random = SplitMix64(seed: seed)
        var plan = ClusterPlan(&random)
        plan.suit(self.profile)
        self.plan = plan
        scheduler = VirtualScheduler(seed: random.next())
        network = VirtualNetwork(seed: random.next())
        access = VirtualNetwork(seed: random.next())
        network.conditions = plan.conditions
        access.conditions.slowPermille = 5
        access.conditions.dropPermille = 5
        history = OperationHistory(keyCount: plan.keys)
        checkers = Array(repeating: ShardCheckers(), count: plan.shards)
        for number in 1...plan.machines { nodes.append(SimulatedNode(number, in: self, random: &random)) }
        clients = (0..<plan.clients).map { SimulatedClient($0, shards: plan.shards) }
    }

    /// The first membership of every shard.
    var founding: Membership { Membership(voters: (1...plan.voters).map { NodeID(rawValue: UInt32($0)) }) }

    // MARK: Running

    /// Runs to the end, or until so many events have happened.
    package func run(steps: Int = .max) -> ClusterReport {
        trace?("\(profile), \(plan)")
        for node in nodes {
            node.clock.run(atPartsPerMillion: randomRate())
            _ = node.start()
        }
        for number in clients.indices { clients[number].schedule(in: self) }
        scheduler.schedule(.fault, after: 1_000_000_000)
        scheduler.schedule(.keepalive, after: 250_000_000)
        while phase != .over, violation == nil, report.steps < steps, let event = scheduler.next() {
            report.steps += 1
            handle(event)
            if play != nil { advanceSchedule() }
            if report.steps & 15 == 0 || scheduler.now > phaseEnd { advancePhase() }
        }
        report.virtualNanoseconds = scheduler.now
        report.elections = elections
        if violation == nil { checkHistory() }
        if violation == nil, phase == .over { checkMinima() }
        report.violation = violation.map { "at \(scheduler.now / 1_000_000) ms: \($0)" }
        for node in nodes where node.isAlive { node.die(powerLoss: false) }
        return report
    }

    var isSettling: Bool { phase == .settling }
    var elections: Int { checkers.reduce(0) { $0 + $1.election.elections } }

    /// Something is not as promised: the run ends.
    func violate(_ text: String) {
        if violation == nil { violation = text }
    }

    private func mix(_ value: UInt64) { report.digest = (report.digest ^ value) &* 0x9E37_79B9_7F4A_7C15 }

    private func handle(_ event: ClusterEvent) {
        mix(scheduler.now)
        switch event {
        case .node(let number, let life, let event):
            let node = nodes[number - 1]
            guard node.life == life, node.isAlive else { return }
            node.clock.trueNanoseconds = scheduler.now
            mix(UInt64(number))
            node.handle(event)
            if !node.isAlive { restart(node, within: 2_000_000_000) }
        case .reply(let reply): clients[reply.request.client].hears(reply, in: self)
        case .client(let number, let attempt): clients[number].wakes(attempt, in: self)
        case .fault: if phase == .faults { causeFault() }
        case .repair(let repair): mend(repair)
        case .keepalive: keepAlive()
        case .usurp(let usurpation): watch(usurpation)
        }
    }

    private func advancePhase() {
        let now = scheduler.now
        switch phase {
        case .faults:
            let isEnough = elections >= 3 * plan.shards && report.faults >= 5
            guard now >= Self.faultTime, isEnough || now >= Self.latestFault else { return }
            phase = .healing
            phaseEnd = now + Self.healingTime
            trace?("\(now / 1_000_000) ms: everything is mended")
            healAll()
        case .healing:
            // Everybody must have got something done since, or be found out at the end of the time.
            let began = phaseEnd - Self.healingTime
            let haveAll = clients.allSatisfy { $0.newestCompletion > began }
            guard haveAll || now >= phaseEnd else { return }
            if !haveAll {
                let seconds = Self.healingTime / 1_000_000_000
                return violate("no progress for \(seconds) s after all was mended: \(state)")
            }
            phase = .settling
            phaseEnd = now + Self.settlingTime
            areClientsResting = true
        case .settling:
            guard now > phaseEnd - Self.settlingTime + 3_500_000_000 else { return }
            let isSettled = clients.allSatisfy { $0.isIdle } && disagreement() == nil
            guard isSettled || now >= phaseEnd else { return }
            if let text = disagreement() { return violate("replicas do not agree at rest: \(text)") }
            phase = .over
        case .over: return
        }
    }

    // MARK: Sending

    private func schedule(_ deliveries: VirtualNetwork.Deliveries, to node: Int, _ event: NodeEvent) {
        let life = nodes[node - 1].life
        if let first = deliveries.first { scheduler.schedule(.node(node, life: life, event), after: first) }
        if let second = deliveries.second { scheduler.schedule(.node(node, life: life, event), after: second) }
    }

    func send(_ delivery: PeerDelivery) {
        let message = delivery.message
        observe(delivery)
        let to = Int(message.to.rawValue)
        guard nodes.indices.contains(to - 1) else { return violate("a message to nobody: \(message)") }
        schedule(
            network.deliveries(from: message.from.rawValue, to: message.to.rawValue, now: scheduler.now), to: to,
            .peer(delivery))
    }

    func send(_ delivery: SnapshotDelivery, from node: SimulatedNode) {
        let arrival = network.deliveries(from: node.id.rawValue, to: delivery.message.to.rawValue, now: scheduler.now)
        let transfer = 2_000_000 + random.next(below: 80_000_000)
        let to = Int(delivery.message.to.rawValue)
        guard let delay = arrival.first, nodes[to - 1].isAlive else {
            return node.after(.staged(delivery, isDone: false), in: transfer + 500_000_000)
        }
        let life = nodes[to - 1].life
        scheduler.schedule(.node(to, life: life, .snapshot(delivery)), after: delay + transfer)
        // If nothing is heard of it, it has failed.
        node.after(.staged(delivery, isDone: false), in: 2_000_000_000)
    }

    func staged(_ delivery: SnapshotDelivery, by node: SimulatedNode, isDone: Bool) {
        let from = Int(delivery.message.from.rawValue)
        let arrival = network.deliveries(from: node.id.rawValue, to: UInt32(from), now: scheduler.now)
        guard let delay = arrival.first else { return }
        scheduler.schedule(
            .node(from, life: delivery.life, .staged(delivery, isDone: isDone)), after: delay)
    }

    func send(_ request: ClientRequest, to number: Int) {
        guard nodes.indices.contains(number - 1) else { return }
        let client = UInt32(1000 + request.client)
        schedule(
            access.deliveries(from: client, to: UInt32(number), now: scheduler.now), to: number, .request(request))
    }

    func send(_ reply: ClientReply, from number: Int) {
        let client = UInt32(1000 + reply.request.client)
        guard let delay = access.deliveries(from: UInt32(number), to: client, now: scheduler.now).first else { return }
        scheduler.schedule(.reply(reply), after: delay)
    }

    func anyMachine() -> Int { 1 + Int(random.next(below: UInt64(plan.machines))) }

    func nextNumber() -> Int {
        lastNumber += 1
        return lastNumber
    }

    // MARK: Liveness of processes

    /// What connections between processes tell: who does not answer.
    private func keepAlive() {
        scheduler.schedule(.keepalive, after: 250_000_000)
        for from in nodes where from.isAlive && !from.isStopped {
            for to in nodes where to !== from {
                let pair = from.number * 64 + to.number
                let isCut =
                    !to.isAlive || to.isStopped || network.isCut(from: from.id.rawValue, to: to.id.rawValue)
                    || network.isCut(from: to.id.rawValue, to: from.id.rawValue)
                guard isCut else {
                    unreachable.remove(pair)
                    continue
                }
                if unreachable.insert(pair).inserted {
                    from.after(.peerDown(to.id), in: 250_000_000 + random.next(below: 500_000_000))
                }
            }
        }
    }

    // MARK: Checking

    /// A message of a leader says what is in its log.
    private func observe(_ delivery: PeerDelivery) {
        violate(checkers[Int(delivery.shard.rawValue) - 1].observe(delivery.message, delivery.payload))
    }

    private func violate(_ text: String?) {
        if let text { violate(text) }
    }

    /// Returns whether the operation is executed for the first time.
    func applies(_ shard: SimulatedShard, _ index: LogIndex, _ payload: Bytes, _ entry: SimulatedEntry?) -> Bool {
        let digest = payload.withUnsafeBytes { SimulatedKey.digest($0) }
        mix(digest &+ index.rawValue)
        let number = shard.number
        let (isNew, text) = checkers[number].machine.applies(shard.node.number, index, digest: digest)
        violate(text)
        guard isNew, let entry else { return false }
        let isOnce = entry.sequence > 0 && !plan.hasActors
        violate(checkers[number].writes.commits(entry.operation, isOnce: isOnce))
        if plan.hasActors {
            violate(
                checkers[number].activation.writes(entry.key, base: entry.base, term: entry.term, node: entry.node))
        }
        return true
    }

    /// A lone leader says so to nobody else.
    func leads(_ node: SimulatedNode, _ term: Term, shard: Int) {
        violate(checkers[shard].election.leads(node.id, in: term))
    }

    func begins(_ shard: SimulatedShard, at index: LogIndex) {
        violate(checkers[shard.number].machine.begins(shard.node.number, at: index))
    }

    func answered(_ shard: Int, _ key: Int, term: UInt64, isUnderLease: Bool) {
        violate(checkers[shard].activation.answers(key, term: term, isUnderLease: isUnderLease))
    }

    func acknowledged(_ key: Int, _ operation: UInt64) {
        violate(checkers[key % plan.shards].writes.acknowledges(operation))
    }

    func membershipChanged(_ shard: Int, _ membership: Membership) {
        if membership != checkers[shard].membership {
            checkers[shard].membership = membership
            report.memberships += 1
        }
    }

    private func checkHistory() {
        guard let (key, verdict) = LinearizabilityChecker().check(history) else { return }
        switch verdict {
        case .linearizable: break
        case .undecided: report.undecided += 1
        case .violated(let text): violate("linearizability of key \(key): \(text)")
        }
    }

    private func checkMinima() {
        if report.virtualNanoseconds < 60_000_000_000 { violate("only \(report.virtualNanoseconds) ns passed") }
        if report.elections < 3 || report.faults < 5 {
            violate("only \(report.elections) elections and \(report.faults) faults")
        }
    }

    /// What is different between the replicas of a shard that should be equal by now.
    private func disagreement() -> String? {
        for shard in 0..<plan.shards {
            guard let leader = nodes.first(where: { $0.isAlive && $0.shards[shard].group.isLeading }) else {
                return "shard \(shard) has no leader: \(state)"
            }
            let members = leader.shards[shard].group.membership
            let index = leader.shards[shard].group.committedIndex
            guard Int(index.rawValue) == checkers[shard].machine.count else {
                return "the leader of shard \(shard) is at \(index), \(checkers[shard].machine.count) were applied"
            }
            let expected = content(leader, shard)
            for member in members.everyone {
                let node = nodes[Int(member.rawValue) - 1]
                guard node.isAlive, node.shards[shard].group.committedIndex == index else {
                    return "node \(member) is not at \(index) of shard \(shard): \(state)"
                }
                if content(node, shard) != expected { return "node \(member) holds other records of shard \(shard)" }
            }
        }
        return nil
    }

    private func content(_ node: SimulatedNode, _ shard: Int) -> UInt64 {
        var digest: UInt64 = 0
        let range = SimulatedKey.range(shard)
        range.from.withUnsafeBytes { from in
            range.to.withUnsafeBytes { to in
                try? node.shards[shard].store.scan(from: from, to: to) { key, value in
                    digest = (digest ^ SimulatedKey.digest(key)) &* 31 &+ SimulatedKey.digest(value)
                    return true
                }
            }
        }
        return digest
    }

    /// The replicas, for people.
    var state: String {
        nodes.map { node in
            guard node.isAlive else { return "\(node.id) dead" }
            return "\(node.id)\(node.isStopped ? " stopped" : "")"
                + node.shards.map { shard in
                    let status = shard.group.status
                    return " [\(status.role) term \(status.term) last \(status.last) commit \(status.commit)"
                        + " of \(status.membership)\(status.mayVote ? "" : ", log cut")"
                        + "\(status.isQuiescent ? ", quiescent" : "")\(Self.peers(status))]"
                }.joined()
        }.joined(separator: "; ")
    }

    private static func peers(_ status: RaftStatus) -> String {
        guard !status.peers.isEmpty else { return "" }
        return ", peers "
            + status.peers.map { "\($0.id) \($0.mode) \($0.matched)\($0.isActive ? "" : " silent")" }
            .joined(separator: ", ")
    }

    private func randomRate() -> Int64 {
        Int64(random.next(below: plan.clockRate * 2 + 1)) - Int64(plan.clockRate)
    }

    func changeRate(of node: SimulatedNode) {
        node.clock.trueNanoseconds = scheduler.now
        node.clock.run(atPartsPerMillion: randomRate())
    }
}

/// The checkers of one shard.
struct ShardCheckers {
    var election = ElectionSafety()
    var matching = LogMatching()
    var appendOnly = LeaderAppendOnly()
    var completeness = LeaderCompleteness()
    var machine = StateMachineSafety()
    var writes = AcknowledgedWrites()
    var activation = SingleActivation()
    /// The newest that anybody has.
    var membership: Membership?
    private var commits: [Term: LogIndex] = [:]

    /// What a message says about its sender's log.
    mutating func observe(_ message: Message, _ payload: Bytes) -> String? {
        switch message.body {
        case .append(let append): return leads(message) ?? observe(append, message.term, payload)
        case .heartbeat, .snapshot, .timeoutNow: return leads(message)
        case .preVoteRequest, .preVoteReply, .voteRequest, .voteReply, .appendReply, .heartbeatReply: return nil
        }
    }

    private mutating func leads(_ message: Message) -> String? {
        election.leads(message.from, in: message.term)
    }

    private mutating func observe(_ append: Message.Append, _ term: Term, _ payload: Bytes) -> String? {
        if let text = has(append.previous, in: term) { return text }
        var previous = append.previous.term
        var offset = 0
        for index in append.entries.indexes {
            let index = LogIndex(rawValue: index)
            let entry = EntryID(term: append.entries.term(at: index), index: index)
            let size = Int(append.entries.size(at: index))
            guard offset + size <= payload.count else { return "an append of \(payload.count) bytes lacks payloads" }
            let digest = payload.withUnsafeBytes {
                SimulatedKey.digest(ByteView(rebasing: $0[offset..<offset + size]))
            }
            offset += size
            if let text = matching.has(entry, digest: digest, behind: previous) ?? has(entry, in: term) { return text }
            previous = entry.term
        }
        return commit(append.commit, in: term)
    }

    private mutating func has(_ entry: EntryID, in term: Term) -> String? {
        guard entry.index > .zero else { return nil }
        return appendOnly.leader(of: term, has: entry) ?? completeness.leader(of: term, has: entry)
    }

    private mutating func commit(_ index: LogIndex, in term: Term) -> String? {
        let known = commits[term]
        guard index > known ?? .zero else { return nil }
        commits[term] = index
        // Of a leader's first word only the newest entry is looked at: what is before it follows from log matching.
        let first = known.map { $0.rawValue + 1 } ?? index.rawValue
        for number in first...index.rawValue {
            let index = LogIndex(rawValue: number)
            guard let entry = appendOnly.entry(at: index, ofLeader: term) else { continue }
            if let text = completeness.isCommitted(entry, in: term) { return text }
        }
        return nil
    }
}
