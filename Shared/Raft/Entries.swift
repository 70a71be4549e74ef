import Base

/// The name of an entry. Two logs that hold an entry of the same id are equal up to it.
package struct EntryID: Hashable, Sendable, CustomStringConvertible {
    package var term: Term
    package var index: LogIndex

    package init(term: Term, index: LogIndex) {
        self.term = term
        self.index = index
    }

    /// The place before the first entry.
    package static let zero = EntryID(term: Term(rawValue: 0), index: .zero)

    package var description: String { "\(term)/\(index)" }

    /// Whether a log that ends here has everything that one ending at `other` can have committed.
    package func isUpToDate(with other: EntryID) -> Bool { (term, index) >= (other.term, other.index) }
}

/// What an entry is to the core. Only the membership is visible to it; every other payload stays with the driver.
package enum EntryContent: Hashable, Sendable {
    /// The driver's payload.
    case normal
    /// What a leader writes first; it has no payload.
    case empty
    /// A change of membership; the payload is `Membership.encoded()`.
    case configuration(Membership)
}

/// From `first` on, entries have this term, until the next run.
package struct TermRun: Hashable, Sendable {
    package var first: LogIndex
    package var term: Term

    package init(first: LogIndex, term: Term) {
        self.first = first
        self.term = term
    }
}

/// Consecutive entries, by what the core knows of them: index, term, size and kind, not their payload.
///
/// Made for the common case: entries of one term, all normal, cost one array, and a run that goes to several followers
/// shares it.
package struct EntryRun: Hashable, Sendable {
    /// An entry that is not normal.
    package struct Special: Hashable, Sendable {
        package var index: LogIndex
        package var content: EntryContent

        package init(index: LogIndex, content: EntryContent) {
            self.index = index
            self.content = content
        }
    }

    /// The index of the first entry, or where it would be.
    package private(set) var first: LogIndex
    /// The term of the first entry; meaningless when there is none.
    package private(set) var firstTerm: Term
    /// Where the term changes behind the first entry, ascending.
    package private(set) var laterTerms: [TermRun] = []
    /// Bytes of payload, entry by entry.
    package private(set) var sizes: [UInt32]
    /// The entries that are not normal, ascending.
    package private(set) var specials: [Special] = []

    /// No entries, yet: they will begin at `first`.
    package init(first: LogIndex) {
        self.first = first
        firstTerm = Term(rawValue: 0)
        sizes = []
    }

    /// Normal entries of one term. `sizes` is shared, not copied.
    package init(first: LogIndex, term: Term, sizes: [UInt32]) {
        self.first = first
        firstTerm = term
        self.sizes = sizes
    }

    /// A part of a log.
    init(first: LogIndex, firstTerm: Term, laterTerms: [TermRun], sizes: [UInt32], specials: [Special]) {
        self.first = first
        self.firstTerm = firstTerm
        self.laterTerms = laterTerms
        self.sizes = sizes
        self.specials = specials
    }

    package var isEmpty: Bool { sizes.isEmpty }
    package var count: Int { sizes.count }
    /// The index behind the last entry.
    package var end: LogIndex { LogIndex(rawValue: first.rawValue &+ UInt64(sizes.count)) }
    /// The indexes, for whoever supplies the payloads.
    package var indexes: Range<UInt64> { first.rawValue..<max(first.rawValue, end.rawValue) }
    /// The newest entry; nil when there is none.
    package var last: EntryID? {
        guard !isEmpty else { return nil }
        return EntryID(term: laterTerms.last?.term ?? firstTerm, index: LogIndex(rawValue: end.rawValue &- 1))
    }
    /// Bytes of payload together.
    package var byteCount: UInt64 { sizes.reduce(0) { $0 &+ UInt64($1) } }

    /// The term of the entry at `index`, which must lie in the run.
    package func term(at index: LogIndex) -> Term {
        laterTerms.last { $0.first <= index }?.term ?? firstTerm
    }

    /// What the entry at `index` is.
    package func content(at index: LogIndex) -> EntryContent {
        specials.first { $0.index == index }?.content ?? .normal
    }

    /// The size of the entry at `index`, which must lie in the run.
    package func size(at index: LogIndex) -> UInt32 {
        indexes.contains(index.rawValue) ? sizes[Int(index.rawValue &- first.rawValue)] : 0
    }

    /// Adds one entry at the end.
    package mutating func append(term: Term, size: UInt32, content: EntryContent = .normal) {
        if isEmpty {
            firstTerm = term
        } else if last?.term != term {
            laterTerms.append(TermRun(first: end, term: term))
        }
        if content != .normal { specials.append(Special(index: end, content: content)) }
        sizes.append(size)
    }

    /// The entries from `index` on.
    package func suffix(from index: LogIndex) -> EntryRun {
        guard index > first else { return self }
        var rest = EntryRun(first: min(index, end))
        guard index < end else { return rest }
        rest.firstTerm = term(at: index)
        rest.laterTerms = laterTerms.filter { $0.first > index }
        rest.sizes = Array(sizes[Int(index.rawValue &- first.rawValue)...])
        rest.specials = specials.filter { $0.index >= index }
        return rest
    }

    /// The entries before `index`.
    package func prefix(upTo index: LogIndex) -> EntryRun {
        guard index < end else { return self }
        var start = EntryRun(first: first)
        guard index > first else { return start }
        start.firstTerm = firstTerm
        start.laterTerms = laterTerms.filter { $0.first < index }
        start.sizes = Array(sizes[..<Int(index.rawValue &- first.rawValue)])
        start.specials = specials.filter { $0.index < index }
        return start
    }

    /// Whether what a peer sent is a run at all: terms ascend inside it and exceptions lie in it. What does not is
    /// dropped by the core.
    package var isWellFormed: Bool {
        guard first > .zero, UInt64.max &- first.rawValue > UInt64(sizes.count) else { return false }
        var term = firstTerm
        var index = first
        for run in laterTerms {
            guard run.first > index, run.first < end, run.term > term else { return false }
            (index, term) = (run.first, run.term)
        }
        var previous = LogIndex.zero
        for special in specials {
            guard special.index > previous, indexes.contains(special.index.rawValue) else { return false }
            previous = special.index
        }
        return true
    }
}
