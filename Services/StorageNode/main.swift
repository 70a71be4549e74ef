import Base
import Contracts
import Crypto
import Glibc
import Net
import Peers
import ServiceKit

let description = ServiceDescription(
    role: "storage-node",
    summary: "Holds shards: evaluates invocations, logs their effects, answers when they are durable.",
    options: [
        ConfigurationOption("data", .path, default: "./orbit-data/storage-node-1", help: "Directory of store and log"),
        ConfigurationOption("listen", .list, default: "127.0.0.1:50051", help: "Addresses of the gRPC services"),
        ConfigurationOption("coordinator", .list, default: "127.0.0.1:50050", help: "Addresses of the coordinators"),
        ConfigurationOption("zone", .string, default: "", help: "What fails together with it: a machine, rack or site"),
        ConfigurationOption(
            "fsync", .choice(["always", "everysec"]), default: "always", help: "When a write counts as done"),
        ConfigurationOption(
            "actor-memory", .bytes, default: "0",
            help: "Memory of decoded hot state; 0: an eighth of what the machine or the container has"),
        ConfigurationOption(
            "token-retention", .duration, default: "10m", help: "How long the outcome of a call with a token is kept"),
        ConfigurationOption(
            "history", .duration, default: "10m", help: "How far back the past can be read; 0 for as good as not"),
        ConfigurationOption(
            "history-limit", .bytes, default: "1GB", help: "Room for versions that are no longer the newest"),
        ConfigurationOption(
            "saga-retention", .duration, default: "24h", help: "How long a saga that is completed or undone is kept"),
        ConfigurationOption(
            "column-memory", .bytes, default: "256MB",
            help: "Memory for columns of tables that aggregates read; 0: none are kept"),
        ConfigurationOption(
            "transaction-limit", .bytes, default: "1GB",
            help: "Memory that an open transaction may take at a shard, and half of what all may"),
        ConfigurationOption(
            "transaction-entry", .bytes, default: "8MB",
            help: "Changes of a transaction that lie in one entry of the log; more are written in pieces"),
        ConfigurationOption(
            "block-cache", .bytes, default: "0",
            help: "Memory of the store's block cache; 0: a sixteenth of what the machine or the container has"),
    ],
    check: { try $0.checkAddresses("listen", "coordinator") })

Service.run(description) { service in
    let options = service.configuration
    let given = options.bytes("actor-memory")
    var settings = NodeSettings(
        directory: options.string("data"),
        durability: options.string("fsync") == "always" ? .always : .everySecond,
        actorMemory: given > 0 ? given : MachineMemory.bytes() / 8)
    settings.id = NodeIdentity.lastNode(settings.directory, disk: PosixDisk())
    let cache = options.bytes("block-cache")
    settings.store.blockCacheBytes = cache > 0 ? cache : MachineMemory.bytes() / 16
    settings.columnMemory = options.bytes("column-memory")
    settings.scopes.limit(options.bytes("transaction-limit"))
    settings.transactions.cut(above: options.bytes("transaction-entry"))
    settings.outcomes.retentionMilliseconds = options.milliseconds("token-retention")
    settings.history.retentionMilliseconds = options.milliseconds("history")
    settings.history.limitBytes = options.bytes("history-limit")
    settings.sagas.retentionMilliseconds = options.milliseconds("saga-retention")
    // A call whose outcome is not known is not repeated when its shard may soon have forgotten it.
    settings.sagas.timing.certainty = settings.outcomes.retentionMilliseconds / 4 * 3
    service.dataDirectory = settings.directory
    if case .everySecond = settings.durability {
        service.logger.warning("fsync everysec: power loss may cost the last second of acknowledged writes")
    }
    let node = try Node(
        settings: settings, loop: service.loop, systemClock: service.clock, logger: service.logger,
        fatal: { service.fail($0, $1) })
    let server = GRPCServer(loop: service.loop, limits: InvocationStream.limits)
    let access = InvocationAccess(user: getuid(), isInsecure: options.bool("insecure"))
    server.services.admission = { call in access.refusal(path: call.path, peer: call.peer) }
    let feedLinks = FeedLinks(loop: service.loop, tls: try service.clusterTLS(.client))
    node.register(on: server, access: access, feedLinks: feedLinks)
    ReflectionService.register(on: server)
    let health = HealthService()
    health.register(on: server)
    var peerSettings = PeerSettings(role: description.role, user: getuid())
    peerSettings.isInsecure = options.bool("insecure")
    let peers = PeerLinks(
        loop: service.loop, settings: peerSettings, tls: try service.clusterTLS(.client),
        clock: { [clock = service.clock] in
            HLC.Sample(
                wallMilliseconds: node.clock.believedMilliseconds(), monotonicNanoseconds: clock.monotonicNanoseconds())
        },
        logger: service.logger, metrics: service.metrics)
    node.attach(peers, on: server)
    var random = SystemRandom()
    node.attach(StepLinks(loop: service.loop, tls: try service.clusterTLS(.client), session: random.next()))
    node.attach(
        HomeTransactions(
            loop: service.loop, tls: try service.clusterTLS(.client), session: random.next(),
            clock: { [clock = service.clock] in clock.wallMilliseconds() }))
    node.start()
    let context = try service.clusterTLS(.server)
    // Bound at once, because the coordinator is told the addresses; served once it has said which shards are here.
    let listeners = try service.listenAddresses().map { address in
        try server.bind(to: address, tls: try service.requireTLS(context, for: address))
    }
    service.addresses = listeners.map(\.boundAddress)
    node.onServing = {
        health.set(.serving)
        health.set(.serving, for: "orbit.v1.InvocationService")
        health.set(.serving, for: DirectoryPath.service)
        health.set(.serving, for: ChangeFeedPath.service)
        health.set(.serving, for: SagaPath.service)
        health.set(.serving, for: TransactionPath.service)
    }

    let membership = try Membership(
        node: node, coordinators: try service.coordinators(tls: try service.clusterTLS(.client)),
        directory: settings.directory,
        addresses: service.addresses.map(\.description), zone: options.string("zone"), logger: service.logger,
        fatal: { service.fail($0, $1) })
    membership.onJoined = {
        for listener in listeners {
            do { try listener.start() } catch { service.fail("cannot serve at \(listener.boundAddress)", error) }
        }
    }
    service.loop.schedule(afterMilliseconds: Int(clamping: node.clock.startDelayMilliseconds)) { membership.start() }

    service.readiness("coordinator") { membership.complaint }
    service.readiness("shards") { node.isServing ? node.complaint : node.complaint ?? "not serving yet" }
    node.registerMetrics(service.metrics)
    service.status { node.statusMembers }
    service.onDrain { done in
        health.shutDown()
        node.homes?.drain()
        node.handOver { membership.leave { server.drain { node.drain(then: done) } } }
    }
}
