import Base
import Glibc
import Synchronization

/// A file system in memory that keeps only what it promised, and breaks as told: the disk under every durability test.
///
/// A crash keeps the bytes that were synced and the names whose directory was synced. Of the rest, each 512-byte page
/// and each change of a name is kept or lost by the seed; one kept page may be torn; a file that grew ends anywhere
/// between its old and new length, with zeros where a page was lost. Renames are one change: the file is under one
/// name.
///
/// A failed sync loses what it should have written for good, and the next one succeeds without it: what Linux does.
/// Everything is a function of the seed and the calls. Zeros take no memory, so 64 MiB segments are cheap.
package final class SimulatedDisk: Disk {
    /// The unit that a crash keeps or loses.
    package static let pageSize = 512

    let state: Mutex<SimulatedDiskState>

    package init(seed: UInt64, capacity: Int = .max) {
        state = Mutex(SimulatedDiskState(seed: seed, capacity: capacity))
    }

    // MARK: Faults

    /// Power is lost and comes back: open files are dead, and the disk holds what survived. Clears `losePower`.
    package func crash() { state.withLock { $0.crash() } }

    /// After so many more changes (writes, syncs, renames …) every call fails with EIO, until `crash`.
    package func losePower(afterChanges count: Int) { state.withLock { $0.changesUntilPowerLoss = count } }

    /// Lets the next `count` syncs fail with EIO; what they should have written is lost although it can still be read.
    package func failSyncs(_ count: Int) { state.withLock { $0.failingSyncs = count } }

    /// Lets the next `count` writes fail with `code`, each after a part of its bytes.
    package func failWrites(_ count: Int, code: Int32 = EIO) {
        state.withLock {
            $0.failingWrites = count
            $0.writeFailure = code
        }
    }

    /// The bytes that all files together may hold; beyond, writes fail with ENOSPC.
    package var capacity: Int {
        get { state.withLock { $0.capacity } }
        set { state.withLock { $0.capacity = newValue } }
    }

    /// Inverts the bits of `mask` in one byte of a file, on the medium and in the cache.
    package func corrupt(_ path: String, at offset: Int, mask: UInt8 = 0xff) throws(SystemError) {
        try state.withLock { state throws(SystemError) in
            let id = try state.file(path, "corrupt")
            state.files[id]?.corrupt(at: offset, mask: mask)
        }
    }

    /// Changes so far: the range for `losePower(afterChanges:)`.
    package var changes: Int { state.withLock { $0.changes } }

    /// Syncs of files so far.
    package var syncs: Int { state.withLock { $0.syncs } }

    // MARK: Disk

    package func open(_ path: String, create: Bool) throws(SystemError) -> any DiskFile {
        let (id, epoch) = try state.withLock { state throws(SystemError) in
            (try state.open(path, create: create), state.epoch)
        }
        return SimulatedFile(self, id: id, epoch: epoch, path: path)
    }

    package func list(_ directory: String) throws(SystemError) -> [String] {
        try state.withLock { state throws(SystemError) in try state.list(directory) }
    }

    /// Whether there is a file or directory of this name.
    package func exists(_ path: String) -> Bool {
        state.withLock { $0.names[path] != nil || $0.isRoot(path) }
    }

    package func remove(_ path: String) throws(SystemError) {
        try state.withLock { state throws(SystemError) in try state.remove(path) }
    }

    package func rename(_ from: String, to: String) throws(SystemError) {
        try state.withLock { state throws(SystemError) in try state.rename(from, to) }
    }

    package func makeDirectory(_ path: String) throws(SystemError) {
        try state.withLock { state throws(SystemError) in try state.makeDirectory(path) }
    }

    /// Makes the names in the directory durable.
    package func syncDirectory(_ path: String) throws(SystemError) {
        try state.withLock { state throws(SystemError) in try state.syncDirectory(path) }
    }

    package func freeSpace(_ path: String) throws(SystemError) -> Int {
        state.withLock { max(0, $0.capacity - $0.used) }
    }
}

/// An open file of a `SimulatedDisk`; dead after the crash of its epoch.
final class SimulatedFile: DiskFile {
    private let disk: SimulatedDisk
    private let id: Int, epoch: Int, path: String
    private let isClosed = Atomic(false)

    init(_ disk: SimulatedDisk, id: Int, epoch: Int, path: String) {
        (self.disk, self.id, self.epoch, self.path) = (disk, id, epoch, path)
    }

    /// Runs `body` on the file, unless it is closed, a crash has come in between, or there is no power.
    private func use<Result: Sendable>(
        _ call: String, _ body: (inout SimulatedDiskState) throws(SystemError) -> Result
    ) throws(SystemError) -> Result {
        guard !isClosed.load(ordering: .relaxed) else { throw SystemError("\(call) \(path)", code: EBADF) }
        return try disk.state.withLock { state throws(SystemError) in
            guard state.epoch == epoch else { throw SystemError("\(call) \(path)", code: EBADF) }
            return try body(&state)
        }
    }

    func pwrite(_ bytes: ByteView, at offset: Int) throws(SystemError) {
        try use("write") { state throws(SystemError) in try state.write(id, bytes, at: offset, path) }
    }

    func pread(into room: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemError) -> Int {
        try use("read") { state throws(SystemError) in
            try state.checkPower("read \(path)")
            return state.files[id]?.read(into: room, at: offset) ?? 0
        }
    }

    func sync() throws(SystemError) {
        try use("fdatasync") { state throws(SystemError) in try state.sync(id, path) }
    }

    var size: Int {
        get throws(SystemError) { try use("fstat") { state in state.files[id]?.size ?? 0 } }
    }

    func allocateZeroed(_ count: Int) throws(SystemError) {
        try use("write") { state throws(SystemError) in try state.extend(id, to: count, path) }
    }

    func truncate(to count: Int) throws(SystemError) {
        try use("truncate") { state throws(SystemError) in try state.truncate(id, to: count, path) }
    }

    func close() { isClosed.store(true, ordering: .relaxed) }
}
