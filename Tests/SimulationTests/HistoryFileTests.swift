import Base
@testable import Simulation
import TestKit
import Testing

@Suite("Files of histories")
struct HistoryFileTests {
    private func read(_ text: String) throws -> TransactionHistory { try HistoryFile.read(Bytes(text.utf8)) }

    @Test("a line is a transaction; keys and values keep their names")
    func lines() throws {
        let history = try read(
            """
            {"client":1,"begin":10,"end":20,"outcome":"committed","operations":[["append","x","a"],["list","x",["a"]]]}
            {"client":2,"begin":12,"outcome":"unknown","operations":[["write","p","a"],["read","p",null]]}
            {"client":2,"begin":30,"outcome":"aborted","operations":[["read","p","b"]]}
            """)
        #expect(
            history.transactions == [
                RecordedTransaction(
                    client: 1, operations: [.append(key: 0, value: 0), .readList(key: 0, values: [0])], invoked: 10,
                    outcome: .completed(20)),
                RecordedTransaction(
                    client: 2, operations: [.write(key: 1, value: 0), .readRegister(key: 1, value: nil)], invoked: 12,
                    outcome: .unknown),
                RecordedTransaction(
                    client: 2, operations: [.readRegister(key: 1, value: 1)], invoked: 30, outcome: .refused),
            ])
        #expect(history.keyNames == ["x", "p"] && history.valueNames == ["a", "b"])
    }

    @Test(
        "what is no transaction is refused with its line",
        arguments: [
            "x", "{}", #"{"client":1,"begin":-1,"outcome":"aborted","operations":[]}"#,
            #"{"client":1,"begin":2,"end":1,"outcome":"committed","operations":[]}"#,
            #"{"client":1,"begin":2,"outcome":"perhaps","operations":[]}"#,
            #"{"client":1,"begin":2,"outcome":"aborted"}"#,
            #"{"client":1,"begin":2,"outcome":"aborted","operations":[["append","x"]]}"#,
            #"{"client":1,"begin":2,"outcome":"aborted","operations":[["append","x",null]]}"#,
            #"{"client":1,"begin":2,"outcome":"aborted","operations":[["list","x",[1]]]}"#,
        ])
    func refused(_ line: String) {
        let good = #"{"client":1,"begin":2,"outcome":"aborted","operations":[]}"#
        do {
            _ = try read("\(good)\n\(line)\n")
            Issue.record("accepted")
        } catch {
            #expect("\(error)".hasPrefix("line 2: "))
        }
    }
}
