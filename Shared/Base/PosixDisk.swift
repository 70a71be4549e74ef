import Glibc
import Synchronization

/// The operating system's files.
package final class PosixDisk: Disk {
    package init() {}

    package func open(_ path: String, create: Bool) throws(SystemError) -> any DiskFile {
        let flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0)
        let descriptor = retrying { Glibc.open(path, flags, 0o600) }
        guard descriptor >= 0 else { throw SystemError("open \(path)") }
        return PosixFile(descriptor, path)
    }

    package func list(_ directory: String) throws(SystemError) -> [String] {
        guard let stream = opendir(directory) else { throw SystemError("list \(directory)") }
        defer { closedir(stream) }
        var names: [String] = []
        errno = 0
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
            errno = 0
        }
        guard errno == 0 else { throw SystemError("list \(directory)") }
        return names.sorted()
    }

    /// Whether there is a file or directory of this name.
    package func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    package func remove(_ path: String) throws(SystemError) {
        guard Glibc.remove(path) == 0 else { throw SystemError("remove \(path)") }
    }

    package func rename(_ from: String, to: String) throws(SystemError) {
        guard Glibc.rename(from, to) == 0 else { throw SystemError("rename \(from) to \(to)") }
    }

    package func makeDirectory(_ path: String) throws(SystemError) {
        if mkdir(path, 0o700) == 0 { return }
        if errno == EEXIST, isDirectory(path) { return }
        guard errno == ENOENT, path != directory(of: path), directory(of: path) != "." else {
            throw SystemError("mkdir \(path)")
        }
        try makeDirectory(directory(of: path))
        guard mkdir(path, 0o700) == 0 || (errno == EEXIST && isDirectory(path)) else {
            throw SystemError("mkdir \(path)")
        }
    }

    /// Makes the names in the directory durable.
    package func syncDirectory(_ path: String) throws(SystemError) {
        let descriptor = retrying { Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        guard descriptor >= 0 else { throw SystemError("open \(path)") }
        defer { Glibc.close(descriptor) }
        guard retrying({ fsync(descriptor) }) == 0 else { throw SystemError("fsync \(path)") }
    }

    package func freeSpace(_ path: String) throws(SystemError) -> Int {
        var state = statvfs()
        guard statvfs(path, &state) == 0 else { throw SystemError("statvfs \(path)") }
        return Int(clamping: UInt64(state.f_bavail) * UInt64(state.f_frsize))
    }

    private func isDirectory(_ path: String) -> Bool {
        let code = errno
        defer { errno = code }
        var state = stat()
        return stat(path, &state) == 0 && state.st_mode & S_IFMT == S_IFDIR
    }
}

/// Repeats a call that a signal interrupted.
func retrying(_ call: () -> Int32) -> Int32 {
    while true {
        let result = call()
        if result >= 0 || errno != EINTR { return result }
    }
}

/// A file descriptor, closed once.
final class PosixFile: DiskFile {
    private let descriptor: Atomic<Int32>
    private let path: String

    init(_ descriptor: Int32, _ path: String) {
        self.descriptor = Atomic(descriptor)
        self.path = path
    }

    deinit { close() }

    private var handle: Int32 { descriptor.load(ordering: .relaxed) }

    func close() {
        let old = descriptor.exchange(-1, ordering: .relaxed)
        if old >= 0 { Glibc.close(old) }
    }

    func pwrite(_ bytes: ByteView, at offset: Int) throws(SystemError) {
        var written = 0
        while written < bytes.count {
            let result = Glibc.pwrite(
                handle, bytes.baseAddress.map { $0 + written }, bytes.count - written, off_t(offset + written))
            if result > 0 {
                written += result
            } else if result == 0 {
                throw SystemError("write \(path)", code: EIO)  // Cannot happen for files; refuse to spin if it does.
            } else if errno != EINTR {
                throw SystemError("write \(path)")
            }
        }
    }

    func pread(into room: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemError) -> Int {
        var got = 0
        while got < room.count {
            let result = Glibc.pread(handle, room.baseAddress.map { $0 + got }, room.count - got, off_t(offset + got))
            if result == 0 { break }
            if result > 0 { got += result } else if errno != EINTR { throw SystemError("read \(path)") }
        }
        return got
    }

    func sync() throws(SystemError) {
        guard retrying({ fdatasync(handle) }) == 0 else { throw SystemError("fdatasync \(path)") }
    }

    var size: Int {
        get throws(SystemError) {
            var state = stat()
            guard fstat(handle, &state) == 0 else { throw SystemError("fstat \(path)") }
            return Int(state.st_size)
        }
    }

    func allocateZeroed(_ count: Int) throws(SystemError) {
        var position = try size
        guard position < count else { return }
        let chunk = min(1 << 20, count - position)
        let zeros = UnsafeMutableRawBufferPointer.allocate(byteCount: chunk, alignment: 4096)
        defer { zeros.deallocate() }
        zeros.initializeMemory(as: UInt8.self, repeating: 0)
        while position < count {
            let part = min(chunk, count - position)
            try pwrite(ByteView(start: zeros.baseAddress, count: part), at: position)
            position += part
        }
    }

    func truncate(to count: Int) throws(SystemError) {
        guard retrying({ ftruncate(handle, off_t(count)) }) == 0 else { throw SystemError("truncate \(path)") }
    }
}
