import Base
import Contracts
import TestKit
import Testing

/// Messages of backups: what is written is read, and what is damaged is refused or is a value.
@Suite("Backup messages")
struct BackupMessageTests {
    private static let pieces = [
        BackupPiece(from: [0, 1], size: 7, digest: Bytes(0..<32)),
        BackupPiece(from: [0, 1, 2], size: .max, digest: []),
    ]

    private static var step: RestoreStep {
        var step = RestoreStep(.load, backup: Bytes(0..<16), bucket: 63)
        (step.timestamp, step.buckets) = (Timestamp(milliseconds: 5, counter: 1), 64)
        (step.piece, step.records, step.pieces) = (1 << 40, [1, 0, 2], pieces)
        return step
    }

    private func check<Message: Hashable>(
        _ message: Message, _ bytes: Bytes, _ decode: (ByteView) throws(DatabaseError) -> Message
    ) throws {
        #expect(try bytes.withView { view throws(DatabaseError) in try decode(view) } == message)
        var random = SplitMix64(seed: freshSeed("backup messages"))
        for copy in Damage.corruptions(of: bytes, count: 200, using: &random) {
            _ = try? copy.withView { view throws(DatabaseError) in try decode(view) }
        }
    }

    @Test("what is written is read")
    func roundTrips() throws {
        let begin = BackupBegin(backup: .max, holdMilliseconds: 30_000)
        try check(begin, begin.encode()) { view throws(DatabaseError) in try BackupBegin(decoding: view) }
        let began = BackupBegan(timestamp: Timestamp(rawValue: 1 << 60), cluster: 9, buckets: 64, shards: 3)
        try check(began, began.encode()) { view throws(DatabaseError) in try BackupBegan(decoding: view) }
        let read = BackupRead(backup: 1, timestamp: Timestamp(rawValue: 2), bucket: 3, known: Self.pieces)
        try check(read, read.encode()) { view throws(DatabaseError) in try BackupRead(decoding: view) }
        let parts: [BackupPart] = [
            .same(0), .same(.max), .changed(from: [0], records: [1, 2], digest: [3]), .end(records: 1, bytes: .max),
        ]
        for part in parts {
            try check(part, part.encode()) { view throws(DatabaseError) in try BackupPart(decoding: view) }
        }
        #expect(throws: DatabaseError.self) { try BackupPart(decoding: ByteView(start: nil, count: 0)) }
        let end = BackupEnd(backup: 5)
        try check(end, end.encode()) { view throws(DatabaseError) in try BackupEnd(decoding: view) }
        try check(Self.step, Self.step.encode()) { view throws(DatabaseError) in try RestoreStep(decoding: view) }
        for kind in RestoreStep.Kind.allCases {
            let step = RestoreStep(kind, backup: [1], bucket: 0)
            try check(step, step.encode()) { view throws(DatabaseError) in try RestoreStep(decoding: view) }
        }
        for state in RestoreAnswer.State.allCases {
            let answer = RestoreAnswer(state, backup: [4], piece: 77)
            try check(answer, answer.encode()) { view throws(DatabaseError) in try RestoreAnswer(decoding: view) }
        }
    }
}
