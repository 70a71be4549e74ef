import Base
import CRocksDB

/// A RocksDB iterator, which sees the store as it was when the scan began.
final class RocksDBStoreIterator: StoreIterator {
    private let iterator: OpaquePointer
    private let options: OpaquePointer
    /// RocksDB keeps a pointer to the bound, so the bound must stay where it is.
    private let bound: UnsafeMutableRawBufferPointer
    private let start: Bytes
    /// Kept alive: it holds the snapshot, and the database open.
    private let view: RocksDBView?

    /// Without a view it sees the store as of now. One that goes backward begins with the last record.
    init(_ database: OpaquePointer, from: Bytes, to: Bytes, view: RocksDBView? = nil, isBackward: Bool = false) {
        self.view = view
        options = rocksdb_readoptions_create()
        if let view {
            rocksdb_readoptions_set_snapshot(options, view.snapshot)
            rocksdb_readoptions_set_fill_cache(options, 0)  // An export must not push out what clients read.
        }
        rocksdb_readoptions_set_total_order_seek(options, 1)  // Scans cross prefixes.
        bound = .allocate(byteCount: max(to.count, 1), alignment: 1)
        if !to.isEmpty {
            bound.copyBytes(from: to)
            let end = RocksDBStore.characters(ByteView(bound))
            rocksdb_readoptions_set_iterate_upper_bound(options, end, to.count)
        }
        iterator = rocksdb_create_iterator(database, options)
        start = from
        if isBackward {
            rocksdb_iter_seek_to_last(iterator)
        } else {
            from.withUnsafeBytes { rocksdb_iter_seek(iterator, RocksDBStore.characters($0), $0.count) }
        }
    }

    /// The key that lies so many records back, the current one counted; nil: that is before the start. For an iterator
    /// that goes backward.
    func stepBack(_ count: Int) -> Bytes? {
        for _ in 1..<max(count, 1) {
            guard isValid else { return nil }
            rocksdb_iter_prev(iterator)
        }
        guard isValid, start.withUnsafeBytes({ compareKeys($0, key) <= 0 }) else { return nil }
        return key.bytes
    }

    deinit {
        rocksdb_iter_destroy(iterator)
        rocksdb_readoptions_destroy(options)
        bound.deallocate()
    }

    var isValid: Bool { rocksdb_iter_valid(iterator) != 0 }

    var key: ByteView {
        var length = 0
        let key = rocksdb_iter_key(iterator, &length)
        return ByteView(start: key, count: length)
    }

    var value: ByteView {
        var length = 0
        let value = rocksdb_iter_value(iterator, &length)
        return ByteView(start: value, count: length)
    }

    func next() {
        if isValid { rocksdb_iter_next(iterator) }
    }

    func seek(_ key: ByteView) {
        start.withUnsafeBytes { start in
            let target = compareKeys(key, start) < 0 ? start : key
            rocksdb_iter_seek(iterator, RocksDBStore.characters(target), target.count)
        }
    }

    func check() throws(StoreError) {
        var message: UnsafeMutablePointer<CChar>?
        rocksdb_iter_get_error(iterator, &message)
        try RocksDBStore.check(message)
    }
}
