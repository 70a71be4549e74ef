import Base

/// Opening: finding the end, or refusing. See `SegmentedLog`, invariant 4.
extension SegmentedLog {
    func recover() throws(LogError) {
        let segments = try openSegments()
        guard !segments.isEmpty else { return try startEmpty() }
        try walk(segments)
        let behind = segments.filter { $0.sequence >= end.segment }
        let dirty = try examine(behind)
        try checkFront(dirty)
        if !dirty.isEmpty { try markCut(behind, dirty) }
        try cut(behind, dirty)
        recovery.segments = used.count
        recovery.end = end
        try rewriteTail()
    }

    /// Makes durable what was read from behind the last proven durable position, before anybody counts on it. A dead
    /// process may have left it in the page cache only; and if a sync failed there, the cache calls it clean, so that
    /// a sync alone would do nothing. Hence it is written again.
    private func rewriteTail() throws(LogError) {
        for position in used.indices where used[position].segment.sequence >= proven.segment {
            let entry = used[position]
            let start = entry.segment.sequence == proven.segment ? proven.offset : LogFormat.segmentHeaderSize
            guard start < entry.end else { continue }
            try overwrite(entry.segment.file, start, try read(entry.segment.file, start, entry.end - start))
            used[position].syncedEnd = 0
        }
        synced = proven
        try sync()
        let recovered = self.end
        // From here on a later batch testifies to all that was found, and damage of it is no torn tail any more.
        recovery.isSealed = proven >= lastRecords
        if !recovery.isSealed {
            do throws(LogError) { try seal(mayBegin: true) } catch { if error.kind != .full { throw error } }
            recovery.isSealed = self.end > recovered
        }
    }

    private func overwrite(_ file: any DiskFile, _ offset: Int, _ bytes: Bytes) throws(LogError) {
        var failure: SystemError?
        bytes.withUnsafeBytes { view in
            do throws(SystemError) { try file.pwrite(view, at: offset) } catch { failure = error }
        }
        if let failure { throw LogError.of(failure) }
    }

    private func startEmpty() throws(LogError) {
        guard let preparation = preparation() else { return }
        let first = try preparation.run()
        used = [Used(segment: first, end: LogFormat.segmentHeaderSize, syncedEnd: LogFormat.segmentHeaderSize)]
        recovery.segments = 1
    }

    private func attempt<R>(_ body: () throws(SystemError) -> R) throws(LogError) -> R {
        do throws(SystemError) { return try body() } catch { throw LogError.of(error) }
    }

    /// The segments that are there, in order and without a gap.
    private func openSegments() throws(LogError) -> [LogSegment] {
        // A process that died before it synced the directory has left names that a power loss would take away.
        try attempt { () throws(SystemError) in try disk.syncDirectory(directory) }
        let names = try attempt { () throws(SystemError) in try disk.list(directory) }
        var segments: [LogSegment] = []
        for name in names {
            let path = directory + "/" + name
            if name.hasSuffix(LogSegment.draftSuffix) {
                try attempt { () throws(SystemError) in try disk.remove(path) }
            }
            guard let sequence = LogSegment.sequence(ofName: name) else { continue }
            if let last = segments.last, last.sequence + 1 != sequence {
                throw damaged(directory + "/" + LogSegment.name(last.sequence + 1), 0, "it is missing")
            }
            let file = try attempt { () throws(SystemError) in try disk.open(path, create: false) }
            let start = try read(file, 0, LogFormat.segmentHeaderSize)
            let size = try attempt { () throws(SystemError) in try file.size }
            switch start.withUnsafeBytes({ LogFormat.SegmentHeader.decode($0) }) {
            case .failure(let error):
                throw damaged(path, 0, error.message)
            case .success(let header):
                guard header.sequence == sequence else { throw damaged(path, 0, "it is segment \(header.sequence)") }
                guard header.size <= UInt64(size), header.size < 1 << 32 else {
                    throw damaged(path, size, "it is shorter than it was made")
                }
                segments.append(LogSegment(header: header, path: path, file: file))
            }
        }
        return segments
    }

    /// Follows the batches from the front to where they end, and takes over what their records say.
    private func walk(_ segments: [LogSegment]) throws(LogError) {
        var follows = false  // The very first batch may have any sequence and chain.
        for segment in segments {
            let bytes = try read(segment)
            var offset = LogFormat.segmentHeaderSize
            var isFirst = true
            while let batch = batch(at: offset, bytes, segment.header) {
                if follows, batch.header.sequence != nextSequence || batch.header.chain != chain { break }
                if isFirst { begin(segment) }
                isFirst = false
                follows = true
                proven = max(proven, batch.header.synced)
                if batch.header.count > 0 {
                    lastRecords = LogPosition(segment: segment.sequence, offset: batch.records.upperBound)
                }
                nextSequence = batch.header.sequence + 1
                chain = batch.header.headerChecksum
                if batch.header.isCut { noteCut() }
                bytes.withUnsafeBytes {
                    note(ByteView(rebasing: $0[batch.records]), in: used.count - 1, batchAt: offset)
                }
                recovery.batches += 1
                recovery.records += batch.header.count
                offset += LogFormat.aligned(LogFormat.batchHeaderSize + batch.header.length)
                used[used.count - 1].end = offset
            }
            // A segment that does not go on from the one before ends the walk; the first one is used in any case.
            if isFirst {
                if used.isEmpty { begin(segment) }
                return
            }
        }
    }

    private func begin(_ segment: LogSegment) {
        used.append(Used(segment: segment, end: LogFormat.segmentHeaderSize, syncedEnd: LogFormat.segmentHeaderSize))
    }

    /// The intact batch at `offset`, if there is one.
    private func batch(
        at offset: Int, _ bytes: Bytes, _ segment: LogFormat.SegmentHeader
    ) -> (header: LogFormat.BatchHeader, records: Range<Int>)? {
        bytes.withUnsafeBytes { view in
            guard offset <= view.count,
                let header = LogFormat.BatchHeader.decode(ByteView(rebasing: view[offset...]), segment)
            else { return nil }
            let start = offset + LogFormat.batchHeaderSize
            guard header.length <= view.count - start else { return nil }
            let records = start..<start + header.length
            let body = ByteView(rebasing: view[records])
            guard CRC32C.checksum(body) == header.bodyChecksum || options.ignoresChecksums else { return nil }
            var reader = ByteReader(body)
            var count = 0
            while LogFormat.nextRecord(&reader) != nil { count += 1 }
            return reader.isAtEnd && count == header.count ? (header, records) : nil
        }
    }

    /// The first segment that is still needed must be there.
    private func checkFront(_ dirty: [UInt64: Int]) throws(LogError) {
        guard let first = used.first?.segment, first.sequence > max(firstNeeded, 1) else { return }
        let missing = LogSegment.name(max(firstNeeded, 1))
        guard let tail = dirty.max(by: { $0.key < $1.key }), let last = used.last?.segment else {
            throw damaged(directory + "/" + missing, 0, "it is missing")
        }
        // The record that earlier segments were removed is itself a batch, and may be what is hurt.
        throw damaged(
            last.path, end.offset, "it does not say why \(missing) is missing", from: end,
            to: LogPosition(segment: tail.key, offset: tail.value))
    }

    /// Reads everything behind the end: what was durable once means damage. Returns where the last byte that is not
    /// zero lies in each segment that has one: a torn tail.
    private func examine(_ behind: [LogSegment]) throws(LogError) -> [UInt64: Int] {
        let end = self.end
        var dirty: [UInt64: Int] = [:]
        var claimed = end
        var intact: LogPosition?  // The first batch header behind the end.
        for segment in behind {
            let bytes = try read(segment)
            let start = segment.sequence == end.segment ? end.offset : LogFormat.segmentHeaderSize
            let (claim, first, last) = Self.search(bytes, from: start, segment.header)
            claimed = max(claimed, claim ?? end)
            if intact == nil, let first { intact = LogPosition(segment: segment.sequence, offset: first) }
            if let last { dirty[segment.sequence] = last }
        }
        if claimed > end {
            throw damaged(
                used[used.count - 1].segment.path, end.offset,
                "the next intact batch is at \((intact ?? end).described), "
                    + "and the log was durable up to \(claimed.described)",
                from: end, to: intact ?? end)
        }
        return dirty
    }

    /// Writes durably that the log is cut here, before what tells of it is taken away: at the next start this one may
    /// have been forgotten. It is written where the torn batch begins; if it is torn itself, the log is cut there
    /// again.
    private func markCut(_ behind: [LogSegment], _ dirty: [UInt64: Int]) throws(LogError) {
        if !hasRoomForSeal {
            // No batch fits behind the last one, so none was torn there.
            guard let next = behind.first(where: { $0.sequence == end.segment + 1 }), dirty[next.sequence] != nil else {
                return
            }
            prepared = next
        }
        recovery.wasCut = true
        synced = max(synced, proven)  // All that may be said to be durable so far.
        try writeSeal(isCut: true)
        let file = used[used.count - 1].segment.file
        try attempt { () throws(SystemError) in try file.sync() }
        noteCut()
    }

    /// Takes the torn tail away.
    private func cut(_ behind: [LogSegment], _ dirty: [UInt64: Int]) throws(LogError) {
        let end = self.end
        // Newest first, so that a crash in between leaves no gap; one clean segment behind the end stays as the next.
        for segment in behind.reversed() where segment.sequence > end.segment {
            if segment.sequence == end.segment + 1, dirty[segment.sequence] == nil {
                prepared = segment
            } else {
                segment.file.close()
                try attempt { () throws(SystemError) in
                    try disk.remove(segment.path)
                    try disk.syncDirectory(directory)
                }
            }
        }
        if let last = dirty[end.segment], last >= end.offset {
            try zero(used[used.count - 1].segment.file, end.offset, last + 1)
        }
    }

    /// The highest durable position that a batch header behind the end names, where the first such header lies, and
    /// the last byte that is not zero.
    private static func search(
        _ bytes: Bytes, from start: Int, _ segment: LogFormat.SegmentHeader
    ) -> (claim: LogPosition?, first: Int?, last: Int?) {
        bytes.withUnsafeBytes { view in
            var first: Int?
            var last: Int?
            var claim: LogPosition?
            var offset = start
            while offset < view.count {
                // Batches begin at multiples of 8, and segments are such multiples long.
                let word = view.count - offset >= 8 ? view.loadUnaligned(fromByteOffset: offset, as: UInt64.self) : 1
                if word != 0 {
                    last = min(offset + 7, view.count - 1)
                    if let header = LogFormat.BatchHeader.decode(ByteView(rebasing: view[offset...]), segment) {
                        claim = max(claim ?? header.synced, header.synced)
                        first = first ?? offset
                    }
                }
                offset += 8
            }
            return (claim, first, last)
        }
    }

    private func zero(_ file: any DiskFile, _ from: Int, _ to: Int) throws(LogError) {
        let zeros = Bytes(repeating: 0, count: to - from)
        try overwrite(file, from, zeros)
        try attempt { () throws(SystemError) in try file.sync() }
    }

    // MARK: Reading

    private func read(_ segment: LogSegment) throws(LogError) -> Bytes {
        try read(segment.file, 0, Int(segment.header.size))
    }

    private func read(_ file: any DiskFile, _ offset: Int, _ count: Int) throws(LogError) -> Bytes {
        var bytes = Bytes(repeating: 0, count: count)
        var failure: SystemError?
        bytes.withUnsafeMutableBytes { room in
            do throws(SystemError) { _ = try file.pread(into: room, at: offset) } catch { failure = error }
        }
        if let failure { throw LogError.of(failure) }
        return bytes
    }

    /// Hands out the entries of all shards that hold (of two with the same shard and index the later one), in the
    /// order in which they were written, so each shard's in the order of their indexes. Whether they are committed is
    /// not known here: with a single replica all are, with several only what the leader says. Call it before the log
    /// belongs to a `LogWriter`.
    package func replay(_ body: (LogRecord) throws(DatabaseError) -> Void) throws(DatabaseError) {
        for entry in used {
            let bytes: Bytes
            do throws(LogError) { bytes = try read(entry.segment) } catch { throw error.databaseError }
            var offset = LogFormat.segmentHeaderSize
            while offset < entry.end {
                guard let batch = batch(at: offset, bytes, entry.segment.header) else {
                    throw damaged(entry.segment.path, offset, "it changed since the log was opened").databaseError
                }
                var failure: DatabaseError?
                bytes.withUnsafeBytes { view in
                    var reader = ByteReader(ByteView(rebasing: view[batch.records]))
                    var start = batch.records.lowerBound
                    while failure == nil, let record = LogFormat.nextRecord(&reader) {
                        defer { start = batch.records.lowerBound + reader.offset }
                        guard record.kind.isEntry,
                            entry.extents[record.shard]?.holds(record.index, record: start) == true
                        else { continue }
                        do throws(DatabaseError) { try body(record) } catch { failure = error }
                    }
                }
                if let failure { throw failure }
                offset += LogFormat.aligned(LogFormat.batchHeaderSize + batch.header.length)
            }
        }
    }

    /// Names the file, the offset and what to do. The hurt bytes lie between the two positions, where they are known.
    private func damaged(
        _ path: String, _ offset: Int, _ what: String, from: LogPosition? = nil, to: LogPosition? = nil
    ) -> LogError {
        var error = LogError(
            .damaged,
            "\(path) is damaged at offset \(offset): \(what). Bytes that were acknowledged are lost here, so this "
                + "replica stops. Check the disk; keep \(directory) for analysis; then restore the node from a backup, "
                + "or remove its data and let it copy the shards from their other replicas.")
        if let from, let to { error.damage = from...max(from, to) }
        return error
    }
}
