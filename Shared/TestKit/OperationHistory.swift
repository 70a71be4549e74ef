import Base

/// One operation of one client on one key, as the client saw it. A key holds a list of numbers; a register is a list
/// of at most one.
package struct RecordedOperation: Hashable, Sendable {
    /// What was asked, and what was answered.
    package enum Action: Hashable, Sendable {
        /// Replaces the list by one number.
        case write(Int)
        /// Adds one at the end.
        case append(Int)
        /// Has returned this list.
        case read([Int])
    }

    /// How it ended.
    package enum Outcome: Hashable, Sendable {
        /// Done, and answered at this time.
        case completed(UInt64)
        /// Refused: it has not happened and never will.
        case refused
        /// Nobody knows: it may have happened, may happen later, or never.
        case unknown
    }

    package var client: Int
    package var action: Action
    package var invoked: UInt64
    package var outcome: Outcome

    package init(client: Int, action: Action, invoked: UInt64, outcome: Outcome) {
        self.client = client
        self.action = action
        self.invoked = invoked
        self.outcome = outcome
    }
}

/// What clients did to the keys of a cluster.
///
/// Every number written must be unlike every other: then a read tells which writes it has seen, and a write that
/// nobody knows the end of costs the checker nothing (see `LinearizabilityChecker`).
package struct OperationHistory: Sendable {
    /// The operations of each key in the order of their beginnings.
    package private(set) var keys: [[RecordedOperation]]

    package init(keyCount: Int) { keys = Array(repeating: [], count: keyCount) }

    package var count: Int { keys.reduce(0) { $0 + $1.count } }

    /// Notes the beginning of an operation; its end is unknown until `end` says otherwise. Returns its number at the
    /// key. What a read returns is not known yet: any list will do.
    package mutating func begin(
        _ action: RecordedOperation.Action, key: Int, client: Int, at time: UInt64
    ) -> Int {
        keys[key].append(RecordedOperation(client: client, action: action, invoked: time, outcome: .unknown))
        return keys[key].count - 1
    }

    /// Notes the end of an operation, and of a read what it returned.
    package mutating func end(
        _ operation: Int, key: Int, _ outcome: RecordedOperation.Outcome, returned: [Int]? = nil
    ) {
        keys[key][operation].outcome = outcome
        if let returned { keys[key][operation].action = .read(returned) }
    }
}
