import Base
import DataModel

/// One attempt of a transaction: random, not 0. A transaction that is tried again gets a new one.
package struct TransactionID: Identifier {
    package let rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// A transaction's part at one shard, named by a slot of that shard.
package struct PartID: Hashable, Comparable, Sendable {
    package let transaction: TransactionID
    package let slot: Slot

    package init(_ transaction: TransactionID, _ slot: Slot) { (self.transaction, self.slot) = (transaction, slot) }

    package static func < (left: PartID, right: PartID) -> Bool {
        left.transaction == right.transaction ? left.slot < right.slot : left.transaction < right.transaction
    }
}

/// How old a transaction is; the lower rank is the older. An attempt keeps the priority of the one before.
package struct Rank: Hashable, Comparable, Sendable {
    package let priority: UInt64
    package let transaction: TransactionID

    package init(priority: UInt64, _ transaction: TransactionID) {
        (self.priority, self.transaction) = (priority, transaction)
    }

    package static func < (left: Rank, right: Rank) -> Bool {
        left.priority == right.priority ? left.transaction < right.transaction : left.priority < right.priority
    }
}

/// What a participant has to know of its part before it evaluates it.
package struct Part: Hashable, Sendable {
    package let id: PartID
    package let priority: UInt64
    /// A slot of every shard that has a part; the first one's shard is the anchor.
    package let participants: [Slot]
    /// No part of the transaction writes: locks are enough, and they are held in memory.
    package let isReadOnly: Bool
    /// All keys that its watches and calls declare.
    package let scope: LockScope

    package init(id: PartID, priority: UInt64, participants: [Slot], isReadOnly: Bool, scope: LockScope) {
        (self.id, self.priority, self.participants) = (id, priority, participants)
        (self.isReadOnly, self.scope) = (isReadOnly, scope)
    }

    /// More shards than any cluster has today.
    package static let participantLimit = 1024

    var rank: Rank { Rank(priority: priority, id.transaction) }

    /// Nothing can be done with another one; it comes from a mistake of the sender.
    var isWellFormed: Bool {
        id.transaction.rawValue != 0 && participants.count <= Self.participantLimit && participants.contains(id.slot)
            && Set(participants).count == participants.count
    }
}

/// Why a part was not done. None of them leaves an intent or a lock behind.
package enum PartRefusal: UInt8, CaseIterable, Hashable, Sendable {
    /// An older transaction has one of the keys, or waits for it: try again with a new id and the old priority.
    case conflict = 1
    /// What becomes of the transaction is decided here already, by a fence or because the part comes again.
    case over = 2
    /// The part is here already: this is a second copy of it. The first one may well be done.
    case repeated = 3
    /// A bound is reached, or the locks did not get free in time.
    case busy = 4
    /// A participant list that cannot be one.
    case malformed = 5
    /// The scope is not here: a change of leader has lost it, or it was rolled back.
    case aborted = 6
    /// It was in a circle of transactions that wait for each other, and the youngest.
    case deadlock = 7
    /// A key is locked, and the statement must not wait.
    case lockNotAvailable = 8
    /// The locks did not get free in the time that the statement has.
    case lockTimeout = 9
    /// Somebody else has changed what the transaction has read or wants to change.
    case serializationFailure = 10
    /// The transaction has done more than may be kept of it.
    case tooLarge = 11
    /// Nothing was heard of it for too long.
    case idleTimeout = 12
    /// A later statement of the transaction has come before this one.
    case disordered = 13

    /// What a client of the shard is told.
    package var error: DatabaseError {
        switch self {
        case .conflict: DatabaseError(.transactionConflict, "Another transaction has a lock; try again")
        case .over: DatabaseError(.transactionConflict, "The transaction is over at this shard; try again")
        case .repeated: DatabaseError(.alreadyExecuted, "The transaction has this part already")
        case .busy: DatabaseError(.busy, "Too many calls wait for locks, or for too long; try again")
        case .malformed: DatabaseError(.invalidArgument, "The transaction's participants are not well-formed")
        case .aborted: DatabaseError(.transactionAborted, "The transaction is lost: a shard does not have it any more")
        case .deadlock: DatabaseError(.deadlock, "The transaction was in a deadlock, and was rolled back")
        case .lockNotAvailable: DatabaseError(.lockNotAvailable, "Another transaction has a lock")
        case .lockTimeout: DatabaseError(.lockTimeout, "Another transaction has had a lock for too long")
        case .serializationFailure:
            DatabaseError(.serializationFailure, "Another transaction has changed what this one uses; try again")
        case .tooLarge: DatabaseError(.transactionTooLarge, "The transaction has done too much")
        case .idleTimeout: DatabaseError(.idleTimeout, "The transaction was idle for too long, and was rolled back")
        case .disordered: DatabaseError(.transactionConflict, "A later statement of the transaction has come first")
        }
    }
}

/// What evaluating a part has made: physical effects as they go into an entry, and changes of counters.
package struct PartEffects: Hashable, Sendable {
    package var payload: Bytes
    package var counters: [KeyCountChange]

    package init(payload: Bytes = [], counters: [KeyCountChange] = []) {
        (self.payload, self.counters) = (payload, counters)
    }
}
