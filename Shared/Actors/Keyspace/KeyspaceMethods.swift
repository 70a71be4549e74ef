import Base
import Contracts
import DataModel

// Keys of any type: DEL, EXPIRE, RENAME and their kin.

extension ActorRuntime {
    func delete(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        // All are looked up before the first is deleted: an error leaves nothing half done.
        var found = [try writable(call.database, call.key)]
        for position in 0..<call.arguments.count {
            found.append(try writable(call.database, call.arguments[position]))
        }
        var count = 0
        for item in found where item.kind != .absent {
            count += 1
            drop(item)
        }
        reply.integer(count)
    }

    func exists(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        var count = try visible(call.database, call.key) == nil ? 0 : 1
        for position in 0..<call.arguments.count where try visible(call.database, call.arguments[position]) != nil {
            count += 1
        }
        reply.integer(count)
    }

    func type(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        switch try visible(call.database, call.key)?.kind ?? .absent {
        case .absent: reply.data("none")
        case .string: reply.data(NativeType.string.name)
        case .hash, .row: reply.data(NativeType.hash.name)
        }
    }

    // MARK: Time to live

    func expire(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let flags = ExpireFlags(rawValue: call.flags)
        var time = call.numbers[0]
        if flags.contains(.relativeTime) {
            let (sum, overflow) = time.addingReportingOverflow(Int64(clamping: now))
            guard !overflow else { throw Failure.expireTime("expire") }
            time = sum
        }
        let found = try writable(call.database, call.key)
        guard found.kind != .absent else { return reply.integer(0) }
        let current = found.expiresAt
        let isRefused =
            (flags.contains(.ifWithout) && current != 0)
            || (flags.contains(.ifWith) && current == 0)
            || (flags.contains(.ifGreater) && (current == 0 || time <= Int64(clamping: current)))
            || (flags.contains(.ifLess) && current != 0 && time >= Int64(clamping: current))
        guard !isRefused else { return reply.integer(0) }
        if time <= Int64(clamping: now) {
            drop(found)
        } else {
            setExpiry(found, UInt64(time))
        }
        reply.integer(1)
    }

    func persist(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let found = try writable(call.database, call.key)
        guard found.kind != .absent, found.expiresAt != 0 else { return reply.integer(0) }
        setExpiry(found, 0)
        reply.integer(1)
    }

    func timeToLive(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard let found = try visible(call.database, call.key) else { return reply.integer(-2) }
        reply.integer(found.expiresAt == 0 ? -1 : Int64(clamping: found.expiresAt - now))
    }

    func expireTime(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard let found = try visible(call.database, call.key) else { return reply.integer(-2) }
        reply.integer(found.expiresAt == 0 ? -1 : Int64(clamping: found.expiresAt))
    }

    // MARK: Moving and copying

    func rename(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let source = try writable(call.database, call.key)
        guard source.kind != .absent else { throw Failure.noSuchKey }
        let onlyIfAbsent = call.flags & 1 != 0
        let target = try writable(call.database, call.arguments[0])
        if source === target { return onlyIfAbsent ? reply.integer(0) : reply.ok() }
        if onlyIfAbsent, target.kind != .absent { return reply.integer(0) }
        try transfer(source, to: target)
        if onlyIfAbsent { reply.integer(1) } else { reply.ok() }
    }

    func move(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let destination = try database(call.numbers[0])
        guard destination != call.database else { throw Failure.sameObject }
        let source = try writable(call.database, call.key)
        guard source.kind != .absent else { return reply.integer(0) }
        let target = try writable(destination, call.key)
        guard target.kind == .absent else { return reply.integer(0) }
        try transfer(source, to: target)
        reply.integer(1)
    }

    func copy(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let destination = call.numbers[0] == -1 ? call.database : try database(call.numbers[0])
        if destination == call.database, call.key.equals(call.arguments[0]) { throw Failure.sameObject }
        guard let source = try visible(call.database, call.key) else { return reply.integer(0) }
        let target = try writable(destination, call.arguments[0])
        guard target.kind == .absent || call.flags & 1 != 0 else { return reply.integer(0) }
        try duplicate(source, to: target)
        reply.integer(1)
    }

    private func database(_ number: Int64) throws(DatabaseError) -> UInt8 {
        guard number >= 0, number < Int64(KeyCounters.databases) else { throw Failure.database }
        return UInt8(number)
    }

    /// Moves a value with its expiry; what the target held goes. In one bucket its sub-records stay where they are.
    private func transfer(_ source: Activation, to target: Activation) throws(DatabaseError) {
        guard source.bucket == target.bucket else {
            try duplicate(source, to: target)
            return drop(source)
        }
        drop(target)
        create(target, source.kind)
        target.generation = source.generation
        target.hasStoredParts = source.hasStoredParts
        target.bytes = source.bytes
        target.fields = source.fields
        target.isRaw = source.isRaw
        target.expiresAt = source.expiresAt
        target.dirtyChunks = source.dirtyChunks
        // The sub-records have gone over with the generation: nothing is left to retire.
        source.hasStoredParts = false
        drop(source)
        changed(target, bytes: target.isChunked ? 0 : target.bytes.count)
    }

    /// Gives the target a copy of a value with its expiry; what the target held goes.
    private func duplicate(_ source: Activation, to target: Activation) throws(DatabaseError) {
        if source.kind == .hash {
            let items = try allFields(source)
            let size = Self.transferSize(items)
            try allowEffects(size)
            fill(target, items, size: size, isLarge: source.fields?.isLarge ?? false)
        } else {
            try allowEffects(source.bytes.count)
            drop(target)
            setString(target, source.bytes)
            target.isRaw = source.isRaw
        }
        target.expiresAt = source.expiresAt
    }

    // MARK: Databases

    func databaseSize(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard hasExactCounters else { return reply.integer(try countKeys(call.database)) }
        try loadCounters()
        newest = max(newest, counters.changedIndex[Int(call.database)])
        reply.integer(counters.totals[Int(call.database)])
    }

    /// Looks at every key.
    private func countKeys(_ database: UInt8) throws(DatabaseError) -> Int {
        var count = 0
        for bucket in buckets {
            try scanKeys(bucket, database, from: 0) { _ in
                count += 1
                return true
            }
        }
        return count
    }

    func flushDatabase(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        try loadCounters()
        flush(Int(call.database)..<Int(call.database) + 1)
        reply.ok()
    }

    func flushAll(_ reply: Reply) throws(DatabaseError) {
        try loadCounters()
        flush(0..<KeyCounters.databases)
        reply.ok()
    }

    // MARK: What is known of a key

    func objectEncoding(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard let found = try visible(call.database, call.key) else { return reply.null() }
        if let fields = found.fields {
            return fields.isLarge || fields.count > 128 ? reply.data("hashtable") : reply.data("listpack")
        }
        if !found.isRaw, found.bytes.withUnsafeBytes({ decimalInteger($0) }) != nil { return reply.data("int") }
        return !found.isRaw && found.bytes.count <= 44 ? reply.data("embstr") : reply.data("raw")
    }

    func objectIdleTime(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        // Asking is not using.
        lookupKey.removeAll()
        lookupKey.append(call.database)
        lookupKey.append(call.key)
        let before = table.value(for: lookupKey.readable)?.lastUsed
        guard let found = try visible(call.database, call.key) else { return reply.null() }
        let lastUsed = before ?? found.updated.milliseconds
        found.lastUsed = min(found.lastUsed, lastUsed)
        reply.integer(now > lastUsed ? Int64(clamping: (now - lastUsed) / 1000) : 0)
    }

    func memoryUsage(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard let found = try visible(call.database, call.key) else { return reply.null() }
        reply.integer(found.cost)
    }
}
