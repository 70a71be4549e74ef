// swift-tools-version: 6.2
// The map of Orbit. Modules are listed bottom-up, layer by layer; an arrow may only point down
// (ARCHITECTURE.md explains why). A target imports exactly what it lists here: every build passes
// `--explicit-target-dependency-import-check error`.
import PackageDescription

/// Swift 6 mode everywhere; a warning is an error; `async` functions stay on their caller's executor. Debug builds look
/// for overlapping accesses, release builds do not (docs/decisions/0008-exclusivity.md).
let strict: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
    .unsafeFlags(["-enforce-exclusivity=unchecked"], .when(configuration: .release)),
]

/// A library module under Shared/.
func module(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, path: "Shared/\(name)", swiftSettings: strict)
}

/// An executable under Services/.
func service(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: dependencies, path: "Services/\(name)", swiftSettings: strict)
}

/// The tests of one module, under Tests/<Module>Tests.
func tests(_ name: String, _ dependencies: [Target.Dependency], excluding texts: [String] = []) -> Target {
    .testTarget(
        name: "\(name)Tests", dependencies: [.init(stringLiteral: name)] + dependencies,
        path: "Tests/\(name)Tests", exclude: texts, swiftSettings: strict)
}

/// A C library of the system: one Swift module wraps each.
func system(_ name: String, pkgConfig: String? = nil) -> Target {
    .systemLibrary(name: name, path: "Shared/C/\(name)", pkgConfig: pkgConfig)
}

let package = Package(
    name: "orbit",
    products: [
        .executable(name: "resp-gw", targets: ["RespGateway"]),
        .executable(name: "pg-gw", targets: ["PgGateway"]),
        .executable(name: "storage-node", targets: ["StorageNode"]),
        .executable(name: "coordinator", targets: ["Coordinator"]),
        .executable(name: "orbit", targets: ["Orbit"]),
        .executable(name: "orbit-simulate", targets: ["Simulation"]),
        .executable(name: "grpc-probe", targets: ["GRPCProbe"]),
    ],
    targets: [
        // C: what Swift cannot spell, and the libraries of the system.
        .target(name: "CSystem", path: "Shared/C/CSystem"),
        .target(
            name: "CICU", path: "Shared/C/CICU",
            linkerSettings: [.linkedLibrary("icui18n"), .linkedLibrary("icuuc")]),
        system("CNghttp2", pkgConfig: "libnghttp2"),
        system("COpenSSL", pkgConfig: "openssl"),
        system("CRocksDB"),
        system("CHTTPParser"),
        system("CPCRE2"),
        system("CProtobufC", pkgConfig: "libprotobuf-c"),
        .target(name: "CProto", dependencies: ["CProtobufC"], path: "Proto/Generated"),

        // L0: bytes, ids, clocks, errors; cryptography.
        module("Base", ["CSystem"]),
        module("Crypto", ["Base", "COpenSSL"]),

        // L1: the wire contract and the pure cores.
        module("Contracts", ["Base", "CProto"]),
        module("DataModel", ["Base"]),
        module("Raft", ["Base"]),
        module("Placement", ["Base"]),

        // L2: siblings; none imports another.
        module("Net", ["Base", "Crypto", "CSystem", "CNghttp2", "CHTTPParser"]),
        module("Storage", ["Base", "DataModel", "CSystem", "CRocksDB"]),
        module("Actors", ["Base", "DataModel", "Contracts", "CSystem"]),
        module("Replication", ["Base", "Raft", "CSystem"]),
        module("Transactions", ["Base", "DataModel"]),
        module("Feeds", ["Base", "DataModel", "Contracts"]),
        module("Backup", ["Base", "Crypto", "DataModel"]),
        module("Engine", ["Base", "Crypto", "DataModel", "Contracts", "CICU", "CPCRE2"]),
        module("QueryLanguages", ["Base", "Contracts"]),

        // L3: what every process shares; the way between replicas; what every gateway shares.
        module("ServiceKit", ["Base", "Crypto", "Contracts", "DataModel", "Placement", "Net"]),
        module("Peers", ["Base", "Crypto", "Contracts", "Raft", "Net", "Replication"]),
        module(
            "GatewayKit",
            [
                "Base", "Crypto", "Contracts", "DataModel", "Placement", "Net", "ServiceKit", "Transactions",
            ]),

        // L4: the processes.
        service(
            "RespGateway",
            ["Base", "Crypto", "Contracts", "DataModel", "Placement", "Net", "ServiceKit", "GatewayKit"]),
        service(
            "PgGateway",
            [
                "Base", "Crypto", "Contracts", "DataModel", "Placement", "Net", "QueryLanguages", "ServiceKit",
                "GatewayKit",
            ]),
        service(
            "StorageNode",
            [
                "Base", "Crypto", "Contracts", "DataModel", "Placement", "Net", "Storage", "Actors", "Raft",
                "Replication", "ServiceKit", "Peers", "GatewayKit", "Transactions", "Feeds", "Backup", "Engine",
            ]),
        service(
            "Coordinator",
            ["Base", "Crypto", "Contracts", "Placement", "Net", "Raft", "Replication", "ServiceKit", "Peers"]),
        service("Orbit", ["Base", "Crypto", "Contracts", "DataModel", "Net", "Backup", "ServiceKit"]),

        // Tests: units beside seeded simulation; real clients live in Tests/Clients (Python).
        module("TestKit", ["Base", "Replication"]),
        .executableTarget(
            name: "Simulation",
            dependencies: ["Base", "DataModel", "Raft", "Storage", "Actors", "Replication", "ServiceKit", "TestKit"],
            path: "Tests/Simulation", swiftSettings: strict),
        tests("Base", ["TestKit"]),
        tests("DataModel", ["Base", "TestKit"], excluding: ["Corpus"]),
        tests("Actors", ["Base", "Contracts", "DataModel", "TestKit"]),
        tests("TestKit", ["Base"]),
        tests("Storage", ["Base", "DataModel", "TestKit"]),
        tests("Raft", ["Base", "TestKit"], excluding: ["Scenarios"]),
        tests("Replication", ["Base", "Raft", "TestKit"]),
        tests("ServiceKit", ["Base", "Contracts", "Net", "Placement", "TestKit"]),
        tests("Simulation", ["Base", "TestKit"]),
        tests("Net", ["Base", "Crypto", "CSystem", "TestKit"]),
        tests("Orbit", ["Base"]),
        .executableTarget(
            name: "GRPCProbe", dependencies: ["Base", "Crypto", "Contracts", "Net", "ServiceKit"],
            path: "Tests/GRPCProbe", swiftSettings: strict),
        // The rules of the house, as tests: they read the repository, no module of it.
        .testTarget(name: "TidyTests", path: "Tests/TidyTests", swiftSettings: strict),
        tests("Contracts", ["Base", "CProto", "TestKit"]),
        tests("RespGateway", ["Base", "Contracts"]),
        tests("PgGateway", ["Base", "Contracts", "Crypto", "DataModel", "TestKit"]),
        tests("Peers", ["Base", "Contracts", "Crypto", "Net", "Raft", "Replication", "TestKit"]),
        tests("Crypto", ["Base"]),
        tests("Placement", ["Base", "TestKit"]),
        tests("QueryLanguages", ["Base", "Contracts", "TestKit"]),
        tests("Engine", ["Base", "Contracts", "DataModel", "QueryLanguages", "TestKit"]),
        tests("Transactions", ["Base", "DataModel", "TestKit"]),
        tests("Feeds", ["Base", "Contracts", "DataModel", "TestKit"]),
        tests("Backup", ["Base", "Crypto", "DataModel", "TestKit"]),
        tests("GatewayKit", ["Base", "Contracts", "DataModel", "Net", "Placement", "TestKit", "Transactions"]),
        tests(
            "StorageNode",
            [
                "Actors", "Base", "Contracts", "Crypto", "DataModel", "GatewayKit", "Net", "Placement", "Replication",
                "Storage",
                "TestKit", "Raft", "Peers", "ServiceKit", "Transactions", "Feeds", "Backup",
            ]),
        tests(
            "Coordinator",
            ["Base", "Contracts", "Crypto", "Net", "Placement", "Replication", "ServiceKit", "TestKit"]),
    ]
)
