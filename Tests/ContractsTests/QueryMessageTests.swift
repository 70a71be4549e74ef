import Base
import Contracts
import TestKit
import Testing

@Suite("Statements on the wire")
struct QueryMessageTests {
    static let request: QueryRequest = {
        var request = QueryRequest(.prepare)
        request.fingerprint = Bytes(1...16)
        request.plan = [9, 8, 7]
        request.parameterTypes = [ValueTypeForm(kind: 4, modifier: -1, isArray: true)]
        request.parameters = [.init([1, 2], isBinary: true), .init(nil), .init([])]
        request.rowLimit = 17
        request.cursor = .max
        request.wantsColumns = true
        request.settings = [.init("TimeZone", "Europe/Zürich")]
        (request.statement, request.lockTimeout, request.rewrites) = (.max, 7, true)
        request.sequences = [SequenceNumber(1001, .min, isDrawn: true), SequenceNumber(1002, 5, isDrawn: false)]
        return request
    }()

    static let reply: QueryReply = {
        var error = StatementError(.divisionByZero, "division by zero", detail: "d", hint: "h", position: 12)
        (error.schema, error.table, error.column) = ("s", "t", "c")
        (error.constraint, error.dataType) = ("k", "y")
        var reply = QueryReply(error: error)
        reply.isUnknown = true
        reply.parameterTypes = [ValueTypeForm(kind: 1, modifier: 12, isArray: false)]
        reply.columns = [
            .init(name: "?column?", type: .init(kind: 9, modifier: 4, isArray: false), collection: 5, column: 6)
        ]
        reply.givesRows = true
        reply.rows = [[1, 2, 3], []]
        reply.cursor = 4
        reply.tag = "SELECT"
        reply.count = 0
        reply.isPending = true
        reply.sequences = [SequenceNumber(.max, .max, isDrawn: false)]
        reply.notices = [.init(severity: "NOTICE", StatementError(.dataException, "mind this"))]
        return reply
    }()

    @Test("requests and replies read as they were written")
    func coding() throws {
        #expect(try Self.request.encode().withView { try QueryRequest(decoding: $0) } == Self.request)
        #expect(try Self.reply.encode().withView { try QueryReply(decoding: $0) } == Self.reply)
        #expect(try Bytes().withView { try QueryRequest(decoding: $0) } == QueryRequest(.execute))
        #expect(try Bytes().withView { try QueryReply(decoding: $0) } == QueryReply())
    }

    @Test("a session knows its last numbers, and which came last")
    func sequences() {
        var known = SessionSequences()
        #expect(known.last == nil && known.number(of: 1) == nil)
        known.note(SequenceNumber(1, 10, isDrawn: true))
        known.note(SequenceNumber(2, 20, isDrawn: true))
        known.note(SequenceNumber(1, 15, isDrawn: false))
        #expect(known.last == 20 && known.number(of: 1) == 15)
        known.note(SequenceNumber(2, 25, isDrawn: false))
        #expect(known.last == 25)
        #expect(SessionSequences(known.list) == known)
        for sequence in 100...2000 { known.note(SequenceNumber(UInt32(sequence), 0, isDrawn: false)) }
        #expect(known.last == 25 && known.list.count == SessionSequences.limit)
    }

    @Test("what is cut or changed reaches no trap")
    func damage() {
        let messages = [Self.request.encode(), Self.reply.encode()]
        for message in messages {
            for length in 0..<message.count {
                _ = try? Bytes(message.prefix(length)).withView { try QueryRequest(decoding: $0) }
                _ = try? Bytes(message.prefix(length)).withView { try QueryReply(decoding: $0) }
            }
        }
        var random = SplitMix64(seed: freshSeed("query messages"))
        for _ in 0..<20_000 {
            var message = messages.randomElement(using: &random) ?? []
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                message[Int.random(in: 0..<message.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = try? message.withView { try QueryRequest(decoding: $0) }
            _ = try? message.withView { try QueryReply(decoding: $0) }
        }
    }
}
