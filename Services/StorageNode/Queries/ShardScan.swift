import Base
import Contracts
import DataModel
import Engine
import GatewayKit

/// Reads the rows of a collection from all shards, a page of each at a time; while the engine works on one, the next
/// are under way.
final class ShardScan: RowCursor {
    /// What is left of a range at a shard: buckets, of which the first are under way.
    private struct Part {
        let slot: UInt32
        let keys: KeyRange
        var buckets: ArraySlice<Range<Int>>
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
    private let calls: any RowCalls
    private let request: ScanRequest
    private let ranges: [KeyRange]
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
    private var bucketsRead = 0, allBuckets = 0
    /// Of a call's reply, where several ranges are asked for at once.
    private static let leastBytes: Int64 = 8 << 10

    init(_ keeper: RowKeeper, _ calls: any RowCalls, _ request: ScanRequest, _ ranges: [KeyRange]) {
        (self.keeper, self.calls, self.request, self.ranges) = (keeper, calls, request, ranges)
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
                var buckets = router.buckets(ofShardIndex: index)[...]
                if request.sample != nil { buckets = buckets.flatMap { $0.map { $0..<$0 + 1 } }[...] }
                allBuckets += buckets.count
                parts += ranges.map { Part(slot: slot, keys: $0, buckets: buckets, isPlain: fragment == nil) }
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
                keeper, calls, request.collection, found.keys, lock: .update, wait: .wait, keepsMissing: false)
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
        // Parts of one shard stand behind one another.
        var asked: [[Part]] = []
        for part in parts {
            if asked.last?.first?.slot != part.slot { asked.append([]) }
            asked[asked.count - 1].append(part)
        }
        let shares = asked.map { parts in
            let bytes = max(RowKeeper.pageBytes / Int64(parts.count), Self.leastBytes)
            var builder = RowCallBuilder()
            for part in parts { append(part, collection, bytes, to: &builder) }
            return InteractiveRun.Share(slot: parts[0].slot, body: builder.body, isWrite: false)
        }
        keeper.perform(shares, by: calls) { [self, asked] result in
            isAsking = false
            do throws(StatementError) {
                try take(try result.get(), asked)
            } catch {
                failure = error
            }
        }
    }

    private func append(_ part: Part, _ collection: Bytes, _ bytes: Int64, to builder: inout RowCallBuilder) {
        let buckets = part.buckets.first ?? 0..<0, most = part.isPlain ? request.limit : limit
        let places = [part.keys.from, part.keys.to ?? [], part.resume]
        let numbers = [
            Int64(bitPattern: request.collection.version), Int64(buckets.lowerBound), Int64(buckets.upperBound),
            most.map { Int64(max($0 - rows, 1)) } ?? 0, bytes,
        ]
        if let fragment, !part.isPlain {
            builder.append(
                .rowFragment, key: collection,
                numbers: numbers + [fragment.call.transactionTime, fragment.call.statementTime],
                arguments: places + [fragment.name, fragment.parameters])
        } else {
            builder.append(.rowScan, key: collection, numbers: numbers, arguments: places)
        }
    }

    private func take(_ batches: [Bytes], _ asked: [[Part]]) throws(StatementError) {
        var left: [Part] = []
        try RowKeeper.read(batches) { (share, call, reply) throws(StatementError) in
            guard asked.indices.contains(share), asked[share].indices.contains(call) else {
                throw RowKeeper.malformed
            }
            var part = asked[share][call]
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
            guard let range = part.buckets.first else { throw RowKeeper.malformed }
            if let page { pages.append(page) }
            part.resume = resume
            if range.contains(next) {
                part.buckets[part.buckets.startIndex] = next..<range.upperBound
            } else {
                part.buckets.removeFirst()
                part.resume = []
                bucketsRead += 1
            }
            if !part.buckets.isEmpty { left.append(part) }
        }
        // Buckets that were begun are read to their end.
        if let sample = request.sample, rows >= sample { left.removeAll { $0.resume.isEmpty } }
        parts = left
    }

    var share: Double { request.sample == nil ? 1 : Double(bucketsRead) / Double(max(allBuckets, 1)) }

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
        if request.limit != nil || request.sample != nil { rows += page.keys.count }
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
