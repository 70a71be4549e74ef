/// What a history shows, key by key: the order of its transactions as far as it is known, and what is wrong already
/// without any cycle.
struct Evidence {
    /// Two transactions, or one, that a level above read committed forbids.
    struct Suspect {
        var kind: IsolationAnomaly.Kind
        var transactions: [Int]
        var text: String
    }

    let index: HistoryIndex
    var dependencies: [Dependency] = []
    var report = IsolationReport()
    /// Non-repeatable reads and lost updates, to be told unless something worse explains them.
    var suspects: [Suspect] = []
    /// Transactions of which something is told.
    var named: Set<Int> = []
    /// How many rw may still be added for the key at hand. A history that is any good needs few for each operation; of
    /// one whose reads miss most of what was written, each read would come before each write.
    private var room = 0

    init(_ index: HistoryIndex) {
        self.index = index
        for fault in index.faults { add(.malformed, fault.transactions, fault.text) }
        guard index.faults.isEmpty else { return }
        report.committed = index.isCommitted.reduce(0) { $0 + ($1 ? 1 : 0) }
        for key in index.keys.indices {
            room = 1000 + 32 * index.keys[key].accesses.count
            if index.keys[key].isList {
                collectList(key)
            } else {
                collectRegister(key)
            }
        }
        collectTimes()
    }

    mutating func add(_ kind: IsolationAnomaly.Kind, _ transactions: [Int], _ text: String) {
        named.formUnion(transactions)
        let history = index.history
        report.add(kind, transactions) {
            var told: Set<Int> = []
            let lines = transactions.filter { told.insert($0).inserted }.map { "  " + history.describe($0) }
            return (["\(kind.rawValue): \(text)"] + lines).joined(separator: "\n")
        }
    }

    func keyName(_ key: Int) -> String { index.history.name(ofKey: index.keys[key].name) }

    func valueName(_ write: Int) -> String { index.history.name(ofValue: index.writes[write].value) }

    func name(_ transaction: Int) -> String { index.history.name(of: transaction) }

    mutating func depend(
        _ kind: Dependency.Kind, _ from: Int, _ to: Int, _ key: Int, _ before: Int?, _ after: Int?,
        witnesses: [Int] = []
    ) {
        guard from != to else { return }
        if kind == .readWrite {
            guard room > 0 else { return }
            room -= 1
        }
        dependencies.append(
            Dependency(
                kind: kind, from: from, to: to, key: key, before: before, after: after, witnesses: witnesses))
    }

    /// The end of a transaction; `.max` if nobody knows.
    func interval(_ transaction: Int) -> (begin: UInt64, end: UInt64) {
        let recorded = index.history.transactions[transaction]
        guard case .completed(let end) = recorded.outcome else { return (recorded.invoked, .max) }
        return (recorded.invoked, max(end, recorded.invoked))
    }

    /// What committed transactions did to a key, each by itself.
    func committedGroups(_ key: Int) -> [ArraySlice<HistoryIndex.Access>] {
        let accesses = index.keys[key].accesses
        var groups: [ArraySlice<HistoryIndex.Access>] = []
        var start = 0
        while start < accesses.count {
            let transaction = accesses[start].transaction
            var end = start + 1
            while end < accesses.count, accesses[end].transaction == transaction { end += 1 }
            if index.isCommitted[transaction] { groups.append(accesses[start..<end]) }
            start = end
        }
        return groups
    }

    /// Who reads the same version of a key as somebody before, and replaces it too.
    mutating func suspectLostUpdates(_ updates: [(transaction: Int, version: Int)], key: Int) {
        var first: [Int: Int] = [:]
        for (transaction, version) in updates {
            guard let other = first[version] else {
                first[version] = transaction
                continue
            }
            suspects.append(
                Suspect(
                    kind: .lostUpdate, transactions: [other, transaction],
                    text: "\(name(other)) and \(name(transaction)) read the same \(keyName(key)), and both wrote it"))
        }
    }

    private mutating func collectTimes() {
        let numbers = index.isCommitted.indices.filter { index.isCommitted[$0] }
        for (from, to) in Dependency.timePairs(numbers.map(interval)) {
            dependencies.append(
                Dependency(kind: .time, from: numbers[from], to: numbers[to], key: nil, before: nil, after: nil))
        }
    }
}
