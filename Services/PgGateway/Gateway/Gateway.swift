import Base
import Contracts
import Crypto
import GatewayKit
import Net
import ServiceKit

/// One gateway loop: listeners, clients, the way to the nodes, and what its sessions share.
final class Gateway {
    let loop: EventLoop
    let router: NodeRouter
    let server: PgServer
    let users: UserRecords
    private(set) var clients: [Int32: ClientConnection] = [:]
    private let tls: TLSContext?
    private let outputLimit: Int
    private let logger: Logger
    private var listeners: [Listener] = []
    private var lastRefusals: UInt64 = 0, lastConnection: UInt64 = 0

    init(
        service: Service, router: NodeRouter, server: PgServer, tls: TLSContext?, workers: WorkerPool, outputLimit: Int
    ) {
        loop = service.loop
        logger = service.logger
        (self.router, self.server, self.tls, self.outputLimit) = (router, server, tls, outputLimit)
        users = UserRecords(router, loop: service.loop, workers: workers)
        loop.schedule(afterMilliseconds: 1_000, repeating: true) { [unowned self] in everySecond() }
    }

    /// Gives the sessions this tick's time; to be called first by every event.
    @inline(__always) func beginEvent() { server.monotonicMilliseconds = loop.now / 1_000_000 }

    // MARK: Clients

    /// Begins to serve at an address; returns it as bound.
    func listen(_ address: SocketAddress) throws -> SocketAddress {
        var limits = ListenerLimits()
        // A few more than there may be, so that one too many is told why it is refused.
        limits.maximumConnections = server.limits.clients + 100
        limits.connection.outputLimit = outputLimit
        let listener = try Listener(loop: loop, address: address, limits: limits) { [unowned self] in accept($0) }
        listener.onTrouble = { [logger] error in
            logger.warning("cannot accept connections for a moment", ["error": .describing(error)])
        }
        listeners.append(listener)
        return listener.boundAddress
    }

    /// Takes connections from now on.
    func start() throws { for listener in listeners { try listener.start() } }

    private func accept(_ connection: Connection) {
        beginEvent()
        let client = ClientConnection(self, connection)
        clients[client.session.id] = client
        connection.handler = client
    }

    /// A number for a new connection, by which routers spread and order.
    func nextConnection() -> UInt64 {
        lastConnection &+= 1
        return lastConnection
    }

    func remove(_ client: ClientConnection) { clients[client.session.id] = nil }

    /// An engine for a client that has asked for TLS.
    func makeTLS() -> TLSEngine? { try? tls?.makeEngine() }

    /// A CancelRequest: who has the secret may cancel what that session does.
    func cancel(processID: Int32, secret: Int32) {
        guard let session = server.session(processID: processID, secret: secret) else { return }
        clients[session.id]?.event { $0.cancel() }
    }

    private func everySecond() {
        beginEvent()
        for client in clients.values where client.session.isIdleTooLong { client.event { $0.checkIdle() } }
        // Said once a second at most: whoever guesses passwords must not fill the log, too.
        guard server.loginsRefused != lastRefusals else { return }
        lastRefusals = server.loginsRefused
        logger.warning("login refused", ["refused": .count(lastRefusals)])
    }

    // MARK: The end

    /// Stops accepting, lets the statements under way finish, closes the clients.
    func drain(then done: @escaping () -> Void) {
        for listener in listeners { listener.close() }
        finishDrain(done)
    }

    private func finishDrain(_ done: @escaping () -> Void) {
        guard !clients.values.contains(where: \.session.isBusy) else {
            loop.schedule(afterMilliseconds: 20) { [self] in finishDrain(done) }
            return
        }
        let goodbye = StatementError(.adminShutdown, "terminating connection due to administrator command")
        for client in clients.values { client.event { $0.terminate(goodbye) } }
        // What has been said just now goes out at the end of this tick.
        loop.schedule(afterMilliseconds: 0) { [self] in
            router.close()
            done()
        }
    }

    // MARK: Metrics

    /// What Prometheus sees.
    func registerMetrics(_ metrics: Metrics) {
        metrics.sampledGauge("orbit_pg_connections", help: "Connected clients") { [self] in Double(clients.count) }
        metrics.sampledGauge("orbit_pg_transactions_open", help: "Clients inside a transaction block") { [self] in
            Double(clients.values.count { $0.session.status != .idle })
        }
        let counters: [(String, String, (PgServer) -> UInt64)] = [
            ("orbit_pg_connections_total", "Connections accepted", { $0.connectionsReceived }),
            ("orbit_pg_connections_refused_total", "Connections refused, too many", { $0.connectionsRefused }),
            ("orbit_pg_statements_total", "Statements begun", { $0.statementCount }),
            ("orbit_pg_rows_total", "Rows sent", { $0.rowCount }),
            ("orbit_pg_errors_total", "Error responses", { $0.errorCount }),
            ("orbit_pg_protocol_errors_total", "Connections ended for malformed input", { $0.protocolErrors }),
            ("orbit_pg_logins_refused_total", "Logins refused", { $0.loginsRefused }),
        ]
        for (name, help, value) in counters {
            metrics.sampledCounter(name, help: help) { [self] in Double(value(server)) }
        }
    }
}
