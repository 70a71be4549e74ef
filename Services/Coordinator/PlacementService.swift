import Base
import Contracts
import Net
import Placement
import ServiceKit

/// `orbit.v1.PlacementService` over gRPC: turns requests into commands, and durable outcomes into answers.
///
/// It also ends leases: time enters here, from the loop's clock, and only here. Of several coordinators only the one
/// that leads does any of that; the others say who does. Loop-confined.
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
    /// Where somebody else leads: addresses with commas between, empty when nobody is known to. Nil: there is nobody
    /// else.
    private let otherLeader: () -> String?

    /// A lease shorter than the timer's period would end unseen.
    private static let expiryPeriod = 100
    private static let planningPeriod = 500

    /// - Parameters:
    ///   - leaseMilliseconds: how long a lease lasts; renewals come three times as often.
    ///   - committedIndex: for `Describe`.
    ///   - otherLeader: for those that come to a coordinator that does not lead; nil when it is the only one.
    package init(
        loop: EventLoop, ledger: CommandLedger, access: PlacementAccess, leaseMilliseconds: UInt64, logger: Logger,
        committedIndex: @escaping () -> LogIndex = { .zero }, otherLeader: @escaping () -> String? = { nil }
    ) {
        self.loop = loop
        self.ledger = ledger
        self.access = access
        self.logger = logger
        self.committedIndex = committedIndex
        self.otherLeader = otherLeader
        leases = LeaseTable(durationNanoseconds: leaseMilliseconds * 1_000_000)
        director = PlacementDirector(
            loop: loop, ledger: ledger, patienceMilliseconds: leaseMilliseconds, logger: logger)
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
        server.registerUnary(path: PlacementPath.describe) { [self] _, call in
            answer(call) { () throws(DatabaseError) in describe(call) }
        }
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
        stop()
        for watch in watchers.values {
            watch.end(GRPCStatus(.unavailable, "the coordinator is shutting down"), trailers: directions)
        }
    }

    /// Stops ending leases and planning, and tells nobody.
    package func stop() {
        for timer in timers { timer.cancel() }
        timers = []
    }

    // MARK: Leadership

    /// This coordinator leads from now on.
    ///
    /// Holders of leases get a whole one from now, whatever this coordinator has heard of them: theirs may still run,
    /// and they may still renew. None of theirs outlasts it, because nobody who led before has renewed any since.
    package func takeOver() {
        leases = LeaseTable(durationNanoseconds: leases.durationNanoseconds)
        for (node, token) in ledger.state.leaseHolders { leases.extend(node, token, now: loop.now) }
        director.takeOver()
    }

    /// Somebody else leads, or nobody: those who watch go there.
    package func giveUp() {
        leases = LeaseTable(durationNanoseconds: leases.durationNanoseconds)
        director.giveUp()
        for watch in watchers.values { redirect(watch) }
    }

    fileprivate func redirect(_ watch: MapWatch) {
        watch.end(GRPCStatus(.unavailable, Self.notLeading), trailers: directions)
    }

    private static let notLeading = "this coordinator does not lead"

    private var directions: GRPCMetadata {
        var trailers = GRPCMetadata()
        if let leader = otherLeader() { trailers.add(PlacementPath.leaderTrailer, leader) }
        return trailers
    }

    /// A refusal; that we do not lead comes with who does, and says that nothing was done.
    private func fail(_ call: GRPCUnaryCall, _ error: DatabaseError) {
        call.fail(Self.status(error), trailers: error.code == .notLeader ? directions : GRPCMetadata())
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
            case .failure(let error): fail(call, error)
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
            reply(response, call)
        } catch {
            ledger.whenDurable { [self] lost in fail(call, lost ?? error) }
        }
    }

    private func reply(_ response: Bytes, _ call: GRPCUnaryCall) {
        ledger.whenDurable { [self] lost in
            if let lost { fail(call, lost) } else { call.reply(response) }
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
            case .failure(let error): fail(call, error)
            case .success:
                leases.end(node, request.fencingToken)
                logger.info("lease released", ["node": .count(node.rawValue)])
                call.reply([])
            }
        }
    }

    private func allocate(_ request: AllocateIDsRequest, _ call: GRPCUnaryCall) {
        ledger.submit(.allocateIDs(kind: request.kind, count: request.count)) { [self] result in
            switch result {
            case .failure(let error): fail(call, error)
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
        ledger.whenDurable { [self] lost in
            if let lost { return fail(call, lost) }
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
        guard ledger.isLeading else {
            call.fail(GRPCStatus(.unavailable, Self.notLeading), trailers: directions)
            return
        }
        do throws(DatabaseError) { try body() } catch { fail(call, error) }
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
            case .failure(let error): fail(call, error)
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
        reply(response, call)
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
                case .failure(let error) where error.code == .staleMap || !ledger.isLeading:
                    break  // It has a newer registration, or gave the lease back; or that is for another coordinator.
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
        guard ledger.isLeading else { return redirect(watch) }
        // The first map is one that nobody has gone beyond yet; what comes after it may be published at any time.
        ledger.whenDurable { [self] lost in
            if let lost {
                return watch.end(
                    Self.status(lost), trailers: lost.code == .notLeader ? directions : GRPCMetadata())
            }
            guard let map = ledger.publishedMap, map.epoch.rawValue != knownEpoch else { return }
            watch.offer(map.epoch, ShardMapMessage(map).encode())
        }
    }

    fileprivate func remove(_ watch: MapWatch) { watchers[ObjectIdentifier(watch)] = nil }
}

/// One Watch call. A reader that is behind gets the newest map next, not those in between: what is buffered for it is
/// bounded by one map beyond the stream's mark.
private final class MapWatch: GRPCStreamHandler {
    private let service: PlacementService
    private let stream: GRPCServerStream
    private var held: (epoch: MapEpoch, message: Bytes)?
    private var lastOffer = MapEpoch(rawValue: 0)
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
        guard epoch > lastOffer else { return }
        lastOffer = epoch
        send(epoch, message)
    }

    private func send(_ epoch: MapEpoch, _ message: Bytes) {
        guard stream.isWritable else {
            held = (epoch, message)
            return
        }
        stream.send { $0.append(message) }
    }

    func writable() {
        guard let held else { return }
        self.held = nil
        send(held.epoch, held.message)
    }

    func closed(_ status: GRPCStatus) { service.remove(self) }

    func end(_ status: GRPCStatus, trailers: GRPCMetadata) { stream.finish(status, trailers: trailers) }
}
