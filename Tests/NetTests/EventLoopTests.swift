import Base
import CSystem
import Glibc
import Net
import Synchronization
import TestKit
import Testing

@Suite(.timeLimit(.minutes(10))) struct EventLoopTests {
    @Test func executeRunsOnTheLoopInOrder() async throws {
        try await Harness.with { harness in
            #expect(harness.loop.isInLoop == false)
            let order = Mutex<[Int]>([])
            for number in 0..<1000 { harness.loop.execute { order.withLock { $0.append(number) } } }
            let isInLoop = try await harness.run { $0.isInLoop }
            #expect(isInLoop)
            #expect(order.withLock { $0 } == Array(0..<1000))
        }
    }

    @Test func manyThreadsSubmitWithoutLoss() async throws {
        try await Harness.with { harness in
            final class Tally: Sendable { let count = Atomic<Int>(0) }
            let tally = Tally()
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        for _ in 0..<5000 { harness.loop.execute { tally.count.add(1, ordering: .relaxed) } }
                    }
                }
            }
            _ = try await harness.run { _ in }
            #expect(tally.count.load(ordering: .relaxed) == 40_000)
        }
    }

    /// Each submission finds the loop asleep or about to sleep: a lost wake-up would hang here.
    @Test func wakesASleepingLoop() async throws {
        try await Harness.with { harness in
            for _ in 0..<5000 { _ = try await harness.run { _ in } }
        }
    }

    @Test func timersFireInOrderOfDeadlineAndCanBeCancelled() async throws {
        try await Harness.with { harness in
            let fired: [Int] = try await withCheckedThrowingContinuation { continuation in
                harness.loop.execute { [loop = harness.loop] in
                    var fired: [Int] = []
                    var timers: [LoopTimer] = []
                    for delay in [9, 3, 7, 1, 5, 5, 2] {
                        timers.append(loop.schedule(afterMilliseconds: delay) { fired.append(delay) })
                    }
                    timers[2].cancel()
                    timers[2].cancel()
                    #expect(!timers[2].isScheduled)
                    loop.schedule(afterMilliseconds: 10) { continuation.resume(returning: fired) }
                }
            }
            #expect(fired == [1, 2, 3, 5, 5, 9])
        }
    }

    @Test func randomTimersFireSortedWhateverIsCancelled() async throws {
        let seed = freshSeed("random timers")
        try await Harness.with { harness in
            let (fired, expected): ([Int], [Int]) = try await withCheckedThrowingContinuation { continuation in
                harness.loop.execute { [loop = harness.loop] in
                    var random = SplitMix64(seed: seed)
                    var fired: [Int] = []
                    var alive: [(Int, LoopTimer)] = []
                    for _ in 0..<500 {
                        let delay = Int(random.next() % 20)
                        alive.append((delay, loop.schedule(afterMilliseconds: delay) { fired.append(delay) }))
                        if random.next() % 3 == 0 {
                            alive.remove(at: Int(random.next() % UInt64(alive.count))).1.cancel()
                        }
                    }
                    let expected = alive.map(\.0).sorted()
                    loop.schedule(afterMilliseconds: 21) { continuation.resume(returning: (fired, expected)) }
                }
            }
            #expect(fired == expected, "seed \(seed)")
        }
    }

    @Test func aRepeatingTimerRepeatsUntilCancelledFromItsOwnBody() async throws {
        try await Harness.with { harness in
            let count: Int = try await withCheckedThrowingContinuation { continuation in
                harness.loop.execute { [loop = harness.loop] in
                    var count = 0
                    var timer: LoopTimer?
                    timer = loop.schedule(afterMilliseconds: 1, repeating: true) {
                        count += 1
                        if count == 5 {
                            timer?.cancel()
                            loop.schedule(afterMilliseconds: 5) { continuation.resume(returning: count) }
                        }
                    }
                }
            }
            #expect(count == 5)
        }
    }

    /// What comes from outside has its turn: it alone ends this.
    @Test func aTimerThatSetsItselfForNowDoesNotHoldTheLoop() async throws {
        try await Harness.with { harness in
            let count: Int = try await withCheckedThrowingContinuation { continuation in
                harness.loop.execute { [loop = harness.loop] in
                    var count = 0, isOver = false
                    func again() {
                        count += 1
                        guard !isOver else { return continuation.resume(returning: count) }
                        if count == 2 { loop.runLater { isOver = true } }
                        loop.schedule(afterMilliseconds: 0) { again() }
                    }
                    again()
                }
            }
            #expect(count > 2)
        }
    }

    @Test func flushesUpstreamBeforeDownstreamOncePerTick() async throws {
        final class Flush: TickFlushable {
            var isFlushPending = false
            let body: () -> Void
            init(_ body: @escaping () -> Void) { self.body = body }
            func flushAtTickEnd() { body() }
        }
        try await Harness.with { harness in
            let log: [String] = try await withCheckedThrowingContinuation { continuation in
                harness.loop.execute { [loop = harness.loop] in
                    var log: [String] = []
                    let up = Flush { log.append("up") }
                    let down = Flush {
                        log.append("down")
                        if log.count == 2 { loop.flushUpstream(up) }  // A further round of the same tick.
                    }
                    loop.flushDownstream(down)
                    loop.flushDownstream(down)
                    loop.flushUpstream(up)
                    loop.flushUpstream(up)
                    loop.schedule(afterMilliseconds: 1) { continuation.resume(returning: log) }
                }
            }
            #expect(log == ["up", "down", "up"])
        }
    }

    @Test func aPairThatWakesEachOtherForeverDoesNotHoldTheLoop() async throws {
        final class Busy: TickFlushable {
            var isFlushPending = false
            let loop: EventLoop
            var isStopped = false
            init(_ loop: EventLoop) { self.loop = loop }
            func flushAtTickEnd() { if !isStopped { loop.flushUpstream(self) } }
        }
        try await Harness.with { harness in
            let loop = harness.loop
            let busy = try await harness.run { loop in
                let busy = Busy(loop)
                loop.flushUpstream(busy)
                return LoopBound(busy, loop: loop)
            }
            _ = try await harness.run { _ in busy.value.isStopped = true }
            #expect(!loop.isInLoop)
        }
    }

    /// A job that takes a millisecond and begets another is not repeated a tick's count of jobs before timers fire.
    @Test func longJobsGiveWayByTheClock() async throws {
        try await Harness.with { harness in
            let jobs: Int = try await withCheckedThrowingContinuation { continuation in
                harness.loop.execute { [loop = harness.loop] in
                    var jobs = 0, isOver = false
                    func burn() {
                        let until = monotonicNanoseconds() + 1_100_000
                        while monotonicNanoseconds() < until {}
                        jobs += 1
                        if !isOver { loop.runLater(burn) }
                    }
                    burn()
                    loop.schedule(afterMilliseconds: 1) {
                        isOver = true
                        continuation.resume(returning: jobs)
                    }
                }
            }
            #expect(jobs < 100)
        }
    }

    @Test func tasksWithThePreferenceRunOnTheLoopsThread() async throws {
        try await Harness.with { harness in
            let expected = try await harness.run { _ in orbit_thread_id() }
            let seen = await Task(executorPreference: harness.loop) {
                var seen: Set<Int32> = [orbit_thread_id()]
                for _ in 0..<10 {
                    await Task.yield()
                    seen.insert(orbit_thread_id())
                }
                await withTaskGroup(of: Int32.self) { group in
                    for _ in 0..<10 { group.addTask { orbit_thread_id() } }
                    for await id in group { seen.insert(id) }
                }
                return seen
            }.value
            #expect(seen == [expected])
        }
    }

    @Test func actorsMayLiveOnTheLoop() async throws {
        actor Counter {
            let loop: EventLoop
            var count = 0
            init(_ loop: EventLoop) { self.loop = loop }
            nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }
            func increment() -> Int32 {
                count += 1
                return orbit_thread_id()
            }
        }
        actor Plain {
            func thread() -> Int32 { orbit_thread_id() }
        }
        try await Harness.with { harness in
            let expected = try await harness.run { _ in orbit_thread_id() }
            let counter = Counter(harness.loop)
            #expect(await counter.increment() == expected)
            #expect(await Task(executorPreference: harness.loop) { await counter.increment() }.value == expected)
            // A default actor follows the preference of the task that calls it.
            let plain = Plain()
            #expect(await Task(executorPreference: harness.loop) { await plain.thread() }.value == expected)
            #expect(try await harness.run { _ in counter.assumeIsolated { $0.count } } == 2)
        }
    }

    @Test func signalsArriveOnTheLoop() async throws {
        try await Harness.with { harness in
            let inLoop: Bool = await withCheckedContinuation { continuation in
                let once = Mutex(false)
                harness.loop.onSignal(SIGUSR2) { [loop = harness.loop] in
                    guard
                        once.withLock({ done in
                            defer { done = true }; return !done
                        })
                    else { return }
                    continuation.resume(returning: loop.isInLoop)
                }
                // Behind the installation of the handler in the loop's queue.
                harness.loop.execute { kill(getpid(), SIGUSR2) }
            }
            #expect(inLoop)
        }
    }

    @Test func runReturnsAfterStopAndMayRunAgain() throws {
        let loop = try EventLoop()
        for _ in 0..<3 {
            loop.schedule(afterMilliseconds: 1) { loop.stop() }
            loop.run()
        }
        #expect(!loop.isInLoop)
    }
}
