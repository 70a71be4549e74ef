import Placement
import Testing

@testable import GatewayKit

/// Reviews are the router's only clock here, and the tests make them: nothing depends on how long anything takes.
@Suite("Hung leaders", .serialized)
struct HungLeaderTests {
    @Test("silent with a successor in the map: what was sent is unknown, what comes then goes to the successor")
    func hangs() throws {
        try Cast.run { stage, cast in
            let (router, caller) = (stage.router, stage.caller)
            router.adopt(try cast.map(leader: 1, term: 3))
            cast.leads = [true, true, false]
            cast.hang(0)
            caller.call([1])
            caller.call()
            caller.call([2])
            cast.onUnread = {
                stage.loop.runLater {
                    adopt(stage) { try cast.map(epoch: 2, leader: 2, term: 4) }
                    for _ in 1..<ShardRoute.silentReviews { router.review(counts: true) }
                    #expect(caller.outcomes.isEmpty)
                    router.review(counts: true)
                    let failures: [Outcome] = [.outcomeUnknown, .unavailable, .outcomeUnknown].map { .failed($0) }
                    #expect(caller.outcomes.map(\.outcome) == failures)
                }
            }
            caller.onOutcome = { ticket, outcome in
                switch ticket {
                case 1, 2: caller.call([UInt8(ticket) + 2])  // From within the failure.
                case 3: break
                case 4: #expect(outcome == .reply(.ok))
                case 5:
                    #expect(outcome == .reply(.ok) && cast.done == [[], [3, 4], []])
                    cast.wake()  // What it answers now is nobody's.
                    caller.call([5])
                default:
                    #expect(outcome == .reply(.ok) && cast.done == [[1, 2], [3, 4, 5], []])
                    stage.finish()
                }
            }
        }
    }

    @Test("by the loop's timer")
    func timed() throws {
        try Cast.run(reviewPeriod: 1) { stage, cast in
            stage.router.adopt(try cast.map(leader: 1, term: 3))
            cast.leads[1] = true
            cast.hang(0)
            stage.caller.call([1])
            cast.onUnread = { adopt(stage) { try cast.map(epoch: 2, leader: 2, term: 4) } }
            stage.caller.onOutcome = { [caller = stage.caller] ticket, outcome in
                #expect(outcome == (ticket == 1 ? .failed(.outcomeUnknown) : .reply(.ok)))
                if ticket == 1 { caller.call([2]) } else { stage.finish() }
            }
        }
    }

    @Test("a node that says anything between reviews is slow, not hung")
    func slow() throws {
        try Cast.run { stage, cast in
            let (router, caller) = (stage.router, stage.caller)
            router.adopt(try cast.map(leader: 1, term: 3))
            cast.leads[0] = true
            cast.hang(0)
            caller.call([1])
            cast.onUnread = {
                stage.loop.runLater {
                    if caller.made == 1 { adopt(stage) { try cast.map(epoch: 2, leader: 2, term: 4) } }
                    // The first after an answer only notes that there was one.
                    for _ in 1..<ShardRoute.silentReviews { router.review(counts: true) }
                    cast.answerOne()
                }
            }
            caller.onOutcome = { ticket, outcome in
                #expect(outcome == .reply(.ok) && cast.done[0] == Array(1...UInt8(ticket)))
                if ticket < 4 { caller.call([UInt8(ticket) + 1]) } else { stage.finish() }
            }
        }
    }

    @Test("silence alone proves nothing: without a leader of a later term the calls wait")
    func noSuccessor() throws {
        try Cast.run { stage, cast in
            let (router, caller) = (stage.router, stage.caller)
            router.adopt(try cast.map(leader: 1, term: 3))
            cast.leads[0] = true
            cast.hang(0)
            caller.call([1])
            cast.onUnread = {
                stage.loop.runLater {
                    let maps: [(UInt32?, UInt64)] = [(2, 3), (2, 2), (nil, 9), (1, 10), (2, 10)]
                    for (index, (leader, term)) in maps.enumerated() {
                        adopt(stage) { try cast.map(epoch: UInt64(index + 2), leader: leader, term: term) }
                        for _ in 0..<20 { router.review(counts: true) }
                    }
                    #expect(caller.outcomes.isEmpty)
                    cast.wake()
                }
            }
            caller.onOutcome = { _, outcome in
                #expect(outcome == .reply(.ok) && cast.done[0] == [1])
                stage.finish()
            }
        }
    }

    @Test("a shard that is owed nothing follows the map at once to a leader that is connected")
    func idle() throws {
        try Cast.run { stage, cast in
            let (router, caller) = (stage.router, stage.caller)
            router.adopt(try cast.map(leader: 1, term: 3))
            cast.leads = [true, true, false]
            caller.call([1])
            caller.onOutcome = { ticket, outcome in
                #expect(outcome == .reply(.ok))
                guard ticket == 1 else {
                    #expect(cast.done == [[1], [2], []])
                    return stage.finish()
                }
                cast.hang(0)
                func follow() {
                    // While nobody was connected, all replicas were tried.
                    guard cast.met.contains(1) else { return stage.loop.runLater(follow) }
                    adopt(stage) { try cast.map(epoch: 2, leader: 2, term: 4) }
                    caller.call([2])
                }
                follow()
            }
        }
    }

    @Test("a process that hangs does so for all its shards")
    func severalShards() throws {
        try Cast.run { stage, cast in
            let (router, caller) = (stage.router, stage.caller)
            router.adopt(try cast.map(leaders: [(1, 3), (1, 3)]))
            cast.leads = [true, true, false]
            cast.hang(0)
            caller.call([1])
            caller.call([2], slot: 16383)
            cast.onUnread = {
                stage.loop.runLater {
                    adopt(stage) { try cast.map(epoch: 2, leaders: [(2, 4), (1, 3)]) }
                    for _ in 0..<ShardRoute.silentReviews { router.review(counts: true) }
                }
            }
            caller.onOutcome = { ticket, outcome in
                switch ticket {
                case 1, 2:
                    #expect(outcome == .failed(.outcomeUnknown))
                    if ticket == 1 { caller.call([3]) } else { caller.call([4], slot: 16383) }
                default:
                    #expect(outcome == .reply(.ok))
                    guard caller.isSettled else { return }
                    #expect(cast.done[0].isEmpty && cast.done[1].sorted() == [3, 4])
                    stage.finish()
                }
            }
        }
    }

    @Test("a node that refuses a call and then hangs does not keep what waits behind it")
    func hangsWhileHeld() throws {
        try Cast.run { stage, cast in
            let (router, caller) = (stage.router, stage.caller)
            router.adopt(try cast.map(leader: 1, term: 3))
            cast.leads[1] = true
            cast.hang(0)
            caller.call([1])
            func giveUp() {
                guard router.isRerouting else { return stage.loop.runLater(giveUp) }
                caller.call([3])
                adopt(stage) { try cast.map(epoch: 2, leader: 2, term: 4) }
                for _ in 0..<ShardRoute.silentReviews { router.review(counts: true) }
                #expect(caller[2] == .failed(.outcomeUnknown))
            }
            cast.onUnread = {
                stage.loop.runLater {
                    if caller.made == 1 {
                        caller.call([2])
                    } else {
                        cast.answerOne()
                        giveUp()
                    }
                }
            }
            caller.onOutcome = { ticket, outcome in
                #expect(outcome == (ticket == 2 ? .failed(.outcomeUnknown) : .reply(.ok)))
                guard caller.isSettled else { return }
                #expect(cast.done == [[], [1, 3], []])
                stage.finish()
            }
        }
    }
}

private func adopt(_ stage: Stage, _ map: () throws -> ShardMap) {
    do { stage.router.adopt(try map()) } catch { Issue.record("\(error)") }
}
