// pg-gw: the gateway for clients of PostgreSQL.
//
// A client's messages become statements, a node's rows become messages; nothing outlives the connection. Layers:
//
//     Wire/       protocol 3.0, messages as slices of the read buffer
//     Session/    what one connection does next: login, order, transactions, settings; decisions, no waiting
//     Gateway/    carries the decisions out: sockets, TLS, users, the way to the nodes
//
// The first two are pure and tested as values (Tests/Transcripts/pg). Invariants: answers leave in the order of their
// messages; what cannot be done whole is refused; a client's byte reaches no trap; every queue has a bound.

import Base
import Crypto
import GatewayKit
import Net
import ServiceKit

let description = ServiceDescription(
    role: "pg-gw",
    summary: "Serves clients of PostgreSQL: protocol 3.0.",
    options: [
        ConfigurationOption("listen", .list, default: "127.0.0.1:5432", help: "Addresses for clients"),
        ConfigurationOption("client-cert", .path, help: "Certificate shown to clients that ask for TLS (PEM)"),
        ConfigurationOption("client-key", .path, help: "Private key of client-cert (PEM)"),
        ConfigurationOption(
            "client-ca", .path, help: "If set, clients under TLS must show a certificate of this authority (PEM)"),
        ConfigurationOption("coordinator", .list, help: "Addresses of the coordinators"),
        ConfigurationOption("node", .address, help: "The storage node of a cluster without coordinator"),
        ConfigurationOption(
            "authentication", .bool, default: "yes", help: "Clients must log in; 'no' lets anybody do everything"),
        ConfigurationOption(
            "clear-password", .bool, default: "no",
            help: "Under TLS, ask clients for the password itself instead of SCRAM-SHA-256"),
        ConfigurationOption(
            "max-clients", .integer(1...1 << 20), default: "10000", help: "Connections at the same time"),
        ConfigurationOption("max-message-size", .bytes, default: "64MB", help: "Longest message of a client"),
        ConfigurationOption(
            "output-limit", .bytes, default: "256MB", help: "A client that leaves more unread is closed"),
        ConfigurationOption("call-timeout", .duration, default: "30s", help: "How long a node may take to answer"),
    ],
    check: { options in
        _ = try options.addresses("listen")
        if options.isSet("client-cert") || options.isSet("client-key") { _ = try clientTLS(options) }
        guard options.isSet("node") || options.isSet("coordinator") else {
            throw ConfigurationError("--coordinator is needed: the addresses of the cluster's coordinators")
        }
        try options.checkAddresses("coordinator", "node")
    })

Service.run(description) { service in
    let options = service.configuration
    let isOpen = !options.bool("authentication")
    if isOpen { service.logger.warning("INSECURE: clients need no password (--authentication=no)") }
    ProcessFacts.raiseDescriptorLimit()

    let tls = try service.clusterTLS(.client)
    let router = NodeRouter(
        loop: service.loop, tls: tls,
        session: randomBytes(8).reduce(0) { $0 << 8 | UInt64($1) }, callTimeout: options.milliseconds("call-timeout"))
    let clientContext = options.isSet("client-cert") ? try clientTLS(options) : nil
    var limits = PgServer.Limits()
    limits.clients = options.integer("max-clients")
    limits.message = options.bytes("max-message-size")
    let server = PgServer(
        limits: limits, zones: TimeZoneNames(ZoneFiles.names(), named: { ZoneFiles.rules($0) }), isOpen: isOpen,
        offersTLS: clientContext != nil,
        prefersClearPassword: options.bool("clear-password"), randomBytes: { randomBytes($0) })
    let gateway = Gateway(
        service: service, router: router, server: server, tls: clientContext, workers: WorkerPool(threads: 1),
        outputLimit: options.bytes("output-limit"))
    let watcher = try watchPlacement(service, router, tls)

    for address in try service.listenAddresses() { service.addresses.append(try gateway.listen(address)) }
    try gateway.start()
    gateway.registerMetrics(service.metrics)
    service.readiness("nodes") { router.isReady ? nil : "not every shard's leader is connected" }
    service.onDrain { done in
        watcher?.stop()
        gateway.drain(then: done)
    }
}
