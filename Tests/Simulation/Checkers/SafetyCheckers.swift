import Base
import Raft

// Each checker knows one promise. It is told what happens, and says what breaks the promise; it changes nothing.

/// At most one leader per term.
struct ElectionSafety {
    private var leaders: [Term: NodeID] = [:]

    /// Terms that had a leader.
    var elections: Int { leaders.count }

    /// `node` acts as leader of `term`.
    mutating func leads(_ node: NodeID, in term: Term) -> String? {
        guard let known = leaders[term] else {
            leaders[term] = node
            return nil
        }
        return known == node ? nil : "election safety: nodes \(known) and \(node) both lead term \(term)"
    }
}

/// An entry's index and term say what it is, and what comes before it.
struct LogMatching {
    private struct Known {
        var digest: UInt64
        var previous: Term
    }

    private var entries: [EntryID: Known] = [:]

    /// Somebody's log has this entry behind one of term `previous`.
    mutating func has(_ entry: EntryID, digest: UInt64, behind previous: Term) -> String? {
        guard let known = entries[entry] else {
            entries[entry] = Known(digest: digest, previous: previous)
            return nil
        }
        if known.digest != digest { return "log matching: two entries are \(entry)" }
        if known.previous != previous {
            return "log matching: \(entry) follows an entry of term \(known.previous), and one of \(previous)"
        }
        return nil
    }
}

/// A leader never changes what it has in its log while it leads.
struct LeaderAppendOnly {
    private struct Place: Hashable {
        var leadership: Term
        var index: LogIndex
    }

    private var terms: [Place: Term] = [:]

    /// The leader of `term` has `entry` in its log.
    mutating func leader(of term: Term, has entry: EntryID) -> String? {
        let place = Place(leadership: term, index: entry.index)
        guard let known = terms[place] else {
            terms[place] = entry.term
            return nil
        }
        if known == entry.term { return nil }
        return "leader append-only: the leader of term \(term) had \(known)/\(entry.index), and now \(entry)"
    }

    /// What a leader was seen to have.
    func entry(at index: LogIndex, ofLeader term: Term) -> EntryID? {
        terms[Place(leadership: term, index: index)].map { EntryID(term: $0, index: index) }
    }
}

/// What is committed is in the log of every later leader.
struct LeaderCompleteness {
    /// Entries by index whose term was seen, and the highest term in which they were known to be committed first.
    private var committed: [LogIndex: (term: Term, by: Term)] = [:]

    /// The leader of `term` says that `entry` is committed.
    mutating func isCommitted(_ entry: EntryID, in term: Term) -> String? {
        guard let known = committed[entry.index] else {
            committed[entry.index] = (entry.term, term)
            return nil
        }
        if known.term != entry.term {
            return "leader completeness: \(known.term)/\(entry.index) and \(entry) were both committed"
        }
        if term < known.by { committed[entry.index] = (entry.term, term) }
        return nil
    }

    /// The leader of `term` has `entry` in its log.
    func leader(of term: Term, has entry: EntryID) -> String? {
        guard let known = committed[entry.index], known.by < term, known.term != entry.term else { return nil }
        return "leader completeness: \(known.term)/\(entry.index) was committed by term \(known.by), "
            + "and the leader of term \(term) has \(entry)"
    }
}

/// Every replica applies the same entry at an index, in order and without a gap.
struct StateMachineSafety {
    private(set) var digests: [UInt64] = []
    private var applied: [Int: LogIndex] = [:]

    /// Entries that somebody has applied.
    var count: Int { digests.count }

    /// A replica begins a life, or was given a snapshot, at `index`.
    mutating func begins(_ node: Int, at index: LogIndex) -> String? {
        applied[node] = index
        guard index.rawValue > UInt64(digests.count) else { return nil }
        return "state machine safety: node \(node) is at \(index), and only \(digests.count) entries were applied"
    }

    /// Returns whether the entry is new to everybody.
    mutating func applies(_ node: Int, _ index: LogIndex, digest: UInt64) -> (isNew: Bool, violation: String?) {
        let last = applied[node] ?? .zero
        guard index.rawValue == last.rawValue + 1 else {
            return (false, "state machine safety: node \(node) applies \(index) after \(last)")
        }
        applied[node] = index
        let position = Int(index.rawValue) - 1
        if position == digests.count {
            digests.append(digest)
            return (true, nil)
        }
        guard position < digests.count else {
            return (false, "state machine safety: node \(node) applies \(index); nobody has applied the one before")
        }
        if digests[position] == digest { return (false, nil) }
        return (false, "state machine safety: node \(node) applies another entry \(index) than the others")
    }
}

/// What was acknowledged is committed, once.
struct AcknowledgedWrites {
    private var committed: Set<UInt64> = []
    private var acknowledged: Set<UInt64> = []

    var count: Int { acknowledged.count }

    /// The entry of an operation was applied for the first time. `isOnce`: a second one of it changes nothing.
    mutating func commits(_ operation: UInt64, isOnce: Bool) -> String? {
        if committed.insert(operation).inserted || isOnce { return nil }
        return "operation \(operation) was executed twice"
    }

    /// A client was told that its write is done.
    mutating func acknowledges(_ operation: UInt64) -> String? {
        acknowledged.insert(operation)
        return committed.contains(operation) ? nil : "operation \(operation) was acknowledged and is not committed"
    }
}

/// An actor is active once: what its activations write and answer is fenced by term.
struct SingleActivation {
    private struct Actor {
        var version: UInt32 = 0
        var term: UInt64 = 0
        var node: UInt32 = 0
        /// The newest term whose activation has answered anything.
        var answered: UInt64 = 0
    }

    private var actors: [Int: Actor] = [:]

    /// The next committed entry of an actor was made by the activation of `term` on `node`, from version `base`.
    mutating func writes(_ key: Int, base: UInt32, term: UInt64, node: UInt32) -> String? {
        var actor = actors[key] ?? Actor()
        defer { actors[key] = actor }
        guard base == actor.version else {
            return "single activation: actor \(key) was written from version \(base), and is at \(actor.version)"
        }
        actor.version += 1
        if term < actor.term { return "single activation: term \(term) writes actor \(key) after term \(actor.term)" }
        if term == actor.term, node != actor.node {
            return "single activation: nodes \(actor.node) and \(node) both hold actor \(key) in term \(term)"
        }
        (actor.term, actor.node) = (term, node)
        return nil
    }

    /// The activation of `term` answers. Under a lease nobody later may have answered before.
    mutating func answers(_ key: Int, term: UInt64, isUnderLease: Bool) -> String? {
        var actor = actors[key] ?? Actor()
        defer { actors[key] = actor }
        if isUnderLease, term < actor.answered {
            return "single activation: actor \(key) answers under the lease of term \(term) "
                + "after term \(actor.answered) has answered"
        }
        actor.answered = max(actor.answered, term)
        return nil
    }
}
