import Actors
import Base
import Contracts
import DataModel
import Raft
import Storage
import Transactions

/// Interactive transactions at the shard's leader: their calls, as statements, and what becomes of them.
///
///     statement ─► locks (participant) ─► what others have changed is applied ─► evaluated apart (ScopeEvaluation)
///     PREPARE ─► sealed: one list of effects ─► an intent, as of any part
///     COMMIT_ONE ─► sealed: the list goes into the open entry
///     either, of a transaction that has changed more than an entry holds ─► pieces (`ShardPieces.swift`)
///
/// Nobody else sees what a statement does: the shard's own actors do not, and forget the keys when it is applied. So
/// calls outside transactions that only read pass its locks; those that write wait.
extension ShardExecutor {
    private static let noStatement = DatabaseError(
        .invalidArgument, "The calls of a transaction come as a batch, with its scope")
    private static let noFlush = DatabaseError(
        .featureNotSupported, "FLUSHDB and FLUSHALL cannot be in an interactive transaction")
    private static let noToken = DatabaseError(
        .featureNotSupported, "Calls of interactive transactions take no idempotency token")
    private static let noTime = DatabaseError(
        .invalidArgument, "A transaction above READ COMMITTED reads at a time, and others do not")
    private static let tooLate = DatabaseError(
        .tooStale, "The shard's leader has begun after the transaction's time was taken: take a new one")
    private static let tooLarge = DatabaseError(
        .transactionTooLarge, "The transaction has changed more than may be kept while it is open")
    private static let scopesFull = DatabaseError(.busy, "Too much is kept of open transactions; try again")
    private static let repliesTooLarge = DatabaseError(
        .limitExceeded, "The replies to the commands are too large; none was executed")

    // MARK: Statements

    /// A call of an open transaction has come.
    func takeStatement(
        _ invocation: borrowing InvocationView, on stream: InvocationStream, ready: ReplyBatchEncoder
    ) {
        if isEvaluating { drainDuties() }
        guard isEvaluating else { return stream.refuse(invocation.id, leader: group.leader, replies: ready) }
        guard case .batch(let batch) = invocation.operation, !batch.isPart, let scope = invocation.scope,
            let slot = Self.slot(invocation.slot)
        else { return ready.error(invocation.id, Self.noStatement) }
        if let refusal = refusal(ofStatement: batch, scope, invocation) { return ready.error(invocation.id, refusal) }
        let id = PartID(TransactionID(rawValue: invocation.transaction), slot)
        if let refusal = reservation(.batch(batch), by: id) ?? occupation(batch) {
            return ready.error(invocation.id, refusal)
        }
        let readable: LogIndex
        do throws(DatabaseError) { readable = try promise(scope, of: id) } catch {
            return ready.error(invocation.id, error)
        }
        guard isEvaluating else { return stream.refuse(invocation.id, leader: group.leader, replies: ready) }
        let touched = touchedKeys(of: batch), (locks, reads) = touched.divided(scope.lock)
        let call = waitingCall(invocation, on: stream, patience: UInt64(scope.lockTimeoutMilliseconds))
        let incarnation = scope.incarnation == 0 ? nextTimestamp() : clock.last
        var duties: [ParticipantDuty] = []
        let admission = transactions.participant.admit(
            statement(id, scope, locks, reads), call, timestamp: incarnation, moment, into: &duties)
        switch admission {
        case .evaluate(let grant):
            begin(id, scope, readable)
            note(duties)
            evaluateStatement(
                Statement(id: id, scope: scope, batch: batch, locks: locks, visited: touched.visited),
                skipped: Set(grant.skipped), token: call.token, invocation, on: stream, ready: ready)
        case .wait:
            begin(id, scope, readable)
            transactions.keep(invocation, call.token, schema: schemaVersion, on: stream)
            note(duties)
        case .refuse(let refusal):
            ready.error(invocation.id, refusal.error)
            note(duties)
        }
    }

    private func refusal(
        ofStatement batch: CallBatchView, _ scope: InvocationScope, _ invocation: borrowing InvocationView
    ) -> DatabaseError? {
        guard !invocation.isIdempotent else { return Self.noToken }
        guard (scope.isolation == .readCommitted) == (scope.readTimestamp == .zero) else { return Self.noTime }
        var calls = batch.calls
        while let call = calls.next() {
            guard call.method.isKeyless || runtime.owns(call.database, call.key) else {
                return Self.misplaced(call)
            }
            if call.method.keys == .none, call.method.isWrite { return Self.noFlush }
        }
        return nil
    }

    private func touchedKeys(of batch: CallBatchView) -> TouchedKeys {
        var touched = TouchedKeys(runtime)
        touched.add(batch)
        return touched
    }

    /// What the participant must know of a statement.
    private func statement(
        _ id: PartID, _ scope: InvocationScope, _ locks: LockScope, _ reads: LockScope
    ) -> ScopeStatement {
        let isolation: Isolation =
            switch scope.isolation {
            case .readCommitted: .readCommitted
            case .snapshot: .snapshot
            case .serializable: .serializable
            }
        let policy: WaitPolicy =
            switch scope.wait {
            case .wait: .wait
            case .noWait: .noWait
            case .skipLocked: .skipLocked
            }
        return ScopeStatement(
            id: id, priority: scope.priority, isolation: isolation,
            snapshot: scope.isolation == .readCommitted ? .zero : scope.readTimestamp, incarnation: scope.incarnation,
            number: scope.statement, locks: locks, reads: reads, policy: policy)
    }

    /// The participant has a scope for the transaction.
    private func begin(_ id: PartID, _ scope: InvocationScope, _ readable: LogIndex) {
        transactions.scopes.begin(
            id, snapshot: scope.readTimestamp, readable: readable, now: clock.wallMilliseconds)
    }

    /// Before the participant hears of a transaction that reads at a time: what is prepared from here on lies above
    /// that. Returns the entry that must be applied before it reads.
    private func promise(_ scope: InvocationScope, of id: PartID) throws(DatabaseError) -> LogIndex {
        guard scope.isolation != .readCommitted, transactions.scopes[id] == nil else { return .zero }
        guard scope.readTimestamp >= servingSince else { throw Self.tooLate }
        return try promise(scope.readTimestamp)
    }

    /// A statement that has waited has its locks, or the entry is applied that it waited for.
    func runStatement(
        _ invocation: borrowing InvocationView, token: UInt64, on stream: InvocationStream, ready: ReplyBatchEncoder
    ) {
        guard case .batch(let batch) = invocation.operation, let scope = invocation.scope,
            let slot = Self.slot(invocation.slot)
        else { return ready.error(invocation.id, Self.noStatement) }
        let id = PartID(TransactionID(rawValue: invocation.transaction), slot), touched = touchedKeys(of: batch)
        let statement = Statement(
            id: id, scope: scope, batch: batch, locks: touched.divided(scope.lock).locks, visited: touched.visited)
        evaluateStatement(statement, skipped: [], token: token, invocation, on: stream, ready: ready)
    }

    /// A statement with what is known of its keys.
    private struct Statement {
        let id: PartID
        let scope: InvocationScope
        let batch: CallBatchView
        let locks: LockScope
        let visited: CollectionSet
    }

    /// The statement has its locks.
    private func evaluateStatement(
        _ statement: Statement, skipped: Set<LockKey>, token: UInt64, _ invocation: borrowing InvocationView,
        on stream: InvocationStream, ready: ReplyBatchEncoder
    ) {
        let id = statement.id, scope = statement.scope
        guard let view = transactions.participant.scope(id), let open = transactions.scopes[id],
            scope.incarnation == 0 || scope.incarnation == view.incarnation
        else { return ready.error(invocation.id, PartRefusal.aborted.error) }
        let index = max(open.readable, pendingIndex(statement.locks))
        if index > store.appliedIndex || transactions.scopes.isParked(id) {
            transactions.keep(invocation, token, schema: schemaVersion, on: stream)
            return transactions.scopes.park(.init(id: id, token: token, index: index))
        }
        if scope.isolation == .serializable { transactions.scopes.visit(id, statement.visited) }
        if let failure = conflict(statement.locks, open) {
            ready.error(invocation.id, failure)
            // It cannot commit any more: nobody need wait for its locks.
            if failure.code == .serializationFailure {
                happen { $0.dropScope(id, .serializationFailure, $1, into: &$2) }
            }
            return
        }
        let mark = ready.size, reply = transactions.statementReply
        reply.reset()
        transactions.scopes.statements &+= 1
        let time = open.snapshot > .zero ? open.snapshot : clock.last
        open.evaluation.recordEvents(runtime.recordsEvents)
        open.evaluation.begin(scope.statement, floor: clock.next(), time: scope.time)
        let outcome = evaluate(statement.batch, in: open, skipped: skipped, id: invocation.id, at: time, into: reply)
        if outcome { open.evaluation.end() } else { open.evaluation.undo() }
        transactions.scopes.measure(id)
        ready.move(reply, position: LogIndex(rawValue: view.incarnation))
        answered(from: mark, .zero, on: stream, ready: ready)
    }

    /// The entry that has to be applied before the statement can be evaluated: others, who came before it had its
    /// locks, may have changed the keys, and the store must show it.
    private func pendingIndex(_ locks: LockScope) -> LogIndex {
        var index = LogIndex.zero
        if locks.shard != nil { return max(runtime.newestPendingIndex, newestIndex) }
        func add(_ key: LockKey) {
            index = max(index, key.key.withUnsafeBytes { runtime.pendingIndex(key.database, $0) })
        }
        for key in locks.exclusive { add(key) }
        for key in locks.shared { add(key) }
        return index
    }

    /// The first committer wins: who reads at a time must not change, or lock, what was changed since. Asked when the
    /// store shows everything that came before the locks.
    private func conflict(_ locks: LockScope, _ open: ShardScopes.Scope) -> DatabaseError? {
        guard open.snapshot > .zero else { return nil }
        do throws(StoreError) {
            if locks.shard != nil, store.newestTimestamp > open.snapshot {
                return PartRefusal.serializationFailure.error
            }
            for key in locks.exclusive + locks.shared
            where !TouchedKeys.isCollection(key) && key.database != ReservedNames.database {
                if try isChanged(key, since: open.snapshot) { return PartRefusal.serializationFailure.error }
            }
            return nil
        } catch {
            return error.databaseError
        }
    }

    private func isChanged(_ key: LockKey, since time: Timestamp) throws(StoreError) -> Bool {
        var record = ByteBuffer(capacity: key.key.count + 32)
        key.key.withUnsafeBytes { view in
            if key.database == RowKey.database, RowKey.collection(of: view) == nil {
                // What is asked of the catalog, or of a collection, is asked of the catalog.
                SchemaKey.appendVersion(
                    BucketID(rawValue: UInt16(truncatingIfNeeded: buckets.first?.lowerBound ?? 0)), into: &record)
            } else {
                NativeKeyLayout.appendRecord(slotOf: key.database, view, bucketCount: bucketCount, into: &record)
            }
        }
        return try store.isChanged(record.readable, since: time)
    }

    /// Whether nothing that a SERIALIZABLE transaction has read was changed since, by what is not applied yet neither.
    /// Of one that has read a whole collection that is asked of the collection.
    private func isReadSetIntact(
        _ reads: LockScope, of collections: CollectionSet, since time: Timestamp
    ) throws(StoreError) -> Bool {
        if reads.shard != nil {
            guard collections != .all else { return store.newestTimestamp <= time }
            guard store.newestTimestamp(of: collections) <= time else { return false }
        }
        for key in reads.shared {
            let pending = key.key.withUnsafeBytes { runtime.pendingIndex(key.database, $0) }
            guard pending <= store.appliedIndex else { return false }
            if try isChanged(key, since: time) { return false }
        }
        return true
    }

    /// Watches and calls. False: nothing is to be kept of it; the reply says why.
    private func evaluate(
        _ batch: CallBatchView, in open: ShardScopes.Scope, skipped: Set<LockKey>, id: UInt64, at time: Timestamp,
        into reply: ReplyBatchEncoder
    ) -> Bool {
        let evaluation = open.evaluation, replies = batchReplies
        let now = open.snapshot > .zero ? open.snapshot.milliseconds : clock.wallMilliseconds
        do throws(DatabaseError) {
            var watches = batch.watches
            while let watch = watches.next() {
                guard try evaluation.holds(watch, now: now) else {
                    reply.null(id)
                    return false
                }
            }
            var calls = batch.calls, position: UInt64 = 0
            replies.reset()
            while let call = calls.next() {
                if isSkipped(call, skipped) {
                    replies.null(position)
                } else {
                    let stamp = call.method.isWrite ? clock.next() : clock.last
                    evaluation.evaluate(call, id: position, now: now, writeTimestamp: stamp, replies: replies)
                }
                position &+= 1
                if let broken = evaluation.takeBrokenTransfer() { throw broken }
                guard !evaluation.isTooLarge else { throw Self.tooLarge }
                guard transactions.scopes.bytes < transactions.scopes.limits.bytes else { throw Self.scopesFull }
                guard replies.size <= InvocationStream.replyLimit else { throw Self.repliesTooLarge }
            }
            reply.batch(id, at: time, replies)
            return true
        } catch {
            replies.reset()
            reply.error(id, error)
            return false
        }
    }

    /// Whether the call is left out, because somebody else has locked a key of it.
    private func isSkipped(_ call: ActorCallView, _ skipped: Set<LockKey>) -> Bool {
        guard !skipped.isEmpty else { return false }
        var isSkipped = false
        call.forEachKey { database, key in
            let lock = runtime.recordKey(database, key).map { LockKey(RowKey.database, $0) }
            if skipped.contains(lock ?? LockKey(database, key.bytes)) { isSkipped = true }
        }
        return isSkipped
    }

    // MARK: What becomes of a scope

    /// The scope's locks are hard: what it has done becomes an intent, or is committed.
    func seal(_ id: PartID, isOnly: Bool, token: UInt64) {
        let hasRoom = makeRoom()
        guard isEvaluating else { return }  // And everything is begun anew.
        var duties: [ParticipantDuty] = []
        let scopes = transactions.scopes
        guard let open = scopes[id], !scopes.isParked(id), hasRoom else {
            transactions.participant.fail(id, hasRoom ? .aborted : .busy, moment, into: &duties)
            return note(duties)
        }
        let reads = transactions.participant.readSet(of: id)
        if reads.shard != nil, open.settled ?? newestIndex > store.appliedIndex {
            // Shared locks keep it as it is from here on.
            scopes.park(.init(id: id, isOnly: isOnly, token: token, index: newestIndex))
            return note([])
        }
        do throws(StoreError) {
            guard try isReadSetIntact(reads, of: open.visited, since: open.snapshot) else {
                transactions.participant.fail(id, .serializationFailure, moment, into: &duties)
                return note(duties)
            }
        } catch {
            return fail(error)
        }
        if transactions.participant.needsPieces(id, bytes: open.evaluation.writtenBytes) {
            transactions.participant.beginPieces(id, moment, into: &duties)
            return note(duties)
        }
        let effects = transactions.partEffects
        effects.reset()
        let counters = open.evaluation.write(effects)
        let part = PartEffects(payload: effects.isEmpty ? [] : effects.payload.bytes, counters: counters)
        let timestamp = nextTimestamp()
        if isOnly {
            transactions.participant.commitOne(id, timestamp: timestamp, moment, into: &duties)
        } else {
            transactions.participant.prepare(id, part, timestamp: timestamp, moment, into: &duties)
        }
        guard !duties.isEmpty else { return }  // It has been aborted meanwhile.
        scopes.end(id)
        if isOnly { commit(part) }
        note(duties)
    }

    /// What a scope has done goes into the open entry.
    private func commit(_ part: PartEffects) {
        do {
            // Of the entry's own time: nobody can have read at a later one.
            try part.payload.withView { (view: ByteView) throws(StoreError) in try open.append(view) }
            try runtime.adoptPart(part.counters, entryIndex: openIndex, into: open)
            try noteChanges(part.payload, at: clock.last)
        } catch {
            fail(error)
        }
    }

    /// The shard's own actors have not made these changes: a watch of a key must know of them nevertheless.
    func noteChanges(_ effects: Bytes, at time: Timestamp) throws {
        try effects.withView { (view: ByteView) throws(StoreError) in
            var reader = try EffectReader(view)
            while let effect = try reader.next() {
                if case .put(let key, _) = effect {
                    runtime.noteChange(ofRecord: key, at: time)
                } else if case .delete(let key) = effect {
                    runtime.noteChange(ofRecord: key, at: time)
                } else if case .deleteRange = effect {
                    runtime.noteChanges(at: time)
                }
            }
        }
    }

    /// What the scope did after a statement is undone.
    func rollBack(_ id: PartID, to statement: UInt32) {
        transactions.scopes[id]?.evaluation.rollBack(to: statement)
        transactions.scopes.measure(id)
    }

    /// The scope is over, and nothing of it has happened.
    func dropScope(_ id: PartID) {
        for token in transactions.scopes.unpark(id) { refuse(token, .aborted) }
        transactions.scopes.end(id)
    }

    /// Entries are applied.
    func settleStatements(upTo index: LogIndex) {
        let sealed = transactions.scopes.unparkSealed(upTo: index)
        let tokens = transactions.scopes.unpark(upTo: index)
        guard !tokens.isEmpty || !sealed.isEmpty else { return }
        place(tokens.map { .run($0) } + sealed.map { .seal($0.id, isOnly: $0.isOnly, $0.token) })
    }

    /// Now and then.
    func tickScopes() {
        for id in transactions.scopes.overdue(clock.wallMilliseconds) {
            happen { $0.dropScope(id, .idleTimeout, $1, into: &$2) }
        }
    }
}
