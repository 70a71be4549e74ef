import Base

/// What every call of a runtime changes: its tables and reused buffers.
///
/// It lies behind a pointer that only its runtime has, not in the runtime's own fields: a change in place of a field
/// of a class is registered with Swift's runtime at its begin and end, and there are a dozen for each call (a fifth of
/// the time of a SET). The runtime is confined to one loop and hands none of this out; closures that it passes to
/// others do not touch what their caller changes.
struct Workspace: ~Copyable {
    /// Activations by database and key.
    var table = ByteMap<Activation>()
    /// All activations, in the order of the clock hand.
    var ring: [Activation] = []
    /// Activations whose last change may not be committed.
    var pending = ActivationList()
    /// Activations that the entry being built has changed.
    var dirty = ActivationList()
    var counters: KeyCounters
    var statistics = ActorStatistics()
    var memoryUsed = 0
    var entryBytes = 0
    var newest = LogIndex.zero

    var lookupKey = ByteBuffer(capacity: 512)
    var keyBuffer = ByteBuffer(capacity: 512)
    var endBuffer = ByteBuffer(capacity: 512)
    var valueBuffer = ByteBuffer(capacity: 4096)

    init(buckets: Range<Int>) { counters = KeyCounters(buckets: buckets) }
}

extension ActorRuntime {
    var table: ByteMap<Activation> {
        @inline(__always) _read { yield workspace.pointee.table }
        @inline(__always) _modify { yield &workspace.pointee.table }
    }
    var ring: [Activation] {
        @inline(__always) _read { yield workspace.pointee.ring }
        @inline(__always) _modify { yield &workspace.pointee.ring }
    }
    var pending: ActivationList {
        @inline(__always) _read { yield workspace.pointee.pending }
        @inline(__always) _modify { yield &workspace.pointee.pending }
    }
    var dirty: ActivationList {
        @inline(__always) _read { yield workspace.pointee.dirty }
        @inline(__always) _modify { yield &workspace.pointee.dirty }
    }
    var counters: KeyCounters {
        @inline(__always) _read { yield workspace.pointee.counters }
        @inline(__always) _modify { yield &workspace.pointee.counters }
    }
    /// What the actors have done so far.
    package internal(set) var statistics: ActorStatistics {
        @inline(__always) _read { yield workspace.pointee.statistics }
        @inline(__always) _modify { yield &workspace.pointee.statistics }
    }
    /// Bytes that activations take, about.
    package internal(set) var memoryUsed: Int {
        @inline(__always) get { workspace.pointee.memoryUsed }
        @inline(__always) set { workspace.pointee.memoryUsed = newValue }
    }
    /// Bytes of effects in the entry being built, estimated from above: the caller finishes an entry before it is too
    /// large.
    package internal(set) var entryBytes: Int {
        @inline(__always) get { workspace.pointee.entryBytes }
        @inline(__always) set { workspace.pointee.entryBytes = newValue }
    }
    var newest: LogIndex {
        @inline(__always) get { workspace.pointee.newest }
        @inline(__always) set { workspace.pointee.newest = newValue }
    }
    var lookupKey: ByteBuffer {
        @inline(__always) _read { yield workspace.pointee.lookupKey }
        @inline(__always) _modify { yield &workspace.pointee.lookupKey }
    }
    var keyBuffer: ByteBuffer {
        @inline(__always) _read { yield workspace.pointee.keyBuffer }
        @inline(__always) _modify { yield &workspace.pointee.keyBuffer }
    }
    var endBuffer: ByteBuffer {
        @inline(__always) _read { yield workspace.pointee.endBuffer }
        @inline(__always) _modify { yield &workspace.pointee.endBuffer }
    }
    var valueBuffer: ByteBuffer {
        @inline(__always) _read { yield workspace.pointee.valueBuffer }
        @inline(__always) _modify { yield &workspace.pointee.valueBuffer }
    }
}
