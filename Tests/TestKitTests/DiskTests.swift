import Base
import Glibc
import TestKit
import Testing

/// What every `Disk` must do; run against the real one and the simulated one.
@Suite("Disk")
struct DiskTests {
    enum Kind: CaseIterable { case posix, simulated }

    /// Runs `body` with a disk and an empty directory on it.
    private func with(_ kind: Kind, _ body: (any Disk, String) throws -> Void) throws {
        switch kind {
        case .simulated:
            let disk = SimulatedDisk(seed: 1)
            try disk.makeDirectory("/data")
            try body(disk, "/data")
        case .posix:
            var template = Array("/tmp/orbit-disk-XXXXXX".utf8CString)
            let path = template.withUnsafeMutableBufferPointer { room in room.baseAddress.flatMap { mkdtemp($0) } }
            let directory = String(cString: try #require(path))
            defer { system("rm -rf '\(directory)'") }
            try body(PosixDisk(), directory)
        }
    }

    private func write(_ file: any DiskFile, _ text: String, at offset: Int) throws {
        try Bytes(text.utf8).withUnsafeBytes { try file.pwrite($0, at: offset) }
    }

    private func code(_ body: () throws -> Void) -> Int32? {
        do { try body() } catch { return (error as? SystemError)?.code }
        return nil
    }

    @Test("reads what was written, zeros in between, and stops at the end", arguments: Kind.allCases)
    func readWrite(_ kind: Kind) throws {
        try with(kind) { disk, directory in
            let file = try disk.open(directory + "/f", create: true)
            try write(file, "hello", at: 0)
            try write(file, "world", at: 1000)
            #expect(try file.size == 1005)
            let content = try disk.read(directory + "/f")
            #expect(content == Bytes("hello".utf8) + Bytes(repeating: 0, count: 995) + Bytes("world".utf8))
            try write(file, "J", at: 0)
            try file.truncate(to: 3)
            try file.truncate(to: 6)
            #expect(try disk.read(directory + "/f") == Bytes("Jel".utf8) + [0, 0, 0])
            try file.allocateZeroed(3_000_000)
            try file.allocateZeroed(10)
            #expect(try file.size == 3_000_000)
            try file.sync()
            #expect(try disk.read(directory + "/f", limit: 3_000_000).dropFirst(3).allSatisfy { $0 == 0 })
            #expect(code { _ = try disk.read(directory + "/f", limit: 2_999_999) } == EFBIG)
            var room = Bytes(repeating: 1, count: 8)
            #expect(try room.withUnsafeMutableBytes { try file.pread(into: $0, at: 3_000_001) } == 0)
            file.close()
            #expect(code { try write(file, "x", at: 0) } == EBADF)
        }
    }

    @Test("keeps names: list, rename over, remove, directories", arguments: Kind.allCases)
    func names(_ kind: Kind) throws {
        try with(kind) { disk, directory in
            try disk.makeDirectory(directory + "/a/b")
            try disk.makeDirectory(directory + "/a/b")
            try write(try disk.open(directory + "/x", create: true), "x", at: 0)
            try write(try disk.open(directory + "/y", create: true), "y", at: 0)
            #expect(try disk.list(directory) == ["a", "x", "y"])
            try disk.rename(directory + "/x", to: directory + "/y")
            try disk.rename(directory + "/y", to: directory + "/a/z")
            #expect(try disk.list(directory) == ["a"])
            #expect(try disk.list(directory + "/a") == ["b", "z"])
            #expect(try disk.read(directory + "/a/z") == Bytes("x".utf8))
            #expect(disk.exists(directory + "/a/z") && !disk.exists(directory + "/x"))
            try disk.syncDirectory(directory)
            #expect(code { try disk.remove(directory + "/a") } == ENOTEMPTY)
            #expect(code { try disk.remove(directory + "/x") } == ENOENT)
            #expect(code { _ = try disk.open(directory + "/x", create: false) } == ENOENT)
            #expect(code { _ = try disk.open(directory + "/no/x", create: true) } == ENOENT)
            #expect(code { _ = try disk.list(directory + "/no") } == ENOENT)
            try disk.rename(directory + "/a", to: directory + "/c")
            #expect(try disk.list(directory + "/c") == ["b", "z"])
            try disk.remove(directory + "/c/z")
            try disk.remove(directory + "/c/b")
            try disk.remove(directory + "/c")
            #expect(try disk.freeSpace(directory) > 0)
        }
    }

    @Test("replaces small files as a whole", arguments: Kind.allCases)
    func replace(_ kind: Kind) throws {
        try with(kind) { disk, directory in
            for text in ["one", "a longer one", "", "x"] {
                try Bytes(text.utf8).withUnsafeBytes { try disk.replace(directory + "/f", with: $0) }
                #expect(try disk.read(directory + "/f") == Bytes(text.utf8))
            }
            #expect(try disk.list(directory) == ["f"])
        }
    }
}
