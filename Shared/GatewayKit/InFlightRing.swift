import Base
import Contracts

/// Who is told about the outcome of a call. One object per client connection; `ticket` is its own name for the call.
package protocol ReplyReceiver: AnyObject {
    /// The reply; the view is valid during the call.
    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView)
    /// No reply will come. The error says whether the outcome is known.
    func failed(_ ticket: UInt64, _ error: DatabaseError)
    /// The shard has refused the call, and done nothing: it went by another schema, or to another place than the shard
    /// knows of. True: the receiver sees to it; false: the refusal is the reply. The view is valid during the call.
    func refusedAsStale(_ ticket: UInt64, _ call: borrowing InvocationView, _ error: DatabaseError) -> Bool
}

extension ReplyReceiver {
    package func refusedAsStale(_ ticket: UInt64, _ call: borrowing InvocationView, _ error: DatabaseError) -> Bool {
        false
    }
}

/// The calls in flight on one stream, found by id in constant time and without hashing.
///
/// Ids rise by one, so the ring is an array indexed by the low bits of the id. Replies may overtake one another: an
/// answered place stays empty until all older ones are answered too. Invariant: `oldest <= id < next` for every call in
/// flight.
struct InFlightRing {
    struct Entry {
        var receiver: any ReplyReceiver
        var ticket: UInt64
        var isWrite: Bool
        /// Loop time in nanoseconds after which the caller stops waiting.
        var deadline: UInt64
    }

    private var entries: [Entry?]
    private(set) var oldest: UInt64 = 1
    private(set) var next: UInt64 = 1
    private(set) var count = 0

    init(capacity: Int = 1024) { entries = Array(repeating: nil, count: max(capacity, 16).nextPowerOfTwo) }

    /// Ids handed out and not yet passed by `oldest`, answered ones between them included.
    var span: Int { Int(truncatingIfNeeded: next &- oldest) }

    /// Adds a call and gives it its id.
    mutating func insert(_ entry: Entry) -> UInt64 {
        if span == entries.count { grow() }
        let id = next
        entries[Int(truncatingIfNeeded: id) & (entries.count - 1)] = entry
        next &+= 1
        count += 1
        return id
    }

    /// Takes the call out; nil when it was answered or given up already, or never was.
    mutating func remove(_ id: UInt64) -> Entry? {
        guard id >= oldest, id < next else { return nil }
        let position = Int(truncatingIfNeeded: id) & (entries.count - 1)
        guard let entry = entries[position] else { return nil }
        entries[position] = nil
        count -= 1
        while oldest < next, entries[Int(truncatingIfNeeded: oldest) & (entries.count - 1)] == nil { oldest &+= 1 }
        return entry
    }

    /// The call has not been answered or given up.
    func contains(_ id: UInt64) -> Bool {
        id >= oldest && id < next && entries[Int(truncatingIfNeeded: id) & (entries.count - 1)] != nil
    }

    /// The oldest call still in flight.
    var first: (id: UInt64, entry: Entry)? {
        guard oldest < next, let entry = entries[Int(truncatingIfNeeded: oldest) & (entries.count - 1)] else {
            return nil
        }
        return (oldest, entry)
    }

    private mutating func grow() {
        var larger: [Entry?] = Array(repeating: nil, count: entries.count * 2)
        var id = oldest
        while id < next {
            larger[Int(truncatingIfNeeded: id) & (larger.count - 1)] =
                entries[Int(truncatingIfNeeded: id) & (entries.count - 1)]
            id &+= 1
        }
        entries = larger
    }
}

extension Int {
    /// The smallest power of two that is not smaller; for values from 1 to 2^62.
    var nextPowerOfTwo: Int { self <= 1 ? 1 : 1 << (Int.bitWidth - (self - 1).leadingZeroBitCount) }
}
