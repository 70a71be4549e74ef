import Base
import Contracts
import Crypto
import Net
import Peers
import Raft
import Replication
import TestKit
import Testing

@Suite("PeerLinks", .serialized)
struct PeerLinksTests {
    @Test("three processes hear each other: every kind of message, in order, as it was sent")
    func everything() throws {
        var random = SplitMix64(seed: freshSeed("peer links"))
        try Stage.with { stage in
            for number in 1...3 as ClosedRange<UInt32> { try stage.start(number, of: 3) }
            let all = stage.replicas.values.sorted { $0.node < $1.node }
            #expect(
                stage.run { all.allSatisfy { one in (1...3).allSatisfy { $0 == one.node.rawValue || one.isUp($0) } } })
            var sent: [NodeID: [NodeID: [Recorder.Heard]]] = [:]
            for _ in 0..<20 {
                // A tick's worth for everybody, then let it go.
                for from in all {
                    for to in all where to !== from {
                        for _ in 0..<20 {
                            let shard = UInt32(random.next(below: 3))
                            let (message, payload) = Message.random(from: from.node, to: to.node, using: &random)
                            #expect(from.send(message, shard: shard, payload))
                            sent[to.node, default: [:]][from.node, default: []].append(
                                .init(message: message, shard: ShardID(rawValue: shard), payload: payload))
                        }
                    }
                }
                #expect(
                    stage.run { all.allSatisfy { $0.recorder.heard.count == sent[$0.node]?.values.joined().count } })
            }
            for to in all {
                for (from, expected) in sent[to.node] ?? [:] {
                    let heard = to.recorder.heard.filter { $0.message.from == from }
                    // Within a tick plain heartbeats come last.
                    for tick in 0..<20 {
                        let range = tick * 20..<tick * 20 + 20
                        #expect(heard[range].filter { !$0.isPlainBeat } == expected[range].filter { !$0.isPlainBeat })
                        for shard in heard[range].filter(\.isPlainBeat) { #expect(expected[range].contains(shard)) }
                    }
                    #expect(heard.count == expected.count)
                }
                #expect(to.figure("orbit_peer_messages_dropped_total", to.node == all[0].node ? 2 : 1) == 0)
                #expect(to.figure("orbit_peer_up", to.node == all[0].node ? 2 : 1) == 1)
            }
        }
    }

    @Test("what a tick has for a peer leaves as one message, and what was said while connecting first")
    func batches() throws {
        try Stage.with { stage in
            var peer: RawPeer?
            try stage.serve(2) { stream in
                let made = RawPeer(stream) { raw, hello in raw.stream.send { $0.append(RawPeer.answer(hello).encode()) }
                }
                peer = made
                return made
            }
            let one = try stage.start(1, of: 2)
            for index in 0..<30 { #expect(one.append(UInt64(index), to: 2)) }
            #expect(stage.run { peer?.frames == [30] })
            for index in 0..<50 { one.append(UInt64(index), to: 2) }
            #expect(stage.run { peer?.frames == [30, 50] })
            #expect(stage.run { peer?.clocks == 1 }, "one question for its clock at a time")
            #expect(one.figure("orbit_peer_messages_sent_total", 2) == 80)
        }
    }

    @Test("large batches leave before the tick ends, and arrive")
    func large() throws {
        try Stage.with { stage in
            let one = try stage.start(1, of: 2)
            let two = try stage.start(2, of: 2)
            #expect(stage.run { one.isUp(2) && two.isUp(1) })
            for index in 0..<10 { #expect(one.append(UInt64(index), to: 2, bytes: 1 << 20)) }
            #expect(one.append(10, to: 2, bytes: 16 << 20) == false, "more than may wait")
            #expect(stage.run { two.rounds == Array(0..<10) && one.recorder.news.contains("unreachable 2") })
            #expect(one.append(11, to: 2, bytes: 16 << 20), "alone it may be large")
            #expect(stage.run { two.rounds.last == 11 })
            #expect(two.recorder.heard.last?.payload.count == 16 << 20)
        }
    }

    @Test("a process that dies is down, its messages are dropped; its next life is found again")
    func reconnect() throws {
        try Stage.with { stage in
            let one = try stage.start(1, of: 2)
            let two = try stage.start(2, of: 2)
            #expect(stage.run { one.isUp(2) && two.isUp(1) })
            two.close()
            #expect(stage.run { one.recorder.news.contains("down 2") })
            #expect(stage.run { one.recorder.news.contains("unreachable 2") })
            var dropped = 0
            #expect(
                stage.run {
                    // While it connects again messages wait, between attempts they are refused.
                    if !one.append(1, to: 2) { dropped += 1 }
                    return dropped > 0
                })
            let again = try stage.start(2, of: 2, incarnation: 2)
            #expect(stage.run { one.isUp(2) && again.isUp(1) })
            again.recorder.heard = []
            one.append(2, to: 2)
            again.append(3, to: 1)
            #expect(stage.run { again.rounds.contains(2) && one.rounds.contains(3) })
            #expect((one.figure("orbit_peer_messages_dropped_total", 2) ?? 0) >= dropped)
            #expect(one.figure("orbit_peer_connects_total", 2) == 2)
            #expect(
                one.recorder.news.filter { $0.hasPrefix("up") || $0.hasPrefix("down") } == ["up 2", "down 2", "up 2"])
        }
    }

    @Test("over the bound messages are dropped, and the driver hears of it once, after the tick")
    func bound() throws {
        try Stage.with { stage in
            var peer: RawPeer?
            try stage.serve(2) { stream in
                let made = RawPeer(stream) { _, _ in }  // It never answers: everything has to wait.
                peer = made
                return made
            }
            let one = try stage.start(1, of: 2, settings: Stage.settings { $0.queueMessages = 10 })
            #expect((0..<15).map { one.append(UInt64($0), to: 2) } == (0..<15).map { $0 < 10 })
            #expect(one.recorder.news.isEmpty)
            #expect(stage.run { one.recorder.news == ["unreachable 2"] })
            #expect(stage.run { peer?.hellos.count == 1 })
            if let peer, let hello = peer.hellos.first {
                peer.stream.send { $0.append(RawPeer.answer(hello).encode()) }
            }
            #expect(stage.run { peer?.frames == [10] })
            #expect(one.figure("orbit_peer_messages_dropped_total", 2) == 5)
            #expect(!one.append(1, to: 9), "nobody has that number")
        }
    }

    @Test("a process that is silent is down, and is connected to anew")
    func silence() throws {
        try Stage.with { stage in
            var peers: [RawPeer] = []
            try stage.serve(2) { stream in
                let made = RawPeer(stream) { raw, hello in raw.stream.send { $0.append(RawPeer.answer(hello).encode()) }
                }
                peers.append(made)
                return made
            }
            let one = try stage.start(
                1, of: 2,
                settings: Stage.settings {
                    $0.silenceMilliseconds = 60
                    $0.patienceMilliseconds = 120
                })
            #expect(stage.run { one.recorder.news.starts(with: ["up 2", "down 2"]) })
            #expect(stage.run { peers.count >= 2 && peers[0].isClosed && one.recorder.news.count >= 4 })
        }
    }

    @Test("clocks that are too far apart are told of; only who is alone with its clock suspects itself")
    func clocks() throws {
        try Stage.with { stage in
            var step: UInt64 = 0
            func clock(_ ahead: @escaping () -> UInt64) -> () -> HLC.Sample {
                {
                    var sample = Replica.systemClock()
                    sample.wallMilliseconds += ahead()
                    return sample
                }
            }
            let all = try (1...3 as ClosedRange<UInt32>).map { number in
                try stage.start(number, of: 3, clock: clock { number == 3 ? step : 0 })
            }
            var told: [UInt32: [String]] = [:]
            for one in all {
                one.links.onClockOffset = { peer, milliseconds, isBeyond in
                    let side = milliseconds > 500 ? "ahead" : milliseconds < -500 ? "behind" : "near"
                    told[one.node.rawValue, default: []].append("\(peer) \(side) \(isBeyond)")
                }
            }
            #expect(
                stage.run { all.allSatisfy { one in (1...3).allSatisfy { $0 == one.node.rawValue || one.isUp($0) } } })
            #expect(!all.contains { $0.links.isClockSuspect } && told.isEmpty)
            step = 5_000
            #expect(stage.run { told[3]?.count == 2 && told[1]?.count == 1 && told[2]?.count == 1 })
            #expect(told[1] == ["3 ahead true"] && told[2] == ["3 ahead true"])
            #expect(Set(told[3] ?? []) == ["1 behind true", "2 behind true"])
            #expect(all.map(\.links.isClockSuspect) == [false, false, true])
            step = 0
            #expect(stage.run { told[3]?.count == 4 && !all.contains { $0.links.isClockSuspect } })
        }
    }

    @Test("peers come, move and go with the map")
    func update() throws {
        try Stage.with { stage in
            let one = try stage.start(1, of: 1)
            let two = try stage.start(2, of: 2)
            #expect(!one.append(1, to: 2))
            one.links.update(stage.peers(1...2))
            #expect(stage.run { one.isUp(2) && two.isUp(1) })
            // The same process under another address; the wrong one is passed over.
            try two.server.listen(on: stage.address(3))
            one.links.update([
                .init(
                    node: NodeID(rawValue: 2), uid: Replica.uid(2),
                    addresses: [.unix(path: stage.directory + "/nobody"), stage.address(3)])
            ])
            #expect(one.recorder.news.last == "down 2")
            #expect(stage.run { one.isUp(2) })
            one.links.update(stage.peers(1...1))
            #expect(!one.isUp(2) && one.recorder.news.last == "down 2")
            #expect(stage.run { two.recorder.news.last == "down 1" || two.recorder.news.contains("down 1") })
        }
    }
}

extension Recorder.Heard {
    /// What travels as a row, behind the other messages of its tick.
    var isPlainBeat: Bool {
        switch message.body {
        case .heartbeat(let beat): !beat.isQuiescing && beat.rejoin == nil
        case .heartbeatReply(let reply): reply.rejoin == 0
        case .append, .appendReply, .preVoteRequest, .preVoteReply, .voteRequest, .voteReply, .timeoutNow, .snapshot:
            false
        }
    }
}
