import Base

/// Removing what every shard has flushed.
extension SegmentedLog {
    /// Segments on their way out: their records are needed no more, and what is still needed of them was written again.
    struct Truncation: Sendable {
        let segments: [LogSegment]
        let disk: any Disk
        let directory: String

        /// Removes the files, oldest first and each for certain before the next, so that a crash leaves no gap.
        func run() throws(SystemError) {
            for segment in segments {
                segment.file.close()
                if disk.exists(segment.path) { try disk.remove(segment.path) }
                try disk.syncDirectory(directory)
            }
        }
    }

    /// How many segments at the front hold nothing above the given indexes. The last one is never among them.
    func removableSegments(_ flushed: [ShardID: LogIndex]) -> Int {
        var count = 0
        for entry in used.dropLast() {
            let isNeeded = entry.extents.contains { shard, extents in
                extents.newest > (flushed[shard] ?? state(of: shard).markIndex)
            }
            if isNeeded { break }
            count += 1
        }
        return count
    }

    /// Bytes that a batch with the state of all shards may take.
    var stateSize: Int {
        shards.values.reduce(LogFormat.batchHeaderSize) { size, state in
            let members = state.membership.map { $0.encoded().count + LogFormat.recordHeaderSize } ?? 0
            return size + 184 + 2 * members + (state.removal?.count ?? 0)
        }
    }

    /// Writes the state that the first `count` segments may be the last to hold. Then the log must be synced, then
    /// `finishTruncation` called, then its result run.
    func beginTruncation(_ count: Int, _ flushed: [ShardID: LogIndex]) throws(LogError) {
        let firstKept = used[count].segment.sequence
        var batch = LogBatch(capacity: 4096)
        for (shard, state) in shards.sorted(by: { $0.key < $1.key }) {
            if let note = state.removal {
                batch.append(removedAt: state.floor, note: note, shard: shard)
            } else if state.floor != .zero {
                batch.append(floor: state.floor, shard: shard)
            }
            let index = min(max(flushed[shard] ?? .zero, state.markIndex), state.lastIndex)
            batch.append(markAt: index, state.term(at: index), shard: shard, firstSegment: firstKept)
            if let known = state.membership(at: index) {
                batch.append(known.membership, at: known.index, shard: shard)
            }
            if let snapshot = state.installing { batch.append(installing: snapshot, shard: shard) }
            if state.isCut { batch.append(isCut: true, shard: shard) }
            if state.hardState != ShardLogState().hardState { batch.append(state.hardState, shard: shard) }
        }
        try writeState(&batch)
    }

    func finishTruncation(_ count: Int) -> Truncation {
        let removed = used[..<count].map(\.segment)
        used.removeFirst(count)
        return Truncation(segments: removed, disk: disk, directory: directory)
    }

    /// Removes the segments in which every shard's entries are at or below its flushed index: what its store holds
    /// durably, not merely applied. Returns how many went.
    @discardableResult
    package func truncate(flushed: [ShardID: LogIndex]) throws(LogError) -> Int {
        try checkAlive()
        let count = removableSegments(flushed)
        guard count > 0 else { return 0 }
        try beginTruncation(count, flushed)
        try sync()
        do throws(SystemError) {
            try finishTruncation(count).run()
        } catch {
            throw fail(LogError(.inputOutput, error.description))
        }
        return count
    }
}
