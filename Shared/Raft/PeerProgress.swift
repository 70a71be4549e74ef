import Base

/// What a leader knows about one peer.
struct PeerProgress: Sendable {
    let id: NodeID
    var mode = PeerStatus.Mode.probe
    /// The peer's durable log equals ours up to here.
    var matched = LogIndex.zero
    /// The next entry to send.
    var next: LogIndex
    /// Probing: the question is under way; the next heartbeat's answer allows another one.
    var isProbeSent = false
    var inFlight = InFlight()
    /// The newest round that it has answered.
    var answeredRound: UInt64 = 0
    /// It has answered since the last check of the quorum.
    var isActive = false
    /// Not zero: its log was cut, and this is its question.
    var rejoin: UInt64 = 0
    /// Answers of earlier rounds are those of a life before its log was cut or given up.
    var firstTrustedRound: UInt64 = 0

    init(id: NodeID, next: LogIndex) {
        self.id = id
        self.next = next
    }

    mutating func probe(from index: LogIndex) {
        mode = .probe
        next = max(index, matched.next)
        isProbeSent = false
        inFlight.removeAll()
    }

    mutating func replicate() {
        mode = .replicate
        next = max(next, matched.next)
        isProbeSent = false
    }

    mutating func awaitSnapshot() {
        mode = .snapshot
        inFlight.removeAll()
    }
}

/// The appends that one follower has not acknowledged: their last indexes and sizes, a ring that grows to its limit.
struct InFlight: Sendable {
    private struct Sent {
        var last: LogIndex
        var bytes: UInt64
    }

    private var ring: [Sent] = []
    private var head = 0
    private(set) var count = 0
    private(set) var bytes: UInt64 = 0

    mutating func add(last: LogIndex, bytes size: UInt64) {
        if count == ring.count {
            let ordered = (0..<count).map { ring[(head + $0) % max(1, ring.count)] }
            ring = ordered + Array(repeating: Sent(last: .zero, bytes: 0), count: max(8, count))
            head = 0
        }
        ring[(head + count) % ring.count] = Sent(last: last, bytes: size)
        count += 1
        bytes &+= size
    }

    /// Everything up to `index` has arrived.
    mutating func free(through index: LogIndex) {
        while count > 0, ring[head].last <= index {
            bytes &-= ring[head].bytes
            head = (head + 1) % ring.count
            count -= 1
        }
    }

    mutating func removeAll() {
        head = 0
        count = 0
        bytes = 0
    }
}

/// The writes under way, and how far they will make the log durable.
struct OutstandingWrites: Sendable {
    private struct Write {
        var number: UInt64
        var last: LogIndex
        var term: Term
    }

    private var queue: [Write] = []
    private var head = 0
    /// The newest write's number.
    private(set) var newest: UInt64 = 0
    /// The log is durable up to here, as it is now.
    private(set) var durableIndex: LogIndex
    /// The hard state of this term is durable.
    private(set) var durableTerm: Term

    init(durableIndex: LogIndex, durableTerm: Term) {
        self.durableIndex = durableIndex
        self.durableTerm = durableTerm
    }

    /// Numbers a write after which the log ends at `last` and the hard state is of `term`.
    mutating func begin(last: LogIndex, term: Term) {
        newest &+= 1
        queue.append(Write(number: newest, last: last, term: term))
    }

    /// What was written from `index` on is void, durable or not.
    mutating func truncate(from index: LogIndex) {
        durableIndex = min(durableIndex, index.previous)
        for position in head..<queue.count { queue[position].last = min(queue[position].last, index.previous) }
    }

    /// The log begins anew behind `index`, durably.
    mutating func reset(to index: LogIndex) {
        durableIndex = index
        for position in head..<queue.count { queue[position].last = .zero }
    }

    /// Everything up to write `number` is durable.
    mutating func finish(through number: UInt64) {
        while head < queue.count, queue[head].number <= number {
            durableIndex = max(durableIndex, queue[head].last)
            durableTerm = max(durableTerm, queue[head].term)
            head += 1
        }
        if head == queue.count {
            queue.removeAll(keepingCapacity: true)
            head = 0
        } else if head > 256 {
            queue.removeFirst(head)
            head = 0
        }
    }
}
