import Backup
import Base
import TestKit
import Testing

/// A cluster that has records and nothing else, and the directory of its backups.
final class Rig {
    static let bucketCount = 4
    let disk: SimulatedDisk
    let directory: BackupDirectory
    /// Bucket → key → value.
    var records: [[Bytes: Bytes]] = Array(repeating: [:], count: bucketCount)
    var clock: UInt64 = 1000
    /// Pieces are sent until so many were; then the backup is interrupted.
    var interruptAfter = Int.max

    struct Interrupted: Error {}

    init(seed: UInt64 = 1) throws {
        disk = SimulatedDisk(seed: seed)
        try disk.makeDirectory("/b")
        try disk.syncDirectory("/")
        directory = BackupDirectory(disk, path: "/b")
    }

    func set(_ bucket: Int, _ name: String, _ value: Bytes) {
        records[bucket][Self.key(bucket, name)] = value
    }

    static func key(_ bucket: Int, _ name: String) -> Bytes { [0, UInt8(bucket), 0, 0, 0, 1, 0, 0] + Bytes(name.utf8) }

    func fill(_ count: Int, _ random: inout SplitMix64) {
        for number in 0..<count {
            let size = Int(random.next(below: 60))
            set(
                Int(random.next(below: UInt64(Self.bucketCount))), "key-\(number)",
                (0..<size).map { _ in UInt8(truncatingIfNeeded: random.next()) })
        }
    }

    /// A backup as `orbit` makes it, of small pieces. Returns the draft for its figures.
    @discardableResult
    func backUp(isFull: Bool = false, target: Int = 200) throws -> BackupDraft {
        clock += 1
        let newest = try directory.newest()
        let base = isFull ? nil : try newest.map { try directory.manifest(of: $0) }
        let number = try directory.interrupted() ?? (newest ?? 0) + 1
        let draft = try BackupDraft(
            directory, number: number, base: base.map { ($0.manifest, $0.id) }, cluster: 7,
            timestamp: Timestamp(milliseconds: clock), bucketCount: Self.bucketCount)
        var sent = 0
        for bucket in 0..<Self.bucketCount {
            let known = draft.begin(bucket: bucket)
            var failure: (any Error)?
            guard var scan = PieceScan(start: [0, UInt8(bucket)], known: known.map(\.known), target: target) else {
                throw DatabaseError(.invalidArgument, "not known pieces")
            }
            let take = { (found: PieceFinding) in
                guard failure == nil else { return }
                do {
                    guard sent < self.interruptAfter else { throw Interrupted() }
                    sent += 1
                    switch found {
                    case .same(let place): try draft.keep(known[place], bucket: bucket)
                    case .changed(let from, let body, _, let digest):
                        try draft.add(from: from, records: body, digest: digest, bucket: bucket)
                    }
                } catch { failure = error }
            }
            for (key, value) in records[bucket].sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
                key.withUnsafeBytes { key in value.withUnsafeBytes { scan.add(key, $0, take) } }
            }
            scan.finish(take)
            if let failure { throw failure }
            try draft.finish(bucket: bucket, records: scan.totalRecords, bytes: scan.totalBytes)
        }
        _ = try draft.finish(shards: 2, began: clock, ended: clock)
        return draft
    }

    /// What a backup holds.
    func content(_ number: UInt32) throws -> [[Bytes: Bytes]] {
        let reader = try BackupReader(directory, number: number)
        try reader.checkFiles()
        return try reader.manifest.buckets.map { pieces in
            var found: [Bytes: Bytes] = [:]
            for piece in pieces {
                try reader.records(piece).withUnsafeBytes { view in
                    var bytes = ByteReader(view)
                    while !bytes.isAtEnd {
                        let record = try #require(RecordBlock.next(&bytes))
                        found[record.key.bytes] = record.value.bytes
                    }
                }
            }
            return found
        }
    }

    func verify() throws -> [String] { try BackupVerification(directory).run() }

    /// Every file below the directory.
    func files() throws -> [String] {
        try disk.list("/b").flatMap { name in try disk.list("/b/" + name).map { "/b/\(name)/\($0)" } }
    }
}
