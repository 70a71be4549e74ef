import Base
import Contracts
import Net
import Placement
import ServiceKit

/// `orbit.v1.PlacementService` over gRPC: turns requests into commands, and durable outcomes into answers.
///
/// It also ends leases: time enters here, from the loop's clock, and only here. Loop-confined.
package final class PlacementService {
    private let loop: EventLoop
    private let ledger: CommandLedger
    private let logger: Logger
    private let access: PlacementAccess
    private var leases: LeaseTable
    private var watchers: [ObjectIdentifier: MapWatch] = [:]
    private var timers: [LoopTimer] = []
    package let director: PlacementDirector
    private let committedIndex: () -> LogIndex

    /// A lease shorter than the timer's period would end unseen.
    private static let expiryPeriod = 100
    private static let planningPeriod = 500

    /// - Parameters:
    ///   - leaseMilliseconds: how long a lease lasts; renewals come three times as often.
    ///   - committedIndex: for `Describe`.
    package init(
        loop: EventLoop, ledger: CommandLedger, access: PlacementAccess, leaseMilliseconds: UInt64, logger: Logger,
        committedIndex: @escaping () -> LogIndex = { .zero }
    ) {
        self.loop = loop
        self.ledger = ledger
        self.access = access
        self.logger = logger
        self.committedIndex = committedIndex
        leases = LeaseTable(durationNanoseconds: leaseMilliseconds * 1_000_000)
        director = PlacementDirector(
            loop: loop, ledger: ledger, patienceMilliseconds: leaseMilliseconds, logger: logger)
        // Holders of before a restart get a whole lease from now: theirs may still run, and they may still renew.
        for (node, token) in ledger.state.leaseHolders { leases.extend(node, token, now: loop.now) }
        ledger.onMapChanged = { [unowned self] map in announce(map) }
    }

    /// Offers the methods on `server`, behind the access rules.
    package func register(on server: GRPCServer) {
        server.services.admission = { [access] call in access.refusal(path: call.path, peer: call.peer) }
        server.registerUnary(path: PlacementPath.registerNode) { [self] request, call in
            answer(call) { () throws(DatabaseError) in
                try registerNode(try RegisterRequest(decoding: request), call)
            }
        }
        server.registerUnary(path: PlacementPath.renewLease) { [self] request, call in
            answer(call) { () throws(DatabaseError) in try renew(try RenewRequest(decoding: request), call) }
        }
        server.registerUnary(path: PlacementPath.releaseLease) { [self] request, call in
            answer(call) { () throws(DatabaseError) in try release(try ReleaseRequest(decoding: request), call) }
        }
        server.registerUnary(path: PlacementPath.allocateIDs) { [self] request, call in
            answer(call) { () throws(DatabaseError) in allocate(try AllocateIDsRequest(decoding: request), call) }
        }
        server.registerUnary(path: PlacementPath.describe) { [self] _, call in describe(call) }
        server.register(path: PlacementPath.watch) { [self] stream in MapWatch(self, stream) }
        registerOperations(on: server)
        timers = [
            loop.schedule(afterMilliseconds: Self.expiryPeriod, repeating: true) { [self] in endLeases() },
            loop.schedule(afterMilliseconds: Self.planningPeriod, repeating: true) { [self] in director.round() },
        ]
    }

    /// The number of streams that watch the map.
    package var watcherCount: Int { watchers.count }

    /// Ends the watches, and stops ending leases and planning: the process drains.
    package func shutDown() {
        for timer in timers { timer.cancel() }
        timers = []
        for watch in watchers.values { watch.end() }
    }

    // MARK: Methods

    private func registerNode(_ request: RegisterRequest, _ call: GRPCUnaryCall) throws(DatabaseError) {
        guard let uid = request.uid.withUnsafeBytes({ NodeUID($0) }) else {
            throw DatabaseError(.invalidArgument, "a node's uid has 16 bytes")
        }
        let cluster = ledger.state.cluster ?? 0
        guard request.cluster == 0 || request.cluster == cluster else {
            // As final as a data directory that runs elsewhere: the node must not go on asking.
            throw DatabaseError(.staleMap, "the node's data belongs to cluster \(request.cluster), this is \(cluster)")
        }
        for address in request.addresses { _ = try SocketAddress(parsing: address) }
        let registration = NodeRegistration(
            uid: uid, addresses: request.addresses, incarnation: request.incarnation, zone: request.zone,
            certificateName: access.certificateName(of: call.stream.peer))
        ledger.submit(.registerNode(registration)) { [self] result in
            switch result {
            case .failure(let error): call.fail(Self.status(error))
            case .success(let events): registered(events, call)
            }
        }
    }

    private func registered(_ events: [PlacementEvent], _ call: GRPCUnaryCall) {
        guard case .nodeRegistered(let node, let token)? = events.first else {
            call.fail(GRPCStatus(.internalError, "a registration without outcome"))
            return
        }
        // From now on, which is later than the node counts from.
        leases.extend(node, token, now: loop.now)
        logger.info("node registered", ["node": .count(node.rawValue), "fencing_token": .count(token)])
        let response = RegisterResponse(
            node: node.rawValue, fencingToken: token, leaseMilliseconds: leaseMilliseconds,
            cluster: ledger.state.cluster ?? 0, map: ledger.publishedMap.map { ShardMapMessage($0) })
        call.reply(response.encode())
    }

    private func renew(_ request: RenewRequest, _ call: GRPCUnaryCall) throws(DatabaseError) {
        let node = NodeID(rawValue: request.node)
        do throws(DatabaseError) {
            try checkCertificate(call, node)
            guard request.reports.count <= ReplicaReport.limit else {
                throw DatabaseError(.limitExceeded, "at most \(ReplicaReport.limit) replicas are reported at once")
            }
            try ledger.state.checkLease(node, request.fencingToken)
            leases.extend(node, request.fencingToken, now: loop.now)
            director.take(request.reports.map { ReplicaReport($0) }, from: node)
            let response = RenewResponse(leaseMilliseconds: leaseMilliseconds).encode()
            ledger.whenDurable { call.reply(response) }
        } catch {
            ledger.whenDurable { call.fail(Self.status(error)) }
        }
    }

    /// A token alone does not make a node: the map tells it to everybody.
    private func checkCertificate(_ call: GRPCUnaryCall, _ node: NodeID) throws(DatabaseError) {
        guard ledger.state.isCertificate(access.certificateName(of: call.stream.peer), of: node) else {
            throw DatabaseError(.permissionDenied, "node \(node) has another certificate")
        }
    }

    private func release(_ request: ReleaseRequest, _ call: GRPCUnaryCall) throws(DatabaseError) {
        let node = NodeID(rawValue: request.node)
        try checkCertificate(call, node)
        ledger.submit(.expireLease(node: node, fencingToken: request.fencingToken)) { [self] result in
            switch result {
            case .failure(let error): call.fail(Self.status(error))
            case .success:
                leases.end(node, request.fencingToken)
                logger.info("lease released", ["node": .count(node.rawValue)])
                call.reply([])
            }
        }
    }

    private func allocate(_ request: AllocateIDsRequest, _ call: GRPCUnaryCall) {
        ledger.submit(.allocateIDs(kind: request.kind, count: request.count)) { result in
            switch result {
            case .failure(let error): call.fail(Self.status(error))
            case .success(let events):
                guard case .idsAllocated(_, let range)? = events.first else {
                    call.fail(GRPCStatus(.internalError, "an allocation without outcome"))
                    return
                }
                call.reply(AllocateIDsResponse(first: range.lowerBound, count: UInt64(range.count)).encode())
            }
        }
    }

    private func describe(_ call: GRPCUnaryCall) {
        ledger.whenDurable { [self] in
            let response = DescribeResponse(
                map: ledger.publishedMap.map { ShardMapMessage($0) },
                leases: leases.remaining(now: loop.now).map {
                    DescribeResponse.Lease(
                        node: $0.node.rawValue, remainingMilliseconds: UInt32(clamping: $0.nanoseconds / 1_000_000))
                },
                logIndex: committedIndex().rawValue, watchers: UInt32(clamping: watchers.count),
                placement: director.description,
                reports: director.reports.all.prefix(DescribeResponse.reportLimit).map {
                    DescribeResponse.Report(node: $0.node.rawValue, replica: ReplicaReportMessage($0.report))
                })
            call.reply(response.encode())
        }
    }

    private var leaseMilliseconds: UInt32 { UInt32(clamping: leases.durationNanoseconds / 1_000_000) }

    /// Answers a request that failed before it became a command.
    private func answer(_ call: GRPCUnaryCall, _ body: () throws(DatabaseError) -> Void) {
        do throws(DatabaseError) { try body() } catch { call.fail(Self.status(error)) }
    }

    /// A life or a lease that is over is the caller's state, not a passing condition: it must not simply try again.
    static func status(_ error: DatabaseError) -> GRPCStatus {
        error.code == .staleMap ? GRPCStatus(.failedPrecondition, error.message) : GRPCStatus(error)
    }

    // MARK: Operations

    private func registerOperations(on server: GRPCServer) {
        server.registerUnary(path: PlacementPath.drainNode) { [self] request, call in
            answer(call) { () throws(DatabaseError) in setDraining(try NodeRequest(decoding: request), true, call) }
        }
        server.registerUnary(path: PlacementPath.activateNode) { [self] request, call in
            answer(call) { () throws(DatabaseError) in setDraining(try NodeRequest(decoding: request), false, call) }
        }
        server.registerUnary(path: PlacementPath.rebalance) { [self] request, call in
            answer(call) { () throws(DatabaseError) in try rebalance(try RebalanceRequest(decoding: request), call) }
        }
    }

    private func setDraining(_ request: NodeRequest, _ isDraining: Bool, _ call: GRPCUnaryCall) {
        let node = NodeID(rawValue: request.node)
        ledger.submit(.setDraining(node, isDraining)) { [self] result in
            switch result {
            case .failure(let error): call.fail(Self.status(error))
            case .success:
                logger.info(isDraining ? "node drains" : "node is active", ["node": .count(node.rawValue)])
                director.roundSoon()
                call.reply([])
            }
        }
    }

    private func rebalance(_ request: RebalanceRequest, _ call: GRPCUnaryCall) throws(DatabaseError) {
        let forecast = try director.rebalance(isDryRun: request.isDryRun)
        let response = RebalanceResponse(
            moves: forecast.moves.map { .init($0) }, isTruncated: !forecast.isComplete
        ).encode()
        ledger.whenDurable { call.reply(response) }
    }

    // MARK: Leases

    private func endLeases() {
        for (node, token) in leases.expired(now: loop.now) {
            leases.end(node, token)
            ledger.submit(.expireLease(node: node, fencingToken: token)) { [self] result in
                switch result {
                case .success:
                    director.forget(node)
                    logger.warning("node is down: its lease ran out", ["node": .count(node.rawValue)])
                case .failure(let error) where error.code == .staleMap:
                    break  // It has a newer registration, or gave the lease back.
                case .failure(let error):
                    logger.error("lease not ended", ["node": .count(node.rawValue), "error": .describing(error)])
                    leases.extend(node, token, now: loop.now)
                }
            }
        }
    }

    // MARK: Watches

    private func announce(_ map: ShardMap) {
        guard !watchers.isEmpty else { return }
        let message = ShardMapMessage(map).encode()
        for watch in watchers.values { watch.offer(map.epoch, message) }
    }

    fileprivate func add(_ watch: MapWatch, knownEpoch: UInt64) {
        watchers[ObjectIdentifier(watch)] = watch
        guard let map = ledger.publishedMap, map.epoch.rawValue != knownEpoch else { return }
        watch.offer(map.epoch, ShardMapMessage(map).encode())
    }

    fileprivate func remove(_ watch: MapWatch) { watchers[ObjectIdentifier(watch)] = nil }
}

/// One Watch call. A reader that is behind gets the newest map next, not those in between: what is buffered for it is
/// bounded by one map beyond the stream's mark.
private final class MapWatch: GRPCStreamHandler {
    private let service: PlacementService
    private let stream: GRPCServerStream
    private var held: (epoch: MapEpoch, message: Bytes)?
    private var hasRequest = false

    init(_ service: PlacementService, _ stream: GRPCServerStream) {
        self.service = service
        self.stream = stream
    }

    func received(_ message: ByteView) {
        guard !hasRequest else {
            stream.finish(GRPCStatus(.invalidArgument, "Watch takes one request"))
            return
        }
        hasRequest = true
        do throws(DatabaseError) {
            let request = try WatchRequest(decoding: message)
            stream.sendHeaders()
            service.add(self, knownEpoch: request.knownEpoch)
        } catch {
            stream.finish(GRPCStatus(error))
        }
    }

    func receivedEnd() {
        if !hasRequest { stream.finish(GRPCStatus(.invalidArgument, "Watch takes one request")) }
    }

    func offer(_ epoch: MapEpoch, _ message: Bytes) {
        guard stream.isWritable else {
            held = (epoch, message)
            return
        }
        stream.send { $0.append(message) }
    }

    func writable() {
        guard let held else { return }
        self.held = nil
        offer(held.epoch, held.message)
    }

    func closed(_ status: GRPCStatus) { service.remove(self) }

    func end() { stream.finish(GRPCStatus(.unavailable, "the coordinator is shutting down")) }
}
