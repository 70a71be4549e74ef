import Base
import Contracts

/// The bytes of batches that were sent and hold calls without an answer, oldest first.
///
/// Invariant: ids rise from batch to batch; a batch goes when everything in it is answered or given up.
struct SentBatches: ~Copyable {
    private final class Batch {
        var bytes = ByteBuffer(capacity: 16384)
        /// Behind its last call.
        var end: UInt64 = 0
        var route: UInt64 = 0
    }

    private var batches: [Batch] = []
    private var first = 0
    private var spare: [Batch] = []
    private let decoder = InvocationBatchDecoder()

    /// Takes over the bytes of a batch that has left, and empties it. `oldest` is the oldest call without an answer.
    mutating func keep(
        _ batch: inout InvocationBatchEncoder, until end: UInt64, route: UInt64, oldest: UInt64
    ) {
        while first < batches.count, batches[first].end <= oldest {
            let done = batches[first]
            first += 1
            guard spare.count < 8 else { continue }
            done.bytes.removeAll()
            done.bytes.trim(to: 1 << 20)
            spare.append(done)
        }
        if first == batches.count || first > 64 {
            batches.removeFirst(first)
            first = 0
        }
        let kept = spare.popLast() ?? Batch()
        batch.swapBytes(with: &kept.bytes)
        (kept.end, kept.route) = (end, route)
        batches.append(kept)
    }

    /// The bytes of the batch that was kept last.
    var newest: ByteView { batches.last?.bytes.readable ?? ByteView(start: nil, count: 0) }

    mutating func removeAll() {
        batches.removeAll(keepingCapacity: true)
        first = 0
    }

    /// The call with that id: the route of its batch, its bytes without the id, and its slot.
    func find(_ id: UInt64) -> (route: UInt64, body: Bytes, slot: UInt32)? {
        for batch in batches[first...] where id < batch.end {
            var found: (route: UInt64, body: Bytes, slot: UInt32)?
            forEach(in: batch.bytes.readable, from: id) { other, body, slot in
                if other == id { found = (batch.route, body, slot) }
            }
            return found
        }
        return nil
    }

    /// Shows the call with that id to `body`; false when it is not there, or `body` says so.
    func withCall(_ id: UInt64, _ body: (borrowing InvocationView) -> Bool) -> Bool {
        for batch in batches[first...] where id < batch.end {
            var answer = false
            try? decoder.decode(batch.bytes.readable) { if $0.id == id { answer = body($0) } }  // Our own bytes.
            return answer
        }
        return false
    }

    /// Whether some call of these batches, or of `unsent`, is one that is looked for.
    func contains(unsent: ByteView, where isMeant: (_ id: UInt64, _ slot: UInt32) -> Bool) -> Bool {
        var isFound = false
        func look(through batch: ByteView) {
            try? decoder.decode(batch) { if !isFound { isFound = isMeant($0.id, $0.slot) } }
        }
        look(through: unsent)
        for batch in batches[first...] where !isFound { look(through: batch.bytes.readable) }
        return isFound
    }

    /// The calls of a batch that this process has encoded.
    func forEach(
        in batch: ByteView, from id: UInt64 = 0, _ body: (_ id: UInt64, _ body: Bytes, _ slot: UInt32) -> Void
    ) {
        // Our own bytes: they decode.
        try? decoder.decode(batch) { if $0.id >= id { body($0.id, $0.body.bytes, $0.slot) } }
    }
}

/// A call that has not been done and may still be: it waits for its shard to have a leader.
struct ParkedCall {
    /// Under which it was sent last: the order in which calls of one stream were made.
    var id: UInt64
    var receiver: any ReplyReceiver
    var ticket: UInt64
    var isWrite: Bool
    var slot: UInt32
    /// The encoded invocation without its id.
    var body: Bytes
    /// Loop time when it was made first, in nanoseconds.
    var madeAt: UInt64
}
