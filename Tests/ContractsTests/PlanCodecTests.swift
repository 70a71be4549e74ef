import Base
import CProto
import Contracts
import TestKit
import Testing

@Suite("PlanCodec")
struct PlanCodecTests {
    private func decode(_ bytes: Bytes) -> LogicalPlan? {
        bytes.withUnsafeBytes { try? LogicalPlan(decoding: $0) }
    }

    static var plan: LogicalPlan {
        var plan = LogicalPlanTests.plan
        plan.nodes[7].number = .min
        plan.nodes[4].flags = [.isOnly, .isMarked]
        plan.nodes[6].name = "é\0\u{10ffff}"
        return plan
    }

    @Test("reads back what it wrote")
    func roundTrip() {
        #expect(decode(Self.plan.encode()) == Self.plan)
    }

    @Test("writes the message that Proto/ says")
    func protobuf() throws {
        let plan = Self.plan, bytes = plan.encode()
        let message = try #require(orbit__v1__plan__unpack(nil, bytes.count, bytes))
        defer { orbit__v1__plan__free_unpacked(message, nil) }
        #expect(message.pointee.n_nodes == plan.nodes.count && message.pointee.root == 9)
        for (index, node) in plan.nodes.enumerated() {
            let there = try #require(message.pointee.nodes[index]).pointee
            #expect(there.kind == UInt32(node.kind.rawValue) && there.number == node.number)
            #expect((0..<there.n_children).map { Int32(there.children[$0]) } == node.children)
            #expect(there.flags == node.flags.rawValue && there.position == UInt32(node.position))
            #expect(
                String(decoding: UnsafeBufferPointer(start: there.name.data, count: there.name.len), as: UTF8.self)
                    == node.name)
        }
    }

    @Test("survives truncation, and gives no plan that is not valid")
    func damaged() {
        let bytes = Self.plan.encode()
        for length in 0..<bytes.count { _ = decode(Bytes(bytes.prefix(length))) }
        var random = SplitMix64(seed: freshSeed("damaged plans"))
        for _ in 0..<20_000 {
            var damaged = bytes
            for _ in 0...Int(random.next() % 3) {
                damaged[Int(random.next() % UInt64(damaged.count))] = UInt8(truncatingIfNeeded: random.next())
            }
            if let plan = decode(damaged) {
                #expect(throws: Never.self) { try plan.validate() }
                _ = plan.describe()
            }
        }
    }

    @Test("refuses an unknown dialect, an unknown kind, and a bomb of nodes")
    func refusals() {
        var bytes = Self.plan.encode()
        bytes[1] = 99
        #expect(decode(bytes) == nil)
        #expect(decode(Bytes(repeating: 0x1a, count: 2) + [0x00]) == nil)
        var bomb: Bytes = [8, 1, 16, 1]
        for _ in 0...LogicalPlan.nodeLimit { bomb += [0x1a, 0] }
        #expect(decode(bomb) == nil)
    }

    @Test("a fingerprint stays, and differs with the plan")
    func fingerprint() {
        #expect(LogicalPlanTests.plan.fingerprint == LogicalPlanTests.plan.fingerprint)
        #expect(LogicalPlanTests.plan.fingerprint != Self.plan.fingerprint)
        #expect(LogicalPlanTests.plan.fingerprint.description.utf8.count == 32)
    }
}
