import Base
import TestKit

/// A database that keeps to a level and to no stronger one, with clients whose steps interleave by a seed: where
/// histories that are good on purpose come from. Even keys are lists, odd ones registers; time counts steps.
struct ReferenceDatabase {
    private struct State {
        var lists: [Int: [Int]] = [:]
        var registers: [Int: Int] = [:]
        /// The step of a key's last change.
        var changes: [Int: UInt64] = [:]
    }

    private struct Client {
        var plan: [(key: Int, isWrite: Bool)] = []
        var operations: [RecordedTransaction.Operation] = []
        var own: [Int: [Int]] = [:]
        var begin: UInt64 = 0
        var snapshot = State()
        /// Executed, and not answered: whether it committed.
        var isCommitted: Bool?
    }

    let level: IsolationLevel
    private var random: SplitMix64
    private var state = State()
    private var clients: [Client]
    private var locks: [Int: Int] = [:]
    private var time: UInt64 = 1000
    private var lastValue = 0
    private var begun = 0
    private var recorded: [RecordedTransaction] = []

    init(_ level: IsolationLevel, seed: UInt64, clients: Int = 8) {
        self.level = level
        random = SplitMix64(seed: seed)
        self.clients = Array(repeating: Client(), count: clients)
    }

    /// What the clients saw of `count` transactions, and of a last one that reads every key.
    mutating func history(_ count: Int) -> TransactionHistory {
        while recorded.count < count { step(Int(random.next(below: UInt64(clients.count)))) }
        for number in clients.indices where clients[number].isCommitted != nil { answer(number) }
        time += 1000
        let reads = state.lists.sorted { $0.key < $1.key }.map { key, values in
            RecordedTransaction.Operation.readList(key: key, values: values)
        }
        recorded.append(
            RecordedTransaction(client: 99, operations: reads, invoked: time, outcome: .completed(time + 1)))
        return TransactionHistory(recorded)
    }

    private mutating func step(_ number: Int) {
        time += 1
        if clients[number].isCommitted != nil { return answer(number) }
        if clients[number].plan.isEmpty { return begin(number) }
        switch level {
        case .serializable, .strictSerializable:
            clients[number].snapshot = state
            while clients[number].isCommitted == nil { operate(number) }
        case .readCommitted, .snapshot: operate(number)
        }
    }

    private mutating func begin(_ number: Int) {
        begun += 1
        // Keys are left behind after a while: or their lists would grow for ever.
        let first = begun / 150 * 6
        clients[number] = Client(begin: time, snapshot: state)
        for _ in 0...random.next(below: 4) {
            clients[number].plan.append((first + Int(random.next(below: 6)), random.oneIn(2)))
        }
    }

    /// The next operation, or the commit if there is none.
    private mutating func operate(_ number: Int) {
        guard clients[number].operations.count < clients[number].plan.count else { return commit(number) }
        let (key, isWrite) = clients[number].plan[clients[number].operations.count]
        if isWrite {
            // Who writes keeps others from writing until the end; nobody waits, so nobody waits for ever.
            guard locks[key] ?? number == number else { return end(number, isCommitted: false) }
            locks[key] = number
            lastValue += 1
            clients[number].own[key, default: []].append(lastValue)
            clients[number].operations.append(
                key % 2 == 0 ? .append(key: key, value: lastValue) : .write(key: key, value: lastValue))
            return
        }
        let seen = level == .snapshot ? clients[number].snapshot : state
        let own = clients[number].own[key] ?? []
        clients[number].operations.append(
            key % 2 == 0
                ? .readList(key: key, values: (seen.lists[key] ?? []) + own)
                : .readRegister(key: key, value: own.last ?? seen.registers[key]))
    }

    private mutating func commit(_ number: Int) {
        let client = clients[number]
        let isLate = client.own.keys.contains { state.changes[$0] ?? 0 > client.begin }
        if level == .snapshot && isLate || random.oneIn(20) { return end(number, isCommitted: false) }
        for (key, values) in client.own {
            state.changes[key] = time
            if key % 2 == 0 { state.lists[key, default: []] += values } else { state.registers[key] = values.last }
        }
        end(number, isCommitted: true)
    }

    private mutating func end(_ number: Int, isCommitted: Bool) {
        for key in clients[number].own.keys where locks[key] == number { locks[key] = nil }
        clients[number].isCommitted = isCommitted
    }

    private mutating func answer(_ number: Int) {
        guard let isCommitted = clients[number].isCommitted else { return }
        var operations = clients[number].operations
        var outcome: RecordedOperation.Outcome = isCommitted ? .completed(time) : .refused
        var begin = clients[number].begin
        if random.oneIn(15) {
            outcome = .unknown
            if random.oneIn(2) { operations.removeAll { $0.isRead } }
        } else if level == .serializable, isCommitted {
            // Whatever the order is, it is not that of time.
            begin = begin + random.next(below: 100) - 50
            outcome = .completed(begin + 5)
        }
        recorded.append(
            RecordedTransaction(client: number, operations: operations, invoked: begin, outcome: outcome))
        clients[number] = Client()
    }
}

extension RecordedTransaction.Operation {
    var isRead: Bool {
        switch self {
        case .append, .write: false
        case .readList, .readRegister: true
        }
    }
}
