import Base
import Glibc
import Net
import ServiceKit

/// A supervisor with its control socket and its signals, from start to drain: what `orbit up` runs in the foreground,
/// and `orbit supervise` after `--detach`.
///
/// Orders come over HTTP on a Unix socket in the cluster's owner-only directory: `/status`, `/down`, `/start/ID`,
/// `/stop/ID`. An order is begun, not awaited: whoever gave it looks at `/status` until it is done.
final class SuperviseSession {
    private let plan: ClusterPlan
    private let loop: EventLoop
    private let supervisor: Supervisor
    private let control: HTTPServer
    private let console: Console?
    private let report: ReadyReport?
    private var progress: StartProgress?
    private var signals = 0
    private var exitStatus: Int32 = 0

    init(plan: ClusterPlan, disk: any Disk, console: Console? = nil, report: ReadyReport? = nil) throws {
        self.plan = plan
        self.console = console
        self.report = report
        loop = try EventLoop()
        supervisor = Supervisor(
            plan, loop: loop, disk: disk, executables: try ChildProcess.executableDirectory())
        control = try HTTPServer(loop: loop, address: .unix(path: plan.paths.control))
        progress = console.map { StartProgress(plan: plan, console: $0) }
        routeOrders()
        try control.start()
    }

    func run() throws -> Int32 {
        watchSignals()
        supervisor.changed = { [self] process in progress?.show(snapshot(of: process)) }
        supervisor.becameReady = { [self] in finishStart() }
        supervisor.gaveUp = { [self] process in giveUp(process) }
        supervisor.ended = { [self] in
            if exitStatus == 0 { console?.progress("Stopped. Everything acknowledged is in \(plan.options.data).") }
            loop.stop()
        }
        let ticker = loop.schedule(afterMilliseconds: 1000, repeating: true) { [self] in progress?.tick() }
        supervisor.start()
        loop.run()
        ticker.cancel()
        control.close()
        return exitStatus
    }

    private func finishStart() {
        guard let report, let console else { return }
        progress = nil
        FirstUser(plan: plan, password: report.password, loop: loop).ensure { [self] failure in
            if let failure {
                console.failed("user orbit", failure)
                exitStatus = 1
                supervisor.shutDown()
                return
            }
            let rows = supervisor.processes.map { ($0.spec.id, $0.spec.role.rawValue, Int($0.pid)) }
            report.show(processes: rows)
            console.progress("Ctrl-C stops the cluster; orbit status --data \(plan.options.data) shows it.")
        }
    }

    private func giveUp(_ process: Supervisor.Managed) {
        Console.error("\(process.spec.id) does not start; the end of \(plan.paths.logFile(process.spec.id)):")
        for line in SmallFile.lastLines(plan.paths.logFile(process.spec.id), 10) { Console.error("  " + line) }
        exitStatus = 1
        supervisor.shutDown()
    }

    private func watchSignals() {
        let bound = LoopBound(self, loop: loop)
        for number in [SIGINT, SIGTERM, SIGHUP] {
            loop.onSignal(number) { bound.value.interrupted() }
        }
    }

    private func interrupted() {
        signals += 1
        let hint = signals == 1 ? "draining (again to kill)" : "killing"
        console?.progress("")
        console?.progress("Stopping: \(hint) …")
        supervisor.shutDown()
    }

    // MARK: Orders

    private func routeOrders() {
        control.route("/status") { [self] _ in answer(statusDocument()) }
        control.route("/down") { [self] _ in
            supervisor.shutDown()
            return answer(statusDocument())
        }
        for process in supervisor.processes {
            control.route("/start/\(process.spec.id)") { [self] _ in answer(supervisor.start(process)) }
            control.route("/stop/\(process.spec.id)") { [self] _ in answer(supervisor.stop(process)) }
        }
    }

    private func answer(_ complaint: String?) -> HTTPResponse {
        if let complaint { return HTTPResponse(status: 409, text: complaint + "\n") }
        return answer(statusDocument())
    }

    private func answer(_ document: JSON) -> HTTPResponse {
        HTTPResponse(text: document.encoded(), contentType: "application/json")
    }

    private func statusDocument() -> JSON {
        .object([
            .init("supervisor", .integer(Int64(getpid()))), .init("ready", .bool(supervisor.isReady)),
            .init("failed", .bool(exitStatus != 0)),
            .init("processes", .array(supervisor.processes.map { snapshot(of: $0).encode() })),
        ])
    }

    private func snapshot(of process: Supervisor.Managed) -> ProcessSnapshot {
        ProcessSnapshot(
            id: process.spec.id, role: process.spec.role.rawValue, state: "\(process.phase)", pid: Int(process.pid),
            starts: process.starts, readyAfter: process.readyAfter, why: process.why)
    }
}

/// One process as the supervisor sees it, also as JSON between `orbit` processes.
package struct ProcessSnapshot: Hashable, Sendable {
    package let id: String
    package let role: String
    /// A `Supervisor.Phase`, or `unsupervised`.
    package let state: String
    package let pid: Int
    package let starts: Int
    package let readyAfter: Int
    /// Why it is not ready, or how it ended.
    package let why: String

    func encode() -> JSON {
        .object([
            .init("id", .text(id)), .init("role", .text(role)), .init("state", .text(state)),
            .init("pid", .integer(Int64(pid))), .init("starts", .integer(Int64(starts))),
            .init("readyAfter", .integer(Int64(readyAfter))), .init("why", .text(why)),
        ])
    }
}

extension ProcessSnapshot {
    /// Reads one member of `/status`; nil when it is not one.
    init?(_ document: JSON) {
        guard let id = document["id"]?.text, let role = document["role"]?.text, let state = document["state"]?.text,
            let pid = document["pid"]?.integer
        else { return nil }
        self.init(
            id: id, role: role, state: state, pid: Int(pid), starts: Int(document["starts"]?.integer ?? 0),
            readyAfter: Int(document["readyAfter"]?.integer ?? 0), why: document["why"]?.text ?? "")
    }
}

/// The lines that tell a start: one per process as it becomes ready, one per second while something keeps us waiting.
final class StartProgress {
    private let console: Console
    private var shown: [String: ProcessSnapshot] = [:]

    init(plan: ClusterPlan, console: Console) { self.console = console }

    func show(_ snapshot: ProcessSnapshot) {
        guard shown[snapshot.id]?.state != snapshot.state else { return }
        shown[snapshot.id] = snapshot
        switch snapshot.state {
        case "ready": console.done(snapshot.id, "ready in \(seconds(snapshot.readyAfter))")
        case "waiting": console.warn(snapshot.id, "\(snapshot.why); starting it again")
        case "failed": console.failed(snapshot.id, snapshot.why)
        default: break
        }
    }

    func update(_ snapshot: ProcessSnapshot) {
        show(snapshot)
        shown[snapshot.id] = snapshot
    }

    func tick() {
        for (_, snapshot) in shown.sorted(by: { $0.key < $1.key }) where snapshot.state == "starting" {
            console.progress("    waiting for \(snapshot.id)\(snapshot.why.isEmpty ? "" : ": \(snapshot.why)")")
        }
    }
}
