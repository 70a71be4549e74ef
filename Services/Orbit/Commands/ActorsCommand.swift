import Base
import Contracts
import ServiceKit

extension Command {
    static let actors = Command(
        "actors", operands: "[locate KEY]", count: 0...2,
        summary: "Lists the actors that are in memory, or shows where the actor of a key lives.",
        options: [
            .data, .json, CommandOption("type", "TYPE", "only actors of this type: string or hash"),
            CommandOption("shard", "N", "only actors of this shard"),
            CommandOption("limit", "N", "list at most so many (default \(ActorsCommand.defaultLimit))"),
            CommandOption("database", "N", "with locate: the key's database, 0 to 15 (default 0)"),
        ]
    ) { arguments in try ActorsCommand(arguments).run() }
}

/// `orbit actors`: asks the leaders of all shards. Neither word activates an actor.
struct ActorsCommand {
    static let defaultLimit = 100
    private static let verbs = ["locate"]

    private let arguments: Arguments
    private let plan: ClusterPlan
    private let console = Console()

    init(_ arguments: Arguments) throws {
        self.arguments = arguments
        if let verb = arguments.operands.first {
            guard Self.verbs.contains(verb) else { throw UsageError(Arguments.unknown(verb, among: Self.verbs)) }
            guard arguments.operands.count == 2 else { throw UsageError("orbit actors locate takes a KEY") }
            for name in ["shard", "limit"] where arguments.has(name) {
                throw UsageError("--\(name) goes with orbit actors, not with locate: the key names its shard")
            }
        } else if arguments.has("database") {
            throw UsageError("--database goes with orbit actors locate")
        }
        plan = try Command.existingCluster(arguments).0
    }

    func run() throws -> Int32 {
        let type = try arguments.choice("type", of: ActorTable.types) ?? ""
        let client = try DirectoryClient(plan)
        if arguments.operands.count == 2 {
            try locate(Bytes(arguments.operands[1].utf8), type, client)
        } else {
            try list(type, client)
        }
        return 0
    }

    private func locate(_ key: Bytes, _ type: String, _ client: DirectoryClient) throws {
        let database = try arguments.number("database", in: 0...15) ?? 0
        let (answer, process) = try client.locate(LocateRequest(database: UInt32(database), type: type, key: key))
        let place = ActorTable.Place(
            key: key, database: UInt32(database), bucket: answer.bucket, shard: answer.shard, node: answer.node,
            process: process, addresses: answer.addresses, term: answer.term,
            actor: answer.actor.map { ActorTable.Row($0, process: process) })
        if arguments.has("json") {
            console.out(place.document.encoded(isPretty: true))
        } else {
            for line in place.lines(now: SystemClock().wallMilliseconds()) { console.out(line) }
        }
    }

    private func list(_ type: String, _ client: DirectoryClient) throws {
        let limit = try arguments.number("limit", in: 1...1_000_000) ?? Self.defaultLimit
        var shards = try PlacementOperator(plan).shards()
        if let only = try arguments.number("shard", in: 0...Int(UInt32.max)) {
            guard shards.contains(UInt32(only)) else {
                throw UsageError("there is no shard \(only); orbit status shows which there are")
            }
            shards = [UInt32(only)]
        }
        var table = ActorTable(rows: [], isComplete: true)
        for shard in shards {
            guard table.rows.count < limit else {
                table.isComplete = false
                break
            }
            let found = try client.list(shard: shard, type: type, limit: limit - table.rows.count)
            table.rows += found.actors.map { ActorTable.Row($0, process: found.process) }
            if !found.isComplete { table.isComplete = false }
        }
        if arguments.has("json") {
            console.out(table.document.encoded(isPretty: true))
        } else {
            for line in table.lines(now: SystemClock().wallMilliseconds()) { console.out(line) }
        }
    }
}

extension ActorTable.Row {
    /// An actor as its node tells of it.
    init(_ actor: ActiveActorMessage, process: String) {
        self.init(
            key: actor.key, type: actor.type, database: actor.database, shard: actor.shard, term: actor.term,
            process: process, activeSince: actor.activeSince, lastCalled: actor.lastCalled, bytes: actor.memorySize,
            isPending: actor.isPending)
    }
}
