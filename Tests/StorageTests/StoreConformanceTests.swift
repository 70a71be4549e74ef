import Base
import Glibc
import Storage
import Testing

/// What every store must do, run against each of them.
struct StoreConformanceTests {
    enum Kind: String, CaseIterable, Sendable { case memory, rocksDB }

    @Test(arguments: Kind.allCases) func writesReadsAndDeletes(kind: Kind) throws {
        try withStore(kind) { store in
            var batch = WriteBatch()
            batch.put(Bytes("a".utf8), Bytes("1".utf8))
            batch.put(Bytes("b".utf8), Bytes("2".utf8))
            batch.put(Bytes("b".utf8), Bytes("3".utf8))
            batch.put(Bytes("c".utf8), [])
            try store.write(batch)
            #expect(try get(store, "a") == "1")
            #expect(try get(store, "b") == "3")
            #expect(try get(store, "c") == "")
            #expect(try get(store, "d") == nil)
            batch.removeAll()
            batch.delete(Bytes("a".utf8))
            batch.delete(Bytes("never there".utf8))
            try store.write(batch)
            #expect(try get(store, "a") == nil)
            #expect(try scan(store, "", "") == ["b=3", "c="])
        }
    }

    @Test(arguments: Kind.allCases) func laterEffectsOfABatchOverrideEarlierOnes(kind: Kind) throws {
        try withStore(kind) { store in
            var batch = WriteBatch()
            for letter in "abcdef" { batch.put(Bytes("\(letter)".utf8), Bytes("old".utf8)) }
            batch.deleteRange(from: Bytes("b".utf8), to: Bytes("e".utf8))
            batch.put(Bytes("c".utf8), Bytes("new".utf8))
            batch.deleteRange(from: Bytes("f".utf8), to: Bytes("a".utf8))
            try store.write(batch)
            #expect(try scan(store, "", "") == ["a=old", "c=new", "e=old", "f=old"])
        }
    }

    @Test(arguments: Kind.allCases) func scansInOrderOfUnsignedBytes(kind: Kind) throws {
        try withStore(kind) { store in
            var batch = WriteBatch()
            for key: Bytes in [[0xff], [0x80, 1], [0x7f], [0], [0, 0], [0x80]] { batch.put(key, key) }
            try store.write(batch)
            let all = try keys(store, [], [])
            #expect(all == [[0], [0, 0], [0x7f], [0x80], [0x80, 1], [0xff]])
            #expect(try keys(store, [0, 0], [0x80, 1]) == [[0, 0], [0x7f], [0x80]])
            #expect(try keys(store, [0x90], [0x10]).isEmpty)
        }
    }

    @Test(arguments: Kind.allCases) func seeksWithinItsRange(kind: Kind) throws {
        try withStore(kind) { store in
            var batch = WriteBatch()
            for number: UInt8 in 0..<100 { batch.put([number], [number]) }
            try store.write(batch)
            let iterator = try store.scan(from: [10], to: [20])
            #expect(iterator.key.bytes == [10])
            seek(iterator, [15])
            #expect(iterator.key.bytes == [15])
            #expect(iterator.value.bytes == [15])
            seek(iterator, [3])
            #expect(iterator.key.bytes == [10])
            seek(iterator, [19, 1])
            #expect(!iterator.isValid)
            iterator.next()
            seek(iterator, [90])
            #expect(!iterator.isValid)
            try iterator.check()
        }
    }

    @Test(arguments: Kind.allCases) func aScanSeesTheStoreAsItWas(kind: Kind) throws {
        try withStore(kind) { store in
            var batch = WriteBatch()
            batch.put([1], [1])
            batch.put([3], [3])
            try store.write(batch)
            let iterator = try store.scan(from: [], to: [])
            batch.removeAll()
            batch.put([2], [2])
            batch.delete([3])
            try store.write(batch)
            iterator.next()
            #expect(iterator.isValid && iterator.key.bytes == [3])
        }
    }

    @Test(arguments: Kind.allCases) func holdsLargeValues(kind: Kind) throws {
        try withStore(kind) { store in
            let large = Bytes(repeating: 7, count: 5 << 20)
            var batch = WriteBatch()
            batch.put([1], large)
            try store.write(batch)
            try store.flush()
            #expect(try store.get([1]) == large)
            #expect(store.sizeEstimate > 0)
        }
    }

    @Test func rocksDBKeepsWhatWasFlushed() throws {
        let directory = try temporaryDirectory()
        defer { removeTree(directory) }
        var store: RocksDBStore? = try RocksDBStore(directory: directory)
        var batch = WriteBatch()
        for number in 0..<1000 { batch.put(Bytes("key\(number)".utf8), Bytes("value\(number)".utf8)) }
        try store?.write(batch)
        try store?.flush()
        store?.close()
        store = nil
        let reopened = try RocksDBStore(directory: directory)
        #expect(try reopened.get(Bytes("key999".utf8)) == Bytes("value999".utf8))
        #expect(throws: StoreError.self) { try RocksDBStore(directory: directory) }
        reopened.close()
    }

    @Test func memoryForgetsWhatWasNotFlushed() throws {
        let store = MemoryStore()
        for number: UInt8 in 0..<4 {
            var batch = WriteBatch()
            batch.put([number], [])
            try store.write(batch)
            if number == 0 { try store.flush() }
        }
        #expect(store.unflushedBatches == 3)
        store.crash(surviving: 1)
        #expect(try keys(store, [], []) == [[0], [1]])
        store.failNext(with: StoreError(.full, "asked to"))
        #expect(throws: StoreError.self) { try store.flush() }
        try store.flush()
    }
}

// MARK: Tools of this folder

func withStore(_ kind: StoreConformanceTests.Kind, _ body: (any Store) throws -> Void) throws {
    switch kind {
    case .memory:
        try body(MemoryStore())
    case .rocksDB:
        let directory = try temporaryDirectory()
        defer { removeTree(directory) }
        let store = try RocksDBStore(directory: directory)
        try body(store)
        store.close()
    }
}

private func get(_ store: any Store, _ key: String) throws -> String? {
    try store.get(Bytes(key.utf8)).map { String(decoding: $0, as: UTF8.self) }
}

private func scan(_ store: any Store, _ from: String, _ to: String) throws -> [String] {
    var found: [String] = []
    let iterator = try store.scan(from: Bytes(from.utf8), to: Bytes(to.utf8))
    while iterator.isValid {
        found.append(
            "\(String(decoding: iterator.key, as: UTF8.self))=\(String(decoding: iterator.value, as: UTF8.self))")
        iterator.next()
    }
    try iterator.check()
    return found
}

private func keys(_ store: any Store, _ from: Bytes, _ to: Bytes) throws -> [Bytes] {
    var found: [Bytes] = []
    let iterator = try store.scan(from: from, to: to)
    while iterator.isValid {
        found.append(iterator.key.bytes)
        iterator.next()
    }
    try iterator.check()
    return found
}

private func seek(_ iterator: any StoreIterator, _ key: Bytes) {
    key.withUnsafeBytes { iterator.seek($0) }
}

func temporaryDirectory() throws -> String {
    var template = Array("/tmp/orbit-storage-XXXXXX".utf8CString)
    let made = template.withUnsafeMutableBufferPointer { $0.baseAddress.flatMap { mkdtemp($0) } != nil }
    guard made else { throw SystemError("mkdtemp") }
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

func removeTree(_ directory: String) {
    let disk = PosixDisk()
    for name in (try? disk.list(directory)) ?? [] { try? disk.remove("\(directory)/\(name)") }
    try? disk.remove(directory)
}
