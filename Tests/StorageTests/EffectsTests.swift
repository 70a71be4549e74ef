import Base
import Storage
import TestKit
import Testing

struct EffectsTests {
    private func sample() -> Bytes {
        var batch = WriteBatch()
        batch.put(Bytes("key".utf8), Bytes(repeating: 9, count: 300))
        batch.delete(Bytes("gone".utf8))
        batch.deleteRange(from: [1], to: [2, 3])
        batch.put([], [])
        batch.stamp(Timestamp(rawValue: 0x0102_0304_0506_0708))
        Bytes([3]).withUnsafeBytes { from in
            Bytes([4]).withUnsafeBytes { batch.collectRange(from: from, to: $0, floor: Timestamp(rawValue: 77)) }
        }
        Bytes([5, 6]).withUnsafeBytes { batch.note($0) }
        return batch.effects.bytes
    }

    /// The effects as text, or what went wrong.
    private func read(_ bytes: Bytes) -> Result<[String], StoreError> {
        bytes.withUnsafeBytes { view in
            do throws(StoreError) {
                var reader = try EffectReader(view)
                var found: [String] = []
                while let effect = try reader.next() {
                    switch effect {
                    case .put(let key, let value): found.append("put \(key.bytes) \(value.count)")
                    case .delete(let key): found.append("delete \(key.bytes)")
                    case .deleteRange(let from, let to): found.append("range \(from.bytes) \(to.bytes)")
                    case .timestamp(let timestamp): found.append("at \(timestamp)")
                    case .collectRange(let from, let to, let floor):
                        found.append("collect \(from.bytes) \(to.bytes) \(floor)")
                    case .note(let bytes): found.append("note \(bytes.bytes)")
                    }
                }
                return .success(found)
            } catch {
                return .failure(error)
            }
        }
    }

    @Test func readsWhatWasWritten() throws {
        #expect(
            try read(sample()).get() == [
                "put [107, 101, 121] 300", "delete [103, 111, 110, 101]", "range [1] [2, 3]", "put [] 0",
                "at \(0x0102_0304_0506_0708)", "collect [3] [4] 77", "note [5, 6]",
            ])
        #expect(try read([]).get() == [])
        #expect(try read([1]).get() == [])
    }

    @Test func refusesAnUnknownVersion() {
        #expect(read([2]) == .failure(StoreError(.corruption, "effects of unknown version; a newer Orbit wrote them")))
    }

    @Test func everyTruncationIsAPrefixOrAnError() throws {
        let whole = sample()
        let all = try read(whole).get()
        for length in whole.indices {
            switch read(Bytes(whole[..<length])) {
            case .success(let found): #expect(found == Array(all.prefix(found.count)) && found.count < all.count)
            case .failure(let error): #expect(error.kind == .corruption)
            }
        }
    }

    @Test func corruptedBytesNeverTrap() {
        let seed = freshSeed("effects damage")
        var random = SplitMix64(seed: seed)
        for round in 0..<20_000 {
            var bytes = sample()
            for _ in 0...random.next(below: 4) {
                bytes[Int(random.next(below: UInt64(bytes.count)))] = UInt8(truncatingIfNeeded: random.next())
            }
            if round % 3 == 0 { bytes = [1] + random.bytes(Int(random.next(below: 64))) }
            if case .failure(let error) = read(bytes) {
                #expect(error.kind == .corruption, "seed \(seed)")
            }
        }
    }
}
