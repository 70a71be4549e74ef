import Base
import Raft

/// What the core asks for, in the order of `Effects`.
extension ReplicaGroup {
    /// Steps an event and carries its effects out. `payloads` are those of the entries from `first` on, of the message
    /// in the event.
    @discardableResult
    func step(_ event: RaftEvent, first: LogIndex = .zero, payloads: [Bytes] = []) -> Refusal? {
        guard !isRetired else { return .notLeader(nil) }
        core.step(event, now: groups.now, into: &groups.effects)
        let refusal = groups.effects.refusal
        if let index = groups.effects.truncatedFrom { cut(from: index) }
        if groups.effects.hasWrite { writeToLog(first, payloads) }
        carryOut()
        return refusal
    }

    /// A peer's message. `payload` holds what the entries of an append carry, one behind the other.
    func received(_ message: Message, payload: ByteView) {
        guard case .append(let append) = message.body, !append.entries.isEmpty else {
            guard payload.isEmpty else { return }
            step(.received(message))
            return
        }
        guard installation == nil else { return }
        guard (try? writer.checkRoom()) != nil else {
            // Its new entries are refused before the core sees them, or it would answer for what is not in the log.
            if let heard = core.hearable(append) {
                var message = message
                message.body = .append(heard)
                step(.received(message))
            }
            return
        }
        var payloads: [Bytes] = []
        payloads.reserveCapacity(append.entries.count)
        var reader = ByteReader(payload)
        for size in append.entries.sizes {
            guard size <= writer.maximumPayload, let view = reader.view(Int(size)) else { return }
            payloads.append(view.bytes)
        }
        guard reader.isAtEnd else { return }
        step(.received(message), first: append.entries.first, payloads: payloads)
    }

    // MARK: 1. The log

    private func cut(from index: LogIndex) {
        cache.cut(from: index)
        lastCut = LogIndex(rawValue: index.rawValue &- 1)
        cutTicket = writer.nextTicket
        written = min(written, lastCut)
    }

    private func writeToLog(_ first: LogIndex, _ payloads: [Bytes]) {
        write = groups.effects.write
        if let state = groups.effects.hardState {
            writer.append(state, of: self)
            journal.hardState = state
        }
        if groups.effects.isWhole {
            writer.append(isCut: false, of: self)
            journal.isCut = false
        }
        let entries = groups.effects.entries
        for index in entries.indexes {
            let id = EntryID(term: entries.term(at: LogIndex(rawValue: index)), index: LogIndex(rawValue: index))
            let position = Int(clamping: index &- first.rawValue)
            let payload: Bytes
            let kind: RecordKind
            switch entries.content(at: id.index) {
            case .normal: (kind, payload) = (.entry, position < payloads.count ? payloads[position] : [])
            case .empty: (kind, payload) = (.empty, [])
            case .configuration(let membership): (kind, payload) = (.configuration, membership.encoded())
            }
            do throws(DatabaseError) { _ = try writer.append(kind, id, of: self) { $0.append(payload) } } catch {
                return groups.fail(LogError(.inputOutput, "shard \(shard), entry \(index): \(error.message)"))
            }
            _ = journal.note(id.index, id.term)
            if case .configuration(let membership) = entries.content(at: id.index) {
                journal.note(membership, at: id.index)
            }
            if keepsEntries { cache.append(id.index, kind, payload) }
            if kind == .empty { lastEmpty = id.index }
            if kind != .entry, leadership != nil { leadership?.special.append(id.index) }
        }
        groups.setPending()
    }

    // MARK: 2. and 3. Messages

    /// Everything that comes after the write.
    func carryOut() {
        if !groups.effects.messages.isEmpty { send(groups.effects.messages) }
        if !groups.effects.messagesAfterPersist.isEmpty {
            if groups.effects.write <= durableWrite {
                send(groups.effects.messagesAfterPersist)
            } else {
                held.append((groups.effects.write, groups.effects.messagesAfterPersist))
            }
        }
        if groups.effects.hasLaterDuties { serve() }
    }

    private func send(_ messages: [Message]) {
        var lost: [NodeID] = []
        for message in messages where !send(message) { lost.append(message.to) }
        // The core is in the midst of its duties here: it hears of it in a step of its own.
        for peer in lost { groups.afterStep { [self] in step(.unreachable(peer)) } }
    }

    /// False when the message could not go; what the transport drops itself it tells later.
    private func send(_ message: Message) -> Bool {
        guard let transport = groups.transport else { return true }
        guard case .append(let append) = message.body, !append.entries.isEmpty else {
            transport.send(message, of: shard)
            return true
        }
        guard let payloads = payloads(of: append.entries) else { return false }
        transport.send(message, of: shard) { buffer in
            for payload in payloads { buffer.append(payload) }
        }
        return true
    }

    /// What the entries carry: from memory, or read back. Nil when the log begins behind them by now, or does not have
    /// the first of them yet (they were proposed before this group had peers).
    private func payloads(of entries: EntryRun) -> [Bytes]? {
        var found: [Bytes] = []
        found.reserveCapacity(entries.count)
        var next = entries.first
        while next < entries.end {
            if let cached = cache.entry(at: next) {
                found.append(cached.payload)
                next = LogIndex(rawValue: next.rawValue &+ 1)
                continue
            }
            let end = cache.end > next && cache.first > next ? min(cache.first, entries.end) : entries.end
            let read = readBack(from: next, through: LogIndex(rawValue: end.rawValue &- 1), bytes: .max)
            if read.isEmpty { return nil }
            for entry in read { found.append(entry.payload) }
            next = LogIndex(rawValue: next.rawValue &+ UInt64(read.count))
        }
        return found
    }

    func readBack(from first: LogIndex, through last: LogIndex, bytes: Int) -> [LoggedEntry] {
        do throws(LogError) {
            return try writer.entries(of: shard, from: first, through: last, bytes: bytes)
        } catch {
            groups.fail(error)
            return []
        }
    }

    /// For the writer, when it submits: what it holds of this group.
    func progress(at ticket: LogTicket) -> WriteProgress {
        WriteProgress(ticket: ticket, write: write, last: core.lastIndex)
    }

    /// What was submitted under a ticket is durable (or written, as the policy says).
    func persisted(_ progress: WriteProgress) {
        guard !isRetired else { return finishRetirement(progress.ticket) }
        written = progress.ticket < cutTicket ? min(progress.last, lastCut) : progress.last
        if keepsEntries { cache.evict(written: written) }
        if progress.write > durableWrite {
            durableWrite = progress.write
            while let first = held.first, first.write <= durableWrite {
                held.removeFirst()
                send(first.messages)
            }
            step(.persisted(write: durableWrite))
        }
        if installation != nil { continueInstallation(progress.ticket) }
    }

    // MARK: 4. The rest

    /// Calls out only when the effects were read: whoever is called may step the core again.
    private func serve() {
        let role = groups.effects.role, hasCommitted = groups.effects.committed != nil
        let membership = groups.effects.membership, snapshot = groups.effects.snapshotToInstall
        let wanted = groups.effects.snapshotsWanted
        readsReady += groups.effects.reads
        if let membership { keepsEntries = !membership.isAlone(groups.id) }
        // Before the commits: what was proposed here may have been replaced.
        if let role { change(role) }
        if hasCommitted { deliver() }
        serveReads()
        reportLeadership()
        if let membership { onMembership?(membership) }
        for peer in wanted { sendSnapshot(to: peer) }
        if let snapshot { announce(snapshot) }
    }

    private func change(_ role: RoleChange) {
        switch role {
        case .leader(let term):
            leadership = Leadership(term: term, first: lastEmpty)
            groups.setPending()
        case .follower:
            leadership = nil
            readsReady = []
            let lost = reads
            reads = [:]
            for body in lost.values { body(.failure(Self.error(.notLeader(core.leader)))) }
            onRole?(role)
        }
    }

    /// Tells that this replica leads, once what is from before its term is applied.
    func reportLeadership() {
        guard let now = leadership, !now.isReported, committedIndex.rawValue &+ 1 >= now.first.rawValue else { return }
        leadership?.isReported = true
        onRole?(.leader(now.term))
    }

    private func serveReads() {
        guard !readsReady.isEmpty else { return }
        let due = readsReady.filter { $0.index <= committedIndex }
        readsReady.removeAll { $0.index <= committedIndex }
        for read in due { reads.removeValue(forKey: read.token)?(.success(read)) }
    }

    // MARK: Applying

    /// Reports what is committed, in order.
    func deliver() {
        guard !isDelivering, !isStoreTaken else { return }
        isDelivering = true
        while committedIndex < core.commitIndex {
            let before = committedIndex
            if let leadership, committedIndex >= leadership.first {
                deliverOwn(leadership)
            } else {
                deliverOthers(through: min(core.commitIndex, leadership?.first ?? core.commitIndex))
                reportLeadership()
            }
            if groups.hasFailed || committedIndex == before { break }
        }
        isDelivering = false
        step(.applied(committedIndex))
    }

    private func deliverOwn(_ leadership: Leadership) {
        let next = LogIndex(rawValue: committedIndex.rawValue &+ 1)
        guard let special = leadership.special.first(where: { $0 >= next }), special <= core.commitIndex else {
            committedIndex = core.commitIndex
            onCommitted?(committedIndex)
            return
        }
        if special > next {
            committedIndex = LogIndex(rawValue: special.rawValue &- 1)
            onCommitted?(committedIndex)
            return
        }
        self.leadership?.special.removeAll { $0 <= special }
        committedIndex = special
        onApply?(special, ByteView(start: nil, count: 0))
    }

    private func deliverOthers(through last: LogIndex) {
        let next = LogIndex(rawValue: committedIndex.rawValue &+ 1)
        if let cached = cache.entry(at: next) { return apply(next, cached.kind, cached.payload) }
        let isCachedLater = cache.first > next && cache.end > cache.first
        let end = isCachedLater ? min(last, LogIndex(rawValue: cache.first.rawValue &- 1)) : last
        let read = readBack(from: next, through: end, bytes: 1 << 20)
        guard !read.isEmpty else {
            return groups.fail(
                LogError(.damaged, "entry \(next) of shard \(shard) is committed and not in this replica's log"))
        }
        for entry in read {
            // What was called may have gone on by itself.
            guard entry.id.index.rawValue == committedIndex.rawValue &+ 1 else { return }
            apply(entry.id.index, entry.kind, entry.payload)
        }
    }

    private func apply(_ index: LogIndex, _ kind: RecordKind, _ payload: Bytes) {
        committedIndex = index
        guard kind == .entry else {
            onApply?(index, ByteView(start: nil, count: 0))
            return
        }
        payload.withUnsafeBytes { onApply?(index, $0) }
    }
}

extension Effects {
    /// Whether there is anything behind the messages.
    var hasLaterDuties: Bool {
        committed != nil || role != nil || !reads.isEmpty || !snapshotsWanted.isEmpty || snapshotToInstall != nil
            || membership != nil
    }
}
