import Base
import Glibc
import Storage
import TestKit
import Testing

/// A shard with a store and a place for snapshots: on the real file system for RocksDB, on a simulated disk else.
final class Node {
    typealias Kind = StoreConformanceTests.Kind
    typealias Record = (key: Bytes, value: Bytes)

    let kind: Kind
    let root: String
    let disk: any Disk
    let store: any Store
    let shard: ShardStore
    let directory: SnapshotDirectory

    /// The buckets 0–1 and 3 of the shard, and a record of its own.
    static let ranges = [
        KeyRange(from: [0, 0], to: [0, 2]), KeyRange(from: [0, 3], to: [0, 4]),
        KeyRange(from: [0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 1], to: [0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 2]),
    ]
    static let foreignKey: Bytes = [0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 2]
    private static let strangerKeys: [Bytes] = [[0, 2], [0, 2, 0xff], [0, 4], foreignKey]

    init(_ kind: Kind, disk: (any Disk)? = nil, draftBytes: Int = 500) throws {
        self.kind = kind
        switch kind {
        case .memory:
            (root, self.disk, store) = ("/node", disk ?? SimulatedDisk(seed: 1), MemoryStore())
            try self.disk.makeDirectory(root + "/store")
        case .rocksDB:
            root = try temporaryDirectory()
            var options = RocksDBOptions()
            options.replacementFileBytes = draftBytes
            (self.disk, store) = (PosixDisk(), try RocksDBStore(directory: root + "/store", options: options))
        }
        shard = try ShardStore(shard: ShardID(rawValue: 1), store: store)
        directory = SnapshotDirectory(self.disk, path: root + "/snapshot")
    }

    // MARK: Content

    /// Applies and flushes random entries; returns all that the shard then holds.
    func fill(entries: Int, _ random: inout SplitMix64) throws -> [Bytes: Bytes] {
        for entry in 0..<entries {
            var batch = WriteBatch()
            for _ in 0..<8 { batch.put(Self.randomKey(&random), random.bytes(Int(random.next(below: 60)))) }
            batch.put([0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 1], [UInt8(entry % 256)])
            if entry % 5 == 3 { batch.delete(Self.randomKey(&random)) }
            if entry % 11 == 7 { batch.deleteRange(from: [0, 1, 3], to: [0, 1, 5]) }
            try shard.apply(batch.effects, index: LogIndex(rawValue: shard.appliedIndex.rawValue + 1))
            if entry % 7 == 0 { try shard.flush() }
        }
        try shard.flush()
        return try content()
    }

    private static func randomKey(_ random: inout SplitMix64) -> Bytes {
        [0, [0, 1, 3][Int(random.next(below: 3))], UInt8(random.next(below: 12))]
            + random.bytes(Int(random.next(below: 3)))
    }

    /// One entry of puts.
    func apply(_ records: [Record]) throws {
        var batch = WriteBatch()
        for record in records { batch.put(record.key, record.value) }
        try shard.apply(batch.effects, index: LogIndex(rawValue: shard.appliedIndex.rawValue + 1))
    }

    func content() throws -> [Bytes: Bytes] { try Self.content(of: shard) }

    static func content(of shard: ShardStore) throws -> [Bytes: Bytes] {
        var found: [Bytes: Bytes] = [:]
        for range in ranges {
            try range.from.withView { from throws(StoreError) in
                try range.to.withView { to throws(StoreError) in
                    try shard.scan(from: from, to: to) { key, value in
                        found[key.bytes] = value.bytes
                        return true
                    }
                }
            }
        }
        return found
    }

    /// Records beside the shard's ranges.
    func writeStrangers() throws {
        var batch = WriteBatch()
        for key in Self.strangerKeys { batch.put(key, [7]) }
        try store.write(batch)
    }

    func strangers() throws -> [Bytes] {
        var found: [Bytes] = []
        for key in Self.strangerKeys where try store.get(key) == [7] { found.append(key) }
        return found
    }

    // MARK: Snapshots

    func export(fileTarget: Int = 16 << 20) throws -> SnapshotManifest {
        let export = try SnapshotExport(
            try shard.openView(), term: Term(rawValue: 7), membership: [1, 2, 3], ranges: Self.ranges,
            into: directory, fileTarget: fileTarget)
        let manifest = try export.run()
        #expect(try directory.manifest() == manifest)
        return manifest
    }

    /// Copies a snapshot in chunks, as a receiver gets it.
    func receive(_ manifest: SnapshotManifest, from source: Node) throws {
        try directory.create()
        try directory.write(manifest)
        for (number, file) in manifest.files.enumerated() {
            for offset in stride(from: 0, to: Int(file.size), by: 700) {
                let chunk = try source.directory.read(
                    file: number, offset: offset, count: min(700, Int(file.size) - offset))
                try chunk.withView { view throws(StoreError) in
                    try directory.write(file: number, offset: offset, view)
                }
            }
        }
        #expect(try directory.verifiedFiles(manifest) == manifest.files.count)
    }

    func install(_ manifest: SnapshotManifest) throws {
        let install = try shard.beginInstall(manifest, from: directory, ranges: Self.ranges)
        do {
            try install.run()
            shard.finishInstall(install)
        } catch {
            #expect(try shard.abandonInstall(install) == false)
            throw error
        }
    }

    // MARK: Damage

    func change(file number: Int, _ change: (inout Bytes) -> Void) throws {
        let path = "\(directory.path)/00000\(number)"
        var bytes = try disk.read(path)
        change(&bytes)
        try disk.remove(path)
        let file = try disk.open(path, create: true)
        try bytes.withView { view throws(SystemError) in try file.pwrite(view, at: 0) }
        file.close()
    }

    /// Writes a file of records by the format's own words, not by the writer under test.
    func writeFile(_ number: Int, _ records: [Record]) throws -> SnapshotManifest.File {
        var body = ByteBuffer()
        for record in records {
            body.append(varint: UInt64(record.key.count))
            body.append(record.key)
            body.append(varint: UInt64(record.value.count))
            body.append(record.value)
        }
        var content = ByteBuffer()
        content.append("OSNF")
        content.append(1 as UInt8)
        content.append(littleEndian: UInt32(body.count))
        content.append(littleEndian: CRC32C.checksum(body.readable))
        content.append(body.readable)
        let bytes = content.readable.bytes
        let file = try disk.open("\(directory.path)/00000\(number)", create: true)
        try bytes.withView { view throws(SystemError) in try file.pwrite(view, at: 0) }
        file.close()
        return SnapshotManifest.File(
            size: UInt64(bytes.count), records: UInt64(records.count), checksum: CRC32C.checksum(content.readable))
    }

    /// Opens a copy of the store's directory as it is now, unflushed and unclosed: what a killed process leaves. A
    /// compaction that moves files meanwhile makes the copy worthless, and there is an end to compactions.
    func expectAfterCrash(_ expected: [Bytes: Bytes], _ index: LogIndex) throws {
        var attempt = 0
        while true {
            attempt += 1
            let copy = try temporaryDirectory()
            defer { removeTree(copy) }
            let store: RocksDBStore
            do {
                try copyStore(to: copy)
                store = try RocksDBStore(directory: copy)
            } catch {
                guard attempt < 100 else { throw error }
                continue
            }
            defer { store.close() }
            let again = try ShardStore(shard: shard.shard, store: store)
            #expect(again.appliedIndex == index)
            #expect(try Self.content(of: again) == expected)
            return
        }
    }

    private func copyStore(to copy: String) throws {
        for name in try disk.list(root + "/store") where name != "LOCK" {
            let bytes = try disk.read("\(root)/store/\(name)")
            let file = try disk.open("\(copy)/\(name)", create: true)
            try bytes.withView { view throws(SystemError) in try file.pwrite(view, at: 0) }
            file.close()
        }
    }

    func remove() {
        store.close()
        guard kind == .rocksDB else { return }
        for name in (try? disk.list(root)) ?? [] { removeTree("\(root)/\(name)") }
        removeTree(root)
    }
}

func withNode(_ kind: Node.Kind, disk: (any Disk)? = nil, draftBytes: Int = 500, _ body: (Node) throws -> Void) throws {
    let node = try Node(kind, disk: disk, draftBytes: draftBytes)
    defer { node.remove() }
    try body(node)
}
