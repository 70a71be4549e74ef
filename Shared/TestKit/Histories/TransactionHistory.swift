import Base

/// One transaction of one client, as the client saw it.
package struct RecordedTransaction: Hashable, Sendable {
    /// One operation and what it answered. A key holds either a list, which is only appended to, or a register, which
    /// is only overwritten. A read whose answer the client does not know is left out.
    package enum Operation: Hashable, Sendable {
        case append(key: Int, value: Int)
        case readList(key: Int, values: [Int])
        case write(key: Int, value: Int)
        /// Nil: the key had no value yet.
        case readRegister(key: Int, value: Int?)
    }

    package var client: Int
    /// In the order of the transaction.
    package var operations: [Operation]
    package var invoked: UInt64
    /// Completed means committed, refused means aborted.
    package var outcome: RecordedOperation.Outcome

    package init(
        client: Int, operations: [Operation], invoked: UInt64, outcome: RecordedOperation.Outcome
    ) {
        self.client = client
        self.operations = operations
        self.invoked = invoked
        self.outcome = outcome
    }
}

/// What clients did to a database in transactions.
///
/// Every key begins without a value, and no two writes of a key carry the same one: then a read tells which writes it
/// has seen.
package struct TransactionHistory: Sendable {
    package var transactions: [RecordedTransaction]
    /// How people call the keys and values; what has no name is called by its number.
    package var keyNames: [String]
    package var valueNames: [String]

    package init(_ transactions: [RecordedTransaction] = [], keyNames: [String] = [], valueNames: [String] = []) {
        self.transactions = transactions
        self.keyNames = keyNames
        self.valueNames = valueNames
    }

    func name(ofKey key: Int) -> String { keyNames.indices.contains(key) ? keyNames[key] : String(key) }

    func name(ofValue value: Int) -> String { valueNames.indices.contains(value) ? valueNames[value] : String(value) }

    /// The number that people count by: that of the line in a file.
    func name(of transaction: Int) -> String { "T\(transaction + 1)" }

    /// Long lists by their end, where they differ.
    func describe(_ values: [Int]) -> String {
        let shown = values.suffix(8).map(name(ofValue:)).joined(separator: " ")
        return values.count > 8 ? "[… \(shown)], \(values.count) values" : "[\(shown)]"
    }

    /// One line that says what a transaction did and was told.
    func describe(_ index: Int) -> String {
        let transaction = transactions[index]
        let operations = transaction.operations.map { operation in
            switch operation {
            case .append(let key, let value): "append \(name(ofValue: value)) to \(name(ofKey: key))"
            case .write(let key, let value): "write \(name(ofKey: key)) = \(name(ofValue: value))"
            case .readList(let key, let values): "read \(name(ofKey: key)) as \(describe(values))"
            case .readRegister(let key, let value):
                "read \(name(ofKey: key)) as \(value.map(name(ofValue:)) ?? "nothing")"
            }
        }
        let end =
            switch transaction.outcome {
            case .completed(let time): "committed at \(time)"
            case .refused: "aborted"
            case .unknown: "outcome unknown"
            }
        let list = operations.joined(separator: "; ")
        return "\(name(of: index)) (client \(transaction.client), begun at \(transaction.invoked), \(end)): \(list)"
    }
}
