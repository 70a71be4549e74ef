import Base
import Contracts

// What commands do to keys, by the names of Redis (keyspace notifications): recorded only while somebody listens.
//
// A call is looked at from outside, before and after, rather than in the methods: so those cost the same as if there
// were none of this. What was recorded goes into the entry with the effects of the calls, as a note: it is told if and
// only if the entry is committed, and a transaction's with its part.

extension ActorRuntime {
    /// Bytes of events that an entry takes; what comes beyond is not told. The log takes 16 MiB, effects come first.
    static let eventLimit = 1 << 20

    /// Whether events are recorded. It costs nothing while it is off: `evaluate` looks at one number in either case.
    package var recordsEvents: Bool {
        get { isRecording }
        set {
            isRecording = newValue
            attentionMark = newValue ? -1 : limits.memoryBytes
        }
    }

    /// Memory is full, or events are recorded. True: the call has been evaluated.
    @inline(never) func takesAttention(_ call: ActorCallView, _ id: UInt64, _ replies: ReplyBatchEncoder) -> Bool {
        if memoryUsed > limits.memoryBytes { evict(steps: 16) }
        guard isRecording, call.method.isWrite, !call.method.isKeyless, isOfKeys(call.database) else { return false }
        let before = KeyStates(call, self), mark = replies.size
        do throws(DatabaseError) {
            try dispatch(call, Reply(id: id, encoder: replies))
        } catch {
            if isWhole || call.method == .install { brokenTransfer = error }
            replies.error(id, error)
            return true
        }
        var decoder = ReplyBatchDecoder(), answer: Int64?
        // Our own bytes: they decode.
        try? decoder.decode(replies.tail(from: mark)) { answer = $0.kind == .integer ? $0.integer : nil }
        record(call, before, answer)
        return true
    }

    /// Records of collections have no events.
    private func isOfKeys(_ database: UInt8) -> Bool { Int(database) < KeyCounters.databases }

    /// Notes what was done to a key.
    func record(_ events: [KeyEvent], _ database: UInt8, _ key: ByteView) {
        guard isRecording, isOfKeys(database), eventBuffer.count < Self.eventLimit else { return }
        // Something for the entry, if nothing else is.
        if eventBuffer.isEmpty { deferred.append(.note([])) }
        let count = eventBuffer.count
        KeyEvents.append(events, database, key, to: &eventBuffer)
        entryBytes &+= eventBuffer.count &- count
        newest = entryIndex
    }

    private func record(_ call: ActorCallView, _ before: KeyStates, _ answer: Int64?) {
        let first = before[0]
        func note(_ events: KeyEvent...) {
            record(first.exists ? events : [.new] + events, call.database, call.key)
        }
        switch call.method {
        case .delete: recordDeletions(call, before)
        case .expire: if answer == 1 { note(isPresent(first) ? .expire : .delete) }
        case .persist: if answer == 1 { note(.persist) }
        case .rename, .move, .copy, .install: recordTransfer(call, answer)
        case .set: recordSet(call, first)
        case .getDelete: if first.exists { note(.delete) }
        case .getExpire: recordGetExpire(call, first)
        case .append: note(.append)
        case .setRange: if call.arguments[0].count > 0 { note(.setRange) }
        case .incrementBy: note(.incrementBy)
        case .incrementByFloat: note(.incrementByFloat)
        case .multiSet: recordMultiSet(call, before, answer)
        case .setBit:
            if first.size <= Int(clamping: call.numbers[0] >> 3) || answer != call.numbers[1] { note(.setBit) }
        case .bitField: if let after = first.key, first.bytes != after.bytes { note(.setBit) }
        case .bitOperation, .bitOperationOfValues:
            if answer ?? 0 > 0 { note(.set) } else if first.exists { note(.delete) }
        case .hashSet: if call.flags & 1 == 0 || answer == 1 { note(.hashSet) }
        case .hashDelete:
            guard answer ?? 0 > 0 else { return }
            if isPresent(first) { note(.hashDelete) } else { note(.hashDelete, .delete) }
        case .hashIncrementBy: note(.hashIncrementBy)
        case .hashIncrementByFloat: note(.hashIncrementByFloat)
        case .flushDatabase, .flushAll, .exists, .touch, .type, .timeToLive, .expireTime, .randomKey, .scan, .keys,
            .databaseSize, .objectEncoding, .objectIdleTime, .memoryUsage, .version, .dump, .get, .stringLength,
            .getRange, .multiGet, .longestCommonSubsequence, .getBit, .bitCount, .bitPosition,
            .longestCommonSubsequenceOfValues, .hashGet, .hashMultiGet, .hashGetAll, .hashKeys, .hashValues,
            .hashLength, .hashExists, .hashStringLength, .hashRandomField, .hashScan, .rowGet, .rowPut, .rowDelete,
            .rowScan, .schemaPut, .schemaDrop, .schemaRead, .sequenceNext, .sequenceSet, .rowQuery,
            .rowModify, .rowFragment:
            break
        }
    }

    private func isPresent(_ state: KeyState) -> Bool { state.key?.isVisible(at: now) ?? false }

    /// DEL; flag 1: half of a RENAME over shards.
    private func recordDeletions(_ call: ActorCallView, _ before: KeyStates) {
        var position = 0, gone: Set<ObjectIdentifier> = []
        call.forEachKey { database, key in
            let state = before[position]
            position += 1
            guard state.exists, let found = state.key, gone.insert(ObjectIdentifier(found)).inserted else { return }
            record([call.flags & 1 == 0 ? .delete : .renameFrom], database, key)
        }
    }

    private func recordSet(_ call: ActorCallView, _ before: KeyState) {
        let flags = SetFlags(rawValue: call.flags)
        if before.exists ? flags.contains(.ifAbsent) : flags.contains(.ifPresent) { return }
        var events: [KeyEvent] = before.exists ? [.set] : [.new, .set]
        if !flags.isDisjoint(with: [.relativeTime, .absoluteTime]) { events.append(.expire) }
        if !isPresent(before) { events.append(.expired) }  // A time in the past.
        record(events, call.database, call.key)
    }

    private func recordGetExpire(_ call: ActorCallView, _ before: KeyState) {
        let flags = SetFlags(rawValue: call.flags)
        guard before.exists else { return }
        if !isPresent(before) {
            record([.delete], call.database, call.key)
        } else if !flags.isDisjoint(with: [.relativeTime, .absoluteTime]) {
            record([.expire], call.database, call.key)
        } else if flags.contains(.persist), before.expiresAt != 0 {
            record([.persist], call.database, call.key)
        }
    }

    private func recordMultiSet(_ call: ActorCallView, _ before: KeyStates, _ answer: Int64?) {
        if call.flags & 1 != 0, answer != 1 { return }
        var position = 0, made: Set<ObjectIdentifier> = []
        call.forEachKey { database, key in
            let state = before[position]
            position += 1
            let isNew = !state.exists && state.key.map { made.insert(ObjectIdentifier($0)).inserted } ?? true
            record(isNew ? [.new, .set] : [.set], database, key)
        }
    }

    /// A value has come under another name. As in Redis, what was there is removed first, and the key is new.
    private func recordTransfer(_ call: ActorCallView, _ answer: Int64?) {
        guard answer != 0 else { return }
        switch call.method {
        case .rename:
            guard !call.key.equals(call.arguments[0]) else { return }
            record([.new], call.database, call.arguments[0])
            record([.renameFrom], call.database, call.key)
            record([.renameTo], call.database, call.arguments[0])
        case .copy:
            let database = call.numbers[0] == -1 ? call.database : UInt8(truncatingIfNeeded: call.numbers[0])
            record([.new, .copyTo], database, call.arguments[0])
        case .move:
            let database = UInt8(truncatingIfNeeded: call.numbers[0])
            record([.new], database, call.key)
            record([.moveFrom], call.database, call.key)
            record([.moveTo], database, call.key)
        case _:
            // Half of a RENAME (1) or COPY (2) over shards.
            guard call.flags == 1 || call.flags == 2 else { return }
            record([.new, call.flags == 1 ? .renameTo : .copyTo], call.database, call.key)
        }
    }
}

/// What a key was before a call.
private struct KeyState {
    /// Nil if it cannot be read; the call then says why.
    var key: Activation?
    var exists = false
    var expiresAt: UInt64 = 0
    var size = 0
    /// Of a BITFIELD only.
    var bytes: Bytes = []
}

private struct KeyStates {
    private var states: [KeyState] = []

    init(_ call: ActorCallView, _ runtime: ActorRuntime) {
        call.forEachKey { database, key in
            var state = KeyState()
            state.key = try? runtime.activation(database, key)
            if let found = state.key, found.isVisible(at: runtime.now) {
                (state.exists, state.expiresAt, state.size) = (true, found.expiresAt, found.bytes.count)
                if call.method == .bitField { state.bytes = found.bytes }
            }
            states.append(state)
        }
    }

    subscript(_ position: Int) -> KeyState { position < states.count ? states[position] : KeyState() }
}
