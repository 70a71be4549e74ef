import Base
import Contracts

/// An interactive transaction, BEGIN … COMMIT, as the one who drives it sees it, as a value: events in, duties out.
/// `InteractiveRun` carries the duties out.
///
///     statement ─► its time is sampled (once) ─► a batch to every shard that it concerns ─► all are done: answered
///                                                  └► one is refused: undone at the others, then answered
///     COMMIT ─► nothing is written: the scopes go  ─► one shard: COMMIT_ONE  ─► several: `CommitDriver`, with PREPARE
///
/// What the transaction does at a shard is its *scope* there, in the memory of the shard's leader until the end. A
/// leader that did not open the scope refuses everything that names it, so a lost leader ends the transaction.
///
/// Invariants:
/// - One command is under way at a time, and it is answered once: by `answer`, or by `ended`.
/// - A statement is done at all of its shards or at none when it is answered, or the transaction is dead.
/// - A scope that was heard of is either part of the commit or told to go. One whose opening nobody answered is fenced.
/// - `dead` is for good, whatever the client does: its scopes have gone already. `failed` ends with a savepoint.
package struct InteractiveTransaction: Sendable {
    package typealias Isolation = InvocationScope.Isolation

    /// What a refusal that has done no harm means for the transaction.
    package enum RefusalPolicy: Hashable, Sendable {
        /// The statement was not done, and the next one may be (Redis, MySQL).
        case statement
        /// Nothing is done any more until ROLLBACK, or ROLLBACK TO a savepoint (PostgreSQL).
        case transaction
    }

    /// What BEGIN says.
    package struct Options: Hashable, Sendable {
        package var isolation = Isolation.readCommitted
        package var isReadOnly = false
        /// The past is read: nothing can be written.
        package var asOf: Timestamp?
        package var refusals = RefusalPolicy.statement
        /// The transaction may be open for so long, the client silent for so long, a lock waited for so long; 0: as
        /// long as it takes (the first two), as the node is set (the last, where `.max` is as long as it takes).
        package var timeLimit: UInt64 = 0, idleLimit: UInt64 = 0, lockTimeout: UInt32 = 0
        package init() {}

        /// Nothing is locked or written, and all is read at one time: no shard has to know of the transaction.
        package var needsNoScopes: Bool { isReadOnly && isolation != .readCommitted || asOf != nil }
    }

    /// What a statement has for one shard.
    package struct Share: Hashable, Sendable {
        /// The first slot of the shard: everything of the transaction there goes by this one.
        package let slot: UInt32
        package let isWrite: Bool
        /// Locks keys that it only reads.
        package let isLocking: Bool

        package init(slot: UInt32, isWrite: Bool, isLocking: Bool = false) {
            (self.slot, self.isWrite, self.isLocking) = (slot, isWrite, isLocking)
        }
    }

    /// A shard that the transaction has a scope at.
    package struct Participant: Hashable, Sendable {
        package let slot: UInt32
        /// 0: not known yet.
        package var incarnation: UInt64 = 0
        /// The last statement that was done there, and the first that wrote, and that locked what it read; 0: none.
        package var lastStatement: UInt32 = 0, firstWrite: UInt32 = 0, firstLock: UInt32 = 0
        var heardAt: UInt64 = 0
        /// A batch is there that nobody has answered.
        var isOwed = false
        /// A scope may be there whose incarnation nobody has told.
        var isUnnamed = false
    }

    /// What a shard says to its share of a statement.
    package enum ShareReply: Hashable, Sendable {
        case done(incarnation: UInt64)
        /// It was not done. The scope there may be open all the same; 0: it is as it was.
        case refused(DatabaseError, incarnation: UInt64)
        /// It was not sent.
        case unsent(DatabaseError)
        /// Nobody knows.
        case lost
    }

    /// What a shard says to ROLLBACK_TO and KEEP_ALIVE.
    package enum ScopeReply: Hashable, Sendable { case done, gone, unknown }

    /// How it ended.
    package enum Ending: Hashable, Sendable {
        /// Nil: at no time of its own; nothing was written.
        case committed(Timestamp?)
        /// Nothing was done. Nil: as the client wanted.
        case rolledBack(DatabaseError?)
        case unknown(DatabaseError)
    }

    /// What the owner does, in order.
    package enum Duty: Hashable, Sendable {
        /// Ask all nodes for their time; `sampled` follows.
        case sample
        /// Send the statement's shares to their participants, as `scope` says; `replied` follows for each.
        case execute(statement: UInt32, participants: [Int])
        /// `stepped` follows, where the participant is named; of COMMIT_ONE `ended`.
        case send(TransactionStep, slot: UInt32, participant: Int?)
        /// Have a `CommitDriver` commit these, with PREPARE (`prepare`) for parts; `ended` follows.
        case commit(participants: [Int])
        /// The command under way is over.
        case answer(DatabaseError?)
        /// So is the transaction.
        case end(Ending)
    }

    enum Phase: Hashable {
        case idle, sampling, executing, committing, over
        /// Half a statement is being undone, or all that came behind a savepoint.
        case undoing(DatabaseError?)
    }

    enum Health: Hashable { case sound, failed(DatabaseError), dead(DatabaseError) }

    struct Savepoint: Hashable { let name: Bytes, statement: UInt32 }

    enum Piece: Hashable { case waiting, done, refused(DatabaseError), lost }

    /// Savepoints that may be open, and bytes of a name.
    package static let savepointLimit = 4096, nameLimit = 256
    /// A scope is told that its transaction lives when it has heard nothing for so long.
    static let keepAliveMilliseconds: UInt64 = 5_000
    /// How often a statement that nothing came before is tried at a later time.
    private static let sampleLimit = 4

    package internal(set) var id: UInt64
    package let options: Options
    /// Its age: lower is older.
    package let priority: UInt64
    package internal(set) var participants: [Participant] = []
    /// At what time is read; nil while that is not known. Of READ COMMITTED, that in no past: never.
    package internal(set) var readTimestamp: Timestamp?
    /// Of the statement that is under way, or of the last one.
    package internal(set) var statement: UInt32 = 0
    var phase = Phase.idle
    var health = Health.sound
    var savepoints: [Savepoint] = []
    /// Of the statement: what it has for whom, and what has become of that.
    var shares: [Share] = []
    var pieces: [Int: Piece] = [:]
    /// Who has not said yet that it has undone what it should.
    var undoers: Set<Int> = []
    /// Times that the statement was given.
    private var samples = 0
    /// Until when the statement may wait for locks, whatever a shard has patience for at a time; nil: no longer.
    private var waitsUntil: UInt64?
    /// What is being undone will be done once more: the locks were not free in time.
    private var isAgain = false
    /// The statement was given up: its waits have been called back, and it fails when all shards have answered. Since
    /// when, by the first tick that has seen it.
    var givenUp: DatabaseError?, givenUpAt: UInt64?
    /// A statement was done.
    private var hasAnswered = false
    let startedAt: UInt64
    var activeAt: UInt64

    /// `id` is random, not 0, and those that follow it must not be anybody's: one more is used where a first statement
    /// has to be tried again.
    package init(id: UInt64, priority: UInt64, _ options: Options, now: UInt64) {
        (self.id, self.priority, self.options, readTimestamp) = (id, priority, options, options.asOf)
        (startedAt, activeAt) = (now, now)
    }

    // MARK: What can be asked

    package var isOver: Bool { phase == .over }

    /// It is being decided: nobody can roll it back any more.
    package var isCommitting: Bool { phase == .committing }

    /// No command is under way.
    package var isIdle: Bool { phase == .idle }

    /// Why nothing is done any more, but for the end; nil while all is well.
    package var failure: DatabaseError? {
        switch health {
        case .sound: nil
        case .failed(let error), .dead(let error): error
        }
    }

    /// ROLLBACK TO a savepoint would help no more.
    package var isDead: Bool {
        if case .dead = health { true } else { false }
    }

    package var savepointNames: [Bytes] { savepoints.map(\.name) }

    /// Some shard has something to write.
    package var hasWritten: Bool { participants.contains { $0.firstWrite != 0 } }

    /// What a share of the statement under way tells its shard.
    package func scope(of participant: Int, lock: InvocationScope.LockMode, wait: InvocationScope.WaitPolicy)
        -> InvocationScope
    {
        var scope = InvocationScope(asOf: readTimestamp ?? .zero)
        guard !options.needsNoScopes else {
            // A time that was sampled claims to show everything that was acknowledged before.
            if options.asOf == nil { scope.isolation = .snapshot }
            return scope
        }
        (scope.readTimestamp, scope.isolation) = (readTimestamp ?? .zero, options.isolation)
        (scope.priority, scope.statement) = (priority, statement)
        (scope.lock, scope.wait, scope.lockTimeoutMilliseconds) = (lock, wait, options.lockTimeout)
        if participants.indices.contains(participant) { scope.incarnation = participants[participant].incarnation }
        return scope
    }

    /// Under which transaction a share travels; 0: under none.
    package var scopedID: UInt64 { options.needsNoScopes ? 0 : id }

    /// What takes the place of a part in `CommitDriver`.
    package func prepare(_ participant: Int, with slots: [UInt32]) -> TransactionStep {
        var step = self.step(.prepare, participants[participant])
        step.participants = slots
        return step
    }

    /// A step for the participant's scope.
    func step(_ kind: TransactionStep.Kind, _ participant: Participant) -> TransactionStep {
        let time = kind == .prepare || kind == .commitOne ? readTimestamp : nil
        var step = TransactionStep(kind, id: id, timestamp: time ?? .zero, participants: [participant.slot])
        (step.priority, step.isolation) = (priority, options.isolation)
        (step.incarnation, step.statement) = (participant.incarnation, participant.lastStatement)
        return step
    }

    // MARK: Statements

    /// Begins a statement: `answer` follows. Throws when it is refused as it is; then nothing follows. Where a shard
    /// gives up the wait for a lock before `waitsUntil`, the statement is done once more, by another number.
    package mutating func execute(
        _ shares: [Share], now: UInt64, waitsUntil: UInt64? = nil, into duties: inout [Duty]
    ) throws(DatabaseError) {
        try admit(now)
        if options.isReadOnly || options.asOf != nil, shares.contains(where: { $0.isWrite || $0.isLocking }) {
            throw Self.readOnly
        }
        guard statement < .max else {
            throw DatabaseError(.transactionTooLarge, "The transaction has too many statements")
        }
        statement += 1
        guard !shares.isEmpty else { return duties.append(.answer(nil)) }
        (self.shares, samples, self.waitsUntil, isAgain) = (shares, 0, waitsUntil, false)
        proceed(now, &duties)
    }

    /// Whether a command may begin.
    private mutating func admit(_ now: UInt64) throws(DatabaseError) {
        guard phase == .idle else {
            throw phase == .over ? Self.none : DatabaseError(.busy, "Another command of the transaction is under way")
        }
        activeAt = now
        switch health {
        case .sound: return
        case .failed(let error), .dead(let error): throw Self.aborted(by: error)
        }
    }

    private mutating func proceed(_ now: UInt64, _ duties: inout [Duty]) {
        if readTimestamp == nil, options.isolation != .readCommitted {
            phase = .sampling
            return duties.append(.sample)
        }
        phase = .executing
        pieces = [:]
        var called: [Int] = []
        for share in shares {
            let position = participants.firstIndex { $0.slot == share.slot } ?? participants.count
            if position == participants.count { participants.append(Participant(slot: share.slot)) }
            participants[position].isOwed = true
            participants[position].heardAt = now
            pieces[position] = .waiting
            called.append(position)
        }
        duties.append(.execute(statement: statement, participants: called))
    }

    /// The highest time of all nodes, unless some did not say.
    package mutating func sampled(
        _ time: Result<Timestamp, DatabaseError>, now: UInt64, into duties: inout [Duty]
    ) {
        guard phase == .sampling else { return }
        switch time {
        case .success(let time):
            readTimestamp = time
            proceed(now, &duties)
        case .failure(let error): end(error, now, &duties)  // Nothing has been done: the next statement may try again.
        }
    }

    /// A share of the statement was answered. What comes for another statement is late.
    package mutating func replied(
        _ participant: Int, statement: UInt32, _ reply: ShareReply, now: UInt64, into duties: inout [Duty]
    ) {
        guard phase == .executing, statement == self.statement, pieces[participant] == .waiting,
            participants.indices.contains(participant)
        else { return }
        activeAt = now
        participants[participant].heardAt = now
        switch reply {
        case .done(let incarnation):
            pieces[participant] = note(participant, incarnation) ? .done : .lost
        case .refused(let error, let incarnation):
            noteRefusal(participant, error, incarnation)
            pieces[participant] = .refused(error)
        case .unsent(let error):
            participants[participant].isOwed = false
            pieces[participant] = .refused(error)
        case .lost: pieces[participant] = .lost
        }
        if !pieces.values.contains(.waiting) { conclude(now, &duties) }
    }

    /// False when it is not the scope that it was: a leader has come and gone.
    private mutating func note(_ position: Int, _ incarnation: UInt64) -> Bool {
        let known = participants[position].incarnation
        guard options.needsNoScopes || incarnation != 0 && (known == 0 || known == incarnation) else { return false }
        participants[position].isOwed = false
        guard !options.needsNoScopes else { return true }
        participants[position].incarnation = incarnation
        participants[position].lastStatement = statement
        if let share = shares.first(where: { $0.slot == participants[position].slot }) {
            if share.isWrite, participants[position].firstWrite == 0 { participants[position].firstWrite = statement }
            if share.isLocking, participants[position].firstLock == 0 { participants[position].firstLock = statement }
        }
        return true
    }

    /// PREPARE names the last statement that a scope has admitted, whether it was evaluated then or not.
    private mutating func noteRefusal(_ position: Int, _ error: DatabaseError, _ incarnation: UInt64) {
        // What has waited for a lock in vain has opened a scope: nobody has told its incarnation, so it is fenced.
        if error.code == .lockTimeout { participants[position].isUnnamed = true }
        participants[position].isOwed = false
        if participants[position].incarnation == 0 { participants[position].incarnation = incarnation }
        switch error.code {
        case .invalidArgument, .featureNotSupported, .permissionDenied, .unavailable: return
        case _: if participants[position].incarnation != 0 { participants[position].lastStatement = statement }
        }
    }

    /// All shards have answered.
    private mutating func conclude(_ now: UInt64, _ duties: inout [Duty]) {
        let refusals = pieces.sorted { $0.key < $1.key }.compactMap { piece -> DatabaseError? in
            if case .refused(let error) = piece.value { error } else { nil }
        }
        if pieces.values.contains(.lost) { return die(Self.lost, answering: true, &duties) }
        guard let worst = refusals.max(by: { Gravity(of: $0) < Gravity(of: $1) }) else { return end(nil, now, &duties) }
        if let givenUp {
            let isLost = refusals.contains { Gravity(of: $0) == .scope }
            return isLost ? die(givenUp, answering: true, &duties) : fail(givenUp, &duties)
        }
        let isLate = refusals.allSatisfy { $0.code == .lockTimeout }
        switch Gravity(of: worst) {
        case .statement where isLate && now < waitsUntil ?? 0 && statement < .max:
            isAgain = true
            undo(to: statement - 1, at: traces, worst, now, &duties)
        // Who has gone by an old schema asks again by the newest: no client hears of it.
        case .statement where options.refusals == .statement || worst.code == .staleSchema:
            undo(to: statement - 1, at: traces, worst, now, &duties)
        case .stale where mayRestart: restart(now, &duties)
        case .stale:
            fail(
                DatabaseError(
                    .serializationFailure, "A shard has a new leader, and cannot say what was there at that time"),
                &duties)
        case .statement, .transaction: fail(worst, &duties)
        case .scope: die(worst, answering: true, &duties)
        }
    }

    /// What a shard's refusal says about the transaction.
    private enum Gravity: Int, Comparable {
        case statement, stale, transaction, scope

        init(of error: DatabaseError) {
            switch error.code {
            case .lockNotAvailable, .lockTimeout, .busy, .limitExceeded, .transactionTooLarge, .invalidArgument,
                .featureNotSupported, .unavailable, .permissionDenied, .crossShard, .syntax, .overflow, .wrongType,
                .invalidText, .divisionByZero, .notAnInteger, .notAFloat, .noSuchKey, .unknownCommand, .outOfMemory,
                .diskFull, .readOnly, .staleSchema:
                self = .statement
            case .tooStale: self = .stale
            case .serializationFailure, .deadlock, .snapshotTooOld, .transactionConflict: self = .transaction
            case .transactionAborted, .noSuchTransaction, .idleTimeout, .outcomeUnknown, .alreadyExecuted, .notLeader,
                .staleMap, .deadlineExceeded, .internalFailure, .corruption, .protocolViolation,
                .authenticationRequired, .authenticationFailed:
                self = .scope
            }
        }

        static func < (left: Gravity, right: Gravity) -> Bool { left.rawValue < right.rawValue }
    }

    /// Where the statement was done, and has done more than read.
    private var traces: [Int] {
        let done = pieces.filter { $0.value == .done }.keys.sorted()
        return done.filter { position in
            shares.contains { $0.slot == participants[position].slot && ($0.isWrite || $0.isLocking) }
        }
    }

    /// What had to be undone is. What others have changed while the locks were waited for is seen now.
    private mutating func undone(_ error: DatabaseError?, _ now: UInt64, _ duties: inout [Duty]) {
        guard isAgain else { return end(error, now, &duties) }
        isAgain = false
        if let givenUp { return fail(givenUp, &duties) }
        statement += 1
        proceed(now, &duties)
    }

    /// Nobody has seen anything of the transaction, and its time is not told by the client.
    private var mayRestart: Bool { !hasAnswered && samples < Self.sampleLimit && options.asOf == nil }

    /// Once more, at a later time: what was opened goes.
    private mutating func restart(_ now: UInt64, _ duties: inout [Duty]) {
        release(&duties)
        samples += 1
        id = max(id &+ 1, 1)
        readTimestamp = nil
        participants = []
        proceed(now, &duties)
    }

    /// The command under way is over, and the transaction goes on.
    mutating func end(_ error: DatabaseError?, _ now: UInt64, _ duties: inout [Duty]) {
        phase = .idle
        (shares, pieces, undoers, isAgain, givenUp, givenUpAt) = ([], [:], [], false, nil, nil)
        if error == nil { hasAnswered = true }
        participants.removeAll { $0.incarnation == 0 && !$0.isUnnamed }  // It has refused to open a scope.
        activeAt = now
        duties.append(.answer(error))
    }

    // MARK: Savepoints

    /// SAVEPOINT: one of the same name is hidden by it, not replaced.
    package mutating func savepoint(_ name: Bytes, now: UInt64) throws(DatabaseError) {
        try admit(now)
        guard savepoints.count < Self.savepointLimit, name.count <= Self.nameLimit else {
            throw DatabaseError(
                .limitExceeded,
                "A transaction has at most \(Self.savepointLimit) savepoints, with names of \(Self.nameLimit) bytes")
        }
        savepoints.append(Savepoint(name: name, statement: statement))
    }

    /// RELEASE: it goes, and those that came after it; what was done stays.
    package mutating func release(_ name: Bytes, now: UInt64) throws(DatabaseError) {
        try admit(now)
        guard let position = savepoints.lastIndex(where: { $0.name == name }) else { throw Self.noSavepoint(name) }
        savepoints.removeSubrange(position...)
    }

    /// ROLLBACK TO: what was done since is undone; the savepoint stays. `answer` follows.
    package mutating func rollBack(
        to name: Bytes, now: UInt64, into duties: inout [Duty]
    ) throws(DatabaseError) {
        guard phase == .idle else { return try admit(now) }
        if case .dead(let error) = health { throw Self.aborted(by: error) }
        guard let position = savepoints.lastIndex(where: { $0.name == name }) else { throw Self.noSavepoint(name) }
        activeAt = now
        savepoints.removeSubrange((position + 1)...)
        health = .sound
        let target = savepoints[position].statement
        let later = participants.indices.filter { participants[$0].lastStatement > target }
        undo(to: target, at: later, nil, now, &duties)
    }

    /// Has participants undo what statements behind `target` did, then answers.
    private mutating func undo(
        to target: UInt32, at positions: [Int], _ error: DatabaseError?, _ now: UInt64, _ duties: inout [Duty]
    ) {
        guard !positions.isEmpty else { return undone(error, now, &duties) }
        phase = .undoing(error)
        undoers = Set(positions)
        for position in positions { rollBack(position, to: target, &duties) }
    }

    private mutating func rollBack(_ position: Int, to target: UInt32, isAwaited: Bool = true, _ duties: inout [Duty]) {
        let participant = participants[position]
        if participant.firstWrite > target { participants[position].firstWrite = 0 }
        if participant.firstLock > target { participants[position].firstLock = 0 }
        var step = self.step(.rollbackTo, participant)
        step.statement = target
        duties.append(.send(step, slot: participant.slot, participant: isAwaited ? position : nil))
    }

    /// A participant has answered ROLLBACK_TO or KEEP_ALIVE.
    package mutating func stepped(
        _ kind: TransactionStep.Kind, _ participant: Int, _ reply: ScopeReply, now: UInt64, into duties: inout [Duty]
    ) {
        guard participants.indices.contains(participant), phase != .over, phase != .committing else { return }
        switch (kind, reply) {
        case (.rollbackTo, .done):
            guard case .undoing(let error) = phase, undoers.remove(participant) != nil else { return }
            participants[participant].heardAt = now
            if undoers.isEmpty { undone(error, now, &duties) }
        case (.rollbackTo, .gone), (.rollbackTo, .unknown):
            guard case .undoing = phase, undoers.contains(participant) else { return }
            die(Self.lost, answering: true, &duties)
        case (.keepAlive, .gone):
            guard !isDead else { return }
            die(Self.lost, answering: phase != .idle, &duties)
        case (.keepAlive, _), (_, _): return
        }
    }

    // MARK: Failure

    /// The gateway itself has found an error in a statement.
    package mutating func failStatement(_ error: DatabaseError, into duties: inout [Duty]) {
        guard phase == .idle, health == .sound else { return }
        if options.refusals == .transaction { fail(error, answering: false, &duties) }
    }

    /// The client has gone on to something else, or its patience is over: what is under way is given up. `answer`
    /// follows. Where there is a savepoint to go back to, shards call back what waits for locks, and answer for that
    /// themselves; else the transaction goes at once.
    package mutating func cancel(_ error: DatabaseError, into duties: inout [Duty]) {
        let survives = options.refusals == .transaction && !options.needsNoScopes && !savepoints.isEmpty
        switch phase {
        case .executing where survives:
            guard givenUp == nil else { return }
            givenUp = error
            for (position, piece) in pieces.sorted(by: { $0.key < $1.key }) where piece == .waiting {
                var step = self.step(.rollbackTo, participants[position])
                step.statement = statement - 1
                duties.append(.send(step, slot: participants[position].slot, participant: nil))
            }
        case .undoing where survives && isAgain: givenUp = error
        case .sampling where survives: fail(error, &duties)
        case .sampling, .executing, .undoing: die(error, answering: true, &duties)
        case .idle, .committing, .over: return
        }
    }

    /// Only a savepoint helps now. What came behind it goes at once, for others may wait for its locks.
    private mutating func fail(_ error: DatabaseError, answering: Bool = true, _ duties: inout [Duty]) {
        guard let savepoint = savepoints.last else { return die(error, answering: answering, &duties) }
        health = .failed(error)
        for position in participants.indices
        where participants[position].incarnation != 0 && participants[position].lastStatement > savepoint.statement {
            rollBack(position, to: savepoint.statement, isAwaited: false, &duties)
        }
        guard answering else { return }
        end(error, activeAt, &duties)
    }

    /// Nothing helps: all scopes go. The client still has to say ROLLBACK.
    mutating func die(_ error: DatabaseError, answering: Bool, _ duties: inout [Duty]) {
        health = .dead(error)
        release(&duties)
        (participants, savepoints, phase) = ([], [], .idle)
        (shares, pieces, undoers, isAgain, givenUp, givenUpAt) = ([], [:], [], false, nil, nil)
        if answering { duties.append(.answer(error)) }
    }

    /// Tells all scopes to go, but for these.
    func release(except kept: [Int] = [], _ duties: inout [Duty]) {
        guard !options.needsNoScopes else { return }
        for (position, participant) in participants.enumerated() where !kept.contains(position) {
            var step = self.step(.abort, participant)
            step.statement = 0
            // Who has not answered may open a scope still: only a fence keeps it from that, which is ABORT without an
            // incarnation.
            guard participant.isOwed || participant.isUnnamed || participant.incarnation != 0 else { continue }
            duties.append(.send(step, slot: participant.slot, participant: nil))
        }
    }

    static let none = DatabaseError(.noSuchTransaction, "There is no transaction")
    static let readOnly = DatabaseError(.readOnly, "The transaction is read-only")
    static let lost = DatabaseError(
        .transactionAborted, "A shard has lost what the transaction did there; it was rolled back")

    private static func noSavepoint(_ name: Bytes) -> DatabaseError {
        DatabaseError(.invalidArgument, "There is no savepoint '\(String(decoding: name, as: UTF8.self))'")
    }

    private static func aborted(by error: DatabaseError) -> DatabaseError {
        DatabaseError(.transactionAborted, "The transaction has failed, only ROLLBACK is left (\(error.message))")
    }
}
