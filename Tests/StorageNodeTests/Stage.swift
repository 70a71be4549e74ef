import Base
import Contracts
import DataModel
import GatewayKit
import Glibc
import Net
import Placement
import Storage
import TestKit
import Testing

@testable import Replication
@testable import StorageNode

/// What became of a call.
enum Outcome: Hashable {
    case reply(Reply)
    case failed(ErrorCode)
}

/// A gateway's client: makes calls and writes down what becomes of them.
final class Caller: ReplyReceiver {
    private let router: NodeRouter
    private(set) var made: UInt64 = 0
    private(set) var outcomes: [UInt64: Outcome] = [:]
    /// Tickets that had more than one outcome.
    private(set) var repeated: [UInt64] = []
    var onOutcome: (UInt64, Outcome) -> Void = { _, _ in }

    init(_ router: NodeRouter) { self.router = router }

    @discardableResult
    func call(
        _ method: Method, _ key: String, _ arguments: [Bytes] = [], numbers: [Int64] = [], flags: SetFlags = [],
        connection: UInt64 = 1
    ) -> UInt64 {
        made += 1
        let ticket = made
        let flat = arguments.joined().map { $0 }
        Bytes(key.utf8).withUnsafeBytes { key in
            flat.withUnsafeBytes { flat in
                var views: [ByteView] = [], start = 0
                for argument in arguments {
                    views.append(ByteView(rebasing: flat[start..<start + argument.count]))
                    start += argument.count
                }
                numbers.withUnsafeBufferPointer { numbers in
                    views.withUnsafeBufferPointer { views in
                        router.call(
                            connection: connection, slot: UInt32(Slot.of(key).rawValue), method: method, database: 0,
                            key: key,
                            flags: flags.rawValue, numbers: numbers, arguments: views, receiver: self, ticket: ticket)
                    }
                }
            }
        }
        return ticket
    }

    @discardableResult
    func set(_ key: String, _ value: String, flags: SetFlags = []) -> UInt64 {
        call(.set, key, [Bytes(value.utf8)], flags: flags)
    }

    @discardableResult
    func get(_ key: String) -> UInt64 { call(.get, key) }

    /// Calls that are done at once, on the shard of a key.
    @discardableResult
    func batch(
        at key: String, connection: UInt64 = 1, isWrite: Bool = true, _ build: (inout CallBatchEncoder) -> Void
    ) -> UInt64 {
        made += 1
        var encoder = CallBatchEncoder()
        build(&encoder)
        let slot = Bytes(key.utf8).withUnsafeBytes { UInt32(Slot.of($0).rawValue) }
        router.batch(
            connection: connection, slot: slot, body: encoder.message, isWrite: isWrite, receiver: self, ticket: made)
        return made
    }

    /// A call that reads at a time, or as the scope says.
    @discardableResult
    func scoped(
        _ scope: InvocationScope, _ method: Contracts.Method, _ key: String = "", _ arguments: [Bytes] = [],
        numbers: [Int64] = [], flags: UInt32 = 0, slot: UInt32? = nil, connection: UInt64 = 1
    ) -> UInt64 {
        let call = CallBatchEncoder.encoded(method, key, arguments, numbers: numbers, flags: flags)
        return scoped(scope, slot ?? Self.slot(of: key)) { router, slot, ticket in
            call.withUnsafeBytes {
                router.scoped(
                    connection: connection, slot: slot, transaction: 0, scope: scope, .call($0), isWrite: false,
                    receiver: self, ticket: ticket)
            }
        }
    }

    /// The same for calls that are done at once.
    @discardableResult
    func scopedBatch(
        _ scope: InvocationScope, at key: String, _ build: (inout CallBatchEncoder) -> Void
    ) -> UInt64 {
        var encoder = CallBatchEncoder()
        build(&encoder)
        let batch = encoder.message.bytes
        return scoped(scope, Self.slot(of: key)) { router, slot, ticket in
            batch.withUnsafeBytes {
                router.scoped(
                    connection: 1, slot: slot, transaction: 0, scope: scope, .batch($0), isWrite: false,
                    receiver: self, ticket: ticket)
            }
        }
    }

    private func scoped(
        _ scope: InvocationScope, _ slot: UInt32, _ send: (NodeRouter, UInt32, UInt64) -> Void
    ) -> UInt64 {
        made += 1
        send(router, slot, made)
        return made
    }

    private static func slot(of key: String) -> UInt32 {
        Bytes(key.utf8).withUnsafeBytes { UInt32(Slot.of($0).rawValue) }
    }

    @discardableResult
    func step(at slot: UInt32, _ step: TransactionStep) -> UInt64 {
        made += 1
        router.step(connection: 1, slot: slot, step, receiver: self, ticket: made)
        return made
    }

    subscript(_ ticket: UInt64) -> Outcome? { outcomes[ticket] }

    var isSettled: Bool { outcomes.count == made }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) { note(ticket, .reply(Reply(reply))) }

    func failed(_ ticket: UInt64, _ error: DatabaseError) { note(ticket, .failed(error.code)) }

    private func note(_ ticket: UInt64, _ outcome: Outcome) {
        if outcomes.updateValue(outcome, forKey: ticket) != nil { repeated.append(ticket) }
        onOutcome(ticket, outcome)
    }
}

/// A node with a gateway's router as its client, on one loop that the test's thread runs until the story is told.
final class Stage {
    static let bucketCount = 64
    let loop: EventLoop
    let node: Node
    let router: NodeRouter
    let caller: Caller
    let directory: String
    private let server: GRPCServer
    private(set) var isDone = false
    private var isKilled = false
    private var timers: [LoopTimer] = []

    var address: SocketAddress { .unix(path: directory + "/s") }

    private init(
        _ directory: String, shards: Int, settings: NodeSettings, disk: any Disk, store: (any Store)?,
        map given: ((String) throws -> ShardMap)?
    ) throws {
        self.directory = directory
        loop = try EventLoop()
        node = try Node(
            settings: settings, loop: loop, systemClock: SystemClock(), logger: .silent, disk: disk, store: store,
            fatal: { fatalError("\($0): \($1)") })
        router = NodeRouter(loop: loop, tls: nil, session: 7)
        caller = Caller(router)
        server = GRPCServer(loop: loop, limits: InvocationStream.limits)
        node.register(on: server, access: InvocationAccess(user: getuid(), isInsecure: false))
        unlink(directory + "/s")
        try server.listen(on: .unix(path: directory + "/s"))
        node.attach(StepLinks(loop: loop, tls: nil, session: 11))
        node.attach(HomeTransactions(loop: loop, tls: nil, session: 12, clock: { 1_700_000_000_000 }))
        node.start()
        let map = try given?("\(address)") ?? Self.map(shards: shards, address: "\(address)")
        node.adopt(map, as: NodeID(rawValue: 1))
        router.adopt(map)
    }

    private static func map(shards: Int, address: String) throws -> ShardMap {
        let id = NodeID(rawValue: 1), size = bucketCount / shards
        return try ShardMap(
            epoch: MapEpoch(rawValue: 1), cluster: 1, bucketCount: bucketCount,
            shards: (0..<shards).map {
                .init(
                    id: ShardID(rawValue: UInt32($0 + 1)), buckets: [$0 * size..<($0 + 1) * size], leader: id,
                    replicas: [id])
            },
            nodes: [.init(id: id, uid: NodeUID(high: 0, low: 1), addresses: [address], fencingToken: 1, state: .up)])
    }

    /// How a story ends.
    enum End {
        /// As after SIGTERM: everything is in the store.
        case drain
        /// As after SIGKILL: what is above the store's last flush is in the log alone.
        case kill
    }

    func finish(_ end: End = .drain) {
        isDone = true
        router.close()
        server.close()
        for timer in timers { timer.cancel() }
        switch end {
        case .drain: node.drain { [loop] in loop.stop() }
        case .kill:
            isKilled = true
            loop.stop()
        }
    }

    /// After the last tick: within one, a timer of the node that is due may still use what is closed here.
    private func closeKilled() {
        node.log.writer.close()
        node.store.close()
    }

    /// Calls `body` once a tick or so until it returns true.
    func poll(_ body: @escaping () -> Bool) {
        var isDone = false
        timers.append(
            loop.schedule(afterMilliseconds: 1, repeating: true) {
                if !isDone { isDone = body() }
            })
    }

    /// Runs a story in `directory` from when the node serves until `finish`; the timer only ends a test that would
    /// hang.
    static func run(
        _ directory: String, shards: Int = 1, settings: ((inout NodeSettings) -> Void)? = nil,
        disk: any Disk = SimulatedDisk(seed: 1), store: (any Store)? = MemoryStore(),
        map: ((String) throws -> ShardMap)? = nil, _ begin: @escaping (Stage) -> Void
    ) throws {
        var given = NodeSettings(directory: directory + "/data", durability: .always, actorMemory: 64 << 20)
        given.id = NodeID(rawValue: 1)
        given.log.segmentBytes = 4 << 20
        settings?(&given)
        let stage = try Stage(directory, shards: shards, settings: given, disk: disk, store: store, map: map)
        let timer = stage.loop.schedule(afterMilliseconds: HangLimit.milliseconds) { stage.loop.stop() }
        stage.poll {
            // With a map of its own a test knows what to wait for.
            guard map != nil || stage.router.isReady && stage.node.complaint == nil else { return false }
            begin(stage)
            return true
        }
        stage.loop.run()
        timer.cancel()
        #expect(
            stage.isDone, "the story did not come to its end: \(stage.caller.outcomes.count) of \(stage.caller.made)")
        #expect(stage.caller.isSettled && stage.caller.repeated.isEmpty, "twice answered: \(stage.caller.repeated)")
        if !stage.isDone { stage.finish(.kill) }
        if stage.isKilled { stage.closeKilled() }
    }

    /// Runs `test` with a directory that is removed afterwards.
    static func withDirectory(_ test: (String) throws -> Void) throws {
        var template = Array("/tmp/orbit-node-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { remove(path) }
        try test(path)
    }

    private static func remove(_ path: String) {
        let disk = PosixDisk()
        for name in (try? disk.list(path)) ?? [] { remove(path + "/" + name) }
        try? disk.remove(path)
    }
}

/// A disk whose syncs wait while it is shut: nothing becomes durable then.
final class GatedDisk: Disk {
    private let base: any Disk
    private let gate = Gate()

    /// Shared by the disk and its files.
    final class Gate: @unchecked Sendable {  // What it holds is guarded by the monitor.
        private let monitor = Monitor()
        private var isShut = false
        private var arrivals = 0
        private var limit = Int.max

        func set(shut: Bool) {
            monitor.lock()
            isShut = shut
            limit = .max
            monitor.signal()
            monitor.unlock()
        }

        /// Later ones than that many wait.
        func set(limit: Int) {
            monitor.lock()
            self.limit = limit
            monitor.unlock()
        }

        /// Returns when the gate is open, or after far too long.
        func pass() {
            monitor.lock()
            arrivals += 1
            let mine = arrivals
            let deadline = Monitor.now() + HangLimit.nanoseconds
            while isShut || mine > limit, Monitor.now() < deadline { monitor.wait(until: deadline) }
            monitor.unlock()
        }

        var passed: Int {
            monitor.lock()
            defer { monitor.unlock() }
            return arrivals
        }
    }

    init(_ base: any Disk) { self.base = base }

    func shut() { gate.set(shut: true) }
    func open() { gate.set(shut: false) }
    /// Shut once it has let so many syncs pass, all together.
    func shut(after syncs: Int) { gate.set(limit: syncs) }
    /// Syncs that came to the gate.
    var syncs: Int { gate.passed }

    func open(_ path: String, create: Bool) throws(SystemError) -> any DiskFile {
        GatedFile(try base.open(path, create: create), gate)
    }
    func list(_ directory: String) throws(SystemError) -> [String] { try base.list(directory) }
    func exists(_ path: String) -> Bool { base.exists(path) }
    func remove(_ path: String) throws(SystemError) { try base.remove(path) }
    func rename(_ from: String, to: String) throws(SystemError) { try base.rename(from, to: to) }
    func makeDirectory(_ path: String) throws(SystemError) { try base.makeDirectory(path) }
    func syncDirectory(_ path: String) throws(SystemError) { try base.syncDirectory(path) }
    func freeSpace(_ path: String) throws(SystemError) -> Int { try base.freeSpace(path) }
}

private final class GatedFile: DiskFile {
    private let base: any DiskFile
    private let gate: GatedDisk.Gate

    init(_ base: any DiskFile, _ gate: GatedDisk.Gate) { (self.base, self.gate) = (base, gate) }

    func pwrite(_ bytes: ByteView, at offset: Int) throws(SystemError) { try base.pwrite(bytes, at: offset) }
    func pread(into room: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemError) -> Int {
        try base.pread(into: room, at: offset)
    }
    func sync() throws(SystemError) {
        gate.pass()
        try base.sync()
    }
    var size: Int { get throws(SystemError) { try base.size } }
    func allocateZeroed(_ count: Int) throws(SystemError) { try base.allocateZeroed(count) }
    func truncate(to count: Int) throws(SystemError) { try base.truncate(to: count) }
    func close() { base.close() }
}
