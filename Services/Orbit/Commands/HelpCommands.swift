import ServiceKit

extension Command {
    /// Every command, in the order of the help.
    package static let all: [Command] = [
        .up, .down, .start, .stop, .status, .actors, .node, .rebalance, .user, .health, .config, .version, .help,
        .backup, .restore, .supervise,
    ]

    static let version = Command("version", summary: "Shows which release this is.") { _ in
        Console().out("orbit \(ServiceDescription.version)")
        return 0
    }

    static let help = Command(
        "help", operands: "[COMMAND]", count: 0...1, summary: "Shows the commands, or the options of one."
    ) { arguments in
        guard let name = arguments.operands.first else {
            Console().out(overview(all))
            return 0
        }
        guard let command = all.first(where: { $0.name == name }) else {
            throw UsageError(Arguments.unknown(name, among: all.map(\.name)))
        }
        Console().out(command.help)
        return 0
    }

    /// All commands, one line each.
    static func overview(_ commands: [Command]) -> String {
        let visible = commands.filter { !$0.summary.isEmpty }
        let rows = visible.map { ["  " + ($0.operands.isEmpty ? $0.name : "\($0.name) \($0.operands)"), $0.summary] }
        return """
            orbit: one database, every protocol.

            \(Console.table(rows).joined(separator: "\n"))

            orbit help COMMAND shows the options of one. A cluster lives in a directory: --data DIR, $ORBIT_DATA
            or ./orbit-data; several live side by side with --port-offset.
            """
    }
}
