import Base
import Glibc
import Storage
import TestKit
import Testing

/// Manifests and directories: damage, disks that fill up or lose power, and what a start sweeps away.
@Suite("Snapshot files")
struct SnapshotFileTests {
    private static let manifest = SnapshotManifest(
        shard: ShardID(rawValue: 3), index: LogIndex(rawValue: 1 << 40), term: Term(rawValue: 9), membership: [1, 2],
        ranges: Node.ranges,
        files: [.init(size: 100, records: 3, checksum: 7), .init(size: 1 << 33, records: 0, checksum: .max)])

    private func decode(_ bytes: Bytes) throws(StoreError) -> SnapshotManifest {
        try bytes.withView { view throws(StoreError) in try SnapshotManifest(decoding: view) }
    }

    @Test("a manifest survives its bytes, and no damage of them is taken for one")
    func manifestBytes() throws {
        var random = SplitMix64(seed: freshSeed("manifest"))
        let bytes = Self.manifest.encode()
        #expect(try decode(bytes) == Self.manifest)
        for cut in Damage.truncations(of: bytes) { #expect(throws: StoreError.self) { try decode(cut) } }
        for copy in Damage.corruptions(of: bytes, count: 500, using: &random) where copy != bytes {
            #expect(throws: StoreError.self) { try decode(copy) }
        }
        // With a checksum that fits, whatever the rest says: a value or an error, never a trap.
        for copy in Damage.corruptions(of: Bytes(bytes.dropLast(4)), count: 3000, using: &random) {
            var sealed = copy
            let checksum = copy.withUnsafeBytes { CRC32C.checksum($0) }
            withUnsafeBytes(of: checksum.littleEndian) { sealed.append(contentsOf: $0) }
            if let value = try? decode(sealed) { #expect(value.size >= 0 && !value.ranges.isEmpty) }
        }
    }

    @Test("ranges that are no shard's are refused")
    func unsoundRanges() {
        let wrong: [[KeyRange]] = [
            [], [KeyRange(from: [2], to: [1])], [KeyRange(from: [1], to: [1])],
            [KeyRange(from: [1], to: [3]), KeyRange(from: [2], to: [4])],
            [KeyRange(from: [3], to: [4]), KeyRange(from: [1], to: [2])],
            [KeyRange(from: [1], to: [0xff, 0xff, 0xff, 0xff, 0])],
        ]
        for ranges in wrong {
            var manifest = Self.manifest
            manifest.ranges = ranges
            #expect(throws: StoreError.self) { try decode(manifest.encode()) }
        }
    }

    @Test("files with any byte changed, sealed again or not, are refused or hold records of the shard")
    func fileDamage() throws {
        var random = SplitMix64(seed: freshSeed("file damage"))
        try withNode(.memory) { source in
            _ = try source.fill(entries: 3, &random)
            let manifest = try source.export()
            let whole = try source.directory.read(file: 0, offset: 0, count: Int(manifest.files[0].size))
            for copy in Damage.corruptions(of: whole, count: 400, using: &random) where copy != whole {
                try withNode(.memory) { target in
                    try target.receive(manifest, from: source)
                    try target.change(file: 0) { $0 = copy }
                    #expect(throws: StoreError.self) { try target.install(manifest) }
                    // As a peer could send it that has a bug: the manifest fits, the blocks need not.
                    var sealed = manifest
                    sealed.files[0].size = UInt64(copy.count)
                    sealed.files[0].checksum = copy.withUnsafeBytes { CRC32C.checksum($0) }
                    #expect(throws: StoreError.self) { try target.install(sealed) }
                    #expect(try target.content().isEmpty)
                }
            }
        }
    }

    @Test("power lost at any moment leaves the old shard or the new one")
    func powerLoss() throws {
        var random = SplitMix64(seed: freshSeed("power loss"))
        try withNode(.memory) { source in
            let expected = try source.fill(entries: 6, &random)
            let manifest = try source.export(fileTarget: 700)
            var moment = 0
            var isDone = false
            while !isDone {
                let disk = SimulatedDisk(seed: random.next())
                try withNode(.memory, disk: disk) { target in
                    let before = try target.fill(entries: 2, &random)
                    disk.losePower(afterChanges: moment)
                    isDone =
                        (try? target.receive(manifest, from: source)) != nil && (try? target.install(manifest)) != nil
                    disk.crash()
                    (target.store as? MemoryStore)?.crash()
                    // What the disk kept is swept or resumed, and then the snapshot goes in.
                    let area = SnapshotArea(disk, path: target.root, reserve: 0)
                    let shard = try ShardStore(shard: target.shard.shard, store: target.store)
                    let wasInstalled = shard.appliedIndex == manifest.index
                    #expect(try Node.content(of: shard) == (wasInstalled ? expected : before))
                    #expect(wasInstalled == isDone)
                    try area.sweep { _ throws(StoreError) in shard.appliedIndex }
                }
                moment += 1
            }
            #expect(moment > 10)
        }
    }

    @Test("an export onto a full disk is refused and leaves nothing behind")
    func fullDisk() throws {
        var random = SplitMix64(seed: 5)
        let disk = SimulatedDisk(seed: 1)
        try withNode(.memory, disk: disk) { node in
            _ = try node.fill(entries: 40, &random)
            // Found out by writing.
            disk.capacity = 3000
            #expect(throws: StoreError(.full, "write /node/snapshot/000002: No space left on device (ENOSPC)")) {
                try node.export(fileTarget: 1000)
            }
            #expect(try disk.list("/node") == ["store"])
            // Found out beforehand.
            let area = SnapshotArea(disk, path: "/node/snapshots", reserve: 2500)
            let export = try SnapshotExport(
                try node.shard.openView(), term: Term(rawValue: 1), membership: [], ranges: Node.ranges,
                into: area.outgoing(node.shard.shard, node.shard.flushedIndex), area: area, fileTarget: 1000)
            let error = #expect(throws: StoreError.self) { try export.run() }
            #expect(error?.kind == .full && error?.message.contains("kept free") == true)
            #expect(try disk.list("/node/snapshots").isEmpty)
            #expect(throws: StoreError.self) { try area.admit(.max) }
            // With room again it goes through.
            disk.capacity = .max
            #expect(try node.export().records > 0)
            disk.failWrites(1, code: EIO)
            let broken = #expect(throws: StoreError.self) { try node.export() }
            #expect(broken?.kind == .inputOutput)
        }
    }

    @Test("a start removes exports and what is of no use, and keeps what can be resumed")
    func sweep() throws {
        let disk = SimulatedDisk(seed: 1)
        let area = SnapshotArea(disk, path: "/snapshots", reserve: 0)
        try area.sweep { _ throws(StoreError) in .zero }
        func incoming(_ shard: UInt32, index: UInt64) throws -> SnapshotDirectory {
            let directory = area.incoming(ShardID(rawValue: shard))
            var manifest = Self.manifest
            (manifest.shard, manifest.index) = (ShardID(rawValue: shard), LogIndex(rawValue: index))
            try directory.create()
            try directory.write(manifest)
            for name in ["000000", "draft-000000"] {
                _ = try disk.open(directory.path + "/" + name, create: true)
            }
            return directory
        }
        let useful = try incoming(1, index: 100)
        let old = try incoming(2, index: 10)
        let damaged = try incoming(3, index: 100)
        try disk.corrupt(damaged.path + "/manifest", at: 20)
        let nameless = area.incoming(ShardID(rawValue: 4))
        try nameless.create()
        let export = area.outgoing(ShardID(rawValue: 1), LogIndex(rawValue: 5))
        try export.create()
        try export.write(Self.manifest)
        try area.sweep { _ throws(StoreError) in LogIndex(rawValue: 10) }
        #expect(try disk.list("/snapshots") == ["in-1"])
        #expect(try disk.list(useful.path) == ["000000", "manifest"])
        #expect(!disk.exists(old.path))
        // The empty file is not what the manifest says: it is received anew.
        #expect(try useful.verifiedFiles(Self.manifest) == 0)
        #expect(try disk.list(useful.path) == ["manifest"])
    }
}
