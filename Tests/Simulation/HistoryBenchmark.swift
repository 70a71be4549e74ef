import Base
import Glibc
import Storage

// Measures what docs/decisions/0010-versions.md decides: what it costs to keep the versions that are superseded.
//
// Keys have the native layout (24 bytes), values 100 bytes. Nanoseconds of processor time a record: of this thread, or
// for flushes of the process, RocksDB's threads among it.

private struct HistoryBench {
    let keys: Int
    let value = Bytes(repeating: 0x61, count: 100)
    var index: UInt64 = 0
    /// Whether entries have timestamps: without them nothing is a version.
    var isStamped = true

    func key(_ number: Int, into buffer: inout ByteBuffer) {
        var mixed = SplitMix64(seed: UInt64(number))
        let hash = UInt32(truncatingIfNeeded: mixed.next())
        buffer.removeAll()
        buffer.append(bigEndian: UInt16(truncatingIfNeeded: hash & 63))
        buffer.append(bigEndian: UInt32(1))
        buffer.append(0)
        buffer.append(0)
        buffer.append(bigEndian: hash)
        buffer.append("key:" as StaticString)
        buffer.append(bigEndian: UInt64(number))
    }

    /// One entry that puts `count` keys.
    mutating func write(_ shard: ShardStore, count: Int, _ number: () -> Int) throws {
        var key = ByteBuffer(capacity: 64)
        var batch = WriteBatch(capacity: 16 << 10)
        index += 1
        if isStamped { batch.stamp(Timestamp(rawValue: index)) }
        for _ in 0..<count {
            self.key(number(), into: &key)
            value.withUnsafeBytes { batch.put(key.readable, $0) }
        }
        try shard.apply(batch.effects, index: LogIndex(rawValue: index))
    }

    /// Puts every key once, a hundred an entry.
    mutating func writeAll(_ shard: ShardStore) throws {
        var next = 0
        for _ in 0..<keys / 100 {
            try write(shard, count: 100) {
                next += 1
                return next - 1
            }
        }
    }

    mutating func perRecord(_ count: Int, _ body: (inout HistoryBench) throws -> Void) rethrows -> UInt64 {
        let start = processorTime()
        try body(&self)
        return (processorTime() - start) / UInt64(max(count, 1))
    }
}

private func measureOverlay(keys: Int, isStamped: Bool) throws -> String {
    var bench = HistoryBench(keys: keys)
    bench.isStamped = isStamped
    let counted = try ShardStore(shard: ShardID(rawValue: 1), store: MemoryStore())
    let counter = try bench.perRecord(keys) { bench in
        for _ in 0..<keys { try bench.write(counted, count: 1) { 1 } }
    }
    bench.index = 0
    let shard = try ShardStore(shard: ShardID(rawValue: 1), store: MemoryStore())
    let first = try bench.perRecord(keys) { try $0.writeAll(shard) }
    let again = try bench.perRecord(keys) { try $0.writeAll(shard) }
    return "hot counter \(counter), first write \(first), overwrite \(again), memory \(shard.overlayBytes >> 20) MiB"
}

/// Flushes `rounds` versions of every key over those in the store; nanoseconds of the process for a key.
private func flush(_ bench: inout HistoryBench, _ shard: ShardStore, _ store: RocksDBStore, rounds: Int, budget: Int)
    throws -> UInt64
{
    for _ in 0..<rounds { try bench.writeAll(shard) }
    let start = processorTime(CLOCK_PROCESS_CPUTIME_ID)
    guard let job = shard.beginFlush(historyBudget: budget) else { return 0 }
    try job.write()
    try store.flush()
    shard.finishFlush(job)
    return (processorTime(CLOCK_PROCESS_CPUTIME_ID) - start) / UInt64(bench.keys)
}

private func reads(_ bench: HistoryBench, _ shard: ShardStore, asOf time: Timestamp?) throws -> (UInt64, UInt64) {
    var random = SplitMix64(seed: 9), key = ByteBuffer(capacity: 64), found = 0
    let count = bench.keys / 4
    let begin = processorTime()
    for _ in 0..<count {
        bench.key(Int(random.next(below: UInt64(bench.keys))), into: &key)
        if let time {
            try shard.withValue(key.readable, asOf: time) { value, _ in found += value == nil ? 0 : 1 }
        } else {
            try shard.withValue(key.readable) { found += $0 == nil ? 0 : 1 }
        }
    }
    precondition(found == count, "a key is missing")
    let point = (processorTime() - begin) / UInt64(count)
    var seen = 0
    let start = processorTime()
    let nothing = ByteView(start: nil, count: 0)
    let see: (ByteView, ByteView) -> Bool = { _, _ in
        seen += 1
        return true
    }
    if let time {
        try shard.scan(from: nothing, to: nothing, asOf: time, see)
    } else {
        try shard.scan(from: nothing, to: nothing, see)
    }
    return (point, (processorTime() - start) / UInt64(max(seen, 1)))
}

/// `orbit-simulate bench history`.
func historyBenchmark(keys: Int) throws {
    for round in 1...3 {
        for isStamped in [false, true] {
            let line = try measureOverlay(keys: keys, isStamped: isStamped)
            writeOut("overlay round \(round) \(isStamped ? "versions" : "none"): \(line)\n")
        }
    }
    for round in 1...3 {
        for versions in [1, 4] {
            for budget in [0, Int.max] {
                try withBenchStore { store in
                    var bench = HistoryBench(keys: keys)
                    let shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
                    shard.buckets = 0..<64
                    let fresh = try flush(&bench, shard, store, rounds: 1, budget: budget)
                    let past = shard.newestTimestamp
                    let over = try flush(&bench, shard, store, rounds: versions, budget: budget)
                    let newest = try reads(bench, shard, asOf: nil)
                    var line = "flush round \(round) versions \(versions) \(budget == 0 ? "dropped" : "kept"): "
                    line += "new keys \(fresh), overwritten \(over), read \(newest.0), scan \(newest.1)"
                    if budget > 0 {
                        let old = try reads(bench, shard, asOf: past)
                        line += ", as of: read \(old.0), scan \(old.1)"
                    }
                    writeOut(line + ", \(store.sizeEstimate >> 20) MiB\n")
                }
            }
        }
    }
}
