import Base
import Contracts
import Net
import Testing

@testable import GatewayKit

@Suite("NodeStream", .serialized)
struct NodeStreamTests {
    @Test("calls of a tick leave as one batch, replies in any order find their callers")
    func batches() throws {
        try Stage.run { stage in
            var messages = 0
            try stage.serve { peer in
                messages += 1
                let replies = ReplyBatchEncoder()
                for id in peer.ids.reversed() { replies.integer(id, Int64(id)) }
                replies.ok(9999)  // Nobody's: it is ignored.
                replies.ok(peer.ids[0])  // The second answer to a call is nobody's either.
                peer.stream.send {
                    replies.write(bookmark: Timestamp(rawValue: 5), mapEpoch: .init(rawValue: 1), into: &$0)
                }
            }
            stage.router.adopt(try stage.map())
            for _ in 0..<100 { _ = stage.caller.write() }
            stage.caller.onOutcome = { [caller = stage.caller] _, outcome in
                #expect(outcome == .reply(.integer))
                guard caller.outcomes.count == 100 else { return }
                #expect(caller.outcomes.map(\.ticket) == (1...100).reversed())
                #expect(messages == 1 && stage.router.inFlight == 0)
                stage.loop.runLater {
                    #expect(stage.router.bookmark == Timestamp(rawValue: 5))
                    stage.finish()
                }
            }
        }
    }

    /// What may break under calls that were sent.
    enum Break: CaseIterable { case stream, connection, nonsense }

    @Test(
        "a break: sent writes are unknown, sent reads unavailable, what is called then goes to the next stream",
        arguments: Break.allCases)
    func breaks(_ kind: Break) throws {
        try Stage.run { stage in
            var first: GRPCServer?
            first = try stage.serve { peer in
                guard peer.ids.count == 4 else { return peer.answer() }
                switch kind {
                case .stream: peer.stream.finish(GRPCStatus(.unavailable, "the end"))
                case .nonsense: peer.stream.send { $0.append(Bytes(repeating: 0xff, count: 40)) }
                case .connection:
                    first?.close()
                    do { try stage.serve { $0.answer() } } catch { Issue.record("\(error)") }
                }
            }
            stage.router.adopt(try stage.map())
            for _ in 0..<3 { _ = stage.caller.write() }
            _ = stage.caller.read()
            stage.caller.onOutcome = { [caller = stage.caller] ticket, outcome in
                switch ticket {
                case 1...3: #expect(outcome == .failed(.outcomeUnknown))
                case 4:
                    #expect(outcome == .failed(.unavailable))
                    #expect(caller.write() == 5)  // From within the failure.
                default:
                    #expect(outcome == .reply(.ok))
                    stage.finish()
                }
            }
        }
    }

    @Test("a call of the very tick in which the stream ends was not sent, and is not unknown")
    func unsent() throws {
        try Stage.run { stage in
            var streams = 0
            try stage.serve { peer in
                streams += 1
                peer.answer()
                // Answer and status arrive together: the client calls again between the two.
                if streams == 1 { peer.stream.finish(GRPCStatus(.unavailable, "the end")) }
            }
            stage.router.adopt(try stage.map())
            _ = stage.caller.write()
            stage.caller.onOutcome = { [caller = stage.caller] ticket, outcome in
                #expect(outcome == .reply(.ok))
                if ticket == 1 { _ = caller.write() } else { stage.finish() }
            }
        }
    }

    @Test("a node that shuts down answers what it was sent, later calls wait for the next one")
    func draining() throws {
        try Stage.run { stage in
            var first: GRPCServer?
            var isReadyAgain = false
            first = try stage.serve { peer in
                if peer.hasEnded { return peer.answer() }
                guard let server = first else { return }
                first = nil
                server.drain {
                    do { try stage.serve { $0.answer() } } catch { Issue.record("\(error)") }
                }
            }
            stage.router.adopt(try stage.map())
            _ = stage.caller.write()
            stage.router.onChange = { [caller = stage.caller] in
                // The stream is given up because the node drains: this call must not go there.
                if first == nil, caller.made == 1, !stage.router.isReady { _ = caller.write() }
                if caller.made == 2, stage.router.isReady { isReadyAgain = true }
            }
            stage.caller.onOutcome = { ticket, outcome in
                #expect(outcome == .reply(.ok))
                guard ticket == 2 else { return }
                #expect(isReadyAgain)
                stage.finish()
            }
        }
    }

    @Test("a node that cannot be reached: calls wait for a time and fail, for certain")
    func unreachable() throws {
        try Stage.run(patience: 30) { stage in
            stage.router.adopt(try stage.map())
            for _ in 0..<3 { _ = stage.caller.write() }
            var isServed = false
            stage.caller.onOutcome = { [caller = stage.caller] ticket, outcome in
                if ticket <= 3 { #expect(outcome == .failed(.unavailable)) }
                if ticket == 3 {
                    // From within: a new call, with a wait of its own; it fails as well.
                    #expect(caller.write() == 4 && stage.router.inFlight == 1)
                } else if ticket > 3, case .failed(let code) = outcome {
                    #expect(code == .unavailable)
                    if !isServed {
                        do { try stage.serve { $0.answer() } } catch { Issue.record("\(error)") }
                        isServed = true
                    }
                    _ = caller.write()  // Until the channel has tried again.
                } else if ticket > 3 {
                    #expect(isServed && outcome == .reply(.ok))
                    stage.finish()
                }
            }
        }
    }

    @Test("too much for one message is refused, and what was taken is answered")
    func limits() throws {
        try Stage.run { stage in
            let caller = stage.caller
            stage.router.adopt(try stage.map())
            // Nobody is there yet: what waits must be a message that the node takes.
            let piece = Bytes(repeating: 1, count: NodeStream.callLimit - 1)
            var accepted = 0
            while caller.outcomes.isEmpty, accepted < 100 {
                _ = caller.call(piece)
                accepted += 1
            }
            #expect(caller.outcomes.map(\.outcome) == [.failed(.unavailable)])
            #expect(caller.call(piece + [1, 2]) == caller.outcomes.last?.ticket)
            #expect(caller.outcomes.last?.outcome == .failed(.limitExceeded))
            caller.onOutcome = { _, outcome in
                #expect(outcome == .reply(.ok))
                guard caller.isSettled else { return }
                if caller.made < 20 {
                    // The stream has survived: five large calls in one tick, and a refused one between them.
                    let before = caller.outcomes.count
                    for _ in 0..<5 { _ = caller.call(piece) }
                    caller.onOutcome = { _, _ in }
                    _ = caller.call(piece + [1, 2])
                    #expect(
                        caller.outcomes.count == before + 1 && caller.outcomes.last?.outcome == .failed(.limitExceeded))
                    caller.onOutcome = { _, outcome in
                        #expect(outcome == .reply(.ok))
                        if caller.isSettled { stage.finish() }
                    }
                }
            }
            try stage.serve { $0.answer() }
        }
    }

    @Test("a node that does not answer: the caller is told in time, the late answer is nobody's")
    func timeouts() throws {
        try Stage.run(callTimeout: 30) { stage in
            var silent: Peer?
            try stage.serve { peer in
                if silent == nil { silent = peer } else { peer.answer() }
            }
            stage.router.adopt(try stage.map())
            _ = stage.caller.write()
            _ = stage.caller.read()
            stage.caller.onOutcome = { [caller = stage.caller] ticket, outcome in
                switch ticket {
                case 1: #expect(outcome == .failed(.outcomeUnknown))
                case 2:
                    #expect(outcome == .failed(.deadlineExceeded))
                    silent?.answer()
                    _ = caller.write()
                case _ where outcome == .failed(.outcomeUnknown):
                    _ = caller.write()  // The machine was busy for that long.
                default:
                    #expect(outcome == .reply(.ok))
                    stage.finish()
                }
            }
        }
    }

    @Test("closing: every call fails, and one made from within a failure is refused at once")
    func closing() throws {
        try Stage.run { stage in
            try stage.serve { _ in stage.finish() }
            stage.router.adopt(try stage.map())
            for _ in 0..<3 { _ = stage.caller.write() }
            stage.caller.onOutcome = { [caller = stage.caller] ticket, outcome in
                #expect(outcome == .failed(ticket <= 3 ? .outcomeUnknown : .unavailable))
                if ticket <= 3 { _ = caller.write() }
            }
        }
    }

    @Test("a map without a leader, or with an older epoch")
    func maps() throws {
        try Stage.run { stage in
            let caller = stage.caller
            #expect(caller.write() == 1 && caller[1] == .failed(.unavailable))  // No map yet.
            try stage.serve { _ in
                // The leader goes away while calls are with it.
                do {
                    stage.router.adopt(try stage.map(epoch: 2, isUp: false))
                    #expect(caller[2] == .failed(.outcomeUnknown) && caller[3] == .failed(.unavailable))
                    #expect(caller.write() == 4 && caller[4] == .failed(.unavailable))
                    stage.router.adopt(try stage.map(epoch: 1))
                    #expect(stage.router.epoch.rawValue == 2 && !stage.router.isReady && stage.router.inFlight == 0)
                } catch {
                    Issue.record("\(error)")
                }
                stage.finish()
            }
            stage.router.adopt(try stage.map())
            #expect(stage.router.shardIndex(ofSlot: 16383) == 0 && stage.router.shardIndex(ofSlot: .max) == nil)
            #expect(stage.router.anySlot(ofShardIndex: 0) == 0 && stage.router.anySlot(ofShardIndex: 1) == nil)
            _ = caller.write()
            _ = caller.read()
        }
    }
}
