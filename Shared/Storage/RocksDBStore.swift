import Base
import CRocksDB
import Glibc

/// What a `RocksDBStore` may use.
package struct RocksDBOptions: Sendable {
    /// Cache of uncompressed blocks, in bytes.
    package var blockCacheBytes = 64 << 20
    /// One memtable. Batches pass through it on their way to a file, so it need not be large (docs/decisions/0001).
    package var memtableBytes = 32 << 20
    package var maximumOpenFiles: Int32 = 512
    package var backgroundJobs: Int32 = 2
    package var memtable = Memtable.skipList
    /// Size of the table files by which a snapshot takes the place of a shard's records.
    package var replacementFileBytes = 32 << 20

    /// How a memtable finds a key. Only flushed batches pass through it, so the default serves (docs/decisions/0001).
    package enum Memtable: String, CaseIterable, Sendable {
        case skipList = "skiplist"
        case hashSkipList = "hash_skip_list"
        case vector = "vector"
    }

    package init() {}
}

/// A store on RocksDB 7.8 through its C API: one column family, no write-ahead log.
///
/// One column family makes a flush atomic by itself: RocksDB writes memtables in their order, so what survives a
/// crash is always a prefix of the batches, and with it the applied index that was in the last of them.
package final class RocksDBStore: Store, @unchecked Sendable {
    // Thread-safe by RocksDB's own rules; everything here is constant until `close`, which must be the last call.
    let database: OpaquePointer
    /// Closes the database when the store and the last view have let go of it.
    private(set) var handle: DatabaseHandle?
    let options: RocksDBOptions
    private let readOptions: OpaquePointer
    private let writeOptions: OpaquePointer
    private let flushOptions: OpaquePointer
    private var isClosed = false

    /// Opens the store in `directory`, and makes it when there is none.
    package init(directory: String, options: RocksDBOptions = RocksDBOptions()) throws(StoreError) {
        let settings = try Self.settings(options)
        defer { rocksdb_options_destroy(settings) }
        let filter = try HistoryFilter(HistoryFloors())
        rocksdb_options_set_compaction_filter(settings, filter.native)
        var message: UnsafeMutablePointer<CChar>?
        let opened = rocksdb_open(settings, directory, &message)
        try Self.check(message)
        guard let opened else { throw StoreError(.inputOutput, "\(directory) did not open") }
        database = opened
        handle = DatabaseHandle(opened, filter)
        self.options = options
        readOptions = rocksdb_readoptions_create()
        writeOptions = rocksdb_writeoptions_create()
        rocksdb_writeoptions_disable_WAL(writeOptions, 1)
        rocksdb_writeoptions_set_memtable_insert_hint_per_batch(writeOptions, 1)  // Batches come sorted.
        flushOptions = rocksdb_flushoptions_create()
        rocksdb_flushoptions_set_wait(flushOptions, 1)
    }

    /// RocksDB's own options; the caller destroys them.
    static func settings(_ options: RocksDBOptions) throws(StoreError) -> OpaquePointer {
        guard let settings = rocksdb_options_create() else { throw StoreError(.misuse, "out of memory") }
        configure(settings, options)
        return settings
    }

    private static func configure(_ settings: OpaquePointer, _ options: RocksDBOptions) {
        rocksdb_options_set_create_if_missing(settings, 1)
        rocksdb_options_set_write_buffer_size(settings, options.memtableBytes)
        rocksdb_options_set_max_write_buffer_number(settings, 3)
        rocksdb_options_set_max_open_files(settings, options.maximumOpenFiles)
        rocksdb_options_set_max_background_jobs(settings, options.backgroundJobs)
        rocksdb_options_set_compression(settings, Int32(rocksdb_lz4_compression))
        rocksdb_options_set_keep_log_file_num(settings, 2)
        rocksdb_options_set_info_log_level(settings, 2)  // Warnings: its chatter is not ours.
        rocksdb_options_set_level_compaction_dynamic_level_bytes(settings, 1)
        switch options.memtable {
        case .skipList: break
        case .hashSkipList:
            rocksdb_options_set_prefix_extractor(settings, rocksdb_slicetransform_create_fixed_prefix(12))
            rocksdb_options_set_allow_concurrent_memtable_write(settings, 0)
            rocksdb_options_set_hash_skip_list_rep(settings, 1 << 18, 4, 4)
        case .vector:
            rocksdb_options_set_allow_concurrent_memtable_write(settings, 0)
            rocksdb_options_set_memtable_vector_rep(settings)
        }
        let table = rocksdb_block_based_options_create()
        defer { rocksdb_block_based_options_destroy(table) }
        let cache = rocksdb_cache_create_lru(options.blockCacheBytes)
        rocksdb_block_based_options_set_block_cache(table, cache)
        rocksdb_cache_destroy(cache)  // Drops our reference only; the table options hold their own.
        rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10))
        // Counted in the block cache, so that memory stays within the setting however large the store is.
        rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1)
        rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1)
        // In pieces: a table's whole filter grows with it until it fits into no part of the cache, and would be read
        // and checked anew for every key (100 µs each from a few million keys on).
        rocksdb_block_based_options_set_index_type(
            table, Int32(rocksdb_block_based_table_index_type_two_level_index_search))
        rocksdb_block_based_options_set_partition_filters(table, 1)
        rocksdb_block_based_options_set_pin_top_level_index_and_filter(table, 1)
        rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1)
        rocksdb_block_based_options_set_format_version(table, 5)
        // Records are read by their whole keys mostly: a hash in each block finds them without comparing keys.
        rocksdb_block_based_options_set_data_block_index_type(
            table, Int32(rocksdb_block_based_table_data_block_index_type_binary_search_and_hash))
        rocksdb_block_based_options_set_data_block_hash_ratio(table, 0.75)
        rocksdb_options_set_block_based_table_factory(settings, table)
    }

    deinit { close() }

    package func close() {
        guard !isClosed else { return }
        isClosed = true
        rocksdb_flushoptions_destroy(flushOptions)
        rocksdb_writeoptions_destroy(writeOptions)
        rocksdb_readoptions_destroy(readOptions)
        handle = nil
    }

    package func get(_ key: ByteView) throws(StoreError) -> Bytes? {
        var result: Bytes?
        try withValue(key) { result = $0?.bytes }
        return result
    }

    package func withValue(_ key: ByteView, _ body: (ByteView?) -> Void) throws(StoreError) {
        var message: UnsafeMutablePointer<CChar>?
        let pinned = rocksdb_get_pinned(database, readOptions, Self.characters(key), key.count, &message)
        try Self.check(message)
        guard let pinned else { return body(nil) }
        defer { rocksdb_pinnableslice_destroy(pinned) }
        var length = 0
        let value = rocksdb_pinnableslice_value(pinned, &length)
        body(ByteView(start: value, count: length))
    }

    package func write(_ batch: borrowing WriteBatch) throws(StoreError) {
        guard let native = rocksdb_writebatch_create() else { throw StoreError(.misuse, "out of memory") }
        defer { rocksdb_writebatch_destroy(native) }
        var reader = try EffectReader(batch.effects)
        while let effect = try reader.next() {
            switch effect {
            case .put(let key, let value):
                rocksdb_writebatch_put(native, Self.characters(key), key.count, Self.characters(value), value.count)
            case .delete(let key):
                rocksdb_writebatch_delete(native, Self.characters(key), key.count)
            case .timestamp, .note: break
            case .deleteRange(let from, let to), .collectRange(let from, let to, _):
                // RocksDB calls an inverted range an error; ours is empty.
                guard compareKeys(from, to) < 0 else { continue }
                rocksdb_writebatch_delete_range(
                    native, Self.characters(from), from.count, Self.characters(to), to.count)
            }
        }
        var message: UnsafeMutablePointer<CChar>?
        rocksdb_write(database, writeOptions, native, &message)
        try Self.check(message)
    }

    package func scan(from: Bytes, to: Bytes) throws(StoreError) -> any StoreIterator {
        RocksDBStoreIterator(database, from: from, to: to)
    }

    package func key(_ count: Int, before to: Bytes, from: Bytes) throws(StoreError) -> Bytes? {
        let iterator = RocksDBStoreIterator(database, from: from, to: to, isBackward: true)
        let found = iterator.stepBack(count)
        try iterator.check()
        return found
    }

    package func flush() throws(StoreError) {
        var message: UnsafeMutablePointer<CChar>?
        rocksdb_flush(database, flushOptions, &message)
        try Self.check(message)
    }

    package func reclaim(_ ranges: [KeyRange]) {
        guard let options = rocksdb_compactoptions_create() else { return }
        defer { rocksdb_compactoptions_destroy(options) }
        rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0)  // Flushes' own compactions go on beside it.
        for range in joined(ranges) {
            range.from.withUnsafeBytes { from in
                range.to.withUnsafeBytes { to in
                    rocksdb_compact_range_opt(
                        database, options, Self.characters(from), from.count, Self.characters(to), to.count)
                }
            }
        }
    }

    /// Ranges in order, those made one that lie so near to each other that they share table files: every one costs
    /// the reading and writing of the files that it touches.
    private func joined(_ ranges: [KeyRange]) -> [KeyRange] {
        var joined: [KeyRange] = []
        for range in ranges {
            if let last = joined.last, !range.from.lexicographicallyPrecedes(last.from),
                size(from: last.to, to: range.from) < UInt64(options.memtableBytes)
            {
                let end = last.to.lexicographicallyPrecedes(range.to) ? range.to : last.to
                joined[joined.count - 1] = KeyRange(from: last.from, to: end)
            } else {
                joined.append(range)
            }
        }
        return joined
    }

    /// About how many bytes of table files lie between two keys.
    private func size(from: Bytes, to: Bytes) -> UInt64 {
        guard from.lexicographicallyPrecedes(to) else { return 0 }
        var size: UInt64 = 0, message: UnsafeMutablePointer<CChar>?
        from.withUnsafeBytes { start in
            to.withUnsafeBytes { end in
                var first: UnsafePointer<CChar>? = Self.characters(start),
                    last: UnsafePointer<CChar>? =
                        Self.characters(end)
                var (firstSize, lastSize) = (start.count, end.count)
                rocksdb_approximate_sizes(database, 1, &first, &firstSize, &last, &lastSize, &size, &message)
            }
        }
        if let message { rocksdb_free(message) }  // An estimate: without one they are near.
        return size
    }

    package func setHistoryFloor(_ floor: Timestamp, buckets: Range<Int>) {
        handle?.floors.set(floor, buckets: buckets)
    }

    package func stopReclaiming() { rocksdb_disable_manual_compaction(database) }

    package var sizeEstimate: UInt64 {
        var files: UInt64 = 0
        var memory: UInt64 = 0
        _ = rocksdb_property_int(database, "rocksdb.total-sst-files-size", &files)
        _ = rocksdb_property_int(database, "rocksdb.cur-size-all-mem-tables", &memory)
        return files + memory
    }

    /// Never nil, as RocksDB's slices must not be: an empty key or value is a pointer and length 0.
    static func characters(_ view: ByteView) -> UnsafePointer<CChar> {
        guard let base = view.baseAddress else { return UnsafePointer(emptyCharacters) }
        return base.assumingMemoryBound(to: CChar.self)
    }

    private nonisolated(unsafe) static let emptyCharacters: UnsafeMutablePointer<CChar> = {
        let pointer = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
        pointer.initialize(to: 0)
        return pointer
    }()

    /// Turns RocksDB's allocated error text, if any, into an error.
    static func check(_ message: UnsafeMutablePointer<CChar>?) throws(StoreError) {
        guard let message else { return }
        let text = String(cString: message)
        rocksdb_free(message)
        let kind: StoreError.Kind =
            if text.hasPrefix("Corruption") {
                .corruption
            } else if text.contains("No space left") || text.contains("NoSpace") {
                .full
            } else {
                .inputOutput
            }
        throw StoreError(kind, text)
    }
}
