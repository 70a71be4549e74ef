import Base
import CProto
import Contracts
import TestKit
import Testing

/// A message as a value, to be coded by both sides.
private struct Sample: Equatable {
    var shard: UInt32 = 0, kind = PeerMessage.Kind.append
    var numbers: [UInt64] = [0, 0, 0, 0, 0, 0]
    var flags: UInt32 = 0
    var membership: Bytes = []
    var terms: [PeerEntries.TermRun] = []
    var sizes: [UInt32] = []
    var kinds: [PeerEntries.KindException] = []
    var payload: Bytes = []

    init() {}

    init(_ message: borrowing PeerMessage) {
        shard = message.shard.rawValue
        kind = message.kind
        numbers = [
            message.term.rawValue, message.index.rawValue, message.logTerm.rawValue, message.commit.rawValue,
            message.round, message.hint,
        ]
        flags = message.flags.rawValue
        membership = message.membership.bytes
        terms = Array(message.entries.terms)
        sizes = Array(message.entries.sizes)
        kinds = Array(message.entries.kinds)
        payload = message.entries.payload.bytes
    }

    static func random(_ random: inout SplitMix64) -> Sample {
        // Numbers of every magnitude: a varint's length is what may go wrong.
        func magnitude() -> UInt64 { (random.next() >> 2) >> random.next(below: 62) }
        var sample = Sample()
        sample.shard = UInt32(truncatingIfNeeded: magnitude())
        sample.kind = PeerMessage.Kind.allCases[Int(random.next(below: UInt64(PeerMessage.Kind.allCases.count)))]
        let terms = (0..<2).map { _ in magnitude() }.sorted()
        sample.numbers = [terms[1], magnitude(), terms[0], magnitude(), magnitude(), magnitude()]
        if sample.kind == .heartbeat || sample.kind == .heartbeatReply {
            let commit = sample.kind == .heartbeat ? sample.numbers[3] : 0
            let isPlain = random.next(below: 2) == 0
            sample.numbers = [sample.numbers[0], 0, 0, commit, sample.numbers[4], isPlain ? 0 : random.next()]
            sample.flags = isPlain ? 0 : 8
            return sample
        }
        sample.flags = UInt32(random.next(below: 4))
        guard sample.kind == .append else {
            if random.next(below: 2) == 0 {
                sample.membership = Bytes(repeating: 7, count: Int(random.next(below: 40)))
            }
            return sample
        }
        for position in 0..<random.next(below: 6) {
            sample.sizes.append(UInt32(random.next(below: 300)))
            if random.next(below: 4) == 0 { sample.kinds.append(.init(position: position, kind: 1)) }
        }
        let count = UInt64(sample.sizes.count)
        if count > 1, terms[0] < terms[1] {
            sample.terms = [.init(count: 1, term: terms[0]), .init(count: count - 1, term: terms[1])]
        } else if count > 0 {
            sample.terms = [.init(count: count, term: terms[1])]
        }
        sample.payload = (0..<sample.sizes.reduce(0, +)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        return sample
    }

    @discardableResult
    func append(to encoder: inout PeerBatchEncoder, payload piece: Bytes? = nil) -> Bool {
        var message = PeerMessage(shard: ShardID(rawValue: shard), kind: kind, term: Term(rawValue: numbers[0]))
        message.index = LogIndex(rawValue: numbers[1])
        message.logTerm = Term(rawValue: numbers[2])
        message.commit = LogIndex(rawValue: numbers[3])
        message.round = numbers[4]
        message.hint = numbers[5]
        message.flags = .init(rawValue: flags)
        return membership.withUnsafeBytes { membership in
            terms.withUnsafeBufferPointer { terms in
                sizes.withUnsafeBufferPointer { sizes in
                    kinds.withUnsafeBufferPointer { kinds in
                        message.membership = membership
                        message.entries.terms = terms
                        message.entries.sizes = sizes
                        message.entries.kinds = kinds
                        return encoder.append(message) { $0.append(piece ?? payload) }
                    }
                }
            }
        }
    }
}

private func encoded(_ samples: [Sample], clock: PeerClock? = PeerClock(sent: 77, time: Timestamp(rawValue: 99)))
    -> Bytes
{
    var encoder = PeerBatchEncoder()
    for sample in samples {
        let isAppended = sample.append(to: &encoder)
        #expect(isAppended)
    }
    #expect(encoder.count == samples.count)
    var buffer = ByteBuffer()
    encoder.write(clock: clock, into: &buffer)
    return buffer.readable.bytes
}

private func decoded(_ bytes: Bytes) throws -> [Sample] {
    let decoder = PeerBatchDecoder()
    var samples: [Sample] = []
    try bytes.withUnsafeBytes { frame in try decoder.decode(frame) { samples.append(Sample($0)) } }
    return samples
}

/// The same message, unpacked and packed again by protobuf-c.
private func repacked(_ bytes: Bytes) -> Bytes? {
    guard let message = orbit__v1__peer_batch__unpack(nil, bytes.count, bytes) else { return nil }
    defer { orbit__v1__peer_batch__free_unpacked(message, nil) }
    var packed = Bytes(repeating: 0, count: orbit__v1__peer_batch__get_packed_size(message))
    return orbit__v1__peer_batch__pack(message, &packed) == packed.count ? packed : nil
}

/// A batch of one message with these fields behind shard, kind (append) and term 9.
private func batch(_ fields: Bytes) -> Bytes {
    let body: Bytes = [1 << 3, 1, 2 << 3, 1, 3 << 3, 9] + fields
    return [3 << 3 | 2, UInt8(body.count)] + body
}

@Suite("Peer batches")
struct PeerCodecTests {
    @Test("a batch is byte for byte what protobuf-c writes")
    func matchesProtobuf() {
        var random = SplitMix64(seed: freshSeed("peer batches"))
        for _ in 0..<300 {
            let bytes = encoded((0..<6).map { _ in Sample.random(&random) })
            #expect(repacked(bytes) == bytes)
        }
        #expect(repacked(encoded([], clock: nil)) == [])
        #expect(repacked(encoded([], clock: PeerClock(sent: 0, time: .zero))) == [2 << 3 | 2, 0])
    }

    @Test("a decoded batch gives back what was encoded, plain heartbeats last")
    func roundTrip() throws {
        var random = SplitMix64(seed: freshSeed("peer batches"))
        for _ in 0..<100 {
            let samples = (0..<20).map { _ in Sample.random(&random) }
            let beats: [PeerMessage.Kind] = [.heartbeat, .heartbeatReply]
            var expected = samples.filter { !beats.contains($0.kind) || $0.flags != 0 }
            for kind in beats { expected += samples.filter { $0.kind == kind && $0.flags == 0 } }
            #expect(try decoded(encoded(samples)) == expected)
        }
    }

    @Test("hello and clocks are read back")
    func hello() throws {
        let hello = PeerHello(
            role: "storage-node", cluster: 5, node: NodeID(rawValue: 2), peer: NodeID(rawValue: 3), uid: Bytes(0..<16),
            incarnation: 9, clock: PeerClock(sent: 1, time: Timestamp(rawValue: 2)))
        let decoder = PeerBatchDecoder()
        try hello.encodeBatch().withUnsafeBytes { try decoder.decode($0) { _ in Issue.record("a message") } }
        #expect(decoder.hello == hello && decoder.clock == nil)
        let clock = PeerClock(sent: .max, time: Timestamp(rawValue: 1))
        try encoded([], clock: clock).withUnsafeBytes { try decoder.decode($0) { _ in } }
        #expect(decoder.hello == nil && decoder.clock == clock)
        for answer in [PeerAnswer(hello: hello), PeerAnswer(clock: clock), PeerAnswer()] {
            #expect(try answer.encode().withUnsafeBytes { try PeerAnswer(decoding: $0) } == answer)
        }
    }

    @Test("closed timestamps are rows of a batch, beside its messages")
    func closed() throws {
        var random = SplitMix64(seed: 1)
        let notes = (0..<20).map { _ in
            ClosedTimestamp(
                shard: ShardID(rawValue: UInt32(random.next(below: 9))),
                index: LogIndex(rawValue: (random.next() >> 2) >> random.next(below: 60)),
                milliseconds: random.next() >> 20)
        }
        let samples = (0..<3).map { _ in Sample.random(&random) }
        var encoder = PeerBatchEncoder()
        for sample in samples { sample.append(to: &encoder) }
        for note in notes { encoder.append(note) }
        #expect(encoder.count == samples.count + notes.count)
        var buffer = ByteBuffer()
        encoder.write(into: &buffer)
        let bytes = buffer.readable.bytes
        #expect(repacked(bytes) == bytes)
        let decoder = PeerBatchDecoder()
        var messages = 0
        try bytes.withUnsafeBytes { try decoder.decode($0) { _ in messages += 1 } }
        #expect(decoder.closed == notes && messages == samples.count)
        try encoded([]).withUnsafeBytes { try decoder.decode($0) { _ in } }
        #expect(decoder.closed.isEmpty)
        for damaged: Bytes in [[6 << 3 | 2, 2, 1, 1], [6 << 3, 1]] {
            #expect(throws: DatabaseError.self) { try decoded(damaged) }
        }
    }

    @Test("a payload of another length than its sizes is not written")
    func payloadLength() throws {
        var random = SplitMix64(seed: 1)
        var good = Sample.random(&random)
        while good.payload.isEmpty { good = .random(&random) }
        var encoder = PeerBatchEncoder()
        let outcomes = [good.payload, good.payload + [1], []].map { good.append(to: &encoder, payload: $0) }
        #expect(outcomes == [true, false, false])
        #expect(encoder.count == 1)
        var buffer = ByteBuffer()
        encoder.write(into: &buffer)
        #expect(try decoded(buffer.readable.bytes) == [good])
        encoder.reset()
        #expect(encoder.isEmpty && encoder.size == 0)
    }

    @Test("a message has so many entries and no more, however small they are")
    func entryLimit() throws {
        func sample(_ count: Int) -> Sample {
            var sample = Sample()
            sample.numbers[0] = 1
            sample.terms = [.init(count: UInt64(count), term: 1)]
            sample.sizes = Array(repeating: 0, count: count)
            return sample
        }
        var encoder = PeerBatchEncoder()
        let most = sample(PeerEntries.limit), many = sample(PeerEntries.limit + 1)
        let outcomes = [most, many].map { $0.append(to: &encoder) }
        #expect(outcomes == [true, false])
        var buffer = ByteBuffer()
        encoder.write(into: &buffer)
        #expect(try decoded(buffer.readable.bytes) == [most])
        // One entry more, as a peer might write it: the run of terms (3 bytes of count), then the sizes.
        let body: Bytes =
            [3 << 3, 1, 2 << 3, 1, 11 << 3 | 2, 4, 0x81, 0x80, 4, 1, 12 << 3 | 2, 0x81, 0x80, 4]
            + Bytes(repeating: 0, count: PeerEntries.limit + 1)
        buffer.removeAll()
        buffer.append(3 << 3 | 2)
        buffer.append(varint: UInt64(body.count))
        buffer.append(body)
        #expect(throws: DatabaseError.self) { try decoded(buffer.readable.bytes) }
    }

    @Test("a kind of a later version is left out and counted")
    func laterKind() throws {
        let decoder = PeerBatchDecoder()
        let frame: Bytes = [3 << 3 | 2, 4, 1 << 3, 1, 2 << 3, 99] + batch([4 << 3, 3])
        var seen = 0
        try frame.withUnsafeBytes { try decoder.decode($0) { _ in seen += 1 } }
        #expect(seen == 1 && decoder.unknownMessages == 1)
    }

    static let contradictions: [(String, Bytes)] = [
        ("sizes beyond the payload", [11 << 3 | 2, 2, 1, 5, 12 << 3 | 2, 1, 3, 14 << 3 | 2, 2, 0, 0]),
        ("a payload without sizes", [14 << 3 | 2, 1, 0]),
        ("entries without a term", [12 << 3 | 2, 1, 0]),
        ("terms of more entries than there are", [11 << 3 | 2, 2, 2, 5, 12 << 3 | 2, 1, 0]),
        ("a run of no entries", [11 << 3 | 2, 4, 0, 5, 1, 5, 12 << 3 | 2, 1, 0]),
        ("terms that fall", [11 << 3 | 2, 4, 1, 5, 1, 4, 12 << 3 | 2, 2, 0, 0]),
        ("terms that stay", [11 << 3 | 2, 4, 1, 5, 1, 5, 12 << 3 | 2, 2, 0, 0]),
        ("a term above the message's", [11 << 3 | 2, 2, 1, 10, 12 << 3 | 2, 1, 0]),
        ("a term below the entry before", [5 << 3, 6, 11 << 3 | 2, 2, 1, 5, 12 << 3 | 2, 1, 0]),
        ("a kind of no entry", [11 << 3 | 2, 2, 1, 5, 12 << 3 | 2, 1, 0, 13 << 3 | 2, 2, 1, 1]),
        ("half a row", [11 << 3 | 2, 3, 1, 5, 1, 12 << 3 | 2, 1, 0]),
        ("a table that is not packed", [12 << 3, 0]),
        ("an index that arithmetic would overflow", [4 << 3] + Bytes(repeating: 0xFF, count: 9) + [1]),
    ]

    @Test("entries that contradict each other are refused", arguments: contradictions)
    func contradiction(_ row: (String, Bytes)) {
        #expect(throws: DatabaseError.self, "\(row.0)") { try decoded(batch(row.1)) }
    }

    @Test("truncated and corrupted frames are refused or read, never a trap")
    func damage() {
        var random = SplitMix64(seed: freshSeed("peer batches"))
        let hello = PeerHello(
            role: "coordinator", cluster: 1, node: NodeID(rawValue: 1), peer: NodeID(rawValue: 2), uid: Bytes(0..<16),
            incarnation: 1, clock: PeerClock(sent: 1, time: .zero))
        let originals = [
            encoded((0..<4).map { _ in Sample.random(&random) }), hello.encodeBatch(),
            PeerAnswer(hello: hello, clock: hello.clock).encode(),
        ]
        for original in originals {
            for frame in Damage.truncations(of: original)
                + Damage.corruptions(of: original, count: 2000, using: &random)
            {
                if let samples = try? decoded(frame) {
                    for sample in samples {
                        #expect(sample.sizes.reduce(0) { $0 + Int($1) } == sample.payload.count)
                        #expect(sample.numbers.dropLast().allSatisfy { $0 <= PeerMessage.limit })
                    }
                }
                _ = try? frame.withUnsafeBytes { try PeerAnswer(decoding: $0) }
            }
        }
    }
}
