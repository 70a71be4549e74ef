import Base
import Glibc
import TestKit
import Testing

@Suite("SimulatedDisk")
struct SimulatedDiskTests {
    private func write(_ file: any DiskFile, _ bytes: Bytes, at offset: Int = 0) throws {
        try bytes.withUnsafeBytes { try file.pwrite($0, at: offset) }
    }

    private func code(_ body: () throws -> Void) -> Int32? {
        do { try body() } catch { return (error as? SystemError)?.code }
        return nil
    }

    /// A file of ones, durable, on which four pages of twos were written and not synced; then a crash.
    private func crashed(_ seed: UInt64) throws -> Bytes {
        let disk = SimulatedDisk(seed: seed)
        let file = try disk.open("/f", create: true)
        try write(file, Bytes(repeating: 1, count: 4096))
        try file.sync()
        try disk.syncDirectory("/")
        try write(file, Bytes(repeating: 2, count: 2048), at: 3072)
        disk.crash()
        #expect(code { try write(file, [1]) } == EBADF)
        return try disk.read("/f")
    }

    @Test("a crash keeps what was synced, and of the rest whole pages, torn ones, or nothing")
    func pages() throws {
        var shapes: Set<String> = []
        var sizes: Set<Int> = []
        for seed in 0..<400 as Range<UInt64> {
            let bytes = try crashed(seed)
            #expect(bytes[..<3072].allSatisfy { $0 == 1 }, "seed \(seed)")
            #expect((4096...5120).contains(bytes.count), "seed \(seed)")
            #expect(try crashed(seed) == bytes)
            sizes.insert(bytes.count)
            var shape = ""
            for start in stride(from: 3072, to: bytes.count, by: 512) {
                let page = Set(bytes[start..<min(start + 512, bytes.count)])
                shape += page.count > 1 ? "t" : page == [2] ? "n" : page == [1] ? "o" : "z"
            }
            shapes.insert(shape)
        }
        for wanted in ["oo", "nnnn", "onnn", "nonn"] { #expect(shapes.contains(wanted), "\(shapes)") }
        #expect(shapes.contains { $0.contains("t") } && shapes.contains { $0.contains("z") })
        #expect(sizes.count > 5)
    }

    @Test("a name lives when its directory was synced; a rename is all or nothing")
    func names() throws {
        var outcomes: Set<[String]> = []
        for seed in 0..<200 as Range<UInt64> {
            let disk = SimulatedDisk(seed: seed)
            try disk.makeDirectory("/d")
            try disk.syncDirectory("/")
            let file = try disk.open("/d/a", create: true)
            try write(file, [7])
            try file.sync()
            try disk.syncDirectory("/d")
            try disk.rename("/d/a", to: "/d/b")
            try write(try disk.open("/d/a", create: true), [8])
            disk.crash()
            let names = try disk.list("/d")
            #expect(names.contains("a") || names.contains("b"), "seed \(seed)")
            let old = names.contains("b") ? "/d/b" : "/d/a"
            #expect(try disk.read(old) == [7], "seed \(seed)")
            outcomes.insert(names)
        }
        #expect(outcomes == [["a"], ["b"], ["a", "b"]])
    }

    @Test("what is synced and listed is never lost, through any calls and crashes")
    func promise() throws {
        let seed = freshSeed("SimulatedDisk")
        var random = SplitMix64(seed: seed)
        let disk = SimulatedDisk(seed: seed)
        var promised: [String: Bytes] = [:]
        for round in 0..<300 {
            var content = promised
            for _ in 0..<random.next(below: 12) {
                let path = "/f\(random.next(below: 4))"
                let file = try disk.open(path, create: true)
                let offset = Int(random.next(below: 3000))
                let bytes = random.bytes(Int(random.next(below: 1500)))
                try write(file, bytes, at: offset)
                var model = content[path] ?? []
                if !bytes.isEmpty, model.count < offset + bytes.count {
                    model += Bytes(repeating: 0, count: offset + bytes.count - model.count)
                }
                model.replaceSubrange(min(offset, model.count)..<min(offset + bytes.count, model.count), with: bytes)
                content[path] = model
                #expect(try disk.read(path) == model)
            }
            for path in content.keys.sorted() {
                let file = try disk.open(path, create: false)
                if random.oneIn(2) { try file.sync() }
                if random.oneIn(3) {
                    try file.truncate(to: Int(random.next(below: 4000)))
                    try file.sync()
                }
                content[path] = try disk.read(path)
            }
            for path in content.keys.sorted() { try disk.open(path, create: false).sync() }
            try disk.syncDirectory("/")
            promised = content
            // Writes that are not promised must not hurt what is.
            for path in promised.keys.sorted() where random.oneIn(2) {
                try write(try disk.open(path, create: false), [1, 2, 3], at: promised[path]?.count ?? 0)
            }
            disk.crash()
            for (path, bytes) in promised {
                let found = try disk.read(path)
                #expect(found.starts(with: bytes), "seed \(seed), round \(round), \(path)")
                let file = try disk.open(path, create: false)
                try file.truncate(to: bytes.count)
                try file.sync()
            }
        }
    }

    @Test("a failed sync loses its pages for good, and the next one does not say so")
    func failedSync() throws {
        var kept = 0
        for seed in 0..<20 as Range<UInt64> {
            let disk = SimulatedDisk(seed: seed)
            let file = try disk.open("/f", create: true)
            try disk.syncDirectory("/")
            try write(file, Bytes(repeating: 1, count: 512))
            disk.failSyncs(1)
            #expect(code { try file.sync() } == EIO)
            #expect(try disk.read("/f").first == 1)
            try file.sync()
            disk.crash()
            let bytes = try disk.read("/f")
            #expect(bytes.count == 512)
            if bytes.first == 1 { kept += 1 }
        }
        #expect(kept == 0)
    }

    @Test("a full disk takes what fits, and space comes back with removal")
    func full() throws {
        let disk = SimulatedDisk(seed: 3, capacity: 1000)
        let file = try disk.open("/f", create: true)
        #expect(code { try write(file, Bytes(repeating: 1, count: 1500)) } == ENOSPC)
        #expect(try file.size == 1000)
        #expect(code { try file.allocateZeroed(1001) } == ENOSPC)
        try write(file, [2], at: 10)  // Overwriting needs no room.
        try disk.remove("/f")
        #expect(try disk.freeSpace("/") == 1000)
        try disk.open("/g", create: true).allocateZeroed(1000)
    }

    @Test("power can go at every change, and writes can fail in the middle")
    func power() throws {
        let disk = SimulatedDisk(seed: 4)
        let file = try disk.open("/f", create: true)
        try disk.syncDirectory("/")
        disk.losePower(afterChanges: 1)
        try write(file, [1])
        #expect(code { try write(file, [2]) } == EIO)
        #expect(code { try file.sync() } == EIO)
        #expect(code { _ = try disk.read("/f") } == EIO)
        disk.crash()
        let again = try disk.open("/f", create: false)
        disk.failWrites(1, code: EDQUOT)
        #expect(code { try write(again, Bytes(repeating: 9, count: 100)) } == EDQUOT)
        #expect(try again.size < 101)
        try write(again, [1, 2, 3])
        try again.sync()
        try disk.corrupt("/f", at: 1, mask: 0x80)
        #expect(try Bytes(disk.read("/f")[..<3]) == [1, 0x82, 3])
        disk.crash()
        #expect(try Bytes(disk.read("/f")[..<3]) == [1, 0x82, 3])
    }

    @Test("a zero-filled segment takes no memory and no time")
    func sparse() throws {
        let disk = SimulatedDisk(seed: 5)
        let file = try disk.open("/f", create: true)
        try file.allocateZeroed(1 << 40)
        try file.sync()
        try disk.syncDirectory("/")
        try write(file, [5], at: 1 << 39)
        try file.sync()
        disk.crash()
        let size = try disk.open("/f", create: false).size
        #expect(size == 1 << 40)
    }
}
