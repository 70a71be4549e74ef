// Peers: the way between the replicas of a cluster.
//
//     ReplicaGroup ─send─▶ PeerLinks ─▶ PeerLink ══ our stream: hello, batches ══▶ PeerStream ─received─▶ ReplicaGroup
//                                          ▲                                           │
//                                          └──── its answers: hello, clocks ───────────┘
//
// One stream per pair of processes and direction, over the process's own gRPC server. Everything that a tick has for a
// peer leaves as one message at its end. Nothing is promised about delivery, because Raft needs no promise; what is
// promised is that memory is bounded, that a message's sender is who it says it is, and that nothing a peer sends
// reaches a trap. Confined to one loop.
//
// Who is a peer: a process with the same role (by certificate, or by the user of a Unix socket, and by its own word),
// of the same cluster, that speaks a version we speak, whose number and data directory are those of the shard map, and
// that is no earlier life of a process we already know.

import Base
import Contracts
import Crypto
import Net
import Raft
import Replication

/// The links of one process to its peers.
package final class PeerLinks: PeerTransport {
    /// Who this process is.
    package struct Identity: Hashable, Sendable {
        package var node: NodeID
        /// 16 bytes, made with the data directory.
        package var uid: Bytes
        /// Rises with every start.
        package var incarnation: UInt64
        /// 0: the cluster has no id yet.
        package var cluster: UInt64

        package init(node: NodeID, uid: Bytes, incarnation: UInt64, cluster: UInt64) {
            self.node = node
            self.uid = uid
            self.incarnation = incarnation
            self.cluster = cluster
        }
    }

    /// A process that may be talked to.
    package struct Peer: Hashable, Sendable {
        package var node: NodeID
        /// Nil where it is not known, as with coordinators from a configuration.
        package var uid: Bytes?
        /// Best first.
        package var addresses: [SocketAddress]

        package init(node: NodeID, uid: Bytes?, addresses: [SocketAddress]) {
            self.node = node
            self.uid = uid
            self.addresses = addresses
        }
    }

    /// The newest life of a peer.
    private struct Life {
        var uid: Bytes
        var incarnation: UInt64
    }

    static var limits: GRPCLimits {
        var limits = GRPCLimits()
        limits.streamHighMark = 4 << 20  // Several batches: one is read while the next is on its way.
        return limits
    }

    package let loop: EventLoop
    package let settings: PeerSettings
    /// Hears messages and news. Set before `join`.
    package var receiver: (any PeerReceiver)?
    /// Hears the closed timestamps of shards that a peer leads.
    package var onClosed: ((ClosedTimestamp) -> Void)?
    /// Told when a peer's clock has come to be too far from ours, or is no more: with the peer's minus ours in
    /// milliseconds. Whether this process must fence itself is `isClockSuspect`.
    package var onClockOffset: ((_ peer: NodeID, _ milliseconds: Int64, _ isBeyond: Bool) -> Void)?
    /// Nil until `join`.
    package private(set) var identity: Identity?

    let tls: TLSContext?
    let logger: Logger
    let clock: () -> HLC.Sample
    private let metrics: Metrics
    private var generator: any RandomSource
    private var links: ContiguousArray<PeerLink> = []
    private var peers: [NodeID: Peer] = [:]
    private var lives: [NodeID: Life] = [:]
    private var streams: [NodeID: PeerStream] = [:]
    private var figures: [NodeID: PeerFigures] = [:]
    private var timer: LoopTimer?
    private var lastCheck: UInt64 = 0
    private var isClosed = false

    /// - Parameters:
    ///   - tls: for peers over TCP; over Unix sockets none is used.
    ///   - clock: both clocks of this process, the wall as its hybrid clock believes it.
    package init(
        loop: EventLoop, settings: PeerSettings, tls: TLSContext?, clock: @escaping () -> HLC.Sample, logger: Logger,
        metrics: Metrics, random: any RandomSource = SystemRandom()
    ) {
        self.loop = loop
        self.settings = settings
        self.tls = tls
        self.clock = clock
        self.logger = logger
        self.metrics = metrics
        generator = random
    }

    /// Offers the peers' service on `server`, whose admission must let its path through.
    package func register(on server: GRPCServer) { register(in: server.services) }

    /// The same for a table of methods.
    package func register(in services: GRPCServices) {
        services.register(path: PeerPath.exchange) { [self] stream in PeerStream(self, stream) }
    }

    /// Says who this process is, and begins. Again with another cluster id once there is one.
    package func join(as identity: Identity) {
        guard !isClosed else { return }
        self.identity = identity
        guard timer == nil else { return }
        lastCheck = loop.now
        timer = loop.schedule(afterMilliseconds: settings.probeMilliseconds, repeating: true) { [unowned self] in
            check()
        }
        connect()
    }

    /// Replaces the set of peers: links to those that are new or have moved are made, links to those that are gone are
    /// closed. The process itself may be among them.
    package func update(_ peers: [Peer]) {
        guard !isClosed else { return }
        self.peers = Dictionary(peers.map { ($0.node, $0) }) { first, _ in first }
        lives = lives.filter { self.peers[$0.key] != nil }
        for (node, stream) in streams where self.peers[node] == nil {
            stream.finish(GRPCStatus(.permissionDenied, "node \(node) is no peer any more"))
        }
        connect()
    }

    private func connect() {
        guard let identity else { return }
        let gone = links.filter { peers[$0.node] != $0.peer }
        links.removeAll { peers[$0.node] != $0.peer }
        for link in gone { link.close() }
        for peer in peers.values.sorted(by: { $0.node < $1.node }) where peer.node != identity.node {
            guard !links.contains(where: { $0.node == peer.node }) else { continue }
            links.append(PeerLink(peer, owner: self, figures: figures(of: peer.node)))
        }
    }

    /// Ends all links and streams.
    package func close() {
        isClosed = true
        timer?.cancel()
        timer = nil
        let (links, streams) = (links, streams)
        self.links = []
        for link in links { link.close() }
        for stream in streams.values { stream.finish(GRPCStatus(.unavailable, "the process is shutting down")) }
        receiver = nil
        onClosed = nil
        onClockOffset = nil
    }

    // MARK: Sending

    package func send(_ message: Message, of shard: ShardID, payload: (inout ByteBuffer) -> Void) -> Bool {
        // A handful of links: looking through them costs less than hashing.
        for link in links where link.node == message.to { return link.send(message, of: shard, payload: payload) }
        return false
    }

    /// Tells a peer of a closed timestamp, together with everything else that this tick has for it.
    package func send(_ note: ClosedTimestamp, to peer: NodeID) {
        for link in links where link.node == peer { link.send(note) }
    }

    // MARK: What is known of peers

    /// Whom the shard map calls so.
    func peer(_ node: NodeID) -> Peer? { peers[node] }

    /// Whether the process has answered lately.
    package func isUp(_ node: NodeID) -> Bool { links.contains { $0.node == node && $0.isAlive } }

    /// Our clock is further than the maximum from those of most peers that answer: it is ours that is wrong, as far as
    /// anybody can tell, and this process must not give out timestamps. With a single peer nobody can tell, and both
    /// sides say so.
    package var isClockSuspect: Bool {
        let known = links.filter { $0.isAlive && $0.offset.isKnown }
        return known.count { $0.offset.isBeyond } * 2 > known.count
    }

    func offsetChanged(_ link: PeerLink) {
        logger.log(
            link.offset.isBeyond ? .error : .info,
            link.offset.isBeyond ? "a peer's clock is too far from ours" : "a peer's clock is near ours again",
            [
                "peer": .count(link.node.rawValue), "milliseconds": .count(link.offset.milliseconds),
                "uncertainty": .count(link.offset.uncertainty),
            ])
        onClockOffset?(link.node, link.offset.milliseconds, link.offset.isBeyond)
    }

    private func check() {
        // A process that was stopped finds old answers; that says nothing about its peers.
        let wasStopped = (loop.now &- lastCheck) / 1_000_000 > settings.silenceMilliseconds / 2
        lastCheck = loop.now
        for link in links {
            if wasStopped { link.forgive() }
            link.check()
        }
    }

    func figures(of node: NodeID) -> PeerFigures {
        if let known = figures[node] { return known }
        let fresh = PeerFigures(node, metrics)
        figures[node] = fresh
        return fresh
    }

    func random(below limit: UInt64) -> UInt64 { generator.next(below: limit) }

    // MARK: Greeting

    func hello(to peer: NodeID, answering question: PeerClock? = nil) -> PeerHello? {
        guard let identity else { return nil }
        let now = clock()
        return PeerHello(
            protocols: settings.protocols, role: settings.role, cluster: identity.cluster, node: identity.node,
            peer: peer, uid: identity.uid, incarnation: identity.incarnation,
            clock: PeerClock(
                sent: question?.sent ?? now.monotonicNanoseconds, time: Timestamp(milliseconds: now.wallMilliseconds)))
    }

    /// Why whoever says this is not the peer (`node`, or one that we know); nil when it is, which is remembered.
    func refusal(of hello: PeerHello, from node: NodeID?) -> GRPCStatus? {
        guard let identity, !isClosed else { return GRPCStatus(.unavailable, "this process is no member of a cluster") }
        let versions = settings.protocols
        guard hello.protocolMinimum <= versions.upperBound, hello.protocolMaximum >= versions.lowerBound else {
            let theirs = "\(hello.protocolMinimum) to \(hello.protocolMaximum)"
            let ours = "\(versions.lowerBound) to \(versions.upperBound)"
            return GRPCStatus(.failedPrecondition, "no common version of the protocol: \(theirs), \(ours) here")
        }
        guard hello.role == settings.role else {
            return GRPCStatus(.permissionDenied, "a \(hello.role) is no peer of a \(settings.role)")
        }
        guard hello.cluster == identity.cluster || hello.cluster == 0 || identity.cluster == 0 else {
            return GRPCStatus(.failedPrecondition, "cluster \(hello.cluster), this is \(identity.cluster)")
        }
        guard hello.peer == identity.node, hello.node == node ?? hello.node, hello.node != identity.node else {
            return GRPCStatus(
                .failedPrecondition, "node \(hello.node) speaking to \(hello.peer), this is node \(identity.node)")
        }
        // It may be that our shard map is the older one: the peer tries again.
        guard let peer = peers[hello.node] else {
            return GRPCStatus(.unavailable, "node \(hello.node) is not known here")
        }
        guard hello.uid.count == 16, hello.uid == peer.uid ?? hello.uid else {
            return GRPCStatus(.permissionDenied, "node \(hello.node) has another data directory")
        }
        if let life = lives[hello.node], life.uid == hello.uid, life.incarnation > hello.incarnation {
            return GRPCStatus(.failedPrecondition, "node \(hello.node) has been started again since")
        }
        lives[hello.node] = Life(uid: hello.uid, incarnation: hello.incarnation)
        return nil
    }

    /// A peer has one stream: a new one replaces what is left of the one before.
    func add(_ stream: PeerStream, of node: NodeID) {
        let before = streams.updateValue(stream, forKey: node)
        before?.finish(GRPCStatus(.aborted, "replaced by a newer stream"))
    }

    func remove(_ stream: PeerStream, of node: NodeID) {
        if streams[node] === stream { streams[node] = nil }
    }
}
