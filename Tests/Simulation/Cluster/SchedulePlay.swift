import Base
import Raft
import Replication
import TestKit

/// A schedule that is being played.
struct SchedulePlay {
    let schedule: FaultSchedule
    let shard: Int
    /// About which guided clients ask.
    let key: Int
    /// The leader, the challenger, the other rivals, the allies.
    let voters: [SimulatedNode]
    var position = 0
    /// When a step that waits ends or gives up.
    var deadline: UInt64?
    var successor: SimulatedNode?
    /// Of whoever was elected last: its term, the entry that it began with, and what it knew to be committed.
    var term: Term
    var first = LogIndex.zero
    var commit = LogIndex.zero
    /// To be started again at the end.
    var killed: [SimulatedNode] = []

    var leader: SimulatedNode { voters[0] }
    private var quorum: Int { voters.count / 2 + 1 }
    private var others: [SimulatedNode] { voters.filter { $0 !== leader && $0 !== successor } }

    func members(_ parts: [FaultSchedule.Part]) -> [SimulatedNode] { parts.flatMap(members) }

    private func members(_ part: FaultSchedule.Part) -> [SimulatedNode] {
        switch part {
        case .leader: [leader]
        case .rivals: Array(voters[1...quorum])
        case .allies: Array(voters[(quorum + 1)...])
        case .challenger: [voters[1]]
        case .witnesses: Array(voters[2...quorum])
        case .successor: successor.map { [$0] } ?? []
        case .others: others
        case .helpers: Array(others.prefix(quorum - 1))
        }
    }

    // MARK: Conditions

    private func group(_ node: SimulatedNode) -> ReplicaView? {
        node.isAlive ? ReplicaView(node.shards[shard].group, node.id) : nil
    }

    /// Whether what is waited for is there; takes note of who was elected.
    mutating func holds(_ condition: FaultSchedule.Condition) -> Bool {
        switch condition {
        case .campaigns:
            guard let one = group(leader), let other = group(voters[1]) else { return false }
            return other.term > one.term
        case .elected:
            guard let node = voters.first(where: { $0 !== leader && isElected($0) }) else { return false }
            successor = node
            noteElection(of: node)
            return true
        case .returns:
            guard isElected(leader) else { return false }
            noteElection(of: leader)
            return true
        case .abdicates: return group(leader).map { !$0.leads } ?? true
        case .isAhead:
            guard let view = group(leader), view.leads else { return false }
            return voters.dropFirst().allSatisfy { group($0).map { $0.committed < view.committed } ?? true }
        case .copies:
            guard let view = group(leader), view.leads, view.term == term else { return false }
            let matched = view.matched(by: quorum)
            return matched > commit && matched < first
        case .commits(let count):
            guard let view = successor.flatMap(group), view.leads else { return false }
            return view.committed.rawValue >= first.rawValue + UInt64(count)
        }
    }

    private func isElected(_ node: SimulatedNode) -> Bool {
        group(node).map { $0.leads && $0.term > term } ?? false
    }

    private mutating func noteElection(of node: SimulatedNode) {
        guard let view = group(node) else { return }
        (term, first, commit) = (view.term, view.last, view.committed)
    }
}

/// What a replica shows.
private struct ReplicaView {
    private let group: ReplicaGroup
    private let id: NodeID

    init(_ group: ReplicaGroup, _ id: NodeID) { (self.group, self.id) = (group, id) }

    var term: Term { group.term }
    var last: LogIndex { group.lastIndex }
    var committed: LogIndex { group.committedIndex }
    /// It believes that it leads.
    var leads: Bool { group.leader == id }

    /// Up to where so many voters, this leader one of them, have its log.
    func matched(by count: Int) -> LogIndex {
        let voters = group.membership.voters
        let others = group.status.peers.filter { voters.contains($0.id) }.map(\.matched).sorted(by: >)
        return count >= 2 && others.count >= count - 1 ? others[count - 2] : .zero
    }
}

extension ClusterSimulation {
    /// Begins one of the profile's schedules, where a shard is well enough for it.
    func beginSchedule() -> Bool {
        let schedules = profile.schedules
        let shard = Int(random.next(below: UInt64(plan.shards)))
        guard !schedules.isEmpty, !network.hasCuts, let leader = leader(ofShard: shard) else { return false }
        let group = leader.shards[shard].group
        var voters = group.membership.voters.filter { $0 != leader.id }.map { nodes[Int($0.rawValue) - 1] }
        guard !group.membership.isJoint, voters.count >= 2,
            voters.allSatisfy({ $0.isAlive && !$0.isStopped && $0.shards[shard].group.status.mayVote })
        else { return false }
        for position in voters.indices.dropLast() {
            voters.swapAt(position, position + Int(random.next(below: UInt64(voters.count - position))))
        }
        let keys = (0..<plan.keys).filter { $0 % plan.shards == shard }
        areClientsResting = false
        play = SchedulePlay(
            schedule: schedules[Int(random.next(below: UInt64(schedules.count)))], shard: shard,
            key: keys[Int(random.next(below: UInt64(keys.count)))], voters: [leader] + voters, term: group.term)
        return true
    }

    /// Goes on as far as possible. Called after every event.
    func advanceSchedule() {
        while let current = play {
            guard current.position < current.schedule.steps.count else {
                report.schedules += 1
                return endSchedule()
            }
            let step = current.schedule.steps[current.position]
            guard isThrough(step) else { return }
            guard play != nil else { return }
            trace?("\(scheduler.now / 1_000_000) ms: schedule of shard \(current.shard): \(step)")
            play?.position += 1
            play?.deadline = nil
        }
    }

    private func isThrough(_ step: FaultSchedule.Step) -> Bool {
        switch step {
        case .until(let condition, let limit):
            if play?.holds(condition) == true { return true }
            if scheduler.now >= deadline(after: limit) {
                trace?("\(scheduler.now / 1_000_000) ms: schedule ends: not \(condition)")
                endSchedule()
            }
            return false
        case .pass(let range):
            if play?.deadline == nil {
                let span = range.lowerBound + random.next(below: range.upperBound - range.lowerBound + 1)
                return scheduler.now >= deadline(after: span)
            }
            return scheduler.now >= deadline(after: 0)
        case .isolate, .cut, .heal, .kill, .bounce, .stop, .resume, .slow, .fast, .guide:
            if let play { perform(step, play) }
            return true
        }
    }

    /// When the step ends that began when this was asked first.
    private func deadline(after milliseconds: UInt64) -> UInt64 {
        let deadline = play?.deadline ?? scheduler.now + milliseconds * 1_000_000
        play?.deadline = deadline
        return deadline
    }

    private func perform(_ step: FaultSchedule.Step, _ play: SchedulePlay) {
        switch step {
        case .isolate(let parts):
            let side = play.members(parts).map(\.id.rawValue)
            network.heal()
            network.partition(side, from: nodes.map(\.id.rawValue).filter { !side.contains($0) })
            report.partitions += 1
        case .cut(let parts, let others):
            network.heal()
            network.partition(play.members(parts).map(\.id.rawValue), from: play.members(others).map(\.id.rawValue))
            report.partitions += 1
        case .heal: network.heal()
        case .kill(let parts):
            for node in play.members(parts) where node.isAlive {
                end(node)
                self.play?.killed.append(node)
            }
        case .bounce(let parts):
            for node in play.members(parts) where node.isAlive {
                end(node)
                restart(node, within: 5_000_000)
            }
        case .stop(let parts):
            for node in play.members(parts) where node.isAlive && !node.isStopped {
                node.stopProcess()
                report.pauses += 1
            }
        case .resume(let parts):
            for node in play.members(parts) { mend(.resume(node.number, stop: node.stop)) }
        case .slow(let parts): for node in play.members(parts) { node.slowSync = 1_000_000_000 }
        case .fast: for node in play.voters { node.slowSync = 0 }
        case .guide(let readers, let writers):
            guidance = ClientGuidance(
                key: play.key, readers: play.members(readers).map(\.number),
                writers: play.members(writers).map(\.number))
        case .until, .pass: break  // They are waited for.
        }
    }

    private func end(_ node: SimulatedNode) {
        node.die(powerLoss: false)
        report.crashes += 1
    }

    /// Leaves nothing behind.
    func endSchedule() {
        guard let ended = play else { return }
        for node in ended.killed where !node.isAlive { restart(node, within: 5_000_000) }
        play = nil
        guidance = nil
        network.heal()
        for node in ended.voters {
            node.slowSync = 0
            if node.isStopped { mend(.resume(node.number, stop: node.stop)) }
        }
    }
}
