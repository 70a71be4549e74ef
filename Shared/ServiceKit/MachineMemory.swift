import Base
import Glibc

/// How much memory a process may take at most: defaults that are shares of it fit a laptop and a server.
package enum MachineMemory {
    /// Bytes that the machine has, or that the process's control group may have, if those are fewer. A process in a
    /// container sees its own group as the root.
    package static func bytes() -> Int {
        let pages = Int(sysconf(Int32(_SC_PHYS_PAGES))), size = Int(sysconf(Int32(_SC_PAGESIZE)))
        let machine = max(pages, 1).multipliedReportingOverflow(by: max(size, 1)).partialValue
        return min(machine, limit(of: head("/sys/fs/cgroup/memory.max")) ?? machine)
    }

    /// The limit that a `memory.max` of control groups (version 2) says; nil for `max`, which is none, and for nothing.
    package static func limit(of text: Bytes) -> Int? {
        guard let number = Int(String(decoding: text.prefix { $0 != 10 }, as: UTF8.self)), number > 0 else {
            return nil
        }
        return number
    }

    /// What a file of the kernel begins with: those say nothing of their size. Empty where there is none.
    private static func head(_ path: String) -> Bytes {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return [] }
        defer { close(file) }
        return Bytes(unsafeUninitializedCapacity: 64) { room, count in count = max(0, read(file, room.baseAddress, 64))
        }
    }
}
