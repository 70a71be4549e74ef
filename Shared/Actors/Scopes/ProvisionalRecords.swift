import Base
import DataModel

/// What an open transaction has changed at a shard, in front of the records that it reads: a list of effects for each
/// of its statements, and what they come to.
///
/// The lists are there to be taken back, the newest first (`rollBack`). What they come to is a table by key, and an
/// order of its keys that is only made when somebody scans.
final class ProvisionalRecords: RecordReader, EffectSink {
    private struct Statement {
        let number: UInt32
        var effects: [DeferredEffect] = []
        var counters: [KeyCountChange] = []
        var bytes = 64, writtenBytes = 64
    }

    /// What lies behind.
    var base: any RecordReader
    /// Those that have changed something, in their order.
    private var statements: [Statement] = []
    /// Nil: removed.
    private var values = ByteMap<Bytes?>()
    /// The keys of `values`, in order; and those that came since they were put in order.
    private var order: [Bytes] = []
    private var added: [Bytes] = []
    /// What lies behind is hidden there.
    private var ranges: [(from: Bytes, to: Bytes)] = []
    /// Memory that all of it takes, about, with what was overwritten.
    private(set) var bytes = 0
    /// What all of it takes in a log entry, at most.
    private(set) var writtenBytes = 0

    init(_ base: any RecordReader) { self.base = base }

    var isEmpty: Bool { statements.isEmpty }

    func removeAll() {
        statements = []
        (bytes, writtenBytes) = (0, 0)
        forget()
    }

    private func forget() {
        values.removeAll()
        (order, added, ranges) = ([], [], [])
    }

    // MARK: Writing

    /// The effects that come now are those of the statement `number`, until `end`.
    func begin(_ number: UInt32) { statements.append(Statement(number: number)) }

    /// The statement is whole, and changes counters so. One that has changed nothing leaves nothing.
    func end(_ counters: [KeyCountChange]) {
        let last = statements.count - 1
        guard last >= 0 else { return }
        if statements[last].effects.isEmpty, counters.isEmpty {
            statements.removeLast()
            return
        }
        statements[last].counters = counters
        statements[last].bytes += counters.count * MemoryLayout<KeyCountChange>.stride
        statements[last].writtenBytes += counters.count * Self.writtenCounter
        bytes += statements[last].bytes
        writtenBytes += statements[last].writtenBytes
    }

    func put(key: ByteView, value: ByteView) { take(.put(key.bytes, value.bytes), key.count + value.count) }

    func delete(key: ByteView) { take(.delete(key.bytes), key.count) }

    func deleteRange(from: ByteView, to: ByteView) {
        take(.deleteRange(from.bytes, to.bytes), from.count + to.count)
    }

    func note(_ events: ByteView) { take(.note(events.bytes), events.count) }

    /// Two arrays, and their place in the table.
    private static let overhead = 160
    /// A kind and two lengths; a counter as the store keeps it.
    private static let writtenOverhead = 12, writtenCounter = 64

    private func take(_ effect: DeferredEffect, _ size: Int) {
        let last = statements.count - 1
        guard last >= 0 else { return }
        statements[last].effects.append(effect)
        statements[last].bytes += size + Self.overhead
        statements[last].writtenBytes += size + Self.writtenOverhead
        show(effect)
    }

    private func show(_ effect: DeferredEffect) {
        switch effect {
        case .put(let key, let value): set(key, value)
        case .delete(let key): set(key, nil)
        case .note: break
        case .deleteRange(let from, let to), .collectRange(let from, let to):
            sort()
            for position in firstPosition(from)..<max(firstPosition(from), firstPosition(to)) {
                values.updateValue(nil, for: order[position])
            }
            ranges.append((from, to))
        }
    }

    private func set(_ key: Bytes, _ value: Bytes?) {
        let count = values.count
        values.updateValue(value, for: key)
        if values.count > count { added.append(key) }
    }

    /// Takes back all statements above `number`. False: there was nothing to take back.
    func rollBack(to number: UInt32) -> Bool {
        guard let last = statements.last, last.number > number else { return false }
        while let last = statements.last, last.number > number {
            bytes -= last.bytes
            writtenBytes -= last.writtenBytes
            statements.removeLast()
        }
        forget()
        for statement in statements { for effect in statement.effects { show(effect) } }
        return true
    }

    // MARK: What it comes to

    /// How all statements together change the counters.
    var counterChanges: [KeyCountChange] {
        struct Place: Hashable {
            let bucket: BucketID, database: UInt8
        }
        var sums: [Place: Int64] = [:]
        for change in statements.lazy.flatMap(\.counters) {
            sums[Place(bucket: change.bucket, database: change.database), default: 0] += change.delta
        }
        return sums.filter { $0.value != 0 }
            .sorted { ($0.key.bucket.rawValue, $0.key.database) < ($1.key.bucket.rawValue, $1.key.database) }
            .map { KeyCountChange(bucket: $0.key.bucket, database: $0.key.database, delta: $0.value) }
    }

    /// How far what all statements come to is written. Nothing may change meanwhile.
    struct Progress {
        fileprivate var hasRanges = false
        fileprivate var key = 0
        fileprivate var statement = 0, effect = 0
    }

    /// Writes what all statements come to: the last word about every key.
    func write(_ sink: some EffectSink) {
        var progress = Progress()
        sort()
        write(sink, &progress) { _ in true }
    }

    /// Writes it from `progress` on as long as there is room for the next effect, of so many bytes. True: that was all.
    @discardableResult
    func write(_ sink: some EffectSink, _ progress: inout Progress, hasRoom: (Int) -> Bool) -> Bool {
        if !progress.hasRanges {
            for (from, to) in ranges {
                from.withUnsafeBytes { from in to.withUnsafeBytes { sink.deleteRange(from: from, to: $0) } }
            }
            progress.hasRanges = true
        }
        while progress.key < order.count + added.count {
            let key = progress.key < order.count ? order[progress.key] : added[progress.key - order.count]
            let value = key.withUnsafeBytes { values.value(for: $0) ?? nil }
            guard hasRoom(key.count + (value?.count ?? 0)) else { return false }
            progress.key += 1
            key.withUnsafeBytes { key in
                if let value { value.withUnsafeBytes { sink.put(key: key, value: $0) } } else { sink.delete(key: key) }
            }
        }
        return writeEvents(sink, &progress, hasRoom)
    }

    private func writeEvents(_ sink: some EffectSink, _ progress: inout Progress, _ hasRoom: (Int) -> Bool) -> Bool {
        while progress.statement < statements.count {
            while progress.effect < statements[progress.statement].effects.count {
                if case .note(let events) = statements[progress.statement].effects[progress.effect] {
                    guard hasRoom(events.count) else { return false }
                    events.withUnsafeBytes { sink.note($0) }
                }
                progress.effect += 1
            }
            (progress.statement, progress.effect) = (progress.statement + 1, 0)
        }
        return true
    }

    // MARK: Reading

    func get(_ key: ByteView) throws(DatabaseError) -> Bytes? {
        if let slot = values.index(of: key) { return values.value(at: slot) }
        return isHidden(key) ? nil : try base.get(key)
    }

    func scan(from: ByteView, to: ByteView, _ body: (ByteView, ByteView) -> Bool) throws(DatabaseError) {
        guard !isEmpty else { return try base.scan(from: from, to: to, body) }
        sort()
        var next = firstPosition(from.bytes)
        let end = max(next, firstPosition(to.bytes))
        var isOver = false
        func showNext() {
            order[next].withUnsafeBytes { key in
                guard let value = values.value(for: key) ?? nil else { return }
                value.withUnsafeBytes { isOver = !body(key, $0) }
            }
            next += 1
        }
        try base.scan(from: from, to: to) { key, value in
            while next < end, !isOver, compare(order[next], key) < 0 { showNext() }
            guard !isOver else { return false }
            if next < end, compare(order[next], key) == 0 {
                showNext()
            } else if !isHidden(key) {
                isOver = !body(key, value)
            }
            return !isOver
        }
        while next < end, !isOver { showNext() }
    }

    /// As of what lies below: what is written here comes between.
    func key(_ count: Int, before to: ByteView, from: ByteView) throws(DatabaseError) -> Bytes? {
        try base.key(count, before: to, from: from)
    }

    private func isHidden(_ key: ByteView) -> Bool {
        ranges.contains { compare($0.from, key) <= 0 && compare($0.to, key) > 0 }
    }

    // MARK: Order

    private func compare(_ key: Bytes, _ other: ByteView) -> Int { key.withUnsafeBytes { compareKeys($0, other) } }

    /// Few keys find their places one by one, many are sorted and merged.
    private func sort() {
        guard !added.isEmpty else { return }
        if added.count < 16 {
            for key in added { order.insert(key, at: firstPosition(key)) }
        } else {
            added.sort(by: precedes)
            var merged: [Bytes] = []
            merged.reserveCapacity(order.count + added.count)
            var position = 0
            for key in added {
                while position < order.count, precedes(order[position], key) {
                    merged.append(order[position])
                    position += 1
                }
                merged.append(key)
            }
            merged.append(contentsOf: order[position...])
            order = merged
        }
        added = []
    }

    private func precedes(_ left: Bytes, _ right: Bytes) -> Bool { right.withUnsafeBytes { compare(left, $0) < 0 } }

    private func firstPosition(_ key: Bytes) -> Int {
        var low = 0, high = order.count
        while low < high {
            let middle = (low + high) / 2
            if precedes(order[middle], key) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
