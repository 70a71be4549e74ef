import Base
import CRocksDB
import Glibc

/// An open database, closed with its last user.
final class DatabaseHandle: @unchecked Sendable {  // RocksDB is thread-safe; this only ends it.
    let database: OpaquePointer
    let floors: HistoryFloors
    private let filter: HistoryFilter

    init(_ database: OpaquePointer, _ filter: HistoryFilter) {
        (self.database, self.filter) = (database, filter)
        floors = filter.floors
    }

    deinit { rocksdb_close(database) }
}

/// A RocksDB snapshot.
final class RocksDBView: StoreView, @unchecked Sendable {  // Thread-safe by RocksDB's own rules; constant.
    private let handle: DatabaseHandle
    private let readOptions: OpaquePointer
    let snapshot: OpaquePointer

    init(_ handle: DatabaseHandle) throws(StoreError) {
        guard let snapshot = rocksdb_create_snapshot(handle.database) else {
            throw StoreError(.misuse, "out of memory")
        }
        self.handle = handle
        self.snapshot = snapshot
        readOptions = rocksdb_readoptions_create()
        rocksdb_readoptions_set_snapshot(readOptions, snapshot)
    }

    deinit {
        rocksdb_readoptions_destroy(readOptions)
        rocksdb_release_snapshot(handle.database, snapshot)
    }

    func get(_ key: ByteView) throws(StoreError) -> Bytes? {
        var message: UnsafeMutablePointer<CChar>?
        let pinned = rocksdb_get_pinned(
            handle.database, readOptions, RocksDBStore.characters(key), key.count, &message)
        try RocksDBStore.check(message)
        guard let pinned else { return nil }
        defer { rocksdb_pinnableslice_destroy(pinned) }
        var length = 0
        let value = rocksdb_pinnableslice_value(pinned, &length)
        return ByteView(start: value, count: length).bytes
    }

    func scan(from: Bytes, to: Bytes) throws(StoreError) -> any StoreIterator {
        RocksDBStoreIterator(handle.database, from: from, to: to, view: self)
    }

    func historyFloor(in ranges: [KeyRange]) -> Timestamp { handle.floors.highest(in: ranges) }
}

/// Replaces ranges by table files that RocksDB takes in at once.
///
/// The files cut the ranges into neighbouring pieces. Each holds one range tombstone over its piece, which hides what
/// the database had there, and the new records of the piece, which it does not hide: a tombstone covers what is older,
/// and a file's content is all of one age. RocksDB takes in all files of a call by one record of its own manifest, so
/// a crash leaves all or nothing, and the result is durable without a flush.
final class RocksDBReplacement: StoreReplacement {
    private let handle: DatabaseHandle
    private let settings: OpaquePointer
    private let environment: OpaquePointer
    private let drafts: (Int) -> String
    private let fileTarget: Int
    private var cursor: RangeCursor
    /// The range whose tombstone is being laid, and where it is not laid yet.
    private var range = 0
    private var start: Bytes
    private var writer: OpaquePointer?
    private var files: [String] = []
    private var size = 0

    init(
        _ store: RocksDBStore, _ handle: DatabaseHandle, _ ranges: [KeyRange], drafts: @escaping (Int) -> String
    ) throws(StoreError) {
        cursor = try RangeCursor(ranges)
        start = ranges[0].from  // The cursor refused no ranges.
        settings = try RocksDBStore.settings(store.options)
        environment = rocksdb_envoptions_create()
        (self.handle, self.drafts, fileTarget) = (handle, drafts, store.options.replacementFileBytes)
    }

    deinit {
        if let writer { rocksdb_sstfilewriter_destroy(writer) }
        for file in files { unlink(file) }  // RocksDB has its own links to those that it took in.
        rocksdb_envoptions_destroy(environment)
        rocksdb_options_destroy(settings)
    }

    func add(_ key: ByteView, _ value: ByteView) throws(StoreError) {
        try cursor.move(to: key)
        while range < cursor.current { try endRange() }
        if size >= fileTarget, start.withUnsafeBytes({ compareKeys($0, key) < 0 }) {
            try layTombstone(to: key.bytes)
            try closeFile()
        }
        try put(key, value)
    }

    func commit(_ batch: borrowing WriteBatch) throws(StoreError) {
        while range < cursor.ranges.count { try endRange() }
        var reader = try EffectReader(batch.effects)
        while let effect = try reader.next() {
            guard case .put(let key, let value) = effect else {
                throw StoreError(.misuse, "a replacement ends with puts only")
            }
            try put(key, value)
        }
        try closeFile()
        try flush()
        try ingest()
    }

    /// Not the store's own `flush`: the store may be closed while this still runs on a worker.
    private func flush() throws(StoreError) {
        let options = rocksdb_flushoptions_create()
        defer { rocksdb_flushoptions_destroy(options) }
        rocksdb_flushoptions_set_wait(options, 1)
        var message: UnsafeMutablePointer<CChar>?
        rocksdb_flush(handle.database, options, &message)
        try RocksDBStore.check(message)
    }

    private func ingest() throws(StoreError) {
        guard let options = rocksdb_ingestexternalfileoptions_create() else {
            throw StoreError(.misuse, "out of memory")
        }
        defer { rocksdb_ingestexternalfileoptions_destroy(options) }
        rocksdb_ingestexternalfileoptions_set_move_files(options, 1)  // By links: nothing is copied.
        let names = files.map { strdup($0) }
        defer { for name in names { free(name) } }
        var message: UnsafeMutablePointer<CChar>?
        let list = names.map { UnsafePointer($0) }
        list.withUnsafeBufferPointer {
            rocksdb_ingest_external_file(handle.database, $0.baseAddress, $0.count, options, &message)
        }
        try RocksDBStore.check(message)
    }

    private func endRange() throws(StoreError) {
        try layTombstone(to: cursor.ranges[range].to)
        range += 1
        if range < cursor.ranges.count { start = cursor.ranges[range].from }
    }

    private func layTombstone(to end: Bytes) throws(StoreError) {
        let writer = try openWriter()
        var message: UnsafeMutablePointer<CChar>?
        start.withUnsafeBytes { from in
            end.withUnsafeBytes { to in
                rocksdb_sstfilewriter_delete_range(
                    writer, RocksDBStore.characters(from), from.count, RocksDBStore.characters(to), to.count, &message)
            }
        }
        try RocksDBStore.check(message)
        start = end
    }

    private func put(_ key: ByteView, _ value: ByteView) throws(StoreError) {
        var message: UnsafeMutablePointer<CChar>?
        rocksdb_sstfilewriter_put(
            try openWriter(), RocksDBStore.characters(key), key.count, RocksDBStore.characters(value), value.count,
            &message)
        try RocksDBStore.check(message)
        size += key.count + value.count
    }

    private func openWriter() throws(StoreError) -> OpaquePointer {
        if let writer { return writer }
        guard let opened = rocksdb_sstfilewriter_create(environment, settings) else {
            throw StoreError(.misuse, "out of memory")
        }
        writer = opened
        let name = drafts(files.count)
        files.append(name)
        var message: UnsafeMutablePointer<CChar>?
        rocksdb_sstfilewriter_open(opened, name, &message)
        try RocksDBStore.check(message)
        return opened
    }

    private func closeFile() throws(StoreError) {
        guard let writer else { return }
        var message: UnsafeMutablePointer<CChar>?
        rocksdb_sstfilewriter_finish(writer, &message)
        try RocksDBStore.check(message)
        rocksdb_sstfilewriter_destroy(writer)
        (self.writer, size) = (nil, 0)
    }
}

extension RocksDBStore {
    package func view() throws(StoreError) -> any StoreView { try RocksDBView(try openHandle()) }

    package func replace(
        _ ranges: [KeyRange], drafts: @escaping (Int) -> String
    ) throws(StoreError) -> any StoreReplacement {
        try RocksDBReplacement(self, try openHandle(), ranges, drafts: drafts)
    }

    private func openHandle() throws(StoreError) -> DatabaseHandle {
        guard let handle else { throw StoreError(.misuse, "the store is closed") }
        return handle
    }
}
