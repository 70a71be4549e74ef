import Base
import DataModel

// Which actors are in memory, for who asks from outside (the directory of a node). Nothing here makes an activation,
// keeps one from being put out, or counts as a call.

/// An actor in memory: a Redis key that has a value. That the runtime remembers an absent key makes no actor of it.
package struct ActiveActor: Hashable, Sendable {
    package let type: NativeType
    package let database: UInt8
    package let key: Bytes
    /// Milliseconds since 1970, to the second.
    package let activeSince: UInt64
    /// Milliseconds since 1970.
    package let lastCalled: UInt64
    /// Bytes, about.
    package let memorySize: Int
    /// Something of it is not committed; until then it stays in memory.
    package let isPending: Bool

    fileprivate init?(_ activation: Activation, now: UInt64, committed: LogIndex) {
        guard activation.isVisible(at: now) else { return nil }
        switch activation.kind {
        case .absent: return nil
        case .string: type = .string
        case .hash: type = .hash
        case .row: return nil  // Listed are the keys of Redis.
        }
        database = activation.database
        key = activation.key
        activeSince = UInt64(activation.activeSince) &* 1000
        lastCalled = activation.lastUsed
        memorySize = activation.cost
        isPending = activation.isDirty || activation.pendingIndex > committed
    }
}

extension ActorRuntime {
    /// Databases that keys live in, numbered from 0.
    package static var databaseCount: Int { KeyCounters.databases }

    /// The actor of a key if it is in memory at wall time `now`.
    package func active(_ database: UInt8, _ key: ByteView, now: UInt64) -> ActiveActor? {
        lookupKey.removeAll()
        lookupKey.append(database)
        lookupKey.append(key)
        return table.value(for: lookupKey.readable).flatMap { ActiveActor($0, now: now, committed: committed) }
    }

    /// Calls `body` with the actors in memory, in the order of their places in the table of activations, until it
    /// answers false or `steps` entries were looked at, which it counts down. Returns the place to go on from, or nil
    /// at the end.
    ///
    /// A place holds for the life of the process (`ByteMap.walk`): calls may come between two pieces of a list, and
    /// still an actor that is active all the time is met exactly once, and no actor twice.
    package func listActive(
        from place: UInt64, steps: inout Int, now: UInt64, _ body: (ActiveActor) -> Bool
    ) -> UInt64? {
        let committed = committed
        return table.walk(from: place, steps: &steps) { _, activation in
            guard let actor = ActiveActor(activation, now: now, committed: committed) else { return true }
            return body(actor)
        }
    }
}
