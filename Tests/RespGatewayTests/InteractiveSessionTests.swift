import Base
import Contracts
import GatewayKit
import RespGateway
import Testing

/// CLIENT TRANSACTION as a session understands it; what the driver does is told by the test.
@Suite("RESP interactive transactions")
struct InteractiveSessionTests {
    /// A connection with its buffers, whose driver answers when it is told to.
    final class Peer: SessionSink {
        let server = ServerState(users: UserDirectory(isOpen: true))
        let session: RESPSession
        var input = ByteBuffer(), output = ByteBuffer()
        private(set) var asked: [(token: UInt64, action: InteractiveAction)] = []
        private(set) var executed: [UInt64] = []
        private(set) var invoked = 0

        init() {
            guard let session = server.admit(address: "peer", localAddress: "here") else {
                fatalError("a fresh server takes a client")
            }
            self.session = session
        }

        func invoke(_ token: UInt64, _ call: CallFrame) throws(DatabaseError) { invoked += 1 }

        func perform(_ action: SessionAction) {
            switch action {
            case .interactive(let token, let action): asked.append((token, action))
            case .execute(let token, _): executed.append(token)
            case _: break  // Reading is paused and resumed.
            }
        }

        /// What the client gets at once for a line.
        func send(_ line: String) -> String {
            input.append(Bytes((line + "\r\n").utf8))
            return go()
        }

        private func go() -> String {
            session.receive(&input, output: &output, to: self)
            session.redelivered(output.count, to: self)
            return taken()
        }

        private func taken() -> String {
            let text = String(decoding: output.readable, as: UTF8.self)
            output.removeAll()
            return text
        }

        /// Answers the last thing that was asked for.
        func answer(_ result: Result<InteractiveAnswer, DatabaseError> = .success(.done), isOpen: Bool = true)
            -> String
        {
            guard let last = asked.last else { return "nothing was asked" }
            session.interacted(last.token, result, isOpen: isOpen, output: &output, to: self)
            return taken() + go()
        }

        /// Answers the statement that was asked for with a number.
        func reply(_ number: Int64) -> String {
            guard let last = asked.last else { return "nothing was asked" }
            session.release(last.token)
            let encoder = ReplyBatchEncoder()
            encoder.integer(last.token, number)
            var frame = ByteBuffer(), decoder = ReplyBatchDecoder()
            encoder.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &frame)
            try? decoder.decode(frame.readable) { session.complete($0.id, $0, output: &output, to: self) }
            return taken() + go()
        }

        func begin(_ words: String = "") {
            _ = send("CLIENT TRANSACTION BEGIN " + words)
            #expect(answer() == "+OK\r\n")
        }
    }

    private static func options(
        _ change: (inout InteractiveTransaction.Options) -> Void = { _ in }
    ) -> InteractiveAction {
        var options = InteractiveTransaction.Options()
        (options.isolation, options.timeLimit, options.idleLimit) = (.serializable, 600_000, 60_000)
        change(&options)
        return .begin(options)
    }

    @Test("BEGIN understands its options, and refuses what it does not know")
    func begins() {
        let peer = Peer()
        #expect(peer.send("CLIENT TRANSACTION BEGIN") == "")
        #expect(peer.asked.last?.action == Self.options())
        #expect(peer.answer() == "+OK\r\n")
        #expect(peer.send("CLIENT TRANSACTION BEGIN").hasPrefix("-ERR A transaction is open"))
        let other = Peer()
        let words = "isolation read-committed readonly timeout 5 idle 0 locktimeout 7"
        #expect(other.send("CLIENT TRANSACTION begin " + words) == "")
        #expect(
            other.asked.last?.action
                == Self.options {
                    ($0.isolation, $0.isReadOnly, $0.timeLimit) = (.readCommitted, true, 5)
                    ($0.idleLimit, $0.lockTimeout) = (0, 7)
                })
        let third = Peer()
        for words in ["ISOLATION", "ISOLATION none", "TIMEOUT -1", "IDLE 86400001", "FOREVER 1", "TIMEOUT x"] {
            #expect(third.send("CLIENT TRANSACTION BEGIN " + words).hasPrefix("-ERR"), "\(words)")
        }
        for words in ["COMMIT", "ROLLBACK", "SAVEPOINT a", "LOCK SHARE a", "INFO"] {
            #expect(third.send("CLIENT TRANSACTION " + words).hasPrefix("-NOTXN"), "\(words)")
        }
        #expect(third.asked.isEmpty)
    }

    @Test("commands on data are statements, one at a time; what follows waits")
    func statements() {
        let peer = Peer()
        peer.begin()
        #expect(peer.send("INCR a\r\nPING\r\nGET b") == "")
        guard case .statement(let plan)? = peer.asked.last?.action else {
            Issue.record("no statement")
            return
        }
        #expect(plan.calls.map(\.key) == [Array("a".utf8)] && peer.asked.count == 2)
        #expect(peer.reply(3) == ":3\r\n+PONG\r\n")
        #expect(peer.asked.count == 3)
        #expect(peer.reply(4) == ":4\r\n")
        #expect(peer.invoked == 0)
        #expect(peer.send("FLUSHALL").hasPrefix("-ERR This command cannot be"))
        #expect(peer.send("WATCH a").hasPrefix("-ERR WATCH inside a transaction"))
        #expect(peer.send("NOSUCH").hasPrefix("-ERR unknown command"))
    }

    @Test("MULTI inside is one statement; the end is heard of, and commands are plain again")
    func ends() {
        let peer = Peer()
        peer.begin()
        #expect(peer.send("MULTI") == "+OK\r\n")
        #expect(peer.send("INCR a") == "+QUEUED\r\n")
        #expect(peer.send("CLIENT TRANSACTION COMMIT").hasPrefix("-ERR Command not allowed"))
        #expect(peer.send("DISCARD") == "+OK\r\n")
        _ = peer.send("MULTI\r\nINCR a\r\nEXEC\r\nPING")
        #expect(peer.executed.count == 1)
        peer.session.executed(
            peer.executed[0], .failed(DatabaseError(.deadlock, "chosen")), output: &peer.output, to: peer)
        #expect(peer.send("").contains("-DEADLOCK chosen\r\n"))
        #expect(peer.send("CLIENT TRANSACTION COMMIT") == "")
        #expect(peer.asked.last?.action == .commit)
        let refused = peer.answer(.failure(DatabaseError(.serializationFailure, "changed")), isOpen: false)
        #expect(refused == "-CONFLICT changed\r\n")
        _ = peer.send("GET a")
        #expect(peer.invoked == 1)
    }

    @Test("savepoints, locks and RESET")
    func rest() {
        let peer = Peer()
        peer.begin()
        _ = peer.send("CLIENT TRANSACTION SAVEPOINT a")
        #expect(peer.asked.last?.action == .savepoint([97]) && peer.answer() == "+OK\r\n")
        _ = peer.send("CLIENT TRANSACTION ROLLBACK TO a")
        #expect(peer.asked.last?.action == .rollBackTo([97]) && peer.answer() == "+OK\r\n")
        _ = peer.send("CLIENT TRANSACTION RELEASE a")
        #expect(peer.asked.last?.action == .release([97]))
        #expect(peer.answer(.failure(DatabaseError(.invalidArgument, "none"))) == "-ERR none\r\n")
        _ = peer.send("CLIENT TRANSACTION LOCK UPDATE SKIP a b")
        guard case .lock(let plan, .update, .skipLocked)? = peer.asked.last?.action else {
            Issue.record("no lock")
            return
        }
        #expect(plan.calls.map(\.key) == [[97], [98]])
        peer.session.executed(
            peer.asked.last?.token ?? 0, .failed(DatabaseError(.lockTimeout, "held")), output: &peer.output, to: peer)
        #expect(peer.send("PING") == "-LOCKED held\r\n+PONG\r\n")
        #expect(peer.send("CLIENT TRANSACTION LOCK a b").hasPrefix("-ERR syntax"))
        #expect(peer.send("RESET") == "+RESET\r\n")
        #expect(peer.asked.last?.action == .abandon)
        #expect(peer.send("CLIENT TRANSACTION COMMIT").hasPrefix("-NOTXN"))
    }
}
