import Base
import Glibc

/// Starting, signalling and recognising processes.
enum ChildProcess {
    /// The directory of this executable: its sisters lie beside it.
    static func executableDirectory() throws -> String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &buffer, buffer.count)
        guard count > 0, count < buffer.count else { throw SystemError("readlink /proc/self/exe") }
        let path = String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
    }

    /// The environment for a child: ours without what only `orbit` may see.
    static func environment() -> [String] {
        var result: [String] = []
        var entry = environ
        while let text = entry.pointee {
            let line = String(cString: text)
            if !line.hasPrefix("ORBIT_PASSWORD="), !line.hasPrefix("ORBIT_DATA=") { result.append(line) }
            entry += 1
        }
        return result
    }

    /// Starts `executable` with its output appended to `logFile`; returns its pid.
    ///
    /// The child gets its own process group, so that Ctrl-C at the terminal reaches `orbit` alone, which then drains
    /// the cluster in order; with `newSession` it outlives the terminal. It starts with default signal handling and
    /// inherits no descriptor but the standard three.
    static func start(
        _ executable: String, _ arguments: [String], logFile: String, newSession: Bool = false
    ) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, logFile, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // Descriptors that somebody left open in us are not the child's.
        for descriptor in Int32(3)..<1024 { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        let flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (newSession ? 0x80 : POSIX_SPAWN_SETPGROUP)
        posix_spawnattr_setflags(&attributes, Int16(flags))

        var argv = ([executable] + arguments).map { strdup($0) }
        var envp = environment().map { strdup($0) }
        defer { (argv + envp).forEach { free($0) } }
        argv.append(nil)
        envp.append(nil)
        var pid: pid_t = 0
        let code = posix_spawn(&pid, executable, &actions, &attributes, argv, envp)
        guard code == 0 else { throw SystemError("start \(executable)", code: code) }
        return pid
    }

    /// How a child ended, in words: `exit status 1`, `signal 9`.
    struct End: Hashable, Sendable, CustomStringConvertible {
        let status: Int32

        var exitStatus: Int32? { status & 0x7f == 0 ? (status >> 8) & 0xff : nil }
        var description: String {
            if let exitStatus { return "exit status \(exitStatus)" }
            return "signal \(status & 0x7f)"
        }
    }

    /// Collects a child of ours if it has ended.
    static func reap(_ pid: pid_t) -> End? {
        var status: Int32 = 0
        return waitpid(pid, &status, WNOHANG) == pid ? End(status: status) : nil
    }

    /// Whether `pid` is alive and its command line holds `word`: a pid file may be older than the process with that
    /// pid.
    static func isAlive(_ pid: pid_t, commandLineContains word: String) -> Bool {
        guard let bytes = SmallFile.read("/proc/\(pid)/cmdline"), !bytes.isEmpty else { return false }
        return bytes.split(separator: 0).contains { String(decoding: $0, as: UTF8.self).contains(word) }
    }
}
