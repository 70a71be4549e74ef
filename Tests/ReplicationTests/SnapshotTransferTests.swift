import Base
import Raft
import Replication
import TestKit
import Testing

/// Sender and receiver of a snapshot, over a network and a disk that do what they may.
@Suite("Snapshot transfer")
struct SnapshotTransferTests {
    @Test("arrives whole over a good network, in one pass and within the rate")
    func good() {
        let run = SnapshotTransferRun(seed: 1)
        run.rate = 1_000_000
        run.start()
        run.run()
        #expect(run.outcome == .staged && run.isWhole && run.staged.count == 1)
        #expect(run.sender.bytesSent == run.sender.total && run.sender.done == run.sender.total)
        #expect(run.offers == 1)
        #expect(run.violation == nil)
    }

    @Test("arrives whole though parts and answers are lost, doubled and reordered, and either side starts anew")
    func bad() {
        let first = freshSeed("snapshot transfer") >> 16
        // The last one: a receiver that started anew, and an offer that came twice.
        for seed in Array(first..<first + 150) + [127_704_933_217_169] {
            let run = SnapshotTransferRun(seed: seed)
            run.beBad()
            run.start()
            run.run()
            #expect(run.outcome == .staged && run.isWhole && run.violation == nil, "seed \(seed): \(run.summary)")
        }
    }

    @Test("goes on where it was after a lost stream, and behind the last whole file after a restart")
    func resumes() {
        for restarts in [false, true] {
            let run = SnapshotTransferRun(seed: 7)
            run.rate = 500_000
            run.start()
            run.run(until: { $0.sender.done > $0.sender.total / 2 })
            let done = run.sender.done
            #expect(!run.isOver)
            if restarts { run.restartReceiver() } else { run.loseStream() }
            run.run()
            #expect(run.outcome == .staged && run.isWhole && run.violation == nil)
            let again = run.sender.bytesSent - run.sender.total
            let largest = UInt64(run.files.map(\.count).max() ?? 0)
            #expect(done > largest && again <= (restarts ? largest : 0) + run.limits.window)
        }
    }

    @Test("a file that was damaged once is sent again, and one that always is ends the transfer")
    func damage() {
        let once = SnapshotTransferRun(seed: 3)
        once.damagedWrites = [once.files.count + 1]
        once.start()
        once.run()
        #expect(once.outcome == .staged && once.isWhole && once.sender.bytesSent > once.sender.total)
        let always = SnapshotTransferRun(seed: 3)
        always.damagesFile = 2
        always.start()
        always.run()
        #expect(always.outcome == .refused(.damaged) && always.discards == 1 && always.staged.isEmpty)
    }

    @Test("a full disk, a dead receiver and impossible files end it")
    func ends() {
        let full = SnapshotTransferRun(seed: 4)
        full.refusal = .full
        full.start()
        full.run()
        #expect(full.outcome == .refused(.full) && full.discards == 1)
        let failing = SnapshotTransferRun(seed: 4)
        failing.failingWrite = 3
        failing.start()
        failing.run()
        #expect(failing.outcome == .refused(.failed) && failing.discards == 1 && failing.receiver.isIdle)
        let dead = SnapshotTransferRun(seed: 4)
        dead.lossPerMille = 1000
        dead.start()
        dead.run()
        #expect(dead.outcome == .silent && dead.now >= dead.limits.giveUpAfter)
        var sender = SnapshotSender(SnapshotTransferRun.offer(sizes: [.max, 1]), now: 0)
        #expect(sender.next(now: 0) == .finish(.impossible))
    }

    @Test("an empty snapshot is staged at once")
    func empty() {
        let run = SnapshotTransferRun(seed: 5, files: [])
        run.start()
        run.run()
        #expect(run.outcome == .staged && run.staged.count == 1)
        let hollow = SnapshotTransferRun(seed: 5, files: [[], [1], []])
        hollow.start()
        hollow.run()
        #expect(hollow.outcome == .staged && hollow.isWhole)
    }

    // MARK: The receiver alone

    private typealias Action = SnapshotReceiver.Action

    private func progress(_ transfer: UInt64, _ round: UInt64, _ state: SnapshotProgress.State) -> Action {
        .answer(SnapshotProgress(transfer: transfer, round: round, state: state))
    }

    @Test("a newer leader's offer takes the place of an older one's, and not the other way round")
    func leaders() {
        var receiver = SnapshotReceiver()
        var first = SnapshotTransferRun.offer(sizes: [10])
        first.transfer = 1
        #expect(receiver.step(.offered(first), now: 0) == [.open(round: 1, first), progress(1, 1, .opening)])
        var second = first
        (second.transfer, second.leaderTerm, second.manifest) = (9, Term(rawValue: 6), [9])
        #expect(receiver.step(.offered(second), now: 0) == [.open(round: 2, second), progress(9, 2, .opening)])
        #expect(receiver.step(.opened(round: 1, held: 1), now: 0).isEmpty)
        #expect(receiver.step(.offered(first), now: 0) == [progress(1, 2, .refused(.stale))])
        let part = SnapshotReceiver.Event.part(transfer: 1, at: SnapshotPosition(file: 0, offset: 0), count: 10)
        #expect(receiver.step(part, now: 0) == [progress(1, 2, .unknown)])
        #expect(receiver.step(.opened(round: 2, held: 1), now: 0) == [.stage(second), progress(9, 2, .staged)])
        // Its leader offers it again because the install did not work: the group is told again.
        var again = second
        again.transfer = 10
        #expect(receiver.step(.offered(again), now: 0) == [.stage(again), progress(10, 2, .staged)])
        #expect(receiver.step(.offered(again), now: 0) == [progress(10, 2, .staged)])
        #expect(receiver.step(.consumed, now: 0) == [.discard])
        #expect(receiver.isIdle && receiver.step(.consumed, now: 0).isEmpty)
    }

    @Test("what a silent leader left is thrown away in time")
    func forgets() {
        var receiver = SnapshotReceiver()
        _ = receiver.step(.offered(SnapshotTransferRun.offer(sizes: [10])), now: 5)
        let limit = SnapshotReceiver.Limits().forgetAfter
        #expect(receiver.step(.tick, now: limit).isEmpty)
        #expect(receiver.step(.tick, now: limit + 5) == [.discard])
        #expect(receiver.isIdle && receiver.step(.tick, now: .max).isEmpty)
        _ = receiver.step(.offered(SnapshotTransferRun.offer(sizes: [])), now: 5)
        let staged = receiver.step(.opened(round: 7, held: 0), now: 7)
        #expect(staged.count == 2 && !receiver.isIdle)
        #expect(receiver.step(.tick, now: limit + 6).isEmpty)
        #expect(receiver.step(.tick, now: limit + 7) == [.discard])
    }

    @Test("no offer, part or result from outside reaches a trap or takes more than the window")
    func nonsense() {
        var random = SplitMix64(seed: freshSeed("snapshot nonsense"))
        for _ in 0..<300 {
            var receiver = SnapshotReceiver()
            var sender = SnapshotSender(SnapshotTransferRun.offer(sizes: [300, 0, 7]), now: 0)
            for _ in 0..<60 {
                _ = receiver.step(Self.randomEvent(&random), now: random.next() >> (random.next() & 63))
                let written = Self.randomPosition(&random)
                let state: [SnapshotProgress.State] = [
                    .unknown, .opening, .receiving(written: written, wanted: nil),
                    .receiving(written: written, wanted: Self.randomPosition(&random)),
                ]
                let progress = SnapshotProgress(
                    transfer: sender.offer.transfer, round: random.next(below: 3),
                    state: state[Int(random.next(below: 4))])
                sender.received(progress, now: random.next() >> (random.next() & 63))
                let action = sender.next(now: random.next() >> (random.next() & 63))
                if case .send(_, let from, let count) = action {
                    let size = [300, 0, 7, 0][from.file]
                    #expect(count > 0 && Int(from.offset) + count <= size)
                }
            }
        }
    }

    private static func randomNumber(_ random: inout SplitMix64) -> UInt64 { random.next() >> (random.next() & 63) }

    private static func randomPosition(_ random: inout SplitMix64) -> SnapshotPosition {
        SnapshotPosition(
            file: Int(truncatingIfNeeded: randomNumber(&random)) * (random.oneIn(9) ? -1 : 1),
            offset: randomNumber(&random))
    }

    private static func randomEvent(_ random: inout SplitMix64) -> SnapshotReceiver.Event {
        let count = Int(truncatingIfNeeded: randomNumber(&random)) - 1
        let round = random.next(below: 4)
        switch random.next(below: 9) {
        case 0, 1:
            let sizes = (0..<random.next(below: 4)).map { _ in randomNumber(&random) }
            var offer = SnapshotTransferRun.offer(sizes: sizes)
            offer.transfer = random.next(below: 3)
            return .offered(offer)
        case 2, 3, 4: return .part(transfer: random.next(below: 3), at: randomPosition(&random), count: count)
        case 5: return .opened(round: round, held: count)
        case 6: return .written(round: round, at: randomPosition(&random), count: count)
        case 7: return .checked(round: round, file: count, isWhole: random.oneIn(2))
        case _: return random.oneIn(2) ? .consumed : .failed(round: round, .failed)
        }
    }
}
