import Base
import Contracts

/// Commands on strings.
enum StringCommands {
    static let rows: [RESPCommand] = [
        .append, .decrement, .decrementBy, .get, .getDelete, .getExpire, .getRange, .getSet, .increment,
        .incrementBy, .incrementByFloat, .longestCommonSubsequence, .multiGet, .multiSet, .multiSetIfAbsent,
        .setExpireMilliseconds, .set, .setExpire, .setIfAbsent, .setRange, .stringLength, .substring,
    ]
}

extension RESPCommand {
    static let append = RESPCommand(
        "append", 3, [.write, .denyOOM, .fast], .string, keys: [.init([.readWrite, .insert])], acl: .string,
        since: "2.0.0", summary: "Append a value to a key"
    ) { words, call throws(DatabaseError) in
        call.call(.append, words[1])
        call.append(words[2])
    }

    static let decrement = RESPCommand(
        "decr", 2, [.write, .denyOOM, .fast], .string, keys: [.init([.readWrite, .access, .update])],
        acl: .string, since: "1.0.0", summary: "Decrement the integer value of a key by one"
    ) { words, call throws(DatabaseError) in
        call.call(.incrementBy, words[1])
        call.append(-1)
    }

    static let decrementBy = RESPCommand(
        "decrby", 3, [.write, .denyOOM, .fast], .string, keys: [.init([.readWrite, .access, .update])],
        acl: .string, since: "1.0.0", summary: "Decrement the integer value of a key by the given number"
    ) { words, call throws(DatabaseError) in
        let decrement = try words.integer(2)
        guard decrement != .min else { throw DatabaseError(.overflow, "decrement would overflow") }
        call.call(.incrementBy, words[1])
        call.append(-decrement)
    }

    static let get = RESPCommand(
        "get", 2, [.readonly, .fast], .string, keys: [.init([.readOnly, .access])], acl: .string,
        since: "1.0.0", summary: "Get the value of a key"
    ) { words, call throws(DatabaseError) in
        call.call(.get, words[1])
    }

    static let getDelete = RESPCommand(
        "getdel", 2, [.write, .fast], .string, keys: [.init([.readWrite, .access, .delete])], acl: .string,
        since: "6.2.0", summary: "Get the value of a key and delete the key"
    ) { words, call throws(DatabaseError) in
        call.call(.getDelete, words[1])
    }

    static let getExpire = RESPCommand(
        "getex", -2, [.write, .fast], .string,
        keys: [.init([.readWrite, .access, .update], notes: "RW and UPDATE because it changes the TTL")],
        acl: .string, since: "6.2.0", summary: "Get the value of a key and optionally set its expiration"
    ) { words, call throws(DatabaseError) in
        try SetOptions.parseGetExpire(words, call)
    }

    static let getRange = RESPCommand(
        "getrange", 4, .readonly, .string, keys: [.init([.readOnly, .access])], acl: .string, since: "2.4.0",
        complexity: "O(N) where N is the length of the returned string. The complexity is ultimately determined by "
            + "the returned length, but because creating a substring from an existing string is very cheap, it "
            + "can be considered O(1) for small strings.",
        summary: "Get a substring of the string stored at a key"
    ) { words, call throws(DatabaseError) in
        try parseRange(words, call)
    }

    static let getSet = RESPCommand(
        "getset", 3, [.write, .denyOOM, .fast], .string, keys: [.init([.readWrite, .access, .update])],
        acl: .string, since: "1.0.0", summary: "Set the string value of a key and return its old value"
    ) { words, call throws(DatabaseError) in
        call.call(.set, words[1])
        call.flags = SetFlags.get.rawValue
        call.append(words[2])
    }

    static let increment = RESPCommand(
        "incr", 2, [.write, .denyOOM, .fast], .string, keys: [.init([.readWrite, .access, .update])],
        acl: .string, since: "1.0.0", summary: "Increment the integer value of a key by one"
    ) { words, call throws(DatabaseError) in
        call.call(.incrementBy, words[1])
        call.append(1)
    }

    static let incrementBy = RESPCommand(
        "incrby", 3, [.write, .denyOOM, .fast], .string, keys: [.init([.readWrite, .access, .update])],
        acl: .string, since: "1.0.0", summary: "Increment the integer value of a key by the given amount"
    ) { words, call throws(DatabaseError) in
        let increment = try words.integer(2)
        call.call(.incrementBy, words[1])
        call.append(increment)
    }

    static let incrementByFloat = RESPCommand(
        "incrbyfloat", 3, [.write, .denyOOM, .fast], .string, keys: [.init([.readWrite, .access, .update])],
        acl: .string, since: "2.6.0", summary: "Increment the float value of a key by the given amount"
    ) { words, call throws(DatabaseError) in
        call.call(.incrementByFloat, words[1])
        call.append(words[2])
    }

    static let longestCommonSubsequence = RESPCommand(
        "lcs", -3, .readonly, .string, keys: [.init(last: 1, [.readOnly, .access])], acl: .string,
        since: "7.0.0", complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively",
        summary: "Find longest common substring"
    ) { words, call throws(DatabaseError) in
        try parseLCS(words, call)
    }

    static let multiGet = RESPCommand(
        "mget", -2, [.readonly, .fast], .string, keys: [.init(last: -1, [.readOnly, .access])], acl: .string,
        tips: ["request_policy:multi_shard"], since: "1.0.0",
        complexity: "O(N) where N is the number of keys to retrieve.",
        summary: "Get the values of all the given keys"
    ) { words, call throws(DatabaseError) in
        call.call(.multiGet, words[1])
        call.target = .keys
        call.append(words, from: 2)
    }

    static let multiSet = RESPCommand(
        "mset", -3, [.write, .denyOOM], .string, keys: [.init(last: -1, step: 2, [.overwrite, .update])],
        acl: .string, tips: ["request_policy:multi_shard", "response_policy:all_succeeded"], since: "1.0.1",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Set multiple keys to multiple values"
    ) { words, call throws(DatabaseError) in
        try parseMultiSet(words, call, "mset")
    }

    static let multiSetIfAbsent = RESPCommand(
        "msetnx", -3, [.write, .denyOOM], .string, keys: [.init(last: -1, step: 2, [.overwrite, .insert])],
        acl: .string, tips: ["request_policy:multi_shard", "response_policy:agg_min"], since: "1.0.1",
        complexity: "O(N) where N is the number of keys to set.",
        summary: "Set multiple keys to multiple values, only if none of the keys exist"
    ) { words, call throws(DatabaseError) in
        try parseMultiSet(words, call, "msetnx")
        call.flags = 1
    }

    static let setExpireMilliseconds = RESPCommand(
        "psetex", 4, [.write, .denyOOM], .string, keys: [.init([.overwrite, .update])], acl: .string,
        since: "2.6.0", summary: "Set the value and expiration in milliseconds of a key"
    ) { words, call throws(DatabaseError) in
        try SetOptions.parseSetExpire(words, call, .milliseconds, "psetex")
    }

    static let set = RESPCommand(
        "set", -3, [.write, .denyOOM], .string,
        keys: [
            .init(
                [.readWrite, .access, .update, .variable],
                notes: "RW and ACCESS due to the optional `GET` argument")
        ],
        acl: .string, since: "1.0.0", summary: "Set the string value of a key"
    ) { words, call throws(DatabaseError) in
        call.call(.set, words[1])
        call.append(words[2])
        if words.count > 3 { try SetOptions.parse(words, call) }
    }

    static let setExpire = RESPCommand(
        "setex", 4, [.write, .denyOOM], .string, keys: [.init([.overwrite, .update])], acl: .string,
        since: "2.0.0", summary: "Set the value and expiration of a key"
    ) { words, call throws(DatabaseError) in
        try SetOptions.parseSetExpire(words, call, .seconds, "setex")
    }

    static let setIfAbsent = RESPCommand(
        "setnx", 3, [.write, .denyOOM, .fast], .string, keys: [.init([.overwrite, .insert])], acl: .string,
        since: "1.0.0", reply: .condition, summary: "Set the value of a key, only if the key does not exist"
    ) { words, call throws(DatabaseError) in
        call.call(.set, words[1])
        call.flags = SetFlags.ifAbsent.rawValue
        call.append(words[2])
    }

    static let setRange = RESPCommand(
        "setrange", 4, [.write, .denyOOM], .string, keys: [.init([.readWrite, .update])], acl: .string,
        since: "2.2.0",
        complexity: "O(1), not counting the time taken to copy the new string in place. Usually, this string is very "
            + "small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length"
            + " of the value argument.",
        summary: "Overwrite part of a string at key starting at the specified offset"
    ) { words, call throws(DatabaseError) in
        let offset = try words.integer(2)
        guard offset >= 0 else { throw DatabaseError(.invalidArgument, "offset is out of range") }
        call.call(.setRange, words[1])
        call.append(offset)
        call.append(words[3])
    }

    static let stringLength = RESPCommand(
        "strlen", 2, [.readonly, .fast], .string, keys: [.init(.readOnly)], acl: .string, since: "2.2.0",
        summary: "Get the length of the value stored in a key"
    ) { words, call throws(DatabaseError) in
        call.call(.stringLength, words[1])
    }

    static let substring = RESPCommand(
        "substr", 4, .readonly, .string, keys: [.init([.readOnly, .access])], acl: .string, since: "1.0.0",
        complexity: "O(N) where N is the length of the returned string. The complexity is ultimately determined by "
            + "the returned length, but because creating a substring from an existing string is very cheap, it "
            + "can be considered O(1) for small strings.",
        summary: "Get a substring of the string stored at a key"
    ) { words, call throws(DatabaseError) in
        try parseRange(words, call)
    }
}

/// GETRANGE key first last
private func parseRange(_ words: Words, _ call: CallFrame) throws(DatabaseError) {
    let first = try words.integer(2), last = try words.integer(3)
    call.call(.getRange, words[1])
    call.append(first)
    call.append(last)
}

/// MSET key value [key value ...]
private func parseMultiSet(_ words: Words, _ call: CallFrame, _ name: String) throws(DatabaseError) {
    guard words.count % 2 == 1 else { throw .wrongArity(name) }
    call.call(.multiSet, words[1])
    call.target = .keys
    call.append(words, from: 2)
}

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]
private func parseLCS(_ words: Words, _ call: CallFrame) throws(DatabaseError) {
    var wantsLength = false, wantsIndex = false, withLengths = false, least: Int64 = 0
    var position = 3
    while position < words.count {
        if words.matches(position, "idx") {
            wantsIndex = true
        } else if words.matches(position, "len") {
            wantsLength = true
        } else if words.matches(position, "withmatchlen") {
            withLengths = true
        } else if words.matches(position, "minmatchlen"), position + 1 < words.count {
            position += 1
            least = max(try words.integer(position), 0)
        } else {
            throw .syntaxError
        }
        position += 1
    }
    guard !(wantsLength && wantsIndex) else {
        throw DatabaseError(.syntax, "If you want both the length and indexes, please just use IDX.")
    }
    call.call(.longestCommonSubsequence, words[1])
    call.target = .keys
    call.append(words[2])
    call.append(least)
    if wantsLength { call.flags = 1 }
    if wantsIndex {
        call.flags = 2
        call.shape = withLengths ? .matchesWithLengths : .matches
    }
}
