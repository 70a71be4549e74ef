import Base
import Contracts
import DataModel

// Whole values on their way from one shard to another: RENAME and COPY whose keys are not on the same one.
//
// Who moves a value reads it with its version, and puts it in place together with the condition that the version still
// holds. A dump is never larger than what `install` takes.

extension ActorRuntime {
    /// What a dump's parts are called in `Method.dump`.
    private enum Part {
        static let string: Int64 = 1, hash: Int64 = 2
        static let isNotCompact: Int64 = 1
    }

    func dump(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let found = try activation(call.database, call.key), isHash = found.kind == .hash
        var items: [(name: Bytes, value: Bytes)] = []
        let hasValue = found.isVisible(at: now) && call.flags & 2 == 0 && (call.flags & 1 == 0 || !isHash)
        if hasValue {
            if isHash { items = try allFields(found) }
            try allowEffects(isHash ? Self.transferSize(items) : found.bytes.count)
        }
        reply.beginList()
        reply.encoder.listInteger(Int64(bitPattern: version(of: found)))
        guard found.isVisible(at: now) else { return reply.encoder.endList() }
        let isNotCompact = isHash ? found.fields?.isLarge ?? false : found.isRaw
        reply.encoder.listInteger(isHash ? Part.hash : Part.string)
        reply.encoder.listInteger(isNotCompact ? Part.isNotCompact : 0)
        reply.encoder.listInteger(Int64(clamping: found.expiresAt))
        if hasValue, !isHash { reply.item(found.bytes) }
        for item in items {
            reply.item(item.name)
            reply.item(item.value)
        }
        reply.encoder.endList()
    }

    func install(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let isNotCompact = call.numbers[1] & Part.isNotCompact != 0, expiresAt = call.numbers[2]
        guard call.numbers.count == 3, expiresAt >= 0 else { throw Failure.syntax }
        switch call.numbers[0] {
        case Part.string:
            guard call.arguments.count == 1 else { throw Failure.syntax }
            let value = call.arguments[0]
            guard value.count <= limits.valueBytes else { throw Failure.tooLong }
            try allowEffects(value.count)
            let target = try writable(call.database, call.key)
            drop(target)
            setString(target, value)
            target.isRaw = isNotCompact
            target.expiresAt = UInt64(expiresAt)
        case Part.hash:
            let items = try items(call.arguments), size = Self.transferSize(items)
            try allowEffects(size)
            let target = try writable(call.database, call.key)
            fill(target, items, size: size, isLarge: isNotCompact)
            target.expiresAt = UInt64(expiresAt)
        case _: throw Failure.syntax
        }
        reply.ok()
    }

    private func items(_ arguments: ViewList) throws(DatabaseError) -> [(name: Bytes, value: Bytes)] {
        guard arguments.count > 0, arguments.count % 2 == 0 else { throw Failure.syntax }
        var items: [(name: Bytes, value: Bytes)] = []
        items.reserveCapacity(arguments.count / 2)
        for position in stride(from: 0, to: arguments.count, by: 2) {
            guard arguments[position].count <= limits.keyBytes else { throw Failure.fieldTooLong }
            guard arguments[position + 1].count <= limits.valueBytes else { throw Failure.tooLong }
            items.append((arguments[position].bytes, arguments[position + 1].bytes))
        }
        return items
    }

    /// What the fields of a hash add to an entry when it is written anew.
    static func transferSize(_ items: [(name: Bytes, value: Bytes)]) -> Int {
        items.reduce(0) { $0 + $1.value.count + 2 * $1.name.count + 64 }
    }

    /// Makes a key a hash of these fields; what it held goes. A field that comes twice has its last value.
    func fill(_ target: Activation, _ items: [(name: Bytes, value: Bytes)], size: Int, isLarge: Bool) {
        drop(target)
        create(target, .hash)
        let state = HashState()
        for item in items {
            item.name.withUnsafeBytes { name in
                let slot = state.fields.slot(for: name) { HashField() }
                item.value.withUnsafeBytes { state.assign($0, at: slot) }
                state.markChanged(slot, entryIndex)
            }
        }
        state.count = state.fields.count
        // A hash that was made for this says so of itself, and not only what the fields show.
        state.isLarge = state.isLarge || isLarge
        target.fields = state
        changed(target, bytes: size)
    }

    /// Why a value from another shard could not be put in place, once.
    package func takeBrokenTransfer() -> DatabaseError? {
        guard let error = brokenTransfer else { return nil }
        brokenTransfer = nil
        return error
    }

    /// Forgets what memory knows of every key, unless an entry brings it that is not committed.
    package func forgetCommitted() {
        for activation in ring where mayLeave(activation) { remove(activation) }
    }
}
