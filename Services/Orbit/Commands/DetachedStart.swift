import Base
import Glibc
import Net
import ServiceKit

/// `orbit up --detach`: a supervisor in a session of its own, watched until the cluster is ready.
struct DetachedStart {
    static let limitMilliseconds = 120_000

    let plan: ClusterPlan
    let report: ReadyReport
    let console: Console

    func run() throws -> Int32 {
        let logFile = plan.paths.logFile("orbit")
        let pid = try ChildProcess.start(
            "\(try ChildProcess.executableDirectory())/orbit", ["supervise", "--data", plan.options.data],
            logFile: logFile, newSession: true)
        let progress = StartProgress(plan: plan, console: console)
        let clock = SystemClock()
        var lastTick = clock.monotonicNanoseconds()
        var rows: [(String, String, Int)] = []
        var end: ChildProcess.End?
        let isReady = try poll(forMilliseconds: Self.limitMilliseconds) {
            end = ChildProcess.reap(pid)
            if end != nil { return true }
            guard let status = try AdminClient.supervisorStatus(plan.paths) else { return false }
            let snapshots = (status["processes"]?.elements ?? []).compactMap(ProcessSnapshot.init)
            for snapshot in snapshots { progress.update(snapshot) }
            if clock.monotonicNanoseconds() - lastTick > 1_000_000_000 {
                progress.tick()
                lastTick = clock.monotonicNanoseconds()
            }
            rows = snapshots.map { ($0.id, $0.role, $0.pid) }
            return status["ready"]?.bool == true
        }
        if let end {
            Console.error("the cluster does not start (\(end)); the end of \(logFile):")
            for line in SmallFile.lastLines(logFile, 12) { Console.error("  " + line) }
            return 1
        }
        guard isReady else {
            Console.error(
                "not ready after \(seconds(Self.limitMilliseconds)); orbit status and \(plan.paths.log) say more")
            return 1
        }
        if let failure = try createUser() {
            Console.error("cannot create user orbit: \(failure)")
            return 1
        }
        report.show(processes: rows)
        console.progress("It runs in the background: orbit down --data \(plan.options.data) stops it.")
        return 0
    }

    private func createUser() throws -> String? {
        let loop = try EventLoop()
        var failure: String?
        FirstUser(plan: plan, password: report.password, loop: loop).ensure { result in
            failure = result
            loop.stop()
        }
        loop.run()
        return failure
    }
}
