import Base
import Contracts
import Net
import Placement

/// A storage node's membership: registers it with the coordinator, renews its lease, and says when it must stop.
///
/// The lease counts from the moment a request was *sent*, on the loop's clock, while the coordinator counts from when
/// it granted: so the node always stops first. When the lease ends, because the coordinator was silent for too long
/// or says so, `onLost` comes once, and registering begins again; a new grant may have a new fencing token. Only a
/// node whose data directory was started again elsewhere gives up for good. Confined to its loop.
package final class NodeLease {
    /// What the coordinator gave.
    package struct Grant: Hashable, Sendable {
        package let node: NodeID
        /// Goes with whatever the node does to others: theirs is the duty to refuse a lower one.
        package let fencingToken: UInt64
        package let cluster: UInt64
    }

    /// Why the node may not act.
    package enum Loss: Hashable, Sendable {
        /// No renewal in time. Registration goes on in the background.
        case expired
        /// The coordinator ended it. Registration goes on in the background.
        case revoked(String)
        /// It never comes back: the data directory runs elsewhere, or belongs to another cluster.
        case refused(String)
    }

    /// The lease in force; nil while there is none.
    package private(set) var grant: Grant?
    /// Called with each new grant and the shard map that came with it. The same grant may come again after a loss.
    package var onGranted: ((Grant, ShardMapMessage?) -> Void)?
    /// Called once per loss of a grant, and for `refused`.
    package var onLost: ((Loss) -> Void)?
    /// What the node holds now; asked for each renewal. Without it nothing is reported.
    package var reports: (() -> [ReplicaReport])?

    private static let retryMilliseconds = 200
    /// With reports a lease is renewed more often than it has to be: they are how the coordinator sees the shards.
    private static let reportMilliseconds = 1000
    /// What happens to several shards at once is told at once.
    private static let reportDelayMilliseconds = 5
    private static let registerTimeout: UInt64 = 5_000_000_000

    private let coordinators: CoordinatorClient
    private let identity: NodeIdentity
    private let addresses: [String]
    private let zone: String
    private let logger: Logger
    private var loop: EventLoop { coordinators.loop }
    /// On the loop's clock; meaningful while there is a grant.
    private var deadline: UInt64 = 0
    private var lease: UInt64 = 0
    private var action: LoopTimer?
    private var expiry: LoopTimer?
    private var isRunning = false
    /// When the renewal under way was sent.
    private var renewing: UInt64?
    /// Something happened after the reports under way were made.
    private var hasNews = false

    /// `addresses` are where the node serves invocations, best first; `zone` is what fails together with it.
    package init(
        coordinators: CoordinatorClient, identity: NodeIdentity, addresses: [String], zone: String = "", logger: Logger
    ) {
        self.coordinators = coordinators
        self.identity = identity
        self.addresses = addresses
        self.zone = zone
        self.logger = logger
    }

    /// True while the lease runs by the loop's clock; checked against the clock, not only against a timer that may be
    /// late.
    package var isHeld: Bool { grant != nil && loop.now < deadline }

    /// Begins to register.
    package func start() {
        guard !isRunning else { return }
        isRunning = true
        register()
    }

    /// Gives the lease back after the node has stopped serving, so that nobody waits for it to run out.
    package func release(_ completion: @escaping () -> Void) {
        isRunning = false
        action?.cancel()
        expiry?.cancel()
        guard let grant else {
            completion()
            return
        }
        self.grant = nil
        let request = ReleaseRequest(node: grant.node.rawValue, fencingToken: grant.fencingToken).encode()
        coordinators.unary(path: PlacementPath.releaseLease, request: request, deadline: loop.now + 1_000_000_000) {
            _ in
            completion()
        }
    }

    // MARK: Registering

    private func register() {
        let sent = loop.now
        let request = RegisterRequest(
            uid: identity.uid.bytes, addresses: addresses, incarnation: identity.incarnation, cluster: identity.cluster,
            zone: zone)
        coordinators.unary(
            path: PlacementPath.registerNode, request: request.encode(), deadline: sent + Self.registerTimeout
        ) { [weak self] result in self?.registered(result, sent: sent) }
    }

    private func registered(_ result: Result<Bytes, GRPCStatus>, sent: UInt64) {
        guard isRunning else { return }
        switch result {
        case .failure(let status) where status.code == .failedPrecondition:
            isRunning = false
            logger.error("the coordinator refuses this node", ["reason": .text(status.message)])
            onLost?(.refused(status.message))
        case .failure(let status):
            logger.debug("registration failed", ["status": .describing(status)])
            retryRegistration()
        case .success(let bytes):
            guard let response = try? bytes.withUnsafeBytes({ try RegisterResponse(decoding: $0) }), response.node != 0
            else {
                logger.error("unreadable answer to the registration")
                retryRegistration()
                return
            }
            accept(response, sent: sent)
        }
    }

    private func accept(_ response: RegisterResponse, sent: UInt64) {
        lease = UInt64(response.leaseMilliseconds) * 1_000_000
        deadline = sent + lease
        guard loop.now < deadline else { return retryRegistration() }  // The answer took longer than the lease.
        let fresh = Grant(
            node: NodeID(rawValue: response.node), fencingToken: response.fencingToken, cluster: response.cluster)
        grant = fresh
        renewing = nil  // An answer to a renewal of an earlier grant is nobody's any more.
        watchDeadline()
        scheduleRenewal()
        onGranted?(fresh, response.map)
    }

    private func retryRegistration() {
        action = loop.schedule(afterMilliseconds: Self.retryMilliseconds) { [weak self] in
            guard let self, isRunning else { return }
            register()
        }
    }

    // MARK: Renewing

    /// Tells the coordinator soon what the node holds, instead of with the next renewal: a shard has a new leader, or a
    /// planned change is in force.
    package func reportSoon() {
        guard isRunning, grant != nil else { return }
        guard renewing == nil else {
            hasNews = true
            return
        }
        scheduleRenewal(afterMilliseconds: Self.reportDelayMilliseconds)
    }

    /// A third of the lease leaves room for two lost attempts.
    private func scheduleRenewal() {
        let third = Int(lease / 3_000_000)
        let delay = reports == nil ? third : min(third, Self.reportMilliseconds)
        scheduleRenewal(afterMilliseconds: hasNews ? Self.reportDelayMilliseconds : delay)
    }

    private func scheduleRenewal(afterMilliseconds delay: Int) {
        action?.cancel()
        action = loop.schedule(afterMilliseconds: delay) { [weak self] in self?.renew() }
    }

    /// Room for a coordinator that does not answer, and for the next one that does.
    private var renewTimeout: UInt64 { lease / (coordinators.addresses.count > 1 ? 6 : 3) }

    private func renew() {
        guard isRunning, let grant, renewing == nil else { return }
        let sent = loop.now
        renewing = sent
        hasNews = false
        let held = reports?().prefix(ReplicaReport.limit) ?? []
        let request = RenewRequest(
            node: grant.node.rawValue, fencingToken: grant.fencingToken, reports: held.map { ReplicaReportMessage($0) })
        coordinators.unary(path: PlacementPath.renewLease, request: request.encode(), deadline: sent + renewTimeout) {
            [weak self] result in
            guard let self else { return }
            if renewing == sent { renewing = nil }
            renewed(result, grant, sent: sent)
        }
    }

    private func renewed(_ result: Result<Bytes, GRPCStatus>, _ grant: Grant, sent: UInt64) {
        guard isRunning, self.grant == grant else { return }
        switch result {
        case .failure(let status) where status.code == .failedPrecondition:
            lose(.revoked(status.message))
        case .failure(let status):
            logger.debug("lease not renewed", ["status": .describing(status)])
            scheduleRenewal(afterMilliseconds: Self.retryMilliseconds)
        case .success(let bytes):
            if let response = try? bytes.withUnsafeBytes({ try RenewResponse(decoding: $0) }) {
                lease = UInt64(response.leaseMilliseconds) * 1_000_000
                deadline = max(deadline, sent + lease)
                watchDeadline()
            }
            scheduleRenewal()
        }
    }

    // MARK: Ending

    private func watchDeadline() {
        expiry?.cancel()
        let left = deadline > loop.now ? (deadline - loop.now) / 1_000_000 + 1 : 0
        expiry = loop.schedule(afterMilliseconds: Int(left)) { [weak self] in
            guard let self, grant != nil else { return }
            if loop.now >= deadline { lose(.expired) } else { watchDeadline() }
        }
    }

    private func lose(_ loss: Loss) {
        action?.cancel()
        expiry?.cancel()
        grant = nil
        logger.warning("the lease of this node has ended", ["reason": .text("\(loss)")])
        onLost?(loss)
        if isRunning { retryRegistration() }
    }
}
