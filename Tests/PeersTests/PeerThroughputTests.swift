import Base
import Net
import Peers
import Raft
import TestKit
import Testing

/// Two processes on two threads, as it is between two nodes.
///
/// Small appends (one entry of 100 bytes) and their replies, 64 in a tick and 512 in flight: 30 000 to 50 000 a second
/// in a debug build on two busy cores. It is a lower bound; the test only asks that all of them arrive.
@Suite("Peer throughput", .serialized)
struct PeerThroughputTests {
    @Test("appends and their replies between two threads")
    func appends() throws {
        try Stage.with { stage in
            let count: UInt64 = 20_000
            let one = try stage.start(1, of: 2)
            let loop = try EventLoop()
            let two = Replica(2, on: loop, settings: Stage.settings())
            try two.server.listen(on: stage.address(2))
            two.links.update(stage.peers(1...2))
            two.join()
            two.recorder.onMessage = { [unowned two] message, shard in
                guard case .append(let body) = message.body, let last = body.entries.last else { return }
                let reply = Message.AppendReply(outcome: .matched(last.index), round: body.round)
                two.links.send(
                    Message(from: message.to, to: message.from, term: message.term, body: .appendReply(reply)),
                    of: shard)
                two.recorder.heard.removeAll(keepingCapacity: true)
            }
            let thread = try loop.startThread(name: "peer")
            defer {
                loop.stop()
                thread.join()
                two.close()
            }
            #expect(stage.run { one.isUp(2) && one.figure("orbit_peer_connects_total", 2) == 1 })
            var sent: UInt64 = 0, answered: UInt64 = 0
            one.recorder.onMessage = { [unowned one] message, _ in
                guard case .appendReply = message.body else { return }
                answered += 1
                one.recorder.heard.removeAll(keepingCapacity: true)
                guard answered % 64 == 0 else { return }
                for _ in 0..<64 where sent < count {
                    if one.append(sent, to: 2, bytes: 100) { sent += 1 }
                }
            }
            let started = monotonic()
            for _ in 0..<512 where one.append(sent, to: 2, bytes: 100) { sent += 1 }
            #expect(stage.run { answered == count })
            let seconds = Double(monotonic() - started) / 1e9
            print("peers: \(Int(Double(count) / seconds)) appends a second, with their replies")
        }
    }

    private func monotonic() -> UInt64 { SystemClock().monotonicNanoseconds() }
}
