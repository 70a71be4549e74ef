import Base
import DataModel
import TestKit
import Testing

/// What `body` appends.
func build(_ body: (inout ByteBuffer) -> Void) -> Bytes {
    var buffer = ByteBuffer()
    body(&buffer)
    return buffer.readable.bytes
}

func hex(_ bytes: Bytes) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

@Suite("NativeKeyLayout")
struct NativeKeyLayoutTests {
    let bucket = BucketID(rawValue: 5)
    let generation = Timestamp(milliseconds: 0x0102_0304_0506, counter: 0x0708)

    @Test("is frozen: keys are on disk")
    func golden() {
        Bytes("abc".utf8).withUnsafeBytes { abc in
            let hash = NativeKeyLayout.hash32(abc)
            let hashText = hex(build { $0.append(bigEndian: hash) })
            #expect(
                hex(build { NativeKeyLayout.appendRecord(bucket, database: 3, key: abc, into: &$0) })
                    == "0005" + "00000001" + "00" + "03" + hashText + "616263")
            #expect(
                hex(
                    build {
                        NativeKeyLayout.appendExpiry(bucket, atMilliseconds: 258, database: 3, key: abc, into: &$0)
                    })
                    == "0005" + "00000001" + "01" + "0000000000000102" + "03" + "616263")
            #expect(
                hex(build { NativeKeyLayout.appendHashField(bucket, generation: generation, field: abc, into: &$0) })
                    == "0005" + "00000002" + "00" + "0102030405060708" + hashText + "616263")
        }
        #expect(
            hex(build { NativeKeyLayout.appendStringChunk(bucket, generation: generation, chunk: 9, into: &$0) })
                == "0005" + "00000003" + "00" + "0102030405060708" + "00000009")
        #expect(
            hex(build { NativeKeyLayout.appendGeneration(bucket, .redisGarbage, generation, into: &$0) })
                == "0005" + "00000004" + "00" + "0102030405060708")
        #expect(
            hex(build { NativeKeyLayout.appendCounter(bucket, database: 15, into: &$0) })
                == "0005" + "00000005" + "00" + "0f")
        #expect(
            hex(build { KeyEncoding.appendRecordKey(bucket, .systemUsers, [.text("ada")], into: &$0) })
                == "0005" + "00000010" + "00" + "3061646100")
    }

    /// One key of each kind, and how it reads.
    private var samples: [Bytes] {
        Bytes("k\u{0}y".utf8).withUnsafeBytes { key in
            [
                build { NativeKeyLayout.appendRecord(bucket, database: 3, key: key, into: &$0) },
                build { NativeKeyLayout.appendExpiry(bucket, atMilliseconds: 77, database: 2, key: key, into: &$0) },
                build { NativeKeyLayout.appendHashField(bucket, generation: generation, field: key, into: &$0) },
                build { NativeKeyLayout.appendStringChunk(bucket, generation: generation, chunk: 4, into: &$0) },
                build { NativeKeyLayout.appendGeneration(bucket, .redisGarbage, generation, into: &$0) },
                build { NativeKeyLayout.appendCounter(bucket, database: 1, into: &$0) },
            ]
        }
    }

    @Test("reads back what it wrote")
    func parse() {
        let texts = samples.map { sample in
            sample.withUnsafeBytes { view -> String in
                switch NativeKey(parsing: view) {
                case .record(let b, let database, let hash, let key):
                    "\(b) record \(database) \(hash == NativeKeyLayout.hash32(key)) \(key.count)"
                case .expiry(let b, let time, let database, let key): "\(b) expiry \(time) \(database) \(key.count)"
                case .hashField(let b, let g, let hash, let field):
                    "\(b) field \(g == generation) \(hash == NativeKeyLayout.hash32(field)) \(field.count)"
                case .stringChunk(let b, let g, let chunk): "\(b) chunk \(g == generation) \(chunk)"
                case .garbage(let b, let g): "\(b) garbage \(g == generation)"
                case .counter(let b, let database): "\(b) counter \(database)"
                case nil: "nil"
                }
            }
        }
        #expect(
            texts == [
                "5 record 3 true 3", "5 expiry 77 2 3", "5 field true true 3", "5 chunk true 4", "5 garbage true",
                "5 counter 1",
            ])
    }

    @Test("refuses cut keys and survives damaged ones")
    func damage() {
        let seed = freshSeed("native keys")
        var random = SplitMix64(seed: seed)
        let fixedSizes = [12, 16, 19, 19, 15, 8]
        for (sample, size) in zip(samples, fixedSizes) {
            for cut in Damage.truncations(of: sample) {
                #expect((cut.withUnsafeBytes { NativeKey(parsing: $0) } == nil) == (cut.count < size), "\(hex(cut))")
            }
            for damaged in Damage.corruptions(of: sample, count: 500, using: &random) {
                damaged.withUnsafeBytes { _ = NativeKey(parsing: $0) }
            }
        }
    }

    @Test("the end of a range is the first key after all with the prefix")
    func rangeEnd() {
        func end(_ bytes: Bytes) -> Bytes {
            build {
                $0.append(bytes)
                NativeKeyLayout.makeRangeEnd(&$0)
            }
        }
        #expect(end([1, 2]) == [1, 3])
        #expect(end([1, 255]) == [2])
        #expect(end([255, 255]) == [])
        #expect(end([]) == [])
    }

    @Test("a cursor is its number, and walks all buckets")
    func cursors() {
        let cursor = ScanCursor(bucket: BucketID(rawValue: 63), hash: .max)
        #expect(ScanCursor(rawValue: cursor.rawValue) == cursor)
        #expect(cursor.next(bucketCount: 64) == nil)
        #expect(cursor.next(bucketCount: 128) == ScanCursor(bucket: BucketID(rawValue: 64), hash: 0))
        #expect(ScanCursor(bucket: bucket, hash: 7).next(bucketCount: 64) == ScanCursor(bucket: bucket, hash: 8))
        #expect(ScanCursor(bucket: BucketID(rawValue: 0), hash: 0).rawValue == 1)
        #expect(ScanCursor(bucket: BucketID(rawValue: 16383), hash: .max).rawValue < 1 << 53)
        for bad in [0, 1 << 33, (1 << 32) + 1, UInt64.max, 16384 << 33 | 1] as [UInt64] {
            #expect(ScanCursor(rawValue: bad) == nil, "\(bad)")
        }
    }
}

@Suite("KeyspaceRecord")
struct KeyspaceRecordTests {
    let record = KeyspaceRecord(
        type: .hash, flags: 1, updated: Timestamp(rawValue: 0x0102_0304_0506_0708), generation: Timestamp(rawValue: 9),
        expiresAtMilliseconds: 10, count: 11)

    @Test("is frozen and reads back")
    func golden() throws {
        let bytes = build {
            record.encode(into: &$0)
            $0.append("payload")
        }
        #expect(
            hex(bytes) == "010201" + "0807060504030201" + "0900000000000000" + "0a00000000000000" + "0b00000000000000"
                + "7061796c6f6164")
        bytes.withUnsafeBytes { view in
            #expect(KeyspaceRecord(decoding: view) == record)
            #expect(KeyspaceRecord.payload(of: view).bytes == Bytes("payload".utf8))
        }
    }

    @Test("refuses cut headers, other versions and types, and survives damage")
    func damage() {
        let seed = freshSeed("keyspace record")
        var random = SplitMix64(seed: seed)
        let bytes = build { record.encode(into: &$0) }
        for cut in Damage.truncations(of: bytes) {
            #expect(cut.withUnsafeBytes { KeyspaceRecord(decoding: $0) } == nil)
            #expect(cut.withUnsafeBytes { KeyspaceRecord.payload(of: $0).count } == 0)
        }
        #expect(([2] + bytes.dropFirst()).withUnsafeBytes { KeyspaceRecord(decoding: $0) } == nil)
        #expect(([1, 99] + bytes.dropFirst(2)).withUnsafeBytes { KeyspaceRecord(decoding: $0) } == nil)
        for damaged in Damage.corruptions(of: bytes, count: 2000, using: &random) {
            damaged.withUnsafeBytes { _ = KeyspaceRecord(decoding: $0) }
        }
    }

    @Test("is visible before its expiry and not at it")
    func visibility() {
        #expect(record.isVisible(atMilliseconds: 9) && !record.isVisible(atMilliseconds: 10))
        var eternal = record
        eternal.expiresAtMilliseconds = 0
        #expect(eternal.isVisible(atMilliseconds: .max))
    }

    @Test("garbage reads back")
    func garbage() {
        let garbage = GarbageRecord(type: .string, count: 3)
        let bytes = build { garbage.encode(into: &$0) }
        #expect(bytes.withUnsafeBytes { GarbageRecord(decoding: $0) } == garbage)
        for cut in Damage.truncations(of: bytes) { #expect(cut.withUnsafeBytes { GarbageRecord(decoding: $0) } == nil) }
    }
}
