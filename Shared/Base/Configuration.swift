import Glibc

/// One setting of a process: a row in its table of options, from which flags, variables, file keys and help follow.
///
/// `ConfigurationOption("drain-timeout", .duration, default: "10s", help: "…")` is the flag `--drain-timeout 5s`, the
/// variable `ORBIT_DRAIN_TIMEOUT=5s`, and the line `drain-timeout = 5s` of the file.
package struct ConfigurationOption: Hashable, Sendable {
    package let name: String
    package let kind: ConfigurationKind
    /// Nil: not set unless somebody sets it.
    package let defaultText: String?
    package let help: String
    /// Passwords and keys: never printed.
    package let isSecret: Bool

    package init(
        _ name: String, _ kind: ConfigurationKind, default defaultText: String? = nil, help: String,
        isSecret: Bool = false
    ) {
        self.name = name
        self.kind = kind
        self.defaultText = defaultText
        self.help = help
        self.isSecret = isSecret
    }

    package var flag: String { "--\(name)" }

    /// `ORBIT_` and the name in capitals.
    package var variable: String { "ORBIT_" + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined() }

    /// Every process has these two.
    package static let common: [ConfigurationOption] = [
        ConfigurationOption("config", .path, help: "File of settings, one `name = value` a line"),
        ConfigurationOption("help", .bool, default: "no", help: "Show the options and exit"),
    ]
}

/// A mistake in the settings, in words for whoever made it.
package struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}

/// The settings of a process, every one checked, with where it came from. Flag > environment > file > default.
///
/// An unknown flag or file key is an error that names the nearest known one. An unknown `ORBIT_*` variable is only
/// listed in `unknownVariables`: the processes of a cluster share one environment, and each knows its own options.
package struct Configuration: Sendable {
    /// Where a value came from.
    package enum Origin: Hashable, Sendable, CustomStringConvertible {
        case flag(String), environment(String), file(String, line: Int), byDefault

        package var description: String {
            switch self {
            case .flag(let name): "flag \(name)"
            case .environment(let name): "environment \(name)"
            case .file(let path, let line): "\(path):\(line)"
            case .byDefault: "default"
            }
        }
    }

    private struct Setting {
        let value: ConfigurationValue
        let origin: Origin
    }

    package let options: [ConfigurationOption]
    /// Arguments that are not flags, in order: subcommands and their objects.
    package private(set) var positionals: [String] = []
    /// Variables that begin with `ORBIT_` and set nothing here, each with the nearest that would.
    package private(set) var unknownVariables: [String] = []
    private var settings: [String: Setting] = [:]

    /// Reads the settings of this process: `arguments` without the program's name; the file through `disk`.
    package init(
        _ options: [ConfigurationOption], arguments: [String] = Array(CommandLine.arguments.dropFirst()),
        environment: [String: String] = Configuration.processEnvironment(), disk: any Disk = PosixDisk()
    ) throws(ConfigurationError) {
        let all = options + ConfigurationOption.common.filter { row in !options.contains { $0.name == row.name } }
        self.options = all
        // Strongest first: a setting that is there already is not replaced.
        try readFlags(arguments)
        try readEnvironment(environment)
        if let path = optionalString("config") {
            let content: Bytes
            do throws(SystemError) { content = try disk.read(path, limit: 1 << 20) } catch {
                throw ConfigurationError("cannot read the configuration file: \(error)")
            }
            try readFile(String(decoding: content, as: UTF8.self), path)
        }
        for option in all where option.defaultText != nil {
            try set(option, option.defaultText ?? "", .byDefault)
        }
    }

    // MARK: Values

    /// True when the option has a value, be it the default.
    package func isSet(_ name: String) -> Bool { settings[option(name).name] != nil }

    /// Where the value came from; nil when there is none.
    package func origin(_ name: String) -> Origin? { settings[option(name).name]?.origin }

    /// The value of an option of any textual kind that has a default.
    package func string(_ name: String) -> String {
        guard let value = optionalString(name) else { preconditionFailure("option \(name) has no default") }
        return value
    }

    /// The same for an option that may be unset.
    package func optionalString(_ name: String) -> String? {
        guard case .text(let text) = settings[option(name).name]?.value else { return nil }
        return text
    }

    package func integer(_ name: String) -> Int {
        guard let value = optionalInteger(name) else { preconditionFailure("option \(name) has no default") }
        return value
    }

    /// The value of an integer, bytes (in bytes) or duration (in milliseconds) option.
    package func optionalInteger(_ name: String) -> Int? {
        guard case .integer(let number) = settings[option(name).name]?.value else { return nil }
        return Int(number)
    }

    package func bytes(_ name: String) -> Int { integer(name) }

    /// The value of a duration option.
    package func milliseconds(_ name: String) -> UInt64 { UInt64(clamping: integer(name)) }

    /// False when a bool option without default is not set.
    package func bool(_ name: String) -> Bool {
        guard case .bool(let bool) = settings[option(name).name]?.value else { return false }
        return bool
    }

    /// The parts of a list option, blanks trimmed; empty when it is not set.
    package func list(_ name: String) -> [String] {
        (optionalString(name) ?? "").split(separator: ",").map { Self.trim($0) }.filter { !$0.isEmpty }
    }

    private func option(_ name: String) -> ConfigurationOption {
        guard let option = options.first(where: { $0.name == name }) else {
            preconditionFailure("option \(name) is not declared")
        }
        return option
    }

    // MARK: Texts

    /// What `config print` shows: a valid file of settings, with where each came from.
    package func printed() -> String {
        var lines: [(setting: String, origin: String)] = []
        for option in options where option.name != "help" && option.name != "config" {
            if let setting = settings[option.name] {
                let text = option.isSecret ? "***" : Self.quoteIfNeeded(option.kind.write(setting.value))
                lines.append(("\(option.name) = \(text)", setting.origin.description))
            } else {
                lines.append(("# \(option.name) =", "not set"))
            }
        }
        let width = min(60, lines.map(\.setting.count).max() ?? 0)
        return lines.map { line in
            line.setting + String(repeating: " ", count: max(0, width - line.setting.count)) + "  # \(line.origin)\n"
        }.joined()
    }

    /// The options as a help text, one or two lines each.
    package static func help(_ options: [ConfigurationOption]) -> String {
        let all = options + ConfigurationOption.common.filter { row in !options.contains { $0.name == row.name } }
        var text = ""
        for option in all {
            let head = "  \(option.flag)" + (option.kind == .bool ? "" : " \(option.kind.placeholder)")
            let blanks = String(repeating: " ", count: head.count < 34 ? 34 - head.count : 34)
            let gap = head.count < 34 ? blanks : "\n" + blanks
            let isPlain = option.kind == .bool || option.isSecret
            text += head + gap + option.help + (isPlain ? "" : option.defaultText.map { " [\($0)]" } ?? "") + "\n"
        }
        return text
    }

    // MARK: Sources

    private mutating func readFlags(_ arguments: [String]) throws(ConfigurationError) {
        var index = 0
        while index < arguments.count {
            let argument = arguments[index]
            index += 1
            if argument == "--" {
                positionals += arguments[index...]
                return
            }
            guard argument.hasPrefix("--") else {
                guard !argument.hasPrefix("-") || argument == "-" else {
                    throw ConfigurationError("unknown flag \(argument); flags begin with two dashes")
                }
                positionals.append(argument)
                continue
            }
            let parts = argument.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = parts.isEmpty ? "" : String(parts[0])
            guard let option = options.first(where: { $0.name == name }) else {
                throw ConfigurationError("unknown flag --\(name)" + suggestion(for: name) { $0.flag })
            }
            let origin = Origin.flag(option.flag)
            guard settings[name] == nil else { throw ConfigurationError("\(option.flag) is given twice") }
            if parts.count == 2 {
                try set(option, String(parts[1]), origin)
            } else if option.kind == .bool {
                try set(option, "yes", origin)
            } else if index < arguments.count {
                try set(option, arguments[index], origin)
                index += 1
            } else {
                throw ConfigurationError("\(option.flag) needs a value (\(option.kind.placeholder))")
            }
        }
    }

    private mutating func readEnvironment(_ environment: [String: String]) throws(ConfigurationError) {
        for (variable, text) in environment.sorted(by: { $0.key < $1.key }) where variable.hasPrefix("ORBIT_") {
            if let option = options.first(where: { $0.variable == variable }) {
                try set(option, text, .environment(variable))
            } else {
                let name = variable.dropFirst(6).lowercased().map { $0 == "_" ? "-" : String($0) }.joined()
                unknownVariables.append(variable + suggestion(for: name) { $0.variable })
            }
        }
    }

    private mutating func readFile(_ content: String, _ path: String) throws(ConfigurationError) {
        var seen: Set<String> = []
        let lines = content.split(omittingEmptySubsequences: false) { $0.isNewline }
        for (index, line) in lines.enumerated() {
            let text = Self.trim(line)
            if text.isEmpty || text.hasPrefix("#") { continue }
            let place = "\(path):\(index + 1)"
            guard let equals = text.firstIndex(of: "=") else {
                throw ConfigurationError("\(place): expected `name = value`")
            }
            let name = Self.trim(text[..<equals])
            guard let option = options.first(where: { $0.name == name }), name != "config", name != "help" else {
                throw ConfigurationError("\(place): unknown option \(name)" + suggestion(for: name) { $0.name })
            }
            guard seen.insert(name).inserted else { throw ConfigurationError("\(place): \(name) is set twice") }
            guard let value = Self.unquote(Self.trim(text[text.index(after: equals)...])) else {
                throw ConfigurationError("\(place): the quotes are not closed, or text follows them")
            }
            try set(option, value, .file(path, line: index + 1))
        }
    }

    private mutating func set(
        _ option: ConfigurationOption, _ text: String, _ origin: Origin
    ) throws(ConfigurationError) {
        switch option.kind.read(text) {
        case .value(let value):
            if settings[option.name] == nil { settings[option.name] = Setting(value: value, origin: origin) }
        case .wrong(let complaint):
            let shown = option.isSecret ? "" : " “\(text)”"
            throw ConfigurationError("\(option.name)\(shown) (\(origin)): \(complaint)")
        }
    }

    private func suggestion(for name: String, _ spell: (ConfigurationOption) -> String) -> String {
        guard let nearest = nearestName(to: name, among: options.map(\.name)),
            let option = options.first(where: { $0.name == nearest })
        else { return "" }
        return "; did you mean \(spell(option))?"
    }

    // MARK: Small text work

    private static func trim(_ text: some StringProtocol) -> String {
        var rest = Substring(text)
        while let first = rest.first, first.isWhitespace { rest.removeFirst() }
        while let last = rest.last, last.isWhitespace { rest.removeLast() }
        return String(rest)
    }

    /// The value of a file's line: quoted text as it is (`\"` and `\\` inside), other text up to ` #`. Nil for bad
    /// quotes.
    private static func unquote(_ text: String) -> String? {
        guard text.hasPrefix("\"") else {
            var previous: Character = " "
            for index in text.indices {
                if text[index] == "#", previous.isWhitespace { return trim(text[..<index]) }
                previous = text[index]
            }
            return text
        }
        var result = ""
        var isEscaped = false
        for index in text.indices.dropFirst() {
            let character = text[index]
            if isEscaped {
                result.append(character)
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else if character == "\"" {
                let tail = trim(text[text.index(after: index)...])
                return tail.isEmpty || tail.hasPrefix("#") ? result : nil
            } else {
                result.append(character)
            }
        }
        return nil
    }

    private static func quoteIfNeeded(_ text: String) -> String {
        let isPlain = !text.isEmpty && !text.contains { $0 == "#" || $0 == "\"" || $0.isWhitespace }
        if isPlain { return text }
        return "\"" + text.map { $0 == "\"" || $0 == "\\" ? "\\\($0)" : String($0) }.joined() + "\""
    }

    /// The environment of this process. Names that occur twice keep their first value, as `getenv` does.
    package static func processEnvironment() -> [String: String] {
        var result: [String: String] = [:]
        var cursor = environ
        while let entry = cursor.pointee {
            let text = String(cString: entry)
            if let equals = text.firstIndex(of: "="), result[String(text[..<equals])] == nil {
                result[String(text[..<equals])] = String(text[text.index(after: equals)...])
            }
            cursor += 1
        }
        return result
    }
}

/// The name with the smallest edit distance to `name`, unless all are too far to be a slip of the fingers.
package func nearestName(to name: String, among names: [String]) -> String? {
    let wanted = Array(name.utf8)
    var best: (name: String, distance: Int)?
    for candidate in names {
        let distance = editDistance(wanted, Array(candidate.utf8))
        if distance < best?.distance ?? .max { best = (candidate, distance) }
    }
    guard let best, best.distance <= max(2, wanted.count / 3) else { return nil }
    return best.name
}

/// Insertions, deletions and replacements between two texts (Levenshtein).
private func editDistance(_ left: Bytes, _ right: Bytes) -> Int {
    var row = Array(0...right.count)
    for (i, leftByte) in left.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, rightByte) in right.enumerated() {
            let replaced = diagonal + (leftByte == rightByte ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(replaced, row[j] + 1, diagonal + 1)
        }
    }
    return row[right.count]
}
