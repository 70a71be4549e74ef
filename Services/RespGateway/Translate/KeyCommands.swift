import Base
import Contracts

/// Commands on keys of any type.
enum KeyCommands {
    static let rows: [RESPCommand] = [
        .copy, .delete, .exists, .expire, .expireAt, .expireTime, .keys, .move, .object, .persist, .expireMilliseconds,
        .expireAtMilliseconds, .expireTimeMilliseconds, .timeToLiveMilliseconds, .randomKey, .rename,
        .renameIfAbsent, .scan, .touch, .timeToLive, .type, .unlink,
    ]
}

extension RESPCommand {
    static let copy = RESPCommand(
        "copy", -3, [.write, .denyOOM], .generic,
        keys: [.init([.readOnly, .access]), .init(at: 2, [.overwrite, .update])], acl: .keyspace,
        since: "6.2.0",
        complexity: "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.",
        summary: "Copy a key"
    ) { words, call throws(DatabaseError) in
        try parseCopy(words, call)
    }

    static let delete = RESPCommand(
        "del", -2, .write, .generic, keys: [.init(last: -1, [.remove, .delete])], acl: .keyspace,
        tips: ["request_policy:multi_shard", "response_policy:agg_sum"], since: "1.0.0",
        complexity: "O(N) where N is the number of keys that will be removed. When a key to remove holds a value "
            + "other than a string, the individual complexity for this key is O(M) where M is the number of "
            + "elements in the list, set, sorted set or hash. Removing a single key that holds a string value "
            + "is O(1).",
        summary: "Delete a key"
    ) { words, call throws(DatabaseError) in
        call.call(.delete, words[1])
        call.target = .keys
        call.append(words, from: 2)
    }

    static let exists = RESPCommand(
        "exists", -2, [.readonly, .fast], .generic, keys: [.init(last: -1, .readOnly)], acl: .keyspace,
        tips: ["request_policy:multi_shard", "response_policy:agg_sum"], since: "1.0.0",
        complexity: "O(N) where N is the number of keys to check.", summary: "Determine if a key exists"
    ) { words, call throws(DatabaseError) in
        call.call(.exists, words[1])
        call.target = .keys
        call.append(words, from: 2)
    }

    static let expire = RESPCommand(
        "expire", -3, [.write, .fast], .generic, keys: [.init([.readWrite, .update])], acl: .keyspace,
        since: "1.0.0", summary: "Set a key's time to live in seconds"
    ) { words, call throws(DatabaseError) in
        try ExpireOptions.parse(words, call, "expire", .seconds, isRelative: true)
    }

    static let expireAt = RESPCommand(
        "expireat", -3, [.write, .fast], .generic, keys: [.init([.readWrite, .update])], acl: .keyspace,
        since: "1.2.0", summary: "Set the expiration for a key as a UNIX timestamp"
    ) { words, call throws(DatabaseError) in
        try ExpireOptions.parse(words, call, "expireat", .seconds, isRelative: false)
    }

    static let expireTime = RESPCommand(
        "expiretime", 2, [.readonly, .fast], .generic, keys: [.init([.readOnly, .access])], acl: .keyspace,
        since: "7.0.0", reply: .seconds, summary: "Get the expiration Unix timestamp for a key"
    ) { words, call throws(DatabaseError) in
        call.call(.expireTime, words[1])
    }

    static let keys = RESPCommand(
        "keys", 2, .readonly, .generic, acl: [.keyspace, .dangerous],
        tips: ["request_policy:all_shards", "nondeterministic_output_order"], since: "1.0.0",
        complexity: "O(N) with N being the number of keys in the database, under the assumption that the key names in"
            + " the database and the given pattern have limited length.",
        summary: "Find all keys matching the given pattern"
    ) { words, call throws(DatabaseError) in
        call.call(.keys, on: .everyShard)
        call.append(words[1])
    }

    static let move = RESPCommand(
        "move", 3, [.write, .fast], .generic, keys: [.init([.readWrite, .access, .update])], acl: .keyspace,
        since: "1.0.0", summary: "Move a key to another database"
    ) { words, call throws(DatabaseError) in
        let database = try parseDatabase(words[2])
        guard database != Int64(call.database) else { throw .sameObject }
        call.call(.move, words[1])
        call.append(database)
    }

    static let persist = RESPCommand(
        "persist", 2, [.write, .fast], .generic, keys: [.init([.readWrite, .update])], acl: .keyspace,
        since: "2.2.0", summary: "Remove the expiration from a key"
    ) { words, call throws(DatabaseError) in
        call.call(.persist, words[1])
    }

    static let expireMilliseconds = RESPCommand(
        "pexpire", -3, [.write, .fast], .generic, keys: [.init([.readWrite, .update])], acl: .keyspace,
        since: "2.6.0", summary: "Set a key's time to live in milliseconds"
    ) { words, call throws(DatabaseError) in
        try ExpireOptions.parse(words, call, "pexpire", .milliseconds, isRelative: true)
    }

    static let expireAtMilliseconds = RESPCommand(
        "pexpireat", -3, [.write, .fast], .generic, keys: [.init([.readWrite, .update])], acl: .keyspace,
        since: "2.6.0", summary: "Set the expiration for a key as a UNIX timestamp specified in milliseconds"
    ) { words, call throws(DatabaseError) in
        try ExpireOptions.parse(words, call, "pexpireat", .milliseconds, isRelative: false)
    }

    static let expireTimeMilliseconds = RESPCommand(
        "pexpiretime", 2, [.readonly, .fast], .generic, keys: [.init([.readOnly, .access])], acl: .keyspace,
        since: "7.0.0", summary: "Get the expiration Unix timestamp for a key in milliseconds"
    ) { words, call throws(DatabaseError) in
        call.call(.expireTime, words[1])
    }

    static let timeToLiveMilliseconds = RESPCommand(
        "pttl", 2, [.readonly, .fast], .generic, keys: [.init([.readOnly, .access])], acl: .keyspace,
        tips: ["nondeterministic_output"], since: "2.6.0",
        summary: "Get the time to live for a key in milliseconds"
    ) { words, call throws(DatabaseError) in
        call.call(.timeToLive, words[1])
    }

    static let randomKey = RESPCommand(
        "randomkey", 1, .readonly, .generic, acl: .keyspace,
        tips: ["request_policy:all_shards", "nondeterministic_output"], since: "1.0.0",
        summary: "Return a random key from the keyspace"
    ) { _, call throws(DatabaseError) in
        call.call(.randomKey, on: .anyShard)
    }

    static let rename = RESPCommand(
        "rename", 3, .write, .generic,
        keys: [.init([.readWrite, .access, .delete]), .init(at: 2, [.overwrite, .update])], acl: .keyspace,
        since: "1.0.0", summary: "Rename a key"
    ) { words, call throws(DatabaseError) in
        call.call(.rename, words[1])
        call.target = .keys
        call.append(words[2])
    }

    static let renameIfAbsent = RESPCommand(
        "renamenx", 3, [.write, .fast], .generic,
        keys: [.init([.readWrite, .access, .delete]), .init(at: 2, [.overwrite, .insert])], acl: .keyspace,
        since: "1.0.0", summary: "Rename a key, only if the new key does not exist"
    ) { words, call throws(DatabaseError) in
        call.call(.rename, words[1])
        call.target = .keys
        call.flags = 1
        call.append(words[2])
    }

    static let scan = RESPCommand(
        "scan", -2, .readonly, .generic, acl: .keyspace,
        tips: ["nondeterministic_output", "request_policy:special"], since: "2.8.0",
        complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the "
            + "cursor to return back to 0. N is the number of elements inside the collection.",
        reply: .scan, summary: "Incrementally iterate the keys space"
    ) { words, call throws(DatabaseError) in
        call.call(.scan, on: .cursor)
        try ScanOptions.parse(words, call, cursorAt: 1, hasTypes: true)
    }

    static let touch = RESPCommand(
        "touch", -2, [.readonly, .fast], .generic, keys: [.init(last: -1, .readOnly)], acl: .keyspace,
        tips: ["request_policy:multi_shard", "response_policy:agg_sum"], since: "3.2.1",
        complexity: "O(N) where N is the number of keys that will be touched.",
        summary: "Alters the last access time of a key(s). Returns the number of existing keys specified."
    ) { words, call throws(DatabaseError) in
        call.call(.touch, words[1])
        call.target = .keys
        call.append(words, from: 2)
    }

    static let timeToLive = RESPCommand(
        "ttl", 2, [.readonly, .fast], .generic, keys: [.init([.readOnly, .access])], acl: .keyspace,
        tips: ["nondeterministic_output"], since: "1.0.0", reply: .seconds,
        summary: "Get the time to live for a key in seconds"
    ) { words, call throws(DatabaseError) in
        call.call(.timeToLive, words[1])
    }

    static let type = RESPCommand(
        "type", 2, [.readonly, .fast], .generic, keys: [.init(.readOnly)], acl: .keyspace, since: "1.0.0",
        reply: .status, summary: "Determine the type stored at key"
    ) { words, call throws(DatabaseError) in
        call.call(.type, words[1])
    }

    static let unlink = RESPCommand(
        "unlink", -2, [.write, .fast], .generic, keys: [.init(last: -1, [.remove, .delete])], acl: .keyspace,
        tips: ["request_policy:multi_shard", "response_policy:agg_sum"], since: "4.0.0",
        complexity: "O(1) for each key removed regardless of its size. Then the command does O(N) work in a different"
            + " thread in order to reclaim memory, where N is the number of allocations the deleted objects "
            + "where composed of.",
        summary: "Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking."
    ) { words, call throws(DatabaseError) in
        call.call(.delete, words[1])
        call.target = .keys
        call.append(words, from: 2)
    }
}

/// A database's number, as in SELECT.
func parseDatabase(_ word: ByteView) throws(DatabaseError) -> Int64 {
    guard let number = word.decimal, Int32(exactly: number) != nil else { throw .notAnInteger }
    guard number >= 0, number < 16 else { throw DatabaseError(.invalidArgument, "DB index is out of range") }
    return number
}

/// COPY source destination [DB number] [REPLACE]
private func parseCopy(_ words: Words, _ call: CallFrame) throws(DatabaseError) {
    var database: Int64 = -1, position = 3
    while position < words.count {
        if words.matches(position, "replace") {
            call.flags = 1
        } else if words.matches(position, "db"), position + 1 < words.count {
            position += 1
            database = try parseDatabase(words[position])
        } else {
            throw .syntaxError
        }
        position += 1
    }
    guard !words[1].equals(words[2]) || (database >= 0 && database != Int64(call.database)) else { throw .sameObject }
    call.call(.copy, words[1])
    call.target = .keys
    call.append(words[2])
    call.append(database)
}

extension DatabaseError {
    fileprivate static let sameObject = DatabaseError(
        .invalidArgument, "source and destination objects are the same")
}
