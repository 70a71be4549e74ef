import Base

extension CollectionID {
    /// Keyspace records of native Redis keys (index 0) and their expiry index (index 1).
    @inlinable package static var redisKeys: CollectionID { CollectionID(rawValue: 1) }
    /// Hash fields.
    @inlinable package static var redisHashes: CollectionID { CollectionID(rawValue: 2) }
    /// Chunks of long strings.
    @inlinable package static var redisStrings: CollectionID { CollectionID(rawValue: 3) }
    /// Generations of deleted keys whose sub-records are not collected yet.
    @inlinable package static var redisGarbage: CollectionID { CollectionID(rawValue: 4) }
    /// Number of keys per database.
    @inlinable package static var redisCounters: CollectionID { CollectionID(rawValue: 5) }
    /// Users and their verifiers.
    @inlinable package static var systemUsers: CollectionID { CollectionID(rawValue: 16) }
    /// The first id that a client's collection may get.
    @inlinable package static var firstUnreserved: CollectionID { CollectionID(rawValue: 1024) }
}

/// How native Redis keys are laid out in the store (DATA-MODEL.md, section 4). All integers are big-endian, so that
/// byte order is numeric order. Each key begins with `bucket u16 | collection u32 | index u8`, then:
///
///     keyspace record   redisKeys     0   database u8 | hash32(key) | key
///     expiry index      redisKeys     1   expiresAt ms u64 | database u8 | key
///     hash field        redisHashes   0   generation u64 | hash32(field) | field
///     string chunk      redisStrings  0   generation u64 | chunk number u32          (an absent chunk reads as zeros)
///     garbage           redisGarbage  0   generation u64
///     key counter       redisCounters 0   database u8
///
/// Example: key `a` of database 0 in bucket 5 → `0005 00000001 00 00 hhhhhhhh 61`.
///
/// hash32 is the upper half of `ByteHash.stable`: keys of a bucket and fields of a hash lie in hash order, so that
/// SCAN and HSCAN resume at a hash without keeping state. A generation is a timestamp of the shard's HLC and unique in
/// it.
@usableFromInline package enum NativeKeyLayout {
    /// Bytes before what the index defines.
    @inlinable package static var prefixSize: Int { 7 }

    /// The hash that orders keys in a bucket and fields in a hash.
    @inlinable package static func hash32(_ bytes: ByteView) -> UInt32 {
        UInt32(truncatingIfNeeded: ByteHash.stable(bytes) >> 32)
    }

    // MARK: Builders, appending to `buffer`

    /// The prefix that all keys of a collection's index share in a bucket.
    @inlinable package static func appendPrefix(
        _ bucket: BucketID, _ collection: CollectionID, index: UInt8 = 0, into buffer: inout ByteBuffer
    ) {
        buffer.reserve(32)
        buffer.append(bigEndian: bucket.rawValue)
        buffer.append(bigEndian: collection.rawValue)
        buffer.append(index)
    }

    /// The keyspace record of `key`.
    @inlinable package static func appendRecord(
        _ bucket: BucketID, database: UInt8, key: ByteView, into buffer: inout ByteBuffer
    ) {
        appendRecordPosition(bucket, database: database, hash: hash32(key), into: &buffer)
        buffer.append(key)
    }

    /// Where the keys of a database whose hash is at least `hash` begin: the start of a SCAN step.
    @inlinable package static func appendRecordPosition(
        _ bucket: BucketID, database: UInt8, hash: UInt32, into buffer: inout ByteBuffer
    ) {
        appendPrefix(bucket, .redisKeys, into: &buffer)
        buffer.append(database)
        buffer.append(bigEndian: hash)
    }

    /// The prefix of all keyspace records of a database in a bucket.
    @inlinable package static func appendDatabase(
        _ bucket: BucketID, database: UInt8, into buffer: inout ByteBuffer
    ) {
        appendPrefix(bucket, .redisKeys, into: &buffer)
        buffer.append(database)
    }

    /// The expiry-index entry of `key`.
    @inlinable package static func appendExpiry(
        _ bucket: BucketID, atMilliseconds expiresAt: UInt64, database: UInt8, key: ByteView,
        into buffer: inout ByteBuffer
    ) {
        appendExpiryPosition(bucket, atMilliseconds: expiresAt, into: &buffer)
        buffer.append(database)
        buffer.append(key)
    }

    /// Where the entries that expire at `expiresAt` or later begin.
    @inlinable package static func appendExpiryPosition(
        _ bucket: BucketID, atMilliseconds expiresAt: UInt64, into buffer: inout ByteBuffer
    ) {
        appendPrefix(bucket, .redisKeys, index: 1, into: &buffer)
        buffer.append(bigEndian: expiresAt)
    }

    /// A field of the hash with this generation.
    @inlinable package static func appendHashField(
        _ bucket: BucketID, generation: Timestamp, field: ByteView, into buffer: inout ByteBuffer
    ) {
        appendHashPosition(bucket, generation: generation, hash: hash32(field), into: &buffer)
        buffer.append(field)
    }

    /// Where the fields whose hash is at least `hash` begin: the start of an HSCAN step.
    @inlinable package static func appendHashPosition(
        _ bucket: BucketID, generation: Timestamp, hash: UInt32, into buffer: inout ByteBuffer
    ) {
        appendGeneration(bucket, .redisHashes, generation, into: &buffer)
        buffer.append(bigEndian: hash)
    }

    /// A chunk of the string with this generation.
    @inlinable package static func appendStringChunk(
        _ bucket: BucketID, generation: Timestamp, chunk: UInt32, into buffer: inout ByteBuffer
    ) {
        appendGeneration(bucket, .redisStrings, generation, into: &buffer)
        buffer.append(bigEndian: chunk)
    }

    /// The prefix of all sub-records of a generation; with `redisGarbage`, the key of its garbage record.
    @inlinable package static func appendGeneration(
        _ bucket: BucketID, _ collection: CollectionID, _ generation: Timestamp, into buffer: inout ByteBuffer
    ) {
        appendPrefix(bucket, collection, into: &buffer)
        buffer.append(bigEndian: generation.rawValue)
    }

    /// The number of keys of a database in a bucket.
    @inlinable package static func appendCounter(
        _ bucket: BucketID, database: UInt8, into buffer: inout ByteBuffer
    ) {
        appendPrefix(bucket, .redisCounters, into: &buffer)
        buffer.append(database)
    }

    /// Turns the prefix in `buffer` into the end of its range: the first key that does not begin with it.
    package static func makeRangeEnd(_ buffer: inout ByteBuffer) {
        var count = buffer.count
        while count > 0, buffer.readable[count - 1] == 0xff { count -= 1 }
        buffer.truncate(to: count)
        if count > 0 { buffer.mutableReadable[count - 1] += 1 }
    }
}

/// A store key of the native layout, taken apart; the views point into the key.
@usableFromInline package enum NativeKey {
    case record(BucketID, database: UInt8, hash: UInt32, key: ByteView)
    case expiry(BucketID, atMilliseconds: UInt64, database: UInt8, key: ByteView)
    case hashField(BucketID, generation: Timestamp, hash: UInt32, field: ByteView)
    case stringChunk(BucketID, generation: Timestamp, chunk: UInt32)
    case garbage(BucketID, generation: Timestamp)
    case counter(BucketID, database: UInt8)

    /// Nil for keys of other collections and for damaged ones.
    package init?(parsing bytes: ByteView) {
        var reader = ByteReader(bytes)
        guard let bucketNumber = reader.bigEndian(UInt16.self), let collection = reader.bigEndian(UInt32.self),
            let index = reader.byte()
        else { return nil }
        let bucket = BucketID(rawValue: bucketNumber)
        switch (CollectionID(rawValue: collection), index) {
        case (.redisKeys, 0):
            guard let database = reader.byte(), let hash = reader.bigEndian(UInt32.self) else { return nil }
            self = .record(bucket, database: database, hash: hash, key: reader.rest)
        case (.redisKeys, 1):
            guard let time = reader.bigEndian(UInt64.self), let database = reader.byte() else { return nil }
            self = .expiry(bucket, atMilliseconds: time, database: database, key: reader.rest)
        case (.redisHashes, 0):
            guard let generation = Self.generation(&reader), let hash = reader.bigEndian(UInt32.self) else {
                return nil
            }
            self = .hashField(bucket, generation: generation, hash: hash, field: reader.rest)
        case (.redisStrings, 0):
            guard let generation = Self.generation(&reader), let chunk = reader.bigEndian(UInt32.self),
                reader.isAtEnd
            else { return nil }
            self = .stringChunk(bucket, generation: generation, chunk: chunk)
        case (.redisGarbage, 0):
            guard let generation = Self.generation(&reader), reader.isAtEnd else { return nil }
            self = .garbage(bucket, generation: generation)
        case (.redisCounters, 0):
            guard let database = reader.byte(), reader.isAtEnd else { return nil }
            self = .counter(bucket, database: database)
        case _:
            return nil
        }
    }

    private static func generation(_ reader: inout ByteReader) -> Timestamp? {
        reader.bigEndian(UInt64.self).map(Timestamp.init(rawValue:))
    }
}

/// Where a SCAN goes on: a bucket, and the hash in it. Keeps no state: it is the number that the client sends back.
///
/// `bucket << 33 | hash + 1`, so that 0 is free to mean beginning and end; below 2^53, which JavaScript's numbers hold.
package struct ScanCursor: Hashable, Sendable {
    package let bucket: BucketID
    package let hash: UInt32

    package init(bucket: BucketID, hash: UInt32) {
        self.bucket = bucket
        self.hash = hash
    }

    package var rawValue: UInt64 { UInt64(bucket.rawValue) << 33 | (UInt64(hash) + 1) }

    /// Nil for numbers that no SCAN has given, and for 0.
    package init?(rawValue: UInt64) {
        let position = rawValue & ((1 << 33) - 1)
        guard rawValue >> 33 < UInt64(Slot.count), position >= 1, position <= 1 << 32 else { return nil }
        self.init(
            bucket: BucketID(rawValue: UInt16(truncatingIfNeeded: rawValue >> 33)),
            hash: UInt32(truncatingIfNeeded: position - 1))
    }

    /// Where to go on after all keys with this hash: the next hash, or the start of the next bucket; nil after the
    /// last.
    package func next(bucketCount: Int) -> ScanCursor? {
        if hash < .max { return ScanCursor(bucket: bucket, hash: hash + 1) }
        guard Int(bucket.rawValue) + 1 < bucketCount else { return nil }
        return ScanCursor(bucket: BucketID(rawValue: bucket.rawValue + 1), hash: 0)
    }
}
