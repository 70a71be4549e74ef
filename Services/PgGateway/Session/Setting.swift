import Base
import DataModel

/// One row of the table of settings: what SET takes, SHOW shows and RESET brings back. Names, defaults, bounds and
/// words of errors are PostgreSQL's. A setting that we could only ignore is not in the table.
package struct Setting: Sendable {
    package enum Kind: Sendable {
        case bool
        case integer(ClosedRange<Int64>, Unit?)
        case real(ClosedRange<Double>)
        case choice([String])
        case text
        /// Identifiers with commas between, each quoted where it must be.
        case identifiers
        case dateStyle
        case timeZone
        case encoding
    }

    /// What numbers are counted in.
    package enum Unit: Sendable {
        case milliseconds, kilobytes

        /// Spellings and how many base units each is, smaller ones first.
        var scale: [(name: String, factor: Double)] {
            switch self {
            case .milliseconds:
                [("us", 0.001), ("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
            case .kilobytes: [("B", 1.0 / 1024), ("kB", 1), ("MB", 1024), ("GB", 1_048_576), ("TB", 1_073_741_824)]
            }
        }

        /// What values are counted in.
        var name: String {
            switch self {
            case .milliseconds: "ms"
            case .kilobytes: "kB"
            }
        }
    }

    /// Who may change it.
    package enum Access: Sendable {
        case user
        /// Nobody: it says what is.
        case fixed
        /// Only in the start-up packet or the process' own configuration.
        case start
    }

    package let name: String
    package let kind: Kind
    package let initial: String
    package var access = Access.user
    /// Clients are told of every change (ParameterStatus).
    package var isReported = false
    /// Values that PostgreSQL takes and we do not run: all but these are refused as not supported.
    package var supported: [String]?
    package let summary: String

    init(
        _ name: String, _ kind: Kind, _ initial: String, access: Access = .user, isReported: Bool = false,
        supported: [String]? = nil, _ summary: String
    ) {
        (self.name, self.kind, self.initial, self.access) = (name, kind, initial, access)
        (self.isReported, self.supported, self.summary) = (isReported, supported, summary)
    }

    // MARK: Values

    /// The value as it is kept and shown, of the text that a client gave; `zones` knows the names of time zones.
    package func canonical(_ text: String, zones: TimeZoneNames) throws(StatementError) -> String {
        let value = try parsed(text, zones)
        if let supported, !supported.contains(value) {
            throw StatementError(.featureNotSupported, "setting \(name) to \"\(value)\" is not supported")
        }
        return value
    }

    private func parsed(_ text: String, _ zones: TimeZoneNames) throws(StatementError) -> String {
        switch kind {
        case .bool:
            guard let value = Self.bool(text) else {
                throw StatementError(.invalidParameterValue, "parameter \"\(name)\" requires a Boolean value")
            }
            return value ? "on" : "off"
        case .integer(let range, let unit): return "\(try integer(text, range, unit))"
        case .real(let range):
            guard let value = Double(text.trimmed), value.isFinite else { throw invalid(text) }
            guard range.contains(value) else {
                throw StatementError(
                    .invalidParameterValue,
                    "\(text) is outside the valid range for parameter \"\(name)\" "
                        + "(\(range.lowerBound) .. \(range.upperBound))")
            }
            return value == value.rounded() && abs(value) < 1e15 ? "\(Int64(value))" : "\(value)"
        case .choice(let words):
            guard let word = words.first(where: { $0 == text.asciiLowercased }) else {
                throw invalid(text, hint: "Available values: \(words.joined(separator: ", ")).")
            }
            return word
        case .text: return text
        case .identifiers:
            guard Identifiers.split(text) != nil else {
                throw invalid(text, detail: "List syntax is invalid.")
            }
            return text
        case .dateStyle: return try DateStyle.canonical(text) { (detail) in invalid(text, detail: detail) }
        case .timeZone:
            guard let zone = zones.canonical(text) else { throw invalid(text) }
            return zone
        case .encoding:
            switch text.asciiLowercased.filter({ $0.isLetter || $0.isNumber }) {
            case "utf8", "unicode": return "UTF8"
            case "latin1", "iso88591", "sqlascii", "win1252", "windows1252", "latin9", "win1250", "win1251", "eucjp",
                "sjis", "big5", "gbk", "gb18030", "euckr", "koi8r", "latin2":
                throw StatementError(.featureNotSupported, "client encoding \"\(text)\" is not supported: only UTF8 is")
            case _: throw invalid(text)
            }
        }
    }

    private func invalid(_ text: String, detail: String? = nil, hint: String? = nil) -> StatementError {
        StatementError(
            .invalidParameterValue, "invalid value for parameter \"\(name)\": \"\(text)\"", detail: detail, hint: hint)
    }

    /// Any beginning of `true`, `false`, `yes`, `no`; `on`, `off`, `1`, `0`.
    static func bool(_ text: String) -> Bool? {
        let word = text.asciiLowercased
        if word.isEmpty { return nil }
        if "true".hasPrefix(word) || "yes".hasPrefix(word) || word == "on" || word == "1" { return true }
        let isOff = "off".hasPrefix(word) && word.utf8.count > 1
        if "false".hasPrefix(word) || "no".hasPrefix(word) || isOff || word == "0" { return false }
        return nil
    }

    private func integer(_ text: String, _ range: ClosedRange<Int64>, _ unit: Unit?) throws(StatementError) -> Int64 {
        let trimmed = text.trimmed
        let end = trimmed.firstIndex { !($0.isASCII && $0.isNumber) && !"+-.eE".contains($0) } ?? trimmed.endIndex
        let suffix = trimmed[end...].trimmed
        guard var value = Double(trimmed[..<end]), value.isFinite else { throw invalid(text) }
        if !suffix.isEmpty {
            guard let factor = unit?.scale.first(where: { $0.name == suffix })?.factor else {
                let names = unit?.scale.map { "\"\($0.name)\"" } ?? []
                let list = names.dropLast().joined(separator: ", ") + ", and " + (names.last ?? "")
                throw invalid(text, hint: names.isEmpty ? nil : "Valid units for this parameter are \(list).")
            }
            value *= factor
        }
        let rounded = value.rounded(.toNearestOrEven)
        guard abs(rounded) < 9e15, range.contains(Int64(rounded)) else {
            let unitName = unit.map { " \($0.name)" } ?? ""
            let shown = abs(rounded) < 9e15 ? "\(Int64(rounded))" : "\(rounded)"
            throw StatementError(
                .invalidParameterValue,
                "\(shown)\(unitName) is outside the valid range for parameter \"\(name)\" "
                    + "(\(range.lowerBound) .. \(range.upperBound))")
        }
        return Int64(rounded)
    }

    /// As SHOW shows it: a number with the largest unit that leaves it whole.
    package func shown(_ value: String) -> String {
        guard case .integer(_, .some(let unit)) = kind, let number = Int64(value), number > 0 else { return value }
        let whole = unit.scale.filter { $0.factor >= 1 && number % Int64($0.factor) == 0 }
        guard let best = whole.last else { return value }
        return "\(number / Int64(best.factor))\(best.name)"
    }
}

extension StringProtocol {
    var asciiLowercased: String {
        String(decoding: utf8.map { (0x41...0x5a).contains($0) ? $0 | 0x20 : $0 }, as: UTF8.self)
    }

    /// Without blanks at either end.
    var trimmed: String {
        var rest = Substring(self)
        while let first = rest.first, first.isWhitespace { rest = rest.dropFirst() }
        while let last = rest.last, last.isWhitespace { rest = rest.dropLast() }
        return String(rest)
    }
}

/// Lists of identifiers, as `search_path` has them.
enum Identifiers {
    /// The names of a list, or nil if it is none. An empty text is an empty list.
    static func split(_ text: String) -> [String]? {
        var names: [String] = [], rest = Substring(text.trimmed)
        if rest.isEmpty { return [] }
        while true {
            var name = ""
            if rest.first == "\"" {
                rest = rest.dropFirst()
                while true {
                    guard let quote = rest.firstIndex(of: "\"") else { return nil }
                    name += rest[..<quote]
                    rest = rest[rest.index(after: quote)...]
                    guard rest.first == "\"" else { break }
                    name += "\""
                    rest = rest.dropFirst()
                }
            } else {
                let end = rest.firstIndex { $0 == "," || $0.isWhitespace } ?? rest.endIndex
                name = rest[..<end].asciiLowercased
                rest = rest[end...]
                if name.isEmpty { return nil }
            }
            names.append(name)
            rest = Substring(rest.trimmed)
            if rest.isEmpty { return names }
            guard rest.first == "," else { return nil }
            rest = Substring(rest.dropFirst().trimmed)
        }
    }

    /// As it can be read back: quoted unless it is a plain word in lower case.
    static func quoted(_ name: String) -> String {
        let isPlain =
            name.utf8.first.map { (0x61...0x7a).contains($0) || $0 == 0x5f } ?? false
            && name.utf8.allSatisfy { (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5f }
        return isPlain ? name : "\"" + name.replacing("\"", with: "\"\"") + "\""
    }
}

/// `DateStyle`: how dates are written, of which we have ISO only, and in which order they are read.
enum DateStyle {
    static func canonical(
        _ text: String, invalid: (String) -> StatementError
    ) throws(StatementError) -> String {
        var order = "MDY", style = "ISO"
        guard let words = Identifiers.split(text) else { throw invalid("List syntax is invalid.") }
        for word in words {
            switch word {
            case "iso", "default": style = "ISO"
            case "sql", "postgres", "postgresql", "german":
                style = word
                if word == "german" { order = "DMY" }
            case "ymd": order = "YMD"
            case "dmy", "euro", "european": order = "DMY"
            case "mdy", "us", "noneuro", "noneuropean": order = "MDY"
            case _: throw invalid("Unrecognized key word: \"\(word)\".")
            }
        }
        guard style == "ISO" else {
            throw StatementError(.featureNotSupported, "DateStyle \"\(style)\" is not supported: only ISO is")
        }
        return "ISO, \(order)"
    }
}

/// The time zones that there are: a value, filled by the process from the system's zone files.
package struct TimeZoneNames: Sendable {
    private let byFoldedName: [String: String]
    private let named: @Sendable (String) -> ZoneRules?

    /// `named` gives the rules of a zone, by its name as it is spelled.
    package init(_ names: [String], named: @escaping @Sendable (String) -> ZoneRules? = { _ in nil }) {
        byFoldedName = Dictionary(names.map { ($0.asciiLowercased, $0) }) { first, _ in first }
        self.named = named
    }

    /// The rules of a zone as `canonical` names it.
    func rules(_ name: String) -> ZoneRules? {
        if name == "UTC" || name == "GMT" { return .utc }
        return byFoldedName[name.asciiLowercased].flatMap(named) ?? ZoneRules(posix: name)
    }

    /// The zone's name as it is spelled, or an offset from Greenwich in POSIX form; nil if there is no such zone.
    package func canonical(_ text: String) -> String? {
        let folded = text.asciiLowercased
        if folded == "utc" || folded == "gmt" { return folded.uppercased() }
        if let known = byFoldedName[folded] { return known }
        if text.hasPrefix("<"), Self.posixOffset(text) != nil { return text }
        guard let hours = Double(text) else {
            // Rules as POSIX writes them, which count hours WEST of Greenwich.
            let rules = text.uppercased()
            return ZoneRules(posix: rules) != nil ? rules : nil
        }
        guard hours.isFinite, abs(hours) <= 167 else { return nil }
        return Self.zone(minutes: Int((hours * 60).rounded()))
    }

    /// `<+02>-02`: what PostgreSQL makes of SET TIME ZONE 2.
    static func zone(minutes: Int) -> String {
        func text(_ minutes: Int) -> String {
            let magnitude = abs(minutes)
            let hours = magnitude / 60, rest = magnitude % 60
            return (minutes < 0 ? "-" : "+") + (hours < 10 ? "0" : "") + "\(hours)"
                + (rest == 0 ? "" : ":" + (rest < 10 ? "0" : "") + "\(rest)")
        }
        return "<\(text(minutes))>\(text(-minutes))"
    }

    /// Minutes east of Greenwich of such a zone.
    static func posixOffset(_ text: String) -> Int? {
        guard let end = text.firstIndex(of: ">") else { return nil }
        let inside = text[..<end].dropFirst()
        let parts = inside.dropFirst().split(separator: ":", omittingEmptySubsequences: false)
        guard let sign = inside.first, sign == "+" || sign == "-", (1...2).contains(parts.count),
            let hours = Int(parts[0]), (0...167).contains(hours)
        else { return nil }
        let minutes = parts.count == 2 ? Int(parts[1]) ?? -1 : 0
        guard (0..<60).contains(minutes) else { return nil }
        let total = (hours * 60 + minutes) * (sign == "-" ? -1 : 1)
        return zone(minutes: total) == text ? total : nil
    }
}
