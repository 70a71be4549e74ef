import Base

/// What CONFIG GET shows and CONFIG SET changes. Every row is real: what cannot be set is refused, not swallowed.
package struct Settings: Sendable {
    package var limits = RESPLimits()
    package var maximumClients = 10_000
    /// Slower commands are logged; negative: none, 0: all.
    package var slowLogMicroseconds: Int64 = 10_000
    package var slowLogLength = 128
    /// A client that has not taken so many bytes is closed; 0: no limit.
    package var outputLimit = 256 << 20
    /// Seconds after which an idle client is closed; 0: never.
    package var idleTimeout = 0
    /// How old the answer of a follower to a client that has said READONLY may be, in milliseconds; 0: however old.
    package var replicaStaleness: UInt64 = 10_000
    /// What happens to keys that clients are told of.
    package var notifications = NotificationClasses()
    /// A client that listens and does not read is closed when so many bytes wait for it, or the lower number for so
    /// many seconds; 0: no limit.
    package var listenerOutput = OutputBound(hard: 32 << 20, soft: 8 << 20, softSeconds: 60)
    /// Told by the driver, for clients that ask how durable the data is.
    package var appendFsync = "always"
    package var port = 6379, bind = "127.0.0.1"
    /// 0: clients have no TLS port.
    package var tlsPort = 0

    package init() {}

    /// How much of what is sent may wait for a client.
    package struct OutputBound: Hashable, Sendable {
        package var hard: Int, soft: Int, softSeconds: UInt64
    }

    /// One option, by the name that Redis gives it.
    struct Row: Sendable {
        let name: String
        let get: @Sendable (Settings) -> String
        /// Changes the option, or says why not. nil: it cannot be changed while the gateway runs.
        let set: (@Sendable (inout Settings, String) -> String?)?
    }

    private static func fixed(_ name: String, _ get: @escaping @Sendable (Settings) -> String) -> Row {
        Row(name: name, get: get, set: nil)
    }

    /// An option that is a number within `range`.
    private static func number(
        _ name: String, _ range: ClosedRange<Int64>, isMemory: Bool = false,
        get: @escaping @Sendable (Settings) -> Int64, set: @escaping @Sendable (inout Settings, Int64) -> Void
    ) -> Row {
        Row(name: name, get: { String(get($0)) }) { settings, text in
            guard let value = isMemory ? memory(text) : Int64(text) else {
                return isMemory ? "argument must be a memory value" : "argument couldn't be parsed into an integer"
            }
            guard range.contains(value) else {
                return "argument must be between \(range.lowerBound) and \(range.upperBound) inclusive"
            }
            set(&settings, value)
            return nil
        }
    }

    /// `64mb`, `1g`, `512`
    static func memory(_ text: String) -> Int64? {
        let units: [(String, Int64)] = [
            ("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30), ("k", 1000), ("m", 1_000_000), ("g", 1_000_000_000),
            ("b", 1),
        ]
        let text = text.lowercased()
        for (unit, factor) in units where text.hasSuffix(unit) {
            guard let number = Int64(text.dropLast(unit.count)), number >= 0 else { return nil }
            let (product, overflow) = number.multipliedReportingOverflow(by: factor)
            return overflow ? nil : product
        }
        return Int64(text).flatMap { $0 >= 0 ? $0 : nil }
    }

    private static let notifications = Row(name: "notify-keyspace-events", get: { $0.notifications.text }) {
        settings, text in
        guard let classes = NotificationClasses(text) else {
            return "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."
        }
        settings.notifications = classes
        return nil
    }

    /// `class hard soft seconds`, several times. Only that of listeners can be changed: others have limits of their
    /// own.
    private static let outputBounds = Row(
        name: "client-output-buffer-limit",
        get: {
            let bound = $0.listenerOutput
            return "normal \($0.outputLimit) 0 0 slave 0 0 0 "
                + "pubsub \(bound.hard) \(bound.soft) \(bound.softSeconds)"
        },
        set: { settings, text in
            let words = text.split(separator: " ").map { $0.lowercased() }
            guard words.count % 4 == 0, !words.isEmpty else {
                return "Wrong number of arguments in buffer limit configuration."
            }
            for start in stride(from: 0, to: words.count, by: 4) {
                guard ["normal", "slave", "replica", "pubsub"].contains(words[start]) else {
                    return "Invalid client class specified in buffer limit configuration."
                }
                guard words[start] == "pubsub" else { return "only the limits of pubsub can be set" }
                guard let hard = memory(words[start + 1]), let soft = memory(words[start + 2]),
                    let seconds = Int32(words[start + 3]), seconds >= 0
                else { return "Error in hard, soft or soft_seconds setting in buffer limit configuration." }
                settings.listenerOutput = OutputBound(
                    hard: Int(hard), soft: Int(soft), softSeconds: UInt64(seconds))
            }
            return nil
        })

    static let rows: [Row] = [
        fixed("appendfsync") { $0.appendFsync },
        fixed("appendonly") { _ in "yes" },
        fixed("bind") { $0.bind },
        outputBounds,
        number("client-query-buffer-limit", 1 << 20...1 << 30, isMemory: true) {
            Int64($0.limits.command)
        } set: {
            $0.limits.command = Int($1)
        },
        fixed("databases") { _ in "16" },
        number("maxclients", 1...1 << 20) {
            Int64($0.maximumClients)
        } set: {
            $0.maximumClients = Int($1)
        },
        fixed("maxmemory") { _ in "0" },
        fixed("maxmemory-policy") { _ in "noeviction" },
        notifications,
        fixed("port") { String($0.port) },
        number("proto-max-bulk-len", 1 << 20...1 << 29, isMemory: true) {
            Int64($0.limits.bulk)
        } set: {
            $0.limits.bulk = Int($1)
        },
        fixed("save") { _ in "" },
        number("slowlog-log-slower-than", -1...Int64(Int32.max)) {
            $0.slowLogMicroseconds
        } set: {
            $0.slowLogMicroseconds = $1
        },
        number("slowlog-max-len", 0...1 << 20) {
            Int64($0.slowLogLength)
        } set: {
            $0.slowLogLength = Int($1)
        },
        fixed("tls-port") { String($0.tlsPort) },
        number("timeout", 0...Int64(Int32.max)) {
            Int64($0.idleTimeout)
        } set: {
            $0.idleTimeout = Int($1)
        },
    ]
}
