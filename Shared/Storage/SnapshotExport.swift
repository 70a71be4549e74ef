import Base

/// One shard's records as of one entry, whatever is written meanwhile.
///
/// A flush writes a shard's effects and the index they reach in one batch, so a view of the store holds exactly the
/// effects up to the applied index that it shows: a snapshot needs no word with the loop about where it stands.
package struct ShardView: Sendable {
    package let shard: ShardID
    /// The newest entry whose effects the view shows.
    package var index: LogIndex { applied.index }
    let applied: AppliedIndex
    let view: any StoreView

    /// Opens a view of what the store holds of `shard`; its overlay is not in it, so flush first.
    package init(_ shard: ShardID, in store: any Store) throws(StoreError) {
        self.shard = shard
        view = try store.view()
        applied = try AppliedIndex.read(shard, from: view)
    }
}

/// Writes a view of a shard to files, step by step: the caller decides when a step runs (a token bucket) and where (a
/// worker). An export that fails removes its directory.
package final class SnapshotExport: @unchecked Sendable {  // Confined to one thread at a time: a loop's worker.
    private let view: ShardView
    private let term: Term
    private let membership: Bytes
    private let ranges: [KeyRange]
    private let directory: SnapshotDirectory
    private let fileTarget: Int
    /// Asked before each file whether there is room for it.
    private let admit: (UInt64) throws(StoreError) -> Void

    private var rangeNumber = 0
    private var iterator: (any StoreIterator)?
    private var writer: SnapshotFileWriter?
    private var files: [SnapshotManifest.File] = []
    /// Set once all files are written.
    package private(set) var manifest: SnapshotManifest?

    /// `term` and `membership` are those of the view's index. `ranges` are the keys of the shard, its own records
    /// among them (but not its applied index, which the manifest carries).
    package init(
        _ view: ShardView, term: Term, membership: Bytes, ranges: [KeyRange], into directory: SnapshotDirectory,
        area: SnapshotArea? = nil, fileTarget: Int = 16 << 20
    ) throws(StoreError) {
        guard KeyRange.areSound(ranges), ranges.count <= SnapshotManifest.rangeLimit,
            membership.count <= SnapshotManifest.membershipLimit
        else { throw StoreError(.misuse, "shard \(view.shard): not the ranges of a shard, or too large a membership") }
        (self.view, self.term, self.membership, self.ranges) = (view, term, membership, ranges)
        (self.directory, self.fileTarget) = (directory, fileTarget)
        admit = { bytes throws(StoreError) in try area?.admit(bytes) }
        try directory.create()
    }

    /// Writes at least `limit` bytes more, if there are as many; returns how many. Complete when `manifest` is set.
    package func step(limit: Int) throws(StoreError) -> Int {
        do throws(StoreError) {
            var written = 0
            while manifest == nil, written < limit { written += try advance(limit - written) }
            return written
        } catch {
            writer = nil
            iterator = nil
            try? directory.remove()  // The first failure is the one to tell; a restart sweeps what is left.
            throw error
        }
    }

    /// Exports everything at once: tests and the simulator.
    package func run() throws(StoreError) -> SnapshotManifest {
        while true {
            if let manifest { return manifest }
            _ = try step(limit: 1 << 20)
        }
    }

    /// Writes records of one range until the limit, the end of the file or the end of the range.
    private func advance(_ limit: Int) throws(StoreError) -> Int {
        guard rangeNumber < ranges.count else {
            try finish()
            return 0
        }
        let range = ranges[rangeNumber]
        if iterator == nil { iterator = try view.view.scan(from: range.from, to: range.to) }
        guard let records = iterator else { return 0 }
        var written = 0
        while records.isValid, written < limit {
            if writer == nil {
                guard files.count < SnapshotManifest.fileLimit else {
                    throw StoreError(.misuse, "shard \(view.shard) is too large for a snapshot")
                }
                try admit(UInt64(fileTarget))
                writer = try SnapshotFileWriter(directory.disk, directory.path(of: files.count))
            }
            try writer?.add(records.key, records.value)
            written += records.key.count + records.value.count
            records.next()
            if let size = writer?.size, size >= fileTarget { try closeFile() }
        }
        if !records.isValid {
            try records.check()
            iterator = nil
            rangeNumber += 1
        }
        return written
    }

    private func closeFile() throws(StoreError) {
        guard let file = writer.take() else { return }
        files.append(try file.finish())
    }

    private func finish() throws(StoreError) {
        try closeFile()
        let manifest = SnapshotManifest(
            shard: view.shard, index: view.index, term: term, membership: membership,
            // What is dropped of history while a view is open goes from the view too.
            floor: max(view.applied.floor, view.view.historyFloor(in: ranges)), newest: view.applied.newest,
            ranges: ranges, files: files)
        try directory.write(manifest)
        self.manifest = manifest
    }
}
