import Base

/// The log as the core knows it: terms as runs, and a size for each entry above the compaction point.
///
/// Invariants: entries are `base.index + 1 ... last.index` without a gap; `terms` ascends in index and term and covers
/// them all; `specials` lie among them.
struct RaftLog: Sendable {
    /// Where the log begins: this entry and what is before it is in the store only.
    private(set) var base: EntryID
    private var baseMembership: Membership
    private(set) var last: EntryID
    private var terms: [TermRun] = []
    /// `sizes[head...]` are the entries'; what is before is cut off now and then.
    private var sizes: [UInt32] = []
    private var head = 0
    private var specials: [EntryRun.Special] = []
    /// The run appended last: followers that keep up are sent it as it is, without a copy.
    private var tail = EntryRun(first: .zero)

    init(base: EntryID, membership: Membership) {
        self.base = base
        baseMembership = membership
        last = base
    }

    /// The index behind the last entry.
    var end: LogIndex { last.index.next }

    /// The term at `index`; nil where the log does not know.
    func term(at index: LogIndex) -> Term? {
        if index == last.index { return last.term }
        if index == base.index { return base.term }
        guard index > base.index, index < last.index else { return nil }
        return terms.last { $0.first <= index }?.term
    }

    func size(at index: LogIndex) -> UInt32 {
        guard index > base.index, index <= last.index else { return 0 }
        return sizes[position(index)]
    }

    private func position(_ index: LogIndex) -> Int { head + Int(index.rawValue - base.index.rawValue - 1) }

    /// Payload of the entries `range`, in bytes.
    func bytes(from first: LogIndex, through last: LogIndex) -> UInt64 {
        let low = max(first, base.index.next), high = min(last, self.last.index)
        guard low <= high else { return 0 }
        var sum: UInt64 = 0
        for position in position(low)...position(high) { sum &+= UInt64(sizes[position]) }
        return sum
    }

    // MARK: Changing

    /// Appends a run, which must begin at `end`.
    mutating func append(_ run: EntryRun) {
        guard let newLast = run.last, run.first == end else { return }
        if terms.last?.term != run.firstTerm { terms.append(TermRun(first: run.first, term: run.firstTerm)) }
        terms.append(contentsOf: run.laterTerms)
        sizes.append(contentsOf: run.sizes)
        specials.append(contentsOf: run.specials)
        last = newLast
        tail = run
    }

    /// Forgets the entries from `index` on.
    mutating func truncate(from index: LogIndex) {
        guard index > base.index, index <= last.index else { return }
        let before = index.previous
        let term = term(at: before) ?? base.term
        sizes.removeSubrange(position(index)...)
        while let run = terms.last, run.first >= index { terms.removeLast() }
        while let special = specials.last, special.index >= index { specials.removeLast() }
        last = EntryID(term: term, index: before)
        tail = EntryRun(first: end)
    }

    /// Forgets the entries up to `index`, except what the last one of them is called.
    mutating func compact(through index: LogIndex, forgettingTerm: Bool) {
        guard index > base.index, index <= last.index, let term = term(at: index) else { return }
        baseMembership = membership(at: index).membership
        head = position(index) + 1
        base = EntryID(term: forgettingTerm ? Term(rawValue: 0) : term, index: index)
        if index == last.index { last = base }
        specials.removeAll { $0.index <= index }
        if let covering = terms.lastIndex(where: { $0.first <= index.next }) { terms.removeFirst(covering) }
        if last.index == index { terms.removeAll() }
        if head > 1024, head > sizes.count / 2 {
            sizes.removeFirst(head)
            head = 0
        }
    }

    /// What the entry at the compaction point is called, if that had been forgotten.
    mutating func correctBase(_ term: Term) {
        base.term = term
        if last.index == base.index { last = base }
    }

    /// Begins anew behind a snapshot.
    mutating func reset(to snapshot: SnapshotMetadata, forgettingTerm: Bool) {
        let term = forgettingTerm ? Term(rawValue: 0) : snapshot.last.term
        self = RaftLog(
            base: EntryID(term: term, index: snapshot.last.index), membership: snapshot.membership)
    }

    // MARK: Asking

    /// The entries from `first` on, within the limits; at least one, if there is one.
    func run(from first: LogIndex, maximumEntries: Int, maximumBytes: UInt64) -> EntryRun {
        guard first > base.index, first <= last.index else { return EntryRun(first: first) }
        if tail.first == first, tail.count <= maximumEntries, tail.end == end, tail.byteCount <= maximumBytes {
            return tail
        }
        var count = 0
        var bytes: UInt64 = 0
        let start = position(first)
        while start + count < sizes.count, count < maximumEntries {
            bytes &+= UInt64(sizes[start + count])
            if count > 0, bytes > maximumBytes { break }
            count += 1
        }
        let end = LogIndex(rawValue: first.rawValue + UInt64(count))
        return EntryRun(
            first: first, firstTerm: term(at: first) ?? last.term,
            laterTerms: terms.filter { $0.first > first && $0.first < end },
            sizes: Array(sizes[start..<(start + count)]),
            specials: specials.filter { $0.index >= first && $0.index < end })
    }

    /// The last entry that exceeds neither this index nor this term: where two logs can match at best.
    func lastEntry(notBeyond other: EntryID) -> EntryID {
        var index = min(other.index, last.index)
        while index > base.index {
            guard let term = term(at: index) else { break }
            if term <= other.term { return EntryID(term: term, index: index) }
            // The whole run is too new.
            guard let run = terms.last(where: { $0.first <= index }) else { break }
            index = max(base.index, run.first.previous)
        }
        return base
    }

    /// The membership in force at `index`, and the index of its entry.
    func membership(at index: LogIndex) -> (membership: Membership, index: LogIndex) {
        for special in specials.reversed() where special.index <= index {
            if case .configuration(let membership) = special.content { return (membership, special.index) }
        }
        return (baseMembership, base.index)
    }
}

extension LogIndex {
    /// The index behind.
    var next: LogIndex { LogIndex(rawValue: rawValue &+ 1) }
    /// The index before; of zero, zero.
    var previous: LogIndex { LogIndex(rawValue: rawValue == 0 ? 0 : rawValue &- 1) }
}

extension Term {
    /// The term behind.
    var next: Term { Term(rawValue: rawValue &+ 1) }
}
