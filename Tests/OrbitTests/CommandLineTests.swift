import Testing

import Orbit

@Suite("Command line")
struct CommandLineTests {
    private let command = Command(
        "test", operands: "ID", count: 0...1, summary: "x",
        options: [CommandOption("nodes", "N", "x"), CommandOption("detach", nil, "x"), CommandOption("mode", "M", "x")]
    ) { _ in 0 }

    @Test("takes values after a blank or an equals sign, switches and operands in any order")
    func forms() throws {
        let arguments = try Arguments(["--nodes", "3", "one", "--detach", "--mode=fast"], for: command)
        #expect(try arguments.number("nodes", in: 1...5) == 3)
        #expect(arguments.has("detach"))
        #expect(try arguments.choice("mode", of: ["fast", "slow"]) == "fast")
        #expect(arguments.operands == ["one"])
        #expect(try Arguments(["--", "--nodes"], for: command).operands == ["--nodes"])
    }

    @Test(
        "refuses with words that help",
        arguments: [
            (["--node", "3"], "unknown: --node; did you mean --nodes?"),
            (["--nodes"], "--nodes needs a value: --nodes N"),
            (["--detach=1"], "--detach takes no value"), (["--nodes", "1", "--nodes", "2"], "--nodes is given twice"),
            (["-d"], "unknown option -d: options have long names only, see orbit help test"),
            (["a", "b"], "orbit test takes ID; got 2"),
        ])
    func refuses(_ words: [String], _ message: String) {
        #expect(throws: UsageError(message)) { try Arguments(words, for: command) }
    }

    @Test("bounds numbers and words")
    func bounds() throws {
        let arguments = try Arguments(["--nodes", "9", "--mode", "odd"], for: command)
        #expect(throws: UsageError("--nodes takes a number from 1 to 5; got '9'")) {
            try arguments.number("nodes", in: 1...5)
        }
        #expect(throws: UsageError("--mode takes fast or slow; got 'odd'")) {
            try arguments.choice("mode", of: ["fast", "slow"])
        }
    }

    @Test("every command has a summary or is internal, and no option twice")
    func table() {
        for command in Command.all {
            #expect(!command.summary.isEmpty || command.name == "supervise")
            #expect(Set(command.options.map(\.name)).count == command.options.count)
            #expect(command.help.contains("orbit \(command.name)"))
        }
    }
}
