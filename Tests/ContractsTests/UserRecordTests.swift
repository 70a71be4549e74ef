import Base
import Contracts
import Testing

@Suite("UserRecord")
struct UserRecordTests {
    static let records = [
        UserRecord(name: "orbit"),
        UserRecord(name: "", isEnabled: false, rules: "", verifiers: []),
        UserRecord(
            name: "żółw", rules: "~cache:* +get",
            verifiers: [.init(mechanism: UserRecord.scramSHA256, text: "SCRAM-SHA-256$4096:c2FsdA==$a:b")]),
    ]

    @Test("reads back what it wrote", arguments: records)
    func roundTrip(_ record: UserRecord) throws {
        let bytes = record.encode()
        let decoded = try bytes.withUnsafeBytes { try UserRecord(decoding: $0) }
        #expect(decoded == record)
    }

    @Test("refuses every truncation and a byte too many", arguments: records)
    func truncated(_ record: UserRecord) {
        let bytes = record.encode()
        for length in 0..<bytes.count {
            #expect(throws: DatabaseError.self) {
                try bytes.prefix(length).withUnsafeBytes { try UserRecord(decoding: $0) }
            }
        }
        #expect(throws: DatabaseError.self) { try (bytes + [0]).withUnsafeBytes { try UserRecord(decoding: $0) } }
    }

    @Test("survives any single corrupted byte", arguments: records)
    func corrupted(_ record: UserRecord) {
        let bytes = record.encode()
        for position in bytes.indices {
            for value in UInt8.min...UInt8.max {
                var damaged = bytes
                damaged[position] = value
                _ = damaged.withUnsafeBytes { try? UserRecord(decoding: $0) }
            }
        }
    }

    @Test("names a newer version instead of guessing")
    func newerVersion() {
        #expect(throws: DatabaseError(.featureNotSupported, "user record of version 2: written by a newer release")) {
            try ([2, 1, 0, 0, 0] as Bytes).withUnsafeBytes { try UserRecord(decoding: $0) }
        }
    }
}
