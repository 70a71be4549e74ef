import Base
import DataModel

/// Records of a collection in one bucket, from a key up to where the next range begins. What somebody keeps of them
/// (`content`) is let go as soon as one of them changes.
package final class WatchedRange {
    /// What follows the bucket, the collection and the index in the keys of its records.
    package let from: Bytes
    /// No change of its records that was applied has a later commit timestamp: what is kept of them is as they are at
    /// every time from then on.
    package fileprivate(set) var newest: Timestamp
    /// What somebody keeps of the records.
    package var content: AnyObject?

    fileprivate init(from: Bytes, newest: Timestamp) { (self.from, self.newest) = (from, newest) }

    fileprivate func changed(at time: Timestamp) {
        newest = max(newest, time)
        content = nil
    }
}

/// Hears of changes of the records of some collections, as they are applied. While nobody watches, applying does
/// nothing for it; a change of what is watched costs a search, and allocates nothing.
package final class RangeWatch {
    private struct Watched {
        let collection: UInt32
        /// Of each bucket, in order; the first range of a bucket begins with the empty key.
        var buckets: [[WatchedRange]]
    }

    private var watched: [Watched] = []
    private var first = 0

    /// Nobody watches.
    package var isEmpty: Bool { watched.isEmpty }

    /// Whether changes of a collection are heard of.
    package func isWatched(_ collection: CollectionID) -> Bool {
        watched.contains { $0.collection == collection.rawValue }
    }

    /// Watches a collection from now on. `newest`: of all that was applied so far.
    func watch(_ collection: CollectionID, buckets: Range<Int>, newest: Timestamp) {
        guard !isWatched(collection) else { return }
        if first != buckets.lowerBound { watched = [] }
        first = buckets.lowerBound
        watched.append(
            Watched(
                collection: collection.rawValue,
                buckets: buckets.map { _ in [WatchedRange(from: [], newest: newest)] }))
    }

    /// Watches a collection no more, and lets go what was kept of it.
    package func forget(_ collection: CollectionID) { watched.removeAll { $0.collection == collection.rawValue } }

    /// Everything may have changed.
    func forgetAll() { watched = [] }

    /// The range that a key lies in, and where the next one of the bucket begins.
    package func range(
        _ collection: CollectionID, bucket: Int, at key: ByteView
    ) -> (range: WatchedRange, end: Bytes?)? {
        guard let table = watched.firstIndex(where: { $0.collection == collection.rawValue }),
            watched[table].buckets.indices.contains(bucket - first)
        else { return nil }
        let place = Self.place(watched[table].buckets[bucket - first], key)
        let ranges = watched[table].buckets[bucket - first]
        return (ranges[place], place + 1 < ranges.count ? ranges[place + 1].from : nil)
    }

    /// Ends the range that a key lies in before that, and begins another one there.
    package func split(_ collection: CollectionID, bucket: Int, at key: Bytes) {
        guard let table = watched.firstIndex(where: { $0.collection == collection.rawValue }),
            watched[table].buckets.indices.contains(bucket - first)
        else { return }
        let place = key.withUnsafeBytes { Self.place(watched[table].buckets[bucket - first], $0) }
        let range = watched[table].buckets[bucket - first][place]
        guard range.from != key else { return }
        range.content = nil
        watched[table].buckets[bucket - first].insert(WatchedRange(from: key, newest: range.newest), at: place + 1)
    }

    private static func place(_ ranges: [WatchedRange], _ key: ByteView) -> Int {
        var low = 0, high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].from.withUnsafeBytes({ compareKeys($0, key) }) <= 0 {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return max(low - 1, 0)
    }

    // MARK: Applying

    func note(_ effects: ByteView) throws(StoreError) {
        var reader = try EffectReader(effects), time = Timestamp.zero
        while let effect = try reader.next() {
            switch effect {
            case .put(let key, _), .delete(let key): changed(key, time)
            case .deleteRange(let from, let to), .collectRange(let from, let to, _): changed(from, to, time)
            case .timestamp(let given): time = given
            case .note: break
            }
        }
    }

    private func changed(_ key: ByteView, _ time: Timestamp) {
        guard key.count >= NativeKeyLayout.prefixSize, key[NativeKeyLayout.prefixSize - 1] == 0 else { return }
        let collection = UInt32(bigEndian: key.loadUnaligned(fromByteOffset: 2, as: UInt32.self))
        for table in watched.indices where watched[table].collection == collection {
            let bucket = Int(UInt16(bigEndian: key.loadUnaligned(as: UInt16.self))) - first
            guard watched[table].buckets.indices.contains(bucket) else { return }
            let rest = ByteView(rebasing: key[NativeKeyLayout.prefixSize...])
            let place = Self.place(watched[table].buckets[bucket], rest)
            watched[table].buckets[bucket][place].changed(at: time)
        }
    }

    /// What `from <= key < to` touches, in a table's bucket all or nothing: such ranges are of whole buckets nearly
    /// always. What collects garbage comes here thousands of times in a row, so it looks at no other buckets.
    private func changed(_ from: ByteView, _ to: ByteView, _ time: Timestamp) {
        let number = from.count < 2 ? 0 : Int(UInt16(bigEndian: from.loadUnaligned(as: UInt16.self)))
        var key = ByteBuffer(capacity: NativeKeyLayout.prefixSize)
        for table in watched {
            let id = CollectionID(rawValue: table.collection)
            for place in table.buckets.indices.dropFirst(max(number - first, 0)) {
                let bucket = BucketID(rawValue: UInt16(truncatingIfNeeded: first + place))
                key.removeAll()
                NativeKeyLayout.appendPrefix(bucket, id, into: &key)
                guard compareKeys(key.readable, to) < 0 else { break }
                key.removeAll()
                NativeKeyLayout.appendPrefix(bucket, id, index: 1, into: &key)
                guard compareKeys(from, key.readable) < 0 else { continue }
                for range in table.buckets[place] { range.changed(at: time) }
            }
        }
    }
}

extension ShardStore {
    /// Hears of changes of a collection's records from now on.
    package func watch(_ collection: CollectionID) {
        watches.watch(collection, buckets: buckets, newest: newestTimestamp)
    }
}
