// Snapshots between the replicas of a cluster, beside the stream of Raft messages:
//
//     SnapshotStaging ─files─▶ SnapshotLink ══ SnapshotService.Send ══▶ SnapshotStream ─▶ SnapshotInbox ─▶ disk, group
//                             SnapshotSender ◀────────── answers ───────────────────────── SnapshotReceiver
//
// A link is one transfer to one peer, on a connection of its own, so that parts never stand before heartbeats; it comes
// back when its stream is lost. An inbox is one shard's receiver over all streams. Who may be a peer is `PeerLinks`' to
// say. Confined to one loop.

import Base
import Contracts
import Net
import Raft
import Replication

/// All transfers of one process.
package final class SnapshotLinks: SnapshotSource {
    /// What may go on at once, and how a transfer behaves.
    package struct Limits: Sendable {
        package var sender = SnapshotSender.Limits()
        package var receiver = SnapshotReceiver.Limits()
        package var outgoing = 2
        package var incoming = 4
        /// Streams that the peer does not answer are given up after so many attempts in a row.
        package var attempts = 20
        /// Between two attempts.
        package var backOffMilliseconds = 250

        package init() {}
    }

    /// From where to where: one transfer at a time.
    struct Way: Hashable {
        let shard: ShardID, peer: NodeID
    }

    let loop: EventLoop
    let peers: PeerLinks
    let staging: any SnapshotStaging
    let limits: Limits
    let logger: Logger
    private var links: [SnapshotLink] = []
    /// Transfers whose files are being made.
    private var making: Set<Way> = []
    private var inboxes: [ShardID: SnapshotInbox] = [:]
    private var transfers: UInt64
    private var timer: LoopTimer?
    private var isClosed = false

    package init(
        peers: PeerLinks, staging: any SnapshotStaging, limits: Limits = Limits(), logger: Logger,
        random: inout some RandomSource
    ) {
        (loop, self.peers, self.staging, self.limits, self.logger) = (peers.loop, peers, staging, limits, logger)
        transfers = random.next()  // So that a restart does not take up a number of the life before.
        timer = loop.schedule(afterMilliseconds: 10_000, repeating: true) { [unowned self] in
            for inbox in inboxes.values { inbox.step(.tick) }
        }
    }

    /// Offers the service on `server`, whose admission must let its path through.
    package func register(on server: GRPCServer) {
        server.register(path: SnapshotPath.send) { [self] stream in SnapshotStream(self, stream) }
    }

    package func sendSnapshot(
        of shard: ShardID, to peer: NodeID, message: @escaping (LogIndex) -> Message?,
        completion: @escaping (Bool) -> Void
    ) {
        let way = Way(shard: shard, peer: peer)
        guard !isClosed, !isUnderWay(way, message), links.count + making.count < limits.outgoing,
            let known = peers.peer(peer)
        else { return loop.runLater { completion(false) } }
        making.insert(way)
        staging.make(shard, message: message) { [self] made in
            making.remove(way)
            guard let made else { return completion(false) }
            guard !isClosed else {
                staging.release(made)
                return completion(false)
            }
            transfers &+= 1 << 32  // Attempts of a transfer count in the lower half.
            let offer = SnapshotOffer(
                transfer: transfers, shard: shard, leaderTerm: made.leaderTerm, metadata: made.metadata,
                manifest: made.manifest, sizes: made.sizes)
            logger.info(
                "sending a snapshot",
                [
                    "shard": .count(shard.rawValue), "peer": .count(peer.rawValue),
                    "index": .count(made.metadata.last.index.rawValue), "bytes": .count(made.sizes.reduce(0, &+)),
                ])
            let link = SnapshotLink(self, known, made, offer) { [self] link, outcome in
                links.removeAll { $0 === link }
                staging.release(made)
                logger.log(
                    outcome == .staged ? .info : .warning, "a snapshot's transfer has ended",
                    [
                        "shard": .count(shard.rawValue), "peer": .count(peer.rawValue),
                        "outcome": .text("\(outcome)"), "sent": .count(link.bytesSent),
                    ])
                completion(outcome == .staged)
            }
            links.append(link)
            link.start()
        }
    }

    /// Whether a transfer goes on already: a group may ask again before it hears of the end, and two of the same
    /// snapshot would take the inbox from each other with every part. One of an earlier term ends here: no group would
    /// take it.
    private func isUnderWay(_ way: Way, _ message: (LogIndex) -> Message?) -> Bool {
        if making.contains(way) { return true }
        guard let link = links.first(where: { $0.way == way }) else { return false }
        if message(link.offer.metadata.last.index)?.term == link.offer.leaderTerm { return true }
        links.removeAll { $0 === link }
        link.close()
        return false
    }

    /// The staged snapshot of a shard is installed, or not wanted: its files go.
    package func consumed(_ shard: ShardID) { inboxes[shard]?.step(.consumed) }

    /// The replica is gone: what comes in for it is dropped, and what has come is removed.
    package func forget(_ shard: ShardID) {
        inboxes.removeValue(forKey: shard)?.close()
        staging.discard(shard)
    }

    /// Ends everything; completions still run.
    package func close() {
        isClosed = true
        timer?.cancel()
        timer = nil
        for link in links { link.close() }
        for inbox in inboxes.values { inbox.close() }
        inboxes = [:]
    }

    /// Where a shard's snapshot comes in; nil when too many do already.
    func inbox(of shard: ShardID) -> SnapshotInbox? {
        if let known = inboxes[shard] { return known }
        guard !isClosed else { return nil }
        for (shard, inbox) in inboxes where inbox.isIdle { inboxes[shard] = nil }
        guard inboxes.count < limits.incoming else { return nil }
        let fresh = SnapshotInbox(self, shard)
        inboxes[shard] = fresh
        return fresh
    }
}
