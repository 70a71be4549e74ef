import Base
import CProto
import Contracts
import TestKit
import Testing

extension InvocationScope {
    /// Fields of every magnitude, some of them at their defaults.
    fileprivate static func random(_ random: inout SplitMix64) -> InvocationScope {
        func magnitude() -> UInt64 { random.next(below: 3) == 0 ? 0 : random.next() >> random.next(below: 64) }
        var scope = InvocationScope(asOf: Timestamp(rawValue: magnitude()))
        scope.isolation = Isolation.allCases[Int(random.next(below: 3))]
        (scope.priority, scope.incarnation) = (magnitude(), magnitude())
        scope.statement = UInt32(truncatingIfNeeded: magnitude())
        scope.lock = LockMode.allCases[Int(random.next(below: 3))]
        scope.wait = WaitPolicy.allCases[Int(random.next(below: 3))]
        scope.lockTimeoutMilliseconds = UInt32(truncatingIfNeeded: magnitude())
        scope.time = Int64(bitPattern: magnitude())
        return scope
    }
}

/// GET of "a" as an encoded call, and a batch of it.
private let call: Bytes = [1 << 3, UInt8(Method.get.rawValue), 3 << 3 | 2, 1, 0x61]
private let batch: Bytes = [2 << 3 | 2, UInt8(call.count)] + call

private func framed(_ scopes: [(transaction: UInt64, scope: InvocationScope)]) -> Bytes {
    var encoder = InvocationBatchEncoder(session: 9)
    encoder.begin(bookmark: .zero, schemaVersion: 0, mapEpoch: MapEpoch(rawValue: 3))
    for (position, (transaction, scope)) in scopes.enumerated() {
        let id = UInt64(position) * 100 + 1
        if position % 2 == 0 {
            call.withUnsafeBytes {
                encoder.append(id: id, connection: 5, slot: 300, transaction: transaction, scope: scope, call: $0)
            }
        } else {
            batch.withUnsafeBytes {
                encoder.append(id: id, connection: 0, slot: 0, transaction: transaction, scope: scope, batch: $0)
            }
        }
    }
    return encoder.message.bytes
}

/// An invocation of GET whose further fields are given as they are encoded.
private func framed(fields: Bytes) -> Bytes {
    let message = fields + [0x82, 1, UInt8(call.count)] + call
    return [InvocationView.tag, UInt8(message.count)] + message
}

private func isRefused(_ frame: Bytes) -> Bool {
    frame.withUnsafeBytes { frame in
        do { try InvocationBatchDecoder().decode(frame) { _ in } } catch { return true }
        return false
    }
}

@Suite("Scopes of invocations")
struct InvocationScopeTests {
    @Test("a scope is byte for byte what protobuf-c writes, and is read back")
    func matchesProtobuf() throws {
        var random = SplitMix64(seed: freshSeed("invocation scopes"))
        for _ in 0..<100 {
            let scopes = (0..<5).map { position in
                (transaction: position == 2 ? 0 : random.next() | 1, scope: InvocationScope.random(&random))
            }
            let bytes = framed(scopes)
            #expect(repackedBatch(bytes) == bytes)
            var seen = 0
            try bytes.withUnsafeBytes { frame in
                try InvocationBatchDecoder().decode(frame) { view in
                    let (transaction, scope) = scopes[seen]
                    #expect(view.hasTerms && view.hasScope && view.scope == scope && view.transaction == transaction)
                    #expect(view.id == UInt64(seen) * 100 + 1)
                    switch view.operation {
                    case .call(let call): #expect(seen % 2 == 0 && call.method == .get && call.key.bytes == [0x61])
                    case .batch(let batch): #expect(seen % 2 == 1 && batch.callCount == 1)
                    case .record, .step, .home, .unknown: Issue.record("neither a call nor a batch")
                    }
                    seen += 1
                }
            }
            #expect(seen == scopes.count)
        }
    }

    @Test("an invocation without one has none")
    func absent() throws {
        try framed(fields: [1 << 3, 1]).withUnsafeBytes { frame in
            try InvocationBatchDecoder().decode(frame) {
                #expect(!$0.hasScope && !$0.hasTerms && $0.scope == nil && $0.transaction == 0)
            }
        }
    }

    @Test("a level, mode or policy of a later version is not taken for one of ours; unknown fields are skipped")
    func unknown() throws {
        func scope(_ message: Bytes) throws -> (hasScope: Bool, scope: InvocationScope?) {
            var seen: (Bool, InvocationScope?) = (false, nil)
            let frame = framed(fields: [15 << 3 | 2, UInt8(message.count)] + message)
            try frame.withUnsafeBytes { frame in
                try InvocationBatchDecoder().decode(frame) { seen = ($0.hasScope, $0.scope) }
            }
            return seen
        }
        for field: UInt8 in [2, 6, 7] {
            #expect(try scope([field << 3, 2]).scope != nil)
            for value: Bytes in [[3], [0x82, 2], [0x82, 0x80, 0x80, 0x80, 0x80, 1]] {
                let seen = try scope([field << 3] + value)
                #expect(seen.hasScope && seen.scope == nil)
            }
        }
        let seen = try scope([14 << 3 | 2, 1, 0, 5 << 3, 9])
        #expect(seen.scope?.statement == 9)
        #expect(try scope([]).scope == InvocationScope())
    }

    @Test("a scope that is cut is malformed")
    func malformed() {
        #expect(!isRefused(framed(fields: [15 << 3 | 2, 2, 5 << 3, 1])))
        #expect(isRefused(framed(fields: [15 << 3 | 2, 1, 5 << 3])))
        #expect(isRefused(framed(fields: [15 << 3 | 2, 3, 1 << 3 | 1, 1, 1])))
        #expect(isRefused(framed(fields: [15 << 3 | 2, 0x7F])))
    }

    @Test("steps of interactive transactions are what protobuf-c writes, and are read back; SAMPLE is of none")
    func steps() throws {
        var random = SplitMix64(seed: freshSeed("interactive steps"))
        for kind in TransactionStep.Kind.allCases {
            var step = TransactionStep(
                kind, id: kind == .sample ? 0 : random.next() | 1, timestamp: Timestamp(rawValue: random.next()),
                participants: [1, 9000])
            (step.priority, step.incarnation) = (random.next(), random.next())
            (step.statement, step.isolation) = (UInt32(random.next(below: 1 << 32)), .serializable)
            if kind == .waits {
                step.waits = (0..<3).map { _ in
                    LockWait(waiter: random.next(), priority: 0, holder: random.next(), priority: random.next())
                }
            }
            var encoder = InvocationBatchEncoder(session: 9)
            encoder.begin(bookmark: .zero, schemaVersion: 0, mapEpoch: MapEpoch(rawValue: 3))
            encoder.append(id: 7, connection: 0, slot: 16383, step: step)
            let bytes = encoder.message.bytes
            #expect(repackedBatch(bytes) == bytes)
            var seen: TransactionStep?
            try bytes.withUnsafeBytes { frame in
                try InvocationBatchDecoder().decode(frame) { view in
                    if case .step(let view) = view.operation { seen = view.step }
                }
            }
            #expect(seen == step)
        }
        // A level that is not known makes the step unknown.
        var isUnknown = false
        let step: Bytes = [0x9A, 1, 11, 2 << 3 | 1, 1, 0, 0, 0, 0, 0, 0, 0, 8 << 3, 9]
        try ([6 << 3 | 2, UInt8(step.count)] + step).withUnsafeBytes { frame in
            try InvocationBatchDecoder().decode(frame) {
                if case .unknown = $0.operation { isUnknown = true }
            }
        }
        #expect(isUnknown)
    }

    @Test("truncated and corrupted scopes are refused or read, never a trap")
    func damage() {
        var random = SplitMix64(seed: freshSeed("invocation scopes"))
        let decoder = InvocationBatchDecoder()
        let original = framed((0..<4).map { _ in (random.next(), InvocationScope.random(&random)) })
        var frames = (0..<original.count).map { Bytes(original[..<$0]) }
        frames += Damage.corruptions(of: original, count: 3000, using: &random)
        for frame in frames {
            frame.withUnsafeBytes { view in
                try? decoder.decode(view) { _ = $0.scope }
            }
        }
    }
}
