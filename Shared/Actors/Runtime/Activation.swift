import Base
import CSystem
import DataModel

/// A Redis key in memory: its value decoded, and what is known of its records in the store.
///
/// The value is the *pending* state: with every change that was evaluated, committed or not. The `stored…` fields say
/// what the store will hold once all finished entries are applied, so that the effects of an entry are the difference
/// between the two, however often the key was written in it.
///
/// An absent key has an activation too: it remembers that there is nothing to find, and, until the deletion is
/// committed, that what the store still shows is gone.
final class Activation {
    enum Kind: UInt8 { case absent, string, hash, row }

    // The first fields are those that every call looks at: they share the object's first line of the processor's
    // cache.

    var kind = Kind.absent
    /// Used since the clock hand of the residency passed.
    var isReferenced = false
    /// In the list of what the entry being built has to write.
    var isDirty = false
    /// In the list of what is not committed.
    var isPending = false
    /// Whether a string was made by a command after which Redis no longer keeps it compact (OBJECT ENCODING `raw`).
    var isRaw = false
    let database: UInt8
    /// Milliseconds since 1970; 0 = never.
    var expiresAt: UInt64 = 0
    /// The index of the last entry that changed the key; while it is not committed the activation stays.
    var pendingIndex = LogIndex.zero
    var lastUsed: UInt64 = 0
    /// The string, or the fields of a record of a collection.
    var bytes: Bytes = []
    var updated = Timestamp.zero

    /// Bytes charged to the memory budget.
    var charged = 0
    /// The hash.
    var fields: HashState?
    /// Chunks of a long string that the entry being built has to write.
    var dirtyChunks = ChunkSet()
    let keyCount: Int
    /// Whether the store has a record of the key, and sub-records of `generation`; all `stored…` and `hasStored…`
    /// fields speak of the store once all finished entries are applied.
    var isRecordStored = false
    var hasStoredParts = false
    let bucket: BucketID
    /// `NativeKeyLayout.hash32` of the key.
    let hash: UInt32
    /// Under which sub-records are filed.
    var generation = Timestamp.zero

    let key: Bytes
    /// The time in the expiry index; 0 = no entry.
    var storedExpiry: UInt64 = 0
    private var place: UInt32 = 0
    /// When it was activated, in seconds since 1970: there is room for that many bits without a larger object.
    var activeSince: UInt32 = 0

    /// Position in the ring of the residency. 32 bits hold it: so many activations would take a terabyte.
    var position: Int {
        get { Int(place) }
        set { place = UInt32(truncatingIfNeeded: newValue) }
    }

    init(database: UInt8, bucket: BucketID, hash: UInt32, key: Bytes) {
        self.database = database
        self.bucket = bucket
        self.hash = hash
        self.key = key
        keyCount = key.count
    }

    /// Whether a string is filed in chunks.
    var isChunked: Bool { kind == .string && bytes.count > KeyspaceRecord.inlineLimit }

    @inline(__always) func isVisible(at now: UInt64) -> Bool { kind != .absent && (expiresAt == 0 || now < expiresAt) }

    /// Bytes of memory, about.
    var cost: Int { 320 &+ 2 &* keyCount &+ bytes.count &+ (fields?.memorySize ?? 0) }

    /// Asks the memory for the string, as far as two lines of the cache hold it.
    @inline(__always) func prefetchBytes() {
        bytes.withUnsafeBytes {
            // What lies before the bytes says how many there are, so the count must not be asked for here.
            guard let start = $0.baseAddress else { return }
            orbit_prefetch(start - 32)
            orbit_prefetch(start + 32)
        }
    }

    /// Changes the string in place. It is taken out for that time, so that no access to the field lasts.
    @inline(__always) func editBytes(_ body: (inout Bytes) -> Void) {
        var taken: Bytes = []
        swap(&taken, &bytes)
        body(&taken)
        bytes = taken
    }

    /// Declares the bytes of a string changed that lie in `range`; `wasInline`: before the change the string was
    /// short.
    func markChanged(_ range: Range<Int>, oldCount: Int) {
        guard bytes.count > KeyspaceRecord.inlineLimit else { return }
        if oldCount <= KeyspaceRecord.inlineLimit, oldCount > 0 { dirtyChunks.insert(bytes: 0..<oldCount) }
        dirtyChunks.insert(bytes: range)
    }
}

/// A set of chunk numbers.
struct ChunkSet {
    private var words: [UInt64] = []

    var isEmpty: Bool { words.isEmpty }

    /// Adds the chunks that hold the bytes of `range`; returns how many were added.
    mutating func insert(bytes range: Range<Int>) {
        guard !range.isEmpty else { return }
        let first = range.lowerBound / KeyspaceRecord.chunkSize
        let last = (range.upperBound - 1) / KeyspaceRecord.chunkSize
        while words.count <= last / 64 { words.append(0) }
        for chunk in first...last { words[chunk / 64] |= 1 << UInt64(chunk % 64) }
    }

    mutating func removeAll() { if !words.isEmpty { words = [] } }

    func forEach(_ body: (Int) -> Void) {
        for (position, word) in words.enumerated() {
            var rest = word
            while rest != 0 {
                body(position * 64 + rest.trailingZeroBitCount)
                rest &= rest - 1
            }
        }
    }
}
