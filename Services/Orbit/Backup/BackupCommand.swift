import Backup
import Base
import ServiceKit

extension Command {
    static let backup = Command(
        "backup", operands: "list|verify DIR", count: 2...2,
        summary: "Shows the backups in a directory, or reads them and says whether they are whole.",
        options: [.json, CommandOption("number", "N", "only backup N")]
    ) { arguments in try BackupCommand(arguments).run() }
}

/// `orbit backup list DIR` and `orbit backup verify DIR`: they need no cluster.
struct BackupCommand {
    private static let verbs = ["list", "verify"]

    private let arguments: Arguments
    private let verb: String
    private let directory: BackupDirectory
    private let console: Console

    init(_ arguments: Arguments) throws {
        self.arguments = arguments
        verb = arguments.operands[0]
        guard Self.verbs.contains(verb) else { throw UsageError(Arguments.unknown(verb, among: Self.verbs)) }
        let path = arguments.operands[1]
        let disk = PosixDisk()
        guard disk.exists(path) else { throw UsageError("there is no directory \(path)") }
        directory = BackupDirectory(disk, path: path)
        console = Console(isQuiet: arguments.has("json"))
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
