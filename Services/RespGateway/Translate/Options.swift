import Base
import Contracts

// Options that several commands share. Numbers are checked here, as Redis does before it looks at the key.

extension Words {
    /// The word at `position` as a 64-bit integer.
    package func integer(_ position: Int) throws(DatabaseError) -> Int64 {
        guard let value = self[position].decimal else { throw .notAnInteger }
        return value
    }
}

extension DatabaseError {
    static let syntaxError = DatabaseError(.syntax, "syntax error")
    static let notAnInteger = DatabaseError(.notAnInteger, "value is not an integer or out of range")

    static func wrongArity(_ name: String) -> DatabaseError {
        DatabaseError(.syntax, "wrong number of arguments for '\(name)' command")
    }

    static func invalidExpireTime(_ name: String) -> DatabaseError {
        DatabaseError(.invalidArgument, "invalid expire time in '\(name)' command")
    }
}

/// The unit in which a client gives a time.
enum TimeUnit { case seconds, milliseconds }

/// EX, PX, EXAT, PXAT, KEEPTTL, PERSIST, NX, XX, GET.
enum SetOptions {
    /// SET key value [NX | XX] [GET] [EX seconds | PX ms | EXAT seconds | PXAT ms | KEEPTTL], from the fourth word on.
    static func parse(_ words: Words, _ call: CallFrame) throws(DatabaseError) {
        var flags: SetFlags = [], time: (unit: TimeUnit, position: Int)?
        var position = 3
        while position < words.count {
            if words.matches(position, "nx"), !flags.contains(.ifPresent) {
                flags.insert(.ifAbsent)
            } else if words.matches(position, "xx"), !flags.contains(.ifAbsent) {
                flags.insert(.ifPresent)
            } else if words.matches(position, "get") {
                flags.insert(.get)
            } else if words.matches(position, "keepttl"), time == nil {
                flags.insert(.keepTimeToLive)
            } else if time == nil, !flags.contains(.keepTimeToLive),
                let found = timeOption(words, position)
            {
                time = (found.unit, position + 1)
                flags.insert(found.isRelative ? .relativeTime : .absoluteTime)
                position += 1
            } else {
                throw .syntaxError
            }
            position += 1
        }
        if let time {
            call.append(try milliseconds(words, time.position, time.unit, flags.contains(.relativeTime), call, "set"))
        }
        call.flags = flags.rawValue
    }

    /// GETEX key [EX seconds | PX ms | EXAT seconds | PXAT ms | PERSIST]
    static func parseGetExpire(_ words: Words, _ call: CallFrame) throws(DatabaseError) {
        call.call(.getExpire, words[1])
        guard words.count > 2 else { return }
        if words.matches(2, "persist"), words.count == 3 {
            call.flags = SetFlags.persist.rawValue
            return
        }
        guard words.count == 4, let found = timeOption(words, 2) else { throw .syntaxError }
        call.append(try milliseconds(words, 3, found.unit, found.isRelative, call, "getex"))
        call.flags = (found.isRelative ? SetFlags.relativeTime : .absoluteTime).rawValue
    }

    /// SETEX key seconds value
    static func parseSetExpire(
        _ words: Words, _ call: CallFrame, _ unit: TimeUnit, _ name: String
    ) throws(DatabaseError) {
        call.call(.set, words[1])
        call.append(try milliseconds(words, 2, unit, true, call, name))
        call.flags = SetFlags.relativeTime.rawValue
        call.append(words[3])
    }

    private static func timeOption(_ words: Words, _ position: Int) -> (unit: TimeUnit, isRelative: Bool)? {
        guard position + 1 < words.count else { return nil }
        if words.matches(position, "ex") { return (.seconds, true) }
        if words.matches(position, "px") { return (.milliseconds, true) }
        if words.matches(position, "exat") { return (.seconds, false) }
        if words.matches(position, "pxat") { return (.milliseconds, false) }
        return nil
    }

    /// A positive time in milliseconds that stays representable when the clock is added.
    private static func milliseconds(
        _ words: Words, _ position: Int, _ unit: TimeUnit, _ isRelative: Bool, _ call: CallFrame, _ name: String
    ) throws(DatabaseError) -> Int64 {
        var value = try words.integer(position)
        guard value > 0, unit == .milliseconds || value <= Int64.max / 1000 else { throw .invalidExpireTime(name) }
        if unit == .seconds { value *= 1000 }
        guard !isRelative || value <= Int64.max - call.wallMilliseconds else { throw .invalidExpireTime(name) }
        return value
    }
}

/// EXPIRE key seconds [NX | XX | GT | LT]
enum ExpireOptions {
    static func parse(
        _ words: Words, _ call: CallFrame, _ name: String, _ unit: TimeUnit, isRelative: Bool
    ) throws(DatabaseError) {
        var flags: ExpireFlags = isRelative ? .relativeTime : []
        var position = 3
        while position < words.count {
            if words.matches(position, "nx") {
                flags.insert(.ifWithout)
            } else if words.matches(position, "xx") {
                flags.insert(.ifWith)
            } else if words.matches(position, "gt") {
                flags.insert(.ifGreater)
            } else if words.matches(position, "lt") {
                flags.insert(.ifLess)
            } else {
                throw DatabaseError(.syntax, "Unsupported option \(words[position].text)")
            }
            position += 1
        }
        guard !flags.contains(.ifWithout) || flags.isDisjoint(with: [.ifWith, .ifGreater, .ifLess]) else {
            throw DatabaseError(.syntax, "NX and XX, GT or LT options at the same time are not compatible")
        }
        guard !flags.isSuperset(of: [.ifGreater, .ifLess]) else {
            throw DatabaseError(.syntax, "GT and LT options at the same time are not compatible")
        }
        var time = try words.integer(2)
        if unit == .seconds {
            let (product, overflow) = time.multipliedReportingOverflow(by: 1000)
            guard !overflow else { throw .invalidExpireTime(name) }
            time = product
        }
        guard !isRelative || time <= Int64.max - call.wallMilliseconds else { throw .invalidExpireTime(name) }
        call.call(.expire, words[1])
        call.flags = flags.rawValue
        call.append(time)
    }
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
enum ScanOptions {
    static func parse(
        _ words: Words, _ call: CallFrame, cursorAt first: Int, hasTypes: Bool
    ) throws(DatabaseError) {
        guard let cursor = unsigned(words[first]) else { throw DatabaseError(.invalidArgument, "invalid cursor") }
        var count: Int64 = 10, pattern: ByteView?, type: ByteView?
        var position = first + 1
        while position < words.count {
            guard position + 1 < words.count else { throw .syntaxError }
            if words.matches(position, "count") {
                count = try words.integer(position + 1)
                guard count >= 1 else { throw .syntaxError }
            } else if words.matches(position, "match") {
                pattern = words[position + 1]
            } else if words.matches(position, "type"), hasTypes {
                type = words[position + 1]
            } else {
                throw .syntaxError
            }
            position += 2
        }
        call.append(Int64(bitPattern: cursor))
        call.append(count)
        if let pattern {
            call.flags |= 1
            call.append(pattern)
        }
        if let type {
            call.flags |= 2
            call.append(type)
        }
    }

    /// Digits only; an empty cursor is 0, as it is to Redis.
    private static func unsigned(_ word: ByteView) -> UInt64? {
        var value: UInt64 = 0
        for byte in word {
            guard byte >= 48, byte <= 57 else { return nil }
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(byte - 48))
            guard !overflow, !carry else { return nil }
            value = sum
        }
        return value
    }
}
