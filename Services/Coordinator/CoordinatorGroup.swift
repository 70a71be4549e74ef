import Base
import Crypto
import Net
import Peers
import Placement
import Raft
import Replication
import ServiceKit

/// Who the coordinators of a cluster are, and which of them this is. It is fixed when the cluster is made: what the
/// configuration says later must agree with the log.
package struct CoordinatorGroup: Hashable, Sendable {
    package let id: NodeID
    /// Every coordinator's addresses, best first; empty when this one is alone.
    package let addresses: [NodeID: [SocketAddress]]

    /// A coordinator that is the only one.
    package static let alone = CoordinatorGroup(id: NodeID(rawValue: 1), addresses: [:])

    package var isAlone: Bool { addresses.isEmpty }
    package var voters: Membership { Membership(voters: isAlone ? [id] : Array(addresses.keys)) }

    private init(id: NodeID, addresses: [NodeID: [SocketAddress]]) {
        (self.id, self.addresses) = (id, addresses)
    }

    /// - Parameter members: `1=host:port`, `2=unix:/path`, …; a number that comes again has another address.
    package init(id: Int, members: [String]) throws {
        var addresses: [NodeID: [SocketAddress]] = [:]
        for member in members {
            let parts = member.split(separator: "=", maxSplits: 1)
            guard parts.count == 2, let number = UInt32(parts[0]), number > 0 else {
                throw ConfigurationError("--peers takes NUMBER=ADDRESS with commas between, not \(member)")
            }
            addresses[NodeID(rawValue: number), default: []].append(try SocketAddress(parsing: String(parts[1])))
        }
        let id = NodeID(rawValue: UInt32(clamping: id))
        guard addresses.isEmpty || addresses[id] != nil else {
            throw ConfigurationError("--peers names every coordinator, this one (--id \(id)) too")
        }
        guard [0, 3, 5].contains(addresses.count) else {
            throw ConfigurationError("a cluster has one coordinator, 3 or 5: --peers names \(addresses.count)")
        }
        self.init(id: id, addresses: addresses)
    }

    /// The addresses of a coordinator for those who look for the leader, with commas between.
    func text(_ node: NodeID) -> String { (addresses[node] ?? []).map(\.description).joined(separator: ",") }

    /// A log belongs to the coordinators that it names: others in the configuration would vote apart from them.
    func check(_ state: ShardLogState) throws {
        let isOld = state.membership == nil && state.lastIndex > .zero  // Written when there was never more than one.
        guard let known = isOld ? Membership(voters: [NodeID(rawValue: 1)]) : state.membership else { return }
        guard known == voters else {
            throw ConfigurationError(
                "the log in this directory belongs to the coordinators \(known), not to \(voters) "
                    + "(--id and --peers): their number is fixed when a cluster is made")
        }
    }
}

/// What a coordinator that is one of several has beyond a lonely one: links to the others, ticks, and a way for those
/// that lag.
///
/// **Snapshots.** The placement state is an entry of the log every thousand commands, and the log is cut below one of
/// these. So a coordinator for which the log does not reach back needs no state: it is told where the log begins, and
/// the first entry from there makes up for everything before.
final class CoordinatorLinks: SnapshotSource, SnapshotSink {
    private let links: PeerLinks
    private let group: CoordinatorGroup
    private let groups: ReplicaGroups
    private let loop: EventLoop
    private let directory: String
    private let disk: any Disk
    private let logger: Logger
    private var identity: NodeIdentity
    private var timer: LoopTimer?
    /// The newest entry that holds all of the state, on the leader.
    var newestSnapshot: () -> LogIndex = { .zero }

    /// Raft's tick in milliseconds.
    private static let tick = 50

    init(
        _ settings: PlacementNode.Settings, _ groups: ReplicaGroups, on server: GRPCServer, loop: EventLoop,
        disk: any Disk, access: PlacementAccess, tls: TLSContext?, clock: any Clock, metrics: Metrics, logger: Logger
    ) throws {
        (group, self.groups, self.loop, self.disk, self.logger) = (settings.group, groups, loop, disk, logger)
        directory = settings.directory
        identity = try NodeIdentity.open(settings.directory, disk: disk)
        var peers = PeerSettings(role: "coordinator", user: access.user)
        peers.isInsecure = access.isInsecure
        links = PeerLinks(
            loop: loop, settings: peers, tls: tls,
            clock: {
                HLC.Sample(
                    wallMilliseconds: clock.wallMilliseconds(), monotonicNanoseconds: clock.monotonicNanoseconds())
            }, logger: logger, metrics: metrics)
        links.receiver = groups
        links.register(on: server)
        groups.transport = links
        groups.snapshotSource = self
        groups.snapshotSink = self
    }

    /// Begins to talk to the others; the replica has been started.
    func start() {
        links.update(
            group.addresses.map { PeerLinks.Peer(node: $0.key, uid: nil, addresses: $0.value) })
        join()
        timer = loop.schedule(afterMilliseconds: Self.tick, repeating: true) { [groups] in groups.tick() }
    }

    /// From now on coordinators of another cluster are refused.
    func note(cluster: UInt64) {
        guard identity.cluster != cluster else { return }
        do { try identity.join(cluster, as: group.id, directory, disk: disk) } catch {
            return logger.error("the cluster is not noted", ["error": .describing(error)])
        }
        join()
    }

    private func join() {
        links.join(
            as: PeerLinks.Identity(
                node: group.id, uid: identity.uid.bytes, incarnation: identity.incarnation, cluster: identity.cluster))
    }

    func isUp(_ node: NodeID) -> Bool { links.isUp(node) }

    func close() {
        timer?.cancel()
        links.close()
    }

    // MARK: Snapshots

    func sendSnapshot(
        of shard: ShardID, to peer: NodeID, message: @escaping (LogIndex) -> Message?,
        completion: @escaping (Bool) -> Void
    ) {
        groups.afterStep { [self] in
            let newest = newestSnapshot()
            guard newest > .zero, let found = message(LogIndex(rawValue: newest.rawValue - 1)) else {
                return completion(false)
            }
            logger.info("a coordinator that lags goes on from the newest snapshot", ["peer": .count(peer.rawValue)])
            completion(links.send(found, of: shard))
        }
    }

    func installSnapshot(_ metadata: SnapshotMetadata, of shard: ShardID, completion: @escaping (Bool) -> Void) {
        logger.info("the log begins anew", ["behind": .count(metadata.last.index.rawValue)])
        groups.afterStep { completion(true) }
    }
}
