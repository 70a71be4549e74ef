import Base

/// What makes a batch one of several that are done together or not at all (`TransactionPart`).
package struct TransactionPart: Hashable, Sendable {
    /// Random, not 0.
    package var id: UInt64
    /// Lower is older: the older waits for locks, the younger is refused.
    package var priority: UInt64
    /// A slot of every shard that has a part; the first one's shard keeps the record.
    package var participants: [UInt32]
    /// No part writes.
    package var isReadOnly: Bool

    package init(id: UInt64, priority: UInt64, participants: [UInt32], isReadOnly: Bool = false) {
        (self.id, self.priority, self.participants, self.isReadOnly) = (id, priority, participants, isReadOnly)
    }

    func encode(into buffer: inout ByteBuffer) {
        if id != 0 {
            buffer.append(1 << 3 | 1)
            buffer.append(littleEndian: id)
        }
        if priority != 0 {
            buffer.append(2 << 3 | 1)
            buffer.append(littleEndian: priority)
        }
        ParticipantList.encode(participants, field: 3, into: &buffer)
        if isReadOnly {
            buffer.append(4 << 3)
            buffer.append(1)
        }
    }
}

/// What follows the parts of a transaction, at one of its shards (`TransactionStep`).
package struct TransactionStep: Hashable, Sendable {
    package enum Kind: UInt8, CaseIterable, Hashable, Sendable {
        case commit = 0, abort = 1, forget = 2, resolve = 3, fence = 4, confirm = 5
        /// Of interactive transactions.
        case prepare = 6, commitOne = 7, rollbackTo = 8, keepAlive = 9
        /// Of no transaction: the reply is the node's time.
        case sample = 10
        /// Of no transaction: who waits for whom at a shard.
        case waits = 11
    }

    package var kind: Kind
    /// 0 of SAMPLE; of WAITS it names who reports.
    package var id: UInt64
    package var timestamp: Timestamp
    /// As in the transaction's parts.
    package var participants: [UInt32]
    /// From here on only of interactive transactions, as in `InvocationScope`.
    package var priority: UInt64 = 0
    package var incarnation: UInt64 = 0
    package var statement: UInt32 = 0
    package var isolation = InvocationScope.Isolation.readCommitted
    /// Of WAITS.
    package var waits: [LockWait] = []

    package init(_ kind: Kind, id: UInt64, timestamp: Timestamp = .zero, participants: [UInt32] = []) {
        (self.kind, self.id, self.timestamp, self.participants) = (kind, id, timestamp, participants)
    }

    /// Writes the message, for `InvocationBatchEncoder.append(id:connection:slot:step:)`.
    package func encode(into buffer: inout ByteBuffer) {
        if kind.rawValue != 0 {
            buffer.append(1 << 3)
            buffer.append(kind.rawValue)
        }
        if id != 0 {
            buffer.append(2 << 3 | 1)
            buffer.append(littleEndian: id)
        }
        if timestamp.rawValue != 0 {
            buffer.append(3 << 3 | 1)
            buffer.append(littleEndian: timestamp.rawValue)
        }
        ParticipantList.encode(participants, field: 4, into: &buffer)
        buffer.appendField(5, fixed: priority)
        buffer.appendField(6, fixed: incarnation)
        buffer.appendField(7, varint: UInt64(statement))
        buffer.appendField(8, varint: UInt64(isolation.rawValue))
        for wait in waits { wait.appendField(9, to: &buffer) }
    }
}

/// `TransactionPart` as it lies in its frame.
package struct TransactionPartView {
    package private(set) var id: UInt64 = 0
    package private(set) var priority: UInt64 = 0
    package private(set) var isReadOnly = false
    package let participants: ParticipantList

    init(_ message: ByteView) throws(DatabaseError) {
        participants = try ParticipantList(message, field: 3)
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3 | 1, 2 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                if tag >> 3 == 1 { id = value } else { priority = value }
            case 4 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                isReadOnly = value != 0
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        guard id != 0 else { throw Wire.malformed }
    }

    /// As a value, for whoever keeps it.
    package var part: TransactionPart {
        TransactionPart(id: id, priority: priority, participants: participants.slots, isReadOnly: isReadOnly)
    }
}

/// `TransactionStep` as it lies in its frame. It holds no reference, and no more bytes than a call: every
/// invocation would pay for it (`InvocationView`).
package struct TransactionStepView {
    package private(set) var kind = TransactionStep.Kind.commit
    package private(set) var id: UInt64 = 0
    package private(set) var timestamp = Timestamp.zero
    package private(set) var priority: UInt64 = 0
    package private(set) var incarnation: UInt64 = 0
    package private(set) var statement: UInt32 = 0
    package private(set) var isolation = InvocationScope.Isolation.readCommitted
    /// The message, which has been read once: its lists are intact.
    private let body: ByteView

    /// Nil for a kind or an isolation level that this version does not know.
    init?(_ message: ByteView) throws(DatabaseError) {
        body = message
        _ = try ParticipantList(message, field: 4)
        var reader = ByteReader(message), kind: UInt64 = 0, level: UInt64 = 0, waits = 0
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3, 7 << 3, 8 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                switch tag >> 3 {
                case 1: kind = value
                case 7: statement = UInt32(truncatingIfNeeded: value)
                default: level = value
                }
            case 2 << 3 | 1, 3 << 3 | 1, 5 << 3 | 1, 6 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                switch tag >> 3 {
                case 2: id = value
                case 3: timestamp = Timestamp(rawValue: value)
                case 5: priority = value
                default: incarnation = value
                }
            case 9 << 3 | 2:
                guard let wait = reader.delimited(), waits < LockWait.limit else { throw Wire.malformed }
                _ = try LockWait(wait)
                waits += 1
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        guard let raw = UInt8(exactly: kind), let known = TransactionStep.Kind(rawValue: raw),
            let isolation = InvocationScope.Isolation(wire: level)
        else { return nil }
        guard id != 0 || known == .sample else { throw Wire.malformed }
        (self.kind, self.isolation) = (known, isolation)
    }

    package var participants: ParticipantList { ParticipantList(intact: body, field: 4) }

    package var waits: [LockWait] {
        var reader = ByteReader(body), waits: [LockWait] = []
        while let tag = reader.varint() {
            if tag == 9 << 3 | Wire.delimited {
                guard let message = reader.delimited(), let wait = try? LockWait(message) else { break }
                waits.append(wait)
            } else if !Wire.skip(tag & 7, in: &reader) {
                break
            }
        }
        return waits
    }

    /// As a value, for whoever keeps it.
    package var step: TransactionStep {
        var step = TransactionStep(kind, id: id, timestamp: timestamp, participants: participants.slots)
        (step.priority, step.incarnation) = (priority, incarnation)
        (step.statement, step.isolation, step.waits) = (statement, isolation, waits)
        return step
    }
}

/// A transaction that waits for a lock that another one has, or wants before it (`LockWait`).
package struct LockWait: Hashable, Sendable {
    /// How many one report may have.
    package static let limit = 4096

    package var waiterPriority: UInt64
    package var waiter: UInt64
    package var holderPriority: UInt64
    package var holder: UInt64

    package init(waiter: UInt64, priority waiterPriority: UInt64, holder: UInt64, priority holderPriority: UInt64) {
        (self.waiter, self.waiterPriority) = (waiter, waiterPriority)
        (self.holder, self.holderPriority) = (holder, holderPriority)
    }

    init(_ message: ByteView) throws(DatabaseError) {
        (waiterPriority, waiter, holderPriority, holder) = (0, 0, 0, 0)
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3 | 1, 2 << 3 | 1, 3 << 3 | 1, 4 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                switch tag >> 3 {
                case 1: waiterPriority = value
                case 2: waiter = value
                case 3: holderPriority = value
                default: holder = value
                }
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
    }

    func appendField(_ field: UInt8, to buffer: inout ByteBuffer) {
        var message = ByteBuffer(capacity: 40)
        message.appendField(1, fixed: waiterPriority)
        message.appendField(2, fixed: waiter)
        message.appendField(3, fixed: holderPriority)
        message.appendField(4, fixed: holder)
        buffer.append(delimited: message.readable, tag: field << 3 | 2)
    }
}

/// The slots of a transaction's participants as they lie in their message, packed or not.
package struct ParticipantList {
    /// Not more than there are slots.
    package static let limit = 16384

    private let message: ByteView
    private let field: UInt64
    package let count: Int

    init(_ message: ByteView, field: UInt64) throws(DatabaseError) {
        (self.message, self.field) = (message, field)
        var count = 0
        guard Self.walk(message, field, { _ in count += 1 }), count <= Self.limit else { throw Wire.malformed }
        self.count = count
    }

    /// Of a message that has been read once.
    init(intact message: ByteView, field: UInt64) {
        (self.message, self.field) = (message, field)
        var count = 0
        _ = Self.walk(message, field, { _ in count += 1 })
        self.count = count
    }

    package func forEach(_ body: (UInt32) -> Void) { _ = Self.walk(message, field, body) }

    package var slots: [UInt32] {
        var slots: [UInt32] = []
        slots.reserveCapacity(count)
        forEach { slots.append($0) }
        return slots
    }

    private static func walk(_ message: ByteView, _ field: UInt64, _ body: (UInt32) -> Void) -> Bool {
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { return false }
            if tag == field << 3 | Wire.delimited {
                guard let packed = reader.delimited() else { return false }
                var list = ByteReader(packed)
                while !list.isAtEnd {
                    guard let value = list.varint() else { return false }
                    body(UInt32(truncatingIfNeeded: value))
                }
            } else if tag == field << 3 | Wire.varint {
                guard let value = reader.varint() else { return false }
                body(UInt32(truncatingIfNeeded: value))
            } else if !Wire.skip(tag & 7, in: &reader) {
                return false
            }
        }
        return true
    }

    static func encode(_ slots: [UInt32], field: UInt64, into buffer: inout ByteBuffer) {
        guard !slots.isEmpty else { return }
        buffer.append(varint: field << 3 | Wire.delimited)
        buffer.append(varint: UInt64(slots.reduce(0) { $0 + varintSize(UInt64($1)) }))
        for slot in slots { buffer.append(varint: UInt64(slot)) }
    }
}
