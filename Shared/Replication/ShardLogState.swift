import Base
import Raft

/// What the log knows about a shard.
package struct ShardLogState: Hashable, Sendable {
    /// The state of an empty log.
    package init() {}

    package var hardState = HardState(term: Term(rawValue: 0), votedFor: nil)
    /// The log may lack entries that were acknowledged: it was cut, and the replica has not caught up since.
    package var isCut = false
    /// The newest entry, or the mark when there is none behind it.
    package var lastIndex = LogIndex.zero
    /// Entries up to here may be gone: the store has them.
    package var markIndex = LogIndex.zero
    package var markTerm = Term(rawValue: 0)
    /// A snapshot that was about to take the place of the store. If the store is at its index and the log is not, it
    /// has: the process died between the two.
    package var installing: SnapshotMetadata?
    /// Where logs ended that this replica has given up, at most: see `RestoredReplica.floor`. Kept for ever: 28 bytes.
    package private(set) var floor = EntryID.zero
    /// The replica is gone, and this is what its record says; nil when there is one (or never was).
    package private(set) var removal: Bytes?
    /// How often the replica went. In memory only: tells what is said of this life from what was said of an earlier
    /// one.
    private(set) var life = 0
    /// The memberships that the log knows, oldest first: the one in force at the mark (the first, if it is known), and
    /// those of entries behind it.
    package private(set) var memberships: [LoggedMembership] = []
    /// Where each term's entries begin, in order; the first may lie below the mark.
    private(set) var terms: [TermRun] = []

    /// A membership and where it came into force.
    package struct LoggedMembership: Hashable, Sendable {
        package var index: LogIndex
        package var membership: Membership
    }

    package var lastTerm: Term { terms.last?.term ?? markTerm }

    /// Where the log begins: what is up to here is in the store only.
    package var mark: EntryID { EntryID(term: markTerm, index: markIndex) }

    /// The membership in force; nil when the log has never been told one.
    package var membership: Membership? { memberships.last?.membership }

    /// The term of the entry at `index` as far as the log knows.
    package func term(at index: LogIndex) -> Term {
        if index == markIndex { return markTerm }
        return terms.last { $0.first <= index }?.term ?? markTerm
    }

    /// The membership in force at `index`, and where it came.
    package func membership(at index: LogIndex) -> LoggedMembership? {
        memberships.last { $0.index <= index }
    }

    /// Takes note of an entry: it replaces the one of the same index and what is behind that. True if there was one.
    mutating func note(_ index: LogIndex, _ term: Term) -> Bool {
        let isReplacing = index <= lastIndex
        if isReplacing {
            while let last = terms.last, last.first >= index { terms.removeLast() }
            while let last = memberships.last, last.index >= index { memberships.removeLast() }
        }
        if terms.last?.term != term { terms.append(TermRun(first: index, term: term)) }
        lastIndex = index
        return isReplacing
    }

    /// Takes note that the replica is gone. What it has promised (term and vote) and how far its log went stay: a
    /// replica that comes back is the same voter.
    mutating func note(removedAt end: EntryID, _ note: Bytes) {
        // The record may be written again, when the segments before it go.
        if removal == nil { life += 1 }
        self.note(floor: end)
        (lastIndex, markIndex, markTerm) = (.zero, .zero, Term(rawValue: 0))
        (terms, memberships, installing) = ([], [], nil)
        removal = note
    }

    mutating func note(floor end: EntryID) {
        if end.isUpToDate(with: floor) { floor = end }
    }

    /// Whether the log reaches as far as one that was given up.
    var isWhole: Bool { EntryID(term: lastTerm, index: lastIndex).isUpToDate(with: floor) }

    /// Takes note of a membership: of the entry noted last, or of where the log begins. It is the first thing that a
    /// replica writes which is here again.
    mutating func note(_ membership: Membership, at index: LogIndex) {
        removal = nil
        let later = memberships.filter { $0.index > index }
        memberships.removeAll { $0.index >= index }
        memberships.append(LoggedMembership(index: index, membership: membership))
        memberships += later
        forgetOldMemberships()
    }

    mutating func note(markAt index: LogIndex, _ term: Term) {
        guard index > markIndex else { return }
        markIndex = index
        markTerm = term
        // Keeps the newest start at or below the mark: it holds for the entries behind it.
        while terms.count > 1, terms[1].first <= index { terms.removeFirst() }
        if index > lastIndex {
            lastIndex = index
            terms = []
        }
        forgetOldMemberships()
    }

    /// The log begins anew behind (term, index): a snapshot took the place of everything before.
    mutating func note(restartAt index: LogIndex, _ term: Term) {
        lastIndex = index
        (markIndex, markTerm) = (index, term)
        terms = []
        memberships = []
        installing = nil
    }

    private mutating func forgetOldMemberships() {
        while memberships.count > 1, memberships[1].index <= markIndex { memberships.removeFirst() }
    }
}
