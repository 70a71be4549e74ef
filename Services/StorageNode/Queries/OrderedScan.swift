import Base
import Contracts
import DataModel
import Engine
import GatewayKit

/// Reads the rows of a collection in the order of their keys: each shard gives its own in that order, a page at a time,
/// and they are merged here. No shard is asked for more before all that it gave was taken.
final class OrderedScan: RowCursor {
    /// What a shard has given of the range that is read, and where it goes on.
    private struct Lane {
        let slot: UInt32
        let buckets: Range<Int>
        var resume: Bytes = []
        var keys: ArraySlice<Bytes> = []
        var records: ArraySlice<Bytes> = []
        var isOver = false
    }

    private let keeper: RowKeeper
    private let calls: any RowCalls
    private let collection: CollectionDescriptor
    private let isBackward: Bool
    private var ranges: ArraySlice<KeyRange>
    private var lanes: [Lane] = []
    private var isStarted = false, isAsking = false
    private var failure: StatementError?
    /// Rows of the next page of a shard: what is wanted at first, then more and more.
    private var page: Int
    private static let firstPage = 128, largestPage = 1024

    init(
        _ keeper: RowKeeper, _ calls: any RowCalls, _ request: ScanRequest, _ order: ScanRequest.Order,
        _ ranges: [KeyRange]
    ) {
        (self.keeper, self.calls, collection, self.ranges) = (keeper, calls, request.collection, ranges[...])
        isBackward = order == .descending
        page = min(max(request.limit ?? Self.firstPage, 1), Self.largestPage)
    }

    func next() throws(StatementError) -> RowStep {
        if let failure { throw failure }
        if isAsking { return .waiting }
        if !isStarted { begin() }
        while !ranges.isEmpty {
            let rows = takeReady()
            if !rows.keys.isEmpty { return .rows(rows) }
            if lanes.contains(where: { !$0.isOver }) {
                ask()
                return .waiting
            }
            ranges.removeFirst()
            begin()
        }
        return .end
    }

    private func begin() {
        isStarted = true
        let router = keeper.calls.router
        lanes = []
        for index in router.shards.indices {
            guard let slot = router.anySlot(ofShardIndex: index) else { continue }
            lanes += router.buckets(ofShardIndex: index).map { Lane(slot: slot, buckets: $0) }
        }
    }

    private func comes(_ left: Bytes, _ right: Bytes) -> Bool {
        isBackward ? right.lexicographicallyPrecedes(left) : left.lexicographicallyPrecedes(right)
    }

    /// The rows that nothing can come before any more, in their order.
    private func takeReady() -> StoredRows {
        var ready: [(key: Bytes, record: Bytes)] = [], frontier: Bytes?
        for lane in lanes where !lane.isOver {
            guard let last = lane.keys.last else { return StoredRows(keys: [], records: []) }
            if let known = frontier, !comes(last, known) { continue }
            frontier = last
        }
        for index in lanes.indices {
            while let key = lanes[index].keys.first, frontier.map({ !comes($0, key) }) ?? true,
                let record = lanes[index].records.popFirst()
            {
                lanes[index].keys.removeFirst()
                ready.append((key, record))
            }
        }
        if lanes.count > 1 { ready.sort { comes($0.key, $1.key) } }
        return StoredRows(keys: ready.map(\.key), records: ready.map(\.record))
    }

    /// Asks those shards for more whose rows are all taken.
    private func ask() {
        guard let range = ranges.first else { return }
        isAsking = true
        var key = ByteBuffer(capacity: 4)
        key.append(bigEndian: collection.id.rawValue)
        let name = key.readable.bytes
        // Lanes of one shard stand behind one another.
        var asked: [[Int]] = []
        for (index, lane) in lanes.enumerated() where lane.keys.isEmpty && !lane.isOver {
            if let last = asked.last?.last, lanes[last].slot == lane.slot {
                asked[asked.count - 1].append(index)
            } else {
                asked.append([index])
            }
        }
        let shares = asked.map { indices in
            var builder = RowCallBuilder()
            for index in indices {
                let lane = lanes[index]
                builder.append(
                    .rowScan, key: name, flags: isBackward ? 6 : 2,
                    numbers: [
                        Int64(bitPattern: collection.version), Int64(lane.buckets.lowerBound),
                        Int64(lane.buckets.upperBound), Int64(page), RowKeeper.pageBytes,
                    ],
                    arguments: [range.from, range.to ?? [], lane.resume])
            }
            return InteractiveRun.Share(slot: lanes[indices[0]].slot, body: builder.body, isWrite: false)
        }
        page = min(page * 2, Self.largestPage)
        keeper.perform(shares, by: calls) { [self, asked] result in
            isAsking = false
            do throws(StatementError) {
                try take(try result.get(), asked)
            } catch {
                failure = error
            }
        }
    }

    private func take(_ batches: [Bytes], _ asked: [[Int]]) throws(StatementError) {
        try RowKeeper.read(batches) { (share, call, reply) throws(StatementError) in
            guard asked.indices.contains(share), asked[share].indices.contains(call), reply.kind == .list else {
                throw RowKeeper.malformed
            }
            let index = asked[share][call]
            var items = reply.items, next: Int64?
            while let item = items.next() {
                switch item {
                case .data(let key):
                    guard case .data(let record) = items.next() else { throw RowKeeper.malformed }
                    lanes[index].keys.append(key.bytes)
                    lanes[index].records.append(record.bytes)
                case .integer(let bucket):
                    guard case .data(let key) = items.next() else { throw RowKeeper.malformed }
                    (next, lanes[index].resume) = (bucket, key.bytes)
                case .null, .number: throw RowKeeper.malformed
                }
            }
            guard let next else { throw RowKeeper.malformed }
            lanes[index].isOver = next != Int64(lanes[index].buckets.lowerBound)
            // A page without rows that is not the last would be asked for again and again.
            guard lanes[index].isOver || !lanes[index].keys.isEmpty else { throw RowKeeper.malformed }
        }
    }
}
