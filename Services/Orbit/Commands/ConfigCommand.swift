import Base
import Glibc

extension Command {
    static let config = Command(
        "config", operands: "check [ROLE]", count: 1...2,
        summary: "Checks the settings of a service (all by default): its --config file and ORBIT_* variables.",
        options: [CommandOption("config", "FILE", "file of settings, one `name = value` a line; needs a ROLE")]
    ) { arguments in
        guard arguments.operands[0] == "check" else { throw UsageError("orbit config knows one word: check") }
        let known = ProcessSpec.Role.allCases.map(\.rawValue)
        let roles = arguments.operands.count == 2 ? [arguments.operands[1]] : known
        for role in roles where !known.contains(role) { throw UsageError(Arguments.unknown(role, among: known)) }
        var words = ["config", "check"]
        if let file = arguments.text("config") {
            guard roles.count == 1 else { throw UsageError("--config needs a ROLE: each service has its own file") }
            words += ["--config", file]
        }
        let directory = try ChildProcess.executableDirectory()
        var worst: Int32 = 0
        for role in roles {
            worst = max(worst, try ChildProcess.runInForeground("\(directory)/\(role)", words))
        }
        return worst
    }
}

extension ChildProcess {
    /// Runs a program on our standard descriptors and waits for it; returns its exit status.
    static func runInForeground(_ executable: String, _ arguments: [String]) throws -> Int32 {
        var argv = ([executable] + arguments).map { strdup($0) }
        var envp = environment().map { strdup($0) }
        defer { (argv + envp).forEach { free($0) } }
        argv.append(nil)
        envp.append(nil)
        var pid: pid_t = 0
        let code = posix_spawn(&pid, executable, nil, nil, argv, envp)
        guard code == 0 else { throw SystemError("start \(executable)", code: code) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        return End(status: status).exitStatus ?? 1
    }
}
