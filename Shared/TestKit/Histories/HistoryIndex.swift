import Glibc

/// A history made ready for questions: which write made a value, what was done to each key, who committed, and in what
/// order the values of a list came.
struct HistoryIndex {
    struct Write {
        var transaction: Int
        var key: Int
        var value: Int
        /// The next write of the same transaction to the same key.
        var next: Int?
    }

    /// One operation on a key; `write` is nil for a read.
    struct Access {
        var transaction: Int
        var operation: Int
        var write: Int?
    }

    struct Key {
        var name: Int
        var isList: Bool
        /// Transaction by transaction, each in its own order.
        var accesses: [Access] = []
        /// Of a list: the longest read that is sound, which all others must be the beginning of.
        var trunk: [Int] = []
        var trunkReader: Int?
        /// Reads of a list that are not the beginning of the trunk.
        var oddReads: [OddRead] = []
    }

    struct OddRead: Hashable {
        var transaction: Int
        var operation: Int
    }

    private struct WriteName: Hashable {
        var key: Int
        var value: Int
    }

    let history: TransactionHistory
    private(set) var keys: [Key] = []
    private(set) var writes: [Write] = []
    private(set) var isCommitted: [Bool]
    /// Why the history cannot be checked.
    private(set) var faults: [(transactions: [Int], text: String)] = []
    private var numbers: [Int: Int] = [:]
    private var names: [WriteName: Int] = [:]
    /// Committed, and what they read has not been looked at.
    private var pending: [Int] = []

    init(_ history: TransactionHistory) {
        self.history = history
        isCommitted = Array(repeating: false, count: history.transactions.count)
        for number in history.transactions.indices { addOperations(of: number) }
        guard faults.isEmpty else { return }
        for (number, transaction) in history.transactions.enumerated() {
            guard case .completed = transaction.outcome else { continue }
            isCommitted[number] = true
            pending.append(number)
        }
        for key in keys.indices where keys[key].isList { chooseTrunk(key) }
        settle()
    }

    func write(of value: Int, key: Int) -> Int? { names[WriteName(key: key, value: value)] }

    func isAborted(_ transaction: Int) -> Bool { history.transactions[transaction].outcome == .refused }

    /// What a read of a list has returned; nil for any other operation.
    func list(_ access: Access) -> [Int]? {
        guard case .readList(_, let values) = history.transactions[access.transaction].operations[access.operation]
        else { return nil }
        return values
    }

    private mutating func addOperations(of number: Int) {
        for (place, operation) in history.transactions[number].operations.enumerated() {
            switch operation {
            case .append(let name, let value), .write(let name, let value):
                let isList = if case .append = operation { true } else { false }
                guard let key = self.key(name, isList: isList, number) else { continue }
                let write = writes.count
                if let other = names.updateValue(write, forKey: WriteName(key: key, value: value)) {
                    let text = "\(history.name(ofValue: value)) is written to \(history.name(ofKey: name)) twice"
                    faults.append(([writes[other].transaction, number], text))
                }
                if let last = keys[key].accesses.last(where: { $0.transaction != number || $0.write != nil }),
                    last.transaction == number, let before = last.write
                {
                    writes[before].next = write
                }
                writes.append(Write(transaction: number, key: key, value: value))
                keys[key].accesses.append(Access(transaction: number, operation: place, write: write))
            case .readList(let name, _), .readRegister(let name, _):
                let isList = if case .readList = operation { true } else { false }
                guard let key = self.key(name, isList: isList, number) else { continue }
                keys[key].accesses.append(Access(transaction: number, operation: place))
            }
        }
    }

    private mutating func key(_ name: Int, isList: Bool, _ transaction: Int) -> Int? {
        guard let key = numbers[name] else {
            numbers[name] = keys.count
            keys.append(Key(name: name, isList: isList))
            return keys.count - 1
        }
        if keys[key].isList == isList { return key }
        let first = keys[key].accesses.first?.transaction ?? transaction
        faults.append(([first, transaction], "\(history.name(ofKey: name)) is used as a list and as a register"))
        return nil
    }

    /// The longest read of a list among those that are certain. Where they contradict each other, those that show what
    /// cannot be there at all are not asked.
    private mutating func chooseTrunk(_ key: Int) {
        var reads = keys[key].accesses.filter { $0.write == nil && isCommitted[$0.transaction] }
        func longest() -> Access? {
            var best: (count: Int, access: Access)?
            for read in reads {
                guard let values = list(read), values.count > best?.count ?? -1 else { continue }
                best = (values.count, read)
            }
            return best?.access
        }
        guard var chosen = longest(), var trunk = list(chosen) else { return }
        if reads.contains(where: { !Self.isBeginning(list($0) ?? [], of: trunk) }) {
            reads.removeAll { hasFlaw(list($0) ?? [], key: key) }
            guard let sound = longest(), let values = list(sound) else { return }
            (chosen, trunk) = (sound, values)
        }
        keys[key].trunk = trunk
        keys[key].trunkReader = chosen.transaction
        see(trunk[...], key: key)
    }

    private func hasFlaw(_ values: [Int], key: Int) -> Bool {
        var seen: Set<Int> = []
        return values.contains { value in
            guard let write = write(of: value, key: key) else { return true }
            return isAborted(writes[write].transaction) || !seen.insert(value).inserted
        }
    }

    /// Looks at what committed transactions have read until no more turn out to have committed.
    private mutating func settle() {
        while let number = pending.popLast() {
            for (place, operation) in history.transactions[number].operations.enumerated() {
                switch operation {
                case .append, .write: continue
                case .readList(let name, let values):
                    if let key = numbers[name] { noteRead(values, key: key, number, place) }
                case .readRegister(let name, let value):
                    if let key = numbers[name], let value { see([value], key: key) }
                }
            }
        }
    }

    private mutating func noteRead(_ values: [Int], key: Int, _ number: Int, _ place: Int) {
        if Self.isBeginning(values, of: keys[key].trunk) { return }
        if Self.isBeginning(keys[key].trunk, of: values), keys[key].trunkReader == nil || !hasFlaw(values, key: key) {
            see(values[keys[key].trunk.count...], key: key)
            keys[key].trunk = values
            keys[key].trunkReader = number
        } else {
            see(values[...], key: key)
            keys[key].oddReads.append(OddRead(transaction: number, operation: place))
        }
    }

    /// What somebody has seen is committed; or its writer has aborted, which is another matter.
    private mutating func see(_ values: ArraySlice<Int>, key: Int) {
        for value in values {
            guard let write = write(of: value, key: key) else { continue }
            let writer = writes[write].transaction
            guard !isCommitted[writer], !isAborted(writer) else { continue }
            isCommitted[writer] = true
            pending.append(writer)
        }
    }

    /// By memory: most reads of a long history are long, and this is done for each.
    private static func isBeginning(_ values: [Int], of others: [Int]) -> Bool {
        guard values.count <= others.count else { return false }
        return values.withUnsafeBytes { left in
            others.withUnsafeBytes { right in
                guard let left = left.baseAddress, let right = right.baseAddress else { return true }
                return memcmp(left, right, values.count * MemoryLayout<Int>.stride) == 0
            }
        }
    }
}
