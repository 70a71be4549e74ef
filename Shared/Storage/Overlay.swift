import Base
import CSystem

/// The latest effects that a store does not hold yet: a hash table over an arena, sorted only when somebody scans.
///
/// An applied list of effects is copied into the arena as a whole, and the table's entries point into it: no
/// allocation per key. A key that is written again leaves its old bytes behind until the overlay is flushed and
/// dropped; so the arena's size is what a shard's flush is triggered by. Keys are never removed: a deleted one stays
/// as a mark that hides the store's.
///
/// Time: an entry has the commit timestamp of its newest effect. What an effect of a later timestamp takes the place of
/// stays reachable as a chain: the bytes are in the arena anyway, and the link takes the place of a key that nobody
/// needs any more (`Version`). A range deletion keeps nothing of what it deletes: it raises `floor`, below which
/// nothing may be read.
///
/// Order: `runs` are lists of entries, each sorted by key, each more than twice as long as the next. A scan first
/// sorts what was added since the last one into a new run, and so does a list of very many keys; runs are merged
/// until that holds again, so a key is moved O(log n) times however writes and scans alternate.
///
/// Once frozen (`ShardStore.beginFlush`), a worker reads `entries`, `tombstones` and the arena while the loop goes on
/// reading everything and may extend `runs`, which the worker does not touch.
final class Overlay: @unchecked Sendable {  // Confined to the loop; a worker may read what is frozen.
    struct Entry {
        let key: UnsafeRawPointer
        let keyLength: UInt32
        let hash: UInt32
        var value: UnsafeRawPointer
        var timestamp: Timestamp
        /// Where the version before lies; nil: the overlay knows none.
        var previous: UnsafeRawPointer?
        /// The length of the value, or one of the marks.
        var state: UInt32

        static let deleted = UInt32.max
        /// Deleted by a range tombstone, which hides what lies below: needs no deletion of its own.
        static let covered = UInt32.max - 1

        var isDeleted: Bool { state >= Entry.covered }
        var keyView: ByteView { ByteView(start: key, count: Int(keyLength)) }
        var valueView: ByteView { ByteView(start: value, count: Int(state)) }
        /// Bytes that the entry takes in a batch, about.
        var storedSize: Int { Int(keyLength) + (isDeleted ? 0 : Int(state)) + 24 }
    }

    enum Lookup {
        case found(ByteView)
        case deleted
        case absent
    }

    /// What an overlay knows of a key at a time in the past.
    enum PastLookup {
        case found(ByteView, Timestamp)
        case deleted(Timestamp)
        /// Not changed here before that time: what lies below holds.
        case below
    }

    /// A state of a key that is no longer its newest, as it lies in the arena.
    ///
    /// It is written over the key of the effect that superseded it: the entry has the key from the first effect, and so
    /// a version takes no memory, and none that is not in the cache. Where the key is too short, it lies in `links`.
    struct Version {
        let value: UnsafeRawPointer
        let timestamp: Timestamp
        let previous: UnsafeRawPointer?
        let state: UInt32

        /// Bytes that it takes, aligned to nothing.
        static let size = 28

        init(_ entry: Entry) {
            (value, state, previous, timestamp) = (entry.value, entry.state, entry.previous, entry.timestamp)
        }

        init(at place: UnsafeRawPointer) {
            value = place.loadUnaligned(as: UnsafeRawPointer.self)
            timestamp = Timestamp(rawValue: place.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            previous = place.loadUnaligned(fromByteOffset: 16, as: UnsafeRawPointer?.self)
            state = place.loadUnaligned(fromByteOffset: 24, as: UInt32.self)
        }

        @inline(__always)
        func store(at place: UnsafeMutableRawPointer) {
            place.storeBytes(of: value, as: UnsafeRawPointer.self)
            place.storeBytes(of: timestamp.rawValue, toByteOffset: 8, as: UInt64.self)
            place.storeBytes(of: previous, toByteOffset: 16, as: UnsafeRawPointer?.self)
            place.storeBytes(of: state, toByteOffset: 24, as: UInt32.self)
        }

        var isDeleted: Bool { state >= Entry.covered }
        var valueView: ByteView { ByteView(start: value, count: Int(state)) }
    }

    private(set) var entries: ContiguousArray<Entry> = []
    /// Versions that were superseded here.
    private(set) var versionCount = 0
    /// The commit timestamp of the effects being applied.
    private var timestamp = Timestamp.zero
    /// The newest commit timestamp of all effects.
    private(set) var newest = Timestamp.zero
    /// The same, of each collection.
    private(set) var changes = ChangeTimes()
    /// What was deleted by range is not to be seen in the past either, so nothing may be read below.
    private(set) var floor = Timestamp.zero
    private(set) var tombstones = RangeSet()
    /// Positions in `entries` plus one; 0 is free. The size is a power of two, at most three quarters full.
    private var slots: ContiguousArray<UInt32>
    private var runs: [[UInt32]] = []
    private var sortedCount = 0
    private var arena = Arena()
    private var links = Arena()
    /// Slots that the effects being applied begin to look at.
    private var upcoming: [Int] = []

    /// Lists of effects of fewer bytes are not looked ahead through, nor those that would not stay in the cache.
    private static let lookAheadFrom = 512, lookAheadUpTo = 512 << 10
    /// A list that adds so many keys is of a bulk load, and sorted with them: the scan after a load of a million would
    /// hold its loop for a second.
    private static let bulk = 4096

    /// `expected` is the number of keys to make room for, so that a steady load does not rehash.
    init(expected: Int = 0) {
        var capacity = 64
        while capacity * 3 / 4 < min(expected, 1 << 22) { capacity *= 2 }
        slots = ContiguousArray(repeating: 0, count: capacity)
        entries.reserveCapacity(min(expected, 1 << 22))
    }

    var isEmpty: Bool { entries.isEmpty && tombstones.isEmpty }
    var count: Int { entries.count }
    /// How often keys got another state at another time.
    var changeCount: Int { entries.count + versionCount }
    /// Memory in use, without the room kept for the keys of a steady load: what a flush would give back.
    var byteCount: Int {
        arena.byteCount + links.byteCount + entries.count * (MemoryLayout<Entry>.stride + 8)
    }

    // MARK: Writing

    func apply(_ effects: ByteView) throws(StoreError) {
        let copy = arena.copy(effects), before = entries.count
        try lookAhead(copy)
        timestamp = .zero
        var reader = try EffectReader(copy)
        while let effect = try reader.next() {
            switch effect {
            case .put(let key, let value):
                // A log entry is at most 16 MiB, so lengths fit; refuse rather than wrap should that ever change.
                guard value.count < Int(Entry.covered), key.count <= Int(UInt32.max) else {
                    throw StoreError(.misuse, "an effect larger than 4 GiB")
                }
                set(key, value.baseAddress ?? UnsafeRawPointer(arena.anchor), UInt32(value.count))
            case .delete(let key):
                set(key, UnsafeRawPointer(arena.anchor), Entry.deleted)
            case .deleteRange(let from, let to):
                floor = max(floor, timestamp)
                changes.noteAll(timestamp)
                deleteRange(from, to)
            case .timestamp(let given):
                timestamp = given
                newest = max(newest, given)
            case .collectRange(let from, let to, let seen):
                floor = max(floor, seen)
                deleteRange(from, to)
            case .note: break
            }
        }
        if entries.count - before >= Self.bulk { sortAdded() }
    }

    /// Asks the memory for what the effects will touch, first all slots, then all entries, then all keys: applying
    /// then waits for memory about three times a list instead of three times an effect.
    private func lookAhead(_ effects: ByteView) throws(StoreError) {
        guard effects.count > Self.lookAheadFrom, effects.count < Self.lookAheadUpTo else { return }
        var reader = try EffectReader(effects)
        let mask = slots.count - 1
        upcoming.removeAll(keepingCapacity: true)
        slots.withUnsafeBufferPointer { slots in
            guard let base = slots.baseAddress else { return }
            while let effect = try? reader.next() {
                guard case .put(let key, _) = effect else { continue }
                let slot = Int(truncatingIfNeeded: ByteHash.hash(key)) & mask
                orbit_prefetch(base + slot)
                upcoming.append(slot)
            }
        }
        entries.withUnsafeBufferPointer { entries in
            guard let base = entries.baseAddress else { return }
            for slot in upcoming where slots[slot] != 0 { orbit_prefetch(base + Int(slots[slot] - 1)) }
            for slot in upcoming where slots[slot] != 0 { orbit_prefetch(base[Int(slots[slot] - 1)].key) }
        }
    }

    private func set(_ key: ByteView, _ value: UnsafeRawPointer, _ state: UInt32) {
        changes.note(key, timestamp)
        let hash = ByteHash.hash(key)
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: hash) & mask
        let short = UInt32(truncatingIfNeeded: hash >> 32)
        while slots[slot] != 0 {
            let position = Int(slots[slot] - 1)
            if entries[position].hash == short, entries[position].keyView.equals(key) {
                // Effects of one timestamp are seen together: the first of them was never a version.
                if timestamp > entries[position].timestamp {
                    let place = room(over: key)
                    Version(entries[position]).store(at: place)
                    entries[position].previous = UnsafeRawPointer(place)
                    entries[position].timestamp = timestamp
                    versionCount += 1
                }
                entries[position].value = value
                entries[position].state = state
                return
            }
            slot = (slot + 1) & mask
        }
        let base = key.baseAddress ?? UnsafeRawPointer(arena.anchor)
        entries.append(
            Entry(
                key: base, keyLength: UInt32(key.count), hash: short, value: value, timestamp: timestamp,
                previous: nil, state: state))
        slots[slot] = UInt32(entries.count)
        if entries.count * 4 > slots.count * 3 { rehash() }
    }

    /// Room for a version: that of a key in the arena which no entry has taken.
    @inline(__always)
    private func room(over key: ByteView) -> UnsafeMutableRawPointer {
        guard key.count >= Version.size, let base = key.baseAddress else { return links.room(Version.size) }
        return UnsafeMutableRawPointer(mutating: base)
    }

    private func rehash() {
        let mask = slots.count * 2 - 1
        var larger = ContiguousArray<UInt32>(repeating: 0, count: slots.count * 2)
        for position in entries.indices {
            var slot = Int(truncatingIfNeeded: ByteHash.hash(entries[position].keyView)) & mask
            while larger[slot] != 0 { slot = (slot + 1) & mask }
            larger[slot] = UInt32(position + 1)
        }
        slots = larger
    }

    private func deleteRange(_ from: ByteView, _ to: ByteView) {
        guard compareKeys(from, to) < 0 else { return }
        sortAdded()
        for run in runs {
            var position = firstPosition(in: run, from: from)
            while position < run.count {
                let entry = Int(run[position])
                guard compareKeys(entries[entry].keyView, to) < 0 else { break }
                entries[entry].state = Entry.covered
                entries[entry].previous = nil
                entries[entry].timestamp = max(entries[entry].timestamp, timestamp)
                position += 1
            }
        }
        tombstones.insert(from: from, to: to)
    }

    // MARK: Reading

    func lookup(_ key: ByteView) -> Lookup {
        if !entries.isEmpty {
            let hash = ByteHash.hash(key)
            let mask = slots.count - 1
            var slot = Int(truncatingIfNeeded: hash) & mask
            let short = UInt32(truncatingIfNeeded: hash >> 32)
            while slots[slot] != 0 {
                let position = Int(slots[slot] - 1)
                if entries[position].hash == short, entries[position].keyView.equals(key) {
                    return entries[position].isDeleted ? .deleted : .found(entries[position].valueView)
                }
                slot = (slot + 1) & mask
            }
        }
        if !tombstones.isEmpty, tombstones.contains(key) { return .deleted }
        return .absent
    }

    /// The entry of a key, if it was changed here.
    func entry(of key: ByteView) -> Entry? {
        guard !entries.isEmpty else { return nil }
        let hash = ByteHash.hash(key)
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: hash) & mask
        let short = UInt32(truncatingIfNeeded: hash >> 32)
        while slots[slot] != 0 {
            let position = Int(slots[slot] - 1)
            if entries[position].hash == short, entries[position].keyView.equals(key) { return entries[position] }
            slot = (slot + 1) & mask
        }
        return nil
    }

    /// The state of a key at a time, which must not lie below `floor`: then a range that was deleted here was deleted
    /// by that time. `entry` is what the overlay has of the key.
    func past(_ key: ByteView, _ entry: Entry?, asOf time: Timestamp) -> PastLookup {
        if let entry {
            if entry.timestamp <= time {
                return entry.isDeleted ? .deleted(entry.timestamp) : .found(entry.valueView, entry.timestamp)
            }
            var next = entry.previous
            while let place = next {
                let version = Version(at: place)
                if version.timestamp <= time {
                    return version.isDeleted
                        ? .deleted(version.timestamp) : .found(version.valueView, version.timestamp)
                }
                next = version.previous
            }
        }
        if !tombstones.isEmpty, tombstones.contains(key) { return .deleted(.zero) }
        return .below
    }

    // MARK: Order

    /// A position in every run; the current entry is the least of them.
    struct Cursor {
        fileprivate var positions: [Int]
        fileprivate(set) var current: Int?
    }

    /// A cursor at the first key not below `key`. It does not survive a write.
    func cursor(from key: ByteView) -> Cursor {
        sortAdded()
        var cursor = Cursor(positions: runs.map { firstPosition(in: $0, from: key) }, current: nil)
        settle(&cursor)
        return cursor
    }

    func advance(_ cursor: inout Cursor) {
        guard let current = cursor.current else { return }
        for run in runs.indices where cursor.positions[run] < runs[run].count {
            if Int(runs[run][cursor.positions[run]]) == current {
                cursor.positions[run] += 1
                break
            }
        }
        settle(&cursor)
    }

    private func settle(_ cursor: inout Cursor) {
        cursor.current = nil
        for run in runs.indices where cursor.positions[run] < runs[run].count {
            let candidate = Int(runs[run][cursor.positions[run]])
            if let best = cursor.current, compareKeys(entries[best].keyView, entries[candidate].keyView) < 0 {
                continue
            }
            cursor.current = candidate
        }
    }

    /// The key of the `count`-th last entry with `from <= key < to` that is not deleted; nil: there are fewer.
    func key(_ count: Int, before to: ByteView, from: ByteView) -> Bytes? {
        sortAdded()
        var positions = runs.map { to.isEmpty ? $0.count : firstPosition(in: $0, from: to) }, left = max(count, 1)
        while true {
            var last: Int?
            for (run, position) in positions.enumerated() where position > 0 {
                let candidate = Int(runs[run][position - 1])
                if let best = last, compareKeys(entries[best].keyView, entries[candidate].keyView) > 0 { continue }
                last = candidate
            }
            guard let last, compareKeys(entries[last].keyView, from) >= 0 else { return nil }
            // A key is an entry of one run only.
            for run in positions.indices where positions[run] > 0 && Int(runs[run][positions[run] - 1]) == last {
                positions[run] -= 1
            }
            if !entries[last].isDeleted { left -= 1 }
            if left == 0 { return entries[last].keyView.bytes }
        }
    }

    private func firstPosition(in run: [UInt32], from key: ByteView) -> Int {
        var low = 0
        var high = run.count
        while low < high {
            let middle = (low + high) / 2
            if compareKeys(entries[Int(run[middle])].keyView, key) < 0 { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private func sortAdded() {
        guard sortedCount < entries.count else { return }
        var added: [UInt32] = []
        added.reserveCapacity(entries.count - sortedCount)
        for position in sortedCount..<entries.count { added.append(UInt32(position)) }
        added.sort { compareKeys(entries[Int($0)].keyView, entries[Int($1)].keyView) < 0 }
        sortedCount = entries.count
        while let last = runs.last, last.count <= added.count * 2 {
            runs.removeLast()
            added = merge(last, added)
        }
        runs.append(added)
    }

    private func merge(_ left: [UInt32], _ right: [UInt32]) -> [UInt32] {
        var result: [UInt32] = []
        result.reserveCapacity(left.count + right.count)
        var first = 0
        var second = 0
        while first < left.count, second < right.count {
            if compareKeys(entries[Int(left[first])].keyView, entries[Int(right[second])].keyView) < 0 {
                result.append(left[first])
                first += 1
            } else {
                result.append(right[second])
                second += 1
            }
        }
        result.append(contentsOf: left[first...])
        result.append(contentsOf: right[second...])
        return result
    }
}
