import Base
import Raft

/// An entry read back from the log.
package struct LoggedEntry: Hashable, Sendable {
    package var id: EntryID
    package var kind: RecordKind
    /// Of a configuration the encoded membership, of an empty entry nothing.
    package var payload: Bytes
}

/// Reading entries of one shard back, by index: for a follower that lags, and for what a restart found uncommitted.
extension SegmentedLog {
    /// Where to read; made under the owner's lock, run without it. The segments' files must stay open meanwhile.
    struct ReadPlan: Sendable {
        struct Piece: Sendable {
            var segment: LogSegment
            var extent: LogExtents.Extent
            /// The entries that are wanted of the extent.
            var wanted: ClosedRange<LogIndex>
            /// Where the segment's batches ended when the plan was made.
            var end: Int
        }

        let shard: ShardID
        var pieces: [Piece] = []
        let options: Options
    }

    /// What is needed to read entries of `range`, as far as they hold and are in the log without a gap from the first
    /// on; at most so many pieces that a call stays short.
    func readPlan(_ shard: ShardID, _ range: Range<LogIndex>, pieces limit: Int = 32) -> ReadPlan {
        var plan = ReadPlan(shard: shard, options: options)
        var next = range.lowerBound
        search: while next < range.upperBound, plan.pieces.count < limit {
            // The newest segments hold what followers ask for most.
            for entry in used.reversed() {
                guard let extent = entry.extents[shard]?.extent(of: next) else { continue }
                let last = min(extent.last, LogIndex(rawValue: range.upperBound.rawValue &- 1))
                plan.pieces.append(
                    ReadPlan.Piece(segment: entry.segment, extent: extent, wanted: next...last, end: entry.end))
                next = LogIndex(rawValue: last.rawValue &+ 1)
                continue search
            }
            break
        }
        return plan
    }

    /// The entries of a shard from `first` on, at most `bytes` of payload but one entry at least; fewer when the log
    /// ends before, none when `first` is not in it (any more).
    package func entries(
        of shard: ShardID, from first: LogIndex, through last: LogIndex, bytes: Int = .max
    ) throws(LogError) -> [LoggedEntry] {
        var found: [LoggedEntry] = []
        var room = bytes
        while found.last?.id.index ?? LogIndex(rawValue: first.rawValue &- 1) < last, room > 0 {
            let next = found.last.map { LogIndex(rawValue: $0.id.index.rawValue &+ 1) } ?? first
            let before = found.count
            try readPlan(shard, next..<LogIndex(rawValue: last.rawValue &+ 1)).run(bytes: &room) { found.append($0) }
            if found.count == before { break }
        }
        return found
    }

    /// What a replica's log holds behind its mark, for its Raft core. Call it before the log belongs to a `LogWriter`.
    ///
    /// - Parameters:
    ///   - membership: the first one of a new group; used if the log has never been told one.
    ///   - applied: how far the shard's store got.
    package func restored(
        _ shard: ShardID, membership: Membership, applied: LogIndex
    ) throws(LogError) -> RestoredReplica {
        let state = state(of: shard)
        var run = EntryRun(first: LogIndex(rawValue: state.markIndex.rawValue &+ 1))
        while run.end <= state.lastIndex {
            var room = 1 << 20
            let before = run.count
            let next = run.end..<LogIndex(rawValue: state.lastIndex.rawValue &+ 1)
            try readPlan(shard, next).run(bytes: &room) { entry in
                run.append(term: entry.id.term, size: UInt32(entry.payload.count), content: entry.content)
            }
            guard run.count > before else {
                throw LogError(
                    .damaged,
                    "entry \(run.end) of shard \(shard) is missing: its log begins behind \(state.markIndex) "
                        + "and ends at \(state.lastIndex). Restore the node from a backup, or remove its data.")
            }
        }
        let known = state.membership(at: state.markIndex)?.membership
        return RestoredReplica(
            hardState: state.hardState, compacted: state.mark, membership: known ?? membership, entries: run,
            applied: max(applied, state.markIndex), mayVote: !state.isCut, floor: state.floor)
    }
}

extension LoggedEntry {
    /// What the entry is to the core.
    var content: EntryContent {
        switch kind {
        case .entry, .hardState, .mark, .membership, .restart, .installing, .cut, .removed, .floor: .normal
        case .empty: .empty
        case .configuration: payload.withUnsafeBytes { Membership.decode($0) }.map { .configuration($0) } ?? .normal
        }
    }
}

extension SegmentedLog.ReadPlan {
    /// How much is read at once.
    private static let window = 128 << 10

    /// Reads the entries in order until `bytes` of payload are used up; the one that exceeds them is the last.
    func run(bytes: inout Int, _ body: (LoggedEntry) -> Void) throws(LogError) {
        for piece in pieces {
            guard bytes > 0 else { return }
            try read(piece, &bytes, body)
        }
    }

    private func read(_ piece: Piece, _ bytes: inout Int, _ body: (LoggedEntry) -> Void) throws(LogError) {
        var next = piece.wanted.lowerBound
        var offset = Int(piece.extent.batch)
        var loaded = Bytes()
        var start = offset  // Of what is loaded.
        var wanted = Self.window
        while next <= piece.wanted.upperBound, bytes > 0 {
            let view = offset - start
            guard offset < piece.end else { throw damaged(piece, offset) }
            let header = loaded.withUnsafeBytes { room in
                LogFormat.BatchHeader.decode(
                    ByteView(rebasing: room[min(view, room.count)...]), piece.segment.header)
            }
            let whole = LogFormat.batchHeaderSize + (header?.length ?? 0)
            guard let header, view + whole <= loaded.count else {
                // The window ends here: load the next one, large enough for the batch if that is known.
                let isBroken = view == 0 && (!loaded.isEmpty && header == nil || whole > piece.end - offset)
                if isBroken { throw damaged(piece, offset) }
                wanted = max(wanted, header == nil ? 0 : whole)
                loaded = try load(piece.segment, offset, min(wanted, piece.end - offset))
                start = offset
                continue
            }
            let records = view + LogFormat.batchHeaderSize..<view + whole
            let isIntact = loaded.withUnsafeBytes { room in
                let records = ByteView(rebasing: room[records])
                guard CRC32C.checksum(records) == header.bodyChecksum || options.ignoresChecksums else { return false }
                take(records, at: offset + LogFormat.batchHeaderSize, piece, &next, &bytes, body)
                return true
            }
            if !isIntact { throw damaged(piece, offset) }
            offset += LogFormat.aligned(whole)
        }
    }

    /// Hands out what the piece has in one batch.
    private func take(
        _ records: ByteView, at offset: Int, _ piece: Piece, _ next: inout LogIndex, _ bytes: inout Int,
        _ body: (LoggedEntry) -> Void
    ) {
        var reader = ByteReader(records)
        var start = offset
        while next <= piece.wanted.upperBound, bytes > 0, let record = LogFormat.nextRecord(&reader) {
            defer { start = offset + reader.offset }
            guard record.shard == shard, record.kind.isEntry, record.index == next, start >= Int(piece.extent.record)
            else { continue }
            body(
                LoggedEntry(
                    id: EntryID(term: record.term, index: record.index), kind: record.kind,
                    payload: record.payload.bytes))
            bytes -= max(record.payload.count, 1)
            next = LogIndex(rawValue: next.rawValue &+ 1)
        }
    }

    private func load(_ segment: LogSegment, _ offset: Int, _ count: Int) throws(LogError) -> Bytes {
        var bytes = Bytes(repeating: 0, count: count)
        var failure: SystemError?
        bytes.withUnsafeMutableBytes { room in
            do throws(SystemError) { _ = try segment.file.pread(into: room, at: offset) } catch { failure = error }
        }
        if let failure { throw LogError.of(failure) }
        return bytes
    }

    private func damaged(_ piece: Piece, _ offset: Int) -> LogError {
        LogError(
            .damaged,
            "\(piece.segment.path) is damaged at offset \(offset): it is not what was written. This replica stops; "
                + "check the disk, then restore the node from a backup, or remove its data and let it copy its shards.")
    }
}
