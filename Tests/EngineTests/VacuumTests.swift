import Base
import QueryLanguages
import Testing

@testable import Engine

/// Options of VACUUM that PostgreSQL takes and Orbit does not; the others are in Tests/SQL/vacuum.slt.
struct VacuumTests {
    private static func options(_ text: String) throws(StatementError) -> VacuumOptions {
        guard let statement = try SQLParser.parse(Bytes(text.utf8)).first else {
            throw StatementError(.internalError, "no statement")
        }
        return try VacuumOptions(statement.plan)
    }

    @Test(
        "what would ask for something else than what is done is refused by name",
        arguments: [
            ("VACUUM FREEZE", "FREEZE"), ("VACUUM VERBOSE t", "VERBOSE"), ("VACUUM (SKIP_LOCKED) t", "SKIP_LOCKED"),
            ("VACUUM (DISABLE_PAGE_SKIPPING true)", "DISABLE_PAGE_SKIPPING"),
            ("VACUUM (INDEX_CLEANUP off)", "INDEX_CLEANUP OFF"), ("VACUUM (TRUNCATE 0) t", "TRUNCATE OFF"),
            ("VACUUM (PROCESS_TOAST false)", "PROCESS_TOAST OFF"), ("VACUUM (PARALLEL 2) t", "PARALLEL"),
            ("VACUUM (FULL, FREEZE, VERBOSE)", "FREEZE"),
        ])
    func refused(_ text: String, _ name: String) {
        let error = #expect(throws: StatementError.self) { _ = try Self.options(text) }
        #expect(error?.state == .featureNotSupported)
        #expect(error?.message == "VACUUM option \(name) is not supported")
    }

    @Test("what is done is told by FULL and ANALYZE, the last of several")
    func taken() throws {
        for (text, isFull, analyzes) in [
            ("VACUUM", false, false), ("VACUUM FULL ANALYZE t (a)", true, true), ("VACUUM (ANALYZE) t", false, true),
            ("VACUUM (FULL 0, ANALYZE on, FULL)", true, true), ("VACUUM (ANALYZE, ANALYZE false)", false, false),
        ] {
            let options = try Self.options(text)
            #expect(options.isFull == isFull && options.analyzes == analyzes, "\(text)")
        }
    }
}
