import Base
import ServiceKit
import Testing

@Suite("Memory of the machine")
struct MachineMemoryTests {
    @Test("a control group's limit is a number, or none")
    func limits() {
        let cases: [(String, Int?)] = [
            ("268435456\n", 268_435_456), ("max\n", nil), ("", nil), ("\n", nil), ("0\n", nil), ("-1\n", nil),
            ("99999999999999999999\n", nil), ("4096", 4096),
        ]
        for (text, limit) in cases { #expect(MachineMemory.limit(of: Bytes(text.utf8)) == limit, "\(text)") }
    }

    @Test("there is some, and not more than an address can name")
    func machine() { #expect((16 << 20..<1 << 48).contains(MachineMemory.bytes())) }
}
