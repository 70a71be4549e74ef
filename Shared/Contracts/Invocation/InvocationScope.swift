import Base

/// At which time a call reads, and what it is in its interactive transaction (Proto/invocation.proto).
///
/// Decoded only when it is there: calls without one pay nothing for it.
package struct InvocationScope: Hashable, Sendable {
    /// What a transaction sees of others while it is open.
    package enum Isolation: UInt8, CaseIterable, Hashable, Sendable {
        case readCommitted = 0, snapshot = 1, serializable = 2
    }

    /// How keys are locked that a call only reads.
    package enum LockMode: UInt8, CaseIterable, Hashable, Sendable { case none = 0, share = 1, update = 2 }

    /// What happens at a key that somebody else has locked.
    package enum WaitPolicy: UInt8, CaseIterable, Hashable, Sendable { case wait = 0, noWait = 1, skipLocked = 2 }

    /// Everything committed up to it is seen, and nothing later; zero: the newest.
    package var readTimestamp = Timestamp.zero
    /// This and what follows count only in a transaction (`InvocationView.transaction`).
    package var isolation = Isolation.readCommitted
    /// Lower is older.
    package var priority: UInt64 = 0
    /// What the scope's earlier replies have named; 0: open one, or join what is there.
    package var incarnation: UInt64 = 0
    /// Rises; ROLLBACK_TO names one.
    package var statement: UInt32 = 0
    package var lock = LockMode.none
    package var wait = WaitPolicy.wait
    /// 0: as the node is set.
    package var lockTimeoutMilliseconds: UInt32 = 0
    /// When the transaction began, in microseconds since 1970; 0: statements do not ask.
    package var time: Int64 = 0

    package init() {}

    /// What reads at that time, outside of transactions.
    package init(asOf readTimestamp: Timestamp) { self.readTimestamp = readTimestamp }

    private func encode(into buffer: inout ByteBuffer) {
        buffer.appendField(1, fixed: readTimestamp.rawValue)
        buffer.appendField(2, varint: UInt64(isolation.rawValue))
        buffer.appendField(3, fixed: priority)
        buffer.appendField(4, fixed: incarnation)
        buffer.appendField(5, varint: UInt64(statement))
        buffer.appendField(6, varint: UInt64(lock.rawValue))
        buffer.appendField(7, varint: UInt64(wait.rawValue))
        buffer.appendField(8, varint: UInt64(lockTimeoutMilliseconds))
        buffer.appendField(9, fixed: UInt64(bitPattern: time))
    }

    /// As an encoded field of an invocation.
    package func appendField(to buffer: inout ByteBuffer) {
        var message = ByteBuffer(capacity: 64)
        encode(into: &message)
        buffer.append(delimited: message.readable, tag: 15 << 3 | 2)
    }

    /// Nil for a level, mode or policy that this version does not know.
    init?(_ message: ByteView) throws(DatabaseError) {
        var reader = ByteReader(message)
        var level: UInt64 = 0, mode: UInt64 = 0, policy: UInt64 = 0
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3 | 1, 3 << 3 | 1, 4 << 3 | 1, 9 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                switch tag >> 3 {
                case 1: readTimestamp = Timestamp(rawValue: value)
                case 3: priority = value
                case 4: incarnation = value
                default: time = Int64(bitPattern: value)
                }
            case 2 << 3, 5 << 3, 6 << 3, 7 << 3, 8 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                switch tag >> 3 {
                case 2: level = value
                case 5: statement = UInt32(truncatingIfNeeded: value)
                case 6: mode = value
                case 7: policy = value
                default: lockTimeoutMilliseconds = UInt32(truncatingIfNeeded: value)
                }
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        guard let isolation = Isolation(wire: level), let lock = UInt8(exactly: mode).flatMap(LockMode.init),
            let wait = UInt8(exactly: policy).flatMap(WaitPolicy.init)
        else { return nil }
        (self.isolation, self.lock, self.wait) = (isolation, lock, wait)
    }
}

extension InvocationScope.Isolation {
    init?(wire value: UInt64) {
        guard let raw = UInt8(exactly: value) else { return nil }
        self.init(rawValue: raw)
    }
}

extension InvocationView {
    /// The scope of a call that `hasScope`; nil where something in it is not known here. Of several the last counts.
    package var scope: InvocationScope? {
        var reader = ByteReader(encoded), found: InvocationScope?
        while let tag = reader.varint() {
            if tag == 15 << 3 | 2 {
                guard let message = reader.delimited() else { return nil }
                found = try? InvocationScope(message)
            } else if !Wire.skip(tag & 7, in: &reader) {
                return nil
            }
        }
        return found
    }
}

extension ByteBuffer {
    /// A field of eight bytes; nothing for zero, which is the default.
    mutating func appendField(_ field: UInt8, fixed value: UInt64) {
        guard value != 0 else { return }
        append(field << 3 | 1)
        append(littleEndian: value)
    }

    /// A field of a number; nothing for zero.
    mutating func appendField(_ field: UInt8, varint value: UInt64) {
        guard value != 0 else { return }
        append(field << 3)
        append(varint: value)
    }
}
