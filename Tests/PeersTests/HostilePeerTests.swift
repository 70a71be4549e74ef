import Base
import Contracts
import Net
import Peers
import Raft
import TestKit
import Testing

/// Both ends of a gRPC connection in memory: bytes are handed over as the test wants.
private final class End: GRPCConnectionOwner {
    var connection: GRPCConnection?
    var now: UInt64 = 1
    private var output = ByteBuffer()

    init(_ services: GRPCServices?) throws {
        connection = try GRPCConnection(
            services: services, limits: GRPCLimits(), peer: .process(user: 1, group: 1, process: 1), owner: self)
    }

    func flushNeeded() {}
    func wakeNeeded(at time: UInt64) {}
    func peerReady() {}
    func peerDraining() {}

    func take() -> Bytes {
        connection?.drain(into: &output)
        connection?.notify()
        defer { output.removeAll() }
        return output.readable.bytes
    }

    func feed(_ bytes: Bytes) { bytes.withUnsafeBytes { connection?.feed($0) } }
}

private final class Answers: GRPCStreamHandler {
    var status: GRPCStatus?
    var count = 0
    func received(_ message: ByteView) { count += 1 }
    func closed(_ status: GRPCStatus) { self.status = status }
}

@Suite("Hostile peers", .serialized)
struct HostilePeerTests {
    /// A batch of random messages from node 2 to node 1, and what it says.
    private static func batch(
        _ count: Int, _ random: inout SplitMix64
    ) -> (bytes: Bytes, messages: [Message]) {
        // A link writes it, so that it is what a peer writes.
        var messages: [Message] = [], bytes: Bytes = []
        try? Stage.with { stage in
            var frame: Bytes?
            try stage.serve(1) { stream in
                FrameCatcher(stream) { frame = $0 }
            }
            let two = try stage.start(2, of: 2)
            for _ in 0..<count {
                let (message, payload) = Message.random(
                    from: NodeID(rawValue: 2), to: NodeID(rawValue: 1), using: &random)
                two.send(message, payload)
                messages.append(message)
            }
            #expect(stage.run { frame != nil })
            bytes = frame ?? []
        }
        return (bytes, messages)
    }

    @Test("a batch is read whole, in any pieces and byte by byte", arguments: [0, 1, 7])
    func pieces(_ size: Int) throws {
        var random = SplitMix64(seed: freshSeed("hostile peers"))
        let (frame, messages) = Self.batch(20, &random)
        let loop = try EventLoop()
        var settings = Stage.settings()
        settings.user = 1
        let one = Replica(1, on: loop, settings: settings)
        one.links.update([
            .init(node: NodeID(rawValue: 2), uid: Replica.uid(2), addresses: [])
        ])
        one.join()
        let services = GRPCServices()
        one.links.register(in: services)
        let client = try End(nil), server = try End(services)
        let answers = Answers()
        let stream = try #require(client.connection).open(path: PeerPath.exchange, handler: answers)
        stream.send { $0.append(PeerRefusalTests.hello().encodeBatch()) }
        stream.send { $0.append(frame) }
        for _ in 0..<20 {
            let up = client.take(), step = size == 0 ? max(up.count, 1) : size
            for start in stride(from: 0, to: up.count, by: step) {
                server.feed(Bytes(up[start..<min(start + step, up.count)]))
            }
            client.feed(server.take())
        }
        #expect(answers.count == 1 && answers.status == nil)
        let heard = one.recorder.heard.map(\.message)
        #expect(heard.count == messages.count && Set(heard) == Set(messages))
        client.connection?.lose(GRPCStatus(.unavailable))
        server.connection?.lose(GRPCStatus(.unavailable))
        one.close()
    }

    @Test("damaged batches end their stream or are read; nothing traps and the process goes on")
    func damage() throws {
        var random = SplitMix64(seed: freshSeed("hostile peers"))
        let (frame, _) = Self.batch(10, &random)
        try Stage.with { stage in
            let one = try stage.start(1, of: 2)
            var frames = Damage.corruptions(of: frame, count: 150, using: &random)
            for _ in 0..<100 { frames.append(Bytes(frame[..<Int(random.next(below: UInt64(frame.count)))])) }
            for _ in 0..<50 { frames.append(random.bytes(Int(random.next(below: 300)))) }
            var refused = 0
            for bytes in frames {
                let call = stage.call(1)
                call.send(PeerRefusalTests.hello().encodeBatch())
                call.send(bytes)
                call.stream?.end()
                #expect(stage.run { call.status != nil })
                let code = call.status?.code
                #expect(code == .invalidArgument || code == .ok, "\(String(describing: call.status))")
                if code == .invalidArgument { refused += 1 }
            }
            #expect(refused > frames.count / 4)
            one.recorder.heard = []
            let call = stage.call(1)
            call.send(PeerRefusalTests.hello().encodeBatch())
            call.send(frame)
            #expect(stage.run { one.recorder.heard.count == 10 })
        }
    }

    @Test("a stream that does not begin with a hello, or says it twice, ends")
    func order() throws {
        var random = SplitMix64(seed: freshSeed("hostile peers"))
        let (frame, _) = Self.batch(3, &random)
        let hello = PeerRefusalTests.hello().encodeBatch()
        try Stage.with { stage in
            let one = try stage.start(1, of: 2)
            for frames in [[frame], [[]], [hello, hello], [hello + frame], [frame + hello], [hello, hello + frame]] {
                let call = stage.call(1)
                for bytes in frames { call.send(bytes) }
                #expect(stage.run { call.status?.code == .invalidArgument }, "\(frames.map(\.count))")
            }
            #expect(one.recorder.heard.filter { $0.message.from.rawValue != 2 }.isEmpty)
        }
    }

    @Test("answers that are none end the link, which is made again")
    func answers() throws {
        var random = SplitMix64(seed: freshSeed("hostile peers"))
        try Stage.with { stage in
            var calls = 0
            try stage.serve(2) { stream in
                RawPeer(stream) { raw, hello in
                    calls += 1
                    var answer = RawPeer.answer(hello)
                    // A damaged hello may have claimed a later life: the last one is later still.
                    answer.hello?.incarnation = calls < 60 ? 1 : .max
                    let good = answer.encode()
                    let clock = PeerAnswer(clock: PeerClock(sent: .max, time: Timestamp(rawValue: .max))).encode()
                    let frames: [Bytes] =
                        switch calls {
                        case 1: [[0xff, 0xff]]
                        case 2: [[]]
                        case 3: [clock]
                        case 4: [good, good]
                        case 5: [good, clock, [0x08]]
                        case 6..<60: Damage.corruptions(of: good, count: 3, using: &random)
                        case _: [good]
                        }
                    for frame in frames { raw.stream.send { $0.append(frame) } }
                    if calls < 60 { raw.stream.finish(.ok) }
                }
            }
            let one = try stage.start(1, of: 2)
            #expect(stage.run { calls == 60 && one.isUp(2) })
        }
    }
}

/// Answers the hello and hands over the first frame with messages.
private final class FrameCatcher: GRPCStreamHandler {
    private let stream: GRPCServerStream
    private let decoder = PeerBatchDecoder()
    private let onFrame: (Bytes) -> Void

    init(_ stream: GRPCServerStream, _ onFrame: @escaping (Bytes) -> Void) {
        (self.stream, self.onFrame) = (stream, onFrame)
    }

    func received(_ message: ByteView) {
        var count = 0
        do { try decoder.decode(message) { _ in count += 1 } } catch { Issue.record("\(error)") }
        if let hello = decoder.hello {
            stream.send { $0.append(RawPeer.answer(hello).encode()) }
        } else if count > 0 {
            onFrame(message.bytes)
        }
    }

    func closed(_ status: GRPCStatus) {}
}
