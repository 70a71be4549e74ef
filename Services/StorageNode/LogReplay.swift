import Base
import Contracts
import Feeds
import Raft
import Replication
import Storage

/// Reads committed entries again, in the order of the log, and says how far each of them is resolved.
final class LogReplay {
    private let executor: ShardExecutor
    private var collector: ChangeCollector
    private var next: LogIndex
    private var unfinished = EntryEffects.Unfinished()
    /// Up to here the log was surveyed.
    private var surveyed: LogIndex
    /// Entries that bring older parts, and the oldest timestamp of what they and those behind them bring.
    private var marks: [(index: LogIndex, oldest: Timestamp)] = []
    private var firstMark = 0
    /// How many marks say what those behind them bring.
    private var ranked = 0
    private var isSurveyed = false
    /// What holds back behind the survey: intents that were open then.
    private var horizon = Timestamp(rawValue: .max)
    /// The log does not have the entries any more.
    private(set) var isLost = false

    init(_ executor: ShardExecutor, from first: LogIndex) {
        self.executor = executor
        collector = ChangeCollector(shard: executor.shard)
        next = first
        surveyed = LogIndex(rawValue: first.rawValue &- 1)
    }

    /// Looks at about so many bytes. True when everything that is applied has been handed out.
    func step(
        bytes: Int, watermark: IntentWatermark, _ body: ([Change], Timestamp) -> Void
    ) throws(StoreError) -> Bool {
        let applied = executor.store.appliedIndex
        if surveyed < applied || !isSurveyed {
            if surveyed < applied { try survey(bytes) }
            guard surveyed == applied else { return false }
            finishSurvey(watermark)
        }
        let entries = executor.group.committedEntries(from: next, bytes: bytes)
        if entries.isEmpty, next <= surveyed {
            isLost = true
            return false
        }
        for entry in entries where entry.id.index <= surveyed {
            let notes = try entry.payload.withView { (view: ByteView) throws(StoreError) in
                entry.kind == .entry
                    ? try EntryEffects.read(view, of: executor.shard, into: &collector) : EntryEffects.Notes()
            }
            try collector.leaveOutUndone { (change) throws(StoreError) in try executor.wasThere(change) }
            next = LogIndex(rawValue: entry.id.index.rawValue &+ 1)
            while firstMark < marks.count, marks[firstMark].index <= entry.id.index { firstMark += 1 }
            unfinished.note(notes)
            guard let timestamp = notes.timestamp, unfinished.isEmpty else { continue }
            body(collector.finish(), min(timestamp, heldBack))
        }
        // One that has had half of a transaction waits for the rest here: a feed may have begun behind it.
        return next > surveyed && surveyed == executor.store.appliedIndex && unfinished.isEmpty
    }

    /// Below the oldest that is still to come.
    private var heldBack: Timestamp {
        let oldest = firstMark < marks.count ? min(marks[firstMark].oldest, horizon) : horizon
        return Timestamp(rawValue: max(oldest.rawValue, 1) - 1)
    }

    private func survey(_ bytes: Int) throws(StoreError) {
        let first = LogIndex(rawValue: surveyed.rawValue &+ 1)
        let entries = executor.group.committedEntries(from: first, bytes: bytes)
        for entry in entries where entry.id.index <= executor.store.appliedIndex {
            surveyed = entry.id.index
            guard entry.kind == .entry else { continue }
            let found = try entry.payload.withView { (view: ByteView) throws(StoreError) in
                try EntryEffects.timestamps(view)
            }
            if let found, found.oldest < found.own { marks.append((entry.id.index, found.oldest)) }
        }
        if entries.isEmpty { isLost = true }
    }

    /// The survey has reached the end: what holds back is known for every entry before it.
    private func finishSurvey(_ watermark: IntentWatermark) {
        marks.removeFirst(firstMark)
        ranked = max(ranked - firstMark, 0)
        firstMark = 0
        for place in marks.indices.reversed().dropFirst() {
            // Those that were ranked before rise.
            if place + 1 < ranked, marks[place].oldest <= marks[place + 1].oldest { break }
            marks[place].oldest = min(marks[place].oldest, marks[place + 1].oldest)
        }
        ranked = marks.count
        isSurveyed = true
        // `resolved` is one below the oldest intent.
        let resolved = watermark.resolved(Timestamp(rawValue: .max))
        horizon = resolved.rawValue == .max ? resolved : Timestamp(rawValue: resolved.rawValue + 1)
    }
}

extension ShardExecutor {
    /// The first entry of the log whose commit is above a timestamp; nil when the log begins too late to tell.
    func firstEntry(after timestamp: Timestamp) throws(StoreError) -> LogIndex? {
        let end = LogIndex(rawValue: store.appliedIndex.rawValue &+ 1)
        var low = group.firstIndex, high = end  // Entries before `low` are at or below, those from `high` on above.
        let first = low
        while low < high {
            let middle = LogIndex(rawValue: low.rawValue &+ (high.rawValue &- low.rawValue) / 2)
            // Entries of Raft's own have no time: the next one with a time speaks for them.
            guard let (index, time) = try nextTimestamp(from: middle, before: high) else {
                high = middle
                continue
            }
            if time > timestamp { high = middle } else { low = LogIndex(rawValue: index.rawValue &+ 1) }
        }
        // Whether the entries that the log has no more are all at or below, only one that it has can say.
        return low > first || first.rawValue == 1 ? low : nil
    }

    private func nextTimestamp(
        from first: LogIndex, before end: LogIndex
    ) throws(StoreError) -> (LogIndex, Timestamp)? {
        var next = first
        while next < end {
            let entries = group.committedEntries(from: next, bytes: 1)
            guard let entry = entries.first, entry.id.index < end else { return nil }
            let time = try entry.payload.withView { (view: ByteView) throws(StoreError) in
                entry.kind == .entry ? try EntryEffects.timestamp(view) : nil
            }
            if let time { return (entry.id.index, time) }
            next = LogIndex(rawValue: entry.id.index.rawValue &+ 1)
        }
        return nil
    }
}
