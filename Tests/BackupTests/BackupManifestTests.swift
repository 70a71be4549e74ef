import Backup
import Base
import TestKit
import Testing

/// Manifests, whatever a disk makes of them.
@Suite("Backup manifest")
struct BackupManifestTests {
    private static var sample: BackupManifest {
        var manifest = BackupManifest(
            number: 3, cluster: .max, timestamp: Timestamp(milliseconds: 99, counter: 4), bucketCount: 4)
        (manifest.base, manifest.baseID, manifest.shards) = (2, Bytes(0..<16), 5)
        (manifest.beganMilliseconds, manifest.endedMilliseconds) = (1 << 40, 1 << 41)
        manifest.files = [
            .init(backup: 1, number: 0, size: 1 << 33, checksum: 7),
            .init(backup: 3, number: 63, size: 9000, checksum: 0),
        ]
        for bucket in [0, 2] {
            manifest.buckets[bucket] = (1...3).map { number in
                StoredPiece(
                    from: [0, UInt8(bucket), UInt8(number)], file: UInt32(number % 2), offset: UInt64(number * 1000),
                    size: 500, records: 20, digest: Bytes(repeating: UInt8(number), count: 32))
            }
        }
        return manifest
    }

    private func decode(_ bytes: Bytes) throws(DatabaseError) -> BackupManifest {
        try bytes.withView { view throws(DatabaseError) in try BackupManifest(decoding: view) }
    }

    @Test("a manifest survives its bytes, and no damage of them is taken for one")
    func bytes() throws {
        var random = SplitMix64(seed: freshSeed("backup manifest"))
        let bytes = Self.sample.encode()
        #expect(try decode(bytes) == Self.sample)
        #expect(Self.sample.records == 120 && Self.sample.pieceCount == 6 && Self.sample.addedBytes == 9000)
        for cut in Damage.truncations(of: bytes) { #expect(throws: DatabaseError.self) { try decode(cut) } }
        for copy in Damage.corruptions(of: bytes, count: 500, using: &random) where copy != bytes {
            #expect(throws: DatabaseError.self) { try decode(copy) }
        }
        // With a checksum that fits, whatever the rest says: a value or an error, never a trap.
        for copy in Damage.corruptions(of: Bytes(bytes.dropLast(4)), count: 3000, using: &random) {
            var sealed = copy
            let checksum = copy.withUnsafeBytes { CRC32C.checksum($0) }
            withUnsafeBytes(of: checksum.littleEndian) { sealed.append(contentsOf: $0) }
            guard let value = try? decode(sealed) else { continue }
            for piece in value.buckets.joined() {
                #expect(Int(piece.file) < value.files.count && piece.size <= UInt64(Piece.limit))
            }
        }
    }

    @Test("pieces of no bucket, in no order, or outside of their files are refused")
    func impossible() {
        let wrong: [(inout BackupManifest) -> Void] = [
            { $0.buckets[0][0].from = [0, 1, 1] },
            { $0.buckets[0][0].from = [0, 0, 2] },
            { $0.buckets[0].swapAt(0, 1) },
            { $0.buckets[0][0].file = 2 },
            { $0.buckets[0][0].offset = 9000 },
            { $0.buckets[0][0].offset = 8600 },
            { $0.buckets[0][0].size = 0 },
            { $0.buckets[0][0].size = UInt64(Piece.limit) + 1 },
            { $0.buckets[0][0].records = 501 },
            { $0.files[0].backup = 4 },
            { $0.files[0].backup = 0 },
            { $0.number = 0 },
            { $0.base = 3 },
        ]
        for change in wrong {
            var manifest = Self.sample
            change(&manifest)
            #expect(throws: DatabaseError.self) { try decode(manifest.encode()) }
        }
    }
}
