/// What an option's value looks like. Each kind reads text and says what is wrong with it.
package enum ConfigurationKind: Hashable, Sendable {
    case string
    /// A file or directory.
    case path
    case integer(ClosedRange<Int64>)
    /// A size: `4096`, `64kb`, `512mb`, `2gb` (powers of 1024; `k`, `kib` and so on mean the same).
    case bytes
    /// A length of time with its unit: `250ms`, `30s`, `5m`, `2h`, `7d`; `0` needs none.
    case duration
    case bool
    /// `host:port`, `[ipv6]:port` or `unix:/path`.
    case address
    case choice([String])
    /// Texts separated by commas.
    case list

    /// What the value is called in help texts.
    package var placeholder: String {
        switch self {
        case .string: "TEXT"
        case .path: "PATH"
        case .integer: "N"
        case .bytes: "SIZE"
        case .duration: "TIME"
        case .bool: "BOOL"
        case .address: "ADDRESS"
        case .choice(let names): names.joined(separator: "|")
        case .list: "A,B,…"
        }
    }

    /// The value of `text`, or what is wrong with it.
    func read(_ text: String) -> ReadResult {
        switch self {
        case .string, .path, .list:
            return .value(.text(text))
        case .integer(let range):
            guard let number = Int64(text) else { return .wrong("expected a whole number") }
            guard range.contains(number) else { return .wrong(Self.describe(range)) }
            return .value(.integer(number))
        case .bytes:
            return Self.scaled(text, Self.byteUnits, unitRequired: false, "expected a size like 4096, 64kb or 2gb")
        case .duration:
            return Self.scaled(text, Self.timeUnits, unitRequired: true, "expected a time like 250ms, 30s, 5m or 2h")
        case .bool:
            switch text.lowercased() {
            case "true", "yes", "on", "1": return .value(.bool(true))
            case "false", "no", "off", "0": return .value(.bool(false))
            case _: return .wrong("expected yes or no")
            }
        case .address:
            return Self.isAddress(text)
                ? .value(.text(text)) : .wrong("expected host:port, [ipv6]:port or unix:/path")
        case .choice(let names):
            return names.contains(text)
                ? .value(.text(text)) : .wrong("expected one of \(names.joined(separator: ", "))")
        }
    }

    enum ReadResult {
        case value(ConfigurationValue), wrong(String)
    }

    private static func describe(_ range: ClosedRange<Int64>) -> String {
        switch (range.lowerBound, range.upperBound) {
        case (.min, .max): "expected a whole number"
        case (let low, .max): "expected at least \(low)"
        case (.min, let high): "expected at most \(high)"
        case (let low, let high): "expected \(low) to \(high)"
        }
    }

    private static let byteUnits: [(name: String, factor: Int64)] = [
        ("", 1), ("b", 1), ("k", 1 << 10), ("kb", 1 << 10), ("kib", 1 << 10), ("m", 1 << 20), ("mb", 1 << 20),
        ("mib", 1 << 20), ("g", 1 << 30), ("gb", 1 << 30), ("gib", 1 << 30), ("t", 1 << 40), ("tb", 1 << 40),
        ("tib", 1 << 40),
    ]

    private static let timeUnits: [(name: String, factor: Int64)] = [
        ("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
    ]

    private static func scaled(
        _ text: String, _ units: [(name: String, factor: Int64)], unitRequired: Bool, _ complaint: String
    ) -> ReadResult {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let unit = text.dropFirst(digits.count).lowercased()
        guard let number = Int64(digits) else { return .wrong(complaint) }
        if number == 0, unit.isEmpty { return .value(.integer(0)) }
        guard let factor = units.first(where: { $0.name == unit })?.factor else { return .wrong(complaint) }
        let (product, overflow) = number.multipliedReportingOverflow(by: factor)
        return overflow ? .wrong("the number is too large") : .value(.integer(product))
    }

    /// The form only; whether it can be bound or reached is found out by the network.
    private static func isAddress(_ text: String) -> Bool {
        if text.hasPrefix("unix:") { return text.utf8.count > 5 }
        guard let colon = text.lastIndex(of: ":"), UInt16(text[text.index(after: colon)...]) != nil else {
            return false
        }
        let host = text[..<colon]
        if host.hasPrefix("[") { return host.hasSuffix("]") && host.utf8.count > 2 }
        return !host.isEmpty && !host.contains(":")
    }

    /// Text that `read` turns into `value` again, in the largest unit that is exact.
    func write(_ value: ConfigurationValue) -> String {
        switch value {
        case .text(let text): return text
        case .bool(let bool): return bool ? "yes" : "no"
        case .integer(let number):
            let units: [(name: String, factor: Int64)]
            switch self {
            case .bytes: units = [("tb", 1 << 40), ("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10)]
            case .duration: units = Self.timeUnits.reversed()
            case .string, .path, .integer, .bool, .address, .choice, .list: units = []
            }
            guard number != 0, let unit = units.first(where: { number % $0.factor == 0 }) else { return String(number) }
            return "\(number / unit.factor)\(unit.name)"
        }
    }
}

/// A value that its kind has read.
package enum ConfigurationValue: Hashable, Sendable {
    case text(String), integer(Int64), bool(Bool)
}
