import Base
import DataModel
import Testing

@Suite("Slot")
struct SlotTests {
    @Test(
        "is that of Redis Cluster, tags included",
        arguments: [
            ("", 0), ("foo", 12182), ("bar", 5061), ("123456789", 12739), ("{user1000}.following", 3443),
            ("{user1000}.followers", 3443), ("user1000", 3443), ("foo{}{bar}", 8363), ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
        ] as [(String, UInt16)])
    func known(_ key: String, _ expected: UInt16) {
        #expect(Bytes(key.utf8).withUnsafeBytes { Slot.of($0) }.rawValue == expected)
    }

    @Test("takes the whole key when a brace is not closed", arguments: ["{bar", "foo{bar", "foo}bar{", "{"])
    func open(_ key: String) {
        Bytes(key.utf8).withUnsafeBytes { #expect(Slot.of($0) == Slot.ofPartition($0)) }
    }

    @Test("falls into equal, ordered buckets", arguments: [1, 2, 64, 1024, 16384])
    func buckets(_ count: Int) {
        var sizes = Array(repeating: 0, count: count)
        var last = 0
        for number in 0..<UInt16(Slot.count) {
            let bucket = Int(Slot(rawValue: number).bucket(of: count).rawValue)
            #expect(bucket >= last)
            last = bucket
            sizes[bucket] += 1
        }
        #expect(sizes.allSatisfy { $0 == Slot.count / count })
    }
}
