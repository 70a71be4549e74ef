import Base
import Glibc
import Storage

// Measures what docs/decisions/0001-version-layout.md decides: where versions of a record lie, and which memtable.
//
//   (a) suffix    key | bitwise complement of the timestamp: the newest version sorts first; a read seeks
//   (b) latest    the newest version under the plain key, its timestamp in the value; older ones in a range of their
//   own
//
// Keys have the native layout (bucket, collection, index, database, hash, name: 24 bytes), values 100 bytes. Reads
// are random and warm. A figure is nanoseconds of processor time per record unless
// it says otherwise.

private enum VersionLayout: String, CaseIterable { case suffix, latest }

/// Processor time, of this thread or of the process with RocksDB's threads, in nanoseconds.
func processorTime(_ clock: clockid_t = CLOCK_THREAD_CPUTIME_ID) -> UInt64 {
    var time = timespec()
    clock_gettime(clock, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}

/// A number of keys in one layout.
private struct Bench {
    let layout: VersionLayout
    let keys: Int
    var random = SplitMix64(seed: 7)
    let value = Bytes(repeating: 0x61, count: 100)

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

    /// Nanoseconds of this thread's processor time per unit: a loaded machine does not show in it.
    func measure(_ units: Int, _ body: () throws -> Void) rethrows -> UInt64 {
        let start = processorTime()
        try body()
        return (processorTime() - start) / UInt64(max(units, 1))
    }

    func put(_ key: borrowing ByteBuffer, _ version: UInt64, into batch: inout WriteBatch) {
        var stored = ByteBuffer(capacity: 64)
        switch layout {
        case .suffix:
            stored.append(key.readable)
            stored.append(bigEndian: ~version)
            value.withUnsafeBytes { batch.put(stored.readable, $0) }
        case .latest:
            var content = ByteBuffer(capacity: 128)
            content.append(littleEndian: version)
            content.append(value)
            batch.put(key.readable, content.readable)
            guard version > 1 else { return }
            // The version before goes to the history, which is only written where somebody asked for it.
            stored.append(bigEndian: UInt16(0x8000))
            stored.append(key.readable)
            stored.append(bigEndian: ~(version - 1))
            batch.put(stored.readable, content.readable)
        }
    }

    func load(_ store: any Store, versions: Int) throws {
        var key = ByteBuffer(capacity: 64)
        for version in 1...UInt64(versions) {
            var batch = WriteBatch(capacity: 1 << 20)
            for number in 0..<keys {
                self.key(number, into: &key)
                put(key, version, into: &batch)
                if batch.effects.count > 8 << 20 {
                    try store.write(batch)
                    batch.removeAll()
                }
            }
            try store.write(batch)
            try store.flush()
        }
    }

    mutating func pointReads(_ store: any Store, _ count: Int) throws -> UInt64 {
        var numbers: [Int] = []
        for _ in 0..<count { numbers.append(Int(random.next(below: UInt64(keys)))) }
        var key = ByteBuffer(capacity: 64)
        var found = 0
        let cost = try measure(count) {
            for number in numbers {
                self.key(number, into: &key)
                switch layout {
                case .latest: try store.withValue(key.readable) { found += $0 == nil ? 0 : 1 }
                case .suffix:
                    let from = key.readable.bytes
                    key.append(littleEndian: UInt64.max)
                    let iterator = try store.scan(from: from, to: key.readable.bytes)
                    found += iterator.isValid ? Int(clamping: iterator.value.count > 0 ? 1 : 0) : 0
                }
            }
        }
        precondition(found == count, "a key is missing")
        return cost
    }

    /// The newest version of the next 100 records from a random place.
    mutating func scans(_ store: any Store, _ count: Int, versions: Int) throws -> UInt64 {
        var seen = 0
        let start = processorTime()
        var key = ByteBuffer(capacity: 64)
        for _ in 0..<count {
            self.key(Int(random.next(below: UInt64(keys))), into: &key)
            let iterator = try store.scan(from: key.readable.bytes, to: [0x7f])
            var last: Bytes = []
            var left = 100
            while left > 0, iterator.isValid {
                let current = iterator.key
                if layout == .suffix {
                    let plain = ByteView(rebasing: current.dropLast(8))
                    if last.withUnsafeBytes({ $0.equals(plain) }) {
                        iterator.next()
                        continue
                    }
                    last = plain.bytes
                }
                seen += 1
                left -= 1
                iterator.next()
            }
        }
        return (processorTime() - start) / UInt64(max(seen, 1))
    }

    /// One counter written over and over through a shard's overlay: cost and what it leaves to flush.
    func hotCounter(_ store: any Store, _ count: Int) throws -> (nanoseconds: UInt64, keys: Int) {
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
        var key = ByteBuffer(capacity: 64)
        self.key(1, into: &key)
        let cost = try measure(count) {
            for index in 1...UInt64(count) {
                var batch = WriteBatch(capacity: 256)
                switch layout {
                case .latest: value.withUnsafeBytes { batch.put(key.readable, $0) }
                case .suffix: put(key, index, into: &batch)
                }
                try shard.apply(batch.effects, index: LogIndex(rawValue: index))
            }
        }
        return (cost, shard.overlayCount)
    }
}

func withBenchStore<R>(
    _ options: RocksDBOptions = RocksDBOptions(), _ body: (RocksDBStore) throws -> R
) throws -> R {
    let directory = "/tmp/orbit-bench-\(getpid())"
    let disk = PosixDisk()
    try disk.makeDirectory(directory)
    defer {
        for name in (try? disk.list(directory)) ?? [] { try? disk.remove("\(directory)/\(name)") }
        try? disk.remove(directory)
    }
    let store = try RocksDBStore(directory: directory, options: options)
    defer { store.close() }
    return try body(store)
}

private func versionBenchmark(keys: Int) throws {
    for versions in [1, 4] {
        for round in 1...3 {
            for layout in VersionLayout.allCases {
                try withBenchStore { store in
                    var bench = Bench(layout: layout, keys: keys)
                    let load = try bench.measure(keys * versions) { try bench.load(store, versions: versions) }
                    _ = try bench.pointReads(store, keys / 2)  // Warms the cache.
                    let read = try bench.pointReads(store, keys / 2)
                    let scan = try bench.scans(store, keys / 200, versions: versions)
                    writeOut(
                        "versions \(versions) round \(round) \(layout.rawValue): write \(load), read "
                            + "\(read), scan \(scan), "
                            + "size \(store.sizeEstimate >> 20) MiB\n")
                }
            }
        }
    }
    for layout in VersionLayout.allCases {
        let counter = try Bench(layout: layout, keys: 1).hotCounter(MemoryStore(), 200_000)
        writeOut(
            "hot counter \(layout.rawValue): \(counter.nanoseconds), \(counter.keys) keys to flush of 200000 writes\n")
    }
}

private func memtableBenchmark(keys: Int) throws {
    for round in 1...3 {
        for memtable in RocksDBOptions.Memtable.allCases {
            var options = RocksDBOptions()
            options.memtable = memtable
            try withBenchStore(options) { store in
                var bench = Bench(layout: .latest, keys: keys)
                var key = ByteBuffer(capacity: 64)
                let write = try bench.measure(keys) {
                    for start in stride(from: 0, to: keys, by: 100) {  // A batch per tick, as without write-behind.
                        var batch = WriteBatch(capacity: 16 << 10)
                        for number in start..<min(start + 100, keys) {
                            bench.key(number, into: &key)
                            bench.put(key, 1, into: &batch)
                        }
                        try store.write(batch)
                    }
                }
                // A vector is searched linearly.
                let read = try bench.pointReads(store, memtable == .vector ? 20 : keys / 4)
                let scan = try bench.scans(store, 20, versions: 1)
                let begun = processorTime(CLOCK_PROCESS_CPUTIME_ID)
                try store.flush()
                let flush = (processorTime(CLOCK_PROCESS_CPUTIME_ID) - begun) / UInt64(keys)
                writeOut(
                    "memtable round \(round) \(memtable.rawValue): write \(write), read \(read), scan "
                        + "\(scan), flush \(flush)\n"
                )
            }
        }
        try overlayBenchmark(keys: keys, round: round)
    }
}

/// The same through a shard's overlay: what the hot path pays instead.
private func overlayBenchmark(keys: Int, round: Int) throws {
    try withBenchStore { store in
        let bench = Bench(layout: .latest, keys: keys)
        let shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
        var key = ByteBuffer(capacity: 64)
        let write = try bench.measure(keys) {
            for start in stride(from: 0, to: keys, by: 100) {
                var batch = WriteBatch(capacity: 16 << 10)
                for number in start..<min(start + 100, keys) {
                    bench.key(number, into: &key)
                    bench.put(key, 1, into: &batch)
                }
                try shard.apply(batch.effects, index: LogIndex(rawValue: shard.appliedIndex.rawValue + 1))
            }
        }
        var random = SplitMix64(seed: 9)
        var found = 0
        let read = try bench.measure(keys) {
            for _ in 0..<keys {
                bench.key(Int(random.next(below: UInt64(keys))), into: &key)
                try shard.withValue(key.readable) { found += $0 == nil ? 0 : 1 }
            }
        }
        precondition(found == keys, "a key is missing")
        var seen = 0
        let start = processorTime()
        for _ in 0..<20 {
            bench.key(Int(random.next(below: UInt64(keys))), into: &key)
            var left = 100
            try [UInt8(0x7f)].withUnsafeBytes { to in
                try shard.scan(from: key.readable, to: to) { _, _ in
                    seen += 1
                    left -= 1
                    return left > 0
                }
            }
        }
        let scan = (processorTime() - start) / UInt64(max(seen, 1))
        let begun = processorTime(CLOCK_PROCESS_CPUTIME_ID)
        try shard.flush()
        let flush = (processorTime(CLOCK_PROCESS_CPUTIME_ID) - begun) / UInt64(keys)
        writeOut(
            "memtable round \(round) overlay: write \(write), read \(read), scan \(scan) (first one "
                + "sorts), flush \(flush)\n"
        )
    }
}

/// `orbit-simulate bench versions|history|memtables|log [--keys N]`.
func runBenchmark(_ words: [String]) -> Int32 {
    var keys = 200_000
    if words.count == 3, words[1] == "--keys", let number = Int(words[2]), number >= 1000 { keys = number }
    do {
        switch words.first {
        case "versions": try versionBenchmark(keys: keys)
        case "history": try historyBenchmark(keys: keys)
        case "memtables": try memtableBenchmark(keys: keys)
        case "log": try logBenchmark(rounds: keys / 100, directory: "/tmp")
        case _: fail(usage, code: 64)
        }
        return 0
    } catch {
        fail("bench: \(error)\n", code: 1)
    }
}
