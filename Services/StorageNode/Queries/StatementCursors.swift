import Base
import Contracts
import Engine

/// Rows of statements that were not fetched yet, under numbers that nobody can guess.
///
/// A cursor belongs to the user who made it, is gone with its last row, and is dropped when nobody has fetched from it
/// for five minutes. There are as many as `Queries.Limits` says.
final class StatementCursors {
    private final class Cursor {
        enum Source {
            /// A snapshot's execution goes on.
            case run(StatementRun)
            case rows(ArraySlice<Bytes>)
        }

        let principal: String
        var source: Source
        let tag: String
        var count: UInt64
        var usedAt: UInt64

        init(principal: String, source: Source, tag: String, count: UInt64, usedAt: UInt64) {
            (self.principal, self.source, self.tag) = (principal, source, tag)
            (self.count, self.usedAt) = (count, usedAt)
        }
    }

    private let clock: () -> UInt64
    private let limits: Queries.Limits
    private var cursors: [UInt64: Cursor] = [:]
    private var generator = SystemRandom()

    /// `clock` tells milliseconds since 1970.
    init(clock: @escaping () -> UInt64, limits: Queries.Limits) { (self.clock, self.limits) = (clock, limits) }

    var count: Int { cursors.count }

    /// Keeps an execution that goes on; `reply` names the cursor, or says why there is none. `count`: rows given.
    func keep(_ run: StatementRun, _ principal: String, tag: String, count: UInt64, for reply: inout QueryReply) {
        keep(
            Cursor(principal: principal, source: .run(run), tag: tag, count: count, usedAt: clock()), for: &reply)
    }

    /// The first page of rows that are there; what is behind it is kept. `count`: what the statement came to.
    func begin(
        _ rows: [Bytes], _ principal: String, tag: String, limit: Int?, count: UInt64, _ reply: inout QueryReply
    ) {
        let cursor = Cursor(principal: principal, source: .rows(rows[...]), tag: tag, count: 0, usedAt: clock())
        take(from: cursor, limit, count: count, into: &reply)
    }

    func close(_ number: UInt64) { cursors[number] = nil }

    /// The next page, as the request limits it.
    func fetch(
        _ request: QueryRequest, _ principal: String, _ handle: StatementHandle?, _ answer: @escaping Queries.Answer
    ) {
        guard let cursor = cursors.removeValue(forKey: request.cursor), cursor.principal == principal else {
            return answer(QueryReply(error: StatementError(.invalidCursorName, "the cursor is not open any more")))
        }
        cursor.usedAt = clock()
        let limit = request.rowLimit == 0 ? nil : Int(request.rowLimit)
        var reply = QueryReply()
        (reply.tag, reply.givesRows) = (cursor.tag, true)
        switch cursor.source {
        case .rows:
            take(from: cursor, limit, count: nil, into: &reply)
            answer(reply)
        case .run(let run):
            handle?.onCancel = { run.cancel() }
            run.fetch(limit) { [self] page in
                run.tellSequences(in: &reply)
                if let failure = page.failure {
                    reply.error = QueryReply.Notice(severity: "ERROR", failure)
                    return answer(reply)
                }
                reply.rows = page.rows
                cursor.count += UInt64(page.rows.count)
                if page.isLast { reply.count = cursor.count } else { keep(cursor, for: &reply) }
                answer(reply)
            }
        }
    }

    private func keep(_ cursor: Cursor, for reply: inout QueryReply) {
        dropIdle()
        guard cursors.count < limits.cursors else {
            reply = QueryReply(error: StatementError(.tooManyConnections, "too many cursors are open at this node"))
            return
        }
        var number = generator.next()
        while number == 0 || cursors[number] != nil { number = generator.next() }
        cursors[number] = cursor
        reply.cursor = number
    }

    private func dropIdle() {
        let now = clock()
        for (number, cursor) in cursors where now > cursor.usedAt &+ limits.cursorMilliseconds { cursors[number] = nil }
    }

    private func take(from cursor: Cursor, _ limit: Int?, count: UInt64?, into reply: inout QueryReply) {
        guard case .rows(var rows) = cursor.source else { return }
        var size = 0
        while let row = rows.first, size < StatementRun.pageBytes, limit.map({ reply.rows.count < $0 }) ?? true {
            size += row.count
            reply.rows.append(row)
            rows.removeFirst()
        }
        cursor.count += UInt64(reply.rows.count)
        guard !rows.isEmpty else {
            reply.count = count ?? cursor.count
            return
        }
        cursor.source = .rows(rows)
        keep(cursor, for: &reply)
    }
}
