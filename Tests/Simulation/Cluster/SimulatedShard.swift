import Base
import Raft
import Replication
import Storage

/// One shard on one machine: what a storage node does with its replica. It evaluates what clients ask, applies what
/// is committed, flushes, and answers.
///
/// With actors (see `ClusterPlan`) the leader evaluates against pending state: hot values in memory, and the overlay
/// to which it applies what it proposes; losing leadership discards both. Without, entries are commands.
final class SimulatedShard {
    private struct Activation {
        var value: SimulatedValue
        /// The newest entry that it has seen of its own.
        var index: LogIndex
    }

    let number: Int
    let group: ReplicaGroup
    let store: ShardStore
    unowned let node: SimulatedNode
    private let world: ClusterSimulation
    private let hasActors: Bool
    /// Above zero while this replica leads.
    private var term: UInt64 = 0
    private var activations: [Int: Activation] = [:]
    /// Own proposals that are not committed, in order.
    private var proposed: [(index: LogIndex, payload: Bytes)] = []
    /// Answers that wait for the entry at their index.
    private var waiting: [(index: LogIndex, request: ClientRequest, content: ClientReply.Content, value: [Int]?)] = []
    /// Committed and not in the store yet.
    private var recent: [(index: LogIndex, payload: Bytes)] = []
    private var job: FlushJob?
    /// With actors: which requests were executed. Without, each replica finds out when it applies.
    private let outcomes: SimulatedOutcomes
    /// Pending state is wrong, and can be made anew when nothing is pending any more.
    private var isRebuilding = false
    /// With the bug `forgetSessions`.
    private var isForgetful: Bool { world.bug == .driver(.forgetSessions) }
    private static let nothing = WriteBatch().effects.bytes

    init(_ number: Int, _ group: ReplicaGroup, _ store: ShardStore, on node: SimulatedNode) {
        (self.number, self.group, self.store, self.node) = (number, group, store, node)
        outcomes = SimulatedOutcomes(number, store)
        world = node.world
        hasActors = node.world.plan.hasActors
        group.onCommitted = { [unowned self] in committed(through: $0) }
        group.onApply = { [unowned self] in apply($0, $1) }
        group.onRole = { [unowned self] in change($0) }
        group.onMembership = { [unowned self] in world.membershipChanged(self.number, $0) }
    }

    // MARK: Asking

    func handle(_ request: ClientRequest) {
        // Who has no actors may ask for a read as soon as it is elected: the core holds it back until it is safe.
        let mayRead = request.action == .read && !hasActors && group.leader == node.id
        guard group.isLeading || mayRead, !isRebuilding else { return refuse(request) }
        switch request.action {
        case .read: read(request)
        case .write(let number): write(request, SimulatedEntry(request, number: number, isAppend: false))
        case .append(let number): write(request, SimulatedEntry(request, number: number, isAppend: true))
        }
    }

    private func refuse(_ request: ClientRequest) {
        node.reply(request, .refused(leader: group.leader.map { Int($0.rawValue) }))
    }

    private func write(_ request: ClientRequest, _ entry: SimulatedEntry) {
        guard hasActors else { return propose(request, entry) { entry.encode(into: &$0) } }
        guard !isKnown(request) else { return }
        var entry = entry
        let activation = activate(request.key)
        (entry.base, entry.term, entry.node) = (activation.value.version, term, node.id.rawValue)
        let value = activation.value.after(entry)
        let effects = pendingEffects(request, value)
        let payload = { (buffer: inout ByteBuffer) in
            entry.encode(into: &buffer)
            buffer.append(effects)
        }
        propose(request, entry, payload) { [self] index in
            fill(below: index)
            apply(effects, at: index)
            activations[request.key] = Activation(value: value, index: index)
        }
    }

    private func propose(
        _ request: ClientRequest, _ entry: SimulatedEntry, _ encode: (inout ByteBuffer) -> Void,
        _ done: (LogIndex) -> Void = { _ in }
    ) {
        do throws(DatabaseError) {
            // Commits may come from inside `propose` (a lone voter on a fast disk): it is noted before.
            _ = try group.propose(encode) { index, payload in
                proposed.append((index, payload.bytes))
                waiting.append((index, request, .done, nil))
                done(index)
            }
            if world.bug == .driver(.replyBeforeCommit) { node.reply(request, .done) }
        } catch {
            refuse(request)
            // Its outcome is remembered, and does not happen.
            isRebuilding = hasActors
            rebuildIfSettled()
        }
    }

    /// Answers a request that was executed before, when its entry is committed.
    private func isKnown(_ request: ClientRequest) -> Bool {
        guard request.sequence > 0, !isForgetful else { return false }
        switch outcomes.recall(request) {
        case .new: return false
        case .executed(let index): waiting.append((index, request, .done, nil))
        case .forgotten: waiting.append((.zero, request, .unknown, nil))
        case .violation(let text): world.violate("outcomes of shard \(number) at node \(node.id): \(text)")
        }
        release()
        return true
    }

    private func rebuildIfSettled() {
        guard isRebuilding, proposed.isEmpty else { return }
        outcomes.reset()
        isRebuilding = false
    }

    /// What the next entry changes, with the outcome of the request.
    private func pendingEffects(_ request: ClientRequest, _ value: SimulatedValue) -> Bytes {
        let effects = SimulatedEffects()
        SimulatedKey.value(number, request.key).withUnsafeBytes { key in
            value.bytes.withUnsafeBytes { effects.put(key: key, value: $0) }
        }
        if request.sequence > 0, !isForgetful {
            outcomes.remember(
                request, at: LogIndex(rawValue: group.lastIndex.rawValue + 1),
                milliseconds: world.scheduler.now / 1_000_000, into: effects)
        }
        return effects.bytes
    }

    private func read(_ request: ClientRequest) {
        let activation = hasActors ? activate(request.key) : nil
        group.readIndex { [weak self] result in
            guard let self else { return }
            switch result {
            case .failure: refuse(request)
            case .success(let ready):
                let value = activation?.value ?? value(of: request.key)
                answer(request, value.numbers, observed: activation?.index ?? .zero, ready)
            }
        }
    }

    private func answer(_ request: ClientRequest, _ value: [Int], observed: LogIndex, _ ready: ReadReady) {
        guard observed <= group.committedIndex else {
            // The answer shows a write that is not committed yet.
            waiting.append((observed, request, .value(value), ready.isUnderLease ? value : nil))
            return
        }
        finish(request, value, ready.isUnderLease)
    }

    private func finish(_ request: ClientRequest, _ value: [Int], _ isUnderLease: Bool) {
        guard isUnderLease else {
            if hasActors { world.answered(number, request.key, term: term, isUnderLease: false) }
            return node.reply(request, .value(value))
        }
        node.release(LeasedRead(request, shard: number, value: value))
    }

    /// The reply of a read that was made under a lease may leave if the lease runs now.
    func release(_ read: LeasedRead) {
        guard group.isLeading else { return refuse(read.request) }
        guard group.leaseIsValid || world.bug == .driver(.staleLeaseSample) else { return self.read(read.request) }
        if hasActors { world.answered(number, read.request.key, term: term, isUnderLease: true) }
        node.reply(read.request, .value(read.value))
    }

    // MARK: Actors

    private func activate(_ key: Int) -> Activation {
        if let known = activations[key] { return known }
        // The overlay may hold pending writes of somebody before: what is seen is answered for like one's own.
        let activation = Activation(value: value(of: key), index: store.appliedIndex)
        activations[key] = activation
        return activation
    }

    /// Takes an actor out of memory.
    func evict(_ key: Int) { activations[key] = nil }

    /// Entries that Raft proposed itself take an index, too.
    private func fill(below index: LogIndex) {
        while store.appliedIndex.rawValue + 1 < index.rawValue {
            apply(Self.nothing, at: LogIndex(rawValue: store.appliedIndex.rawValue + 1))
        }
    }

    // MARK: Evaluating

    private func get(_ key: Bytes) -> Bytes? {
        var found: Bytes?
        key.withUnsafeBytes { view in
            do throws(StoreError) { found = try store.get(view) } catch {
                world.violate("a store cannot be read: \(error)")
            }
        }
        return found
    }

    private func value(of key: Int) -> SimulatedValue {
        guard let bytes = get(SimulatedKey.value(number, key)) else { return SimulatedValue() }
        return SimulatedValue(bytes) ?? SimulatedValue()
    }

    private func effects(of entry: SimulatedEntry, _ value: SimulatedValue) -> Bytes {
        var batch = WriteBatch(capacity: 128)
        batch.put(SimulatedKey.value(number, entry.key), value.bytes)
        if entry.sequence > 0 {
            var session = SimulatedValue()
            session.version = entry.sequence
            batch.put(SimulatedKey.session(number, entry.session), session.bytes)
        }
        return batch.effects.bytes
    }

    // MARK: Applying

    private func committed(through index: LogIndex) {
        var count = 0
        while count < proposed.count, proposed[count].index <= index {
            let (index, payload) = proposed[count]
            count += 1
            commit(index, payload, isApplied: hasActors)
        }
        proposed.removeFirst(count)
        outcomes.committed(through: index)
        rebuildIfSettled()
        release()
    }

    private func apply(_ index: LogIndex, _ payload: ByteView) {
        // A leader with actors has applied the entries of Raft itself when it proposed behind them.
        commit(index, payload.bytes, isApplied: store.appliedIndex >= index)
        outcomes.committed(through: index)
        release()
    }

    private func commit(_ index: LogIndex, _ payload: Bytes, isApplied: Bool) {
        let entry = payload.withUnsafeBytes { SimulatedEntry($0) }
        let isExecuted = world.applies(self, index, payload, entry)
        recent.append((index, payload))
        if isApplied { return }
        applyCommitted(index, payload, entry, isExecuted)
    }

    private func applyCommitted(_ index: LogIndex, _ payload: Bytes, _ entry: SimulatedEntry?, _ isExecuted: Bool) {
        guard let entry else { return apply(Self.nothing, at: index) }
        if hasActors { return apply(Bytes(payload[SimulatedEntry.headerSize...]), at: index) }
        if entry.sequence > 0, !isForgetful, let bytes = get(SimulatedKey.session(number, entry.session)),
            let known = SimulatedValue(bytes)?.version, known >= entry.sequence
        {
            return apply(Self.nothing, at: index)
        }
        apply(effects(of: entry, value(of: entry.key).after(entry)), at: index)
    }

    private func apply(_ effects: Bytes, at index: LogIndex) {
        effects.withUnsafeBytes { view in
            do throws(StoreError) { try store.apply(view, index: index) } catch {
                world.violate("node \(node.id): \(error)")
            }
        }
    }

    private func release() {
        let committed = group.committedIndex
        var kept = 0
        for (position, answer) in waiting.enumerated() {
            guard answer.index <= committed else {
                if kept != position { waiting[kept] = waiting[position] }
                kept += 1
                continue
            }
            if let value = answer.value {
                finish(answer.request, value, true)
            } else {
                if hasActors { world.answered(number, answer.request.key, term: term, isUnderLease: false) }
                node.reply(answer.request, answer.content)
            }
        }
        waiting.removeLast(waiting.count - kept)
    }

    // MARK: Leading

    private func change(_ role: RoleChange) {
        switch role {
        case .leader(let term):
            self.term = term.rawValue
            outcomes.reset()
            isRebuilding = false
            world.leads(node, term, shard: number)
            world.trace?("node \(node.id) leads shard \(number) in term \(term) from \(group.lastIndex)")
        case .follower:
            guard self.term > 0 else { return }
            world.trace?("node \(node.id) leads shard \(number) no more")
            self.term = 0
            for answer in waiting { node.reply(answer.request, .unknown) }
            waiting.removeAll()
            proposed.removeAll()
            if world.bug != .driver(.keepActivations) { activations.removeAll() }
            if hasActors { discardPending() }
            outcomes.reset()
            isRebuilding = false
        }
    }

    private func discardPending() {
        job = nil
        do throws(StoreError) { try store.discardOverlay() } catch { return world.violate("\(error)") }
        for (index, payload) in recent where index > store.appliedIndex {
            applyCommitted(index, payload, payload.withUnsafeBytes { SimulatedEntry($0) }, true)
        }
    }

    // MARK: Flushing and snapshots

    /// Writes what is committed to the store, in two steps with time between them, and lets the log be cut.
    func flush() {
        if job == nil { job = store.beginFlush() }
        if let flushing = job, flushing.index <= group.committedIndex {
            do throws(StoreError) {
                try flushing.write()
                try node.store.flush()
            } catch {
                return  // It is tried again.
            }
            store.finishFlush(flushing)
            job = nil
            recent.removeAll { $0.index <= store.flushedIndex }
        }
        let isHasty = world.bug == .driver(.truncateToApplied)
        group.noteFlushed(isHasty ? min(store.appliedIndex, group.committedIndex) : store.flushedIndex)
    }

    /// A snapshot has taken the place of the store.
    func installed(_ index: LogIndex) {
        job = nil
        activations.removeAll()
        outcomes.reset()
        recent.removeAll { $0.index <= index }
        world.begins(self, at: index)
    }
}
