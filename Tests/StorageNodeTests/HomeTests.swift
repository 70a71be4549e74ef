import Base
import Contracts
import DataModel
import GatewayKit
import Testing

@testable import StorageNode

/// Transactions whose home is a real node, with its shards behind its own socket.
@Suite("Transactions at their home", .serialized)
struct HomeTests {
    /// A client connection of a gateway, and what it was told.
    final class Client {
        let link: HomeLink
        private var asked = 0
        /// In the order of the answers; of a statement the number that its only call answers.
        private(set) var answers: [String] = []
        private(set) var token: TransactionToken?

        init(_ link: HomeLink) { self.link = link }

        static func beginning(_ stage: Stage, connection: UInt64 = 71, lockTimeout: UInt32 = 0) -> Client {
            var options = HomeOperation.Options()
            options.lockTimeout = lockTimeout
            return Client(HomeLink(stage.router, beginning: options, principal: "ann", connection: connection))
        }

        static func joining(
            _ stage: Stage, _ token: TransactionToken?, connection: UInt64 = 72, as principal: String = "ann"
        ) -> Client {
            let token = token ?? TransactionToken(home: NodeID(rawValue: 1), high: 0, low: 0)
            let client = Client(
                HomeLink(stage.router, joining: token, principal: principal, connection: connection))
            client.tell { client.link.join(completion: $0) }
            return client
        }

        var isSettled: Bool { answers.count == asked }
        var last: String { answers.last ?? "" }

        func tell(_ body: (@escaping HomeLink.Completion) -> Void) {
            asked += 1
            body { [self] error in answers.append(error.map { "\($0.code)" } ?? "ok") }
        }

        func commit() { tell { link.commit(completion: $0) } }
        func rollBack() { tell { link.rollBack(completion: $0) } }
        func leave() { tell { link.leave(completion: $0) } }

        func identify() {
            tell { completion in
                link.identify { [self] found in
                    token = try? found.get()
                    completion(token == nil ? DatabaseError(.noSuchTransaction, "") : nil)
                }
            }
        }

        func add(_ key: String, _ amount: Int64) {
            asked += 1
            var batch = CallBatchEncoder()
            batch.add(.incrementBy, key, numbers: [amount])
            let share = InteractiveRun.Share(
                slot: OpenTransaction.slot(key), body: batch.message.bytes, isWrite: true)
            link.execute([share]) { [self] outcome in answers.append(Self.describe(outcome)) }
        }

        private static func describe(_ outcome: HomeLink.Outcome) -> String {
            switch outcome {
            case .changed: return "changed"
            case .failed(let error): return "\(error.code)"
            case .done(let batches):
                var numbers: [String] = [], decoder = ReplyBatchDecoder()
                for batch in batches {
                    batch.withUnsafeBytes { view in try? decoder.decode(view) { numbers.append("\($0.integer)") } }
                }
                return numbers.joined(separator: " ")
            }
        }
    }

    /// Plays over two shards of a node.
    private func tell(_ prepare: @escaping (Stage, Play) -> Void) throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, shards: 2) { stage in
                let play = Play(stage)
                prepare(stage, play)
                play.begin()
            }
        }
    }

    private static func scopes(_ stage: Stage) -> Int {
        stage.node.executors.reduce(0) { $0 + $1.transactions.scopes.count }
    }

    private static func attach(_ stage: Stage, _ limits: HomeLimits) -> HomeTransactions {
        let homes = HomeTransactions(loop: stage.loop, tls: nil, session: 13, clock: { 1 }, limits: limits)
        stage.node.attach(homes)
        return homes
    }

    @Test("commands of two connections are done as they come; the end by one is the end for both")
    func shared() throws {
        try tell { stage, play in
            let one = Client.beginning(stage)
            var other = one, reads: [UInt64] = []
            one.add("k", 5)
            play.when({ one.isSettled }) { one.identify() }
            play.when({ one.isSettled }) {
                #expect(one.answers == ["5", "ok"] && one.token?.home == NodeID(rawValue: 1))
                other = .joining(stage, one.token)
            }
            play.when({ other.isSettled }) {
                for number in 0..<20 { (number % 2 == 0 ? one : other).add(number % 4 < 2 ? "k" : "n", 1) }
            }
            play.when({ one.isSettled && other.isSettled }) {
                // By the order in which they were sent: of four, two go to each key, one of each connection.
                #expect(one.answers.dropFirst(2) == ["6", "1", "8", "3", "10", "5", "12", "7", "14", "9"])
                #expect(other.answers.dropFirst() == ["7", "2", "9", "4", "11", "6", "13", "8", "15", "10"])
                #expect(stage.node.homes?.counts.statements == 21 && stage.node.homes?.counts.joins == 1)
                other.commit()
            }
            play.when({ other.isSettled }) {
                #expect(other.last == "ok" && stage.node.homes?.transactions.isEmpty == true)
                one.add("k", 1)
            }
            play.when({ one.isSettled }) { one.commit() }
            play.when({ one.isSettled }) {
                #expect(one.answers.suffix(2) == ["transactionAborted", "transactionAborted"])
                reads = [stage.caller.get("k"), stage.caller.get("n")]
            }
            play.when({ stage.caller.isSettled }) {
                #expect(reads.map { stage.caller[$0] } == [.reply(.text("15")), .reply(.text("10"))])
            }
        }
    }

    @Test("a lock is waited for longer than a shard is asked to at a time, until it is free")
    func longWait() throws {
        try tell { stage, play in
            func timeouts() -> UInt64 {
                stage.node.executors.reduce(0) { $0 + $1.transactions.participant.counts.lockTimeouts }
            }
            do throws(DatabaseError) {
                try stage.node.homes?.openRouter().longestLockWait = 5
            } catch {
                Issue.record(error)
            }
            let one = Client.beginning(stage), other = Client.beginning(stage, connection: 72, lockTimeout: .max)
            let third = Client.beginning(stage, connection: 73, lockTimeout: 20)
            one.add("k", 5)
            play.when({ one.isSettled }) { other.add("k", 1) }
            play.when({ timeouts() >= 3 }) {
                #expect(other.answers.isEmpty)
                third.add("k", 1)
            }
            play.when({ third.isSettled }) {
                #expect(third.answers == ["lockTimeout"] && other.answers.isEmpty)
                one.commit()
            }
            play.when({ one.isSettled && other.isSettled }) {
                #expect(one.last == "ok" && other.answers == ["6"])
                other.commit()
            }
            play.when({ other.isSettled }) { third.rollBack() }
            play.when({ third.isSettled && Self.scopes(stage) == 0 }) { #expect(other.last == "ok") }
        }
    }

    @Test("the last one to leave takes it along, and a rollback by anybody is everybody's")
    func leaving() throws {
        try tell { stage, play in
            let one = Client.beginning(stage)
            var other = one, late = one, write: UInt64 = 0
            one.add("k", 5)
            play.when({ one.isSettled }) { one.identify() }
            play.when({ one.isSettled }) { other = .joining(stage, one.token) }
            play.when({ other.isSettled }) { one.leave() }
            play.when({ one.isSettled }) {
                #expect(Self.scopes(stage) == 1)
                other.add("k", 1)
            }
            play.when({ other.isSettled }) { other.leave() }
            play.when({ other.isSettled }) {
                #expect(other.answers == ["ok", "6", "ok"])
                write = stage.caller.call(.incrementBy, "k", numbers: [1])
                late = .joining(stage, one.token)
            }
            play.when({ stage.caller.isSettled && late.isSettled && Self.scopes(stage) == 0 }) {
                #expect(stage.caller[write] == .reply(.integer(1)) && late.last == "transactionAborted")
                late = .beginning(stage, connection: 74)
                late.add("k", 1)
            }
            play.when({ late.isSettled }) { late.identify() }
            play.when({ late.isSettled }) { other = .joining(stage, late.token, connection: 75) }
            play.when({ other.isSettled }) { other.rollBack() }
            play.when({ other.isSettled }) { late.add("k", 1) }
            play.when({ late.isSettled }) { late.rollBack() }
            play.when({ late.isSettled }) {
                #expect(other.last == "ok" && late.answers.suffix(2) == ["transactionAborted", "ok"])
            }
        }
    }

    @Test("a token serves its principal at its home, and nobody knows another")
    func tokens() throws {
        try tell { stage, play in
            let one = Client.beginning(stage)
            var others: [Client] = []
            one.add("k", 5)
            play.when({ one.isSettled }) { one.identify() }
            play.when({ one.isSettled }) {
                guard let token = one.token, let homes = stage.node.homes else { return }
                let guess = TransactionToken(home: token.home, high: token.high, low: token.low ^ 1)
                let away = TransactionToken(home: NodeID(rawValue: 2), high: token.high, low: token.low)
                others = [
                    .joining(stage, token, as: "bob"), .joining(stage, guess, connection: 73),
                    .joining(stage, away, connection: 74),
                ]
                #expect { try homes.find(away, principal: "ann") } throws: {
                    ($0 as? DatabaseError)?.message.contains("node 2") ?? false
                }
                #expect(throws: DatabaseError.self) { try homes.status(of: token, principal: "bob") }
            }
            play.when({ others.allSatisfy(\.isSettled) }) {
                #expect(others.map(\.last) == ["permissionDenied", "noSuchTransaction", "transactionAborted"])
                one.commit()
            }
            play.when({ one.isSettled }) { #expect(one.last == "ok") }
        }
    }

    @Test("what waits is bounded, and refused when the transaction ends under it")
    func bounds() throws {
        try tell { stage, play in
            var limits = HomeLimits(), told: [String] = [], dones: [() -> Void] = []
            (limits.transactions, limits.waiting, limits.waitingBytes, limits.ends) = (1, 2, 100, 1)
            let homes = Self.attach(stage, limits)
            var transaction: HomeTransaction?
            func command(_ name: String, bytes: Int = 10) {
                transaction?.enqueue(bytes: bytes, refused: { told.append("\(name) \($0.code)") }) { _, done in
                    told.append("\(name) begins")
                    dones.append(done)
                }
            }
            play.when({ true }) {
                transaction = try? homes.open(.init(), principal: "ann", isUnowned: true)
                #expect { try homes.open(.init(), principal: "ann") } throws: {
                    ($0 as? DatabaseError)?.code == .busy
                }
                command("a")
                command("large", bytes: 101)
                for name in ["b", "c", "d"] { command(name) }
            }
            play.when({ told.count == 3 }) {
                #expect(told == ["a begins", "large busy", "d busy"])
                dones[0]()
                dones[0]()
                #expect(told.last == "b begins" && transaction?.waitingCount == 1)
                transaction?.rollBack { told.append($0 == nil ? "undone" : "not undone") }
            }
            play.when({ told.count == 7 }) {
                #expect(Set(told.suffix(3)) == ["b transactionAborted", "c transactionAborted", "undone"])
                dones[1]()
                command("late")
            }
            play.when({ told.count == 8 }) {
                #expect(told.last == "late transactionAborted" && dones.count == 2)
                guard let first = transaction?.token else { return }
                transaction = try? homes.open(.init(), principal: "ann", isUnowned: true)
                transaction?.rollBack { _ in told.append("undone") }
                // Of two ends one is remembered.
                #expect { try homes.find(first, principal: "ann") } throws: {
                    ($0 as? DatabaseError)?.code == .noSuchTransaction
                }
            }
            play.when({ told.count == 9 }) { #expect(homes.counts.rolledBack == 2 && homes.transactions.isEmpty) }
        }
    }

    @Test("a transaction that nobody uses ends by itself, and a node that leaves rolls back")
    func timeOuts() throws {
        try tell { stage, play in
            var limits = HomeLimits()
            limits.deadMilliseconds = 0
            let homes = Self.attach(stage, limits)
            var options = InteractiveTransaction.Options(), tokens: [TransactionToken] = []
            options.idleLimit = 1
            play.when({ true }) {
                for limit in [1, 0] as [UInt64] {
                    options.idleLimit = limit
                    if let made = try? homes.open(options, principal: "ann", isUnowned: true) {
                        tokens.append(made.token)
                    }
                }
                #expect(tokens.count == 2)
            }
            play.when({ homes.transactions.count == 1 }) {
                let status = try? homes.status(of: tokens[0], principal: "ann")
                #expect(status?.state == .rolledBack && status?.failure?.code == .idleTimeout)
                homes.drain()
                #expect(homes.transactions.isEmpty)
                #expect { try homes.open(.init(), principal: "ann") } throws: {
                    ($0 as? DatabaseError)?.code == .unavailable
                }
            }
        }
    }
}
