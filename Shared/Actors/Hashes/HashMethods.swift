import Base
import Contracts
import DataModel

// Hashes: HSET, HGET and their kin.

extension ActorRuntime {
    /// The hash of a key for readers; nil if there is no such key, an error if it is of another type.
    private func readableHash(_ call: ActorCallView) throws(DatabaseError) -> (Activation, HashState)? {
        guard let found = try visible(call.database, call.key) else { return nil }
        guard let fields = found.fields else { throw Failure.wrongType }
        trimIfDue(found, fields)
        return (found, fields)
    }

    /// Between two calls only: a call relies on the fields that it has looked up.
    private func trimIfDue(_ activation: Activation, _ state: HashState) {
        guard !state.isComplete, state.fields.count >= limits.cachedFields else { return }
        state.settle(committed)
        state.trim()
        recharge(activation)
    }

    /// The activation of a key that holds a hash or nothing, about to be changed.
    private func writableHash(_ call: ActorCallView) throws(DatabaseError) -> Activation {
        let found = try writable(call.database, call.key)
        guard found.kind != .string else { throw Failure.wrongType }
        if let fields = found.fields { trimIfDue(found, fields) }
        return found
    }

    /// The fields of a hash, made when the key is absent.
    private func ensureFields(_ activation: Activation) -> HashState {
        if let fields = activation.fields { return fields }
        create(activation, .hash)
        let fields = HashState()
        activation.fields = fields
        return fields
    }

    /// Where memory knows a field, after reading it if the hash is not in memory whole. Nil: there is no such field.
    private func locate(
        _ activation: Activation, _ state: HashState, _ name: ByteView
    ) throws(DatabaseError) -> Int? {
        if let slot = state.fields.index(of: name) { return slot }
        guard !state.isComplete else { return nil }
        keyBuffer.removeAll()
        NativeKeyLayout.appendHashField(
            activation.bucket, generation: activation.generation, field: name, into: &keyBuffer)
        let stored = try reader.get(keyBuffer.readable)
        let slot = state.fields.slot(for: name) { HashField() }
        if let stored {
            stored.withUnsafeBytes { state.assign($0, at: slot) }
            state.fields.withValue(at: slot) { $0.isStored = true }
        }
        recharge(activation)
        return slot
    }

    /// The value of a field, or nil.
    private func value(
        _ activation: Activation, _ state: HashState, _ name: ByteView
    ) throws(DatabaseError) -> Bytes? {
        guard let slot = try locate(activation, state, name) else { return nil }
        let field = state.fields.value(at: slot)
        return field.isPresent ? field.value : nil
    }

    /// Sets a field that was looked up before. Returns whether it is new.
    private func setField(
        _ activation: Activation, _ state: HashState, _ name: ByteView, _ value: ByteView
    ) -> Bool {
        let slot = state.fields.slot(for: name) { HashField() }
        let isNew = !state.fields.value(at: slot).isPresent
        state.assign(value, at: slot)
        if isNew {
            state.count += 1
            if name.count > 64 || state.count > 128 { state.isLarge = true }
        }
        state.markChanged(slot, entryIndex)
        changed(activation, bytes: value.count + 2 * name.count + 48)
        return isNew
    }

    func hashSet(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let arguments = call.arguments
        guard arguments.count > 0, arguments.count % 2 == 0 else { throw Failure.syntax }
        var size = 0
        for position in stride(from: 0, to: arguments.count, by: 2) {
            guard arguments[position].count <= limits.keyBytes else { throw Failure.fieldTooLong }
            guard arguments[position + 1].count <= limits.valueBytes else { throw Failure.tooLong }
            size += arguments[position + 1].count + 2 * arguments[position].count + 48
        }
        try allowEffects(size)
        let found = try writableHash(call)
        if let state = found.fields {
            if !state.isComplete {
                for position in stride(from: 0, to: arguments.count, by: 2) {
                    _ = try locate(found, state, arguments[position])
                }
            }
            if call.flags & 1 != 0, try value(found, state, arguments[0]) != nil { return reply.integer(0) }
        }
        let state = ensureFields(found)
        var added = 0
        for position in stride(from: 0, to: arguments.count, by: 2)
        where setField(found, state, arguments[position], arguments[position + 1]) {
            added += 1
        }
        reply.integer(added)
    }

    func hashGet(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard let (found, state) = try readableHash(call), let value = try value(found, state, call.arguments[0]) else {
            return reply.null()
        }
        reply.data(value)
    }

    func hashMultiGet(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let hash = try readableHash(call)
        var values: [Bytes?] = []
        var size = 0
        for position in 0..<call.arguments.count {
            var item: Bytes?
            if let (found, state) = hash { item = try value(found, state, call.arguments[position]) }
            size += item?.count ?? 0
            values.append(item)
        }
        guard size <= limits.replyBytes else { throw Failure.replyTooLarge }
        reply.beginList()
        for value in values {
            if let value { reply.item(value) } else { reply.encoder.listNull() }
        }
        reply.encoder.endList()
    }

    func hashLength(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        reply.integer(try readableHash(call)?.1.count ?? 0)
    }

    func hashExists(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard let (found, state) = try readableHash(call) else { return reply.integer(0) }
        reply.integer(try value(found, state, call.arguments[0]) == nil ? 0 : 1)
    }

    func hashStringLength(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard let (found, state) = try readableHash(call) else { return reply.integer(0) }
        reply.integer(try value(found, state, call.arguments[0])?.count ?? 0)
    }

    func hashDelete(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let found = try writableHash(call)
        guard let state = found.fields else { return reply.integer(0) }
        for position in 0..<call.arguments.count { _ = try locate(found, state, call.arguments[position]) }
        var removed = 0
        for position in 0..<call.arguments.count {
            let name = call.arguments[position]
            guard let slot = state.fields.index(of: name), state.fields.value(at: slot).isPresent else { continue }
            removed += 1
            state.count -= 1
            state.clear(at: slot)
            state.markChanged(slot, entryIndex)
            changed(found, bytes: 2 * name.count + 48)
        }
        if state.count <= 0, removed > 0 { drop(found) }
        reply.integer(removed)
    }

    func hashIncrementBy(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let name = call.arguments[0]
        guard name.count <= limits.keyBytes else { throw Failure.fieldTooLong }
        let found = try writableHash(call)
        var total: Int64 = 0
        if let state = found.fields, let old = try value(found, state, name) {
            guard let number = old.withUnsafeBytes({ decimalInteger($0) }) else { throw Failure.hashNotAnInteger }
            total = number
        }
        let (sum, overflow) = total.addingReportingOverflow(call.numbers[0])
        guard !overflow else { throw Failure.overflow }
        let state = ensureFields(found)
        decimalBytes(sum).withUnsafeBytes { _ = setField(found, state, name, $0) }
        reply.integer(sum)
    }

    func hashIncrementByFloat(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let name = call.arguments[0]
        guard name.count <= limits.keyBytes else { throw Failure.fieldTooLong }
        guard let increment = parseLongDouble(call.arguments[1]) else { throw Failure.notAFloat }
        guard increment.isFinite else { throw Failure.incrementNotFinite }
        let found = try writableHash(call)
        var total: LongDouble = 0
        if let state = found.fields, let old = try value(found, state, name) {
            guard let number = old.withUnsafeBytes({ parseLongDouble($0) }) else { throw Failure.hashNotAFloat }
            total = number
        }
        total += increment
        guard total.isFinite else { throw Failure.notFinite }
        let state = ensureFields(found)
        let text = formatLongDouble(total)
        text.withUnsafeBytes { _ = setField(found, state, name, $0) }
        reply.data(text)
    }

    // MARK: Many fields

    func hashItems(
        _ call: ActorCallView, _ reply: Reply, fields: Bool, values: Bool
    ) throws(DatabaseError) {
        guard let (found, state) = try readableHash(call) else {
            reply.beginList()
            return reply.encoder.endList()
        }
        guard state.isComplete else {
            let items = try allFields(found)
            reply.beginList()
            for item in items {
                if fields { reply.item(item.name) }
                if values { reply.item(item.value) }
            }
            return reply.encoder.endList()
        }
        guard state.memorySize <= limits.replyBytes else { throw Failure.replyTooLarge }
        reply.beginList()
        state.fields.forEach { name, field in
            guard field.isPresent else { return }
            if fields { reply.encoder.listData(name) }
            if values { reply.item(field.value) }
        }
        reply.encoder.endList()
    }

    /// Every field with its value, in hash order or none.
    func allFields(_ activation: Activation) throws(DatabaseError) -> [(name: Bytes, value: Bytes)] {
        guard let state = activation.fields else { return [] }
        var items: [(name: Bytes, value: Bytes)] = []
        items.reserveCapacity(state.count)
        if state.isComplete {
            state.fields.forEach { name, field in
                if field.isPresent { items.append((name.bytes, field.value)) }
            }
            return items
        }
        var size = 0
        try scanFields(activation, state, from: 0) { _, name, value in
            items.append((name.bytes, value.bytes))
            size += name.count + value.count + 32
            return size <= limits.replyBytes
        }
        guard size <= limits.replyBytes else { throw Failure.replyTooLarge }
        return items
    }

    func hashRandomField(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let hash = try readableHash(call)
        guard call.flags & 1 != 0 else {
            guard let (found, state) = hash, let item = try randomField(found, state) else { return reply.null() }
            return reply.data(item.name)
        }
        let count = call.numbers[0], withValues = call.flags & 2 != 0
        var items: [(name: Bytes, value: Bytes)] = []
        if let (found, state) = hash, count < 0 {
            items = try repeatedFields(found, state, count.magnitude, withValues)
        } else if let (found, _) = hash, count > 0 {
            items = try allFields(found)
            let wanted = min(items.count, Int(clamping: count))
            if wanted < items.count {
                for position in 0..<wanted {
                    let other = position + Int(random.next(below: UInt64(items.count - position)))
                    items.swapAt(position, other)
                }
                items.removeSubrange(wanted...)
            }
        }
        reply.beginList()
        for item in items {
            reply.item(item.name)
            if withValues { reply.item(item.value) }
        }
        reply.encoder.endList()
    }

    /// Fields chosen one by one, each time among all.
    private func repeatedFields(
        _ activation: Activation, _ state: HashState, _ count: UInt64, _ withValues: Bool
    ) throws(DatabaseError) -> [(name: Bytes, value: Bytes)] {
        guard count <= UInt64(limits.replyBytes / 16) else { throw Failure.outOfRange }
        // Where choosing is slow, it is done from a copy.
        let pool = count > 64 && !isQuick(state) ? try allFields(activation) : []
        var items: [(name: Bytes, value: Bytes)] = []
        var size = 0
        for _ in 0..<count {
            let chosen =
                pool.isEmpty
                ? try randomField(activation, state) : pool[Int(random.next(below: UInt64(pool.count)))]
            guard let chosen else { break }
            size += chosen.name.count + (withValues ? chosen.value.count : 0) + 16
            guard size <= limits.replyBytes else { throw Failure.replyTooLarge }
            items.append(chosen)
        }
        return items
    }

    /// Absent fields are remembered for a while; if they are many, picking would take long.
    private func isQuick(_ state: HashState) -> Bool { state.isComplete && state.fields.count <= 2 * state.count }

    /// A field chosen evenly among those in memory; of a hash that is not in memory whole, the next after a random
    /// hash.
    private func randomField(
        _ activation: Activation, _ state: HashState
    ) throws(DatabaseError) -> (name: Bytes, value: Bytes)? {
        guard state.count > 0 else { return nil }
        if isQuick(state) {
            while let slot = state.fields.randomIndex(using: &random) {
                let field = state.fields.value(at: slot)
                if field.isPresent { return (state.fields.key(at: slot).bytes, field.value) }
            }
            return nil
        }
        if state.isComplete {
            let items = try allFields(activation)
            return items.isEmpty ? nil : items[Int(random.next(below: UInt64(items.count)))]
        }
        var found: (name: Bytes, value: Bytes)?
        for hash in [UInt32(truncatingIfNeeded: random.next()), 0] where found == nil {
            try scanFields(activation, state, from: hash) { _, name, value in
                found = (name.bytes, value.bytes)
                return false
            }
        }
        return found
    }
}
