import Base

/// A kind of object that lives where its key lives: made when it is first called, put out when nobody uses it.
///
/// The Redis types have an activation table of their own (`ActorRuntime`), made for speed; all other kinds of actors
/// live in an `ActorDirectory`. Callbacks run on the shard's loop and do not wait.
package protocol VirtualActor: AnyObject {
    /// Bytes of memory, about; asked again after every call and timer.
    var memorySize: Int { get }
    /// Whether memory holds something that is not committed: then the actor stays.
    var isPending: Bool { get }
    /// Before the first call. An error refuses the activation; the caller gets it.
    func onActivate(_ context: ActorContext) throws(DatabaseError)
    /// After the last call. With `.reset` pending state must not be saved.
    func onDeactivate(_ reason: DeactivationReason)
    /// A timer that the actor had set has come due.
    func onTimer(_ timer: UInt32, _ context: ActorContext)
}

/// Why an activation ended.
package enum DeactivationReason: Hashable, Sendable {
    case idle, memory
    /// The shard was lost, or its store replaced.
    case reset
    /// Somebody asked for it.
    case request
}

/// A kind of actor, by the number that its keys and messages carry.
package struct ActorType {
    package let number: UInt16
    package let name: String
    let make: () -> any VirtualActor

    /// `make` gives a new actor, which then learns its key in `onActivate`.
    package init(number: UInt16, name: String, make: @escaping () -> any VirtualActor) {
        (self.number, self.name, self.make) = (number, name, make)
    }
}

/// What an actor may use of its surroundings during a call; valid as long as the activation.
package struct ActorContext {
    package let type: UInt16
    package let key: Bytes
    /// Milliseconds since 1970, as the caller of the directory says.
    package let now: UInt64
    let directory: ActorDirectory

    /// Sets a timer of the actor, in place of one with the same number. It lives as long as the activation does.
    package func setTimer(_ timer: UInt32, at due: UInt64) { directory.setTimer(type, key, timer, at: due) }

    /// Takes a timer back.
    package func cancelTimer(_ timer: UInt32) { directory.cancelTimer(type, key, timer) }
}

/// The activations of all registered types on a shard: at most one per type and key.
///
/// Invariants: an actor is called between `onActivate` and `onDeactivate` only; a timer fires at most once for each
/// time it was set, not before it is due, and never for an actor that is gone. Timers lie in a heap; one that was set
/// again or taken back stays there until it surfaces, or until such are the majority.
package final class ActorDirectory {
    private final class Resident {
        let actor: any VirtualActor
        let type: UInt16
        let key: Bytes
        var lastUsed: UInt64
        var charged = 0
        var position = 0
        /// Number of timer → number of the heap entry that counts.
        var timers: [UInt32: UInt64] = [:]

        init(_ actor: any VirtualActor, _ type: UInt16, _ key: Bytes, _ now: UInt64) {
            (self.actor, self.type, self.key, lastUsed) = (actor, type, key, now)
        }
    }

    private struct Alarm {
        let due: UInt64, sequence: UInt64, timer: UInt32
        let resident: Resident

        var isLive: Bool { resident.timers[timer] == sequence }
        func precedes(_ other: Alarm) -> Bool { due != other.due ? due < other.due : sequence < other.sequence }
    }

    private var types: [UInt16: ActorType] = [:]
    private var table = ByteMap<Resident>()
    private var ring: [Resident] = []
    private var hand = 0
    private var heap: [Alarm] = []
    private var liveTimers = 0
    private var sequence: UInt64 = 0
    private var lookupKey = ByteBuffer(capacity: 256)
    private let memoryLimit: Int
    private let idleMilliseconds: UInt64
    /// Bytes that activations take, by their own account.
    package private(set) var memoryUsed = 0

    package init(memoryBytes: Int, idleMilliseconds: UInt64) {
        memoryLimit = memoryBytes
        self.idleMilliseconds = idleMilliseconds
    }

    package var count: Int { ring.count }

    /// Adds a kind of actor; false if its number is taken.
    package func register(_ type: ActorType) -> Bool {
        guard types[type.number] == nil else { return false }
        types[type.number] = type
        return true
    }

    /// Calls `body` with the actor, activated if it is not.
    package func withActor<Answer>(
        _ type: UInt16, _ key: ByteView, now: UInt64,
        _ body: (any VirtualActor, ActorContext) throws(DatabaseError) -> Answer
    ) throws(DatabaseError) -> Answer {
        let resident: Resident
        if let found = find(type, key) { resident = found } else { resident = try activate(type, key, now) }
        resident.lastUsed = now
        defer { recharge(resident) }
        return try body(resident.actor, context(resident, now))
    }

    /// Ends an activation; false if there is none, or if something of it is not committed.
    package func deactivate(_ type: UInt16, _ key: ByteView) -> Bool {
        guard let resident = find(type, key), !resident.actor.isPending else { return false }
        remove(resident, .request)
        return true
    }

    /// Puts out what is idle, or too much, looking at `limit` activations. Returns how many went.
    @discardableResult package func sweep(now: UInt64, limit: Int = 256) -> Int {
        let before = ring.count
        var left = min(limit, ring.count)
        while left > 0, !ring.isEmpty {
            left -= 1
            if hand >= ring.count { hand = 0 }
            let resident = ring[hand]
            let isIdle = now >= resident.lastUsed && now - resident.lastUsed >= idleMilliseconds
            if !resident.actor.isPending, isIdle || memoryUsed > memoryLimit {
                remove(resident, isIdle ? .idle : .memory)
            } else {
                hand += 1
            }
        }
        return before - ring.count
    }

    /// Ends all activations, with what is pending.
    package func reset() {
        let all = ring
        ring = []
        hand = 0
        table.removeAll()
        heap = []
        liveTimers = 0
        memoryUsed = 0
        for resident in all {
            resident.timers = [:]
            resident.actor.onDeactivate(.reset)
        }
    }

    // MARK: Timers

    /// When the next timer may be due; a little early if it was taken back.
    package var nextTimer: UInt64? { heap.first?.due }

    /// Fires up to `limit` timers that are due. Returns how many.
    @discardableResult package func runTimers(now: UInt64, limit: Int = 256) -> Int {
        var fired = 0
        while fired < limit, let alarm = heap.first, alarm.due <= now {
            popAlarm()
            guard alarm.isLive else { continue }
            alarm.resident.timers[alarm.timer] = nil
            liveTimers -= 1
            fired += 1
            alarm.resident.actor.onTimer(alarm.timer, context(alarm.resident, now))
            recharge(alarm.resident)
        }
        return fired
    }

    func setTimer(_ type: UInt16, _ key: Bytes, _ timer: UInt32, at due: UInt64) {
        guard let resident = key.withUnsafeBytes({ find(type, $0) }) else { return }
        sequence += 1
        if resident.timers.updateValue(sequence, forKey: timer) == nil { liveTimers += 1 }
        if heap.count > 2 * liveTimers + 64 {
            heap = heap.filter(\.isLive).sorted { $0.precedes($1) }  // A sorted array is a heap.
        }
        heap.append(Alarm(due: due, sequence: sequence, timer: timer, resident: resident))
        var child = heap.count - 1
        while child > 0, heap[child].precedes(heap[(child - 1) / 2]) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    func cancelTimer(_ type: UInt16, _ key: Bytes, _ timer: UInt32) {
        guard let resident = key.withUnsafeBytes({ find(type, $0) }) else { return }
        if resident.timers.removeValue(forKey: timer) != nil { liveTimers -= 1 }
    }

    private func popAlarm() {
        let last = heap.removeLast()
        guard !heap.isEmpty else { return }
        heap[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child].precedes(heap[least])
            {
                least = child
            }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }

    // MARK: Activations

    private func context(_ resident: Resident, _ now: UInt64) -> ActorContext {
        ActorContext(type: resident.type, key: resident.key, now: now, directory: self)
    }

    private func setLookupKey(_ type: UInt16, _ key: ByteView) {
        lookupKey.removeAll()
        lookupKey.append(bigEndian: type)
        lookupKey.append(key)
    }

    private func find(_ type: UInt16, _ key: ByteView) -> Resident? {
        setLookupKey(type, key)
        return table.value(for: lookupKey.readable)
    }

    private func activate(_ type: UInt16, _ key: ByteView, _ now: UInt64) throws(DatabaseError) -> Resident {
        guard let kind = types[type] else {
            throw DatabaseError(.featureNotSupported, "unknown actor type")
        }
        let resident = Resident(kind.make(), type, Bytes(key), now)
        // In the table already, so that it can set timers while it is activated.
        resident.position = ring.count
        ring.append(resident)
        setLookupKey(type, key)
        table.insert(key: lookupKey.readable, resident)
        do throws(DatabaseError) {
            try resident.actor.onActivate(context(resident, now))
        } catch {
            take(resident)
            throw error
        }
        recharge(resident)
        return resident
    }

    private func recharge(_ resident: Resident) {
        guard resident.position < ring.count, ring[resident.position] === resident else { return }
        let size = resident.actor.memorySize
        memoryUsed += size - resident.charged
        resident.charged = size
    }

    private func remove(_ resident: Resident, _ reason: DeactivationReason) {
        take(resident)
        resident.actor.onDeactivate(reason)
    }

    private func take(_ resident: Resident) {
        resident.key.withUnsafeBytes { setLookupKey(resident.type, $0) }
        table.remove(lookupKey.readable)
        memoryUsed -= resident.charged
        liveTimers -= resident.timers.count
        resident.timers = [:]
        let last = ring.removeLast()
        if last !== resident {
            ring[resident.position] = last
            last.position = resident.position
        }
    }
}
