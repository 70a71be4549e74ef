import Base
import Storage
import TestKit
import Testing

/// Snapshots of one shard, over both stores.
@Suite("Snapshots")
struct SnapshotTests {
    typealias Kind = StoreConformanceTests.Kind

    @Test("a snapshot replaces the shard's records and nothing else, from any store to any other", arguments: pairs)
    func replaces(_ from: Kind, _ to: Kind) throws {
        let seed = freshSeed("a snapshot replaces")
        var random = SplitMix64(seed: seed)
        try withNode(from) { source in
            let expected = try source.fill(entries: 40, &random)
            let manifest = try source.export(fileTarget: 2000)
            #expect(manifest.files.count > 3)
            #expect(manifest.records == UInt64(expected.count))
            #expect(manifest.index == LogIndex(rawValue: 40) && manifest.term == Term(rawValue: 7))
            try withNode(to) { target in
                // Old records of its own, flushed and not, and a neighbour that must not notice.
                _ = try target.fill(entries: 30, &random)
                try target.writeStrangers()
                let strangers = try target.strangers()
                try target.receive(manifest, from: source)
                try target.install(manifest)
                #expect(try target.content() == expected, "seed \(seed)")
                #expect(try target.strangers() == strangers)
                #expect(target.shard.appliedIndex == manifest.index && target.shard.flushedIndex == manifest.index)
                #expect(target.shard.base?.membership == [1, 2, 3] && target.shard.base?.term == manifest.term)
                // The log goes on behind it, and a restart knows where.
                try target.apply([([0, 1, 9], [42])])
                try target.shard.flush()
                let again = try ShardStore(shard: target.shard.shard, store: target.store)
                #expect(again.appliedIndex == LogIndex(rawValue: 41))
                #expect(again.base == target.shard.base)
                try target.directory.remove()
                #expect(try target.disk.list(target.root) == ["store"])
            }
        }
    }

    @Test("an empty shard is a snapshot too", arguments: Kind.allCases)
    func empty(_ kind: Kind) throws {
        var random = SplitMix64(seed: 1)
        try withNode(kind) { source in
            var batch = WriteBatch()
            batch.delete([1])
            try source.shard.apply(batch.effects, index: LogIndex(rawValue: 1))
            try source.shard.flush()
            let manifest = try source.export()
            #expect(manifest.files.isEmpty)
            try withNode(kind) { target in
                try target.writeStrangers()
                try target.receive(manifest, from: source)
                var install = try target.shard.beginInstall(manifest, from: target.directory, ranges: Node.ranges)
                try install.run()
                target.shard.finishInstall(install)
                #expect(try target.content().isEmpty)
                #expect(try target.strangers().count == 4)
                // What was installed over is gone for good: entries behind it start from nothing.
                let later = try source.fill(entries: 5, &random)
                let next = try source.export()
                try target.receive(next, from: source)
                install = try target.shard.beginInstall(next, from: target.directory, ranges: Node.ranges)
                try install.run()
                target.shard.finishInstall(install)
                #expect(try target.content() == later)
            }
        }
    }

    @Test("an export shows one entry's state, whatever is written while it runs", arguments: Kind.allCases)
    func consistent(_ kind: Kind) throws {
        var random = SplitMix64(seed: freshSeed("an export shows"))
        try withNode(kind) { source in
            let expected = try source.fill(entries: 50, &random)
            let export = try SnapshotExport(
                try source.shard.openView(), term: Term(rawValue: 1), membership: [], ranges: Node.ranges,
                into: source.directory, fileTarget: 1000)
            var steps = 0
            while export.manifest == nil {
                let written = try export.step(limit: 100)
                #expect(written < 500, "a step keeps to its limit but for one record")
                _ = try source.fill(entries: 1, &random)
                steps += 1
            }
            #expect(steps > 20)
            let manifest = try #require(export.manifest)
            #expect(manifest.index == LogIndex(rawValue: 50))
            try withNode(.memory) { target in
                try target.receive(manifest, from: source)
                try target.install(manifest)
                #expect(try target.content() == expected)
            }
        }
    }

    @Test("a view outlives the store's close", arguments: Kind.allCases)
    func viewOutlives(_ kind: Kind) throws {
        try withNode(kind) { source in
            try source.apply([([0, 1], [2])])
            try source.shard.flush()
            let view = try source.store.view()
            source.store.close()
            #expect(try view.get([0, 1]) == [2] + Bytes(repeating: 0, count: 8), "with its commit timestamp")
        }
    }

    @Test(
        "damaged, cut, missing and foreign files are refused, and the shard stays as it was", arguments: Kind.allCases)
    func refusals(_ kind: Kind) throws {
        var random = SplitMix64(seed: freshSeed("refusals"))
        try withNode(kind) { source in
            _ = try source.fill(entries: 40, &random)
            let manifest = try source.export(fileTarget: 2000)
            let last = manifest.files.count - 1
            try withNode(kind) { target in
                let before = try target.fill(entries: 10, &random)
                func refuses(_ text: String, _ changed: SnapshotManifest? = nil, _ change: (Node) throws -> Void) throws
                {
                    try target.directory.create()
                    try target.receive(manifest, from: source)
                    try change(target)
                    let error = #expect(throws: StoreError.self) { try target.install(changed ?? manifest) }
                    #expect(error?.kind == .corruption)
                    #expect(error?.message.contains(text) == true, "\(text): \(error?.message ?? "none")")
                    #expect(try target.content() == before)
                    #expect(target.shard.appliedIndex == LogIndex(rawValue: 10) && target.shard.base == nil)
                    #expect(try !target.disk.list(target.directory.path).contains { $0.hasPrefix("draft") })
                }
                try refuses("checksum") { try $0.change(file: last) { $0[$0.count / 2] ^= 1 } }
                try refuses("does not begin") { try $0.change(file: 0) { $0[4] = 9 } }
                try refuses("bytes, and the manifest says") { try $0.change(file: 1) { $0.removeLast() } }
                try refuses("is missing") { try $0.disk.remove($0.directory.path + "/000002") }
                var changed = manifest
                changed.files[1].records += 1
                try refuses("is not what the manifest says", changed) { _ in }
                changed = manifest
                changed.files.swapAt(0, 1)
                try refuses("manifest says", changed) { _ in }
                // Files that are whole, but hold what does not belong to the shard, or in the wrong order.
                changed = manifest
                changed.files.append(try target.writeFile(last + 1, [([0, 2], [1])]))
                try refuses("do not ascend", changed) { _ = try $0.writeFile(last + 1, [([0, 2], [1])]) }
                changed.files[last + 1] = try target.writeFile(last + 1, [(Node.foreignKey, [1])])
                try refuses("outside", changed) { _ = try $0.writeFile(last + 1, [(Node.foreignKey, [1])]) }

                // The whole one then goes in.
                try target.directory.create()
                try target.receive(manifest, from: source)
                try target.install(manifest)
                #expect(try target.content() == source.content())
            }
        }
    }

    @Test("an install is refused at the wrong time, at the wrong shard and into the past", arguments: Kind.allCases)
    func wrongInstalls(_ kind: Kind) throws {
        var random = SplitMix64(seed: 3)
        try withNode(kind) { node in
            _ = try node.fill(entries: 5, &random)
            let manifest = try node.export()
            func refuses(_ manifest: SnapshotManifest, _ ranges: [KeyRange]) {
                let error = #expect(throws: StoreError.self) {
                    try node.shard.beginInstall(manifest, from: node.directory, ranges: ranges)
                }
                #expect(error?.kind == .misuse)
            }
            refuses(manifest, Node.ranges)
            var later = manifest
            later.index = LogIndex(rawValue: 9)
            refuses(later, Array(Node.ranges.dropLast()))
            var other = later
            other.shard = ShardID(rawValue: 8)
            refuses(other, Node.ranges)
            try node.apply([([0, 1], [1])])
            let job = try #require(node.shard.beginFlush())
            refuses(later, Node.ranges)
            try job.write()
            try node.store.flush()
            node.shard.finishFlush(job)

            let install = try node.shard.beginInstall(later, from: node.directory, ranges: Node.ranges)
            #expect(node.shard.beginFlush() == nil)
            refuses(later, Node.ranges)
            #expect(throws: StoreError.self) { try node.apply([([0, 1], [1])]) }
            #expect(try node.shard.abandonInstall(install) == false)
            try node.apply([([0, 1], [1])])
        }
    }

    @Test("a store that fails at the end leaves the old records")
    func failingStore() throws {
        var random = SplitMix64(seed: 4)
        try withNode(.memory) { source in
            _ = try source.fill(entries: 20, &random)
            let manifest = try source.export()
            try withNode(.memory) { target in
                let before = try target.fill(entries: 5, &random)
                try target.receive(manifest, from: source)
                (target.store as? MemoryStore)?.failNext(with: StoreError(.full, "asked to"))
                #expect(throws: StoreError.self) { try target.install(manifest) }
                #expect(try target.content() == before)
                try target.install(manifest)
                (target.store as? MemoryStore)?.crash()
                let again = try ShardStore(shard: target.shard.shard, store: target.store)
                #expect(again.appliedIndex == manifest.index && again.base?.index == manifest.index)
                #expect(try Node.content(of: again) == source.content())
            }
        }
    }

    @Test("what RocksDB took in survives a crash without a flush, and drafts alone change nothing")
    func crashOfRocksDB() throws {
        var random = SplitMix64(seed: freshSeed("crash of RocksDB"))
        try withNode(.rocksDB) { source in
            let expected = try source.fill(entries: 40, &random)
            let manifest = try source.export(fileTarget: 2000)
            try withNode(.rocksDB, draftBytes: 1 << 20) { target in  // One file: few compactions.
                let before = try target.fill(entries: 10, &random)
                try target.receive(manifest, from: source)
                let install = try target.shard.beginInstall(manifest, from: target.directory, ranges: Node.ranges)
                for _ in 0..<3 { _ = try install.step(limit: 1000) }
                try target.expectAfterCrash(before, LogIndex(rawValue: 10))
                try install.run()
                target.shard.finishInstall(install)
                try target.expectAfterCrash(expected, manifest.index)
            }
        }
    }

    @Test("an install that is under way when the store closes ends as a whole")
    func closedStore() throws {
        var random = SplitMix64(seed: freshSeed("closed store"))
        try withNode(.rocksDB) { source in
            let expected = try source.fill(entries: 40, &random)
            let manifest = try source.export(fileTarget: 2000)
            try withNode(.rocksDB) { target in
                _ = try target.fill(entries: 10, &random)
                try target.receive(manifest, from: source)
                func installAndClose() throws {
                    let install = try target.shard.beginInstall(manifest, from: target.directory, ranges: Node.ranges)
                    _ = try install.step(limit: 1000)
                    target.store.close()
                    try install.run()
                    target.shard.finishInstall(install)
                }
                try installAndClose()
                let reopened = try RocksDBStore(directory: target.root + "/store")
                defer { reopened.close() }
                let shard = try ShardStore(shard: target.shard.shard, store: reopened)
                #expect(try shard.appliedIndex == manifest.index && Node.content(of: shard) == expected)
            }
        }
    }

    static let pairs = Kind.allCases.flatMap { from in Kind.allCases.map { (from, $0) } }
}
