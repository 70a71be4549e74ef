import Base
import Glibc
import ServiceKit

extension Command {
    static let down = Command("down", summary: "Drains and stops the cluster.", options: [.data]) { arguments in
        let (plan, directory) = try existingCluster(arguments)
        let console = Console()
        if directory.isSupervised {
            let supervisor = try AdminClient.supervisorStatus(directory.paths)?["supervisor"]?.integer
            guard try AdminClient.ask("unix:\(directory.paths.control)", "/down").status == 200 else {
                throw UsageError("the supervisor of \(directory.paths.data) does not answer")
            }
            console.progress("Draining …")
            guard try poll(forMilliseconds: 45_000, until: { !directory.isSupervised }) else {
                throw UsageError("the cluster is still draining (supervisor pid \(supervisor ?? 0))")
            }
        } else {
            let pids = directory.livePids(plan)
            guard !pids.isEmpty else {
                console.out("Nothing runs in \(directory.paths.data).")
                return 0
            }
            try StopProcesses(pids: Array(pids.values)).run()
        }
        console.out("Stopped.")
        return 0
    }

    static let start = Command(
        "start", operands: "ID", count: 1...1, summary: "Starts a process of a running cluster again.", options: [.data]
    ) { arguments in
        try order("start", arguments, until: "ready", forMilliseconds: 60_000)
    }

    static let stop = Command(
        "stop", operands: "ID", count: 1...1, summary: "Drains one process and leaves it stopped.", options: [.data]
    ) { arguments in
        try order("stop", arguments, until: "stopped", forMilliseconds: 30_000)
    }

    /// The plan of the cluster that the arguments name.
    static func existingCluster(_ arguments: Arguments) throws -> (ClusterPlan, ClusterDirectory) {
        let data = try ClusterDirectory.path(arguments)
        guard let state = try ClusterState.load(data: data) else {
            throw UsageError("there is no cluster in \(data); orbit up makes one")
        }
        return (try ClusterPlan(state.options), ClusterDirectory(data: data))
    }

    /// Gives the supervisor an order about one process and waits until it is carried out.
    private static func order(
        _ verb: String, _ arguments: Arguments, until state: String, forMilliseconds limit: Int
    ) throws -> Int32 {
        let (plan, directory) = try existingCluster(arguments)
        let id = arguments.operands[0]
        let known = plan.processes.map(\.id)
        guard known.contains(id) else { throw UsageError(Arguments.unknown(id, among: known)) }
        let (status, body) = try AdminClient.ask("unix:\(directory.paths.control)", "/\(verb)/\(id)")
        guard status != 0 else { throw UsageError("no supervisor runs in \(directory.paths.data); orbit up starts it") }
        guard status == 200 else {
            throw UsageError(String(decoding: body.prefix { $0 != 0x0A }, as: UTF8.self))
        }
        let isDone = try poll(forMilliseconds: limit) {
            let snapshots = try AdminClient.supervisorStatus(directory.paths)?["processes"]?.elements ?? []
            return snapshots.compactMap(ProcessSnapshot.init).contains { $0.id == id && $0.state == state }
        }
        guard isDone else { throw UsageError("\(id) is not \(state) after \(seconds(limit)); orbit status says more") }
        Console().out("\(id) is \(state).")
        return 0
    }
}

/// Ends processes that have no supervisor: SIGTERM, then SIGKILL after the grace period.
struct StopProcesses {
    let pids: [pid_t]

    func run() throws {
        for pid in pids { kill(pid, SIGTERM) }
        if try poll(forMilliseconds: Supervisor.graceMilliseconds, until: { pids.allSatisfy(isGone) }) { return }
        for pid in pids { kill(pid, SIGKILL) }
        _ = try poll(forMilliseconds: 5000) { pids.allSatisfy(isGone) }
    }

    private func isGone(_ pid: pid_t) -> Bool { kill(pid, 0) != 0 }
}
