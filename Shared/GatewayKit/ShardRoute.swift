import Base
import Placement

/// How one shard's calls find its leader, and what waits while they have none.
///
///     open      calls go to `target`
///     held      `target` is nil: new calls are parked behind those that came back
///
/// A node that does not lead the shard refuses a call, and then everything behind it on the same stream and route, so
/// none of a connection's later calls can be done before it. The route is held until all calls that were in flight on
/// that stream are answered; what was refused then goes, in its old order and before anything newer, to the next
/// candidate: whom the node named, else whom the map names, else one replica after the other.
///
/// A node that hangs refuses nothing. The map then names a successor: a leader of a later term than was known when
/// calls began to go where they go. That alone proves little, for a map can be behind what nodes say. But a target that
/// owes the shard nothing can be left at once, and one that owes answers and stays silent for `silentReviews` reviews
/// is held for hung: its connection is given up, with all calls that were on it.
///
/// Bounds: `parkedLimit` calls and `byteLimit` bytes; a call that has been parked for the router's patience fails, and
/// that is certain, for it was not done.
final class ShardRoute {
    static let parkedLimit = 1 << 17, byteLimit = 64 << 20
    /// How long to wait before the same question is asked again.
    static let retryMilliseconds = 20
    /// Reviews in a row that find an answer owed and nothing heard, before a target with a successor is given up.
    static let silentReviews = 5

    let shard: ShardID
    private(set) var replicas: [NodeID] = []
    private(set) var target: NodeStream?
    /// Where calls went before; they must be answered up to `drainedAt` before others go elsewhere.
    private(set) var previous: NodeStream?
    private var drainedAt: UInt64 = 0
    /// Whom the map names as leader, if that node is up.
    private var leader: NodeID?
    /// Of the map's newest leader, and of the one that it named when calls began to go where they go.
    private var term = Term(rawValue: 0)
    private var knownTerm = Term(rawValue: 0)
    /// Reviews in a row in which the node that is asked has said nothing, and what it had said before.
    private var silence = 0
    private var heard: UInt64 = 0
    /// Who is believed to lead, and who was tried last.
    private var hint: NodeID?
    private var lastTried: NodeID?
    /// Loop time before which nobody is asked again.
    private var notBefore: UInt64 = 0
    /// Calls that came back, then calls that came new.
    private var parked: [ParkedCall] = []
    private var bytes = 0
    private var mustSort = false
    /// What reads below strong have seen of the shard.
    var floor = ReadFloor()

    init(_ shard: ShardID) { self.shard = shard }

    /// Parked calls.
    var count: Int { parked.count }

    /// There is something to find a leader for, or a leader to be found before the gateway is ready.
    var isWaiting: Bool { !replicas.isEmpty }

    /// The map names a leader that is up.
    private var isLed: Bool { leader != nil }

    /// Who owes answers, or may.
    private var asked: NodeStream? { target ?? previous }

    // MARK: Events

    /// `moved`: nodes that are gone, or reached elsewhere now; their streams are being closed.
    func adopt(_ shard: ShardMap.Shard, in map: ShardMap, moved: Set<NodeID>) {
        replicas = shard.replicas
        leader = shard.leader.flatMap { map.node($0)?.state == .up ? $0 : nil }
        term = max(term, shard.term)
        if leader == asked?.node { knownTerm = term }
        if hint == nil || !replicas.contains(hint ?? NodeID(rawValue: 0)) || target == nil { hint = leader }
        if let node = previous?.node, moved.contains(node) { previous = nil }
        guard let target, moved.contains(target.node) || !replicas.contains(target.node) else {
            // With one replica there is nobody else to ask.
            if replicas.count == 1, !isLed { failAll(NodeRouter.noLeader) }
            return
        }
        // What is in flight at a stream that is closing fails at once; at another one it will be answered.
        hold(target, isClosing: moved.contains(target.node))
    }

    /// The stream's node does not lead the shard, or is gone.
    func refused(by stream: NodeStream, leader: NodeID?, now: UInt64) {
        if let leader, leader != stream.node, replicas.contains(leader) {
            hint = leader
        } else if target === stream {
            hint = nil
            notBefore = now &+ UInt64(Self.retryMilliseconds) * 1_000_000
        }
        if target === stream { hold(stream, isClosing: false) }
    }

    /// Stops sending to a target that has lost its connection, if there are others; true if it has.
    func holdIfLost() -> Bool {
        guard let target, !target.isConnected, replicas.count > 1 else { return false }
        hint = leader == target.node ? nil : leader
        hold(target, isClosing: false)
        return true
    }

    private func hold(_ stream: NodeStream, isClosing: Bool) {
        target = nil
        lastTried = stream.node
        (previous, drainedAt) = isClosing ? (nil, 0) : (stream, stream.nextCall)
    }

    // MARK: A successor

    /// What a review has found.
    enum Review {
        /// Nobody is asked whose successor is known.
        case settled
        /// The node that was asked owes the shard nothing: calls go to its successor from now on.
        case moved
        case waiting
        case hung(NodeStream)
    }

    /// Looks whether the node that is asked has a successor by the map. Only reviews with `counts` make a silence
    /// longer: they come in even intervals, each after what had arrived was read, so that a gateway which was itself
    /// held up does not take its own sleep for the node's. `reach` answers whether a node can be asked at once;
    /// `isOwed`, whether a stream owes an answer to this shard.
    func review(counts: Bool, reach: (NodeID) -> Bool, isOwed: (NodeStream) -> Bool) -> Review {
        guard let asked, let leader, leader != asked.node, replicas.contains(leader), term > knownTerm else {
            silence = 0
            return .settled
        }
        if !isOwed(asked) {
            silence = 0
            guard reach(leader) else { return .waiting }
            hold(asked, isClosing: true)
            hint = leader
            notBefore = 0
            return .moved
        }
        if silence == 0 || asked.heard != heard {
            (silence, heard) = (1, asked.heard)
        } else if counts {
            silence += 1
        }
        return silence > Self.silentReviews ? .hung(asked) : .waiting
    }

    // MARK: Parked calls

    /// False when there is no room (or nobody could ever answer): nothing has changed then.
    func park(_ call: ParkedCall) -> Bool {
        guard parked.count < Self.parkedLimit, bytes &+ call.body.count <= Self.byteLimit, !replicas.isEmpty,
            replicas.count > 1 || isLed || previous != nil
        else { return false }
        if let last = parked.last, call.id < last.id { mustSort = true }
        parked.append(call)
        bytes &+= call.body.count
        return true
    }

    func expire(madeBefore limit: UInt64) {
        guard let first = parked.first, first.madeAt < limit || mustSort else { return }
        let late = parked.filter { $0.madeAt < limit }
        parked.removeAll { $0.madeAt < limit }
        for call in late {
            bytes &-= call.body.count
            call.receiver.failed(call.ticket, NodeRouter.noLeader)
        }
    }

    func failAll(_ error: DatabaseError) {
        let all = takeParked()
        for call in all { call.receiver.failed(call.ticket, error) }
    }

    // MARK: The next target

    /// The stream that calls take from now on; nil while they must wait. `stream` opens one.
    func next(now: UInt64, stream: (NodeID) -> NodeStream?) -> NodeStream? {
        if let target { return target }
        if let previous {
            guard previous.oldestCall >= drainedAt else { return nil }
            self.previous = nil
        }
        guard now >= notBefore else { return nil }
        for node in candidates {
            guard let candidate = stream(node) else { continue }
            // With one replica calls may as well wait in the stream; with several another one may be quicker.
            guard candidate.isConnected || replicas.count == 1 else { continue }
            target = candidate
            hint = nil
            knownTerm = term
            silence = 0
            return candidate
        }
        return nil
    }

    /// Whom to try, best first: who was tried last comes last.
    private var candidates: [NodeID] {
        if replicas.count == 1 { return isLed ? replicas : [] }
        var order: [NodeID] = hint.map { [$0] } ?? []
        let start = replicas.firstIndex { $0 == lastTried }.map { $0 + 1 } ?? 0
        for offset in replicas.indices {
            let node = replicas[(start + offset) % replicas.count]
            if !order.contains(node) { order.append(node) }
        }
        return order
    }

    /// The parked calls in the order in which they must be made; they are the caller's now.
    func takeParked() -> [ParkedCall] {
        if mustSort {
            // Stable: calls that were never sent have the highest id of all.
            let order = parked.indices.sorted { (parked[$0].id, $0) < (parked[$1].id, $1) }
            parked = order.map { parked[$0] }
        }
        let all = parked
        parked = []
        bytes = 0
        mustSort = false
        return all
    }
}
