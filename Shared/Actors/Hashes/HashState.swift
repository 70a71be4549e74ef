import Base
import DataModel

/// One field as memory knows it. `isPresent` false: known to be absent.
struct HashField {
    var value: Bytes = []
    var isPresent = false
    /// Whether the store holds it once all finished entries are applied.
    var isStored = false
    /// In `HashState.dirty`, and in `HashState.pending`.
    var isDirty = false, isPending = false
    var pendingIndex = LogIndex.zero
}

/// The fields of an activated hash.
///
/// A complete one knows every field. One that was too large to be read whole knows the fields that were asked for, and
/// that were changed; the others are in the store. What is not committed never leaves.
final class HashState {
    var fields = ByteMap<HashField>()
    /// Fields that exist, known or not.
    var count = 0
    var isComplete = true
    /// Whether it was ever large in the sense of Redis' `hash-max-listpack`: OBJECT ENCODING does not go back.
    var isLarge = false
    /// Fields changed by the entry being built.
    var dirty: [Bytes] = []
    /// Fields whose last change may not be committed: a scan of the store takes them from here.
    var pending: [Bytes] = []
    /// Bytes of the values known.
    var valueBytes = 0
    private var settleAt = 1024

    var memorySize: Int { 160 &+ fields.memorySize &+ valueBytes &+ fields.count &* 32 }

    /// Declares the field at `slot` changed by the entry with `index`.
    func markChanged(_ slot: Int, _ index: LogIndex) {
        let (wasDirty, wasPending) = fields.withValue(at: slot) { field in
            let was = (field.isDirty, field.isPending)
            field.isDirty = true
            field.isPending = true
            field.pendingIndex = index
            return was
        }
        guard !wasDirty || !wasPending else { return }
        let name = fields.key(at: slot).bytes
        if !wasDirty { dirty.append(name) }
        if !wasPending { pending.append(name) }
    }

    /// Sets a present value at `slot`; the caller keeps `count`.
    func assign(_ value: ByteView, at slot: Int) {
        let old = fields.withValue(at: slot) { field in
            let old = field.value.count
            field.value = Bytes(value)
            field.isPresent = true
            return old
        }
        valueBytes += value.count - old
        if value.count > 64 { isLarge = true }
    }

    /// Makes the field at `slot` absent; the caller keeps `count`.
    func clear(at slot: Int) {
        valueBytes -= fields.withValue(at: slot) { field in
            let old = field.value.count
            field.value = []
            field.isPresent = false
            return old
        }
    }

    /// Forgets that fields are pending whose change is committed, and with it the absent ones.
    func settle(_ committed: LogIndex) {
        var kept: [Bytes] = []
        for name in pending {
            name.withUnsafeBytes { view in
                guard let slot = fields.index(of: view) else { return }
                let field = fields.value(at: slot)
                if field.pendingIndex > committed || field.isDirty {
                    kept.append(name)
                } else if !field.isPresent, isComplete {
                    fields.remove(at: slot)
                } else {
                    fields.withValue(at: slot) { $0.isPending = false }
                }
            }
        }
        pending = kept
        settleAt = max(1024, kept.count * 2)
    }

    /// Settles when that has become worth its cost: a hash that is written all the time is always pending.
    func settleIfDue(_ committed: LogIndex) {
        if pending.count >= settleAt { settle(committed) }
    }

    /// Drops fields that the store has too.
    func trim() {
        var kept = ByteMap<HashField>()
        var bytes = 0
        fields.forEach { name, field in
            guard field.isPending || field.isDirty else { return }
            kept.insert(key: name, field)
            bytes += field.value.count
        }
        swap(&fields, &kept)
        valueBytes = bytes
    }
}
