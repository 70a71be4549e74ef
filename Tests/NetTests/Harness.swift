import Base
import CSystem
import Glibc
import Net
import Testing

/// A loop on a thread of its own, driven by a test; tests wait for events, never for time.
final class Harness: Sendable {
    let loop: EventLoop
    private let thread: Net.Thread

    init() throws {
        loop = try EventLoop()
        thread = try loop.startThread(name: "test loop")
    }

    /// Runs `body` on the loop and hands its value back.
    func run<Value: Sendable>(_ body: @escaping @Sendable (EventLoop) throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            loop.execute { [loop] in continuation.resume(with: Result { try body(loop) }) }
        }
    }

    func stop() {
        loop.stop()
        thread.join()
    }

    /// Runs `test` with a harness that is stopped afterwards.
    static func with<Value>(_ test: (Harness) async throws -> Value) async throws -> Value {
        let harness = try Harness()
        defer { harness.stop() }
        return try await test(harness)
    }
}

/// A connection handler that writes down what it is told; a test awaits a condition on it. Confined to the loop.
final class Witness: ConnectionHandler, @unchecked Sendable {
    var connection: Connection?
    var bytes: Bytes = []
    var isEnded = false
    var congestions = 0
    var drains = 0
    var deadlines = 0
    var reason: CloseReason?
    var failure: NetError?
    var threads: Set<Int32> = []
    /// How many bytes of each delivery to consume; nil for all.
    var appetite: Int?
    var deliveries = 0
    var onReceived: ((Connection) -> Void)?
    var closesAtEnd = true
    private var waiters: [((Witness) -> Bool, CheckedContinuation<Void, Never>)] = []
    private var isCancelled = false

    init() {}

    /// Takes a connection on.
    func attach(_ connection: Connection) {
        self.connection = connection
        connection.handler = self
        changed()
    }

    func received(_ connection: Connection, _ input: inout ByteBuffer) {
        threads.insert(orbit_thread_id())
        deliveries += 1
        let count = min(appetite ?? input.count, input.count)
        bytes += ByteView(rebasing: input.readable[0..<count]).bytes
        input.consume(count)
        onReceived?(connection)
        changed()
    }

    func inputEnded(_ connection: Connection) {
        isEnded = true
        if closesAtEnd { connection.close(afterFlush: true) }
        changed()
    }

    func outputCongested(_ connection: Connection) {
        congestions += 1
        changed()
    }

    func outputDrained(_ connection: Connection) {
        drains += 1
        changed()
    }

    func deadlineReached(_ connection: Connection) {
        deadlines += 1
        connection.close(reason: .deadline)
        changed()
    }

    func closed(_ connection: Connection, _ reason: CloseReason) {
        self.reason = reason
        self.connection = nil
        changed()
    }

    func fail(_ error: NetError) {
        failure = error
        changed()
    }

    func changed() {
        let ready = waiters.filter { $0.0(self) }
        waiters.removeAll { $0.0(self) }
        for (_, continuation) in ready { continuation.resume() }
    }

    /// Waits until `condition` holds.
    func until(_ harness: Harness, _ condition: @escaping @Sendable (Witness) -> Bool) async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                harness.loop.execute {
                    if self.isCancelled || condition(self) {
                        continuation.resume()
                    } else {
                        self.waiters.append((condition, continuation))
                    }
                }
            }
        } onCancel: {
            // The time limit of the suite: every wait ends, and the expectations after it say what is missing.
            harness.loop.execute {
                self.isCancelled = true
                for (_, continuation) in self.waiters { continuation.resume() }
                self.waiters = []
            }
        }
    }
}

/// A directory of the test's own, removed afterwards.
func withTemporaryDirectory<Value>(_ body: (String) async throws -> Value) async throws -> Value {
    var template = Array("/tmp/orbit-net-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SystemError("mkdtemp") }
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer {
        for name in entries(of: path) { unlink("\(path)/\(name)") }
        rmdir(path)
    }
    return try await body(path)
}

func entries(of path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        if name != ".", name != ".." { names.append(name) }
    }
    return names
}

/// A listener with one accepted connection and its client.
struct Pair: Sendable {
    let server: Witness
    let client: Witness

    /// Connects a client to a fresh listener on `address` and waits for both ends.
    static func make(
        _ harness: Harness, address: SocketAddress = .ipv4(address: 0x7f00_0001, port: 0),
        options: ConnectionOptions = ConnectionOptions()
    ) async throws -> Pair {
        let pair = Pair(server: Witness(), client: Witness())
        let listener = try await harness.run { loop in
            var limits = ListenerLimits()
            limits.connection = options
            let listener = try Listener(loop: loop, address: address, limits: limits) { pair.server.attach($0) }
            try listener.start()
            Connector.connect(loop: loop, to: listener.boundAddress, options: options) { result in
                switch result {
                case .success(let connection): pair.client.attach(connection)
                case .failure(let error): pair.client.fail(error)
                }
            }
            return LoopBound(listener, loop: loop)
        }
        await pair.client.until(harness) { $0.connection != nil || $0.failure != nil }
        let failure = try await harness.run { _ in pair.client.failure }
        if let failure { throw failure }
        await pair.server.until(harness) { $0.connection != nil }
        try await harness.run { _ in listener.value.close() }
        return pair
    }
}

extension Witness {
    /// Sends bytes from the loop.
    func send(_ harness: Harness, _ bytes: Bytes) async throws {
        try await harness.run { _ in
            self.connection?.output.append(bytes)
            self.connection?.setNeedsFlush()
        }
    }
}
