import Base
import Glibc

/// The content of a simulated file: what is on the medium, and what the cache holds on top of it.
struct SimulatedInode: Sendable {
    typealias Page = [UInt8]
    private static let pageSize = SimulatedDisk.pageSize

    /// Pages on the medium; a missing one is zeros. Nothing lies at or after `durableSize`.
    private var durable: [Int: Page] = [:]
    private(set) var durableSize = 0
    /// What reads see where it differs from the medium.
    private var cached: [Int: Page] = [:]
    /// The pages of `cached` that the next sync writes. Others are lost without notice: a sync for them has failed.
    private var dirty: Set<Int> = []
    private(set) var size = 0
    private var lastWrittenPage: Int?

    private func page(_ number: Int) -> Page {
        cached[number] ?? durable[number] ?? Page(repeating: 0, count: Self.pageSize)
    }

    private mutating func change(_ number: Int, _ body: (inout Page) -> Void) {
        var content = page(number)
        body(&content)
        cached[number] = content
        dirty.insert(number)
        lastWrittenPage = number
    }

    mutating func write(_ bytes: ByteView, at offset: Int) {
        var position = 0
        while position < bytes.count {
            let (number, start) = (offset + position).quotientAndRemainder(dividingBy: Self.pageSize)
            let count = min(Self.pageSize - start, bytes.count - position)
            change(number) { content in
                for index in 0..<count { content[start + index] = bytes[position + index] }
            }
            position += count
        }
        if bytes.count > 0 { size = max(size, offset + bytes.count) }
    }

    func read(into room: UnsafeMutableRawBufferPointer, at offset: Int) -> Int {
        let total = max(0, min(room.count, size - offset))
        var position = 0
        while position < total {
            let (number, start) = (offset + position).quotientAndRemainder(dividingBy: Self.pageSize)
            let count = min(Self.pageSize - start, total - position)
            let target = UnsafeMutableRawBufferPointer(rebasing: room[position..<(position + count)])
            if let content = cached[number] ?? durable[number] {
                content.withUnsafeBytes { target.copyMemory(from: ByteView(rebasing: $0[start..<(start + count)])) }
            } else {
                target.initializeMemory(as: UInt8.self, repeating: 0)
            }
            position += count
        }
        return total
    }

    /// New bytes read as zeros, even where the file was longer once.
    mutating func resize(to count: Int) {
        if count < size {
            let (first, keep) = count.quotientAndRemainder(dividingBy: Self.pageSize)
            if keep > 0 {
                change(first) { content in for index in keep..<Self.pageSize { content[index] = 0 } }
            }
            let from = keep > 0 ? first + 1 : first
            for number in Set(cached.keys).union(durable.keys) where number >= from {
                change(number) { $0 = Page(repeating: 0, count: Self.pageSize) }
            }
        }
        size = count
    }

    mutating func sync() {
        for number in dirty { durable[number] = cached.removeValue(forKey: number) }
        dirty.removeAll()
        durableSize = size
        dropBeyondEnd()
    }

    /// The cache believes that it is clean; the medium has nothing of it.
    mutating func failSync() { dirty.removeAll() }

    mutating func corrupt(at offset: Int, mask: UInt8) {
        let (number, index) = offset.quotientAndRemainder(dividingBy: Self.pageSize)
        cached[number]?[index] ^= mask
        durable[number, default: Page(repeating: 0, count: Self.pageSize)][index] ^= mask
    }

    /// What a crash leaves: see `SimulatedDisk`.
    mutating func crash(_ random: inout SplitMix64) {
        let mood = random.next(below: 4)  // All lost, all kept, or page by page.
        let torn = random.oneIn(2) ? lastWrittenPage : nil
        for number in dirty.sorted() {
            let isKept = mood == 0 ? false : mood == 1 ? true : random.oneIn(2)
            guard isKept, var content = cached[number] else { continue }
            if number == torn {
                let old = durable[number] ?? Page(repeating: 0, count: Self.pageSize)
                let cut = Int(random.next(below: UInt64(Self.pageSize)))
                content.replaceSubrange(cut..., with: old[cut...])
            }
            durable[number] = content
        }
        if size != durableSize {
            switch mood {
            case 0: break
            case 1: durableSize = size
            case _:
                let low = min(size, durableSize)
                durableSize = low + Int(random.next(below: UInt64(max(size, durableSize) - low + 1)))
            }
        }
        cached.removeAll()
        dirty.removeAll()
        lastWrittenPage = nil
        size = durableSize
        dropBeyondEnd()
    }

    private mutating func dropBeyondEnd() {
        let (last, keep) = durableSize.quotientAndRemainder(dividingBy: Self.pageSize)
        let from = keep > 0 ? last + 1 : last
        for number in durable.keys where number >= from { durable[number] = nil }
        if keep > 0, durable[last] != nil {
            for index in keep..<Self.pageSize { durable[last]?[index] = 0 }
        }
    }
}

/// The whole disk: names, files and faults.
struct SimulatedDiskState: Sendable {
    enum Entry: Hashable { case directory, file(Int) }

    /// A change of names that is not durable yet, in order; as a whole kept or lost.
    private struct Change {
        let directories: Set<String>
        let entries: [(path: String, entry: Entry?)]
    }

    var files: [Int: SimulatedInode] = [:]
    private(set) var names: [String: Entry] = [:]
    private var durableNames: [String: Entry] = [:]
    private var pending: [Change] = []
    private var nextID = 1
    private var random: SplitMix64
    /// Grows with each crash; files opened before it are dead.
    private(set) var epoch = 0
    var capacity: Int
    private(set) var changes = 0
    private(set) var syncs = 0
    var changesUntilPowerLoss: Int?
    var failingSyncs = 0
    var failingWrites = 0
    var writeFailure = EIO

    init(seed: UInt64, capacity: Int) {
        random = SplitMix64(seed: seed)
        self.capacity = capacity
    }

    /// Bytes of all files that have a name.
    var used: Int {
        names.values.reduce(0) { sum, entry in
            guard case .file(let id) = entry else { return sum }
            return sum + (files[id]?.size ?? 0)
        }
    }

    // MARK: Power

    func checkPower(_ call: String) throws(SystemError) {
        if changesUntilPowerLoss == 0 { throw SystemError(call, code: EIO) }
    }

    private mutating func countChange(_ call: String) throws(SystemError) {
        try checkPower(call)
        changes += 1
        changesUntilPowerLoss? -= 1
    }

    mutating func crash() {
        for id in files.keys.sorted() { files[id]?.crash(&random) }
        // Either a journal that ends somewhere, or changes that reach the medium in any selection; but one that was
        // lost takes those with it that came after on the same name: a file cannot be made where another was never
        // renamed away.
        let journalEnd = random.oneIn(2) ? Int(random.next(below: UInt64(pending.count + 1))) : nil
        var lost: Set<String> = []
        for (index, change) in pending.enumerated() {
            let isKept = journalEnd.map { index < $0 } ?? random.oneIn(2)
            let paths = change.entries.map(\.path)
            if isKept, lost.isDisjoint(with: paths) { apply(change) } else { lost.formUnion(paths) }
        }
        pending.removeAll()
        // A file whose directory was lost cannot be found.
        names = durableNames.filter { path, _ in hasDirectories(path) }
        durableNames = names
        removeUnnamedFiles()
        epoch += 1
        changesUntilPowerLoss = nil
        failingSyncs = 0
        failingWrites = 0
    }

    private func hasDirectories(_ path: String) -> Bool {
        var parent = Self.parent(path)
        while !isRoot(parent) {
            guard durableNames[parent] == .directory else { return false }
            parent = Self.parent(parent)
        }
        return true
    }

    private mutating func apply(_ change: Change) {
        for (path, entry) in change.entries { durableNames[path] = entry }
    }

    private mutating func removeUnnamedFiles() {
        var named: Set<Int> = []
        for case .file(let id) in names.values { named.insert(id) }
        for case .file(let id) in durableNames.values { named.insert(id) }
        for change in pending { for case (_, .file(let id)?) in change.entries { named.insert(id) } }
        for id in files.keys where !named.contains(id) { files[id] = nil }
    }

    // MARK: Names

    func isRoot(_ path: String) -> Bool { path == "/" || path == "." || path.isEmpty }

    static func parent(_ path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    func file(_ path: String, _ call: String) throws(SystemError) -> Int {
        guard let entry = names[path] else { throw SystemError("\(call) \(path)", code: ENOENT) }
        guard case .file(let id) = entry else { throw SystemError("\(call) \(path)", code: EISDIR) }
        return id
    }

    private mutating func change(_ entries: [(path: String, entry: Entry?)]) {
        for (path, entry) in entries { names[path] = entry }
        pending.append(Change(directories: Set(entries.map { Self.parent($0.path) }), entries: entries))
    }

    mutating func open(_ path: String, create: Bool) throws(SystemError) -> Int {
        try checkPower("open \(path)")
        if names[path] != nil || !create { return try file(path, "open") }
        try checkDirectory(Self.parent(path), "open \(path)")
        try countChange("open \(path)")
        let id = nextID
        nextID += 1
        files[id] = SimulatedInode()
        change([(path, .file(id))])
        return id
    }

    private func checkDirectory(_ path: String, _ call: String) throws(SystemError) {
        guard isRoot(path) || names[path] == .directory else {
            throw SystemError(call, code: names[path] == nil ? ENOENT : ENOTDIR)
        }
    }

    func list(_ directory: String) throws(SystemError) -> [String] {
        try checkPower("list \(directory)")
        try checkDirectory(directory, "list \(directory)")
        return names.keys.filter { Self.parent($0) == directory }
            .map { path in path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path }.sorted()
    }

    mutating func remove(_ path: String) throws(SystemError) {
        guard let entry = names[path] else { throw SystemError("remove \(path)", code: ENOENT) }
        if entry == .directory, names.keys.contains(where: { Self.parent($0) == path }) {
            throw SystemError("remove \(path)", code: ENOTEMPTY)
        }
        try countChange("remove \(path)")
        change([(path, nil)])
    }

    mutating func rename(_ from: String, _ to: String) throws(SystemError) {
        guard let entry = names[from] else { throw SystemError("rename \(from) to \(to)", code: ENOENT) }
        try checkDirectory(Self.parent(to), "rename \(from) to \(to)")
        if from == to { return }
        try countChange("rename \(from) to \(to)")
        guard entry == .directory else { return change([(from, nil), (to, entry)]) }
        var entries: [(path: String, entry: Entry?)] = [(from, nil), (to, entry)]
        for (path, inner) in names.sorted(by: { $0.key < $1.key }) where path.hasPrefix(from + "/") {
            entries += [(path, nil), (to + path.dropFirst(from.count), inner)]
        }
        change(entries)
    }

    mutating func makeDirectory(_ path: String) throws(SystemError) {
        if isRoot(path) || names[path] == .directory { return }
        guard names[path] == nil else { throw SystemError("mkdir \(path)", code: EEXIST) }
        try makeDirectory(Self.parent(path))
        try countChange("mkdir \(path)")
        change([(path, .directory)])
    }

    mutating func syncDirectory(_ path: String) throws(SystemError) {
        try checkDirectory(path, "fsync \(path)")
        try countChange("fsync \(path)")
        // A rename across directories is one change, so it takes what came before in its other directory with it.
        var directories: Set<String> = [path]
        var synced: Set<Int> = []
        for (index, change) in pending.enumerated().reversed() where !directories.isDisjoint(with: change.directories) {
            directories.formUnion(change.directories)
            synced.insert(index)
        }
        for (index, change) in pending.enumerated() where synced.contains(index) { apply(change) }
        pending = pending.enumerated().filter { !synced.contains($0.offset) }.map(\.element)
        removeUnnamedFiles()
    }

    // MARK: Content

    mutating func write(_ id: Int, _ bytes: ByteView, at offset: Int, _ path: String) throws(SystemError) {
        try countChange("write \(path)")
        guard let size = files[id]?.size else { return }
        var room = bytes.count
        var code: Int32 = 0
        if failingWrites > 0 {
            failingWrites -= 1
            (room, code) = (Int(random.next(below: UInt64(bytes.count + 1))), writeFailure)
        }
        let free = max(0, capacity - used)
        let growth = max(0, offset + room - size)
        if growth > free { (room, code) = (max(0, room - (growth - free)), ENOSPC) }
        files[id]?.write(ByteView(rebasing: bytes[..<room]), at: offset)
        if code != 0 { throw SystemError("write \(path)", code: code) }
    }

    mutating func extend(_ id: Int, to count: Int, _ path: String) throws(SystemError) {
        try countChange("write \(path)")
        guard let size = files[id]?.size, count > size else { return }
        let free = max(0, capacity - used)
        files[id]?.resize(to: min(count, size + free))
        if count - size > free { throw SystemError("write \(path)", code: ENOSPC) }
    }

    mutating func truncate(_ id: Int, to count: Int, _ path: String) throws(SystemError) {
        try countChange("truncate \(path)")
        files[id]?.resize(to: count)
    }

    mutating func sync(_ id: Int, _ path: String) throws(SystemError) {
        try countChange("fdatasync \(path)")
        syncs += 1
        if failingSyncs > 0 {
            failingSyncs -= 1
            files[id]?.failSync()
            throw SystemError("fdatasync \(path)", code: EIO)
        }
        files[id]?.sync()
    }
}
