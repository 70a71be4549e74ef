import Base

/// Replaces a shard's records by those of a snapshot, in steps on a worker, between `ShardStore.beginInstall` and
/// `finishInstall`.
///
/// Every byte is checked on the way into the store's drafts, and the last step puts them in force at once: the old
/// records of the ranges go, the new ones come, with them the applied index and the `SnapshotBase`, in one atomic and
/// durable act of the store. So there is no moment to be marked as "an install is under way". What a crash leaves:
///
/// 1. Between chunks: the store is as before. The transfer resumes behind the last whole file.
/// 2. Between the steps of an install: the store is as before, and drafts lie in the snapshot's directory. A start
///    sweeps them, and the install begins anew.
/// 3. After the store's act, before the driver has reset the log: the store is the snapshot's. At start the applied
///    index and the `SnapshotBase` do not fit the log's entries, and the driver resets the log to the base.
/// 4. After the log's reset, before the files are removed: they reach no further than what is applied, so a start
///    sweeps them.
package final class SnapshotInstall: @unchecked Sendable {  // Confined to one thread at a time: a loop's worker.
    package let manifest: SnapshotManifest
    private let directory: SnapshotDirectory
    private let store: any Store
    private var replacement: (any StoreReplacement)?
    private var reader: SnapshotFileReader?
    private var fileNumber = 0
    package private(set) var isComplete = false

    init(_ manifest: SnapshotManifest, from directory: SnapshotDirectory, into store: any Store) {
        (self.manifest, self.directory, self.store) = (manifest, directory, store)
    }

    /// Reads at least `limit` bytes more, if there are as many, and puts the snapshot in force behind the last;
    /// returns how many. Whatever it throws, the store is as it was, unless the store itself failed at the very end
    /// (`ShardStore.abandonInstall` tells).
    package func step(limit: Int) throws(StoreError) -> Int {
        do throws(StoreError) {
            var done = 0
            while !isComplete, done < limit { done += try advance() }
            return done
        } catch {
            reader = nil
            replacement = nil  // With it go the drafts.
            throw error
        }
    }

    /// Installs everything at once: tests and the simulator.
    package func run() throws(StoreError) {
        while !isComplete { _ = try step(limit: 1 << 20) }
    }

    private func advance() throws(StoreError) -> Int {
        if replacement == nil { replacement = try store.replace(manifest.ranges, drafts: directory.draftPath) }
        guard let replacement else { return 0 }
        guard fileNumber < manifest.files.count else {
            try commit(replacement)
            return 0
        }
        if reader == nil {
            reader = try SnapshotFileReader(
                directory.disk, directory.path(of: fileNumber), number: fileNumber,
                expected: manifest.files[fileNumber])
        }
        let before = reader?.position ?? 0
        let hasMore = try reader?.nextBlock { key, value throws(StoreError) in try replacement.add(key, value) }
        if hasMore == true { return Int((reader?.position ?? before) - before) }
        reader = nil
        fileNumber += 1
        return 0
    }

    private func commit(_ replacement: any StoreReplacement) throws(StoreError) {
        var batch = WriteBatch()
        AppliedIndex(index: manifest.index, floor: manifest.floor, newest: manifest.newest)
            .put(manifest.shard, into: &batch)
        SnapshotBase(index: manifest.index, term: manifest.term, membership: manifest.membership)
            .put(manifest.shard, into: &batch)
        try replacement.commit(batch)
        self.replacement = nil
        isComplete = true
    }
}

/// What the last installed snapshot of a shard said of the log: where the log begins again, and who votes there. It is
/// written with the snapshot's records, so a driver that crashed before it reset the log finds it here.
///
/// Key: FF FF FF FF, shard u32 big-endian, 01. Value: version u8 = 1, index u64, term u64 little-endian, membership.
package struct SnapshotBase: Hashable, Sendable {
    package let index: LogIndex
    package let term: Term
    /// Opaque here.
    package let membership: Bytes

    static func key(_ shard: ShardID) -> Bytes { AppliedIndex.key(shard) + [1] }

    func put(_ shard: ShardID, into batch: inout WriteBatch) {
        var value = ByteBuffer(capacity: 64)
        value.append(1 as UInt8)
        value.append(littleEndian: index.rawValue)
        value.append(littleEndian: term.rawValue)
        value.append(membership)
        batch.put(Self.key(shard), value.readable.bytes)
    }

    static func read(_ shard: ShardID, from store: any Store) throws(StoreError) -> SnapshotBase? {
        guard let found = try store.get(key(shard)) else { return nil }
        let base: SnapshotBase? = found.withUnsafeBytes {
            var reader = ByteReader($0)
            guard reader.byte() == 1, let index: UInt64 = reader.littleEndian(),
                let term: UInt64 = reader.littleEndian()
            else { return nil }
            return SnapshotBase(
                index: LogIndex(rawValue: index), term: Term(rawValue: term), membership: reader.rest.bytes)
        }
        guard let base else {
            throw StoreError(
                .corruption, "shard \(shard): the record of its snapshot is damaged or newer than this Orbit")
        }
        return base
    }
}
