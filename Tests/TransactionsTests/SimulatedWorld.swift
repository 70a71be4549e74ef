import Base
import DataModel
import Transactions

/// Who has sent a step and gets its answer: a driver's participant, or a shard's part.
enum StepOrigin {
    case driver(Int, Int)
    case shard(Int, PartID)
}

enum Message {
    case part(Int, Int)
    case partReply(Int, Int, CommitDriver.PartOutcome, [Int: [UInt64]])
    case step(CommitStep, Int, StepOrigin)
    case stepAnswer(CommitStep.Kind, Int, StepOrigin, StepAnswer?)
    case call(Int)
    /// Done, not done, or nil: nobody knows.
    case callReply(Int, Bool?, [Int: [UInt64]])
}

/// How badly a world treats its inhabitants; one in so many, 0: never.
struct Weather {
    var loss: UInt64 = 0
    var doubling: UInt64 = 0
    var longDelay: UInt64 = 0
    var leaderChange: UInt64 = 0
    var driverDeath: UInt64 = 0

    /// What one sends to another arrives in its order, as on a stream.
    var isOrdered = false

    static let fair = Weather(isOrdered: true)
    static let foul = Weather(loss: 20, doubling: 12, longDelay: 15, leaderChange: 120, driverDeath: 3)
    /// Leaders come and go, and messages take their time.
    static let restless = Weather(longDelay: 15, leaderChange: 25)
}

/// Some shards, some clients that do transactions and single calls one after another, and a network that keeps nothing
/// in order.
final class SimulatedWorld {
    struct Operation {
        let key: Int
        let isWrite: Bool
    }

    struct Call {
        let id: UInt64
        let client: Int
        let operation: Operation
        let begunAt: UInt64
        var endedAt: UInt64?
        /// It reads all keys of the shard.
        var isWhole = false
        var isDone: Bool?
        var seen: [Int: [UInt64]] = [:]
    }

    /// One attempt of a transaction.
    struct Attempt {
        let id: TransactionID
        let priority: UInt64
        let client: Int
        let operations: [Operation]
        let participants: [Int]
        let begunAt: UInt64
        let isReadOnly: Bool
        /// Its parts lock whole shards.
        let isWhole: Bool
        var driver: CommitDriver
        /// Duties until it ceases to be; nil: it does not.
        var life: Int?
        var isAlive = true
        var answer: CommitDriver.Answer?
        var answeredAt: UInt64?
        var reads: [Int: [UInt64]] = [:]
        /// The timestamps with which its parts were committed.
        var timestamps: Set<Timestamp> = []
    }

    private struct Client {
        var left: Int
        var isBusy = false
    }

    let keysPerShard = 2
    let weather: Weather
    let limits: Participant.Limits
    var random: SplitMix64
    private(set) var now: UInt64 = 1000
    private(set) var shards: [SimulatedShard] = []
    var attempts: [Attempt] = []
    var calls: [Call] = []
    var violations: [String] = []
    /// Commits that leaders found and drivers did not finish.
    private(set) var recoveries = 0
    private(set) var leaderChanges = 0
    private var clients: [Client] = []
    /// Attempts whose drivers are not finished.
    private var driven: [Int] = []
    private var network: [(at: UInt64, message: Message)] = []
    private var streams: [[Int]: UInt64] = [:]
    private var isStormy = true
    /// How fast the logs are: an entry under way is committed in a step with this probability.
    private var commitPercent: UInt64 = 70
    /// In the systematic test: the driver of the first transaction dies after so many duties.
    var firstLife: Int?

    init(seed: UInt64, shards count: Int, clients: Int, works: Int, _ weather: Weather, bugs: TransactionBugs = []) {
        self.weather = weather
        random = SplitMix64(seed: seed)
        var limits = Participant.Limits()
        limits.bugs = bugs
        // Half of the worlds let go of one lock at a time.
        if seed % 2 == 1 { limits.locks.slice = 1 }
        self.limits = limits
        self.clients = Array(repeating: Client(left: works), count: clients)
        _ = random.next()  // Seeds stay what they were.
        if !weather.isOrdered, random.oneIn(3) { commitPercent = 8 }
        for position in 0..<count { shards.append(SimulatedShard(position, in: self)) }
    }

    // MARK: Names

    func position(of key: Int) -> Int { key % shards.count }
    func lockKey(_ key: Int) -> LockKey { LockKey(0, [UInt8(truncatingIfNeeded: key)]) }
    func keys(of position: Int) -> [Int] {
        (0..<(keysPerShard * shards.count)).filter { self.position(of: $0) == position }
    }
    func key(_ key: LockKey) -> Int { Int(key.key.first ?? 0) }

    func part(_ attempt: Int, _ part: Int) -> Part {
        let item = attempts[attempt], position = item.participants[part]
        let keys = item.operations.filter { self.position(of: $0.key) == position }.map { lockKey($0.key) }
        return Part(
            id: PartID(item.id, shards[position].slot), priority: item.priority,
            participants: item.participants.map { shards[$0].slot }, isReadOnly: item.isReadOnly,
            scope: item.isWhole ? .shard : .keys(keys))
    }

    func note(_ part: CommittedPart, at shard: SimulatedShard) {
        guard let attempt = attempts.firstIndex(where: { $0.id == part.id.transaction }) else { return }
        attempts[attempt].timestamps.insert(part.timestamp)
        if !attempts[attempt].isAlive { recoveries += 1 }
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
        if case .call = message { return }  // Not asked twice by anybody: it has no identity.
        if isStormy, random.oneIn(weather.doubling) {
            network.append((now + 1 + random.next(below: random.oneIn(2) ? 50 : 8000), message))
        }
    }

    /// From which gateway or shard to which, for those that keep their order.
    private func stream(of message: Message) -> [Int] {
        switch message {
        case .part(let attempt, let part): [-1, attempts[attempt].client, attempts[attempt].participants[part]]
        case .step(_, let shard, .driver(let attempt, _)): [-1, attempts[attempt].client, shard]
        case .step(_, let shard, .shard(let from, _)): [from, shard]
        case .call(let call): [-1, calls[call].client, position(of: calls[call].operation.key)]
        case .partReply, .stepAnswer, .callReply: []
        }
    }

    /// The message does not come; who waits for its answer hears so, or nothing.
    func lose(_ message: Message) {
        let notice: Message
        switch message {
        case .part(let attempt, let part), .partReply(let attempt, let part, _, _):
            notice = .partReply(attempt, part, .unknown, [:])
        case .step(let step, let position, let origin): notice = .stepAnswer(step.kind, position, origin, nil)
        case .stepAnswer(let kind, let position, let origin, _): notice = .stepAnswer(kind, position, origin, nil)
        case .call(let call), .callReply(let call, _, _):
            // A client that loses its connection knows it.
            return network.append((now + 1 + random.next(below: 500), .callReply(call, nil, [:])))
        }
        if random.oneIn(2) { network.append((now + 1 + random.next(below: 500), notice)) }
    }

    private func deliver(_ message: Message) {
        switch message {
        case .part(let attempt, let part): deliver(message, to: shards[attempts[attempt].participants[part]])
        case .call(let call): deliver(message, to: shards[position(of: calls[call].operation.key)])
        case .step(_, let position, _): deliver(message, to: shards[position])
        case .stepAnswer(_, _, .shard(let position, _), _): deliver(message, to: shards[position])
        case .stepAnswer(let kind, _, .driver(let attempt, let part), let answer):
            drive(attempt) { $0.answered(kind, part, answer, now: now, into: &$1) }
        case .partReply(let attempt, let part, let outcome, let reads):
            if case .done = outcome { attempts[attempt].reads.merge(reads) { old, _ in old } }
            drive(attempt) { $0.replied(part, outcome, now: now, into: &$1) }
        case .callReply(let call, let isDone, let seen): finish(call, isDone, seen)
        }
    }

    private func deliver(_ message: Message, to shard: SimulatedShard) {
        if shard.isSilent { return lose(message) }
        shard.receive(message)
    }

    // MARK: Drivers

    private func drive(_ attempt: Int, _ body: (inout CommitDriver, inout [CommitDriver.Duty]) -> Void) {
        guard attempts[attempt].isAlive else { return }
        var duties: [CommitDriver.Duty] = []
        body(&attempts[attempt].driver, &duties)
        for duty in duties {
            if let life = attempts[attempt].life {
                guard life > 0 else {
                    attempts[attempt].isAlive = false
                    clients[attempts[attempt].client].isBusy = false
                    return
                }
                attempts[attempt].life = life - 1
            }
            switch duty {
            case .sendPart(let part): send(.part(attempt, part))
            case .send(let step, let part):
                send(.step(step, attempts[attempt].participants[part], .driver(attempt, part)))
            case .answer(let answer): answered(attempt, answer)
            case .finished: continue
            }
        }
    }

    private func answered(_ attempt: Int, _ answer: CommitDriver.Answer) {
        guard attempts[attempt].answer == nil else { return violations.append("a client is answered twice") }
        (attempts[attempt].answer, attempts[attempt].answeredAt) = (answer, now)
        let item = attempts[attempt]
        if answer == .aborted {
            begin(item.operations, priority: item.priority, client: item.client)
        } else {
            clients[item.client].isBusy = false
        }
    }

    private func begin(_ operations: [Operation], priority: UInt64, client: Int) {
        let id = TransactionID(rawValue: random.next() | 1)
        var positions: [Int] = []
        for operation in operations where !positions.contains(position(of: operation.key)) {
            positions.append(position(of: operation.key))
        }
        let isReadOnly = !operations.contains { $0.isWrite }
        var driverLimits = CommitDriver.Limits()
        (driverLimits.partMilliseconds, driverLimits.bugs) = (4000, limits.bugs)
        var life = isStormy && random.oneIn(weather.driverDeath) ? Int(random.next(below: 14)) : nil
        if attempts.isEmpty, let firstLife { life = firstLife }
        attempts.append(
            Attempt(
                id: id, priority: priority, client: client, operations: operations, participants: positions,
                begunAt: now, isReadOnly: isReadOnly, isWhole: random.oneIn(20),
                driver: CommitDriver(
                    id, participants: positions.map { shards[$0].slot }, isReadOnly: isReadOnly, now: now,
                    limits: driverLimits),
                life: life))
        driven.append(attempts.count - 1)
        drive(attempts.count - 1) { $0.begin(into: &$1) }
    }

    // MARK: Clients

    private func finish(_ call: Int, _ isDone: Bool?, _ seen: [Int: [UInt64]]) {
        guard calls[call].endedAt == nil else { return }
        (calls[call].endedAt, calls[call].isDone, calls[call].seen) = (now, isDone, seen)
        clients[calls[call].client].isBusy = false
    }

    private func work(_ client: Int) {
        guard !clients[client].isBusy, clients[client].left > 0 else { return }
        clients[client].left -= 1
        clients[client].isBusy = true
        let count = keysPerShard * shards.count
        if random.oneIn(3) {
            let operation = Operation(key: Int(random.next(below: UInt64(count))), isWrite: !random.oneIn(3))
            let isWhole = !operation.isWrite && random.oneIn(4)
            calls.append(
                Call(id: random.next() | 1, client: client, operation: operation, begunAt: now, isWhole: isWhole))
            return send(.call(calls.count - 1))
        }
        var keys = Array(0..<count)
        keys.shuffle(using: &random)
        let isReadOnly = random.oneIn(3)
        let operations = keys.prefix(2 + Int(random.next(below: 3))).enumerated().map { place, key in
            Operation(key: key, isWrite: !isReadOnly && (place == 0 || !random.oneIn(3)))
        }
        begin(operations, priority: now << 16 | random.next(below: 1 << 16), client: client)
    }

    // MARK: Time

    private func step(_ milliseconds: UInt64) {
        now += milliseconds
        for client in clients.indices where random.oneIn(2) { work(client) }
        var due: [Message] = []
        if weather.isOrdered { network.sort { $0.at < $1.at } }
        network.removeAll { item in
            guard item.at <= now else { return false }
            due.append(item.message)
            return true
        }
        if !weather.isOrdered { due.shuffle(using: &random) }
        for message in due { deliver(message) }
        for shard in shards {
            if isStormy, random.oneIn(weather.leaderChange) {
                leaderChanges += 1
                shard.changeLeader()
            }
            if !random.oneIn(4) { shard.propose() }
            if random.next(below: 100) < (isStormy ? commitPercent : 70) { shard.commitOne() }
            if random.oneIn(4) { shard.tick() }
            if shard.isLettingGo, random.oneIn(2) { shard.letGo() }
        }
        guard random.oneIn(4) else { return }
        driven.removeAll { !attempts[$0].isAlive || attempts[$0].driver.isFinished }
        for attempt in driven { drive(attempt) { $0.tick(now: now, into: &$1) } }
    }

    private var isQuiet: Bool {
        network.isEmpty && clients.allSatisfy { $0.left == 0 && !$0.isBusy } && shards.allSatisfy(\.isQuiet)
    }

    /// The storm, then peace until nothing is under way, then the time in which verdicts expire.
    func run() {
        var steps = 0
        while !isQuiet, violations.isEmpty, steps < 4000 {
            steps += 1
            if steps == 250 { isStormy = false }
            // Where nothing is under way, time is all that happens.
            step(1 + random.next(below: network.isEmpty ? 300 : 30))
        }
        isStormy = false
        while !isQuiet, violations.isEmpty, steps < 6000 {
            steps += 1
            step(30)
        }
        guard violations.isEmpty else { return }
        guard isQuiet else { return violations.append("does not come to rest") }
        now += limits.firmMilliseconds + 1000
        for _ in 0..<80 { step(1) }
        check()
    }
}
