import Base
import TestKit
import Testing

private let options = [
    ConfigurationOption("listen", .address, default: "127.0.0.1:6379", help: "Where clients connect"),
    ConfigurationOption("fsync", .choice(["always", "everysec"]), default: "always", help: "When writes are durable"),
    ConfigurationOption("max-memory", .bytes, default: "512mb", help: "Memory for hot values"),
    ConfigurationOption("drain-timeout", .duration, default: "10s", help: "How long a drain may take"),
    ConfigurationOption("loops", .integer(1...64), default: "1", help: "Loop threads"),
    ConfigurationOption("insecure", .bool, default: "no", help: "Do without TLS"),
    ConfigurationOption("password", .string, help: "Password", isSecret: true),
    ConfigurationOption("peers", .list, help: "Others"),
]

private func parse(
    _ arguments: [String] = [], _ environment: [String: String] = [:], file: String? = nil
) throws -> Configuration {
    let disk = SimulatedDisk(seed: 1)
    var arguments = arguments
    if let file {
        try Bytes(file.utf8).withUnsafeBytes { try disk.replace("/orbit.conf", with: $0) }
        arguments += ["--config", "/orbit.conf"]
    }
    return try Configuration(options, arguments: arguments, environment: environment, disk: disk)
}

/// The message of the error that `parse` gives.
private func complaint(
    _ arguments: [String] = [], _ environment: [String: String] = [:], file: String? = nil
) -> String {
    do {
        _ = try parse(arguments, environment, file: file)
        return "accepted"
    } catch { return "\(error)" }
}

@Suite("Configuration")
struct ConfigurationTests {
    @Test("flag before environment before file before default")
    func precedence() throws {
        let file = "# cluster\nloops = 2\n\nfsync = everysec # faster\nmax-memory = 2gb\nlisten = \"unix:/a b#c\"\n"
        let environment = ["ORBIT_LOOPS": "3", "ORBIT_MAX_MEMORY": "3gb", "HOME": "/root"]
        let settings = try parse(["--loops", "4"], environment, file: file)
        #expect(settings.integer("loops") == 4)
        #expect(settings.origin("loops") == .flag("--loops"))
        #expect(settings.bytes("max-memory") == 3 << 30)
        #expect(settings.origin("max-memory") == .environment("ORBIT_MAX_MEMORY"))
        #expect(settings.string("fsync") == "everysec")
        #expect(settings.origin("fsync") == .file("/orbit.conf", line: 4))
        #expect(settings.string("listen") == "unix:/a b#c")
        #expect(settings.milliseconds("drain-timeout") == 10_000)
        #expect(settings.origin("drain-timeout") == .byDefault)
        #expect(!settings.isSet("password"))
        let byVariable = try Configuration(
            options, arguments: [], environment: ["ORBIT_CONFIG": "/x"], disk: try fileDisk("/x", "loops=9"))
        #expect(byVariable.integer("loops") == 9)
    }

    private func fileDisk(_ path: String, _ text: String) throws -> SimulatedDisk {
        let disk = SimulatedDisk(seed: 2)
        try Bytes(text.utf8).withUnsafeBytes { try disk.replace(path, with: $0) }
        return disk
    }

    @Test("flags: with =, switches, positionals, the end of flags")
    func flags() throws {
        let settings = try parse(["config", "--loops=8", "--insecure", "print", "--", "--loops"])
        #expect(settings.positionals == ["config", "print", "--loops"])
        #expect(settings.integer("loops") == 8 && settings.bool("insecure"))
        #expect(try !parse(["--insecure=no"]).bool("insecure"))
        #expect(try parse(["--peers", "a, b,,c"]).list("peers") == ["a", "b", "c"])
        #expect(try parse().list("peers").isEmpty)
    }

    @Test("names the nearest when a name is unknown")
    func unknown() throws {
        #expect(complaint(["--lisen", "x:1"]) == "unknown flag --lisen; did you mean --listen?")
        #expect(complaint(["--zzzzzzzzz"]) == "unknown flag --zzzzzzzzz")
        #expect(complaint(["-l"]).hasPrefix("unknown flag -l"))
        #expect(complaint(file: "loop = 1") == "/orbit.conf:1: unknown option loop; did you mean loops?")
        #expect(complaint(file: "config = x").contains("unknown option config"))
        let settings = try parse([], ["ORBIT_FSINC": "always"])
        #expect(settings.unknownVariables == ["ORBIT_FSINC; did you mean ORBIT_FSYNC?"])
    }

    @Test("says what is wrong with a value, and where it stands, without showing secrets")
    func wrongValues() {
        #expect(complaint(["--loops", "65"]) == "loops “65” (flag --loops): expected 1 to 64")
        #expect(complaint([], ["ORBIT_LOOPS": "x"]).contains("(environment ORBIT_LOOPS): expected a whole number"))
        #expect(complaint(file: "\n\nfsync = never").contains("(/orbit.conf:3): expected one of always, everysec"))
        #expect(complaint(["--loops", "2"], file: "loops = 0").contains("expected 1 to 64"))
        #expect(complaint(["--drain-timeout", "5"]).contains("expected a time like"))
        #expect(complaint(["--max-memory", "5x"]).contains("expected a size like"))
        #expect(complaint(["--max-memory", "99999999999tb"]).contains("too large"))
        #expect(complaint(["--max-memory", "-1"]).contains("expected a size like"))
        #expect(complaint(["--insecure=perhaps"]).contains("expected yes or no"))
        #expect(complaint(["--loops"]) == "--loops needs a value (N)")
        #expect(complaint(["--loops", "1", "--loops", "2"]) == "--loops is given twice")
        #expect(complaint(file: "loops = 1\nloops = 2").contains(":2: loops is set twice"))
        #expect(complaint(file: "loops").contains("expected `name = value`"))
        #expect(complaint(file: "password = \"abc").contains("quotes are not closed"))
        #expect(complaint(["--config", "/missing"]).contains("No such file"))
        let secret = [ConfigurationOption("pin", .integer(0...9), help: "", isSecret: true)]
        #expect(throws: ConfigurationError("pin (flag --pin): expected 0 to 9")) {
            try Configuration(secret, arguments: ["--pin", "4711"], environment: [:], disk: SimulatedDisk(seed: 1))
        }
    }

    @Test("addresses", arguments: ["a:1", "127.0.0.1:0", "[::1]:6379", "unix:/tmp/s", "localhost:65535"])
    func addresses(_ text: String) throws { #expect(try parse(["--listen", text]).string("listen") == text) }

    @Test("bad addresses", arguments: ["", "a", ":1", "a:65536", "::1:1", "[]:1", "unix:", "a:b"])
    func badAddresses(_ text: String) { #expect(complaint(["--listen", text]).contains("expected host:port")) }

    @Test("prints what it can read again, with origins and without secrets")
    func printing() throws {
        let settings = try parse(
            ["--password", "hunter2", "--max-memory", "1536kb", "--drain-timeout", "90s", "--listen", "unix:/a b"])
        let text = settings.printed()
        #expect(!text.contains("hunter2"))
        #expect(text.contains("max-memory = 1536kb"))
        #expect(text.contains("drain-timeout = 90s"))
        #expect(text.contains("# flag --listen"))
        #expect(text.contains("loops = 1"))
        #expect(text.contains("# default"))
        let again = try parse([], file: text)
        #expect(again.string("listen") == "unix:/a b" && again.bytes("max-memory") == 1536 << 10)
        #expect(Configuration.help(options).contains("--fsync always|everysec"))
    }

    @Test("survives any file")
    func fuzz() {
        var random = SplitMix64(seed: freshSeed("configuration file"))
        let good = Bytes("# c\nloops = 2\nlisten = \"unix:/a\\\"\" # x\nfsync=always\n".utf8)
        for damaged in Damage.truncations(of: good) + Damage.corruptions(of: good, count: 1000, using: &random) {
            _ = complaint(file: String(decoding: damaged, as: UTF8.self))
        }
    }
}
