import CSystem
import Glibc

/// A hash map keyed by byte strings, looked up by view: no key object is made to ask a question.
///
/// One array of entries `{tag, key, value}`, probed linearly. A tag is the key's hash with a length code in its low six
/// bits; its top bits choose the home entry. Keys of up to 24 bytes lie in the entry, as three words padded with
/// zeros, and are compared as words; longer ones lie in a block of their own. So a look-up touches one place of the
/// table and, for a long key, one more (random keys of 16 bytes: 7 ns in cache), with no reference counting on the way.
///
/// Invariants:
/// - `capacity` is a power of two (or 0), at most 3/4 full, and at least 1/8 full unless it is the minimum asked for:
///   so a random entry is found by picking slots (`randomIndex`), and a scan costs in proportion to `count`.
/// - Tag 0 marks a free entry; nothing else of a free entry is initialised.
/// - No free entry lies between an entry and its home: removal shifts the followers back, there are no tombstones.
///
/// An *index* and a view of a key are good until the next insertion or removal. Not copyable: the map has one owner.
/// Growing moves every entry at once (about 10 ns each).
@usableFromInline package struct ByteMap<Value>: ~Copyable {
    @usableFromInline struct Entry {
        @usableFromInline var key: ByteMapKey
        @usableFromInline var value: Value

        @inlinable init(key: ByteMapKey, value: Value) {
            self.key = key
            self.value = value
        }
    }

    @usableFromInline var entries: UnsafeMutablePointer<Entry>?
    @usableFromInline var capacity = 0
    /// `tag >> shift` is the home entry.
    @usableFromInline var shift: UInt64 = 64
    @usableFromInline let minimumCapacity: Int
    @usableFromInline let secret: ByteHash.Secret
    /// The number of keys.
    @usableFromInline package private(set) var count = 0
    /// The number of bytes in all keys, for memory budgets.
    @usableFromInline package private(set) var keyBytes = 0
    /// Those of them that lie in blocks.
    @usableFromInline var blockBytes = 0

    /// An empty map that takes `minimumCapacity` keys without growing, and never shrinks below.
    @inlinable package init(minimumCapacity: Int = 0) {
        var power = 0
        if minimumCapacity > 0 {
            power = 8
            while power / 4 * 3 < minimumCapacity { power &*= 2 }
        }
        self.minimumCapacity = power
        secret = .process
        if power > 0 { allocate(power) }
    }

    @inlinable deinit {
        guard let entries else { return }
        for slot in 0..<capacity where Self.tag(entries, slot) != 0 {
            (entries + slot).pointee.key.free()
            (entries + slot).deinitialize(count: 1)
        }
        entries.deallocate()
    }

    @inlinable package var isEmpty: Bool { count == 0 }

    /// Bytes of memory that the table and its keys take (not what the values point to).
    @inlinable package var memorySize: Int { capacity &* MemoryLayout<Entry>.stride &+ blockBytes }

    // MARK: Looking up

    /// The index of `key`, or nil.
    @inlinable package func index(of key: ByteView) -> Int? {
        guard count > 0 else { return nil }
        let found = find(ByteMapKey(key, secret), key)
        return found.exists ? found.slot : nil
    }

    /// Whether the map has `key`.
    @inlinable package func contains(_ key: ByteView) -> Bool { index(of: key) != nil }

    /// The value of `key`, or nil.
    @inlinable package func value(for key: ByteView) -> Value? {
        guard let slot = index(of: key), let entries else { return nil }
        return (entries + slot).pointee.value
    }

    @inlinable package subscript(_ key: ByteView) -> Value? { value(for: key) }

    /// The value at an index that `index(of:)`, `firstIndex` or `randomIndex` gave.
    @inlinable package func value(at index: Int) -> Value { (entry(index)).pointee.value }

    /// The key at an index, valid until the next insertion or removal.
    @inlinable package func key(at index: Int) -> ByteView { ByteMapKey.view(UnsafeRawPointer(entry(index))) }

    /// Changes the value at an index in place.
    @inlinable package mutating func withValue<Result, Failure: Error>(
        at index: Int, _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(&(entry(index)).pointee.value)
    }

    /// Changes the value of `key` in place, after inserting `insertDefault` when it is missing; hashes once.
    @inlinable package mutating func withValue<Result, Failure: Error>(
        for key: ByteView, insertDefault: @autoclosure () -> Value, _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let slot = slot(for: key, insertDefault: insertDefault)
        return try body(&(entry(slot)).pointee.value)
    }

    /// The index of `key`, after inserting `insertDefault` when it is missing; hashes once.
    @inlinable package mutating func slot(for key: ByteView, insertDefault: () -> Value) -> Int {
        let probe = ByteMapKey(key, secret)
        let found = find(probe, key)
        return found.exists ? found.slot : place(probe, key, insertDefault(), at: found.slot)
    }

    // MARK: Looking ahead

    /// Asks the memory for the entry at which a look-up of `key` begins, and returns the key's tag for
    /// `prefetchObject`. A caller that knows several keys ahead waits for memory once instead of once a key (random
    /// keys of 100 000: 40 ns less).
    @inlinable package func prefetch(_ key: ByteView) -> UInt64 {
        let tag = ByteMapKey(key, secret).tag
        if let entries, capacity > 0 { orbit_prefetch(entries + Int(truncatingIfNeeded: tag &>> shift)) }
        return tag
    }

    /// For a map of objects: asks the memory for the object of the key that has this tag, as far as its home entry
    /// tells.
    @inlinable package func prefetchObject(_ tag: UInt64) where Value: AnyObject {
        guard let address = object(tag) else { return }
        orbit_prefetch(address)
        orbit_prefetch(address + 64)
        orbit_prefetch(address + 128)
    }

    /// The same for what the object refers to: `body` gets the object, which is there by now, and is not to keep it.
    @inlinable @inline(__always)
    package func withPrefetchedObject(_ tag: UInt64, _ body: (Value) -> Void) where Value: AnyObject {
        guard let address = object(tag) else { return }
        Unmanaged<Value>.fromOpaque(address)._withUnsafeGuaranteedRef(body)
    }

    /// The reference itself is read, not retained: retaining would wait for the object.
    @inlinable @inline(__always)
    func object(_ tag: UInt64) -> UnsafeRawPointer? where Value: AnyObject {
        guard let entries, capacity > 0 else { return nil }
        let slot = Int(truncatingIfNeeded: tag &>> shift)
        guard Self.tag(entries, slot) == tag else { return nil }
        return UnsafeRawPointer(entries + slot)
            .advanced(by: MemoryLayout<Entry>.offset(of: \.value) ?? 0).load(as: UnsafeRawPointer.self)
    }

    // MARK: Changing

    /// Sets the value of `key` and returns the one it replaces.
    @inlinable @discardableResult package mutating func updateValue(_ value: Value, for key: ByteView) -> Value? {
        let probe = ByteMapKey(key, secret)
        let found = find(probe, key)
        guard found.exists else {
            _ = place(probe, key, value, at: found.slot)
            return nil
        }
        let target = entry(found.slot)
        let old = target.pointee.value
        target.pointee.value = value
        return old
    }

    @inlinable @discardableResult package mutating func updateValue(_ value: Value, for key: Bytes) -> Value? {
        key.withUnsafeBytes { updateValue(value, for: $0) }
    }

    /// Sets the value of `key`.
    @inlinable package mutating func insert(key: ByteView, _ value: Value) { _ = updateValue(value, for: key) }

    @inlinable package mutating func insert(key: Bytes, _ value: Value) { _ = updateValue(value, for: key) }

    /// Removes `key` and returns its value. May shrink the table.
    @inlinable @discardableResult package mutating func remove(_ key: ByteView) -> Value? {
        guard let slot = index(of: key) else { return nil }
        return remove(at: slot)
    }

    /// Removes the entry at an index and returns its value. May shrink the table.
    @inlinable @discardableResult package mutating func remove(at index: Int) -> Value {
        let value = take(index)
        if capacity > max(minimumCapacity, 8), count < capacity / 8 { resize(to: capacity / 2) }
        return value
    }

    /// Removes every entry, keeping the table's memory when asked to.
    @inlinable package mutating func removeAll(keepingCapacity: Bool = false) {
        guard let entries else { return }
        if count > 0 {
            for slot in 0..<capacity where Self.tag(entries, slot) != 0 {
                (entries + slot).pointee.key.free()
                (entries + slot).deinitialize(count: 1)
                Self.setFree(entries, slot)
            }
        }
        count = 0
        keyBytes = 0
        blockBytes = 0
        guard !keepingCapacity, capacity > minimumCapacity else { return }
        entries.deallocate()
        self.entries = nil
        capacity = 0
        shift = 64
        if minimumCapacity > 0 { allocate(minimumCapacity) }
    }

    // MARK: Walking

    /// Calls `body` with every key and value, in no order.
    @inlinable package func forEach<Failure: Error>(
        _ body: (ByteView, Value) throws(Failure) -> Void
    ) throws(Failure) {
        guard let entries else { return }
        for slot in 0..<capacity where Self.tag(entries, slot) != 0 {
            try body(ByteMapKey.view(UnsafeRawPointer(entries + slot)), (entries + slot).pointee.value)
        }
    }

    /// The first index at or after `position` (0 to begin), or nil at the end; continue with `index + 1`.
    ///
    /// `value(at:)`, `key(at:)` and `withValue(at:)` are allowed between steps; an insertion or removal ends the walk.
    @inlinable package func firstIndex(from position: Int = 0) -> Int? {
        guard let entries else { return nil }
        var slot = max(position, 0)
        while slot < capacity {
            if Self.tag(entries, slot) != 0 { return slot }
            slot &+= 1
        }
        return nil
    }

    /// Calls `body` with keys and values in the order of their *places*, from `place` (0 to begin) on. Ends after the
    /// key for which `body` answers false, or soon after `steps` entries of the table were looked at, which it counts
    /// down. Returns where to go on, or nil at the end.
    ///
    /// A key's place is its hash: the same in every map of the process, and the same after the table has grown. So the
    /// map may change between one piece of a walk and the next, and still a key that is there all the time is met
    /// once, and no key twice. (Keys of one place are met together: `body` may be called again after it answered
    /// false.)
    @inlinable package func walk(
        from place: UInt64 = 0, steps: inout Int, _ body: (ByteView, Value) -> Bool
    ) -> UInt64? {
        guard let entries, count > 0 else { return nil }
        let mask = capacity &- 1
        var found: [(tag: UInt64, slot: Int)] = []
        for home in Int(truncatingIfNeeded: place &>> shift)..<capacity {
            found.removeAll(keepingCapacity: true)
            // The entries of a home lie between it and the next free entry, in no order.
            var slot = home
            while true {
                let tag = Self.tag(entries, slot)
                steps &-= 1
                if tag == 0 { break }
                if Int(truncatingIfNeeded: tag &>> shift) == home, tag >= place { found.append((tag, slot)) }
                slot = (slot &+ 1) & mask
            }
            found.sort { $0.tag < $1.tag }
            var last: UInt64?
            for (tag, slot) in found {
                if let last, last != tag { return tag }
                let goesOn = body(ByteMapKey.view(UnsafeRawPointer(entries + slot)), (entries + slot).pointee.value)
                if !goesOn { last = tag }
            }
            let next = home &+ 1
            if next < capacity, last != nil || steps <= 0 { return UInt64(truncatingIfNeeded: next) &<< shift }
        }
        return nil
    }

    /// The index of an entry chosen evenly among all, or nil when there is none.
    @inlinable package func randomIndex(using random: inout some RandomNumberGenerator) -> Int? {
        guard count > 0, let entries else { return nil }
        let mask = UInt64(capacity &- 1)
        // A reserved table may be almost empty, and then picking would take long: count to the entry instead.
        if count < capacity / 16 {
            var rest = Int.random(in: 0..<count, using: &random)
            var slot = 0
            while true {
                if Self.tag(entries, slot) != 0 {
                    if rest == 0 { return slot }
                    rest &-= 1
                }
                slot &+= 1
            }
        }
        while true {
            let slot = Int(truncatingIfNeeded: random.next() & mask)
            if Self.tag(entries, slot) != 0 { return slot }
        }
    }

    // MARK: The table

    /// Tags are read alone: the rest of a free entry is not initialised.
    @inlinable static func tag(_ entries: UnsafeMutablePointer<Entry>, _ slot: Int) -> UInt64 {
        UnsafeRawPointer(entries + slot).load(as: UInt64.self)
    }

    @inlinable static func setFree(_ entries: UnsafeMutablePointer<Entry>, _ slot: Int) {
        UnsafeMutableRawPointer(entries + slot).storeBytes(of: 0, as: UInt64.self)
    }

    @inlinable func entry(_ index: Int) -> UnsafeMutablePointer<Entry> {
        guard let entries, index >= 0, index < capacity, Self.tag(entries, index) != 0 else {
            preconditionFailure("stale index")
        }
        return entries + index
    }

    @inlinable mutating func allocate(_ newCapacity: Int) {
        let fresh = UnsafeMutablePointer<Entry>.allocate(capacity: newCapacity)
        for slot in 0..<newCapacity { Self.setFree(fresh, slot) }
        entries = fresh
        capacity = newCapacity
        shift = UInt64(64 &- newCapacity.trailingZeroBitCount)
    }

    /// Where the key is, or the free entry where it would go (meaningless while there is no table).
    @inlinable func find(_ probe: ByteMapKey, _ key: ByteView) -> (slot: Int, exists: Bool) {
        guard let entries else { return (0, false) }
        let mask = capacity &- 1
        var slot = Int(truncatingIfNeeded: probe.tag &>> shift)
        while true {
            let tag = Self.tag(entries, slot)
            if tag == probe.tag, (entries + slot).pointee.key.matches(probe, key) { return (slot, true) }
            if tag == 0 { return (slot, false) }
            slot = (slot &+ 1) & mask
        }
    }

    @inlinable func freeSlot(_ entries: UnsafeMutablePointer<Entry>, _ tag: UInt64) -> Int {
        let mask = capacity &- 1
        var slot = Int(truncatingIfNeeded: tag &>> shift)
        while Self.tag(entries, slot) != 0 { slot = (slot &+ 1) & mask }
        return slot
    }

    @inlinable mutating func place(_ probe: ByteMapKey, _ key: ByteView, _ value: Value, at free: Int) -> Int {
        var slot = free
        let grows = count >= capacity / 4 &* 3
        if grows { resize(to: max(capacity &* 2, 8)) }
        guard let entries else { preconditionFailure("a table without entries") }
        if grows { slot = freeSlot(entries, probe.tag) }
        (entries + slot).initialize(to: Entry(key: probe.owning(key), value: value))
        count &+= 1
        keyBytes &+= key.count
        if probe.isLong { blockBytes &+= key.count &+ 16 }
        return slot
    }

    /// Takes an entry out and closes the gap: each follower that may move nearer to its home does.
    @inlinable mutating func take(_ index: Int) -> Value {
        let target = entry(index)
        guard let entries else { preconditionFailure("an entry without a table") }
        let length = key(at: index).count
        keyBytes &-= length
        if target.pointee.key.isLong { blockBytes &-= length &+ 16 }
        target.pointee.key.free()
        let value = target.move().value
        let mask = capacity &- 1
        var gap = index
        var slot = (gap &+ 1) & mask
        while true {
            let tag = Self.tag(entries, slot)
            if tag == 0 { break }
            let home = Int(truncatingIfNeeded: tag &>> shift)
            // It may fill the gap unless its home lies after the gap (counted around the end of the table).
            if (slot &- home) & mask >= (slot &- gap) & mask {
                (entries + gap).moveInitialize(from: entries + slot, count: 1)
                gap = slot
            }
            slot = (slot &+ 1) & mask
        }
        Self.setFree(entries, gap)
        count &-= 1
        return value
    }

    @inlinable mutating func resize(to newCapacity: Int) {
        let old = entries
        let oldCapacity = capacity
        allocate(newCapacity)
        guard let old, let fresh = entries else { return }
        for slot in 0..<oldCapacity {
            let tag = Self.tag(old, slot)
            if tag != 0 { (fresh + freeSlot(fresh, tag)).moveInitialize(from: old + slot, count: 1) }
        }
        old.deallocate()
    }
}

/// The key of an entry: a tag, then up to 24 bytes, or the address and length of a block that holds more.
@usableFromInline struct ByteMapKey {
    /// The hash; its low six bits replaced by length + 1, or by 63 for a long key. Never 0.
    @usableFromInline var tag: UInt64
    @usableFromInline var first: UInt64 = 0
    @usableFromInline var second: UInt64 = 0
    @usableFromInline var third: UInt64 = 0

    @inlinable static var inlineLimit: Int { 24 }
    @inlinable static var longCode: UInt64 { 63 }

    @inlinable var isLong: Bool { tag & 63 == Self.longCode }

    /// What to look for. A long key is compared with the view itself, so its block is not made yet.
    @inlinable init(_ key: ByteView, _ secret: ByteHash.Secret) {
        let count = key.count
        tag = ByteHash.hash(key, secret: secret) & ~63
        guard count <= Self.inlineLimit else {
            tag |= Self.longCode
            return
        }
        tag |= UInt64(truncatingIfNeeded: count &+ 1)
        guard let base = key.baseAddress, count > 0 else { return }
        // Words padded with zeros, as a little-endian processor stores them (`view` shows their bytes). The last eight
        // bytes are shifted to where they belong; where they overlap what is already there, the bits are the same.
        if count > 16 {
            first = ByteHash.word(base, 0)
            second = ByteHash.word(base, 8)
            third = ByteHash.word(base, count &- 8) &>> UInt64(truncatingIfNeeded: (24 &- count) &* 8)
        } else if count > 8 {
            first = ByteHash.word(base, 0)
            second = ByteHash.word(base, count &- 8) &>> UInt64(truncatingIfNeeded: (16 &- count) &* 8)
        } else if count >= 4 {
            let tail = ByteHash.half(base, count &- 4)
            first = ByteHash.half(base, 0) | tail &<< UInt64(truncatingIfNeeded: (count &- 4) &* 8)
        } else {
            let middle = count / 2
            first =
                UInt64(base.load(as: UInt8.self))
                | UInt64(base.load(fromByteOffset: middle, as: UInt8.self)) &<< UInt64(truncatingIfNeeded: middle &* 8)
                | UInt64(base.load(fromByteOffset: count &- 1, as: UInt8.self))
                &<< UInt64(truncatingIfNeeded: (count &- 1) &* 8)
        }
    }

    /// Whether this stored key is the one looked for, given that the tags are equal.
    @inlinable func matches(_ probe: ByteMapKey, _ key: ByteView) -> Bool {
        if !isLong { return first == probe.first && second == probe.second && third == probe.third }
        return ByteView(start: UnsafeRawPointer(bitPattern: UInt(first)), count: Int(second)).equals(key)
    }

    /// The key to store: a long one gets its block.
    @inlinable func owning(_ key: ByteView) -> ByteMapKey {
        guard isLong, let source = key.baseAddress else { return self }
        let block = UnsafeMutableRawPointer.allocate(byteCount: key.count, alignment: 8)
        block.copyMemory(from: source, byteCount: key.count)
        var stored = self
        stored.first = UInt64(UInt(bitPattern: block))
        stored.second = UInt64(key.count)
        return stored
    }

    @inlinable func free() {
        if isLong { UnsafeMutableRawPointer(bitPattern: UInt(first))?.deallocate() }
    }

    /// The bytes of the key stored at `address`.
    @inlinable static func view(_ address: UnsafeRawPointer) -> ByteView {
        let code = address.load(as: UInt64.self) & 63
        if code != longCode { return ByteView(start: address + 8, count: Int(code) &- 1) }
        let block = UnsafeRawPointer(bitPattern: UInt(address.load(fromByteOffset: 8, as: UInt64.self)))
        return ByteView(start: block, count: Int(address.load(fromByteOffset: 16, as: UInt64.self)))
    }
}
