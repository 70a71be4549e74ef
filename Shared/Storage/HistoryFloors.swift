import Base
import CRocksDB
import DataModel
import Synchronization

/// Up to where versions of records are no longer needed, for every bucket of a node.
final class HistoryFloors: @unchecked Sendable {  // A fixed table of atomics.
    /// As many as there can be buckets: slots.
    private static let count = Slot.count
    private let floors: UnsafeMutablePointer<Atomic<UInt64>>

    init() {
        floors = .allocate(capacity: Self.count)
        for number in 0..<Self.count { (floors + number).initialize(to: Atomic(0)) }
    }

    deinit {
        floors.deinitialize(count: Self.count)
        floors.deallocate()
    }

    func set(_ floor: Timestamp, buckets: Range<Int>) {
        for bucket in buckets.clamped(to: 0..<Self.count) {
            floors[bucket].store(floor.rawValue, ordering: .relaxed)
        }
    }

    /// The highest floor of the buckets that ranges touch.
    func highest(in ranges: [KeyRange]) -> Timestamp {
        var highest: UInt64 = 0
        for range in ranges {
            let first = Int(range.from.withUnsafeBytes { HistoryKey.bucket(of: $0) })
            let last = Int(range.to.withUnsafeBytes { HistoryKey.bucket(of: $0) })
            for bucket in (first..<last + 1).clamped(to: 0..<Self.count) {
                highest = max(highest, floors[bucket].load(ordering: .relaxed))
            }
        }
        return Timestamp(rawValue: highest)
    }

    /// Whether a record of the store is history that nobody may read.
    func isOver(_ key: ByteView) -> Bool {
        guard HistoryKey.isHistory(key), let until = HistoryKey.until(of: key) else { return false }
        let bucket = Int(HistoryKey.bucket(of: key))
        guard bucket < Self.count else { return false }
        return until.rawValue <= floors[bucket].load(ordering: .relaxed)
    }
}

/// Drops old history while RocksDB compacts. Its views do not keep what the filter drops, so whoever reads one must
/// look at `StoreView.historyFloor`.
final class HistoryFilter: @unchecked Sendable {  // RocksDB calls it from its own threads; constant.
    let floors: HistoryFloors
    let native: OpaquePointer

    init(_ floors: HistoryFloors) throws(StoreError) {
        self.floors = floors
        let created = rocksdb_compactionfilter_create(
            Unmanaged.passUnretained(floors).toOpaque(), { _ in },
            { context, _, key, length, _, _, _, _, _ in
                guard let context, let key else { return 0 }
                let floors = Unmanaged<HistoryFloors>.fromOpaque(context).takeUnretainedValue()
                return floors.isOver(ByteView(start: key, count: length)) ? 1 : 0
            },
            { _ in UnsafeRawPointer(HistoryFilter.name.utf8Start).assumingMemoryBound(to: CChar.self) })
        guard let created else { throw StoreError(.misuse, "out of memory") }
        native = created
    }

    deinit { rocksdb_compactionfilter_destroy(native) }

    /// Its characters end with a zero, and stay.
    private static let name: StaticString = "orbit.history"
}
