import Base
import DataModel

/// The number of keys per database and bucket of a shard, as pending state sees it; DBSIZE is one look.
struct KeyCounters {
    static let databases = 16

    let buckets: Range<Int>
    private var counts: [Int64]
    /// Sums over the buckets, and the entry that changed them last.
    private(set) var totals = [Int64](repeating: 0, count: databases)
    private(set) var changedIndex = [LogIndex](repeating: .zero, count: databases)
    private var isChanged: [Bool]
    private var changed: [Int] = []
    var isLoaded = false
    /// These are differences to what is stored: good for writes, not for who asks how many there are.
    private(set) var isRelative = false
    /// Nothing was added or read.
    private(set) var isPristine = true

    init(buckets: Range<Int>) {
        self.buckets = buckets
        counts = [Int64](repeating: 0, count: buckets.count * Self.databases)
        isChanged = [Bool](repeating: false, count: buckets.count * Self.databases)
    }

    /// Counters that begin with nothing, whatever the store has.
    init(differencesOf buckets: Range<Int>) {
        self.init(buckets: buckets)
        (isLoaded, isRelative) = (true, true)
    }

    /// Adds what the store has: these are no differences any more.
    mutating func add(_ stored: KeyCounters) {
        for position in counts.indices { counts[position] += stored.counts[position] }
        for database in totals.indices { totals[database] += stored.totals[database] }
        (isRelative, isPristine) = (false, false)
    }

    func count(_ bucket: Int, _ database: Int) -> Int64 {
        counts[(bucket - buckets.lowerBound) * Self.databases + database]
    }

    mutating func load(_ bucket: Int, _ database: Int, _ count: Int64) {
        counts[(bucket - buckets.lowerBound) * Self.databases + database] = count
        totals[database] += count
    }

    /// Adds `delta` keys, by the entry with `index`.
    mutating func add(_ delta: Int64, _ bucket: BucketID, _ database: UInt8, _ index: LogIndex) {
        let position = (Int(bucket.rawValue) - buckets.lowerBound) * Self.databases + Int(database)
        counts[position] += delta
        totals[Int(database)] += delta
        changedIndex[Int(database)] = index
        mark(position)
    }

    /// Empties a database.
    mutating func clear(_ database: Int, _ index: LogIndex) {
        totals[database] = 0
        changedIndex[database] = index
        for bucket in buckets {
            let position = (bucket - buckets.lowerBound) * Self.databases + database
            guard counts[position] != 0 else { continue }
            counts[position] = 0
            mark(position)
        }
    }

    private mutating func mark(_ position: Int) {
        guard !isChanged[position] else { return }
        isPristine = false
        isChanged[position] = true
        changed.append(position)
    }

    /// How the counters differ from an earlier state, after which the changes were drained.
    func changes(since before: KeyCounters) -> [KeyCountChange] {
        changed.compactMap { position in
            let delta = counts[position] - before.counts[position]
            let bucket = UInt16(truncatingIfNeeded: buckets.lowerBound + position / Self.databases)
            return delta == 0
                ? nil
                : KeyCountChange(
                    bucket: BucketID(rawValue: bucket),
                    database: UInt8(truncatingIfNeeded: position % Self.databases), delta: delta)
        }
    }

    /// Calls `body` with every counter that changed since the last time.
    mutating func drainChanges(_ body: (BucketID, UInt8, Int64) -> Void) {
        for position in changed {
            isChanged[position] = false
            let bucket = UInt16(truncatingIfNeeded: buckets.lowerBound + position / Self.databases)
            body(BucketID(rawValue: bucket), UInt8(truncatingIfNeeded: position % Self.databases), counts[position])
        }
        changed.removeAll(keepingCapacity: true)
    }
}

extension ActorRuntime {
    /// Whether there may be keys of a database in a bucket; the counters are loaded.
    func mayHaveKeys(_ bucket: Int, _ database: UInt8) -> Bool {
        !hasExactCounters || counters.count(bucket, Int(database)) > 0
    }

    /// Reads the counters when they are asked for the first time.
    func loadCounters() throws(DatabaseError) {
        guard !counters.isLoaded || counters.isRelative else { return }
        var fresh = KeyCounters(buckets: buckets)
        for bucket in buckets {
            let id = BucketID(rawValue: UInt16(truncatingIfNeeded: bucket))
            keyBuffer.removeAll()
            NativeKeyLayout.appendPrefix(id, .redisCounters, into: &keyBuffer)
            endBuffer.removeAll()
            endBuffer.append(keyBuffer.readable)
            NativeKeyLayout.makeRangeEnd(&endBuffer)
            var isDamaged = false
            try reader.scan(from: keyBuffer.readable, to: endBuffer.readable) { key, value in
                var bytes = ByteReader(value)
                guard case .counter(_, let database)? = NativeKey(parsing: key), Int(database) < KeyCounters.databases,
                    let count = bytes.littleEndian(Int64.self), count >= 0, count < 1 << 48
                else {
                    isDamaged = true
                    return false
                }
                fresh.load(bucket, Int(database), count)
                return true
            }
            guard !isDamaged else { throw Failure.damaged }
        }
        if counters.isRelative {
            counters.add(fresh)
            countersBeforePart?.add(fresh)
        } else {
            fresh.isLoaded = true
            counters = fresh
        }
    }
}
