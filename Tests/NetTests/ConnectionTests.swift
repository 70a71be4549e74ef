import Base
import CSystem
import Glibc
import Net
import TestKit
import Testing

@Suite(.timeLimit(.minutes(10))) struct ConnectionTests {
    @Test func carriesBytesBothWaysOverTCP() async throws {
        try await Harness.with { harness in
            let pair = try await Pair.make(harness)
            try await pair.client.send(harness, Array("hello".utf8))
            await pair.server.until(harness) { $0.bytes == Array("hello".utf8) }
            try await pair.server.send(harness, Array("world".utf8))
            await pair.client.until(harness) { $0.bytes == Array("world".utf8) }
            let thread = try await harness.run { _ in orbit_thread_id() }
            try await harness.run { _ in
                #expect(pair.server.threads == [thread])
                #expect(pair.server.connection?.peer == PeerIdentity.none)
                pair.client.connection?.close()
            }
            await pair.server.until(harness) { $0.reason == .endOfStream }
            await pair.client.until(harness) { $0.reason == .local }
        }
    }

    @Test func knowsThePeerProcessOfAUnixSocket() async throws {
        try await withTemporaryDirectory { directory in
            try await Harness.with { harness in
                let pair = try await Pair.make(harness, address: .unix(path: "\(directory)/s"))
                try await pair.client.send(harness, [1, 2, 3])
                await pair.server.until(harness) { $0.bytes == [1, 2, 3] }
                try await harness.run { _ in
                    let expected = PeerIdentity.process(user: getuid(), group: getgid(), process: getpid())
                    #expect(pair.server.connection?.peer == expected)
                    #expect(pair.client.connection?.peer == expected)
                    pair.server.connection?.close()
                }
                await pair.client.until(harness) { $0.reason == .endOfStream }
            }
        }
    }

    /// More than the kernel holds: partial writes, EPOLLOUT, reads larger than the scratch buffer; nothing lost or
    /// reordered.
    @Test func movesMegabytesIntact() async throws {
        try await withTemporaryDirectory { directory in
            for address in [SocketAddress.ipv4(address: 0x7f00_0001, port: 0), .unix(path: "\(directory)/s")] {
                try await Harness.with { harness in
                    let pair = try await Pair.make(harness, address: address)
                    let seed = freshSeed("connection payload")
                    var random = SplitMix64(seed: seed)
                    let payload = (0..<(9 << 20)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                    try await pair.client.send(harness, payload)
                    await pair.server.until(harness) { $0.bytes.count >= payload.count }
                    let isEqual = try await harness.run { _ in pair.server.bytes == payload }
                    #expect(isEqual, "seed \(seed)")
                    await pair.client.until(harness) { $0.drains == 1 && $0.congestions == 1 }
                }
            }
        }
    }

    @Test func keepsWhatTheHandlerLeaves() async throws {
        try await Harness.with { harness in
            let pair = try await Pair.make(harness)
            try await harness.run { _ in pair.server.appetite = 3 }
            let payload = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            try await pair.client.send(harness, payload)
            // Each delivery takes three bytes; the rest comes back in front of what arrives next.
            await pair.server.until(harness) { $0.deliveries >= 2 }
            try await harness.run { _ in pair.server.appetite = nil }
            try await pair.client.send(harness, [255])
            await pair.server.until(harness) { $0.bytes.count == payload.count + 1 }
            #expect(try await harness.run { _ in pair.server.bytes } == payload + [255])
        }
    }

    @Test func pausingHoldsThePeerBackAndResumingDeliversWhatWasKept() async throws {
        try await Harness.with { harness in
            let pair = try await Pair.make(harness)
            try await harness.run { _ in
                pair.server.appetite = 1
                pair.server.onReceived = { $0.pauseReading() }
            }
            try await pair.client.send(harness, Array("abc".utf8))
            await pair.server.until(harness) { $0.bytes == Array("a".utf8) }
            try await pair.client.send(harness, Array("def".utf8))
            // A round trip over another connection's loop tick: the paused one was not called.
            _ = try await harness.run { _ in }
            #expect(try await harness.run { _ in pair.server.deliveries } == 1)
            try await harness.run { _ in
                pair.server.onReceived = nil
                pair.server.appetite = nil
                pair.server.connection?.resumeReading()
            }
            await pair.server.until(harness) { $0.bytes == Array("abcdef".utf8) }
        }
    }

    @Test func answersAfterThePeerEndedItsInput() async throws {
        try await Harness.with { harness in
            let pair = try await Pair.make(harness)
            try await harness.run { _ in
                pair.server.closesAtEnd = false
                pair.client.connection?.output.append("question")
                pair.client.connection?.close(afterFlush: true)
            }
            await pair.server.until(harness) { $0.isEnded }
            #expect(try await harness.run { _ in pair.server.bytes } == Array("question".utf8))
            try await harness.run { _ in pair.server.connection?.close(afterFlush: true) }
            await pair.server.until(harness) { $0.reason == .endOfStream }
            await pair.client.until(harness) { $0.reason == .local }
        }
    }

    @Test func closeAfterFlushDeliversEverythingFirst() async throws {
        try await Harness.with { harness in
            let pair = try await Pair.make(harness)
            try await harness.run { _ in
                pair.server.connection?.output.append(Bytes(repeating: 7, count: 5 << 20))
                pair.server.connection?.close(afterFlush: true)
                #expect(pair.server.connection?.isOpen == false)
                // Unread input must not turn our close into a reset.
                pair.client.connection?.output.append(Bytes(repeating: 1, count: 100_000))
                pair.client.connection?.setNeedsFlush()
            }
            await pair.client.until(harness) { $0.reason == .endOfStream }
            #expect(try await harness.run { _ in pair.client.bytes.count } == 5 << 20)
            await pair.server.until(harness) { $0.reason == .local }
            #expect(try await harness.run { _ in pair.server.bytes.isEmpty })
        }
    }

    @Test func aPeerThatNeverReadsIsClosedAfterTheStallTime() async throws {
        try await Harness.with { harness in
            var options = ConnectionOptions()
            options.stallMilliseconds = 200
            options.outputHighWatermark = 1000
            let pair = try await Pair.make(harness, options: options)
            try await harness.run { _ in pair.client.connection?.pauseReading() }
            try await pair.server.send(harness, Bytes(repeating: 7, count: 32 << 20))
            await pair.server.until(harness) { $0.reason != nil }
            // The kernel's own TCP_USER_TIMEOUT may be a little quicker.
            let reason = try await harness.run { _ in pair.server.reason }
            #expect(reason == .stalled || reason == .failed(SystemError("socket", code: ETIMEDOUT)))
            #expect(try await harness.run { _ in pair.server.congestions } == 1)
        }
    }

    @Test func aPeerThatNeverReadsCannotHoldAClosingConnection() async throws {
        try await Harness.with { harness in
            var options = ConnectionOptions()
            options.closeMilliseconds = 100
            let pair = try await Pair.make(harness, options: options)
            try await harness.run { _ in
                pair.client.connection?.pauseReading()
                pair.server.connection?.output.append(Bytes(repeating: 7, count: 32 << 20))
                pair.server.connection?.close(afterFlush: true)
            }
            await pair.server.until(harness) { $0.reason == .stalled }
        }
    }

    @Test func aPeerThatNeverClosesCannotHoldALingeringConnection() async throws {
        try await Harness.with { harness in
            var options = ConnectionOptions()
            options.lingerMilliseconds = 100
            let pair = try await Pair.make(harness, options: options)
            try await harness.run { _ in
                pair.client.closesAtEnd = false
                pair.server.connection?.close(afterFlush: true)
            }
            await pair.client.until(harness) { $0.isEnded }
            await pair.server.until(harness) { $0.reason == .local }
        }
    }

    @Test func moreOutputThanTheHardLimitCloses() async throws {
        try await Harness.with { harness in
            var options = ConnectionOptions()
            options.outputLimit = 16 << 20
            let pair = try await Pair.make(harness, options: options)
            try await harness.run { _ in pair.client.connection?.pauseReading() }
            try await pair.server.send(harness, Bytes(repeating: 7, count: 64 << 20))
            await pair.server.until(harness) { $0.reason == .outputLimit }
        }
    }

    @Test func deadlinesFireAndMoveAndClear() async throws {
        try await Harness.with { harness in
            let pair = try await Pair.make(harness)
            try await harness.run { _ in
                pair.client.connection?.setDeadline(afterMilliseconds: 50)
                pair.client.connection?.clearDeadline()
                pair.server.connection?.setDeadline(afterMilliseconds: 100_000)
                pair.server.connection?.setDeadline(afterMilliseconds: 50)
            }
            await pair.server.until(harness) { $0.reason == .deadline }
            #expect(try await harness.run { _ in pair.client.deadlines } == 0)
            #expect(try await harness.run { $0.deadlines.count } == 0)
        }
    }

    @Test func aResetIsAFailure() async throws {
        try await Harness.with { harness in
            let pair = try await Pair.make(harness)
            let raw = try await harness.run { loop in
                // A second client, of which the test holds the descriptor.
                let witness = Witness()
                let listener = try Listener(loop: loop, address: .ipv4(address: 0x7f00_0001, port: 0)) {
                    witness.attach($0)
                }
                try listener.start()
                let fd = try RawClient(listener.boundAddress)
                return (witness, fd, LoopBound(listener, loop: loop))
            }
            await raw.0.until(harness) { $0.connection != nil }
            raw.1.reset()
            await raw.0.until(harness) { $0.reason != nil }
            #expect(try await harness.run { _ in raw.0.reason } == .failed(SystemError("recv", code: ECONNRESET)))
            try await harness.run { _ in
                raw.2.value.close()
                pair.client.connection?.close()
            }
        }
    }

    /// A paused connection must see a reset, and must neither spin nor lose bytes when a Unix peer is gone.
    @Test func aPausedConnectionLearnsOfAResetAndReadsWhatAUnixPeerLeft() async throws {
        try await withTemporaryDirectory { directory in
            try await Harness.with { harness in
                for address in [SocketAddress.ipv4(address: 0x7f00_0001, port: 0), .unix(path: "\(directory)/s")] {
                    let witness = Witness()
                    let (client, listener) = try await harness.run { loop in
                        let listener = try Listener(loop: loop, address: address) {
                            $0.pauseReading()
                            witness.attach($0)
                        }
                        try listener.start()
                        return (try RawClient(listener.boundAddress), LoopBound(listener, loop: loop))
                    }
                    await witness.until(harness) { $0.connection != nil }
                    client.send("left behind")
                    if case .unix = address {
                        client.close()
                        for _ in 0..<10 { _ = try await harness.run { _ in } }
                        try await harness.run { _ in witness.connection?.resumeReading() }
                        await witness.until(harness) { $0.reason != nil }
                        #expect(try await harness.run { _ in witness.bytes } == Array("left behind".utf8))
                    } else {
                        client.reset()
                        await witness.until(harness) { $0.reason != nil }
                        let reason = try await harness.run { _ in witness.reason }
                        #expect(reason == .failed(SystemError("socket", code: ECONNRESET)))
                    }
                    try await harness.run { _ in listener.value.close() }
                }
            }
        }
    }

    @Test func aThousandConnectionsComeAndGoWithoutLeavingDescriptors() async throws {
        // An address that no other test uses: what is connected to it, or bound to it, is ours.
        let host: UInt32 = 0x7f4d_0001
        try await Harness.with { harness in
            for _ in 0..<20 {
                let pairs = try await withThrowingTaskGroup(of: Pair.self) { group in
                    for _ in 0..<50 {
                        group.addTask { try await Pair.make(harness, address: .ipv4(address: host, port: 0)) }
                    }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
                #expect(sockets(of: host) == 2 * pairs.count)
                try await harness.run { _ in for pair in pairs { pair.client.connection?.close() } }
                for pair in pairs { await pair.server.until(harness) { $0.reason != nil } }
                #expect(sockets(of: host) == 0)
            }
        }
    }
}

/// How many descriptors of this process are TCP sockets with that address at either end.
private func sockets(of host: UInt32) -> Int {
    func isHost(_ fd: Int32, _ ask: (Int32, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32)
        -> Bool
    {
        var storage = sockaddr_storage(), length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { storage in
            storage.withMemoryRebound(to: sockaddr.self, capacity: 1) { ask(fd, $0, &length) } == 0
                && storage.pointee.ss_family == sa_family_t(AF_INET)
                && storage.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { $0.pointee.sin_addr.s_addr }
                    == host.bigEndian
        }
    }
    return entries(of: "/proc/self/fd").count { name in
        guard let fd = Int32(name) else { return false }
        return isHost(fd) { getsockname($0, $1, $2) } || isHost(fd) { getpeername($0, $1, $2) }
    }
}

/// A blocking socket of the test's own, for peers that misbehave.
struct RawClient: Sendable {
    let fd: Int32

    init(_ address: SocketAddress) throws {
        let isUnix: Bool = if case .unix = address { true } else { false }
        fd = socket(isUnix ? AF_UNIX : AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard fd >= 0 else { throw SystemError("socket") }
        try connect(to: address)
    }

    /// A TCP socket that is not connected yet.
    private init(fd: Int32) { self.fd = fd }
    static func unconnected() -> RawClient { RawClient(fd: socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)) }

    func connect(to address: SocketAddress) throws {
        switch address {
        case .unix(let path):
            var value = sockaddr_un()
            value.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &value.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
            try connect(&value)
        case .ipv4(let host, let port):
            var value = sockaddr_in()
            value.sin_family = sa_family_t(AF_INET)
            value.sin_port = port.bigEndian
            value.sin_addr.s_addr = host.bigEndian
            try connect(&value)
        case .ipv6, .name:
            throw SystemError("socket", code: EAFNOSUPPORT)
        }
    }

    private func connect<Address>(_ address: inout Address) throws {
        let length = socklen_t(MemoryLayout<Address>.size)
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(fd, $0, length) }
        }
        guard result == 0 else { throw SystemError("connect") }
    }

    func send(_ text: String) {
        _ = text.withCString { Glibc.send(fd, $0, strlen($0), Int32(MSG_NOSIGNAL)) }
    }

    /// Exactly so many bytes, fewer at the peer's end.
    func receive(_ count: Int) -> Bytes {
        var result = Bytes(repeating: 0, count: count)
        let received = recv(fd, &result, count, Int32(MSG_WAITALL))
        return Array(result.prefix(max(received, 0)))
    }

    /// Everything until the peer's end.
    func receiveAll() -> Bytes {
        var result: Bytes = []
        var chunk = Bytes(repeating: 0, count: 65536)
        while true {
            let count = recv(fd, &chunk, chunk.count, 0)
            guard count > 0 else { return result }
            result += chunk[0..<count]
        }
    }

    func close() { Glibc.close(fd) }

    /// Closes with RST instead of FIN.
    func reset() {
        var option = Glibc.linger(l_onoff: 1, l_linger: 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<Glibc.linger>.size))
        Glibc.close(fd)
    }
}
