import Glibc

/// Has the C library keep more of the memory that a thread frees for that thread.
///
/// A statement makes and frees some hundred small objects, many of one size. The C library keeps seven of a size; what
/// is beyond goes back to the arena, and each larger request tidies the arena up before it is served. With 500 a
/// transaction of several statements costs a node about a fifth less (docs/decisions/0017-allocator.md).
///
/// The number is read from the environment, when a process begins. So one that begins without it begins again: with the
/// same process id and arguments, and before it has opened anything.
enum Allocator {
    private static let variable = "GLIBC_TUNABLES"
    private static let setting = "glibc.malloc.tcache_count"

    /// Call it first. What the environment says of the setting already holds; where the process cannot begin again it
    /// goes on as it is.
    static func keepMore() {
        let given = getenv(variable).map { String(cString: $0) } ?? ""
        guard !given.contains(setting) else { return }
        setenv(variable, (given.isEmpty ? "" : given + ":") + setting + "=500", 1)
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX)) { path in
            guard let start = path.baseAddress else { return }
            // Its own path, not "/proc/self/exe": the process keeps its name.
            let count = readlink("/proc/self/exe", start, path.count - 1)
            guard count > 0 else { return }
            path[count] = 0
            execv(start, CommandLine.unsafeArgv)
        }
    }
}
