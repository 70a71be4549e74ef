import Actors
import Base
import Contracts
import DataModel
import Engine
import Storage

/// What a shard does for statements with many of its rows.
final class ShardFragments: RowFragments {
    private let fragments: Fragments
    /// Columns that are kept; nil where rows are not those of a time.
    private let columns: ShardColumns?

    init(_ fragments: Fragments, columns: ShardColumns? = nil) { (self.fragments, self.columns) = (fragments, columns) }

    func begin(_ request: RowFragmentRequest) -> (any RowFragment)? {
        guard let entry = fragments.entry(request.name), entry.fragment.collection.id == request.collection,
            entry.fragment.collection.version == request.version
        else { return nil }
        var settings = entry.settings
        settings.transactionTime = request.transactionTime
        settings.statementTime = request.statementTime
        settings.text.now = request.transactionTime
        return ShardFragment(entry.fragment, request, settings, columns)
    }
}

/// A fragment over a page of a shard's rows.
final class ShardFragment: RowFragment {
    /// Records that are read in one run.
    private static let mostBytes = 1 << 20
    /// What one page may cost: about half a millisecond of the loop, or one where rows are read. Not its time, since
    /// the same data should be divided in the same way.
    private static let pageCost = 131_072, readCost = 128, blockCost = 512

    private let fragment: ScanFragment
    private let bytes: Int
    private let columns: ShardColumns?
    private var run: FragmentRun?
    private var failure: StatementError?
    private var costLeft = ShardFragment.pageCost
    /// The columns that are read: those of the fragment, and behind them others that are kept as well.
    private let reading: [ColumnID]

    // The rows that are coming.

    private var bucket = 0
    /// Where they have to end; nil: nowhere.
    private var boundary: Bytes?
    /// They are kept for this range; nil: for none, or not any more.
    private var keeping: WatchedRange?
    private var mostRows = FragmentRun.blockRows
    private var bytesRead = 0

    init(
        _ fragment: ScanFragment, _ request: RowFragmentRequest, _ settings: EngineSettings, _ columns: ShardColumns?
    ) {
        self.fragment = fragment
        bytes = request.bytes
        let kept = fragment.reduces ? columns : nil
        self.columns = kept
        let extra = kept?.want(fragment) ?? []
        reading = fragment.columns + extra
        do throws(StatementError) {
            guard let record = RecordEncoding.decode(request.parameters) else {
                throw StatementError(.protocolViolation, "the parameters of a fragment are damaged")
            }
            run = try FragmentRun(
                fragment, record.map(\.value), settings: settings, limit: request.rows,
                extra: extra)
        } catch {
            failure = error
        }
    }

    var isFull: Bool { failure != nil || costLeft <= 0 || run?.isFull(bytes) != false }

    func takeKnown(_ bucket: Int, from key: ByteView) -> RowReach? {
        guard let (block, end) = columns?.block(of: fragment, bucket, key) else { return nil }
        process(block)
        costLeft -= block.count * fragment.rowCost + Self.blockCost
        return end.map { .key($0) } ?? .bucket
    }

    func begin(_ bucket: Int, from key: ByteView, isAll: Bool) {
        (self.bucket, boundary, keeping, bytesRead) = (bucket, nil, nil, 0)
        mostRows = FragmentRun.blockRows
        guard isAll, let (range, end) = columns?.range(fragment, bucket, key) else { return }
        boundary = end
        if range.from.withUnsafeBytes({ $0.equals(key) }) { keeping = range }
        // A block that has grown a little stays one.
        if boundary != nil { mostRows *= 2 }
    }

    func add(_ key: ByteView, _ record: ByteView, isLasting: Bool) -> Bool {
        guard failure == nil, let run, run.pending < mostRows, !run.isSated else { return false }
        if let boundary, boundary.withUnsafeBytes({ compareKeys(key, $0) >= 0 }) { return false }
        if run.pending >= FragmentRun.blockRows, keeping == nil { return false }
        // Large rows: what is read of them is in memory, and perhaps all of it comes out.
        bytesRead += key.count + record.count
        if run.pending > 0, bytesRead > (fragment.reduces ? max(bytes, Self.mostBytes) : bytes) { return false }
        guard run.add(key, record) else {
            failure = StatementError(.dataCorrupted, "a stored row cannot be read")
            return false
        }
        if !isLasting { keeping = nil }
        costLeft -= Self.readCost
        return true
    }

    func end(_ next: Bytes?) -> RowReach {
        costLeft -= Self.blockCost
        guard let run else { return .bucket }
        let block = run.take()
        var goesOn = next
        if let next, let boundary, boundary.lexicographicallyPrecedes(next) { goesOn = boundary }
        if failure == nil {
            if let keeping { columns?.keep(block, reading, of: fragment, keeping, bucket, until: goesOn) }
            process(reading.count == fragment.columns.count ? block : block.first(fragment.columns.count))
        }
        return goesOn.map { .key($0) } ?? .bucket
    }

    private func process(_ block: RowBlock) {
        guard failure == nil else { return }
        do throws(StatementError) {
            try run?.process(block)
        } catch {
            failure = error
        }
    }

    func finish() -> RowFragmentOutcome {
        do throws(StatementError) {
            if let failure { throw failure }
            return .blocks(try run?.finish() ?? [])
        } catch {
            var reply = ByteBuffer(capacity: 256)
            PointReply.appendFailed(error, to: &reply)
            return .failed(reply.readable.bytes)
        }
    }
}
