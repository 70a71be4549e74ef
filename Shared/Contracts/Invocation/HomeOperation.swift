import Base

/// A command of a transaction whose driver is a node, its home (Proto/invocation.proto).
package struct HomeOperation: Hashable, Sendable {
    package enum Kind: UInt8, CaseIterable, Hashable, Sendable {
        case execute = 0, begin = 1, join = 2, leave = 3
        case savepoint = 4, release = 5, rollBackTo = 6
        case commit = 7, rollBack = 8, status = 9
        case statement = 10, point = 11
    }

    /// What a transaction is to be like.
    package struct Options: Hashable, Sendable {
        package var isolation = InvocationScope.Isolation.readCommitted
        package var isReadOnly = false
        /// Zero: at no time of the past.
        package var asOf = Timestamp.zero
        /// A statement that is refused fails the transaction.
        package var failsWhole = false
        /// Milliseconds; 0: any time, and of locks as the nodes are set.
        package var timeLimit: UInt64 = 0, idleLimit: UInt64 = 0, lockTimeout: UInt32 = 0
        /// Lower is older; 0: by the home's clock.
        package var priority: UInt64 = 0

        package init() {}
    }

    /// What a statement has for one shard: an encoded `CallBatch`, and a slot of the shard.
    package struct Share: Hashable, Sendable {
        package let slot: UInt32, calls: Bytes
        /// As its calls are, whatever the sender believes.
        package let isWrite: Bool
        /// Of one that was decoded.
        package var callCount = 0, watchCount = 0

        package init(slot: UInt32, calls: Bytes, isWrite: Bool) {
            (self.slot, self.calls, self.isWrite) = (slot, calls, isWrite)
        }
    }

    /// Shares of one statement: there are not more slots.
    package static let shareLimit = 16384

    package var kind: Kind
    package var token: TransactionToken
    /// The transaction is to be opened first.
    package var begin: Options?
    package var name: Bytes = []
    package var shares: [Share] = []
    /// Of `statement`: an encoded `QueryRequest`.
    package var statement: Bytes = []
    /// Of `point`: the statement's name, and how long it waits for its lock, in milliseconds; `.max`: any time.
    package var number: UInt64 = 0, lockTimeout: UInt32 = 0
    package var lock = InvocationScope.LockMode.none
    package var wait = InvocationScope.WaitPolicy.wait

    package init(_ kind: Kind, _ token: TransactionToken) { (self.kind, self.token) = (kind, token) }

    // MARK: Encoding

    /// Writes the message, for `InvocationBatchEncoder.append(id:connection:slot:principal:home:)`.
    package func encode(into buffer: inout ByteBuffer) {
        buffer.appendField(1, varint: UInt64(kind.rawValue))
        buffer.appendField(2, varint: UInt64(token.home.rawValue))
        buffer.appendField(3, fixed: token.high)
        buffer.appendField(4, fixed: token.low)
        if let begin {
            var message = ByteBuffer(capacity: 64)
            begin.encode(into: &message)
            buffer.append(delimited: message.readable, tag: 5 << 3 | 2)
        }
        if !name.isEmpty { name.withUnsafeBytes { buffer.append(delimited: $0, tag: 6 << 3 | 2) } }
        for share in shares {
            share.calls.withUnsafeBytes { calls in
                let slotSize = share.slot == 0 ? 0 : 1 + varintSize(UInt64(share.slot))
                buffer.append(7 << 3 | 2)
                buffer.append(varint: UInt64(slotSize + 1 + varintSize(UInt64(calls.count)) + calls.count))
                buffer.appendField(1, varint: UInt64(share.slot))
                buffer.append(delimited: calls, tag: 2 << 3 | 2)
            }
        }
        buffer.appendField(8, varint: UInt64(lock.rawValue))
        buffer.appendField(9, varint: UInt64(wait.rawValue))
        if !statement.isEmpty { statement.withUnsafeBytes { buffer.append(delimited: $0, tag: 10 << 3 | 2) } }
        buffer.appendField(11, fixed: number)
        buffer.appendField(12, varint: UInt64(lockTimeout))
    }

    // MARK: Decoding

    /// Every call of it has been read once. Throws for what is malformed, and for what this version does not know.
    package init(decoding message: ByteView, _ decoder: InvocationBatchDecoder) throws(DatabaseError) {
        var kind: UInt64 = 0, node: UInt64 = 0, high: UInt64 = 0, low: UInt64 = 0, mode: UInt64 = 0, policy: UInt64 = 0
        var name: Bytes = [], begin: Options?, shares: [Share] = [], statement: Bytes = []
        var number: UInt64 = 0, lockTimeout: UInt64 = 0
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3, 2 << 3, 8 << 3, 9 << 3, 12 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                switch tag >> 3 {
                case 1: kind = value
                case 2: node = value
                case 8: mode = value
                case 12: lockTimeout = value
                default: policy = value
                }
            case 3 << 3 | 1, 4 << 3 | 1, 11 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                switch tag >> 3 {
                case 3: high = value
                case 4: low = value
                default: number = value
                }
            case 5 << 3 | 2, 6 << 3 | 2, 7 << 3 | 2, 10 << 3 | 2:
                guard let value = reader.delimited() else { throw Wire.malformed }
                switch tag >> 3 {
                case 5: begin = try Options(value)
                case 6: name = value.bytes
                case 10: statement = value.bytes
                default:
                    guard shares.count < Self.shareLimit else { throw Wire.malformed }
                    shares.append(try Share(value, decoder))
                }
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        guard let known = UInt8(exactly: kind).flatMap(Kind.init),
            let lock = UInt8(exactly: mode).flatMap(InvocationScope.LockMode.init),
            let wait = UInt8(exactly: policy).flatMap(InvocationScope.WaitPolicy.init)
        else { throw Self.unknown }
        let home = NodeID(rawValue: UInt32(truncatingIfNeeded: node))
        self.init(known, TransactionToken(home: home, high: high, low: low))
        (self.begin, self.name, self.shares, self.lock, self.wait) = (begin, name, shares, lock, wait)
        (self.statement, self.number) = (statement, number)
        self.lockTimeout = UInt32(truncatingIfNeeded: lockTimeout)
    }

    static let unknown = DatabaseError(.featureNotSupported, "This node does not know the operation")
}

extension HomeOperation.Options {
    func encode(into buffer: inout ByteBuffer) {
        buffer.appendField(1, varint: UInt64(isolation.rawValue))
        buffer.appendField(2, varint: isReadOnly ? 1 : 0)
        buffer.appendField(3, fixed: asOf.rawValue)
        buffer.appendField(4, varint: failsWhole ? 1 : 0)
        buffer.appendField(5, varint: timeLimit)
        buffer.appendField(6, varint: idleLimit)
        buffer.appendField(7, varint: UInt64(lockTimeout))
        buffer.appendField(8, fixed: priority)
    }

    init(_ message: ByteView) throws(DatabaseError) {
        var reader = ByteReader(message), level: UInt64 = 0
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3, 2 << 3, 4 << 3, 5 << 3, 6 << 3, 7 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                switch tag >> 3 {
                case 1: level = value
                case 2: isReadOnly = value != 0
                case 4: failsWhole = value != 0
                case 5: timeLimit = value
                case 6: idleLimit = value
                default: lockTimeout = UInt32(truncatingIfNeeded: value)
                }
            case 3 << 3 | 1, 8 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                if tag >> 3 == 3 { asOf = Timestamp(rawValue: value) } else { priority = value }
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        guard let known = InvocationScope.Isolation(wire: level) else { throw HomeOperation.unknown }
        isolation = known
    }
}

extension HomeOperation.Share {
    fileprivate init(_ message: ByteView, _ decoder: InvocationBatchDecoder) throws(DatabaseError) {
        var slot: UInt64 = 0, calls = ByteView(start: nil, count: 0)
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                slot = value
            case 2 << 3 | 2:
                guard let value = reader.delimited() else { throw Wire.malformed }
                calls = value
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        try self.init(slot: UInt32(truncatingIfNeeded: slot), checking: calls, decoder)
    }

    /// Of calls that somebody else has encoded: refused are those that this version does not know, and what has a life
    /// of its own.
    package init(slot: UInt32, checking calls: ByteView, _ decoder: InvocationBatchDecoder) throws(DatabaseError) {
        guard let batch = try CallBatchView(calls, decoder) else {
            throw DatabaseError(.featureNotSupported, "A call that this node does not know")
        }
        guard !batch.isPart, batch.token == nil else {
            throw DatabaseError(.invalidArgument, "A statement is no part of another transaction, and has no token")
        }
        self.init(slot: slot, calls: calls.bytes, isWrite: batch.isWrite)
        (callCount, watchCount) = (batch.callCount, batch.watchCount)
    }
}
