import Base
import Glibc

/// A data directory in use by this process: a second process that opens it is told so, instead of writing into the same
/// files. The kernel gives the lock up when the process ends, however it ends.
package final class DirectoryLock {
    private let descriptor: Int32

    /// Makes the directory if it is missing, and locks it by its file `lock`.
    package init(_ directory: String, disk: any Disk = PosixDisk()) throws {
        try disk.makeDirectory(directory)
        descriptor = Glibc.open("\(directory)/lock", O_CREAT | O_RDWR | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemError("open \(directory)/lock") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let error = SystemError("flock \(directory)/lock")
            Glibc.close(descriptor)
            if error.code == EWOULDBLOCK { throw DatabaseError(.busy, "\(directory) is in use by another process") }
            throw error
        }
    }

    deinit { Glibc.close(descriptor) }
}
