import Base
import CProto
import Contracts
import TestKit
import Testing

/// GET and SET of "a" as encoded batches of calls.
private func batch(_ method: Contracts.Method) -> Bytes {
    let call: Bytes = [1 << 3, UInt8(method.rawValue), 3 << 3 | 2, 1, 0x61]
    return [2 << 3 | 2, UInt8(call.count)] + call
}

extension HomeOperation {
    fileprivate static func random(_ random: inout SplitMix64) -> HomeOperation {
        func magnitude() -> UInt64 { random.next(below: 3) == 0 ? 0 : random.next() >> random.next(below: 64) }
        func pick<Value>(_ values: [Value]) -> Value { values[Int(random.next(below: UInt64(values.count)))] }
        let token = TransactionToken(
            home: NodeID(rawValue: UInt32(truncatingIfNeeded: magnitude())), high: magnitude(), low: magnitude())
        var operation = HomeOperation(pick(Kind.allCases.filter { $0 != .statement }), token)
        (operation.number, operation.lockTimeout) = (magnitude(), UInt32(truncatingIfNeeded: magnitude()))
        if random.next(below: 2) == 0 {
            var begin = Options()
            (begin.isolation, begin.isReadOnly) = (pick(InvocationScope.Isolation.allCases), random.next(below: 2) == 0)
            (begin.asOf, begin.failsWhole) = (Timestamp(rawValue: magnitude()), random.next(below: 2) == 0)
            (begin.timeLimit, begin.idleLimit, begin.priority) = (magnitude(), magnitude(), magnitude())
            begin.lockTimeout = UInt32(truncatingIfNeeded: magnitude())
            operation.begin = begin
        }
        operation.name = (0..<random.next(below: 4)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        for _ in 0..<random.next(below: 4) {
            let isWrite = random.next(below: 2) == 0
            let slot = UInt32(truncatingIfNeeded: magnitude())
            operation.shares.append(Share(slot: slot, calls: batch(isWrite ? .set : .get), isWrite: isWrite))
        }
        (operation.lock, operation.wait) = (
            pick(InvocationScope.LockMode.allCases), pick(InvocationScope.WaitPolicy.allCases)
        )
        return operation
    }

    fileprivate var encoded: Bytes {
        var buffer = ByteBuffer()
        encode(into: &buffer)
        return buffer.readable.bytes
    }

    fileprivate init(_ bytes: Bytes) throws(DatabaseError) {
        self = try bytes.withView { view throws(DatabaseError) in
            try HomeOperation(decoding: view, InvocationBatchDecoder())
        }
        // Counts are of decoding alone.
        shares = shares.map { Share(slot: $0.slot, calls: $0.calls, isWrite: $0.isWrite) }
    }
}

@Suite("Commands of transactions at their home")
struct HomeOperationTests {
    @Test("a token is written in one way, and nothing else is one")
    func tokens() {
        let token = TransactionToken(home: NodeID(rawValue: 12), high: 0xAB, low: .max)
        #expect(token.description == "12-00000000000000abffffffffffffffff")
        #expect(TransactionToken(parsing: token.description) == token)
        let text = token.description
        let others = [
            "", "-", "12", "12-", String(text.dropFirst(3)), text + "0", String(text.dropLast()), "0" + text,
            text.uppercased(), "+" + text, "-1" + text.dropFirst(2), "4294967296" + text.dropFirst(2),
            text.replacing("a", with: "g"), text.replacing("ab", with: "+b"), "１２" + text.dropFirst(2), text + "\n",
        ]
        for other in others { #expect(TransactionToken(parsing: other) == nil, "\(other)") }
    }

    @Test("a command is byte for byte what protobuf-c writes, and is read back")
    func matchesProtobuf() throws {
        let seed = freshSeed("commands of transactions")
        var random = SplitMix64(seed: seed)
        for _ in 0..<500 {
            let operation = HomeOperation.random(&random), bytes = operation.encoded
            #expect(try HomeOperation(bytes) == operation, "seed \(seed)")
            let message = try #require(orbit__v1__home_operation__unpack(nil, bytes.count, bytes))
            defer { orbit__v1__home_operation__free_unpacked(message, nil) }
            var packed = Bytes(repeating: 0, count: orbit__v1__home_operation__get_packed_size(message))
            orbit__v1__home_operation__pack(message, &packed)
            #expect(packed == bytes, "seed \(seed)")
        }
    }

    @Test("it travels in an invocation, with the principal, and is no call to a shard")
    func travels() throws {
        let operation = HomeOperation(.commit, TransactionToken(home: NodeID(rawValue: 3), high: 1, low: 2))
        var encoder = InvocationBatchEncoder(session: 9)
        encoder.begin(bookmark: .zero, schemaVersion: 0, mapEpoch: MapEpoch(rawValue: 3))
        Array("alice".utf8).withUnsafeBytes { principal in
            operation.encoded.withUnsafeBytes {
                encoder.append(id: 5, connection: 6, slot: 1 << 20, principal: principal, home: $0)
            }
        }
        var seen: Bytes?, resent: Bytes?
        try InvocationBatchDecoder().decode(encoder.message) { view in
            #expect((view.id, view.connection, view.slot) == (5, 6, 1 << 20) && view.hasTerms)
            #expect(view.principal.bytes == Array("alice".utf8))
            if case .home(let message) = view.operation { seen = message.bytes }
            resent = view.body.bytes
        }
        #expect(seen == operation.encoded && resent != nil)
    }

    @Test("calls with a life of their own, or that nobody knows, are refused; what is cut or changed reaches no trap")
    func refusals() throws {
        let token = TransactionToken(home: NodeID(rawValue: 3), high: 1, low: 2)
        var operation = HomeOperation(.execute, token)
        for (calls, code) in [
            ([2 << 3 | 2, 3, 1 << 3, 0xFF, 0x7F] as Bytes, ErrorCode.featureNotSupported),
            (batch(.get) + [3 << 3 | 2, 9, 1 << 3 | 1, 1, 0, 0, 0, 0, 0, 0, 0], .invalidArgument),
            ([2 << 3 | 2, 200], .protocolViolation),
        ] {
            operation.shares = [.init(slot: 0, calls: calls, isWrite: false)]
            let bytes = operation.encoded
            #expect { try HomeOperation(bytes) } throws: { ($0 as? DatabaseError)?.code == code }
        }
        // A write that claims to be a read is one.
        operation.shares = [.init(slot: 0, calls: batch(.set), isWrite: false)]
        #expect(try HomeOperation(operation.encoded).shares.first?.isWrite == true)

        let seed = freshSeed("commands of transactions")
        var random = SplitMix64(seed: seed), refused = 0
        for _ in 0..<2_000 {
            var bytes = HomeOperation.random(&random).encoded
            guard !bytes.isEmpty else { continue }
            let place = Int(random.next(below: UInt64(bytes.count)))
            if random.next(below: 2) == 0 {
                bytes.removeSubrange(place...)
            } else {
                bytes[place] = UInt8(truncatingIfNeeded: random.next())
            }
            if (try? HomeOperation(bytes)) == nil { refused += 1 }
        }
        #expect(refused > 0, "seed \(seed)")
    }

    @Test("how a transaction stands is read as it was written")
    func status() throws {
        for state in TransactionStatus.State.allCases {
            var status = TransactionStatus()
            (status.state, status.id, status.isolation, status.isReadOnly) = (state, 77, .serializable, true)
            (status.failure, status.readTimestamp) = (DatabaseError(.deadlock, "chosen"), Timestamp(rawValue: 9))
            (status.statements, status.shards, status.members) = (3, 2, 4)
            status.savepoints = [[1, 2], []]
            let bytes = status.encode()
            #expect(try bytes.withUnsafeBytes { try TransactionStatus(decoding: $0) } == status)
        }
        let empty = TransactionStatus().encode()
        #expect(try empty.withUnsafeBytes { try TransactionStatus(decoding: $0) } == TransactionStatus())
    }
}
