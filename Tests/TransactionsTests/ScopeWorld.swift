import Base
import DataModel
import TestKit
import Transactions

/// Some shards, and clients that do interactive transactions of one level, one-shot transactions and single calls. What
/// they see is recorded, for the checker of histories.
final class ScopeWorld {
    struct Operation {
        enum Kind {
            case read, readAll, append, share, lock

            var isLock: Bool { self != .read && self != .readAll }
        }

        let kind: Kind
        let key: Int
        var value = 0
    }

    /// A statement on its way.
    struct Statement {
        let attempt: Int
        let number: UInt32
        let position: Int
        let incarnation: UInt64
        let operations: [Operation]
        let policy: WaitPolicy
    }

    enum Message {
        case statement(Statement)
        /// Incarnation and what was read, or why not; and the keys that it was done for.
        case statementReply(Statement, (incarnation: UInt64, reads: [(Int, [Int])])?, PartRefusal?, [Int])
        case part(Int, Int)
        case partReply(Int, Int, CommitDriver.PartOutcome, [(Int, [Int])])
        case step(CommitStep, Int, StepOrigin)
        case stepAnswer(CommitStep.Kind, Int, StepOrigin, StepAnswer?)
        case call(Int)
        case callReply(Int, Bool?, [Int])
        case waits(Int, [WaitEdge])
        case victims(Int, [TransactionID])
    }

    struct Call {
        let client: Int
        let key: Int
        let value: Int?
        let begunAt: UInt64
        var isOver = false
    }

    /// A transaction as its client has it: an interactive one, or one attempt of a one-shot.
    struct Attempt {
        enum Phase { case working, rollingBack, committing, over }

        let id: TransactionID
        let priority: UInt64
        let client: Int
        let level: Isolation
        let snapshot: UInt64
        let begunAt: UInt64
        /// Of a one-shot.
        var plan: [Operation] = []
        var isReadOnly = false
        var phase = Phase.working
        var statementsLeft = 0
        var number: UInt32 = 0
        /// By position: incarnation, last statement, whether it must be prepared.
        var scopes: [Int: (incarnation: UInt64, last: UInt32, counts: Bool)] = [:]
        var savepoint: (number: UInt32, recorded: Int)?
        var recorded: [RecordedTransaction.Operation] = []
        /// Positions that have not answered ROLLBACK_TO.
        var expected: Set<Int> = []
        var asksAt: UInt64 = 0
        var committing: [Int] = []
        var driver: CommitDriver?
        /// Messages until its session ceases to be; nil: it does not.
        var life: Int?
        var isAlive = true
        var outcome = RecordedOperation.Outcome.unknown
        var isInteractive: Bool { plan.isEmpty }
    }

    /// How long a call or a statement waits for locks. Where nothing fails, nobody's time may be over.
    var patience: UInt64 { weather.isOrdered ? 20_000 : 5000 }

    let level: Isolation
    let weather: Weather
    let limits: Participant.Limits
    let keysPerShard = 2
    var random: SplitMix64
    var violations: [String] = []
    private(set) var now: UInt64 = 1000
    private(set) var shards: [ScopeShard] = []
    var attempts: [Attempt] = []
    var calls: [Call] = []
    private(set) var history = TransactionHistory()
    private(set) var refusals: [PartRefusal: Int] = [:]
    private(set) var leaderChanges = 0
    var graph = WaitGraph()
    var firstLife: Int?
    /// What is done in statements; nil: everything, and calls and one-shot transactions too.
    let kinds: [Operation.Kind]?
    private var clients: [(left: Int, isBusy: Bool)]
    private var values = 0
    private var network: [(at: UInt64, message: Message)] = []
    private var streams: [[Int]: UInt64] = [:]
    private var isStormy = true

    init(
        seed: UInt64, _ level: Isolation, shards count: Int, clients: Int, works: Int, _ weather: Weather,
        kinds: [Operation.Kind]? = nil, bugs: TransactionBugs = []
    ) {
        (self.level, self.weather, self.kinds) = (level, weather, kinds)
        random = SplitMix64(seed: seed)
        var limits = Participant.Limits()
        limits.bugs = bugs
        // Half of the worlds let go of one lock at a time.
        if seed % 2 == 1 { limits.locks.slice = 1 }
        self.limits = limits
        self.clients = Array(repeating: (works, false), count: clients)
        for position in 0..<count { shards.append(ScopeShard(position, in: self)) }
    }

    // MARK: Names

    func position(of key: Int) -> Int { key % shards.count }
    func lockKey(_ key: Int) -> LockKey { LockKey(0, [UInt8(truncatingIfNeeded: key)]) }
    func key(_ key: LockKey) -> Int { Int(key.key.first ?? 0) }
    func keys(of position: Int) -> [Int] { (0..<keysPerShard).map { position + $0 * shards.count } }

    private var keyCount: Int { keysPerShard * shards.count }

    func part(_ attempt: Int, _ part: Int) -> Part {
        let item = attempts[attempt], position = item.committing[part]
        func keys(_ isAppend: Bool) -> [LockKey] {
            item.plan.filter { self.position(of: $0.key) == position && ($0.kind == .append) == isAppend }
                .map { lockKey($0.key) }
        }
        return Part(
            id: PartID(item.id, shards[position].slot), priority: item.priority,
            participants: item.committing.map { shards[$0].slot }, isReadOnly: item.isReadOnly,
            scope: LockScope(exclusive: keys(true), shared: keys(false)))
    }

    // MARK: The network

    func send(_ message: Message) {
        if weather.isOrdered {
            let stream = stream(of: message), at = max(now + 1 + random.next(below: 20), (streams[stream] ?? 0) + 1)
            streams[stream] = at
            return network.append((at, message))
        }
        if isStormy, random.oneIn(weather.loss) { return lose(message) }
        var delay = 1 + random.next(below: 20)
        if isStormy, random.oneIn(weather.longDelay) { delay += random.next(below: 4000) }
        network.append((now + delay, message))
        switch message {
        case .call, .statement: return  // Nobody sends them twice.
        case .statementReply, .part, .partReply, .step, .stepAnswer, .callReply, .waits, .victims: break
        }
        if isStormy, random.oneIn(weather.doubling) {
            network.append((now + 1 + random.next(below: random.oneIn(2) ? 50 : 8000), message))
        }
    }

    private func stream(of message: Message) -> [Int] {
        switch message {
        case .statement(let statement): [-1, attempts[statement.attempt].client, statement.position]
        case .part(let attempt, let part): [-1, attempts[attempt].client, attempts[attempt].committing[part]]
        case .step(_, let shard, .driver(let attempt, _)): [-1, attempts[attempt].client, shard]
        case .step(_, let shard, .shard(let from, _)): [from, shard]
        case .call(let call): [-1, calls[call].client, position(of: calls[call].key)]
        case .waits(let position, _): [-2, position]
        case .victims(let position, _): [-3, position]
        case .statementReply, .partReply, .stepAnswer, .callReply: []
        }
    }

    /// The message does not come; who waits for its answer hears so, or nothing.
    func lose(_ message: Message) {
        let notice: Message
        switch message {
        case .statement(let statement), .statementReply(let statement, _, _, _):
            notice = .statementReply(statement, nil, nil, [])
        case .part(let attempt, let part), .partReply(let attempt, let part, _, _):
            notice = .partReply(attempt, part, .unknown, [])
        case .step(let step, let position, let origin): notice = .stepAnswer(step.kind, position, origin, nil)
        case .stepAnswer(let kind, let position, let origin, _): notice = .stepAnswer(kind, position, origin, nil)
        case .call(let call), .callReply(let call, _, _):
            return network.append((now + 1 + random.next(below: 500), .callReply(call, nil, [])))
        case .waits, .victims: return
        }
        if random.oneIn(2) { network.append((now + 1 + random.next(below: 500), notice)) }
    }

    private func deliver(_ message: Message) {
        switch message {
        case .statement(let statement): deliver(message, to: shards[statement.position])
        case .part(let attempt, let part): deliver(message, to: shards[attempts[attempt].committing[part]])
        case .call(let call): deliver(message, to: shards[position(of: calls[call].key)])
        case .step(_, let position, _), .stepAnswer(_, _, .shard(let position, _), _), .victims(let position, _):
            deliver(message, to: shards[position])
        case .waits(let position, let edges):
            send(.victims(position, graph.report(edges, from: UInt64(position), now: now)))
        case .stepAnswer(let kind, let position, .driver(let attempt, let part), let answer):
            answered(attempt, kind, position, part, answer)
        case .partReply(let attempt, let part, let outcome, let reads):
            if case .done = outcome, attempts[attempt].phase == .committing { record(reads, attempt) }
            drive(attempt) { $0.replied(part, outcome, now: now, into: &$1) }
        case .statementReply(let statement, let done, let refusal, let keys): replied(statement, done, refusal, keys)
        case .callReply(let call, let isDone, let seen): finish(call, isDone, seen)
        }
    }

    private func deliver(_ message: Message, to shard: ScopeShard) {
        if shard.isSilent { return lose(message) }
        shard.receive(message)
    }

    // MARK: Sessions

    /// Whether the session lives to send one more message.
    private func lives(_ attempt: Int) -> Bool {
        guard attempts[attempt].isAlive else { return false }
        guard let life = attempts[attempt].life else { return true }
        if life == 0 {
            attempts[attempt].isAlive = false
            // Its client goes on, unless it has been told already.
            if attempts[attempt].phase != .over { clients[attempts[attempt].client].isBusy = false }
            return false
        }
        attempts[attempt].life = life - 1
        return true
    }

    private func step(_ kind: CommitStep.Kind, _ attempt: Int, _ position: Int, _ statement: UInt32 = 0) {
        guard lives(attempt) else { return }
        var step = CommitStep(kind, attempts[attempt].id, participants: [])
        step.incarnation = attempts[attempt].scopes[position]?.incarnation ?? 0
        step.statement = statement
        send(.step(step, position, .driver(attempt, -1)))
    }

    /// What the client does next.
    private func proceed(_ attempt: Int) {
        let item = attempts[attempt]
        guard item.isAlive, item.phase == .working else { return }
        if item.statementsLeft == 0 { return commit(attempt) }
        attempts[attempt].statementsLeft -= 1
        attempts[attempt].asksAt = now
        if let savepoint = item.savepoint, random.oneIn(5) {
            attempts[attempt].phase = .rollingBack
            attempts[attempt].expected = Set(item.scopes.keys)
            attempts[attempt].recorded.removeSubrange(savepoint.recorded...)
            for position in item.scopes.keys.sorted() { step(.rollbackTo, attempt, position, savepoint.number) }
            return
        }
        if random.oneIn(5) { attempts[attempt].savepoint = (item.number, item.recorded.count) }
        attempts[attempt].number += 1
        let position = Int(random.next(below: UInt64(shards.count)))
        var operations: [Operation] = []
        for key in keys(of: position) where operations.isEmpty || random.oneIn(3) {
            let kinds: [Operation.Kind] = self.kinds ?? [.read, .read, .append, .append, .share, .lock]
            let isWhole = self.kinds == nil && random.oneIn(20)
            let kind = isWhole ? .readAll : kinds[Int(random.next(below: UInt64(kinds.count)))]
            operations.append(Operation(kind: kind, key: key, value: value()))
        }
        if random.oneIn(2) { operations.reverse() }
        let policy: WaitPolicy = random.oneIn(12) ? .noWait : random.oneIn(12) ? .skipLocked : .wait
        let known = item.scopes[position]
        let statement = Statement(
            attempt: attempt, number: attempts[attempt].number, position: position,
            incarnation: known?.incarnation ?? 0, operations: operations, policy: policy)
        let counts = operations.contains { $0.kind.isLock } || level == .serializable
        attempts[attempt].scopes[position] = (
            known?.incarnation ?? 0, statement.number, (known?.counts ?? false) || counts
        )
        if lives(attempt) { send(.statement(statement)) }
    }

    private func value() -> Int {
        values += 1
        return values
    }

    private func replied(
        _ statement: Statement, _ done: (incarnation: UInt64, reads: [(Int, [Int])])?, _ refusal: PartRefusal?,
        _ keys: [Int]
    ) {
        let attempt = statement.attempt, item = attempts[attempt]
        guard item.isAlive, item.phase == .working, item.number == statement.number else { return }
        if let refusal { refusals[refusal, default: 0] += 1 }
        guard let done, let known = item.scopes[statement.position],
            known.incarnation == 0 || known.incarnation == done.incarnation
        else { return abort(attempt) }
        attempts[attempt].scopes[statement.position]?.incarnation = done.incarnation
        var reads = done.reads
        for operation in statement.operations where keys.contains(operation.key) {
            if operation.kind == .append {
                attempts[attempt].recorded.append(.append(key: operation.key, value: operation.value))
            } else {
                let count = operation.kind == .readAll ? keysPerShard : 1
                record(Array(reads.prefix(count)), attempt)
                reads.removeFirst(min(count, reads.count))
            }
        }
        proceed(attempt)
    }

    private func record(_ reads: [(Int, [Int])], _ attempt: Int) {
        for (key, values) in reads { attempts[attempt].recorded.append(.readList(key: key, values: values)) }
    }

    private func commit(_ attempt: Int) {
        let item = attempts[attempt]
        if random.oneIn(10) { return abort(attempt) }
        let isChanged = item.recorded.contains { if case .append = $0 { true } else { false } }
        let counting = item.scopes.filter { $0.value.counts }.keys.sorted()
        guard isChanged, let first = counting.first else {
            // What was read is of one moment, or need not be.
            for position in item.scopes.keys.sorted() { step(.abort, attempt, position) }
            return end(attempt, .completed(now))
        }
        (attempts[attempt].phase, attempts[attempt].committing) = (.committing, counting)
        attempts[attempt].asksAt = now
        for position in item.scopes.keys.sorted() where !counting.contains(position) { step(.abort, attempt, position) }
        if counting.count == 1 { return step(.commitOne, attempt, first, item.scopes[first]?.last ?? 0) }
        begin(driverOf: attempt)
    }

    private func begin(driverOf attempt: Int) {
        var limits = CommitDriver.Limits()
        (limits.partMilliseconds, limits.bugs) = (6000, self.limits.bugs)
        attempts[attempt].driver = CommitDriver(
            attempts[attempt].id, participants: attempts[attempt].committing.map { shards[$0].slot },
            isReadOnly: attempts[attempt].isReadOnly, now: now, limits: limits)
        drive(attempt) { $0.begin(into: &$1) }
    }

    private func answered(
        _ attempt: Int, _ kind: CommitStep.Kind, _ position: Int, _ part: Int, _ answer: StepAnswer?
    ) {
        let item = attempts[attempt]
        guard item.isAlive else { return }
        switch kind {
        case .prepare:
            if case .refused(let refusal) = answer { refusals[refusal, default: 0] += 1 }
            drive(attempt) { $0.replied(part, .init(answer), now: now, into: &$1) }
        case .rollbackTo:
            guard item.phase == .rollingBack else { return }
            guard answer == .held else { return abort(attempt) }
            attempts[attempt].expected.remove(position)
            guard attempts[attempt].expected.isEmpty else { return }
            attempts[attempt].phase = .working
            proceed(attempt)
        case .commitOne:
            guard item.phase == .committing else { return }
            switch answer {
            case .committed: end(attempt, .completed(now))
            case .refused(let refusal):
                refusals[refusal, default: 0] += 1
                end(attempt, .refused)
            case .prepared, .aborted, .nothing, .held, .notHeld, .busy, nil: return  // Asked again.
            }
        case .commit, .abort, .forget, .resolve, .fence, .confirm, .keepAlive:
            if part >= 0 { drive(attempt) { $0.answered(kind, part, answer, now: now, into: &$1) } }
        }
    }

    private func abort(_ attempt: Int) {
        for position in attempts[attempt].scopes.keys.sorted() { step(.abort, attempt, position) }
        end(attempt, .refused)
    }

    private func end(_ attempt: Int, _ outcome: RecordedOperation.Outcome) {
        guard attempts[attempt].phase != .over else { return }
        attempts[attempt].phase = .over
        attempts[attempt].outcome = outcome
        if attempts[attempt].isAlive { clients[attempts[attempt].client].isBusy = false }
    }

    private func drive(_ attempt: Int, _ body: (inout CommitDriver, inout [CommitDriver.Duty]) -> Void) {
        guard attempts[attempt].isAlive, attempts[attempt].driver != nil else { return }
        var duties: [CommitDriver.Duty] = []
        if var driver = attempts[attempt].driver {
            body(&driver, &duties)
            attempts[attempt].driver = driver
        }
        for duty in duties {
            switch duty {
            case .sendPart(let part):
                guard lives(attempt) else { return }
                let position = attempts[attempt].committing[part]
                guard attempts[attempt].isInteractive else {
                    send(.part(attempt, part))
                    continue
                }
                var step = CommitStep(
                    .prepare, attempts[attempt].id, participants: attempts[attempt].committing.map { shards[$0].slot })
                step.incarnation = attempts[attempt].scopes[position]?.incarnation ?? 0
                step.statement = attempts[attempt].scopes[position]?.last ?? 0
                send(.step(step, position, .driver(attempt, part)))
            case .send(var step, let part):
                guard lives(attempt) else { return }
                let position = attempts[attempt].committing[part]
                if step.kind == .abort { step.incarnation = attempts[attempt].scopes[position]?.incarnation ?? 0 }
                send(.step(step, position, .driver(attempt, part)))
            case .answer(.committed(_, let missing)):
                if missing.isEmpty || attempts[attempt].isInteractive {
                    end(attempt, .completed(now))
                } else {
                    end(attempt, .unknown)  // Done, and nobody knows what it has read.
                }
            case .answer(.unknown): end(attempt, .unknown)
            case .answer(.aborted), .answer(.failed): end(attempt, .refused)
            case .finished: continue
            }
        }
    }

    // MARK: Clients

    private func finish(_ call: Int, _ isDone: Bool?, _ seen: [Int]) {
        guard !calls[call].isOver else { return }
        calls[call].isOver = true
        let item = calls[call]
        clients[item.client].isBusy = false
        let operation =
            item.value.map { RecordedTransaction.Operation.append(key: item.key, value: $0) }
            ?? .readList(key: item.key, values: seen)
        guard item.value != nil || isDone == true else { return }
        history.transactions.append(
            RecordedTransaction(
                client: item.client, operations: [operation], invoked: item.begunAt,
                outcome: isDone.map { $0 ? .completed(now) : .refused } ?? .unknown))
    }

    private func work(_ client: Int) {
        guard !clients[client].isBusy, clients[client].left > 0 else { return }
        clients[client].left -= 1
        clients[client].isBusy = true
        if kinds == nil, random.oneIn(4) {
            let key = Int(random.next(below: UInt64(keyCount)))
            calls.append(Call(client: client, key: key, value: random.oneIn(2) ? value() : nil, begunAt: now))
            return send(.call(calls.count - 1))
        }
        let snapshot = level == .readCommitted ? 0 : shards.map { $0.tickClock() }.max() ?? 0
        var attempt = Attempt(
            id: TransactionID(rawValue: random.next() | 1), priority: now << 16 | random.next(below: 1 << 16),
            client: client, level: level, snapshot: snapshot, begunAt: now)
        attempt.life = isStormy && random.oneIn(weather.driverDeath) ? Int(random.next(below: 14)) : nil
        if attempts.isEmpty, let firstLife { attempt.life = firstLife }
        if random.oneIn(4) {
            var keys = Array(0..<keyCount)
            keys.shuffle(using: &random)
            attempt.isReadOnly = kinds == nil && random.oneIn(3)
            attempt.plan = keys.prefix(2 + Int(random.next(below: 2))).map { key in
                Operation(kind: attempt.isReadOnly || random.oneIn(3) ? .read : .append, key: key, value: value())
            }
            attempt.isReadOnly = !attempt.plan.contains { $0.kind == .append }
            for operation in attempt.plan where !attempt.committing.contains(position(of: operation.key)) {
                attempt.committing.append(position(of: operation.key))
            }
            attempt.phase = .committing
            for operation in attempt.plan where operation.kind == .append {
                attempt.recorded.append(.append(key: operation.key, value: operation.value))
            }
            attempts.append(attempt)
            return begin(driverOf: attempts.count - 1)
        }
        attempt.statementsLeft = 2 + Int(random.next(below: 4))
        attempts.append(attempt)
        proceed(attempts.count - 1)
    }

    // MARK: Time

    private func step(_ milliseconds: UInt64) {
        now += milliseconds
        for client in clients.indices where random.oneIn(2) { work(client) }
        if weather.isOrdered { network.sort { $0.at < $1.at } }
        var due: [Message] = []
        network.removeAll { item in
            guard item.at <= now else { return false }
            due.append(item.message)
            return true
        }
        if !weather.isOrdered { due.shuffle(using: &random) }
        for message in due { deliver(message) }
        for shard in shards {
            let isTold = weather.leaderChange > 0 && shard.hasPieces && random.oneIn(8)
            if isStormy, isTold || random.oneIn(weather.leaderChange) {
                leaderChanges += 1
                shard.changeLeader()
            }
            if !random.oneIn(4) { shard.propose() }
            if random.next(below: 100) < 70 { shard.commitOne() }
            if random.oneIn(4) { shard.tick() }
            if shard.isLettingGo, random.oneIn(2) { shard.letGo() }
        }
        if random.oneIn(4) { for attempt in attempts.indices { look(attempt) } }
    }

    /// Time has passed for a session.
    private func look(_ attempt: Int) {
        let item = attempts[attempt]
        guard item.isAlive else { return }
        if item.driver != nil { drive(attempt) { $0.tick(now: now, into: &$1) } }
        guard item.isInteractive, item.phase != .over, item.driver == nil else { return }
        if item.phase == .committing {
            guard now >= item.asksAt + 500, let position = item.committing.first else { return }
            if now >= item.asksAt + 30_000 { return end(attempt, .unknown) }
            if random.oneIn(8) { step(.commitOne, attempt, position, item.scopes[position]?.last ?? 0) }
        } else if now >= item.asksAt + patience + 3000 {
            abort(attempt)
        }
    }

    private var isQuiet: Bool {
        network.isEmpty && clients.allSatisfy { $0.left == 0 && !$0.isBusy } && shards.allSatisfy(\.isQuiet)
            && attempts.allSatisfy { !$0.isAlive || $0.driver?.isFinished ?? true }
    }

    /// The storm, then peace until nothing is under way, then the time in which verdicts expire.
    func run() {
        var steps = 0
        while !isQuiet, violations.isEmpty, steps < 6000 {
            steps += 1
            if steps == 250 { isStormy = false }
            step(1 + random.next(below: network.isEmpty ? 300 : 30))
        }
        guard violations.isEmpty else { return }
        guard isQuiet else { return violations.append("does not come to rest") }
        now += limits.firmMilliseconds + 1000
        isStormy = false
        for _ in 0..<80 { step(1) }
        check()
    }

    private func check() {
        for shard in shards {
            for (_, record) in shard.records {
                let kind = record.withUnsafeBytes { PartRecord(decoding: $0) }.map { "\($0)".prefix(300) } ?? "damaged"
                violations.append("a record is left: \(kind), \(shard.participant.verdictCount) verdicts, at \(now)")
            }
            if shard.participant.scopeCount != 0 { violations.append("a scope is left") }
            if shard.participant.contradictions > 0 { violations.append("a participant contradicts the anchor") }
            if shard.participant.intentBytes != 0 { violations.append("bytes of intents are left") }
        }
        if weather.isOrdered, firstLife == nil, let count = refusals[.lockTimeout] {
            violations.append("\(count) statements have waited until their time was over")
        }
        for attempt in attempts {
            history.transactions.append(
                RecordedTransaction(
                    client: attempt.client, operations: attempt.recorded, invoked: attempt.begunAt,
                    outcome: attempt.outcome))
        }
        let final = (0..<keyCount).map { key in
            let values = shards[position(of: key)].stored[key]?.last?.values ?? []
            return RecordedTransaction.Operation.readList(key: key, values: values)
        }
        history.transactions.append(
            RecordedTransaction(
                client: clients.count, operations: final, invoked: now + 1, outcome: .completed(now + 2)))
        let promised: IsolationLevel =
            switch level {
            case .readCommitted: .readCommitted
            case .snapshot: .snapshot
            case .serializable: .serializable
            }
        let report = IsolationChecker().check(history)
        if let anomaly = report.violations(of: promised).first {
            violations.append("\(anomaly.kind.rawValue): \(anomaly.explanation)")
        }
    }
}
