import Backup
import Base
import ServiceKit

extension Command {
    static let backup = Command(
        "backup", operands: "DIR | list DIR | verify DIR", count: 1...2,
        summary:
            "Backs the cluster up into a directory; shows the backups there; reads them and says if they are whole.",
        options: [
            .data, .json, CommandOption("incremental", nil, "store what has changed since the newest (the default)"),
            CommandOption("full", nil, "store everything, and depend on no earlier backup"),
            CommandOption("number", "N", "with list and verify: only backup N"),
        ]
    ) { arguments in
        if arguments.operands.count == 2 { return try BackupCommand(arguments).run() }
        let word = arguments.operands[0]
        guard !BackupCommand.verbs.contains(word) else { throw UsageError("orbit backup \(word) takes a DIR") }
        return try BackupCommand.make(arguments, into: word)
    }
}

/// `orbit backup list DIR` and `orbit backup verify DIR`: they need no cluster.
struct BackupCommand {
    static let verbs = ["list", "verify"]

    private let arguments: Arguments
    private let verb: String
    private let directory: BackupDirectory
    private let console: Console

    init(_ arguments: Arguments) throws {
        self.arguments = arguments
        verb = arguments.operands[0]
        guard Self.verbs.contains(verb) else { throw UsageError(Arguments.unknown(verb, among: Self.verbs)) }
        for name in ["full", "incremental"] where arguments.has(name) {
            throw UsageError("--\(name) goes with orbit backup DIR")
        }
        let path = arguments.operands[1]
        let disk = PosixDisk()
        guard disk.exists(path) else { throw UsageError("there is no directory \(path)") }
        directory = BackupDirectory(disk, path: path)
        console = Console(isQuiet: arguments.has("json"))
    }

    /// `orbit backup DIR`.
    static func make(_ arguments: Arguments, into path: String) throws -> Int32 {
        guard !arguments.has("number") else { throw UsageError("--number goes with list and verify") }
        guard !(arguments.has("full") && arguments.has("incremental")) else {
            throw UsageError("a backup is --full or --incremental")
        }
        let plan = try Command.existingCluster(arguments).0
        let console = Console(isQuiet: arguments.has("json"))
        let disk = PosixDisk()
        let lock = try DirectoryLock(path, disk: disk)
        let calls = try NodeCalls(plan)
        defer { calls.close() }
        let run = BackupRun(
            calls, BackupDirectory(disk, path: path), isFull: arguments.has("full"), console: console)
        let manifest = try withExtendedLifetime(lock) { try run.run() }
        if arguments.has("json") {
            let document = JSON.object([
                .init("backup", manifest.document), .init("moved", .integer(Int64(clamping: run.movedBytes))),
                .init("kept", .integer(Int64(clamping: run.keptBytes))),
                .init("salvagedPieces", .integer(Int64(run.salvagedPieces))),
                .init("took", .integer(Int64(clamping: run.milliseconds))),
            ])
            console.out(document.encoded(isPretty: true))
            return 0
        }
        let kind = manifest.base == 0 ? "full" : "builds upon backup \(manifest.base)"
        console.out(
            "Backup \(manifest.number) (\(kind)): \(manifest.records) records, \(Figures.bytes(manifest.bytes)), as of "
                + "\(Figures.time(manifest.timestamp.milliseconds)); \(Figures.bytes(run.movedBytes)) moved in "
                + "\(seconds(Int(run.milliseconds))).")
        return 0
    }

    func run() throws -> Int32 {
        let only = try arguments.number("number", in: 1...Int(UInt32.max)).map { [UInt32($0)] }
        let numbers = try only ?? directory.numbers()
        guard !numbers.isEmpty else { throw UsageError("there is no complete backup in \(directory.path)") }
        return verb == "list" ? try list(numbers) : try verify(numbers)
    }

    private func list(_ numbers: [UInt32]) throws -> Int32 {
        let manifests = try numbers.map { try directory.manifest(of: $0).manifest }
        if arguments.has("json") {
            console.out(JSON.array(manifests.map(\.document)).encoded(isPretty: true))
            return 0
        }
        var rows = [["NUMBER", "AS OF", "BUILDS UPON", "RECORDS", "SIZE", "ADDED"]]
        for manifest in manifests {
            rows.append([
                "\(manifest.number)", Figures.time(manifest.timestamp.milliseconds),
                manifest.base == 0 ? "-" : "\(manifest.base)", "\(manifest.records)", Figures.bytes(manifest.bytes),
                Figures.bytes(manifest.addedBytes),
            ])
        }
        for line in Console.table(rows) { console.out(line) }
        return 0
    }

    private func verify(_ numbers: [UInt32]) throws -> Int32 {
        let verification = try BackupVerification(directory, numbers: numbers)
        var meter = ProgressMeter(console, total: verification.totalBytes)
        while verification.step({ meter.show(bytes: $0) }) {}
        let problems = verification.problems
        if arguments.has("json") {
            let document = JSON.object([
                .init("backups", .array(numbers.map { .integer(Int64($0)) })),
                .init("bytes", .integer(Int64(clamping: verification.checkedBytes))),
                .init("pieces", .integer(Int64(verification.checkedPieces))),
                .init("problems", .array(problems.map { .text($0) })),
            ])
            console.out(document.encoded(isPretty: true))
        } else {
            for problem in problems { Console.error(problem) }
            let size = "\(verification.checkedPieces) pieces, \(Figures.bytes(verification.checkedBytes))"
            let named = numbers.count == 1 ? "backup \(numbers[0])" : "\(numbers.count) backups"
            console.out(problems.isEmpty ? "\(named): whole (\(size))" : "\(named): NOT whole (\(size) read)")
        }
        return problems.isEmpty ? 0 : 1
    }
}

extension BackupManifest {
    /// For machines.
    var document: JSON {
        .object([
            .init("number", .integer(Int64(number))),
            .init("base", .integer(Int64(base))),
            .init("cluster", .text("\(cluster)")),
            .init("timestamp", .text("\(timestamp)")),
            .init("milliseconds", .integer(Int64(clamping: timestamp.milliseconds))),
            .init("began", .integer(Int64(clamping: beganMilliseconds))),
            .init("ended", .integer(Int64(clamping: endedMilliseconds))),
            .init("shards", .integer(Int64(shards))),
            .init("buckets", .integer(Int64(buckets.count))),
            .init("records", .integer(Int64(clamping: records))),
            .init("bytes", .integer(Int64(clamping: bytes))),
            .init("pieces", .integer(Int64(pieceCount))),
            .init("files", .integer(Int64(files.count))),
            .init("added", .integer(Int64(clamping: addedBytes))),
        ])
    }
}
