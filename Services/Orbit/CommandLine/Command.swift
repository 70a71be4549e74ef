import Base

/// An option of a command: one row.
package struct CommandOption: Hashable, Sendable {
    /// Without the dashes.
    package let name: String
    /// What stands for the value in the help; nil for a switch.
    package let value: String?
    package let help: String

    package init(_ name: String, _ value: String? = nil, _ help: String) {
        self.name = name
        self.value = value
        self.help = help
    }

    /// Where the cluster lives: every command that talks to one takes it.
    static let data = CommandOption("data", "DIR", "directory of the cluster (default $ORBIT_DATA or ./orbit-data)")
    static let json = CommandOption("json", nil, "answer as JSON")
}

/// A command of `orbit`: one row. The body returns the exit status.
package struct Command: Sendable {
    package let name: String
    /// What follows the name, for the help: `ID`, `[ROLE]`.
    package let operands: String
    package let operandCount: ClosedRange<Int>
    package let summary: String
    package let options: [CommandOption]
    let run: @Sendable (Arguments) throws -> Int32

    /// One row; the body gets arguments that fit it.
    package init(
        _ name: String, operands: String = "", count: ClosedRange<Int> = 0...0, summary: String,
        options: [CommandOption] = [], run: @escaping @Sendable (Arguments) throws -> Int32
    ) {
        self.name = name
        self.operands = operands
        operandCount = count
        self.summary = summary
        self.options = options
        self.run = run
    }

    /// The help of this command alone.
    package var help: String {
        var text = "usage: orbit \(name)"
        if !operands.isEmpty { text += " \(operands)" }
        if !options.isEmpty { text += " [options]" }
        text += "\n\n\(summary)\n"
        guard !options.isEmpty else { return text }
        let left = options.map { "--\($0.name)" + ($0.value.map { " \($0)" } ?? "") }
        let width = left.map(\.count).max() ?? 0
        text += "\n"
        for (option, start) in zip(options, left) {
            text += "  \(start)\(String(repeating: " ", count: width - start.count))  \(option.help)\n"
        }
        return text
    }
}

/// A command line that cannot be understood, in words for the person who typed it.
package struct UsageError: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

/// The words after a command's name, checked against its rows.
package struct Arguments: Hashable, Sendable {
    package private(set) var operands: [String] = []
    private var values: [String: String] = [:]

    /// Takes `--name value`, `--name=value`, switches and operands in any order; `--` ends the options.
    package init(_ words: [String], for command: Command) throws(UsageError) {
        var rest = words[...]
        var optionsEnded = false
        while let word = rest.popFirst() {
            guard !optionsEnded, word.hasPrefix("--") else {
                if !optionsEnded, word.hasPrefix("-"), word.count > 1 {
                    throw UsageError(
                        "unknown option \(word): options have long names only, see orbit help \(command.name)")
                }
                operands.append(word)
                continue
            }
            if word == "--" {
                optionsEnded = true
                continue
            }
            let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts[0])
            guard let option = command.options.first(where: { $0.name == name }) else {
                throw UsageError(Self.unknown("--" + name, among: command.options.map { "--" + $0.name }))
            }
            guard values[name] == nil else { throw UsageError("--\(name) is given twice") }
            if option.value == nil {
                guard parts.count == 1 else { throw UsageError("--\(name) takes no value") }
                values[name] = ""
            } else if parts.count == 2 {
                values[name] = String(parts[1])
            } else if let value = rest.popFirst() {
                values[name] = value
            } else {
                throw UsageError("--\(name) needs a value: --\(name) \(option.value ?? "")")
            }
        }
        guard command.operandCount.contains(operands.count) else {
            let expected = command.operands.isEmpty ? "no operands" : command.operands
            throw UsageError("orbit \(command.name) takes \(expected); got \(operands.count)")
        }
    }

    /// Whether a switch or an option was given.
    package func has(_ name: String) -> Bool { values[name] != nil }

    /// The value of an option, nil when it was not given.
    package func text(_ name: String) -> String? { values[name] }

    /// A whole number within `range`.
    package func number(_ name: String, in range: ClosedRange<Int>) throws(UsageError) -> Int? {
        guard let text = values[name] else { return nil }
        guard let number = Int(text), range.contains(number) else {
            throw UsageError("--\(name) takes a number from \(range.lowerBound) to \(range.upperBound); got '\(text)'")
        }
        return number
    }

    /// One of a few words.
    package func choice(_ name: String, of words: [String]) throws(UsageError) -> String? {
        guard let text = values[name] else { return nil }
        guard words.contains(text) else {
            throw UsageError("--\(name) takes \(words.joined(separator: " or ")); got '\(text)'")
        }
        return text
    }

    /// Says what is unknown and, if one is near, what was probably meant.
    package static func unknown(_ word: String, among known: [String]) -> String {
        guard let nearest = nearestName(to: word, among: known) else { return "unknown: \(word)" }
        return "unknown: \(word); did you mean \(nearest)?"
    }
}
