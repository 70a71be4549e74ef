import Base
import Contracts
import DataModel

// HSCAN: like SCAN, the committed fields in hash order with the pending ones laid over them.

extension ActorRuntime {
    /// Calls `body` with the fields from a hash on, in the order of (hash, name), until it answers false.
    func scanFields(
        _ activation: Activation, _ state: HashState, from hash: UInt32, _ body: (UInt32, ByteView, ByteView) -> Bool
    ) throws(DatabaseError) {
        var overlay: [(hash: UInt32, name: Bytes)] = []
        for name in state.pending {
            let its = name.withUnsafeBytes { NativeKeyLayout.hash32($0) }
            if its >= hash { overlay.append((its, name)) }
        }
        overlay.sort { $0.hash != $1.hash ? $0.hash < $1.hash : $0.name.lexicographicallyPrecedes($1.name) }
        var next = 0
        var isStopped = false
        func show() {
            let item = overlay[next]
            next += 1
            item.name.withUnsafeBytes { name in
                guard let slot = state.fields.index(of: name) else { return }
                let field = state.fields.value(at: slot)
                if field.isPresent { field.value.withUnsafeBytes { isStopped = !body(item.hash, name, $0) } }
            }
        }
        try scanStoredFields(activation.bucket, activation.generation, from: hash) { hash, name, value in
            while next < overlay.count, !isStopped {
                let item = overlay[next]
                guard item.hash != hash ? item.hash < hash : item.name.lexicographicallyPrecedes(name) else { break }
                show()
            }
            guard !isStopped else { return false }
            if next < overlay.count, overlay[next].name.withUnsafeBytes({ $0.equals(name) }) {
                show()
            } else {
                isStopped = !body(hash, name, value)
            }
            return !isStopped
        }
        while next < overlay.count, !isStopped { show() }
    }

    func hashScan(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let count = Int(max(1, min(call.numbers[1], Int64(limits.scanCount))))
        let pattern = call.flags & 1 != 0 ? GlobPattern(call.arguments[0]) : nil
        // An HSCAN cursor is one of bucket 0.
        var start: UInt32 = 0
        if call.numbers[0] != 0 {
            guard let cursor = ScanCursor(rawValue: UInt64(bitPattern: call.numbers[0])) else { throw Failure.cursor }
            start = cursor.hash
        }
        var found: [(name: Bytes, value: Bytes)] = []
        var cursor: ScanCursor?
        if let hash = try visible(call.database, call.key) {
            guard let state = hash.fields else { throw Failure.wrongType }
            let accepts: (ByteView) -> Bool = { pattern?.matches($0) ?? true }
            if state.isComplete, state.count <= 128 {
                // Whole and at once, as Redis does with a listpack.
                state.fields.forEach { name, field in
                    if field.isPresent, accepts(name) { found.append((name.bytes, field.value)) }
                }
            } else {
                var seen = 0
                var last: UInt32?
                try scanFields(hash, state, from: start) { its, name, value in
                    if seen >= count, its != last {
                        cursor = ScanCursor(bucket: BucketID(rawValue: 0), hash: last ?? its).next(bucketCount: 1)
                        return false
                    }
                    seen += 1
                    last = its
                    if accepts(name) { found.append((name.bytes, value.bytes)) }
                    return true
                }
            }
        }
        reply.beginList()
        reply.item(Bytes(String(cursor?.rawValue ?? 0).utf8))
        for item in found {
            reply.item(item.name)
            reply.item(item.value)
        }
        reply.encoder.endList()
    }
}
