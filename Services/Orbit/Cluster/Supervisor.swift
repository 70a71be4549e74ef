import Base
import Glibc
import Net
import ServiceKit

/// Starts the processes of a cluster, watches them, starts again what dies, and drains them in order at the end.
///
/// One loop, no threads. A process is *starting* from its spawn until its `/readyz` answers 200, then *ready*; when it
/// ends unasked it waits out `RestartPolicy` and starts again. Stopping goes by role from the clients inwards: gateways
/// first, so that what they were asked still finds its node; the next role is asked once the one before has ended.
final class Supervisor {
    enum Phase: Hashable { case starting, ready, waiting, stopping, stopped, failed }

    /// A process of the plan and what has become of it.
    final class Managed {
        let spec: ProcessSpec
        fileprivate(set) var phase = Phase.stopped
        fileprivate(set) var pid: pid_t = 0
        fileprivate(set) var startedAt: UInt64 = 0
        fileprivate(set) var readyAfter = 0
        fileprivate(set) var starts = 0
        fileprivate(set) var lastEnd: ChildProcess.End?
        fileprivate var policy = RestartPolicy()
        fileprivate var timer: LoopTimer?
        fileprivate var isProbing = false
        fileprivate var complaint = ""

        /// Why it is not ready: what its probe says, or how it ended.
        var why: String {
            switch phase {
            case .starting: complaint
            case .waiting, .failed: lastEnd?.description ?? "it cannot be started"
            case .ready, .stopping, .stopped: ""
            }
        }

        init(_ spec: ProcessSpec) { self.spec = spec }
    }

    /// A process that dies so often before it was ever ready makes `orbit up` give up.
    static let startAttempts = 3
    static let probeInterval = 20
    static let graceMilliseconds = 10_000

    let plan: ClusterPlan
    let processes: [Managed]
    /// Called after every change of a process.
    var changed: (Managed) -> Void = { _ in }
    /// Called once, when every process is ready for the first time.
    var becameReady: () -> Void = {}
    /// Called once, when `shutDown` has ended.
    var ended: () -> Void = {}
    /// Called when a process cannot be started at all.
    var gaveUp: (Managed) -> Void = { _ in }

    private let loop: EventLoop
    private let directory: String
    private let disk: any Disk
    private var wasReady = false
    private var isShuttingDown = false
    private var isKilling = false

    init(_ plan: ClusterPlan, loop: EventLoop, disk: any Disk, executables directory: String) {
        self.plan = plan
        self.loop = loop
        self.disk = disk
        self.directory = directory
        processes = plan.processes.map(Managed.init)
    }

    var isReady: Bool { processes.allSatisfy { $0.phase == .ready } }

    /// Starts every process at once: each waits for those it needs.
    func start() {
        let bound = LoopBound(self, loop: loop)
        loop.onSignal(SIGCHLD) { bound.value.reap() }
        for process in processes { launch(process) }
    }

    func process(_ id: String) -> Managed? { processes.first { $0.spec.id == id } }

    /// Starts a process that was stopped (or waits to be started); says why not.
    func start(_ process: Managed) -> String? {
        switch process.phase {
        case .starting, .ready: return "\(process.spec.id) is running"
        case .stopping: return "\(process.spec.id) is stopping: try again when it has ended"
        case .waiting, .stopped, .failed:
            process.policy = RestartPolicy()
            launch(process)
            return nil
        }
    }

    /// Drains one process and leaves it stopped; says why not.
    func stop(_ process: Managed) -> String? {
        switch process.phase {
        case .stopped, .failed: return "\(process.spec.id) is not running"
        case .stopping: return nil
        case .waiting: move(process, to: .stopped)
        case .starting, .ready: terminate(process)
        }
        return nil
    }

    /// Drains everything; called again, kills.
    func shutDown() {
        if isShuttingDown {
            isKilling = true
            for process in processes where process.pid > 0 { kill(process.pid, SIGKILL) }
            return
        }
        isShuttingDown = true
        shutDownNext()
    }

    private func shutDownNext() {
        for role in ProcessSpec.Role.allCases.reversed() {
            let members = processes.filter { $0.spec.role == role }
            for process in members where process.phase != .stopping { _ = stop(process) }
            if members.contains(where: { $0.pid > 0 }) { return }
        }
        ended()
    }

    private func launch(_ process: Managed) {
        process.timer?.cancel()
        process.starts += 1
        process.startedAt = monotonicMilliseconds()
        do {
            process.pid = try ChildProcess.start(
                "\(directory)/\(process.spec.role.rawValue)", process.spec.arguments,
                logFile: plan.paths.logFile(process.spec.id))
            try SmallFile.replace(plan.paths.pidFile(process.spec.id), "\(process.pid)\n", on: disk)
        } catch {
            process.lastEnd = nil
            Console.error("\(error)")
            move(process, to: .failed)
            gaveUp(process)
            return
        }
        move(process, to: .starting)
        process.timer = loop.schedule(afterMilliseconds: Self.probeInterval, repeating: true) { [self] in
            probe(process)
        }
    }

    private func probe(_ process: Managed) {
        guard process.phase == .starting, !process.isProbing else { return }
        process.isProbing = true
        let pid = process.pid
        AdminClient.get(process.spec.admin, "/readyz", loop: loop, timeoutMilliseconds: 1000) { [self] status, body in
            process.isProbing = false
            process.complaint = String(decoding: body.prefix { $0 != 0x0A }, as: UTF8.self)
            guard status == 200, process.phase == .starting, process.pid == pid else { return }
            process.timer?.cancel()
            process.readyAfter = Int(monotonicMilliseconds() - process.startedAt)
            move(process, to: .ready)
            if !wasReady, isReady {
                wasReady = true
                becameReady()
            }
        }
    }

    private func terminate(_ process: Managed) {
        process.timer?.cancel()
        move(process, to: .stopping)
        kill(process.pid, isKilling ? SIGKILL : SIGTERM)
        let pid = process.pid
        process.timer = loop.schedule(afterMilliseconds: Self.graceMilliseconds) {
            if process.pid == pid, process.phase == .stopping { kill(pid, SIGKILL) }
        }
    }

    private func reap() {
        for process in processes where process.pid > 0 {
            guard let end = ChildProcess.reap(process.pid) else { continue }
            process.pid = 0
            process.lastEnd = end
            process.timer?.cancel()
            unlink(plan.paths.pidFile(process.spec.id))
            handleEnd(of: process)
        }
        if isShuttingDown { shutDownNext() }
    }

    private func handleEnd(of process: Managed) {
        if isShuttingDown || process.phase == .stopping {
            move(process, to: .stopped)
            return
        }
        let lifetime = Int(monotonicMilliseconds() - process.startedAt)
        let delay = process.policy.ended(afterMilliseconds: lifetime)
        if !wasReady, process.policy.failures >= Self.startAttempts {
            move(process, to: .failed)
            gaveUp(process)
        } else if plan.options.restarts || !wasReady {
            move(process, to: .waiting)
            process.timer = loop.schedule(afterMilliseconds: delay) { [self] in launch(process) }
        } else {
            move(process, to: .stopped)
        }
    }

    private func move(_ process: Managed, to phase: Phase) {
        process.phase = phase
        changed(process)
    }

    private func monotonicMilliseconds() -> UInt64 { clock.monotonicNanoseconds() / 1_000_000 }
    private let clock = SystemClock()
}
