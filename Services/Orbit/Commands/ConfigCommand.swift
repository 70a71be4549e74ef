import Base
import Glibc

extension Command {
    static let config = Command(
        "config", operands: "check [ROLE]", count: 1...2,
        summary: "Checks what orbit up would start: flags, certificates, ORBIT_* variables; of one ROLE or of all.",
        options: [
            .data,
            CommandOption("config", "FILE", "check this file of settings too, `name = value` a line; needs a ROLE"),
        ]
    ) { arguments in
        guard arguments.operands[0] == "check" else { throw UsageError("orbit config knows one word: check") }
        let known = ProcessSpec.Role.allCases.map(\.rawValue)
        let roles = arguments.operands.count == 2 ? [arguments.operands[1]] : known
        for role in roles where !known.contains(role) { throw UsageError(Arguments.unknown(role, among: known)) }
        var file: [String] = []
        if let path = arguments.text("config") {
            guard roles.count == 1 else { throw UsageError("--config needs a ROLE: each service has its own file") }
            file = ["--config", path]
        }
        let data = try ClusterDirectory.path(arguments)
        let plan = try ClusterPlan(ClusterState.load(data: data)?.options ?? ClusterOptions(data: data))
        let hasCertificates = ClusterDirectory(data: data).disk.exists(plan.paths.authority)
        if !hasCertificates { Console().progress("(no cluster in \(data) yet: its certificates are made by orbit up)") }
        let directory = try ChildProcess.executableDirectory()
        var worst: Int32 = 0
        for spec in plan.processes where roles.contains(spec.role.rawValue) {
            let flags = hasCertificates ? spec.arguments : spec.argumentsWithoutCertificates
            let words = ["config", "check"] + flags + file
            worst = max(worst, try ChildProcess.runInForeground("\(directory)/\(spec.role.rawValue)", words))
        }
        return worst
    }
}

extension ProcessSpec {
    /// The arguments before the cluster has certificates: without the flags that name them, and as if TCP between
    /// processes needed none.
    package var argumentsWithoutCertificates: [String] {
        let dropped: Set = ["--tls-ca", "--tls-cert", "--tls-key", "--tls-listen", "--client-cert", "--client-key"]
        var result: [String] = []
        var rest = arguments[...]
        while let word = rest.popFirst() {
            if dropped.contains(word) {
                _ = rest.popFirst()
            } else {
                result.append(word)
            }
        }
        if !role.isGateway, !result.contains("--insecure") { result.append("--insecure") }
        return result
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
