import Foundation
import Testing

/// The layers of ARCHITECTURE.md: an arrow may only point down.
@Suite("Layers")
struct LayerTests {
    static let layers: [String: Int] = [
        "Base": 0, "Crypto": 0,
        "Contracts": 1, "DataModel": 1, "Raft": 1, "Placement": 1,
        "Net": 2, "QueryLanguages": 2, "Storage": 2, "Actors": 2, "Engine": 2, "Tiering": 2, "Replication": 2,
        "Transactions": 2, "Feeds": 2, "Backup": 2,
        "ServiceKit": 3, "Peers": 3, "GatewayKit": 3,
        "RespGateway": 4, "PgGateway": 4, "StorageNode": 4, "Coordinator": 4, "Orbit": 4,
    ]
    /// The arrows that stay in their layer.
    static let sideways: Set<String> = ["Crypto→Base", "GatewayKit→ServiceKit"]
    static let closedToGateways: Set<String> = [
        "Storage", "Actors", "Engine", "Tiering", "Raft", "Replication", "Peers", "Backup",
    ]
    /// No clock, disk, socket, randomness or `await` in these.
    static let pure: Set<String> = [
        "Raft", "DataModel", "QueryLanguages", "Placement", "Transactions", "Feeds", "Engine",
    ]
    static let pureFolders = ["/Wire/", "/Session/", "/Translate/"]

    /// Target name → dependencies, read from the `module(…)` and `service(…)` rows of Package.swift.
    static func manifest() throws -> [String: [String]] {
        let text = try String(contentsOf: Repository.root.appendingPathComponent("Package.swift"), encoding: .utf8)
        let row = try Regex(
            #"\b(module|service)\(\s*"(\w+)",\s*\[([^\]]*)\]"#, as: (Substring, Substring, Substring, Substring).self)
        var targets: [String: [String]] = [:]
        for match in text.matches(of: row) {
            let names = match.3.split(whereSeparator: { ", \n\"".contains($0) }).map(String.init)
            targets[String(match.2)] = names
        }
        return targets
    }

    @Test("every target lies in a layer and points down only")
    func manifestPointsDown() throws {
        let targets = try Self.manifest()
        #expect(targets.count > 10, "Package.swift was not understood")
        var violations = Violations()
        for (name, dependencies) in targets.sorted(by: { $0.key < $1.key }) where name != "TestKit" {
            guard let layer = Self.layers[name] else {
                violations.add("\(name) has no layer: add it to ARCHITECTURE.md and to this table")
                continue
            }
            for dependency in dependencies {
                guard let below = Self.layers[dependency] else {
                    if dependency.hasPrefix("C") { continue }
                    violations.add("\(name) imports \(dependency), which has no layer")
                    continue
                }
                if below >= layer, !Self.sideways.contains("\(name)→\(dependency)") {
                    violations.add("\(name) (L\(layer)) may not import \(dependency) (L\(below))")
                }
                let isGateway = name.hasSuffix("Gateway") || name == "GatewayKit"
                if isGateway, Self.closedToGateways.contains(dependency) {
                    violations.add("a gateway may not import \(dependency): \(name)")
                }
            }
        }
        #expect(violations.isEmpty, "\(violations)")
    }

    @Test("one module wraps each C library, and only Contracts touches protobuf")
    func libraries() {
        var owners: [String: Set<String>] = [:]
        for file in Repository.product {
            for line in file.code {
                guard let name = importedModule(line), name.first == "C", name.dropFirst().first?.isUppercase == true
                else { continue }
                owners[name, default: []].insert(file.module)
            }
        }
        owners["CSystem"] = nil  // Ours: calls that Swift cannot spell, for whoever needs them.
        for (library, modules) in owners {
            #expect(modules.count == 1, "\(library) is imported by \(modules.sorted())")
        }
        if let users = owners["CProto"] { #expect(users == ["Contracts"]) }
    }

    @Test("pure code has no clock, disk, socket, randomness or await")
    func purity() throws {
        let words = try Regex(
            #"\b(await|async|clock_gettime|gettimeofday|SystemClock|SystemRandom|SystemRandomNumberGenerator|getrandom"#
                + #"|PosixDisk|random\(|socket\(|open\(|pread|pwrite|Thread|Date)\b"#)
        var violations = Violations()
        for file in Repository.product
        where Self.pure.contains(file.module) || Self.pureFolders.contains(where: file.path.contains) {
            for (index, line) in file.code.enumerated() {
                if let name = importedModule(line), ["Foundation", "Dispatch", "CSystem", "Net"].contains(name) {
                    violations.add(file, index, "pure code may not import \(name)")
                }
                if let match = line.firstMatch(of: words) {
                    violations.add(file, index, "pure code may not use \(line[match.range])")
                }
            }
        }
        #expect(violations.isEmpty, "\(violations)")
    }

    private func importedModule(_ line: String) -> String? {
        let words = line.split(separator: " ")
        guard let at = words.firstIndex(of: "import"), at + 1 < words.count,
            words[..<at].allSatisfy({ $0.hasPrefix("@") || $0 == "package" || $0 == "internal" || $0 == "private" })
        else { return nil }
        return String(words[at + 1])
    }
}
