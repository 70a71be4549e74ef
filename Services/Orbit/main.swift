// orbit: the command line. One table of commands (`Command.all`); each is a row with its options, help and body.
import Base
import Glibc
import ServiceKit

func run(_ words: [String]) -> Int32 {
    guard let name = words.first else {
        Console().out(Command.overview(Command.all))
        return 64
    }
    let aliases = ["--help": "help", "-h": "help", "--version": "version"]
    guard let command = Command.all.first(where: { $0.name == aliases[name] ?? name }) else {
        Console.error("\(Arguments.unknown(name, among: Command.all.map(\.name))) (orbit help lists the commands)")
        return 64
    }
    let rest = Array(words.dropFirst())
    if rest.contains("--help") {
        Console().out(command.help)
        return 0
    }
    do {
        return try command.run(Arguments(rest, for: command))
    } catch let error as UsageError {
        Console.error(error.description)
        return 64
    } catch let error as DatabaseError {
        Console.error(error.message)
    } catch {
        Console.error("\(error)")
    }
    return 1
}

signal(SIGPIPE, SIG_IGN)
exit(run(Array(CommandLine.arguments.dropFirst())))
