import Base
import DataModel
import Testing

@testable import PgGateway

/// What is sent at once, and what waits for the answers that follow.
@Suite("when answers are sent")
struct FlushTests {
    private let server = StoryRunner.server()
    private let runner = Recorder()

    /// A session that is ready, and that has sent everything.
    private func session() -> PgSession {
        let session = server.admit(runner)
        receive(session, "startup user=orbit database=orbit")
        #expect(session.takesFlush())
        session.output.removeAll()
        return session
    }

    private func receive(_ session: PgSession, _ lines: String...) {
        var input = ByteBuffer()
        for line in lines { input.append(StoryRunner.encode(line)) }
        session.receive(&input)
    }

    /// The session has read `SELECT $1` as `s`, and everything is sent.
    private func prepared() -> PgSession {
        let session = session()
        receive(session, "parse s - SELECT $1", "sync")
        session.prepared(
            runner.token, StatementDescription(parameters: [.int32], columns: [ResultColumn("a", .int32)]))
        #expect(session.takesFlush())
        session.output.removeAll()
        return session
    }

    @Test("answers of a group go together, with its end")
    func oneGroup() {
        let session = prepared()
        receive(session, "bind \"\" s 0 1", "execute \"\"", "sync")
        let hasAnswers = session.output.count > 0
        #expect(hasAnswers)
        #expect(!session.takesFlush())
        session.completed(runner.token, StatementCompletion("SELECT", rows: 0))
        #expect(session.takesFlush())
    }

    @Test("Flush sends what there is, once")
    func flush() {
        let session = prepared()
        receive(session, "bind \"\" s 0 1", "flush", "execute \"\"", "sync")
        #expect(session.takesFlush())
        session.output.removeAll()
        #expect(!session.takesFlush())
    }

    @Test("the end of a group does not wait for the next")
    func twoGroups() {
        let session = prepared()
        receive(session, "bind \"\" s 0 1", "execute \"\"", "sync", "bind \"\" s 0 2", "execute \"\"", "sync")
        #expect(!session.takesFlush())
        session.completed(runner.token, StatementCompletion("SELECT", rows: 0))
        #expect(session.isBusy)
        #expect(session.takesFlush())
    }

    @Test("notices, and what is large, are not held back")
    func noticesAndRows() {
        let session = prepared()
        receive(session, "bind \"\" s 0 1", "execute \"\"", "sync")
        session.noticed(.notice, StatementError(SQLState(rawValue: "00000"), "look"))
        #expect(session.takesFlush())
        session.output.removeAll()
        let record = RecordEncoding.encode([(column: 1, value: .integer(7))])
        _ = session.rows(runner.token, RowBatch(columnCount: 1, records: [record]))
        #expect(!session.takesFlush())
        _ = session.rows(runner.token, RowBatch(columnCount: 1, records: Array(repeating: record, count: 400)))
        #expect(session.takesFlush())
    }

    @Test("who is to send rows is told at once")
    func copy() {
        let session = session()
        receive(session, "query COPY t FROM STDIN")
        #expect(!session.takesFlush())
        session.copyBegan(runner.token, .fromClient, .text, columns: 1)
        #expect(session.takesFlush())
    }
}
