import Base
import CProto
import Contracts
import TestKit
import Testing

/// An invocation as a value, to be coded by both sides.
private struct Sample {
    var id: UInt64, connection: UInt64, slot: UInt32, method: Method, database: UInt8, key: Bytes, flags: UInt32
    var numbers: [Int64], arguments: [Bytes]

    static func random(_ random: inout SplitMix64) -> Sample {
        func bytes(_ limit: UInt64) -> Bytes {
            (0..<random.next(below: limit + 1)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        }
        // Numbers of every magnitude: a varint's length is what may go wrong.
        func magnitude() -> UInt64 { random.next() >> random.next(below: 64) }
        return Sample(
            id: magnitude(), connection: random.next(below: 300), slot: UInt32(random.next(below: 16384)),
            method: Method.allCases[Int(random.next(below: UInt64(Method.allCases.count)))],
            database: UInt8(random.next(below: 16)), key: bytes(40), flags: UInt32(random.next(below: 200)),
            numbers: (0..<random.next(below: 5)).map { _ in Int64(bitPattern: magnitude()) },
            arguments: (0..<random.next(below: 6)).map { _ in bytes(200) })
    }
}

private func encoded(_ samples: [Sample]) -> Bytes {
    var encoder = InvocationBatchEncoder(session: 77)
    encoder.begin(bookmark: Timestamp(rawValue: 5), schemaVersion: 6, mapEpoch: MapEpoch(rawValue: 700), route: 300)
    for sample in samples {
        let arguments = sample.arguments.map { argument in
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: argument.count, alignment: 1)
            copy.copyBytes(from: argument)
            return ByteView(copy)
        }
        defer { arguments.forEach { $0.deallocate() } }
        sample.key.withUnsafeBytes { key in
            sample.numbers.withUnsafeBufferPointer { numbers in
                arguments.withUnsafeBufferPointer { arguments in
                    encoder.append(
                        id: sample.id, connection: sample.connection, slot: sample.slot, method: sample.method,
                        database: sample.database, key: key, flags: sample.flags, numbers: numbers, arguments: arguments
                    )
                }
            }
        }
    }
    return encoder.message.bytes
}

/// The same message, unpacked and packed again by protobuf-c.
func repackedBatch(_ bytes: Bytes) -> Bytes? {
    guard let message = orbit__v1__invocation_batch__unpack(nil, bytes.count, bytes) else { return nil }
    defer { orbit__v1__invocation_batch__free_unpacked(message, nil) }
    var packed = Bytes(repeating: 0, count: orbit__v1__invocation_batch__get_packed_size(message))
    return orbit__v1__invocation_batch__pack(message, &packed) == packed.count ? packed : nil
}

func repackedReplies(_ bytes: Bytes) -> Bytes? {
    guard let message = orbit__v1__reply_batch__unpack(nil, bytes.count, bytes) else { return nil }
    defer { orbit__v1__reply_batch__free_unpacked(message, nil) }
    var packed = Bytes(repeating: 0, count: orbit__v1__reply_batch__get_packed_size(message))
    return orbit__v1__reply_batch__pack(message, &packed) == packed.count ? packed : nil
}

private func allReplies() -> Bytes {
    let encoder = ReplyBatchEncoder()
    encoder.null(0)
    encoder.ok(1)
    encoder.integer(300, -7)
    encoder.integer(301, 0)
    encoder.number(4, 1.5)
    encoder.data(5, ByteView(start: nil, count: 0))
    Bytes("value".utf8).withUnsafeBytes { encoder.data(6, $0) }
    encoder.error(7, DatabaseError(.wrongType, "no"))
    encoder.error(9, DatabaseError(.notLeader, "elsewhere"), leader: NodeID(rawValue: 300))
    encoder.beginList(8)
    encoder.listNull()
    encoder.listInteger(0)
    encoder.listInteger(Int64.min)
    encoder.listNumber(2.5)
    Bytes(repeating: 3, count: 200).withUnsafeBytes { encoder.listData($0) }
    encoder.endList()
    var buffer = ByteBuffer()
    encoder.write(bookmark: Timestamp(rawValue: 9), mapEpoch: MapEpoch(rawValue: 3), into: &buffer)
    return buffer.readable.bytes
}

@Suite("The hot messages")
struct InvocationCodecTests {
    @Test("an invocation batch is byte for byte what protobuf-c writes")
    func batchMatchesProtobuf() throws {
        var random = SplitMix64(seed: freshSeed("hot messages"))
        for _ in 0..<200 {
            let bytes = encoded((0..<5).map { _ in Sample.random(&random) })
            #expect(repackedBatch(bytes) == bytes)
        }
    }

    @Test("a decoded batch gives back what was encoded")
    func roundTrip() throws {
        var random = SplitMix64(seed: freshSeed("hot messages"))
        let samples = (0..<50).map { _ in Sample.random(&random) }
        let decoder = InvocationBatchDecoder()
        var seen = 0
        try encoded(samples).withUnsafeBytes { frame in
            try decoder.decode(frame) { view in
                let sample = samples[seen]
                seen += 1
                guard case .call(let call) = view.operation else {
                    Issue.record("not a call")
                    return
                }
                #expect(view.id == sample.id && view.connection == sample.connection && view.slot == sample.slot)
                #expect(call.method == sample.method && call.database == sample.database && call.flags == sample.flags)
                #expect(call.key.bytes == sample.key)
                #expect((0..<call.numbers.count).map { call.numbers[$0] } == sample.numbers)
                #expect((0..<call.arguments.count).map { call.arguments[$0].bytes } == sample.arguments)
            }
        }
        #expect(seen == samples.count)
        #expect(
            decoder.route == 300 && decoder.session == 77 && decoder.mapEpoch.rawValue == 700
                && decoder.bookmark.rawValue == 5)
    }

    @Test("an invocation sent again under another id is otherwise the same")
    func resend() throws {
        var random = SplitMix64(seed: freshSeed("hot messages"))
        let samples = (0..<20).map { _ in Sample.random(&random) }
        let first = encoded(samples)
        var again = InvocationBatchEncoder(session: 77)
        again.begin(bookmark: Timestamp(rawValue: 5), schemaVersion: 6, mapEpoch: MapEpoch(rawValue: 700), route: 300)
        try first.withUnsafeBytes { frame in
            try InvocationBatchDecoder().decode(frame) { again.append(id: $0.id &+ 1, body: $0.body) }
        }
        let renumbered = samples.map { sample in
            var copy = sample
            copy.id &+= 1
            return copy
        }
        #expect(again.message.bytes == encoded(renumbered))
    }

    @Test("the terms of a read below strong, and the position of its reply, are what protobuf-c reads and writes")
    func readTerms() throws {
        var terms = ReadTerms(.boundedStale)
        (terms.stalenessMilliseconds, terms.position) = (300, LogIndex(rawValue: 70_000))
        terms.bookmark = Timestamp(rawValue: 99)
        for terms in [terms, ReadTerms(.boundedStale), ReadTerms(.any)] {
            var body: Bytes = [2 << 3, 5, 3 << 3, 9, 0x82, 1, 4, 1 << 3, 32, 3 << 3 | 2, 0]
            terms.append(to: &body)
            var encoder = InvocationBatchEncoder(session: 1)
            encoder.begin(bookmark: .zero, schemaVersion: 0, mapEpoch: MapEpoch(rawValue: 0))
            body.withUnsafeBytes { encoder.append(id: 3, body: $0) }
            let bytes = encoder.message.bytes
            // protobuf-c writes fields in order.
            for frame in [bytes, try #require(repackedBatch(bytes))] {
                var seen: ReadTerms?
                try frame.withUnsafeBytes { try InvocationBatchDecoder().decode($0) { seen = $0.readTerms } }
                #expect(seen == terms)
            }
        }
        let one = ReplyBatchEncoder(), all = ReplyBatchEncoder()
        for position: UInt64 in [0, 1, 70_000] {
            Bytes("value".utf8).withUnsafeBytes { one.data(6, $0) }
            all.move(one, position: LogIndex(rawValue: position))
        }
        var buffer = ByteBuffer(), positions: [UInt64] = [], decoder = ReplyBatchDecoder()
        all.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &buffer)
        let bytes = buffer.readable.bytes
        #expect(repackedReplies(bytes) == bytes && one.isEmpty && all.count == 3)
        try bytes.withUnsafeBytes { frame in
            try decoder.decode(frame) { reply in
                positions.append(reply.position.rawValue)
                #expect(reply.id == 6 && reply.data.bytes == Bytes("value".utf8))
            }
        }
        #expect(positions == [0, 1, 70_000])
    }

    @Test("replies are byte for byte what protobuf-c writes")
    func repliesMatchProtobuf() {
        let bytes = allReplies()
        #expect(repackedReplies(bytes) == bytes)
    }

    @Test("replies are read back")
    func repliesRoundTrip() throws {
        var kinds: [ReplyView.Kind] = [], items = 0, message = ""
        var leaders: [NodeID?] = []
        var decoder = ReplyBatchDecoder()
        try allReplies().withUnsafeBytes { frame in
            try decoder.decode(frame) { reply in
                kinds.append(reply.kind)
                if reply.kind == .error {
                    if reply.errorCode == .wrongType { message = reply.error.message }
                    leaders.append(reply.leader)
                }
                var list = reply.items
                while list.next() != nil { items += 1 }
                if reply.kind == .list { #expect(reply.itemCount == 5) }
            }
        }
        #expect(kinds == [.null, .ok, .integer, .integer, .number, .data, .data, .error, .error, .list])
        #expect(leaders == [nil, NodeID(rawValue: 300)])
        #expect(items == 5 && message == "no" && decoder.bookmark.rawValue == 9)
    }

    @Test("truncated and corrupted frames are refused or read, never a trap")
    func damage() {
        var random = SplitMix64(seed: freshSeed("hot messages"))
        let decoder = InvocationBatchDecoder()
        for original in [encoded((0..<3).map { _ in Sample.random(&random) }), allReplies()] {
            var frames = (0..<original.count).map { Bytes(original[..<$0]) }
            frames += Damage.corruptions(of: original, count: 2000, using: &random)
            for frame in frames {
                frame.withUnsafeBytes { view in
                    try? decoder.decode(view) { _ in }
                    var replies = ReplyBatchDecoder()
                    try? replies.decode(view) { reply in
                        var items = reply.items
                        while items.next() != nil {}
                        _ = reply.error
                    }
                }
            }
        }
    }
}
