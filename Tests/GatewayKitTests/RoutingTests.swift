import Testing

@testable import GatewayKit

@Suite("Routing", .serialized)
struct RoutingTests {
    @Test("refused calls follow the hint, in their order, and before what was called later")
    func followsHint() throws {
        try Cast.run { stage, cast in
            cast.leads[1] = true
            cast.hints = [2, nil, nil]
            stage.router.adopt(try cast.map(leader: 1))
            for number in 1...100 as ClosedRange<UInt8> { stage.caller.call([number]) }
            stage.caller.onOutcome = { [caller = stage.caller] _, outcome in
                #expect(outcome == .reply(.ok))
                // Calls made while answers come must stay behind what is on its way.
                if caller.made < 200 { caller.call([UInt8(caller.made + 1)]) }
                guard caller.outcomes.count == 200 else { return }
                #expect(cast.done[1] == Array(1...200))
                #expect(cast.done[0].isEmpty && cast.done[2].isEmpty && stage.router.inFlight == 0)
                stage.finish()
            }
        }
    }

    @Test("batches and steps follow the hint among calls, in their order")
    func batchesFollowHint() throws {
        try Cast.run { stage, cast in
            cast.leads[1] = true
            cast.hints = [2, nil, nil]
            // What is called before there is a map's leader is parked first.
            stage.router.adopt(try cast.map(leader: nil))
            func make(_ numbers: ClosedRange<UInt8>) {
                for number in numbers {
                    switch number % 3 {
                    case 0: stage.caller.step(UInt64(number))
                    case 1: stage.caller.batch([number])
                    default: stage.caller.call([number])
                    }
                }
            }
            make(1...50)
            stage.router.adopt(try cast.map(epoch: 2, leader: 1))
            make(51...100)
            stage.caller.onOutcome = { [caller = stage.caller] _, outcome in
                #expect(outcome == .reply(.ok))
                guard caller.outcomes.count == 100 else { return }
                #expect(cast.done[1] == Array(1...100) && cast.done[0].isEmpty && cast.done[2].isEmpty)
                stage.finish()
            }
        }
    }

    @Test("a leader that changes in the middle of a pipeline reorders nothing")
    func changesMidway() throws {
        try Cast.run { stage, cast in
            cast.leads[0] = true
            stage.router.adopt(try cast.map(leader: 1))
            var changes = 0
            stage.caller.call([1])
            stage.caller.onOutcome = { [caller = stage.caller] _, outcome in
                #expect(outcome == .reply(.ok))
                for _ in 0..<3 where caller.made < 240 { caller.call([UInt8(caller.made + 1)]) }
                if caller.outcomes.count % 20 == 0, changes < 8 {
                    changes += 1
                    let next = changes % 3
                    for node in 0..<3 {
                        cast.leads[node] = node == next
                        cast.hints[node] = changes % 2 == 0 ? nil : UInt32(next + 1)
                    }
                }
                guard caller.outcomes.count == 240 else { return }
                // Each node's calls rise, and together they are all, once.
                for node in 0..<3 { #expect(cast.done[node] == cast.done[node].sorted()) }
                #expect(cast.done.joined().sorted() == Array(1...240))
                stage.finish()
            }
        }
    }

    @Test("without a hint, or with the leader's process gone, the replicas are asked in turn")
    func asksInTurn() throws {
        try Cast.run { stage, cast in
            cast.leads[0] = true
            stage.router.adopt(try cast.map(leader: 1))
            stage.caller.call([1])
            // Only what was never sent may go elsewhere: until the loss is known, calls end as unknown and are made
            // again.
            var next: UInt8 = 2
            stage.caller.onOutcome = { [caller = stage.caller] ticket, outcome in
                if ticket == 1 {
                    cast.leads = [false, false, true]
                    cast.stop(0)
                } else if outcome != .failed(.outcomeUnknown) {
                    #expect(outcome == .reply(.ok))
                    next += 1
                }
                if next < 6 {
                    caller.call([next])
                } else {
                    #expect(cast.done[2] == [2, 3, 4, 5])
                    stage.finish()
                }
            }
        }
    }

    @Test("while nobody leads calls wait, and fail for certain when patience ends")
    func nobodyLeads() throws {
        try Cast.run(patience: 150) { stage, cast in
            stage.router.adopt(try cast.map(leader: 1))
            for number in 1...3 as ClosedRange<UInt8> { stage.caller.call([number]) }
            stage.caller.onOutcome = { [caller = stage.caller] ticket, outcome in
                if ticket <= 3 {
                    #expect(outcome == .failed(.unavailable))
                    guard ticket == 3 else { return }
                    cast.leads[2] = true
                    caller.call([4])
                } else if outcome == .failed(.unavailable), caller.made < 100 {
                    caller.call([4])  // The machine was busy for that long; it has certainly not been done.
                } else {
                    #expect(outcome == .reply(.ok) && Array(cast.done.joined()) == [4])
                    stage.finish()
                }
            }
        }
    }
}
