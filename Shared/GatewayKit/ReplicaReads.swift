import Base
import Contracts
import Placement

/// What this gateway has seen of a shard by reads below strong: none that follows may see less.
struct ReadFloor {
    /// The highest position of a reply.
    private(set) var position = LogIndex.zero
    /// For answers that came without one.
    private var bookmark = Timestamp.zero
    private var isBookmarkDue = false

    mutating func note(_ position: LogIndex) {
        if position == .zero { isBookmarkDue = true } else { self.position = max(self.position, position) }
    }

    /// The session's bookmark, or the one behind the last answer without a position.
    mutating func bookmark(_ session: Timestamp, newest: Timestamp) -> Timestamp {
        if isBookmarkDue { (bookmark, isBookmarkDue) = (newest, false) }
        return max(session, bookmark)
    }
}

/// A read that a replica may answer, on its way.
///
///     followers, one after the other  ──tooStale──▶  the leader, below strong  ──▶  the leader, strong
///                └── no answer in time, or the way to it lost ──▶ the next
///
/// Reads do no harm when they are done twice, so one that a replica leaves unanswered is made again elsewhere, and what
/// comes late is dropped: each attempt has a ticket of its own.
final class ReplicaRead: ReplyReceiver {
    enum Stage { case replica(NodeID), leader, strong }

    let terms: ReadTerms
    let slot: UInt32
    /// The encoded invocation without id and terms.
    let body: Bytes
    let madeAt: UInt64
    private(set) var stage = Stage.leader
    private(set) var askedAt: UInt64 = 0
    private(set) var attempt: UInt64 = 0
    private(set) var tried: [NodeID] = []
    private(set) var isDone = false
    private let receiver: any ReplyReceiver
    private let ticket: UInt64
    private unowned let router: NodeRouter

    init(
        _ terms: ReadTerms, slot: UInt32, body: Bytes, receiver: any ReplyReceiver, ticket: UInt64, router: NodeRouter,
        now: UInt64
    ) {
        (self.terms, self.slot, self.body) = (terms, slot, body)
        (self.receiver, self.ticket, self.router, madeAt) = (receiver, ticket, router, now)
    }

    /// The call as it is made at `stage`.
    func call(_ stage: Stage, _ terms: ReadTerms, now: UInt64) -> ParkedCall {
        (self.stage, askedAt) = (stage, now)
        attempt &+= 1
        var body = body
        switch stage {
        case .replica(let node):
            tried.append(node)
            terms.append(to: &body)
        case .leader: terms.append(to: &body)
        case .strong: break
        }
        return ParkedCall(
            id: .max, receiver: self, ticket: attempt, isWrite: false, slot: slot, body: body, madeAt: madeAt)
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        guard ticket == attempt, !isDone else { return }
        if reply.kind == .error, reply.errorCode == .tooStale {
            switch stage {
            case .replica: return router.ask(self, .leader)
            case .leader: return router.ask(self, .strong)
            case .strong: break
            }
        }
        isDone = true
        router.noteRead(of: slot, at: reply.position)
        receiver.completed(self.ticket, reply)
    }

    /// A replica may be behind with the schema; the leader's word counts.
    func refusedAsStale(_ ticket: UInt64, _ call: borrowing InvocationView, _ error: DatabaseError) -> Bool {
        guard ticket == attempt, !isDone else { return true }
        switch stage {
        case .replica, .leader:
            router.ask(self, .strong)
            return true
        case .strong:
            isDone = receiver.refusedAsStale(self.ticket, call, error)
            return isDone
        }
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) {
        guard ticket == attempt, !isDone else { return }
        switch stage {
        case .replica where !router.isClosed: router.askNext(self)
        case .leader where error.code == .unavailable && !router.isClosed: router.ask(self, .strong)
        case .replica, .leader, .strong: end(error)
        }
    }

    /// Nobody is asked any more.
    func end(_ error: DatabaseError) {
        isDone = true
        receiver.failed(ticket, error)
    }
}

/// Reads below strong consistency.
extension NodeRouter {
    /// How long a replica may leave a read unanswered before the next is asked, and how long it is not asked then.
    static let replicaPatience: UInt64 = 500_000_000, replicaRest: UInt64 = 2_000_000_000

    /// Reads from any replica that can keep `terms`, the nearest first; from the leader when none can. Of a session's
    /// terms the position is filled in here: reads through one gateway never see less than those before them.
    package func read(
        _ terms: ReadTerms, connection: UInt64, slot: UInt32, method: Method, database: UInt8, key: ByteView,
        flags: UInt32, numbers: UnsafeBufferPointer<Int64>, arguments: UnsafeBufferPointer<ByteView>,
        receiver: any ReplyReceiver, ticket: UInt64
    ) {
        let body = encoded {
            $0.append(
                id: 0, connection: connection, slot: slot, method: method, database: database, key: key, flags: flags,
                numbers: numbers, arguments: arguments)
        }
        guard body.count <= NodeStream.callLimit else {
            return receiver.failed(ticket, DatabaseError(.limitExceeded, "the arguments of one command exceed 12 MB"))
        }
        let read = ReplicaRead(
            terms, slot: slot, body: body, receiver: receiver, ticket: ticket, router: self, now: now)
        replicaReads.append(read)
        if replicaReads.count >= replicaReadsToSweep {
            replicaReads.removeAll { $0.isDone }
            replicaReadsToSweep = max(1024, 2 * replicaReads.count)
        }
        askNext(read)
    }

    /// The next replica that has not been asked, or the leader.
    func askNext(_ read: ReplicaRead) {
        guard let index = shardIndex(ofSlot: read.slot), let node = replica(for: read, of: index) else {
            return ask(read, .leader)
        }
        ask(read, .replica(node))
    }

    func ask(_ read: ReplicaRead, _ stage: ReplicaRead.Stage) {
        guard let index = shardIndex(ofSlot: read.slot) else { return read.end(Self.noLeader) }
        var terms = read.terms
        let route = route(index)
        terms.position = route.floor.position
        terms.bookmark = route.floor.bookmark(terms.bookmark ?? .zero, newest: bookmark)
        switch stage {
        case .replica(let node):
            guard let stream = stream(to: node) else { return ask(read, .leader) }
            stream.resend(read.call(stage, terms, now: now))
        case .leader:
            guard let stream = route.target else { return ask(read, .strong) }
            stream.resend(read.call(stage, terms, now: now))
        case .strong:
            let call = read.call(stage, terms, now: now)
            if let stream = route.target { stream.resend(call) } else { park(call, index) }
        }
    }

    /// The nearest replica that follows, is connected and answers; of equally near ones another for each gateway.
    private func replica(for read: ReplicaRead, of index: Int) -> NodeID? {
        let route = route(index), replicas = route.replicas
        guard replicas.count > 1 else { return nil }
        var best: NodeID?
        for offset in replicas.indices {
            let node = replicas[Int((session &+ UInt64(offset)) % UInt64(replicas.count))]
            guard node != route.target?.node, !read.tried.contains(node), resting[node] ?? 0 <= now,
                let stream = stream(to: node), stream.isConnected
            else { continue }
            if isNear(node) { return node }
            if best == nil { best = node }
        }
        return best
    }

    func noteRead(of slot: UInt32, at position: LogIndex) {
        guard let index = shardIndex(ofSlot: slot) else { return }
        route(index).floor.note(position)
    }

    /// Called a few times a second: what a replica leaves unanswered is asked elsewhere.
    func expireReads() {
        guard !replicaReads.isEmpty else { return }
        replicaReads.removeAll { $0.isDone }
        resting = resting.filter { $0.value > now }
        for read in replicaReads where now &- read.askedAt > Self.replicaPatience {
            guard case .replica(let node) = read.stage, !read.isDone else { continue }
            resting[node] = now &+ Self.replicaRest
            askNext(read)
        }
    }
}
