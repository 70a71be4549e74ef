import Base
import Glibc
import Testing

@Suite("System")
struct SystemTests {
    @Test("an error says which call failed on what, and why")
    func errorText() {
        let error = SystemError("open /x", code: ENOENT)
        #expect("\(error)" == "open /x: No such file or directory (ENOENT)")
        #expect(error.databaseError.code == .internalFailure)
        #expect(SystemError("write", code: ENOSPC).databaseError.code == .diskFull)
        #expect("\(SystemError("call", code: 9999))" == "call: unknown error (?)")
    }

    @Test("a seed gives the known stream, and bounds hold")
    func random() {
        var generator = SplitMix64(seed: 1_234_567)
        #expect(generator.next() == 6_457_827_717_110_365_317)
        #expect(generator.next() == 3_203_168_211_198_807_973)
        for bound in [1, 2, 3, 1000] as [UInt64] { #expect(generator.next(below: bound) < bound) }
        #expect(generator.next(below: 0) == 0)
        #expect(generator.bytes(13).count == 13)
        var system = SystemRandom()
        #expect(system.next() != system.next())
    }

    @Test("every error code has a row, and prefixes are words")
    func rows() {
        for code in ErrorCode.allCases {
            #expect(code.row.sqlState.utf8.count == 5)
            #expect(!code.row.resp.isEmpty && !code.row.resp.contains(" "))
        }
    }
}
