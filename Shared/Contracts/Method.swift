import Base

/// The methods of the built-in actors: one row each, shared by the gateway that parses a command and the node that runs
/// it.
///
/// The raw value travels in `ActorCall.method`: never renumber, only add. A row says what `key`, `flags`, `numbers` and
/// `arguments` of the call mean, and what the reply is. Numbers that Redis parses before it looks at the key are parsed
/// by the gateway and travel as `numbers`; floating-point increments travel as text, so that no digit is lost on the
/// way. Times are milliseconds; a relative time is added to the node's clock, because only nodes assign time.
@usableFromInline package enum Method: UInt32, CaseIterable, Hashable, Sendable {
    // MARK: Keyspace

    /// DEL, UNLINK: `key` and `arguments` are the keys; flag 1: it is half of a RENAME. Integer: how many existed.
    case delete = 1
    /// EXISTS: `key` and `arguments` are the keys. Integer: how many exist, repetitions counted.
    case exists = 2
    /// TOUCH: like `exists`, and marks them used.
    case touch = 3
    /// TYPE. Data: `none`, `string`, `hash`, …
    case type = 4
    /// EXPIRE and its kin: numbers `[time]`; flags `ExpireFlags`. Integer 0 or 1. A time in the past deletes the key.
    case expire = 5
    /// PERSIST. Integer 0 or 1.
    case persist = 6
    /// PTTL, TTL: Integer: milliseconds left, -1 without expiry, -2 without key.
    case timeToLive = 7
    /// PEXPIRETIME, EXPIRETIME. Integer: milliseconds since 1970, -1 without expiry, -2 without key.
    case expireTime = 8
    /// RENAME, RENAMENX: arguments `[new key]`; flag 1: only if the new key is absent. Ok, or with the flag Integer 0
    /// or 1. Error noSuchKey "no such key".
    case rename = 9
    /// COPY: arguments `[destination]`, numbers `[destination database or -1]`; flag 1: replace. Integer 0 or 1.
    case copy = 10
    /// MOVE: numbers `[destination database]`. Integer 0 or 1.
    case move = 11
    /// RANDOMKEY of `database`: no key. Data or Null.
    case randomKey = 12
    /// SCAN of `database`: numbers `[cursor, count]`; flag 1: arguments hold a pattern; flag 2: then a type name.
    /// List: next cursor (Data, decimal; `0` at the end), then keys. Flag 4: for who shows keys as rows; a third number
    /// is about how many bytes are told. List: key, Integer: 1 string, 2 hash, Integer: when it expires, in
    /// milliseconds since 1970, or 0, …; with flag 8, behind a string its value, behind a hash Integer: the number of
    /// its fields, and field, value, …, or -1 where they are many; at the end the next cursor.
    case scan = 13
    /// KEYS: arguments `[pattern]`. List of Data.
    case keys = 14
    /// DBSIZE. Integer.
    case databaseSize = 15
    /// FLUSHDB. Ok.
    case flushDatabase = 16
    /// FLUSHALL. Ok.
    case flushAll = 17
    /// OBJECT ENCODING. Data, or Null without key.
    case objectEncoding = 18
    /// OBJECT IDLETIME. Integer: seconds since last use as far as memory knows, or Null without key.
    case objectIdleTime = 19
    /// MEMORY USAGE. Integer bytes (estimate), or Null without key.
    case memoryUsage = 20
    /// WATCH. Integer: the version of the key, opaque. Two are equal if and only if nobody has changed the key between
    /// them; deleted and made again, or gone because its time had come, it is not the same. Another leader, and now and
    /// then an eviction, make it differ without need, for a key that does not exist. Only the shard's leader knows it.
    case version = 21
    /// The whole value of a key, for who moves it to another shard (RENAME, COPY). List: Integer: its version, as
    /// `version` answers; and if the key exists Integer: 1 string, 2 hash; Integer: flags, of which 1 says that OBJECT
    /// ENCODING no longer calls it compact; Integer: when it expires, in milliseconds since 1970, or 0; then, as Data,
    /// the string, or field, value, … Call flag 1: no value unless it is a string; 2: no value at all.
    case dump = 22
    /// Gives a key the value of a `dump`, whatever it held: numbers `[type, flags, time it expires at or 0]`, arguments
    /// the Data behind them; flag 1: it is half of a RENAME, 2: of a COPY. Ok. If it fails, nothing of the batch that
    /// it is in is done.
    case install = 23

    // MARK: Strings and bitmaps

    /// GET. Data or Null.
    case get = 32
    /// SET, SETNX, SETEX, PSETEX, GETSET: arguments `[value]`, numbers `[time]` where a time flag is set; flags
    /// `SetFlags`. Ok, or Null when the condition failed; with `.get` the old value as Data or Null, whether it was set
    /// or not.
    case set = 33
    /// GETDEL. Data or Null.
    case getDelete = 34
    /// GETEX: numbers `[time]`; flags `.relativeTime`, `.absoluteTime`, `.persist` of `SetFlags`. Data or Null.
    case getExpire = 35
    /// APPEND: arguments `[suffix]`. Integer: new length.
    case append = 36
    /// STRLEN. Integer.
    case stringLength = 37
    /// GETRANGE, SUBSTR: numbers `[first, last]`, negative from the end. Data.
    case getRange = 38
    /// SETRANGE: numbers `[offset]`, arguments `[value]`. Integer: new length.
    case setRange = 39
    /// INCR, DECR, INCRBY, DECRBY: numbers `[delta]`. Integer.
    case incrementBy = 40
    /// INCRBYFLOAT: arguments `[text of the increment]`. Data: the new value.
    case incrementByFloat = 41
    /// MGET: `key` and `arguments` are the keys. List of Data or Null (other types are Null).
    case multiGet = 42
    /// MSET: `key`, then arguments `[value, key, value, …]`. Ok. Flag 1 (MSETNX): only if none exists; Integer 0 or 1.
    case multiSet = 43
    /// LCS: arguments `[second key]`, numbers `[least match length]`; flags 1 LEN, 2 IDX. Data; LEN: Integer; IDX: list
    /// of Integer: first and last of the match in each string and its length, five a match, then the total length.
    case longestCommonSubsequence = 44
    /// SETBIT: numbers `[offset, bit]`. Integer: old bit.
    case setBit = 45
    /// GETBIT: numbers `[offset]`. Integer.
    case getBit = 46
    /// BITCOUNT: flags 1: numbers `[first, last]`; 2: they count bits. Integer.
    case bitCount = 47
    /// BITPOS: numbers `[bit, first, last]`; flags 1: first given, 2: last given, 4: they count bits. Integer.
    case bitPosition = 48
    /// BITOP: `key` is the destination, arguments the sources, numbers `[0 and, 1 or, 2 xor, 3 not]`. Integer: length.
    case bitOperation = 49
    /// BITFIELD, BITFIELD_RO: numbers six an operation: `[0 get, 1 set, 2 increment][1 signed][bits][offset in
    /// bits][value]` `[0 wrap, 1 saturate, 2 fail]`; flag 1: all are gets. List of Integer or Null.
    case bitField = 50
    /// BITOP of values: `key` is the destination, arguments the strings, numbers as of `bitOperation`. Integer: length.
    case bitOperationOfValues = 51
    /// LCS of values: arguments the two strings, numbers, flags and reply as for `longestCommonSubsequence`; `key`
    /// only says where it is done.
    case longestCommonSubsequenceOfValues = 52

    // MARK: Hashes

    /// HSET, HMSET, HSETNX: arguments `[field, value, …]`; flag 1: only if the field is absent. Integer: fields added.
    case hashSet = 64
    /// HGET: arguments `[field]`. Data or Null.
    case hashGet = 65
    /// HMGET: arguments are fields. List of Data or Null.
    case hashMultiGet = 66
    /// HGETALL. List: field, value, …
    case hashGetAll = 67
    /// HKEYS. List.
    case hashKeys = 68
    /// HVALS. List.
    case hashValues = 69
    /// HLEN. Integer.
    case hashLength = 70
    /// HEXISTS: arguments `[field]`. Integer 0 or 1.
    case hashExists = 71
    /// HDEL: arguments are fields. Integer: how many existed.
    case hashDelete = 72
    /// HSTRLEN: arguments `[field]`. Integer.
    case hashStringLength = 73
    /// HINCRBY: arguments `[field]`, numbers `[delta]`. Integer.
    case hashIncrementBy = 74
    /// HINCRBYFLOAT: arguments `[field, text of the increment]`. Data.
    case hashIncrementByFloat = 75
    /// HRANDFIELD: without flags one field, Data or Null; flag 1: numbers `[count]`, negative with repetition, List;
    /// flag 2 too:
    /// field, value, …
    case hashRandomField = 76
    /// HSCAN: numbers `[cursor, count]`; flag 1: arguments `[pattern]`. List: next cursor (Data, decimal), then field,
    /// value, …
    case hashScan = 77

    // MARK: Records of collections

    // `database` is `RowKey.database`, a key is one as `RowKey` makes it, and numbers begin with the version of the
    // collection's descriptor: a shard that has another one answers staleSchema. Methods that ask nothing but of a
    // key itself take such keys too: `exists`, `expire`, `timeToLive`, `version` …

    /// `key` and `arguments` are the keys, of one collection; numbers `[schema version]`. List of Data (the record) or
    /// Null; with flag 1, before each Integer: its version, as `version` answers.
    case rowGet = 96
    /// `key`, then arguments `[record, key, record, …]`, of one collection; numbers `[schema version]`; flags
    /// `RowPutFlags`. List of Integer: 0 nothing done, 1 made, 2 replaced; if that is asked for, behind each another
    /// one: when it expires, in milliseconds since 1970, or 0.
    case rowPut = 97
    /// `key` and `arguments` are the keys, of one collection; numbers `[schema version]`. List of Integer 0 or 1.
    case rowDelete = 98
    /// What a shard has of a collection, bucket after bucket, in the order of the keys within each. `key` is the
    /// collection (u32, big-endian); numbers `[schema version, first bucket, end of buckets (0: all), most records (0:
    /// no limit), most bytes (0: the limit of replies)]`; arguments `[from, to, resume]`, encoded primary keys: from
    /// the first (empty: all) to before the second (empty: all), and in the first bucket not before the third. Flag 1:
    /// without records. List: encoded primary key, record, …; at the end Integer: the bucket to go on with, and Data:
    /// what `resume` must be there. It is over when that bucket is the end of buckets; it may be another shard's.
    /// Flag 2: in the order of the keys over all those buckets, with 4 backward: `resume` is then where that order goes
    /// on (backward: before it), and the bucket the first one until it is over. The buckets must be one shard's.
    case rowScan = 99
    /// Objects of the catalog, new or changed: numbers `[version of the catalog, version that it was made by]`,
    /// arguments the objects (`CatalogObject`), `key` the ids of those that are collections (u32, big-endian); flags
    /// `SchemaPutFlags`. Ok. A call for every shard, in a transaction.
    case schemaPut = 100
    /// Objects of the catalog go, and what the collections among them hold: numbers as of `schemaPut`, `key` the ids;
    /// flag 1: they are namespaces, 2: roles. Ok.
    case schemaDrop = 101
    /// The shard's catalog, as the transaction sees it: numbers `[version that is known, or -1]`. List: Integer: its
    /// version; if that is another one, the objects as Data; with flag 1 only the roles.
    case schemaRead = 102
    /// nextval: `key` is the record of the sequence, whose primary key is the integer 0; numbers `[schema version, how
    /// many]`. List of Integer: those drawn, fewer at the end of the sequence. Not in a transaction.
    case sequenceNext = 103
    /// setval: numbers `[schema version, value, 1 if it counts as drawn]`. Integer: the value. Not in a transaction.
    case sequenceSet = 104
    /// A statement on one record, by a program that the node has (`QueryReply.Point`): numbers `[schema version, time
    /// of the transaction in microseconds since 1970, or 0: now]`, arguments the program and its parameters
    /// (`PointParameter`). Data: a `PointReply`; Null: the node does not know the program, and nothing was done.
    case rowQuery = 105
    /// The same for a program that may change the record.
    case rowModify = 106
    /// What a part of a statement makes of the rows that a shard has of a collection, by a fragment that the node
    /// knows: filtered, cut to some columns, aggregated. `key` is as of `rowScan`; numbers its first five, of which the
    /// fourth limits what comes out, and the times of the transaction and the statement in microseconds since 1970;
    /// arguments `[from, to, resume, fragment, parameters]`, the last a record whose column n is the parameter n. List:
    /// blocks of columns as Data, at the end the two items that `rowScan` ends with. Data: why it failed
    /// (`PointReply`). Null: the node does not know the fragment, or knows it by another version of the collection.
    case rowFragment = 107

    /// Which parts of a call are keys.
    package enum Keys: Hashable, Sendable {
        /// The method is for a whole database, or for all.
        case none
        /// `key` alone.
        case first
        /// `key`, and it again in another database.
        case firstTwice
        /// `key`, and the first argument, which may be in another database.
        case two
        /// `key` and every argument.
        case all
        /// `key`, and every second argument from the second on.
        case pairs
        /// `key` is the id of a collection: the method is for all that the shard has of it.
        case collection
        /// The method is for the catalog; `key` has ids of objects.
        case catalog
    }

    package var keys: Keys {
        switch self {
        case .randomKey, .scan, .keys, .databaseSize, .flushDatabase, .flushAll: .none
        case .move: .firstTwice
        case .rename, .copy, .longestCommonSubsequence: .two
        case .delete, .exists, .touch, .multiGet, .bitOperation, .rowGet, .rowDelete: .all
        case .multiSet, .rowPut: .pairs
        case .rowScan, .rowFragment: .collection
        case .schemaPut, .schemaDrop, .schemaRead: .catalog
        case .type, .expire, .persist, .timeToLive, .expireTime, .objectEncoding, .objectIdleTime, .memoryUsage,
            .version, .get, .set, .getDelete, .getExpire, .append, .stringLength, .getRange, .setRange, .incrementBy,
            .incrementByFloat, .setBit, .getBit, .bitCount, .bitPosition, .bitField, .hashSet, .hashGet, .hashMultiGet,
            .hashGetAll, .hashKeys, .hashValues, .hashLength, .hashExists, .hashDelete, .hashStringLength,
            .hashIncrementBy, .hashIncrementByFloat, .hashRandomField, .hashScan, .dump, .install,
            .bitOperationOfValues, .longestCommonSubsequenceOfValues, .sequenceNext, .sequenceSet, .rowQuery,
            .rowModify:
            .first
        }
    }

    /// The method has no key whose slot would say which shard it is for: a call of it goes to every shard.
    package var isKeyless: Bool {
        switch keys {
        case .none, .collection, .catalog: true
        case .first, .firstTwice, .two, .all, .pairs: false
        }
    }

    /// What a call whose key names a record does to it, if its type allows that at all.
    package enum RecordEffect: Hashable, Sendable { case none, changes, removes, expires }

    package var recordEffect: RecordEffect {
        switch self {
        case .hashSet, .hashDelete, .hashIncrementBy, .hashIncrementByFloat: .changes
        case .delete: .removes
        case .expire, .persist: .expires
        case _: .none
        }
    }

    /// A flag of the methods that change a record: nothing is changed; the list of the record as it is (Null: there is
    /// none), as the call would leave it, and of the call's reply (an encoded `ReplyBatch`) is the reply.
    package static let draft: UInt32 = 1 << 31

    /// Whether the method may change data: such a call needs write access and space on disk.
    package var isWrite: Bool {
        switch self {
        case .delete, .expire, .persist, .rename, .copy, .move, .flushDatabase, .flushAll, .set, .getDelete, .getExpire,
            .append, .setRange, .incrementBy, .incrementByFloat, .multiSet, .setBit, .bitOperation, .bitField,
            .hashSet, .hashDelete, .hashIncrementBy, .hashIncrementByFloat, .install, .bitOperationOfValues, .rowPut,
            .rowDelete, .schemaPut, .schemaDrop, .sequenceNext, .sequenceSet, .rowModify:
            true
        case .exists, .touch, .type, .timeToLive, .expireTime, .randomKey, .scan, .keys, .databaseSize, .objectEncoding,
            .objectIdleTime, .memoryUsage, .version, .get, .stringLength, .getRange, .multiGet,
            .longestCommonSubsequence, .getBit, .bitCount, .bitPosition, .hashGet, .hashMultiGet, .hashGetAll,
            .hashKeys, .hashValues, .hashLength,
            .hashExists,
            .hashStringLength, .hashRandomField, .hashScan, .dump, .longestCommonSubsequenceOfValues, .rowGet,
            .rowScan, .schemaRead, .rowQuery, .rowFragment:
            false
        }
    }
}

extension ActorCallView {
    /// The keys that the call may look at or change, with their databases. One that comes twice is told twice; of a
    /// database that does not exist, none.
    package func forEachKey(_ body: (_ database: UInt8, _ key: ByteView) -> Void) {
        guard !method.isKeyless else { return }
        body(database, key)
        switch method.keys {
        case .none, .collection, .catalog, .first: break
        case .firstTwice: other(numbers[0]).map { body($0, key) }
        case .two:
            let number = method == .copy && numbers[0] != -1 ? numbers[0] : Int64(database)
            other(number).map { body($0, arguments[0]) }
        case .all: for position in 0..<arguments.count { body(database, arguments[position]) }
        case .pairs:
            for position in stride(from: 1, to: arguments.count, by: 2) { body(database, arguments[position]) }
        }
    }

    /// It is for records of collections, or the catalog of them.
    package var isOfRecords: Bool {
        guard database == CollectionID.callDatabase else { return false }
        return method.rawValue >= Method.rowGet.rawValue || Self.general.contains(method)
    }

    /// What can be asked of a record as of any key.
    private static let general: Set<Method> = [
        .exists, .touch, .type, .expire, .persist, .timeToLive, .expireTime, .objectIdleTime, .memoryUsage, .version,
    ]

    private func other(_ number: Int64) -> UInt8? { (0..<16).contains(number) ? UInt8(number) : nil }
}

/// Flags of `Method.set` and `Method.getExpire`.
@usableFromInline package struct SetFlags: OptionSet, Hashable, Sendable {
    @usableFromInline package let rawValue: UInt32
    @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }

    @usableFromInline package static let ifAbsent = SetFlags(rawValue: 1)
    @usableFromInline package static let ifPresent = SetFlags(rawValue: 2)
    /// Answer the old value; it must be a string.
    @usableFromInline package static let get = SetFlags(rawValue: 4)
    @usableFromInline package static let keepTimeToLive = SetFlags(rawValue: 8)
    /// `numbers[0]` is milliseconds from now.
    @usableFromInline package static let relativeTime = SetFlags(rawValue: 16)
    /// `numbers[0]` is milliseconds since 1970.
    @usableFromInline package static let absoluteTime = SetFlags(rawValue: 32)
    @usableFromInline package static let persist = SetFlags(rawValue: 64)
}

/// Flags of `Method.expire`.
@usableFromInline package struct ExpireFlags: OptionSet, Hashable, Sendable {
    @usableFromInline package let rawValue: UInt32
    @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }

    @usableFromInline package static let ifWithout = ExpireFlags(rawValue: 1)
    @usableFromInline package static let ifWith = ExpireFlags(rawValue: 2)
    @usableFromInline package static let ifGreater = ExpireFlags(rawValue: 4)
    @usableFromInline package static let ifLess = ExpireFlags(rawValue: 8)
    /// `numbers[0]` is milliseconds from now; else since 1970.
    @usableFromInline package static let relativeTime = ExpireFlags(rawValue: 16)
}

/// Flags of `Method.schemaPut`.
package struct SchemaPutFlags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The collections are as they are, with the versions that they have; only their statistics are others. So no
    /// collection is locked.
    package static let statistics = SchemaPutFlags(rawValue: 2)
}

/// Flags of `Method.rowPut`. Without any, a record is put whether there is one or not.
package struct RowPutFlags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Only where there is none.
    package static let insert = RowPutFlags(rawValue: 1)
    /// Only where there is one.
    package static let update = RowPutFlags(rawValue: 2)
    /// All or none: if one cannot be put, the others are not either.
    package static let whole = RowPutFlags(rawValue: 4)
    /// Says when each record expires.
    package static let tellsExpiry = RowPutFlags(rawValue: 8)
    /// The record stays, whenever the one in its place would have expired.
    package static let lasting = RowPutFlags(rawValue: 16)
}
