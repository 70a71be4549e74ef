import Base
import TestKit

/// A client: one operation after the other. It follows hints about leaders, asks again when it was refused, and again
/// after a time-out where that does no harm: reads, and writes that the shard remembers.
struct SimulatedClient {
    private struct Operation {
        var key: Int
        var action: RecordedAction
        /// In the history of its key.
        var record: Int
        var number: UInt64
        var sequence: UInt32
        var attempts = 0
        /// An earlier attempt has ended without an answer.
        var isInDoubt = false
    }

    static let timeout: UInt64 = 1_500_000_000

    let number: Int
    /// Who leads each shard, as far as this client knows.
    private var leaders: [Int]
    private var operation: Operation?
    private var attempt: UInt32 = 0
    /// The next wake-up sends, it does not give up.
    private var isWaiting = false
    private var sequence: UInt32 = 0
    private(set) var completed = 0
    private(set) var newestCompletion: UInt64 = 0

    init(_ number: Int, shards: Int) {
        self.number = number
        leaders = Array(repeating: 1, count: shards)
    }

    var isIdle: Bool { operation == nil }

    // MARK: Events

    /// The timer of an attempt has run out, or it is time for the next operation.
    mutating func wakes(_ attempt: UInt32, in world: ClusterSimulation) {
        guard attempt == self.attempt else { return }
        guard var current = operation else { return begin(in: world) }
        if isWaiting { return send(in: world) }
        // No answer: it may have happened, or may still.
        if current.action != .read { current.isInDoubt = true }
        let mayRepeat = (current.action == .read || current.sequence > 0) && world.guidance == nil
        operation = current
        guard mayRepeat, current.attempts < 8 else { return end(.unknown, in: world) }
        leaders[current.key % leaders.count] = world.anyMachine()
        send(in: world)
    }

    mutating func hears(_ reply: ClientReply, in world: ClusterSimulation) {
        guard let current = operation, reply.request.attempt == attempt else { return }
        let time = world.scheduler.now
        switch reply.content {
        case .done:
            end(.completed(time), in: world)
        case .value(let numbers):
            end(.completed(time), returned: numbers, in: world)
        case .unknown:
            if current.action != .read { operation?.isInDoubt = true }
            retry(in: world)
        case .refused(let leader):
            leaders[current.key % leaders.count] = leader ?? world.anyMachine()
            retry(in: world)
        }
    }

    /// Asks again a little later, through the timer.
    private mutating func retry(in world: ClusterSimulation) {
        guard let current = operation else { return }
        let mayRepeat = current.action == .read || current.sequence > 0 || !current.isInDoubt
        guard mayRepeat, current.attempts < 8 else {
            return end(current.isInDoubt ? .unknown : .refused, in: world)
        }
        attempt += 1
        isWaiting = true
        let pause = 5_000_000 + world.random.next(below: 60_000_000)
        world.scheduler.schedule(.client(number, attempt: attempt), after: pause)
    }

    private mutating func end(
        _ outcome: RecordedOperation.Outcome, returned: [Int]? = nil, in world: ClusterSimulation
    ) {
        guard let current = operation else { return }
        world.history.end(current.record, key: current.key, outcome, returned: returned)
        switch outcome {
        case .completed(let time):
            completed += 1
            newestCompletion = time
            world.report.acknowledged += 1
            if current.action != .read { world.acknowledged(current.key, current.number) }
        case .refused: world.report.refused += 1
        case .unknown: world.report.unknown += 1
        }
        operation = nil
        attempt += 1
        schedule(in: world)
    }

    mutating func schedule(in world: ClusterSimulation) {
        let think = world.guidance == nil ? world.plan.thinkNanoseconds : ClientGuidance.think
        world.scheduler.schedule(.client(number, attempt: attempt), after: think / 2 + world.random.next(below: think))
    }

    private mutating func begin(in world: ClusterSimulation) {
        guard !world.areClientsResting else { return schedule(in: world) }
        let key = world.guidance?.key ?? Int(world.random.next(below: UInt64(world.plan.keys)))
        let number = world.nextNumber()
        let action: RecordedAction
        let recorded: RecordedOperation.Action
        switch world.guidance == nil ? world.random.next(below: 20) : guidedChoice(in: world) {
        case 0..<8: (action, recorded) = (.read, .read([]))
        case 8..<11: (action, recorded) = (.write(number), .write(number))
        case _: (action, recorded) = (.append(number), .append(number))
        }
        let isRemembered = action != .read && world.random.oneIn(2)
        if isRemembered { sequence += 1 }
        let record = world.history.begin(recorded, key: key, client: self.number, at: world.scheduler.now)
        operation = Operation(
            key: key, action: action, record: record, number: UInt64(number),
            sequence: isRemembered ? sequence : 0)
        send(in: world)
    }

    /// Of the twenty kinds of an operation, one that suits the client's part in a schedule.
    private func guidedChoice(in world: ClusterSimulation) -> UInt64 {
        ClientGuidance.isReader(number) ? 0 : 8 + world.random.next(below: 12)
    }

    private mutating func send(in world: ClusterSimulation) {
        guard let current = operation else { return }
        attempt += 1
        operation?.attempts += 1
        isWaiting = false
        let request = ClientRequest(
            client: number, attempt: attempt, key: current.key, action: current.action, operation: current.number,
            sequence: current.sequence)
        // Now and then somewhere else: who leads may have changed without a word.
        let known = leaders[current.key % leaders.count]
        let guided = guide(current, in: world)
        world.send(request, to: guided ?? (world.random.oneIn(8) ? world.anyMachine() : known))
        let patience =
            guided != nil ? ClientGuidance.patience : world.random.oneIn(3) ? 3 * Self.timeout : Self.timeout
        world.scheduler.schedule(.client(number, attempt: attempt), after: patience)
    }

    /// Whom to ask while a schedule is played in the shard.
    private func guide(_ operation: Operation, in world: ClusterSimulation) -> Int? {
        guard let guidance = world.guidance, (guidance.key - operation.key) % leaders.count == 0 else { return nil }
        let known = operation.action == .read ? guidance.readers : guidance.writers
        return known.isEmpty ? nil : known[Int(world.random.next(below: UInt64(known.count)))]
    }
}
