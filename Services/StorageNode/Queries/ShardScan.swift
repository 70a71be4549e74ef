import Base
import Contracts
import DataModel
import Engine
import GatewayKit

/// Reads the rows of a collection from all shards, a page of each at a time; while the engine works on one, the next
/// are under way.
final class ShardScan: RowCursor {
    /// What is left of a shard: ranges of buckets, of which the first is under way.
    private struct Part {
        let slot: UInt32
        var ranges: ArraySlice<Range<Int>>
        var resume: Bytes = []
        /// Its leader does not know the fragment: it gives rows.
        var isPlain: Bool
    }

    /// What the shards do with their rows.
    private struct Fragment {
        let call: FragmentCall
        let name: Bytes
        let parameters: Bytes
    }

    private let keeper: RowKeeper
    private let request: ScanRequest
    private let from: Bytes, to: Bytes
    /// Of rows that will be written: those of a page, locked and read again as they are then.
    private var locking: KeyRead?
    private var parts: [Part] = []
    private var isStarted = false, isAsking = false
    private var pages = Queue<RowStep>()
    private let fragment: Fragment?
    /// Rows that are asked for at most.
    private let limit: Int?
    private var failure: StatementError?
    private var rows = 0

    init(_ keeper: RowKeeper, _ request: ScanRequest, from: Bytes, to: Bytes) {
        (self.keeper, self.request, self.from, self.to) = (keeper, request, from, to)
        if let call = request.fragment, let name = keeper.fragments?.name(of: call.fragment.number) {
            let parameters = call.parameters.enumerated().map { (column: UInt32($0 + 1), value: $1) }
            fragment = Fragment(call: call, name: name, parameters: RecordEncoding.encode(parameters))
            limit = call.limit
        } else {
            fragment = nil
            limit = request.limit
        }
    }

    func next() throws(StatementError) -> RowStep {
        if !isStarted {
            isStarted = true
            let router = keeper.calls.router
            for index in router.shards.indices {
                guard let slot = router.anySlot(ofShardIndex: index) else { continue }
                parts.append(
                    Part(
                        slot: slot, ranges: router.buckets(ofShardIndex: index)[...], isPlain: fragment == nil))
            }
        }
        if let locking {
            switch try locking.next() {
            case .waiting: return .waiting
            case .rows(let page):
                self.locking = nil
                return .rows(page)
            case .columns, .blocks, .end: self.locking = nil  // All of them have gone meanwhile.
            }
        }
        if let page = pages.popFirst() {
            ask()
            guard request.isForUpdate, case .rows(let found) = page else { return page }
            locking = KeyRead(
                keeper, request.collection, found.keys, lock: .update, wait: .wait, keepsMissing: false)
            return try next()
        }
        if let failure { throw failure }
        if let limit, rows >= limit { return .end }
        ask()
        return isAsking ? .waiting : .end
    }

    private func ask() {
        guard !isAsking, failure == nil, pages.isEmpty, !parts.isEmpty else { return }
        if let limit, rows >= limit { return }
        isAsking = true
        var key = ByteBuffer(capacity: 4)
        key.append(bigEndian: request.collection.id.rawValue)
        let collection = key.readable.bytes
        let asked = parts
        let shares = asked.map { part in
            let buckets = part.ranges.first ?? 0..<0, most = part.isPlain ? request.limit : limit
            var builder = RowCallBuilder()
            var numbers = [
                Int64(bitPattern: request.collection.version), Int64(buckets.lowerBound), Int64(buckets.upperBound),
                most.map { Int64(max($0 - rows, 1)) } ?? 0, RowKeeper.pageBytes,
            ]
            if let fragment, !part.isPlain {
                numbers += [fragment.call.transactionTime, fragment.call.statementTime]
                builder.append(
                    .rowFragment, key: collection, numbers: numbers,
                    arguments: [from, to, part.resume, fragment.name, fragment.parameters])
            } else {
                builder.append(.rowScan, key: collection, numbers: numbers, arguments: [from, to, part.resume])
            }
            return InteractiveRun.Share(slot: part.slot, body: builder.body, isWrite: false)
        }
        keeper.perform(shares) { [self] result in
            isAsking = false
            do throws(StatementError) {
                try take(try result.get(), asked)
            } catch {
                failure = error
            }
        }
    }

    private func take(_ batches: [Bytes], _ asked: [Part]) throws(StatementError) {
        var left: [Part] = []
        try RowKeeper.read(batches) { (share, _, reply) throws(StatementError) in
            guard asked.indices.contains(share) else { throw RowKeeper.malformed }
            var part = asked[share]
            switch reply.kind {
            case .list: break
            case .null where !part.isPlain:
                part.isPlain = true
                left.append(part)
                return
            case .data where !part.isPlain:
                if case .failed(let error)? = PointReply(reply.data) { throw error }
                throw RowKeeper.malformed
            case .null, .data, .ok, .integer, .number, .batch, .error: throw RowKeeper.malformed
            }
            let (page, next, resume) = try part.isPlain ? readRows(reply) : readBlocks(reply)
            guard let range = part.ranges.first else { throw RowKeeper.malformed }
            if let page { pages.append(page) }
            part.resume = resume
            if range.contains(next) {
                part.ranges[part.ranges.startIndex] = next..<range.upperBound
            } else {
                part.ranges.removeFirst()
                part.resume = []
            }
            if !part.ranges.isEmpty { left.append(part) }
        }
        parts = left
    }

    private typealias Page = (step: RowStep?, next: Int, resume: Bytes)

    private func readRows(_ reply: borrowing ReplyView) throws(StatementError) -> Page {
        var page = StoredRows(keys: [], records: []), items = reply.items
        var next: Int?, resume: Bytes = []
        while let item = items.next() {
            switch item {
            case .data(let key):
                guard case .data(let record) = items.next() else { throw RowKeeper.malformed }
                page.keys.append(key.bytes)
                page.records.append(record.bytes)
            case .integer(let bucket):
                guard case .data(let key) = items.next() else { throw RowKeeper.malformed }
                (next, resume) = (Int(exactly: bucket), key.bytes)
            case .null, .number: throw RowKeeper.malformed
            }
        }
        guard let next else { throw RowKeeper.malformed }
        // Of rows that are filtered here, there may be any number.
        if request.limit != nil { rows += page.keys.count }
        return (page.keys.isEmpty ? nil : .rows(page), next, resume)
    }

    private func readBlocks(_ reply: borrowing ReplyView) throws(StatementError) -> Page {
        var blocks: [Bytes] = [], items = reply.items
        while let item = items.next() {
            switch item {
            case .data(let block):
                blocks.append(block.bytes)
                rows += FragmentRun.rowCount(of: block)
            case .integer(let bucket):
                guard case .data(let key) = items.next(), let next = Int(exactly: bucket) else {
                    throw RowKeeper.malformed
                }
                return (blocks.isEmpty ? nil : .blocks(blocks), next, key.bytes)
            case .null, .number: throw RowKeeper.malformed
            }
        }
        throw RowKeeper.malformed
    }
}
