import Base
import Glibc
import Net
import TestKit
import Testing

/// Peers that do anything, in any order: every connection must end, and none may stop the loop.
@Suite(.timeLimit(.minutes(10))) struct PeerChaosTests {
    /// Echoes, pauses, closes and forgets, as the random numbers say.
    private final class Moody: ConnectionHandler, @unchecked Sendable {
        private var random: SplitMix64
        var closed = 0
        var paused: [Connection] = []

        init(seed: UInt64) { random = SplitMix64(seed: seed) }

        func received(_ connection: Connection, _ input: inout ByteBuffer) {
            precondition(connection.isOpen)
            switch random.next() % 16 {
            case 0: connection.close()
            case 1: connection.close(afterFlush: true)
            case 2:
                connection.pauseReading()
                paused.append(connection)
            case 3: connection.output.append(Bytes(repeating: 1, count: Int(random.next() % (4 << 20))))
            case 4: input.consume(input.count / 2)
            case 5: break
            default:
                connection.output.append(input.readable)
                input.consume(input.count)
            }
            connection.setNeedsFlush()
            if random.next() % 4 == 0, let other = paused.popLast() { other.resumeReading() }
        }

        func inputEnded(_ connection: Connection) {
            switch random.next() % 3 {
            case 0: connection.close()
            case 1: connection.close(afterFlush: true)
            default: connection.output.append("late")  // And never closes: the deadline does.
            }
            connection.setNeedsFlush()
        }

        func closed(_ connection: Connection, _ reason: CloseReason) { closed += 1 }
    }

    @Test(arguments: [true, false]) func everyConnectionEnds(isUnix: Bool) async throws {
        let seed = freshSeed("peer chaos")
        try await withTemporaryDirectory { directory in
            try await Harness.with { harness in
                let moody = Moody(seed: seed)
                let listener = try await harness.run { loop in
                    var limits = ListenerLimits()
                    limits.connection.stallMilliseconds = 300
                    limits.connection.closeMilliseconds = 300
                    limits.connection.lingerMilliseconds = 100
                    limits.connection.outputHighWatermark = 1 << 20
                    let address =
                        isUnix ? SocketAddress.unix(path: "\(directory)/s") : try .init(parsing: "127.0.0.1:0")
                    let listener = try Listener(loop: loop, address: address, limits: limits) { connection in
                        connection.handler = moody
                        connection.setDeadline(afterMilliseconds: 1500)
                    }
                    try listener.start()
                    return LoopBound(listener, loop: loop)
                }
                let address = try await harness.run { _ in listener.value.boundAddress }
                let clients = try Self.misbehave(seed: seed, address: address)
                while try await harness.run({ _ in listener.value.connectionCount > 0 }) {}
                for client in clients { client.close() }
                try await harness.run { loop in
                    #expect(listener.value.acceptedTotal == UInt64(moody.closed), "seed \(seed)")
                    #expect(loop.deadlines.count == 0, "seed \(seed)")
                    listener.value.close()
                }
            }
        }
    }

    /// 200 clients, 2000 acts; some stay open and silent for ever.
    private static func misbehave(seed: UInt64, address: SocketAddress) throws -> [RawClient] {
        var random = SplitMix64(seed: seed ^ 0x5eed)
        var clients: [RawClient] = []
        for _ in 0..<2000 {
            if clients.count < 40 || random.next() % 12 == 0 {
                clients.append(try RawClient(address))
                continue
            }
            let index = Int(random.next() % UInt64(clients.count))
            switch random.next() % 10 {
            case 0: clients.remove(at: index).close()
            case 1: clients.remove(at: index).reset()
            case 2: shutdown(clients[index].fd, Int32(SHUT_WR))
            case 3: clients[index].drainWhatIsThere()
            default: clients[index].sendWithoutWaiting(Int(random.next() % 20_000))
            }
        }
        // What is left says and reads nothing: the server's deadlines end it.
        return clients
    }
}

extension RawClient {
    func sendWithoutWaiting(_ count: Int) {
        let bytes = Bytes(repeating: 2, count: count)
        _ = bytes.withUnsafeBytes { Glibc.send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT)) }
    }

    func drainWhatIsThere() {
        var chunk = Bytes(repeating: 0, count: 1 << 20)
        _ = recv(fd, &chunk, chunk.count, Int32(MSG_DONTWAIT))
    }
}
