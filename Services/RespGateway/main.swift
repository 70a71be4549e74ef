// resp-gw: the gateway for clients of Redis.
//
// A client's bytes become calls, a node's answers become bytes; nothing outlives the connection. Three layers:
//
//     Wire/       RESP2, RESP3 and inline commands, as slices of the read buffer
//     Session/    what one connection does next: order, login, back-pressure; decisions, no waiting
//     Translate/  the commands, one row each: what they become, and how answers look
//     Gateway/    carries the decisions out: sockets, the router to the nodes, the catalog of users
//
// The first three are pure and tested as values (Tests/Transcripts/resp). Invariants: answers leave in the order of
// their commands; what cannot be done whole is refused; a client's byte reaches no trap; every queue has a bound.

import Base
import Crypto
import GatewayKit
import Net
import Placement
import ServiceKit

let description = ServiceDescription(
    role: "resp-gw",
    summary: "Serves clients of Redis: RESP2 and RESP3.",
    options: [
        ConfigurationOption("listen", .list, default: "127.0.0.1:6379", help: "Addresses for clients"),
        ConfigurationOption("tls-listen", .list, help: "Addresses for clients that speak TLS"),
        ConfigurationOption("client-cert", .path, help: "Certificate shown to clients over TLS (PEM)"),
        ConfigurationOption("client-key", .path, help: "Private key of client-cert (PEM)"),
        ConfigurationOption(
            "client-ca", .path, help: "If set, clients must show a certificate of this authority (PEM)"),
        ConfigurationOption("coordinator", .list, help: "Addresses of the coordinators"),
        ConfigurationOption("node", .address, help: "The storage node of a cluster without coordinator"),
        ConfigurationOption(
            "authentication", .bool, default: "yes", help: "Clients must log in; 'no' lets anybody do everything"),
        ConfigurationOption(
            "default-user", .string, default: "orbit", help: "User meant by AUTH with a password only"),
        ConfigurationOption(
            "max-clients", .integer(1...1 << 20), default: "10000", help: "Connections at the same time"),
        ConfigurationOption("max-value-size", .bytes, default: "8MB", help: "Longest argument of a command"),
        ConfigurationOption(
            "output-limit", .bytes, default: "256MB", help: "A client that leaves more unread is closed"),
        ConfigurationOption(
            "replica-staleness", .duration, default: "10s",
            help: "How old a follower's answer may be after READONLY; 0: however old"),
        ConfigurationOption("call-timeout", .duration, default: "30s", help: "How long a node may take to answer"),
    ],
    check: { options in
        _ = try options.addresses("listen")
        if try !options.addresses("tls-listen").isEmpty { _ = try clientTLS(options) }
        guard options.isSet("node") || options.isSet("coordinator") else {
            throw ConfigurationError("--coordinator is needed: the addresses of the cluster's coordinators")
        }
        try options.checkAddresses("coordinator", "node")
    })

Service.run(description) { service in
    let options = service.configuration
    var settings = Settings()
    settings.limits.bulk = options.bytes("max-value-size")
    settings.maximumClients = options.integer("max-clients")
    settings.outputLimit = options.bytes("output-limit")
    settings.replicaStaleness = options.milliseconds("replica-staleness")
    var facts = ServerFacts()
    facts.version = ServiceDescription.version
    facts.runID = randomBytes(20).flatMap { [$0 >> 4, $0 & 15] }.map { String($0, radix: 16) }.joined()
    facts.processID = Int(ProcessFacts.id)
    facts.executable = CommandLine.arguments.first ?? ""
    facts.startedAtMilliseconds = service.clock.wallMilliseconds()

    let isOpen = !options.bool("authentication")
    if isOpen { service.logger.warning("INSECURE: clients need no password (--authentication=no)") }
    let addresses = try service.listenAddresses()
    if let port = addresses.first?.port { settings.port = Int(port) }
    facts.port = settings.port
    let tlsAddresses = try service.listenAddresses("tls-listen")
    settings.tlsPort = Int(tlsAddresses.first?.port ?? 0)
    settings.bind = addresses.compactMap(\.host).joined(separator: " ")
    ProcessFacts.raiseDescriptorLimit()

    let tls = try service.clusterTLS(.client)
    let router = NodeRouter(
        loop: service.loop, tls: tls,
        session: randomBytes(8).reduce(0) { $0 << 8 | UInt64($1) }, callTimeout: options.milliseconds("call-timeout"))
    let server = ServerState(users: UserDirectory(isOpen: isOpen), settings: settings, facts: facts)
    let gateway = Gateway(
        service: service, router: router, server: server, workers: WorkerPool(threads: 1),
        soleUser: options.string("default-user"), tls: tls)
    let watcher = try watchPlacement(service, router, tls)

    for address in addresses { service.addresses.append(try gateway.listen(address, tls: nil)) }
    if !tlsAddresses.isEmpty {
        let context = try clientTLS(options)
        for address in tlsAddresses {
            service.addresses.append(try gateway.listen(address, tls: context))
        }
    }
    try gateway.start()
    gateway.registerMetrics(service.metrics)
    service.readiness("nodes") { router.isReady ? nil : "not every shard's leader is connected" }
    service.onDrain { done in
        watcher?.stop()
        gateway.drain(then: done)
    }
}
