import Backup
import Base
import TestKit
import Testing

/// Backups on a disk: full, incremental, interrupted, damaged.
@Suite("Backup directory")
struct BackupDirectoryTests {
    @Test("every backup of a chain shows its own moment, and adds what has changed")
    func chain() throws {
        var random = SplitMix64(seed: freshSeed("backup chain"))
        let rig = try Rig()
        rig.fill(600, &random)
        var moments = [rig.records]
        let full = try rig.backUp().writtenBytes
        for round in 0..<4 {
            rig.set(round, "key-new-\(round)", [1, 2, 3])
            if let some = rig.records[0].keys.sorted(by: { $0.lexicographicallyPrecedes($1) }).first {
                rig.records[0][some] = nil
            }
            moments.append(rig.records)
            let draft = try rig.backUp()
            #expect(draft.writtenBytes < full / 10, "\(draft.writtenBytes) of \(full)")
            #expect(draft.manifest.base == UInt32(round + 1))
        }
        #expect(try rig.directory.numbers() == [1, 2, 3, 4, 5])
        for (number, moment) in moments.enumerated() { #expect(try rig.content(UInt32(number + 1)) == moment) }
        #expect(try rig.verify().isEmpty)
        #expect(try rig.backUp().writtenBytes == 0)
        #expect(try rig.backUp(isFull: true).writtenBytes > full / 2)
        let last = try rig.directory.manifest(of: 7).manifest
        #expect(last.base == 0 && last.files.allSatisfy { $0.backup == 7 })
        #expect(try rig.verify().isEmpty)
    }

    @Test("an empty cluster has a backup too")
    func empty() throws {
        let rig = try Rig()
        try rig.backUp()
        #expect(try rig.content(1) == rig.records)
        #expect(try rig.verify().isEmpty)
    }

    @Test("an interrupted backup is none, and what it had stored is of use to the next")
    func interrupted() throws {
        var random = SplitMix64(seed: freshSeed("interrupted backup"))
        for round in 0..<10 {
            let rig = try Rig(seed: random.next())
            rig.fill(300, &random)
            if round % 2 == 0 { try rig.backUp() }
            rig.fill(400, &random)
            let complete = try rig.directory.numbers()
            for _ in 0..<3 {
                rig.interruptAfter = Int(random.next(below: 60))
                if (try? rig.backUp()) != nil { break }
                #expect(try rig.directory.numbers() == complete)
                #expect(try rig.directory.interrupted() == UInt32(complete.count + 1))
                if random.next(below: 2) == 0 { rig.disk.crash() }
                rig.set(1, "key-\(random.next(below: 300))", [9])
            }
            rig.interruptAfter = .max
            try rig.backUp()
            #expect(try rig.directory.interrupted() == nil)
            let newest = try #require(try rig.directory.newest())
            #expect(try rig.content(newest) == rig.records)
            #expect(try rig.verify().isEmpty)
        }
    }

    @Test("what an interrupted backup has stored is not sent again")
    func salvage() throws {
        var random = SplitMix64(seed: freshSeed("salvage"))
        let rig = try Rig()
        rig.fill(300, &random)
        rig.interruptAfter = 40
        #expect(throws: Rig.Interrupted.self) { try rig.backUp() }
        let stored = try rig.files().reduce(0) { $0 + (try rig.disk.read($1).count) }
        rig.interruptAfter = .max
        let draft = try rig.backUp()
        #expect(draft.salvagedPieces == 40)
        #expect(draft.writtenBytes + UInt64(stored) <= draft.manifest.addedBytes)
        #expect(try rig.content(1) == rig.records)
    }

    @Test("power lost at any moment leaves the backups that there were, or the new one too")
    func powerLoss() throws {
        var random = SplitMix64(seed: freshSeed("backup power loss"))
        for _ in 0..<20 {
            let rig = try Rig(seed: random.next())
            rig.fill(60, &random)
            try rig.backUp()
            let first = rig.records
            rig.fill(80, &random)
            rig.disk.losePower(afterChanges: Int(random.next(below: 40)))
            let isComplete = (try? rig.backUp()) != nil
            rig.disk.crash()
            #expect(try rig.content(1) == first)
            if isComplete { #expect(try rig.content(2) == rig.records) }
            #expect(try rig.verify().isEmpty)
            try rig.backUp()
            #expect(try rig.content(try #require(try rig.directory.newest())) == rig.records)
            #expect(try rig.verify().isEmpty)
        }
    }

    @Test("a flip of any byte of any file is found")
    func everyByte() throws {
        var random = SplitMix64(seed: freshSeed("every byte"))
        let rig = try Rig()
        rig.fill(30, &random)
        try rig.backUp()
        rig.set(2, "key-1", [7, 7])
        try rig.backUp()
        #expect(try rig.verify().isEmpty)
        for path in try rig.files() {
            let size = try rig.disk.read(path).count
            for offset in 0..<size {
                let mask = UInt8(1) << UInt8(random.next(below: 8))
                try rig.disk.corrupt(path, at: offset, mask: mask)
                #expect(try !rig.verify().isEmpty, "\(path) at \(offset)")
                try rig.disk.corrupt(path, at: offset, mask: mask)
            }
        }
        #expect(try rig.verify().isEmpty)
    }

    @Test("a file that is missing, cut or longer is named, and what stands on it is not restored")
    func missing() throws {
        var random = SplitMix64(seed: freshSeed("missing files"))
        let rig = try Rig()
        rig.fill(100, &random)
        try rig.backUp()
        rig.set(0, "key-3", [1])
        try rig.backUp()
        let path = "/b/000001/data-000002"
        let bytes = try rig.disk.read(path)
        try rig.disk.remove(path)
        #expect(try rig.verify() == ["000001/data-000002 is missing"])
        #expect(throws: DatabaseError(.corruption, "000001/data-000002 is missing")) { try rig.content(2) }
        for other in [Bytes(bytes.dropLast()), bytes + [0]] {
            try other.withView { try rig.disk.replace(path, with: $0) }
            let told = try rig.verify()
            #expect(told.count == 1 && told[0].contains("000001/data-000002 has \(other.count) bytes"))
            #expect(throws: DatabaseError.self) { try rig.content(2) }
        }
        try bytes.withView { try rig.disk.replace(path, with: $0) }
        try rig.disk.remove("/b/000002/manifest")
        #expect(try rig.directory.numbers() == [1])
        #expect(throws: DatabaseError(.invalidArgument, "backup 2 was interrupted: it has no manifest")) {
            try rig.content(2)
        }
        #expect(throws: DatabaseError(.invalidArgument, "there is no backup 9 in /b")) { try rig.content(9) }
    }

    @Test("a directory of another cluster, and one from the future, take no backup")
    func foreign() throws {
        let rig = try Rig()
        try rig.backUp()
        let (manifest, id) = try rig.directory.manifest(of: 1)
        func begin(cluster: UInt64, time: UInt64, buckets: Int) throws {
            _ = try BackupDraft(
                rig.directory, number: 2, base: (manifest, id), cluster: cluster,
                timestamp: Timestamp(milliseconds: time), bucketCount: buckets)
        }
        #expect(throws: DatabaseError.self) { try begin(cluster: 8, time: 5000, buckets: 4) }
        #expect(throws: DatabaseError.self) { try begin(cluster: 7, time: 5000, buckets: 8) }
        #expect(throws: DatabaseError.self) { try begin(cluster: 7, time: 10, buckets: 4) }
        try begin(cluster: 7, time: 5000, buckets: 4)
    }

    @Test("a full disk is said to be full, and what was complete stays")
    func fullDisk() throws {
        var random = SplitMix64(seed: freshSeed("full disk"))
        let rig = try Rig()
        rig.fill(50, &random)
        try rig.backUp()
        let first = rig.records
        rig.fill(500, &random)
        rig.disk.failWrites(1, code: 28)
        do {
            try rig.backUp()
            Issue.record("the disk was full")
        } catch let error as DatabaseError { #expect(error.code == .diskFull) }
        #expect(try rig.content(1) == first)
        try rig.backUp()
        #expect(try rig.content(2) == rig.records)
        #expect(try rig.verify().isEmpty)
    }
}
