import Backup
import Base
import ServiceKit

extension Command {
    static let restore = Command(
        "restore", operands: "DIR", count: 1...1,
        summary: "Restores a backup into this cluster, which must be empty. Run again, it goes on where it was.",
        options: [.data, .json, CommandOption("number", "N", "backup N instead of the newest")]
    ) { arguments in
        let path = arguments.operands[0], disk = PosixDisk()
        guard disk.exists(path) else { throw UsageError("there is no directory \(path)") }
        let directory = BackupDirectory(disk, path: path)
        let newest = try directory.newest()
        guard let number = try arguments.number("number", in: 1...Int(UInt32.max)).map({ UInt32($0) }) ?? newest else {
            throw UsageError("there is no complete backup in \(path)")
        }
        let reader = try BackupReader(directory, number: number)
        let console = Console(isQuiet: arguments.has("json"))
        let calls = try NodeCalls(existingCluster(arguments).0)
        defer { calls.close() }
        let run = RestoreRun(calls, reader, console: console)
        try run.run()
        let manifest = reader.manifest
        if arguments.has("json") {
            let document = JSON.object([
                .init("backup", manifest.document),
                .init("loaded", .integer(Int64(clamping: run.loadedBytes))),
                .init("found", .integer(Int64(clamping: run.foundBytes))),
                .init("wasRestored", .bool(run.wasRestored)),
                .init("took", .integer(Int64(clamping: run.milliseconds))),
            ])
            console.out(document.encoded(isPretty: true))
        } else if run.wasRestored {
            console.out("Backup \(number) was restored here before; nothing is done.")
        } else {
            console.out(
                "Backup \(number) is restored: \(manifest.records) records, \(Figures.bytes(manifest.bytes)), as of "
                    + "\(Figures.time(manifest.timestamp.milliseconds)), in \(seconds(Int(run.milliseconds))).")
            console.out("The users of the backup log in with the passwords that they had.")
        }
        return 0
    }
}
