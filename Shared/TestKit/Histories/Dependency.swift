/// One transaction came before another, and why.
struct Dependency {
    enum Kind: UInt8 {
        /// A write that the next one replaced.
        case writeWrite
        /// A write that was read.
        case writeRead
        /// A read of what was then replaced.
        case readWrite
        /// One had ended before the other began.
        case time
    }

    var kind: Kind
    var from: Int
    var to: Int
    /// Of the index; none for time.
    var key: Int?
    /// The write that `from` made or read; nil for a read of the key's beginning.
    var before: Int?
    /// The write that `to` made or read.
    var after: Int?
    /// Who shows which of the two values came first, if only real time tells: one that saw or made the first had ended
    /// before one began that saw or made the second.
    var witnesses: [Int] = []

    /// It counts where real time does.
    var isByTime: Bool { !witnesses.isEmpty }

    /// The strongest evidence is least.
    var rank: UInt8 { isByTime ? Kind.time.rawValue : kind.rawValue }

    func explain(_ index: HistoryIndex) -> String {
        let history = index.history
        let (first, second) = (history.name(of: from), history.name(of: to))
        let name = key.map { history.name(ofKey: index.keys[$0].name) } ?? ""
        func value(_ write: Int?) -> String { write.map { history.name(ofValue: index.writes[$0].value) } ?? "nothing" }
        let reason =
            switch kind {
            case .writeWrite: "\(second)'s \(value(after)) replaced \(first)'s \(value(before)) in \(name) (ww)"
            case .writeRead: "\(second) read \(first)'s \(value(before)) in \(name) (wr)"
            case .readWrite:
                "\(first) read \(name) with \(value(before)), and \(second)'s \(value(after)) came after that (rw)"
            case .time: "\(first) had ended before \(second) began"
            }
        guard let earlier = witnesses.first, let later = witnesses.last else {
            return "\(first) → \(second): \(reason)"
        }
        let witness = "\(history.name(of: earlier)) had ended before \(history.name(of: later)) began"
        return "\(first) → \(second): \(reason), as real time shows: \(witness)"
    }

    /// The pairs of intervals of which one ends before the other begins, without those that follow from others: as
    /// many for each as there are others at the same time. Touching intervals overlap, which forbids less.
    static func timePairs(_ intervals: [(begin: UInt64, end: UInt64)]) -> [(Int, Int)] {
        struct Event {
            var time: UInt64
            var isEnd: Bool
            var interval: Int
        }
        var events: [Event] = []
        events.reserveCapacity(intervals.count * 2)
        for (number, interval) in intervals.enumerated() {
            events.append(Event(time: interval.begin, isEnd: false, interval: number))
            if interval.end < .max { events.append(Event(time: interval.end, isEnd: true, interval: number)) }
        }
        events.sort { left, right in
            if left.time != right.time { return left.time < right.time }
            if left.isEnd != right.isEnd { return right.isEnd }
            return left.interval < right.interval
        }
        var pairs: [(Int, Int)] = []
        // The newest that have ended: whatever ended before one of these began, it comes before that one anyway.
        var ended: [Int] = []
        for event in events {
            guard event.isEnd else {
                for other in ended { pairs.append((other, event.interval)) }
                continue
            }
            let begin = intervals[event.interval].begin
            ended.removeAll { intervals[$0].end < begin }
            ended.append(event.interval)
        }
        return pairs
    }
}
