import Base
import CSystem
import Glibc
import Synchronization

/// Something that owns a file descriptor and is told when it can be read or written.
package protocol EventSource: AnyObject {
    /// Called once per tick with everything the kernel reported for the descriptor.
    func ready(_ events: IOEvents)
}

/// An object with work gathered during a tick: frames to send, replies to write.
package protocol TickFlushable: AnyObject {
    /// Owned by the loop: true while the object waits for the end of the tick.
    var isFlushPending: Bool { get set }
    /// Called once at the end of the tick in which the object was registered.
    func flushAtTickEnd()
}

/// What a source waits for, and what the kernel reports (`error` and `hangup` are reported unasked).
package struct IOEvents: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let readable = IOEvents(rawValue: EPOLLIN.rawValue)
    package static let writable = IOEvents(rawValue: EPOLLOUT.rawValue)
    package static let error = IOEvents(rawValue: EPOLLERR.rawValue)
    package static let hangup = IOEvents(rawValue: EPOLLHUP.rawValue)
}

/// One thread, one epoll instance: everything a gateway or a shard does happens here, in ticks.
///
/// A tick is: `epoll_wait`; every ready source once; due timers; jobs (closures of `execute`, Swift tasks that prefer
/// this executor, actors that live on it); then the end of the tick: `flushUpstream` objects (frames to nodes,
/// proposals to the log), `flushDownstream` objects (one write per dirty client), closed connections. Batching per
/// tick is the most important single decision of the data path: what was parsed in one tick leaves as one frame, what
/// was answered leaves as one write.
///
/// Invariants:
/// - Everything except `execute`, `enqueue`, `stop`, `isInLoop` and `onSignal` is confined to the loop's thread (or to
///   whoever sets the loop up before `run`).
/// - epoll is level-triggered: a source reads once per tick and is called again while bytes remain, so no source
///   starves the others. A report carries the generation of its registration; one that is stale because the
///   descriptor was closed and reused within the tick is dropped.
/// - A thread that submits work writes to the eventfd only when the loop sleeps. Both sides use sequentially
///   consistent atomics: the loop announces sleep and then looks for work, a submitter leaves work and then looks for
///   sleep, so one of them sees the other.
package final class EventLoop: SerialExecutor, TaskExecutor, @unchecked Sendable {
    /// Unchecked: `local` never leaves the loop's thread, and a job is run once, by whoever took it.
    private enum Work: @unchecked Sendable {
        case call(@Sendable () -> Void)
        case local(() -> Void)
        case job(UnownedJob)
    }

    private struct Slot {
        var source: (any EventSource)?
        var generation: UInt32 = 0
        /// Belongs to `TickSize`.
        var mark: UInt32 = 0
    }

    /// A tick runs at most this many jobs, so that tasks which feed each other cannot keep the sockets waiting.
    private static let jobsPerTick = 4096
    /// The same for those that take long.
    private static let jobsNanoseconds: UInt64 = 1_000_000
    private static let flushRounds = 16
    private static let upstreamPasses = 4
    /// Buffers kept for the next tick's output: 64 of 16 KB.
    private static let spareLimit = 64
    /// The size of the loop-wide read buffer.
    package static let scratchSize = 64 << 10

    // Shared with other threads.
    private let inbox = Mutex<[Work]>([])
    private let hasInbox = Atomic<Bool>(false)
    private let isSleeping = Atomic<Bool>(false)
    private let isStopRequested = Atomic<Bool>(false)
    private let threadID = Atomic<Int32>(0)

    private let epollFD: Int32
    private let wakeFD: Int32
    private let events: UnsafeMutablePointer<epoll_event>
    private var slots: [Slot] = []
    private var size = TickSize()
    private var local: [Work] = []
    private var running: [Work] = []
    private var upstream: ContiguousArray<any TickFlushable> = []
    private var downstream: ContiguousArray<any TickFlushable> = []
    private var flushing: ContiguousArray<any TickFlushable> = []
    private var timers = TimerHeap()
    private var grown: [Connection] = []
    private var spares: [SpareBuffer] = []
    private var trimTimer: LoopTimer?
    private var signals: SignalSource?

    /// The buffer all sources read into; nobody keeps bytes in it across calls.
    var scratch = ByteBuffer(capacity: EventLoop.scratchSize)
    /// The coarse deadlines of connections and streams.
    package let deadlines: DeadlineWheel
    /// Monotonic nanoseconds, sampled once per tick.
    package private(set) var now: UInt64

    package init() throws(SystemError) {
        epollFD = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epollFD >= 0 else { throw SystemError("epoll_create1") }
        wakeFD = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        events = .allocate(capacity: TickSize.most)
        now = monotonicNanoseconds()
        deadlines = DeadlineWheel(startingAt: now)
        guard wakeFD >= 0 else { throw SystemError("eventfd") }
        // Edge-triggered, so that the counter need never be read: every write is a new edge.
        var event = epoll_event(events: EPOLLIN.rawValue | EPOLLET.rawValue, data: epoll_data_t(u64: .max))
        guard epoll_ctl(epollFD, EPOLL_CTL_ADD, wakeFD, &event) == 0 else { throw SystemError("epoll_ctl") }
    }

    deinit {
        if wakeFD >= 0 { close(wakeFD) }
        close(epollFD)
        events.deallocate()
    }

    // MARK: Any thread

    /// True on the thread that runs the loop.
    package var isInLoop: Bool { threadID.load(ordering: .relaxed) == orbit_thread_id() }

    /// Runs `body` on the loop's thread, in the order submitted by one thread; never inside this call.
    package func execute(_ body: @escaping @Sendable () -> Void) { submit(.call(body)) }

    /// Makes `run` return after the current tick.
    package func stop() {
        isStopRequested.store(true, ordering: .sequentiallyConsistent)
        wake()
    }

    /// Runs `body` on the loop's thread whenever the process gets `signal`; one handler per signal and process.
    package func onSignal(_ signal: Int32, _ body: @escaping @Sendable () -> Void) {
        execute { [self] in
            if signals == nil { signals = SignalSource(registeredOn: self) }
            signals?.handle(signal, body)
        }
    }

    private func submit(_ work: Work) {
        if isInLoop {
            local.append(work)
            return
        }
        inbox.withLock { $0.append(work) }
        hasInbox.store(true, ordering: .sequentiallyConsistent)
        wake()
    }

    private func wake() {
        guard isSleeping.exchange(false, ordering: .sequentiallyConsistent) else { return }
        var one: UInt64 = 1
        _ = write(wakeFD, &one, 8)
    }

    // MARK: Executor

    /// Runs a Swift task's job on the loop's thread.
    package func enqueue(_ job: consuming ExecutorJob) { submit(.job(UnownedJob(job))) }

    /// The loop as the executor of actors.
    package func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }

    /// The loop as the preference of tasks.
    package func asUnownedTaskExecutor() -> UnownedTaskExecutor { UnownedTaskExecutor(ordinary: self) }

    /// What `assumeIsolated` asks.
    package func checkIsolated() { precondition(isInLoop, "not on the event loop's thread") }

    /// The same as a question.
    package func isIsolatingCurrentContext() -> Bool? { isInLoop }

    // MARK: Jobs of the loop itself

    /// Runs `body` later in this tick or in the next one, never inside this call.
    package func runLater(_ body: @escaping () -> Void) {
        assertConfined()
        local.append(.local(body))
    }

    // MARK: Sources

    /// Watches `fd` for `interest`; reports go to `source` until `deregister`, which must come before the descriptor
    /// closes.
    package func register(fd: Int32, interest: IOEvents, source: any EventSource) throws(SystemError) {
        assertConfined()
        let index = Int(fd)
        if index >= slots.count {
            slots.append(contentsOf: repeatElement(Slot(), count: max(index + 1, slots.count * 2) - slots.count))
        }
        slots[index].generation &+= 1
        slots[index].source = source
        var event = epoll_event(events: interest.rawValue, data: token(fd))
        guard epoll_ctl(epollFD, EPOLL_CTL_ADD, fd, &event) == 0 else {
            slots[index].source = nil
            throw SystemError("epoll_ctl")
        }
    }

    /// Replaces what a registered descriptor waits for.
    package func modify(fd: Int32, interest: IOEvents) {
        assertConfined()
        var event = epoll_event(events: interest.rawValue, data: token(fd))
        let result = epoll_ctl(epollFD, EPOLL_CTL_MOD, fd, &event)
        precondition(result == 0, "modify of a descriptor that is not registered")
    }

    /// Forgets a descriptor, which may then be closed; a report of it that is under way is dropped.
    package func deregister(fd: Int32) {
        assertConfined()
        guard Int(fd) < slots.count, slots[Int(fd)].source != nil else { return }
        slots[Int(fd)].source = nil
        slots[Int(fd)].generation &+= 1
        var event = epoll_event()
        _ = epoll_ctl(epollFD, EPOLL_CTL_DEL, fd, &event)
    }

    private func token(_ fd: Int32) -> epoll_data_t {
        epoll_data_t(u64: UInt64(slots[Int(fd)].generation) << 32 | UInt64(UInt32(bitPattern: fd)))
    }

    // MARK: Timers

    /// Runs `body` after at least that long on the loop's sampled clock, once or repeatedly, until cancelled.
    @discardableResult
    package func schedule(
        afterMilliseconds delay: Int, repeating: Bool = false, _ body: @escaping () -> Void
    ) -> LoopTimer {
        assertConfined()
        // Before `run` the sample may be old.
        if threadID.load(ordering: .relaxed) == 0 { now = monotonicNanoseconds() }
        let nanoseconds = UInt64(max(delay, 0)) * 1_000_000
        let timer = LoopTimer(loop: self, interval: repeating ? max(nanoseconds, 1_000_000) : 0, body: body)
        timers.insert(timer, deadline: now + nanoseconds)
        return timer
    }

    func cancel(_ timer: LoopTimer) {
        assertConfined()
        timers.remove(timer)
    }

    private func fireTimers() {
        // Bounded: a repeating timer moves past `now` before its body runs, and what bodies set for now is for the next
        // tick.
        let newest = timers.newest
        while let timer = timers.first, timer.deadline <= now, timer.sequence <= newest {
            if timer.interval > 0 {
                // Ticks missed by a stall are dropped, not caught up.
                timers.reschedule(timer, deadline: max(timer.deadline + timer.interval, now + 1))
                timer.body?()
            } else {
                timers.remove(timer)
                let body = timer.body
                timer.body = nil
                body?()
            }
        }
        deadlines.advance(to: now)
    }

    // MARK: End of the tick

    /// Flushes `object` at the end of this tick, before everything downstream. Registering twice is once.
    package func flushUpstream(_ object: any TickFlushable) {
        guard !object.isFlushPending else { return }
        object.isFlushPending = true
        upstream.append(object)
    }

    /// Flushes `object` at the end of this tick, after everything upstream. Registering twice is once.
    package func flushDownstream(_ object: any TickFlushable) {
        guard !object.isFlushPending else { return }
        object.isFlushPending = true
        downstream.append(object)
    }

    /// A flush may register others (a drained client resumes and sends upstream): rounds repeat until nothing is
    /// left, within a bound that keeps two objects which wake each other from holding the tick forever.
    private func endTick() {
        var rounds = 0
        while rounds < Self.flushRounds, !upstream.isEmpty || !downstream.isEmpty {
            // The queue is swapped out first: what a flush registers goes to the next round. A batch sent upstream
            // registers its connection upstream: that write, too, comes before any client's, so that the node works
            // while we write to clients.
            var passes = 0
            while passes < Self.upstreamPasses, !upstream.isEmpty {
                swap(&upstream, &flushing)
                flushSwapped()
                passes += 1
            }
            swap(&downstream, &flushing)
            flushSwapped()
            rounds += 1
        }
    }

    private func flushSwapped() {
        guard !flushing.isEmpty else { return }
        for object in flushing {
            object.isFlushPending = false
            object.flushAtTickEnd()
        }
        flushing.removeAll(keepingCapacity: true)
    }

    func takeSpare() -> SpareBuffer { spares.popLast() ?? SpareBuffer() }

    func returnSpare(_ spare: SpareBuffer) {
        guard spares.count < Self.spareLimit else { return }
        spare.buffer.trim(to: SpareBuffer.size)
        spares.append(spare)
    }

    /// Remembers a connection whose kept input grew; if empty about a second later, its memory is given back.
    func trimLater(_ connection: Connection) {
        grown.append(connection)
        guard trimTimer == nil else { return }
        trimTimer = schedule(afterMilliseconds: 1000) { [self] in
            trimTimer = nil
            let connections = grown
            grown = []
            for connection in connections { connection.trim() }
        }
    }

    // MARK: The tick

    /// Runs ticks on the calling thread until `stop`. Work still queued then stays queued for the next `run`.
    package func run() {
        let (exchanged, _) = threadID.compareExchange(
            expected: 0, desired: orbit_thread_id(), ordering: .sequentiallyConsistent)
        precondition(exchanged, "the loop already runs on a thread")
        while !isStopRequested.load(ordering: .sequentiallyConsistent) {
            poll()
            fireTimers()
            runJobs()
            endTick()
        }
        isStopRequested.store(false, ordering: .sequentiallyConsistent)
        threadID.store(0, ordering: .sequentiallyConsistent)
    }

    private func poll() {
        var timeout: Int32 = 0
        if local.isEmpty, upstream.isEmpty, downstream.isEmpty {
            isSleeping.store(true, ordering: .sequentiallyConsistent)
            let hasWork =
                hasInbox.load(ordering: .sequentiallyConsistent)
                || isStopRequested.load(ordering: .sequentiallyConsistent)
            timeout = hasWork ? 0 : pollTimeout()
        }
        let count = epoll_wait(epollFD, events, Int32(size.events), timeout)
        isSleeping.store(false, ordering: .sequentiallyConsistent)
        now = monotonicNanoseconds()
        // A negative count is EINTR: a signal handler ran, its byte is read in the next tick.
        for index in 0..<max(0, Int(count)) {
            let event = events[index]
            let token = event.data.u64
            guard token != .max else { continue }
            let index = Int(token & 0xffff_ffff)
            guard slots[index].generation == UInt32(truncatingIfNeeded: token >> 32), let source = slots[index].source
            else { continue }
            size.note(&slots[index].mark)
            source.ready(IOEvents(rawValue: event.events))
        }
        if count > 0 { size.endTick() }
    }

    /// Milliseconds until the next timer, rounded up; -1 without one.
    private func pollTimeout() -> Int32 {
        let deadline = min(timers.first?.deadline ?? .max, deadlines.nextWake)
        guard deadline != .max else { return -1 }
        let now = monotonicNanoseconds()
        guard deadline > now else { return 0 }
        return Int32(min((deadline - now + 999_999) / 1_000_000, 60_000))
    }

    private func runJobs() {
        var budget = Self.jobsPerTick
        if hasInbox.exchange(false, ordering: .sequentiallyConsistent) {
            if local.isEmpty {
                inbox.withLock { swap(&$0, &local) }
            } else {
                var arrived: [Work] = []
                inbox.withLock { swap(&$0, &arrived) }
                local.append(contentsOf: arrived)
            }
        }
        while !local.isEmpty, budget > 0 {
            swap(&local, &running)
            budget -= running.count
            for work in running {
                switch work {
                case .call(let body): body()
                case .local(let body): body()
                case .job(let job):
                    job.runSynchronously(
                        isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
                }
            }
            running.removeAll(keepingCapacity: true)
            // Jobs that beget jobs without end must not keep the network waiting for their count alone.
            if !local.isEmpty, monotonicNanoseconds() &- now > Self.jobsNanoseconds { return }
        }
    }

    private func assertConfined() {
        let owner = threadID.load(ordering: .relaxed)
        precondition(owner == 0 || owner == orbit_thread_id(), "the event loop is confined to its thread")
    }
}

/// Carries a loop-confined value through a `@Sendable` closure back to its loop.
package struct LoopBound<Value>: @unchecked Sendable {
    private let loop: EventLoop
    private let content: Value

    package init(_ value: Value, loop: EventLoop) {
        content = value
        self.loop = loop
    }

    /// The value; only on the loop's thread.
    package var value: Value {
        precondition(loop.isInLoop, "loop-confined value used on another thread")
        return content
    }
}

/// Nanoseconds of the monotonic clock, now.
package func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
