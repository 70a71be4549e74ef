import Base
import Raft

/// A group under test: replicas, a network that does what the test says, one virtual time, and the paper's five
/// safety properties checked after every step.
struct Cluster {
    var replicas: [Replica]
    var network: [Envelope] = []
    /// Directed links that lose everything.
    var cut: Set<[NodeID]> = []
    /// Nanoseconds since the beginning.
    var time: UInt64 = 10_000_000_000
    var violations: [String] = []
    /// Changes every replica's configuration before it starts.
    var configure: (inout RaftConfiguration) -> Void = { _ in }
    /// What happened, for scenarios; empty unless `isTelling`.
    var story: [String] = []
    var isTelling = false
    var seed: UInt64
    /// Snapshots are installed at once; else by `finishInstall`.
    var installsAtOnce = true
    /// Writes are durable at once.
    var persistsAtOnce = false

    // What the checkers remember.
    private(set) var leaders: [Term: NodeID] = [:]
    private(set) var committed: [Entry] = []
    private var nextValue: UInt64 = 1
    private var nextToken: UInt64 = 1
    private(set) var readsServed = 0
    private(set) var elections = 0
    private var effects = Effects()

    /// A group of `voters`, with `spare` more replicas that belong to nobody yet. Nothing is started.
    init(voters: Int, spare: Int = 0, seed: UInt64) {
        let membership = Membership(voters: (1...voters).map { node(UInt32($0)) })
        replicas = (1...(voters + spare)).map { Replica(id: node(UInt32($0)), membership: membership) }
        self.seed = seed
    }

    private mutating func note(_ text: @autoclosure () -> String) { if isTelling { story.append(text()) } }

    func position(_ id: NodeID) -> Int { Int(id.rawValue) - 1 }
    subscript(_ id: UInt32) -> Replica { replicas[Int(id) - 1] }

    func now(_ position: Int) -> UInt64 { time / 1000 * replicas[position].pace &+ replicas[position].ahead }

    // MARK: Life

    mutating func start(_ position: Int, mayVote: Bool = true) {
        replicas[position].lives += 1
        let id = replicas[position].id
        var configuration = RaftConfiguration(
            id: id, seed: seed &* 31 &+ UInt64(id.rawValue) &* 1009 &+ replicas[position].lives)
        configure(&configuration)
        var restored = replicas[position].restored
        replicas[position].medium.mayVote = mayVote && replicas[position].medium.mayVote
        restored.mayVote = replicas[position].medium.mayVote
        let medium = replicas[position].medium
        replicas[position].entries = medium.entries
        replicas[position].base = medium.base
        replicas[position].baseMembership = medium.baseMembership
        replicas[position].applied = restored.applied
        replicas[position].core = RaftCore(configuration, restored: restored, now: now(position))
        step(position, .wake)
    }

    /// Power is lost: what was not durable is gone. Messages that left stay on the network.
    mutating func crash(_ position: Int) {
        replicas[position].core = nil
        replicas[position].writes = []
        replicas[position].held = []
        replicas[position].installing = nil
        replicas[position].expected = [:]
    }

    // MARK: Steps

    mutating func step(_ position: Int, _ event: RaftEvent, values: [UInt64] = []) {
        guard var core = replicas[position].core else { return }
        replicas[position].core = nil  // The one reference: no copy.
        let before = core.lastIndex
        let wasLeader = core.isLeader
        let term = core.term
        core.step(event, now: now(position), into: &effects)
        if wasLeader, core.isLeader, core.term == term, effects.truncatedFrom != nil || core.lastIndex < before {
            violations.append("leader append-only: \(core.id) cut its log in term \(term)")
        }
        replicas[position].core = core
        perform(position, effects, event, values)
    }

    /// The driver's duties.
    private mutating func perform(_ position: Int, _ effects: Effects, _ event: RaftEvent, _ values: [UInt64]) {
        store(position, effects, event, values)
        for message in effects.messages { send(position, message) }
        for message in effects.messagesAfterPersist {
            replicas[position].held.append((effects.write, envelope(position, message)))
        }
        if effects.committed != nil, effects.snapshotToInstall == nil { noteCommitted(position) }
        for read in effects.reads { noteRead(position, read) }
        if let role = effects.role { noteRole(position, role) }
        for peer in effects.snapshotsWanted { sendSnapshot(position, to: peer) }
        let id = replicas[position].id
        if let membership = effects.membership { note("\(id): membership \(membership)") }
        if let refusal = effects.refusal { note("\(id): refused, \(refusal)") }
        if let snapshot = effects.snapshotToInstall {
            replicas[position].installing = snapshot
            if installsAtOnce { finishInstall(position) }
        }
        releaseHeld(position)
        if persistsAtOnce { persist(position) }
    }

    private mutating func store(_ position: Int, _ effects: Effects, _ event: RaftEvent, _ values: [UInt64]) {
        if let from = effects.truncatedFrom {
            let base = replicas[position].base.index.rawValue
            if from.rawValue > base {
                let keep = Int(from.rawValue - base - 1)
                if keep < replicas[position].entries.count { replicas[position].entries.removeSubrange(keep...) }
            }
        }
        guard effects.hasWrite else { return }
        let run = effects.entries
        var offset = 0
        if !run.isEmpty, case .received(let message) = event, case .append(let append) = message.body {
            offset = Int(run.first.rawValue &- append.entries.first.rawValue)
        }
        var entries: [Entry] = []
        for (number, index) in run.indexes.enumerated() {
            let index = LogIndex(rawValue: index)
            let value =
                run.content(at: index) == .normal && offset + number < values.count
                ? values[offset + number] : 0
            entries.append(Entry(term: run.term(at: index), value: value, content: run.content(at: index)))
        }
        replicas[position].entries += entries
        replicas[position].writes.append(
            PendingWrite(
                number: effects.write, hardState: effects.hardState, isWhole: effects.isWhole,
                first: run.first.rawValue, entries: entries))
        if let core = replicas[position].core {
            let replica = replicas[position]
            let end = replica.base.index.rawValue + UInt64(replica.entries.count)
            if core.lastIndex.rawValue != end { violations.append("\(core.id): core \(core.lastIndex), driver \(end)") }
        }
    }

    private func envelope(_ position: Int, _ message: Message) -> Envelope {
        guard case .append(let append) = message.body else { return Envelope(message: message) }
        return Envelope(
            message: message, values: append.entries.indexes.map { replicas[position].entry(at: $0)?.value ?? 0 })
    }

    private mutating func send(_ position: Int, _ message: Message) {
        network.append(envelope(position, message))
    }

    /// Messages whose write is durable leave.
    private mutating func releaseHeld(_ position: Int) {
        let oldest = replicas[position].writes.first?.number ?? .max
        while let first = replicas[position].held.first, first.write < oldest {
            network.append(first.envelope)
            replicas[position].held.removeFirst()
        }
    }

    /// Makes writes durable: all, or the oldest ones.
    mutating func persist(_ position: Int, _ count: Int = .max) {
        guard replicas[position].core != nil else { return }
        guard let number = replicas[position].persist(min(count, replicas[position].writes.count)) else { return }
        releaseHeld(position)
        step(position, .persisted(write: number))
    }

    mutating func propose(_ position: Int, count: Int = 1) {
        let values = (0..<count).map { nextValue + UInt64($0) }
        nextValue += UInt64(count)
        step(position, .propose(sizes: [UInt32](repeating: 8, count: count)), values: values)
    }

    mutating func read(_ position: Int) {
        guard replicas[position].core?.isLeader == true else { return step(position, .readIndex(token: 0)) }
        let token = nextToken
        nextToken += 1
        replicas[position].expected[token] = UInt64(committed.count)
        step(position, .readIndex(token: token))
    }

    mutating func flush(_ position: Int) {
        guard let core = replicas[position].core else { return }
        replicas[position].medium.flushed = max(
            replicas[position].medium.flushed, min(replicas[position].applied, core.durableIndex))
    }

    mutating func compact(_ position: Int, through wanted: UInt64 = .max) {
        flush(position)
        let index = min(wanted, replicas[position].medium.flushed.rawValue)
        guard replicas[position].core != nil, index > replicas[position].base.index.rawValue else { return }
        replicas[position].compact(through: index)
        step(position, .compacted(LogIndex(rawValue: index)))
    }

    // MARK: Network

    func isCut(_ message: Message) -> Bool { cut.contains([message.from, message.to]) }

    /// Delivers the message at `index` of the network, or loses it if its link is cut or its receiver down.
    mutating func deliver(_ index: Int) {
        let envelope = network.remove(at: index)
        let message = envelope.message
        let to = position(message.to), from = position(message.from)
        let isLost = isCut(message) || replicas[to].core == nil
        if !isLost { step(to, .received(message), values: envelope.values) }
        if case .snapshot = message.body { step(from, .snapshotSent(to: message.to, isDone: !isLost)) }
    }

    mutating func sendSnapshot(_ position: Int, to peer: NodeID) {
        let replica = replicas[position]
        guard let core = replica.core, let term = core.term(at: replica.applied) else { return }
        let metadata = SnapshotMetadata(
            last: EntryID(term: term, index: replica.applied),
            membership: replica.membership(at: replica.applied.rawValue))
        network.append(
            Envelope(message: Message(from: replica.id, to: peer, term: core.term, body: .snapshot(metadata))))
    }

    mutating func finishInstall(_ position: Int) {
        guard let snapshot = replicas[position].installing else { return }
        replicas[position].install(snapshot)
        let id = replicas[position].id
        note("\(id): installs a snapshot of \(snapshot.last)")
        step(position, .snapshotInstalled(snapshot))
    }

    /// Lets time pass on all clocks, in steps of one tick.
    mutating func pass(milliseconds: UInt64) {
        var left = milliseconds
        while left > 0 {
            let part = min(left, 50)
            time += part * 1_000_000
            left -= part
            for position in replicas.indices where replicas[position].core?.needsTicks == true { step(position, .tick) }
        }
    }

    // MARK: Checkers

    private mutating func noteRole(_ position: Int, _ role: RoleChange) {
        let id = replicas[position].id
        switch role {
        case .leader(let term):
            note("\(id): leads in term \(term)")
            elections += 1
            if let other = leaders[term], other != id {
                violations.append("election safety: \(other) and \(id) lead in term \(term)")
            }
            leaders[term] = id
            let replica = replicas[position]
            for (offset, entry) in committed.enumerated() where UInt64(offset) >= replica.base.index.rawValue {
                if replica.entry(at: UInt64(offset) + 1) != entry {
                    violations.append("leader completeness: \(id) leads term \(term) without entry \(offset + 1)")
                    break
                }
            }
        case .follower(let term, let leader):
            replicas[position].expected = [:]
            note("\(id): follows \(leader.map { "\($0)" } ?? "nobody") in term \(term)")
        }
    }

    /// State-machine safety: nobody commits another entry at an index where one was committed.
    private mutating func noteCommitted(_ position: Int) {
        guard let core = replicas[position].core else { return }
        let replica = replicas[position]
        var index = max(replica.applied.rawValue, replica.base.index.rawValue)
        while index < core.commitIndex.rawValue {
            index += 1
            guard let entry = replica.entry(at: index) else {
                violations.append("\(core.id) commits \(index), which it does not have")
                return
            }
            if index <= UInt64(committed.count) {
                if committed[Int(index) - 1] != entry {
                    violations.append("state-machine safety: \(core.id) commits another entry \(index)")
                }
            } else {
                committed.append(entry)
            }
        }
        replicas[position].applied = max(replicas[position].applied, core.commitIndex)
        note("\(core.id): commits \(core.commitIndex)")
        step(position, .applied(core.commitIndex))
    }

    private mutating func noteRead(_ position: Int, _ read: ReadReady) {
        guard let expected = replicas[position].expected.removeValue(forKey: read.token) else {
            return violations.append("\(replicas[position].id) answers read \(read.token), which nobody waits for")
        }
        readsServed += 1
        let id = replicas[position].id
        note("\(id): reads at \(read.index)\(read.isUnderLease ? " under its lease" : "")")
        if read.index.rawValue < expected {
            violations.append(
                "stale read: \(replicas[position].id) reads at \(read.index), committed was \(expected)")
        }
    }

    /// Log matching: where two logs hold an entry of the same term at the same index, they are equal up to it.
    mutating func checkLogMatching() {
        for first in replicas.indices {
            for second in replicas.indices where second > first {
                let one = replicas[first], two = replicas[second]
                let low = max(one.base.index.rawValue, two.base.index.rawValue)
                let high = min(
                    one.base.index.rawValue + UInt64(one.entries.count),
                    two.base.index.rawValue + UInt64(two.entries.count))
                var mustMatch = false
                var index = high
                while index > low {
                    let left = one.entry(at: index), right = two.entry(at: index)
                    if mustMatch || left?.term == right?.term {
                        mustMatch = true
                        if left != right {
                            violations.append("log matching: \(one.id) and \(two.id) differ at \(index)")
                            return
                        }
                    }
                    index -= 1
                }
            }
        }
    }
}
