import Base
import Contracts

/// Commands on hashes.
enum HashCommands {
    static let rows: [RESPCommand] = [
        .hashDelete, .hashExists, .hashGet, .hashGetAll, .hashIncrementBy, .hashIncrementByFloat, .hashKeys,
        .hashLength, .hashMultiGet, .hashMultiSet, .hashRandomField, .hashScan, .hashSet, .hashSetIfAbsent,
        .hashStringLength, .hashValues,
    ]
}

extension RESPCommand {
    static let hashDelete = RESPCommand(
        "hdel", -3, [.write, .fast], .hash, keys: [.init([.readWrite, .delete])], acl: .hash, since: "2.0.0",
        complexity: "O(N) where N is the number of fields to be removed.",
        summary: "Delete one or more hash fields"
    ) { words, call throws(DatabaseError) in
        call.call(.hashDelete, words[1])
        call.append(words, from: 2)
    }

    static let hashExists = RESPCommand(
        "hexists", 3, [.readonly, .fast], .hash, keys: [.init(.readOnly)], acl: .hash, since: "2.0.0",
        summary: "Determine if a hash field exists"
    ) { words, call throws(DatabaseError) in
        call.call(.hashExists, words[1])
        call.append(words, from: 2)
    }

    static let hashGet = RESPCommand(
        "hget", 3, [.readonly, .fast], .hash, keys: [.init([.readOnly, .access])], acl: .hash, since: "2.0.0",
        summary: "Get the value of a hash field"
    ) { words, call throws(DatabaseError) in
        call.call(.hashGet, words[1])
        call.append(words, from: 2)
    }

    static let hashGetAll = RESPCommand(
        "hgetall", 2, .readonly, .hash, keys: [.init([.readOnly, .access])], acl: .hash,
        tips: ["nondeterministic_output_order"], since: "2.0.0",
        complexity: "O(N) where N is the size of the hash.", reply: .map,
        summary: "Get all the fields and values in a hash"
    ) { words, call throws(DatabaseError) in
        call.call(.hashGetAll, words[1])
    }

    static let hashIncrementBy = RESPCommand(
        "hincrby", 4, [.write, .denyOOM, .fast], .hash, keys: [.init([.readWrite, .access, .update])],
        acl: .hash, since: "2.0.0", summary: "Increment the integer value of a hash field by the given number"
    ) { words, call throws(DatabaseError) in
        let increment = try words.integer(3)
        call.call(.hashIncrementBy, words[1])
        call.append(words[2])
        call.append(increment)
    }

    static let hashIncrementByFloat = RESPCommand(
        "hincrbyfloat", 4, [.write, .denyOOM, .fast], .hash, keys: [.init([.readWrite, .access, .update])],
        acl: .hash, since: "2.6.0", summary: "Increment the float value of a hash field by the given amount"
    ) { words, call throws(DatabaseError) in
        call.call(.hashIncrementByFloat, words[1])
        call.append(words, from: 2)
    }

    static let hashKeys = RESPCommand(
        "hkeys", 2, .readonly, .hash, keys: [.init([.readOnly, .access])], acl: .hash,
        tips: ["nondeterministic_output_order"], since: "2.0.0",
        complexity: "O(N) where N is the size of the hash.", summary: "Get all the fields in a hash"
    ) { words, call throws(DatabaseError) in
        call.call(.hashKeys, words[1])
    }

    static let hashLength = RESPCommand(
        "hlen", 2, [.readonly, .fast], .hash, keys: [.init(.readOnly)], acl: .hash, since: "2.0.0",
        summary: "Get the number of fields in a hash"
    ) { words, call throws(DatabaseError) in
        call.call(.hashLength, words[1])
    }

    static let hashMultiGet = RESPCommand(
        "hmget", -3, [.readonly, .fast], .hash, keys: [.init([.readOnly, .access])], acl: .hash, since: "2.0.0",
        complexity: "O(N) where N is the number of fields being requested.",
        summary: "Get the values of all the given hash fields"
    ) { words, call throws(DatabaseError) in
        call.call(.hashMultiGet, words[1])
        call.append(words, from: 2)
    }

    static let hashMultiSet = RESPCommand(
        "hmset", -4, [.write, .denyOOM, .fast], .hash, keys: [.init([.readWrite, .update])], acl: .hash,
        since: "2.0.0", complexity: "O(N) where N is the number of fields being set.", reply: .ok,
        summary: "Set multiple hash fields to multiple values"
    ) { words, call throws(DatabaseError) in
        try parseSet(words, call, "hmset")
    }

    static let hashRandomField = RESPCommand(
        "hrandfield", -2, .readonly, .hash, keys: [.init([.readOnly, .access])], acl: .hash,
        tips: ["nondeterministic_output"], since: "6.2.0",
        complexity: "O(N) where N is the number of fields returned",
        summary: "Get one or multiple random fields from a hash"
    ) { words, call throws(DatabaseError) in
        try parseRandomField(words, call)
    }

    static let hashScan = RESPCommand(
        "hscan", -3, .readonly, .hash, keys: [.init([.readOnly, .access])], acl: .hash,
        tips: ["nondeterministic_output"], since: "2.8.0",
        complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the "
            + "cursor to return back to 0. N is the number of elements inside the collection..",
        reply: .scan, summary: "Incrementally iterate hash fields and associated values"
    ) { words, call throws(DatabaseError) in
        call.call(.hashScan, words[1])
        try ScanOptions.parse(words, call, cursorAt: 2, hasTypes: false)
    }

    static let hashSet = RESPCommand(
        "hset", -4, [.write, .denyOOM, .fast], .hash, keys: [.init([.readWrite, .update])], acl: .hash,
        since: "2.0.0",
        complexity: "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is "
            + "called with multiple field/value pairs.",
        summary: "Set the string value of a hash field"
    ) { words, call throws(DatabaseError) in
        try parseSet(words, call, "hset")
    }

    static let hashSetIfAbsent = RESPCommand(
        "hsetnx", 4, [.write, .denyOOM, .fast], .hash, keys: [.init([.readWrite, .insert])], acl: .hash,
        since: "2.0.0", summary: "Set the value of a hash field, only if the field does not exist"
    ) { words, call throws(DatabaseError) in
        call.call(.hashSet, words[1])
        call.flags = 1
        call.append(words, from: 2)
    }

    static let hashStringLength = RESPCommand(
        "hstrlen", 3, [.readonly, .fast], .hash, keys: [.init(.readOnly)], acl: .hash, since: "3.2.0",
        summary: "Get the length of the value of a hash field"
    ) { words, call throws(DatabaseError) in
        call.call(.hashStringLength, words[1])
        call.append(words, from: 2)
    }

    static let hashValues = RESPCommand(
        "hvals", 2, .readonly, .hash, keys: [.init([.readOnly, .access])], acl: .hash,
        tips: ["nondeterministic_output_order"], since: "2.0.0",
        complexity: "O(N) where N is the size of the hash.", summary: "Get all the values in a hash"
    ) { words, call throws(DatabaseError) in
        call.call(.hashValues, words[1])
    }
}

/// HSET key field value [field value ...]
private func parseSet(_ words: Words, _ call: CallFrame, _ name: String) throws(DatabaseError) {
    guard words.count % 2 == 0 else { throw .wrongArity(name) }
    call.call(.hashSet, words[1])
    call.append(words, from: 2)
}

/// HRANDFIELD key [count [WITHVALUES]]
private func parseRandomField(_ words: Words, _ call: CallFrame) throws(DatabaseError) {
    call.call(.hashRandomField, words[1])
    guard words.count > 2 else { return }
    let count = try words.integer(2)
    guard count != .min else {
        throw DatabaseError(
            .invalidArgument, "value is out of range, value must between \(-Int64.max) and \(Int64.max)")
    }
    guard words.count <= 4, words.count == 3 || words.matches(3, "withvalues") else { throw .syntaxError }
    call.append(count)
    call.flags = 1
    if words.count == 4 {
        guard abs(count) <= Int64.max / 2 else { throw DatabaseError(.invalidArgument, "value is out of range") }
        call.flags = 3
        call.shape = .pairs
    }
}
