import Base
import Contracts
import DataModel

// Versions of keys: what WATCH remembers, and EXEC compares.
//
// The version of a key is the time of its last change, and whether it exists. Times of changes are never equal. A key
// that exists has the time in its record. One that is gone has it in its activation, and when that leaves memory, in
// `Absences`. Expiry is no change of its own: a key whose time has come ceases to exist at once for everybody, whether
// or not its record has been removed.

/// The times of changes of keys that are not in memory, by a hash of the key: what is known of a key without a record.
///
/// Two keys may share a place. Then one may seem to have changed when it has not, if it was put out of memory in
/// between; what has changed never seems the same.
struct Absences {
    private static let places = 4096

    /// Made when the first key leaves memory that has changed since `floor`.
    private var times: [Timestamp] = []
    /// Above every change from before the runtime's memory begins.
    let floor: Timestamp

    init(floor: Timestamp) { self.floor = floor }

    /// When the key was changed last, at the latest, if it has no record.
    func time(_ database: UInt8, _ hash: UInt32) -> Timestamp {
        times.isEmpty ? floor : max(floor, times[Self.place(database, hash)])
    }

    /// The activation leaves memory.
    mutating func note(_ activation: Activation) { note(activation.database, activation.hash, activation.updated) }

    /// A key with this hash was changed, and is not in memory.
    mutating func note(_ database: UInt8, _ hash: UInt32, _ time: Timestamp) {
        guard time > floor else { return }
        if times.isEmpty { times = Array(repeating: .zero, count: Self.places) }
        let place = Self.place(database, hash)
        times[place] = max(times[place], time)
    }

    private static func place(_ database: UInt8, _ hash: UInt32) -> Int {
        Int((hash ^ UInt32(database) &* 0x9E37_79B9) % UInt32(places))
    }
}

extension ActorRuntime {
    func version(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let version = version(of: try activation(call.database, call.key))
        reply.encoder.integer(reply.id, Int64(bitPattern: version))
    }

    func version(of activation: Activation) -> UInt64 {
        activation.isVisible(at: now)
            ? activation.updated.rawValue << 1 | 1 : max(activation.updated, absences.floor).rawValue << 1
    }

    /// Whether the key is this shard's.
    package func owns(_ database: UInt8, _ key: ByteView) -> Bool {
        if let row = recordKey(database, key) { return row.withUnsafeBytes { owns(RowKey.database, $0) } }
        return buckets.contains(Int(Slot.of(database, key).bucket(of: bucketCount).rawValue))
    }

    /// Whether the condition on a key holds at wall time `now`, and the newest index that this depends on.
    package func holds(_ watch: WatchView, now: UInt64) throws(DatabaseError) -> (Bool, LogIndex) {
        self.now = now
        callKey = watch.key.baseAddress
        newest = .zero
        let found = try watched(watch)
        switch watch.condition {
        case .version(let version): return (version == self.version(of: found), newest)
        case .absent: return (!found.isVisible(at: now), newest)
        }
    }

    /// A key, or the record that it names.
    private func watched(_ watch: WatchView) throws(DatabaseError) -> Activation {
        guard let row = recordKey(watch.database, watch.key) else { return try activation(watch.database, watch.key) }
        return try row.withView { (view: ByteView) throws(DatabaseError) in try activation(RowKey.database, view) }
    }
}
