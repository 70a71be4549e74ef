import Base
import CSystem
import Glibc
import Net
import Testing

@Suite(.timeLimit(.minutes(10))) struct ListenerTests {
    private static let anyPort = SocketAddress.ipv4(address: 0x7f00_0001, port: 0)

    @Test func reportsABusyPort() async throws {
        // A loopback address of this process: on 127.0.0.1 another test may get the port between `close` and the end.
        let own = SocketAddress.ipv4(address: 0x7f40_0000 | UInt32(getpid()) & 0x3f_ffff, port: 0)
        try await Harness.with { harness in
            try await harness.run { loop in
                let first = try Listener(loop: loop, address: own) { $0.close() }
                #expect(first.boundAddress.port != 0)
                #expect(throws: NetError.addressInUse(first.boundAddress)) {
                    try Listener(loop: loop, address: first.boundAddress) { $0.close() }
                }
                first.close()
                // A connection of another test may have got the port meanwhile, but not every time.
                let isFree = (0..<20).contains { _ in
                    guard let busy = try? Listener(loop: loop, address: own, onConnection: { $0.close() }) else {
                        return false
                    }
                    busy.close()
                    return (try? Listener(loop: loop, address: busy.boundAddress) { $0.close() })?.close() != nil
                }
                #expect(isFree)
            }
        }
    }

    @Test func sharesAPortOnRequest() async throws {
        try await Harness.with { harness in
            try await harness.run { loop in
                var limits = ListenerLimits()
                limits.reusesPort = true
                let first = try Listener(loop: loop, address: Self.anyPort, limits: limits) { $0.close() }
                try Listener(loop: loop, address: first.boundAddress, limits: limits) { $0.close() }.close()
                first.close()
            }
        }
    }

    @Test func aUnixSocketIsTheOwnersAloneAndGoesWithItsListener() async throws {
        try await withTemporaryDirectory { directory in
            let path = "\(directory)/s"
            try await Harness.with { harness in
                try await harness.run { loop in
                    let listener = try Listener(loop: loop, address: .unix(path: path)) { $0.close() }
                    var status = stat()
                    #expect(lstat(path, &status) == 0)
                    #expect(status.st_mode & 0o777 == 0o600)
                    #expect(throws: NetError.addressInUse(.unix(path: path))) {
                        try Listener(loop: loop, address: .unix(path: path)) { $0.close() }
                    }
                    listener.close()
                    #expect(lstat(path, &status) == -1)
                }
            }
        }
    }

    @Test func replacesAStaleSocketButNothingElse() async throws {
        try await withTemporaryDirectory { directory in
            let path = "\(directory)/s"
            try await Harness.with { harness in
                // A socket file without a listener, as `kill -9` leaves it.
                let dead = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
                var value = sockaddr_un()
                value.sun_family = sa_family_t(AF_UNIX)
                withUnsafeMutableBytes(of: &value.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
                let bound = withUnsafePointer(to: &value) { pointer in
                    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                        bind(dead, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                    }
                }
                #expect(bound == 0)
                close(dead)
                try await harness.run { loop in
                    let listener = try Listener(loop: loop, address: .unix(path: path)) { $0.close() }
                    #expect(listener.boundAddress == .unix(path: path))
                    listener.close()
                }
                // A file of somebody's is left alone.
                close(open(path, O_CREAT | O_WRONLY, 0o600))
                try await harness.run { loop in
                    _ = #expect(throws: NetError.addressInUse(.unix(path: path))) {
                        try Listener(loop: loop, address: .unix(path: path)) { $0.close() }
                    }
                }
                #expect(entries(of: directory) == ["s"])
            }
        }
    }

    @Test func refusesConnectionsAboveTheLimitInTheProtocolsWords() async throws {
        try await Harness.with { harness in
            let first = Witness()
            let listener = try await harness.run { loop in
                var limits = ListenerLimits()
                limits.maximumConnections = 1
                limits.refusal = Array("-ERR max number of clients reached\r\n".utf8)
                let listener = try Listener(loop: loop, address: Self.anyPort, limits: limits) { first.attach($0) }
                try listener.start()
                return LoopBound(listener, loop: loop)
            }
            let address = try await harness.run { _ in listener.value.boundAddress }
            let accepted = try RawClient(address)
            await first.until(harness) { $0.connection != nil }
            let refused = try RawClient(address)
            #expect(refused.receiveAll() == Array("-ERR max number of clients reached\r\n".utf8))
            refused.close()
            // The place is free again once the first is gone.
            accepted.close()
            await first.until(harness) { $0.reason != nil }
            try await harness.run { _ in
                #expect(listener.value.connectionCount == 0)
                #expect(listener.value.refusedTotal == 1)
                first.reason = nil
            }
            let next = try RawClient(address)
            await first.until(harness) { $0.connection != nil }
            next.close()
            await first.until(harness) { $0.reason != nil }
            try await harness.run { _ in listener.value.close() }
        }
    }

    @Test func connectingToNobodyFails() async throws {
        try await withTemporaryDirectory { directory in
            try await Harness.with { harness in
                // A port that is taken and not listened on: one that is free may be another test's a moment later.
                let (taken, closed) = try boundPort()
                defer { close(taken) }
                for address in [closed, .unix(path: "\(directory)/none"), .name("host.invalid", port: 1)] {
                    let witness = Witness()
                    try await harness.run { loop in
                        Connector.connect(loop: loop, to: address, timeoutMilliseconds: 30_000) { result in
                            if case .failure(let error) = result { witness.fail(error) }
                        }
                        #expect(witness.failure == nil)  // Never inside the call.
                    }
                    await witness.until(harness) { $0.failure != nil }
                }
            }
        }
    }

    @Test func connectsByName() async throws {
        try await Harness.with { harness in
            let pair = Pair(server: Witness(), client: Witness())
            try await harness.run { loop in
                let listener = try Listener(loop: loop, address: .name("localhost", port: 0)) { pair.server.attach($0) }
                try listener.start()
                let port = listener.boundAddress.port ?? 0
                Connector.connect(loop: loop, to: .name("localhost", port: port)) { result in
                    listener.close()
                    switch result {
                    case .success(let connection): pair.client.attach(connection)
                    case .failure(let error): pair.client.fail(error)
                    }
                }
            }
            await pair.client.until(harness) { $0.connection != nil || $0.failure != nil }
            #expect(try await harness.run { _ in pair.client.failure } == nil)
        }
    }

    @Test func cancelAndTimeOutEndAnAttempt() async throws {
        try await Harness.with { harness in
            let witness = Witness()
            try await harness.run { loop in
                let pending = Connector.connect(loop: loop, to: .name("localhost", port: 9)) { result in
                    if case .failure(let error) = result { witness.fail(error) }
                }
                pending.cancel()
            }
            await witness.until(harness) { $0.failure == .cancelled }
            let late = Witness()
            try await harness.run { loop in
                _ = Connector.connect(
                    loop: loop, to: .name("host.invalid", port: 9), timeoutMilliseconds: 0
                ) { result in
                    if case .failure(let error) = result { late.fail(error) }
                }
            }
            await late.until(harness) { $0.failure != nil }
        }
    }

    /// Also after each of them was busy: what a burst allocated is given back. In a process of its own, for its memory.
    @Test func idleConnectionsAreSmall() async throws {
        await #expect(processExitsWith: .success) {
            let count = 4_000
            setDescriptorLimit(rlim_t(2 * count + 100))
            try await withTemporaryDirectory { directory in
                try await Harness.with { harness in
                    let idlers = Idlers()
                    let before = residentBytes()
                    let address = try await harness.run { loop in
                        let address = SocketAddress.unix(path: "\(directory)/s")
                        let listener = try Listener(loop: loop, address: address) { idlers.attach($0) }
                        try listener.start()
                        return listener.boundAddress
                    }
                    let clients = try (0..<count).map { _ in try RawClient(address) }
                    for client in clients { client.send(String(repeating: "x", count: 1000)) }
                    while try await harness.run({ _ in idlers.received < count * 1000 }) {}
                    // Until the loop has trimmed the buffers.
                    while try await harness.run({ _ in idlers.trimmed }) == false {}
                    let growth = residentBytes() - before
                    #expect(growth < count * 3000, "\(growth / count) bytes for each idle connection")
                }
            }
        }
    }

    /// Without descriptors the listener backs off and accepts later, instead of spinning or dying. In a process of
    /// its own, because the limit on descriptors is the process's.
    @Test func runsOutOfDescriptorsAndRecovers() async throws {
        await #expect(processExitsWith: .success) {
            try await Harness.with { harness in
                let witness = Witness()
                let listener = try await harness.run { loop in
                    let listener = try Listener(loop: loop, address: Self.anyPort) { witness.attach($0) }
                    listener.onTrouble = { error in
                        witness.fail(.system(error))
                        setDescriptorLimit(1024)
                    }
                    try listener.start()
                    return LoopBound(listener, loop: loop)
                }
                let address = try await harness.run { _ in listener.value.boundAddress }
                let client = RawClient.unconnected()
                try await harness.run { _ in
                    setDescriptorLimit(3)
                    try client.connect(to: address)
                }
                await witness.until(harness) { $0.connection != nil }
                let failure = try await harness.run { _ in witness.failure }
                #expect(failure == .system(SystemError("accept on \(address)", code: EMFILE)))
            }
        }
    }
}

/// The server side of many idle connections.
private final class Idlers: ConnectionHandler, @unchecked Sendable {
    var received = 0
    private var oldest: Connection?
    private var isOver = false

    func attach(_ connection: Connection) {
        connection.handler = self
        oldest = connection
    }

    func received(_ connection: Connection, _ input: inout ByteBuffer) {
        received += input.count
        input.consume(input.count)
        // Every other one answers, the others look at their output and leave it.
        connection.output.append(received % 2000 == 0 ? Bytes(repeating: 1, count: 5000) : [])
        if !connection.output.isEmpty { connection.setNeedsFlush() }
    }

    func closed(_ connection: Connection, _ reason: CloseReason) {}

    /// True about two seconds after the last delivery.
    var trimmed: Bool {
        if let oldest, !isOver {
            oldest.loop.schedule(afterMilliseconds: 2000) { self.isOver = true }
            self.oldest = nil
        }
        return isOver
    }
}

/// A TCP socket of 127.0.0.1 that does not listen, and its address.
private func boundPort() throws -> (descriptor: Int32, address: SocketAddress) {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var value = sockaddr_in()
    value.sin_family = sa_family_t(AF_INET)
    value.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &value) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(descriptor, $0, size) == 0 && getsockname(descriptor, $0, &size) == 0
        }
    }
    guard isBound else { throw SystemError("bind") }
    return (descriptor, .ipv4(address: 0x7f00_0001, port: UInt16(bigEndian: value.sin_port)))
}

private func residentBytes() -> Int {
    let file = open("/proc/self/statm", O_RDONLY)
    defer { close(file) }
    var text = Bytes(repeating: 0, count: 128)
    let count = read(file, &text, text.count)
    let fields = String(decoding: text.prefix(max(count, 0)), as: UTF8.self).split(separator: " ")
    return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * sysconf(Int32(_SC_PAGESIZE))
}

private func setDescriptorLimit(_ count: rlim_t) {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    limit.rlim_cur = count
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
}
