import Base
import Storage
import TestKit
import Testing

/// Reading in ascending order answers what looking up answers, wherever the keys lie.
struct AscendingReadsTests {
    @Test(arguments: StoreConformanceTests.Kind.allCases, [0, 1, 64]) func answersAsLookUpsDo(
        kind: StoreConformanceTests.Kind, lookUpsFirst: Int
    ) throws {
        let seed = freshSeed("ascending reads")
        try withStore(kind) { store in
            var random = SplitMix64(seed: seed)
            func key(_ number: Int) -> Bytes { [UInt8(number >> 16), UInt8(number >> 8 & 0xff), UInt8(number & 0xff)] }
            for round in 0..<12 {
                // Stretches where every key is there, and stretches with few.
                var batch = WriteBatch(), number = 0
                while number < 4000 {
                    let density = random.next(below: 20)
                    for place in number..<number + 200 where random.next(below: 20) <= density {
                        batch.put(key(place), [UInt8(round), UInt8(place & 0xff)])
                    }
                    number += 200
                }
                try store.write(batch)
                if random.oneIn(3) { try store.flush() }
                var reads = AscendingReads(store, lookUpsFirst: lookUpsFirst)
                number = Int(random.next(below: 100))
                while number < 4200 {
                    var found: Bytes?, calls = 0
                    try key(number).withView { (view: ByteView) throws(StoreError) in
                        try reads.withValue(view) {
                            found = $0?.bytes
                            calls += 1
                        }
                    }
                    let expected = try store.get(key(number))
                    #expect(found == expected && calls == 1, "\(kind) seed \(seed) round \(round) key \(number)")
                    // Long walks through all keys, and jumps.
                    number += random.oneIn(40) ? Int(random.next(below: 300)) : 1 + Int(random.next(below: 3))
                }
            }
        }
    }
}
