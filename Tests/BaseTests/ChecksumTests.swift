import Base
import TestKit
import Testing

@Suite("Checksums")
struct ChecksumTests {
    /// RFC 3720, B.4, and the check value of the catalogue.
    static let vectors: [(Bytes, UInt32)] = [
        (Bytes("123456789".utf8), 0xE306_9283),
        (Bytes(repeating: 0, count: 32), 0x8A91_36AA),
        (Bytes(repeating: 0xff, count: 32), 0x62A8_AB43),
        (Bytes(0..<32), 0x46DD_794E),
        ([], 0),
    ]

    @Test("CRC-32C gives the known values by instruction and by table", arguments: vectors)
    func known(_ input: Bytes, _ expected: UInt32) {
        #expect(input.withUnsafeBytes { CRC32C.checksum($0) } == expected)
        #expect(input.withUnsafeBytes { CRC32C.software($0) } == expected)
    }

    @Test("both ways agree on any length, alignment and split")
    func agreement() {
        let seed = freshSeed("CRC-32C")
        var random = SplitMix64(seed: seed)
        let bytes = random.bytes(5000)
        bytes.withUnsafeBytes { all in
            for _ in 0..<2000 {
                let start = Int(random.next(below: 2000))
                let end = start + Int(random.next(below: UInt64(bytes.count - start)))
                let middle = start + Int(random.next(below: UInt64(end - start + 1)))
                let whole = CRC32C.checksum(ByteView(rebasing: all[start..<end]))
                let first = CRC32C.checksum(ByteView(rebasing: all[start..<middle]))
                #expect(whole == CRC32C.software(ByteView(rebasing: all[start..<end])), "seed \(seed)")
                #expect(whole == CRC32C.checksum(ByteView(rebasing: all[middle..<end]), extending: first))
                #expect(whole == CRC32C.software(ByteView(rebasing: all[middle..<end]), extending: first))
            }
        }
    }

    @Test("CRC-16 is XMODEM, by bits and by slices of eight")
    func crc16() {
        func byBits(_ bytes: Bytes) -> UInt16 {
            bytes.reduce(0) { crc, byte in
                (0..<8).reduce(crc ^ UInt16(byte) << 8) { sum, _ in sum & 0x8000 != 0 ? sum << 1 ^ 0x1021 : sum << 1 }
            }
        }
        #expect(Bytes("123456789".utf8).withUnsafeBytes { CRC16.checksum($0) } == 0x31C3)
        var random = SplitMix64(seed: 1)
        for length in 0..<64 {
            let bytes = random.bytes(length)
            #expect(bytes.withUnsafeBytes { CRC16.checksum($0) } == byBits(bytes))
        }
    }
}
