import Base
import Crypto
import GatewayKit
import Glibc
import Net
import ServiceKit

/// One gateway loop: listeners, clients, the way to the nodes, and what its sessions share.
///
/// A tick: every readable client is read once and everything complete is parsed; calls gather in one batch per node,
/// which leaves at the end of the tick; answers that arrived are appended to their clients' output, which leaves in
/// one write each.
final class Gateway {
    let loop: EventLoop
    let router: NodeRouter
    /// Which keys name records.
    let records: RecordDirectory
    let server: ServerState
    let users: UserCatalog
    /// What commands do to keys, for who listens.
    private(set) lazy var keyspace = KeyspaceFeed(self, tls: tls)
    private let tls: TLSContext?
    private(set) var clients: [UInt64: ClientConnection] = [:]
    private let clock: any Clock
    private let logger: Logger
    private var listeners: [Listener] = []
    private var generator: SplitMix64
    private var onEmpty: (() -> Void)?
    private var pauseTimer: LoopTimer?

    init(
        service: Service, router: NodeRouter, server: ServerState, workers: WorkerPool, soleUser: String,
        tls: TLSContext?
    ) {
        self.tls = tls
        loop = service.loop
        clock = service.clock
        logger = service.logger
        self.router = router
        records = RecordDirectory(router, loop: service.loop)
        self.server = server
        users = UserCatalog(
            router, server, loop: service.loop, workers: workers, logger: service.logger, soleUser: soleUser)
        generator = SplitMix64(seed: randomBytes(8).reduce(0) { $0 << 8 | UInt64($1) })
        server.randomBytes = { randomBytes($0) }
        server.resources = { Self.resources() }
        users.onRemoval = { [unowned self] ids in for id in ids { clients[id]?.kill() } }
        loop.schedule(afterMilliseconds: 1_000, repeating: true) { [unowned self] in
            closeIdleClients()
            for client in clients.values { client.checkOutput() }
            keyspace.review()
        }
        server.wallMilliseconds = clock.wallMilliseconds()
    }

    func random() -> UInt64 { generator.next() }

    /// Gives the sessions this tick's time; to be called first by every event.
    @inline(__always) func beginEvent() {
        let now = loop.now
        guard now != server.monotonic else { return }
        server.monotonicNanoseconds = now
        server.wallMilliseconds = clock.wallMilliseconds()
    }

    // MARK: Clients

    /// Begins to serve at an address; returns it as bound.
    func listen(_ address: SocketAddress, tls: TLSContext?) throws -> SocketAddress {
        var limits = ListenerLimits()
        limits.maximumConnections = .max  // `maxclients`, which can change, is the limit.
        limits.connection.outputLimit = server.settings.outputLimit
        var bound = address
        let listener = try Listener(loop: loop, address: address, tls: tls, limits: limits) { [unowned self] in
            accept($0, at: bound)
        }
        listener.onTrouble = { [logger] error in
            logger.warning("cannot accept connections for a moment", ["error": .describing(error)])
        }
        bound = listener.boundAddress
        listeners.append(listener)
        return bound
    }

    /// Takes connections from now on.
    func start() throws { for listener in listeners { try listener.start() } }

    private func accept(_ connection: Connection, at local: SocketAddress) {
        beginEvent()
        let remote = connection.remoteAddress.description
        guard let session = server.admit(address: remote, localAddress: local.description) else {
            connection.output.append("-ERR max number of clients reached\r\n")
            connection.close(afterFlush: true)
            return
        }
        let client = ClientConnection(self, connection, session)
        clients[session.id] = client
        connection.handler = client
    }

    func remove(_ client: ClientConnection) {
        clients[client.session.id] = nil
        if clients.isEmpty { onEmpty?() }
    }

    private func closeIdleClients() {
        let limit = UInt64(server.settings.idleTimeout) * 1_000
        guard limit > 0 else { return }
        beginEvent()
        for client in clients.values
        where client.session.idleMilliseconds > limit && !client.session.isPaused && !client.session.isListener {
            client.kill()
        }
    }

    // MARK: Channels

    /// Sends a message to everybody who listens to the channel.
    func publish(_ channel: Bytes, _ message: ByteView) {
        server.channels.forEachListener(of: channel) { id, pattern in clients[id]?.push(channel, message, pattern) }
    }

    // MARK: CLIENT PAUSE

    /// Calls `done` when every call that other clients have under way is answered: from then on, nothing happens that
    /// the pause holds back.
    func beginPause(by pauser: ClientConnection, then done: @escaping () -> Void) {
        loop.runLater { [self] in pauseChanged() }
        let others = clients.values.filter { $0 !== pauser && $0.session.inFlight > 0 }
        awaitAnswers(others.map { ($0.session, $0.session.nextToken) }, done)
    }

    private func awaitAnswers(_ sent: [(session: RESPSession, before: UInt64)], _ done: @escaping () -> Void) {
        loop.schedule(afterMilliseconds: sent.isEmpty ? 0 : 1) { [self] in
            let open = sent.filter { !$0.session.hasAnswered(before: $0.before) }
            if open.isEmpty { done() } else { awaitAnswers(open, done) }
        }
    }

    /// Wakes the clients that nothing holds back any more, now and when the pause ends.
    func pauseChanged() {
        beginEvent()
        pauseTimer?.cancel()
        pauseTimer = nil
        if let left = server.endPauseIfDue() {
            // A timer takes no eternity: it looks again after an hour.
            pauseTimer = loop.schedule(afterMilliseconds: Int(clamping: min(left, 3_600_000))) { [self] in
                pauseChanged()
            }
        } else {
            for client in clients.values where client.session.isPaused { client.pauseChanged() }
        }
    }

    // MARK: The end

    /// Stops accepting, lets the calls under way finish, closes the clients.
    func drain(then done: @escaping () -> Void) {
        for listener in listeners { listener.close() }
        finishDrain(done)
    }

    private func finishDrain(_ done: @escaping () -> Void) {
        let busy = clients.values.filter { $0.session.inFlight > 0 }
        guard busy.isEmpty else {
            loop.schedule(afterMilliseconds: 20) { [self] in finishDrain(done) }
            return
        }
        for client in clients.values { client.kill() }
        keyspace.stop()
        records.stop()
        router.close()
        done()
    }

    private static func resources() -> ProcessResources {
        var result = ProcessResources(), usage = rusage()
        getrusage(RUSAGE_SELF.rawValue, &usage)
        result.userMicroseconds = UInt64(usage.ru_utime.tv_sec) * 1_000_000 + UInt64(usage.ru_utime.tv_usec)
        result.systemMicroseconds = UInt64(usage.ru_stime.tv_sec) * 1_000_000 + UInt64(usage.ru_stime.tv_usec)
        result.residentBytes = residentPages() * UInt64(sysconf(Int32(_SC_PAGESIZE)))
        return result
    }

    /// The second number of /proc/self/statm; 0 where there is none.
    private static func residentPages() -> UInt64 {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, Int32(line.count), file) != nil else { return 0 }
        let words = line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }.split(separator: 32)
        return words.count > 1 ? UInt64(String(decoding: words[1], as: UTF8.self)) ?? 0 : 0
    }
}
