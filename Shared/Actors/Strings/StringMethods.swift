import Base
import Contracts
import DataModel

// Strings: GET, SET and their kin.

extension ActorRuntime {
    @inline(__always) func get(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard let found = try readableString(call.database, call.key) else { return reply.null() }
        reply.data(found.bytes)
    }

    func set(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let value = call.arguments[0]
        guard value.count <= limits.valueBytes else { throw Failure.tooLong }
        let flags = SetFlags(rawValue: call.flags)
        guard call.flags != 0 else {
            let found = try writable(call.database, call.key)
            setString(found, value)
            return reply.ok()
        }
        let expiresAt = try expiry(call, flags, "set")
        let found = try writable(call.database, call.key)
        let answersOld = flags.contains(.get)
        if answersOld, found.kind == .hash { throw Failure.wrongType }
        let exists = found.kind != .absent
        let refused = (flags.contains(.ifAbsent) && exists) || (flags.contains(.ifPresent) && !exists)
        if answersOld {
            // The old value is answered before it is gone.
            if exists { reply.data(found.bytes) } else { reply.null() }
        } else if refused {
            reply.null()
        } else {
            reply.ok()
        }
        guard !refused else { return }
        if let expiresAt, expiresAt <= now { return drop(found) }
        let kept = flags.contains(.keepTimeToLive) ? found.expiresAt : 0
        setString(found, value)
        found.expiresAt = expiresAt ?? kept
    }

    /// The time that SET and GETEX were given, or nil.
    private func expiry(
        _ call: ActorCallView, _ flags: SetFlags, _ command: StaticString
    ) throws(DatabaseError) -> UInt64? {
        guard !flags.isDisjoint(with: [.relativeTime, .absoluteTime]) else { return nil }
        let time = call.numbers[0]
        guard time > 0 else { throw Failure.expireTime(command) }
        guard flags.contains(.relativeTime) else { return UInt64(time) }
        let (sum, overflow) = time.addingReportingOverflow(Int64(clamping: now))
        guard !overflow else { throw Failure.expireTime(command) }
        return UInt64(sum)
    }

    func getDelete(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let found = try writableString(call.database, call.key)
        guard found.kind != .absent else { return reply.null() }
        reply.data(found.bytes)
        drop(found)
    }

    func getExpire(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let flags = SetFlags(rawValue: call.flags)
        let expiresAt = try expiry(call, flags, "getex")
        let found = try writableString(call.database, call.key)
        guard found.kind != .absent else { return reply.null() }
        reply.data(found.bytes)
        if let expiresAt, expiresAt <= now { return drop(found) }
        if let expiresAt {
            setExpiry(found, expiresAt)
        } else if flags.contains(.persist), found.expiresAt != 0 {
            setExpiry(found, 0)
        }
    }

    /// Changes nothing but the expiry of a key.
    func setExpiry(_ activation: Activation, _ expiresAt: UInt64) {
        activation.expiresAt = expiresAt
        // The record is written again, and with it a short string.
        let isInline = activation.kind == .string && !activation.isChunked
        changed(activation, bytes: isInline && !activation.isDirty ? activation.bytes.count : 0)
    }

    func append(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let suffix = call.arguments[0]
        let found = try writableString(call.database, call.key)
        let old = found.bytes.count
        guard suffix.count <= limits.valueBytes - min(old, limits.valueBytes) else { throw Failure.tooLong }
        if found.kind == .absent {
            setString(found, suffix)
        } else if suffix.count > 0 {
            found.editBytes { $0.append(contentsOf: suffix) }
            found.isRaw = true
            edited(found, old..<old + suffix.count, oldCount: old)
        }
        reply.integer(found.bytes.count)
    }

    /// Declares bytes of a string changed in place.
    private func edited(_ activation: Activation, _ range: Range<Int>, oldCount: Int) {
        activation.markChanged(range, oldCount: oldCount)
        let size: Int
        if activation.isChunked {
            // Whole chunks are written, and what was inline becomes one.
            size = range.count + 2 * KeyspaceRecord.chunkSize
        } else {
            size = activation.isDirty ? max(0, activation.bytes.count - oldCount) : activation.bytes.count
        }
        changed(activation, bytes: size)
    }

    func stringLength(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        reply.integer(try readableString(call.database, call.key)?.bytes.count ?? 0)
    }

    func getRange(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard let found = try readableString(call.database, call.key),
            let range = indexRange(first: call.numbers[0], last: call.numbers[1], count: found.bytes.count)
        else { return reply.data("") }
        found.bytes.withUnsafeBytes { reply.data(ByteView(rebasing: $0[range])) }
    }

    func setRange(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let value = call.arguments[0], offset = call.numbers[0]
        guard offset >= 0 else { throw Failure.offset }
        let found = try writableString(call.database, call.key)
        guard value.count > 0 else { return reply.integer(found.bytes.count) }
        guard offset <= limits.valueBytes, value.count <= limits.valueBytes - Int(offset) else { throw Failure.tooLong }
        edit(found, Int(offset)..<Int(offset) + value.count) { $0.copyMemory(from: value) }
        reply.integer(found.bytes.count)
    }

    /// Changes bytes of a string, or of a new one, in place, after growing it with zeros to hold them.
    func edit(_ activation: Activation, _ range: Range<Int>, _ body: (UnsafeMutableRawBufferPointer) -> Void) {
        if activation.kind == .absent { create(activation, .string) }
        let old = activation.bytes.count
        if old < range.upperBound {
            activation.editBytes { $0.append(contentsOf: repeatElement(0, count: range.upperBound - old)) }
        }
        activation.editBytes { bytes in
            bytes.withUnsafeMutableBytes { body(UnsafeMutableRawBufferPointer(rebasing: $0[range])) }
        }
        activation.isRaw = true
        edited(activation, range, oldCount: old)
    }

    func incrementBy(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let found = try writableString(call.database, call.key)
        var total: Int64 = 0
        if found.kind == .string {
            guard let value = found.bytes.withUnsafeBytes({ decimalInteger($0) }) else { throw Failure.notAnInteger }
            total = value
        }
        let (sum, overflow) = total.addingReportingOverflow(call.numbers[0])
        guard !overflow else { throw Failure.overflow }
        replaceString(found, decimalBytes(sum))
        reply.integer(sum)
    }

    func incrementByFloat(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let found = try writableString(call.database, call.key)
        var total: LongDouble = 0
        if found.kind == .string {
            guard let value = found.bytes.withUnsafeBytes({ parseLongDouble($0) }) else { throw Failure.notAFloat }
            total = value
        }
        guard let increment = parseLongDouble(call.arguments[0]) else { throw Failure.notAFloat }
        total += increment
        guard total.isFinite else { throw Failure.notFinite }
        let text = formatLongDouble(total)
        replaceString(found, text)
        reply.data(text)
    }

    func multiGet(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        // All are looked up first: a list that was begun cannot fail.
        var found: [Activation] = []
        found.reserveCapacity(call.arguments.count + 1)
        found.append(try activation(call.database, call.key))
        for position in 0..<call.arguments.count {
            found.append(try activation(call.database, call.arguments[position]))
        }
        var size = 0
        for item in found { size += item.kind == .string ? item.bytes.count : 0 }
        guard size <= limits.replyBytes else { throw Failure.replyTooLarge }
        reply.beginList()
        for item in found {
            if item.kind == .string, item.isVisible(at: now) {
                reply.item(item.bytes)
            } else {
                reply.encoder.listNull()
            }
        }
        reply.encoder.endList()
    }

    func multiSet(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let arguments = call.arguments
        guard arguments.count % 2 == 1 else { throw Failure.syntax }
        var size = 0
        for position in 0..<arguments.count {
            size += arguments[position].count
            if position % 2 == 0, arguments[position].count > limits.valueBytes { throw Failure.tooLong }
        }
        try allowEffects(size + arguments.count * 64)
        var found = [try writable(call.database, call.key)]
        for position in stride(from: 1, to: arguments.count, by: 2) {
            found.append(try writable(call.database, arguments[position]))
        }
        if call.flags & 1 != 0 {
            guard found.allSatisfy({ $0.kind == .absent }) else { return reply.integer(0) }
        }
        for (position, item) in found.enumerated() { setString(item, arguments[position * 2]) }
        if call.flags & 1 != 0 { reply.integer(1) } else { reply.ok() }
    }

    func longestCommonSubsequence(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let first = try visible(call.database, call.key), second = try visible(call.database, call.arguments[0])
        guard first?.kind != .hash, second?.kind != .hash else { throw Failure.lcsTypes }
        try answerSubsequence(first?.bytes ?? [], second?.bytes ?? [], call, reply)
    }

    func longestCommonSubsequenceOfValues(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard call.arguments.count == 2 else { throw Failure.syntax }
        try answerSubsequence(call.arguments[0].bytes, call.arguments[1].bytes, call, reply)
    }

    private func answerSubsequence(
        _ left: Bytes, _ right: Bytes, _ call: ActorCallView, _ reply: Reply
    ) throws(DatabaseError) {
        let wantsLength = call.flags & 1 != 0, wantsRanges = call.flags & 2 != 0
        guard
            let result = CommonSubsequence.of(
                left, right, cellLimit: limits.lcsCells, needsTrace: wantsRanges || !wantsLength)
        else { throw Failure.lcsMemory }
        if wantsRanges {
            reply.beginList()
            for match in result.matches where Int64(match.length) >= call.numbers[0] {
                reply.encoder.listInteger(Int64(match.left))
                reply.encoder.listInteger(Int64(match.left + match.length - 1))
                reply.encoder.listInteger(Int64(match.right))
                reply.encoder.listInteger(Int64(match.right + match.length - 1))
                reply.encoder.listInteger(Int64(match.length))
            }
            reply.encoder.listInteger(Int64(result.length))
            reply.encoder.endList()
        } else if wantsLength {
            reply.integer(result.length)
        } else {
            reply.data(result.bytes)
        }
    }
}

/// The indices that Redis' `first` and `last` mean, both inclusive and negative from the end; nil for none.
///
/// Two negative ones in the wrong order are none even if both lie before the string, where others count as its
/// beginning; BITPOS alone does not check that.
func indexRange(first: Int64, last: Int64, count: Int, checksOrder: Bool = true) -> Range<Int>? {
    if checksOrder, first < 0, last < 0, first > last { return nil }
    let length = Int64(count)
    let start = max(0, first < 0 ? length + first : first)
    let end = min(max(0, last < 0 ? length + last : last), length - 1)
    guard start <= end, count > 0 else { return nil }
    return Int(start)..<Int(end) + 1
}
