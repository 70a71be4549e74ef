import Base
import Contracts
import TestKit
import Testing

@Suite("Directory messages")
struct DirectoryMessageTests {
    private static let actor = ActiveActorMessage(
        database: 15, type: "hash", key: [0, 0xff, 0x20], shard: 7, term: .max, activeSince: 1_700_000_000_000,
        lastCalled: 1_700_000_000_123, memorySize: 416, isPending: true)

    private static let samples: [(name: String, bytes: Bytes, again: @Sendable (ByteView) throws -> Bytes)] = [
        (
            "LocateRequest", LocateRequest(database: 3, type: "string", key: Bytes(0...255)).encode(),
            { try LocateRequest(decoding: $0).encode() }
        ),
        (
            "LocateResponse",
            LocateResponse(
                bucket: 63, shard: 2, node: 300, addresses: ["unix:/tmp/ä.sock", "127.0.0.1:50051"], term: 9,
                mapEpoch: .max, actor: actor
            ).encode(), { try LocateResponse(decoding: $0).encode() }
        ),
        (
            "ListActorsRequest",
            ListActorsRequest(type: "hash", shard: 0, pageSize: 1000, pageToken: Bytes(0..<20)).encode(),
            { try ListActorsRequest(decoding: $0).encode() }
        ),
        (
            "ListActorsResponse",
            ListActorsResponse(
                actors: [actor, actor], nextPageToken: [1, 2, 3],
                shards: [.init(shard: 0, term: 1, isComplete: true), .init(shard: 9, term: .max, isComplete: false)]
            ).encode(), { try ListActorsResponse(decoding: $0).encode() }
        ),
    ]

    @Test("survive their bytes, field by field")
    func roundTrip() throws {
        for (name, bytes, again) in Self.samples {
            #expect(try bytes.withUnsafeBytes(again) == bytes, "\(name)")
        }
        for shard in [nil, 0, 7] as [UInt32?] {
            let request = ListActorsRequest(shard: shard)
            #expect(try request.encode().withUnsafeBytes { try ListActorsRequest(decoding: $0) } == request)
        }
        let idle = LocateResponse(bucket: 1, shard: 2, node: 3, addresses: [], term: 4, mapEpoch: 5, actor: nil)
        #expect(try idle.encode().withUnsafeBytes { try LocateResponse(decoding: $0) } == idle)
    }

    @Test("do not trap when cut or damaged", arguments: 1...10)
    func damaged(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for (_, bytes, again) in Self.samples {
            let broken = Damage.truncations(of: bytes) + Damage.corruptions(of: bytes, count: 300, using: &random)
            for message in broken { _ = try? message.withUnsafeBytes(again) }
        }
    }
}
