import Base

/// Who takes locks.
struct LockOwner: Sendable {
    enum Kind: Sendable {
        /// All its locks at once, for a part that is evaluated and prepared in one go.
        case oneShot
        /// The same of a transaction that only reads: it holds them until it has all of them, for a moment.
        case reader
        /// Statement after statement, for as long as its client likes.
        case interactive
    }

    let id: PartID
    let rank: Rank
    let kind: Kind
}

/// What a request wants of a key, or of the shard.
struct LockClaim: Sendable {
    enum Want: UInt8, Sendable {
        /// To look at it now: no lock is left.
        case read
        /// To change it now: no lock is left.
        case write
        case shared
        case exclusive
    }

    /// Nil: the whole shard.
    let key: LockKey?
    let want: Want

    /// Whether one that wants this keeps waiting behind one that waits and wants `other`. Who leaves no lock delays
    /// nobody, and waits behind nobody.
    static func waits(_ want: Want, behind other: Want) -> Bool {
        switch want {
        case .read, .write: false
        case .shared: other == .exclusive || other == .write
        case .exclusive: true
        }
    }
}

/// A request for locks, or of a call that only waits until there are none.
struct LockRequest: Sendable {
    let call: WaitingCall
    /// Nil: a call outside transactions.
    let owner: LockOwner?
    var claims: [LockClaim] = []
    /// Its reads look at this moment; nil: at the newest state.
    var asOf: Timestamp?
    /// An open scope makes its locks hard: nobody passes them any more.
    var isHardening = false
    /// What it is told when its time is over.
    var timeout = PartRefusal.busy
    var sequence: UInt64 = 0
    /// Of a call: the oldest one-shot transaction that it waits for, and so does whoever waits behind it.
    var eldest: Rank?
    var since: UInt64 = 0

    init(_ call: WaitingCall, _ owner: LockOwner?) { (self.call, self.owner) = (call, owner) }

    /// A call outside transactions.
    init(_ scope: LockScope, asOf: Timestamp?, _ call: WaitingCall) {
        self.init(call, nil)
        self.asOf = asOf
        claims.reserveCapacity(scope.exclusive.count + scope.shared.count)
        for key in scope.exclusive { claims.append(LockClaim(key: key, want: .write)) }
        addReads(scope)
        // Whoever holds such a key alone is waited for; nothing is left at it.
        if !scope.steady.isEmpty {
            for index in claims.indices where claims[index].key.map(scope.steady.contains) ?? false {
                claims[index] = LockClaim(key: claims[index].key, want: .shared)
            }
        }
        if scope.shard == .exclusive { claims.append(LockClaim(key: nil, want: .write)) }
    }

    mutating func addReads(_ scope: LockScope) {
        for key in scope.shared { claims.append(LockClaim(key: key, want: .read)) }
        if scope.shard == .shared { claims.append(LockClaim(key: nil, want: .read)) }
    }

    var bytes: Int { claims.reduce(call.bytes &+ 96) { $0 &+ ($1.key.map(LockScope.bytes) ?? 64) } }

    /// Of a transaction that only reads: provisional locks do not concern it.
    var passesProvisional: Bool { owner?.kind == .reader }
}

/// Those that wait at one place, in the order in which they came.
struct LockQueue: Sendable {
    struct Place: Sendable {
        let sequence: UInt64
        let want: LockClaim.Want
        let owner: PartID?
        /// Of a one-shot part its rank; of a call what it hands on.
        let eldest: Rank?
        /// Its owner has locks here already.
        let hasLocks: Bool
    }

    private(set) var places: [Place] = []
    private(set) var first = 0
    /// How many of them have locks.
    private(set) var holding = 0

    var isEmpty: Bool { first == places.count }
    var indices: Range<Int> { first..<places.count }

    mutating func append(_ place: Place) {
        places.append(place)
        if place.hasLocks { holding += 1 }
    }

    /// Where the first one behind `sequence` is, or would be.
    func position(after sequence: UInt64) -> Int {
        var low = first, high = places.count
        while low < high {
            let middle = (low + high) / 2
            if places[middle].sequence > sequence { high = middle } else { low = middle + 1 }
        }
        return low
    }

    func next(after sequence: UInt64) -> UInt64? {
        let position = position(after: sequence)
        return position < places.count ? places[position].sequence : nil
    }

    mutating func remove(_ sequence: UInt64) {
        let position = position(after: sequence) - 1
        guard position >= first, places[position].sequence == sequence else { return }
        if places[position].hasLocks { holding -= 1 }
        guard position == first else {
            places.remove(at: position)
            return
        }
        first += 1
        if first == places.count {
            places.removeAll(keepingCapacity: places.count < 64)
            first = 0
        } else if first > 64, first > places.count / 2 {
            places.removeSubrange(..<first)
            first = 0
        }
    }
}

/// Who may be free to go on, the first that came first. Two may name the same one.
struct LockAgenda {
    struct Item {
        let sequence: UInt64
        let key: LockKey?
        let line: LockTable.Line?
    }

    private var heap: [Item] = []

    mutating func push(_ item: Item) {
        heap.append(item)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].sequence < heap[parent].sequence else { return }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    mutating func pop() -> Item? {
        guard let least = heap.first, let last = heap.popLast() else { return nil }
        guard !heap.isEmpty else { return least }
        heap[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < heap.count else { return least }
            if child + 1 < heap.count, heap[child + 1].sequence < heap[child].sequence { child += 1 }
            guard heap[child].sequence < heap[parent].sequence else { return least }
            heap.swapAt(child, parent)
            parent = child
        }
    }
}
