import Base
import CProto
import Contracts
import TestKit
import Testing

/// A call, or a watch, as a value, to be coded by both sides.
private struct Piece: Hashable {
    var database: UInt8, key: Bytes, version: UInt64, isAbsent = false
    var method = Method.get, flags: UInt32 = 0, numbers: [Int64] = [], arguments: [Bytes] = []

    static func random(_ random: inout SplitMix64, isWatch: Bool) -> Piece {
        func bytes(_ limit: UInt64) -> Bytes {
            (0..<random.next(below: limit + 1)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        }
        var piece = Piece(
            database: UInt8(random.next(below: 16)), key: bytes(200),
            version: random.next() >> random.next(below: 64) & (random.next(below: 4) == 0 ? 0 : .max))
        if isWatch {
            piece.isAbsent = random.next(below: 3) == 0
            if piece.isAbsent { piece.version = 0 }
        } else {
            piece.version = 0
            piece.method = Method.allCases[Int(random.next(below: UInt64(Method.allCases.count)))]
            piece.flags = UInt32(random.next(below: 300))
            piece.numbers = (0..<random.next(below: 4)).map { _ in
                Int64(bitPattern: random.next() >> random.next(below: 64))
            }
            piece.arguments = (0..<random.next(below: 4)).map { _ in bytes(150) }
        }
        return piece
    }

    init(database: UInt8, key: Bytes, version: UInt64) {
        (self.database, self.key, self.version) = (database, key, version)
    }

    init(_ watch: WatchView) {
        self.init(database: watch.database, key: watch.key.bytes, version: 0)
        switch watch.condition {
        case .version(let version): self.version = version
        case .absent: isAbsent = true
        }
    }

    init(_ call: ActorCallView) {
        self.init(database: call.database, key: call.key.bytes, version: 0)
        (method, flags) = (call.method, call.flags)
        numbers = (0..<call.numbers.count).map { call.numbers[$0] }
        arguments = (0..<call.arguments.count).map { call.arguments[$0].bytes }
    }

    func appendWatch(to encoder: inout CallBatchEncoder) {
        key.withUnsafeBytes { key in
            if isAbsent {
                encoder.append(absent: key, database: database)
            } else {
                encoder.append(watch: key, database: database, version: version)
            }
        }
    }

    func withCall(_ body: (ByteView, UnsafeBufferPointer<Int64>, UnsafeBufferPointer<ByteView>) -> Void) {
        let all = arguments.reduce(key, +)
        all.withUnsafeBytes { all in
            var views: [ByteView] = [], start = key.count
            for argument in arguments {
                views.append(ByteView(rebasing: all[start..<start + argument.count]))
                start += argument.count
            }
            views.withUnsafeBufferPointer { views in
                numbers.withUnsafeBufferPointer { body(ByteView(rebasing: all.prefix(key.count)), $0, views) }
            }
        }
    }

    /// Appends the call, at once or encoded apart: that makes no difference.
    func appendCall(to encoder: inout CallBatchEncoder, apart: Bool) {
        var alone = ByteBuffer(capacity: 64)
        var taken = CallBatchEncoder()
        swap(&taken, &encoder)
        withCall { key, numbers, arguments in
            if apart {
                CallBatchEncoder.encode(
                    method: method, database: database, key: key, flags: flags, numbers: numbers,
                    arguments: arguments, into: &alone)
                taken.append(call: alone.readable)
            } else {
                taken.append(
                    method: method, database: database, key: key, flags: flags, numbers: numbers,
                    arguments: arguments)
            }
        }
        swap(&taken, &encoder)
    }
}

private struct Sample {
    var watches: [Piece], calls: [Piece], part: TransactionPart?

    static func random(_ random: inout SplitMix64) -> Sample {
        var part: TransactionPart?
        if random.next(below: 2) == 0 {
            part = TransactionPart(
                id: random.next() | 1, priority: random.next(below: 2) == 0 ? 0 : random.next(),
                participants: (0..<random.next(below: 5)).map { _ in UInt32(random.next(below: 16384)) },
                isReadOnly: random.next(below: 2) == 0)
        }
        return Sample(
            watches: (0..<random.next(below: 4)).map { _ in Piece.random(&random, isWatch: true) },
            calls: (0..<random.next(below: 6)).map { _ in Piece.random(&random, isWatch: false) }, part: part)
    }

    func encoded(_ random: inout SplitMix64) -> Bytes {
        var encoder = CallBatchEncoder()
        for watch in watches { watch.appendWatch(to: &encoder) }
        for call in calls { call.appendCall(to: &encoder, apart: random.next(below: 2) == 0) }
        if let part { encoder.append(part) }
        #expect(encoder.callCount == calls.count && encoder.watchCount == watches.count)
        return encoder.message.bytes
    }
}

private func framed(_ batches: [Bytes], steps: [TransactionStep] = []) -> Bytes {
    var encoder = InvocationBatchEncoder(session: 9)
    encoder.begin(bookmark: .zero, schemaVersion: 0, mapEpoch: MapEpoch(rawValue: 3))
    for (position, batch) in batches.enumerated() {
        batch.withUnsafeBytes {
            encoder.append(id: UInt64(position) * 100 + 1, connection: 5, slot: 300, batch: $0)
        }
    }
    for step in steps { encoder.append(id: 7, connection: 0, slot: 16383, step: step) }
    return encoder.message.bytes
}

private func replies(_ fill: (ReplyBatchEncoder) -> Void) -> Bytes {
    let encoder = ReplyBatchEncoder()
    fill(encoder)
    var buffer = ByteBuffer()
    encoder.write(bookmark: .zero, mapEpoch: MapEpoch(rawValue: 0), into: &buffer)
    return buffer.readable.bytes
}

private func someReplies() -> Bytes {
    replies { encoder in
        let calls = ReplyBatchEncoder()
        encoder.ok(1)
        encoder.batch(2, at: .zero, calls)
        calls.ok(0)
        calls.integer(1, -5)
        calls.beginList(2)
        calls.listNull()
        calls.listInteger(8)
        calls.endList()
        calls.error(3, DatabaseError(.wrongType, "no"))
        calls.null(4)
        encoder.batch(300, at: Timestamp(rawValue: .max - 3), calls)
        #expect(calls.isEmpty && calls.count == 0 && encoder.count == 3)
        encoder.integer(4, 9)
    }
}

@Suite("Batches of calls and steps of transactions")
struct CallBatchTests {
    @Test("a batch is byte for byte what protobuf-c writes, and is read back")
    func batchMatchesProtobuf() throws {
        var random = SplitMix64(seed: freshSeed("call batches"))
        let decoder = InvocationBatchDecoder()
        for _ in 0..<200 {
            let sample = Sample.random(&random)
            let bytes = framed([sample.encoded(&random)])
            #expect(repackedBatch(bytes) == bytes)
            var seen = 0
            try bytes.withUnsafeBytes { frame in
                try decoder.decode(frame) { view in
                    seen += 1
                    guard case .batch(let batch) = view.operation else {
                        Issue.record("not a batch")
                        return
                    }
                    #expect(view.id == 1 && view.connection == 5 && view.slot == 300 && !view.hasTerms)
                    var calls: [Piece] = [], walk = batch.calls
                    while let call = walk.next() { calls.append(Piece(call)) }
                    var watches: [Piece] = [], other = batch.watches
                    while let watch = other.next() { watches.append(Piece(watch)) }
                    #expect(calls == sample.calls && watches == sample.watches)
                    #expect(batch.callCount == calls.count && batch.watchCount == watches.count)
                    #expect(batch.isWrite == calls.contains { $0.method.isWrite })
                    #expect(batch.part?.part == sample.part)
                }
            }
            #expect(seen == 1)
        }
    }

    @Test("a batch's token is read back; without session or id it is malformed")
    func tokens() throws {
        func read(_ message: ByteView) throws -> BatchToken? {
            var envelope = InvocationBatchEncoder(session: 1), found: BatchToken?
            envelope.append(id: 1, connection: 1, slot: 0, batch: message)
            try InvocationBatchDecoder().decode(envelope.message) { invocation in
                if case .batch(let batch) = invocation.operation { found = batch.token }
            }
            return found
        }
        for token in [BatchToken(session: 7, id: 300), BatchToken(session: .max, id: .max, isFence: true)] {
            var encoder = CallBatchEncoder()
            encoder.append(token)
            #expect(try read(encoder.message) == token)
        }
        for wrong in [BatchToken(session: 0, id: 1), BatchToken(session: 1, id: 0)] {
            var encoder = CallBatchEncoder()
            encoder.append(wrong)
            let message = encoder.message.bytes
            #expect(throws: DatabaseError.self) { try message.withView { _ = try read($0) } }
        }
        #expect(try read(CallBatchEncoder().message) == nil)
    }

    @Test("a step is byte for byte what protobuf-c writes, and is read back")
    func stepMatchesProtobuf() throws {
        var random = SplitMix64(seed: freshSeed("transaction steps"))
        for kind in TransactionStep.Kind.allCases {
            let step = TransactionStep(
                kind, id: random.next() | 1, timestamp: Timestamp(rawValue: random.next() >> random.next(below: 64)),
                participants: (0..<random.next(below: 4)).map { _ in UInt32(random.next(below: 16384)) })
            let bytes = framed([], steps: [step])
            #expect(repackedBatch(bytes) == bytes)
            var seen: TransactionStep?
            try bytes.withUnsafeBytes { frame in
                try InvocationBatchDecoder().decode(frame) { view in
                    if case .step(let view) = view.operation { seen = view.step }
                }
            }
            #expect(seen == step)
        }
    }

    @Test("slots that are not packed are read as well, and unknown fields are skipped")
    func leniency() throws {
        // Part: an unknown field 9, id, two unpacked participants, one packed.
        let part: Bytes = [9 << 3, 1, 1 << 3 | 1, 5, 0, 0, 0, 0, 0, 0, 0, 3 << 3, 4, 3 << 3, 0x80, 1, 3 << 3 | 2, 1, 6]
        let batch: Bytes = [15 << 3 | 2, 1, 0, 3 << 3 | 2, UInt8(part.count)] + part
        var participants: [UInt32]?
        try framed([batch]).withUnsafeBytes { frame in
            try InvocationBatchDecoder().decode(frame) { view in
                if case .batch(let batch) = view.operation { participants = batch.part?.participants.slots }
            }
        }
        #expect(participants == [4, 128, 6])
    }

    @Test("a batch with a method or database that is not known is unknown as a whole")
    func unknownMethods() throws {
        // Method 9999; database 16; a watch of database 16; a step of kind 77.
        let batches: [Bytes] = [
            [2 << 3 | 2, 3, 1 << 3, 0x8F, 0x4E], [2 << 3 | 2, 4, 1 << 3, 32, 2 << 3, 16], [1 << 3 | 2, 2, 1 << 3, 16],
        ]
        var unknown = 0
        let step: Bytes = [0x9A, 1, 11, 1 << 3, 77, 2 << 3 | 1, 1, 0, 0, 0, 0, 0, 0, 0]
        let frame = framed(batches) + [6 << 3 | 2, UInt8(step.count)] + step
        try frame.withUnsafeBytes { frame in
            try InvocationBatchDecoder().decode(frame) { view in
                if case .unknown = view.operation { unknown += 1 }
            }
        }
        #expect(unknown == 4)
    }

    @Test("what is no batch is refused")
    func malformed() {
        let call: Bytes = [2 << 3 | 2, 2, 1 << 3, 32]
        let tooMany = Bytes(repeatElement(call, count: CallBatchEncoder.limit + 1).joined())
        let most = Bytes(repeatElement(call, count: CallBatchEncoder.limit).joined())
        func isRefused(_ frame: Bytes) -> Bool {
            frame.withUnsafeBytes { frame in
                do { try InvocationBatchDecoder().decode(frame) { _ in } } catch { return true }
                return false
            }
        }
        #expect(isRefused(framed([tooMany])) && !isRefused(framed([most])))
        // A part and a step without an id; a call that is cut; more participants than slots.
        #expect(isRefused(framed([[3 << 3 | 2, 0]])))
        #expect(isRefused(framed([], steps: [TransactionStep(.commit, id: 0)])))
        #expect(isRefused(framed([[2 << 3 | 2, 9, 1 << 3, 32]])))
        let crowd = TransactionStep(.commit, id: 1, participants: Array(repeating: 1, count: ParticipantList.limit + 1))
        #expect(isRefused(framed([], steps: [crowd])))
    }

    @Test("a batch's reply is byte for byte what protobuf-c writes, and is read back")
    func replyMatchesProtobuf() throws {
        let bytes = someReplies()
        #expect(repackedReplies(bytes) == bytes)
        var decoder = ReplyBatchDecoder(), kinds: [ReplyView.Kind] = [], inner: [ReplyView.Kind] = []
        try bytes.withUnsafeBytes { frame in
            try decoder.decode(frame) { reply in
                kinds.append(reply.kind)
                var walk = reply.replies, count = 0
                while let call = walk.next() {
                    inner.append(call.kind)
                    #expect(call.id == UInt64(count))
                    if call.kind == .integer { #expect(call.integer == -5) }
                    if call.kind == .list { #expect(call.itemCount == 2) }
                    if call.kind == .error { #expect(call.errorCode == .wrongType) }
                    count += 1
                }
                if reply.kind == .batch { #expect(reply.itemCount == count) }
                if reply.id == 300 { #expect(reply.timestamp == Timestamp(rawValue: .max - 3)) }
            }
        }
        #expect(kinds == [.ok, .batch, .batch, .integer] && inner == [.ok, .integer, .list, .error, .null])
    }

    @Test("a batch's reply in a batch's reply, and replies out of order, are refused")
    func malformedReplies() {
        for isNested in [false, true] {
            let bytes = replies { encoder in
                let calls = ReplyBatchEncoder(), inner = ReplyBatchEncoder()
                inner.ok(0)
                if isNested { calls.batch(0, at: .zero, inner) } else { calls.ok(1) }
                encoder.batch(1, at: .zero, calls)
            }
            bytes.withUnsafeBytes { frame in
                var decoder = ReplyBatchDecoder(), isRefused = false
                do { try decoder.decode(frame) { _ in } } catch { isRefused = true }
                #expect(isRefused)
            }
        }
    }

    @Test("truncated and corrupted batches are refused or read, never a trap")
    func damage() {
        var random = SplitMix64(seed: freshSeed("call batches"))
        let decoder = InvocationBatchDecoder()
        let sent = framed(
            (0..<3).map { _ in Sample.random(&random).encoded(&random) },
            steps: [TransactionStep(.fence, id: 6, timestamp: Timestamp(rawValue: 99), participants: [1, 9000])])
        for original in [sent, someReplies()] {
            var frames = (0..<original.count).map { Bytes(original[..<$0]) }
            frames += Damage.corruptions(of: original, count: 3000, using: &random)
            for frame in frames {
                frame.withUnsafeBytes { view in
                    try? decoder.decode(view) { Self.readAll($0) }
                    var replies = ReplyBatchDecoder()
                    try? replies.decode(view) { reply in
                        var walk = reply.replies
                        while let call = walk.next() {
                            var items = call.items
                            while items.next() != nil {}
                        }
                    }
                }
            }
        }
    }

    private static func readAll(_ view: borrowing InvocationView) {
        switch view.operation {
        case .batch(let batch):
            var calls = batch.calls, watches = batch.watches, count = 0
            while let call = calls.next() {
                call.forEachKey { _, key in count += key.count }
                count += 1
            }
            while watches.next() != nil {}
            _ = batch.part?.part
        case .step(let step): _ = step.step
        case .call, .record, .home, .unknown: break
        }
    }

    @Test("the keys of a call are told, each with its database")
    func keys() {
        func keys(_ method: Method, _ numbers: [Int64] = [], _ arguments: [String] = []) -> [String] {
            var piece = Piece(database: 3, key: Bytes("k".utf8), version: 0), found: [String] = []
            (piece.method, piece.numbers, piece.arguments) = (method, numbers, arguments.map { Bytes($0.utf8) })
            piece.withCall { key, numbers, arguments in
                let call = ActorCallView(
                    method: method, database: 3, key: key, flags: 0, numbers: NumberList(numbers),
                    arguments: ViewList(arguments))
                call.forEachKey { found.append("\($0)\(String(decoding: $1, as: UTF8.self))") }
            }
            return found
        }
        #expect(keys(.get) == ["3k"] && keys(.hashSet, [], ["f", "v"]) == ["3k"])
        #expect(
            keys(.delete, [], ["a", "b"]) == ["3k", "3a", "3b"] && keys(.bitOperation, [0], ["a"]) == ["3k", "3a"])
        #expect(keys(.multiSet, [], ["v", "a", "v", "b", "v"]) == ["3k", "3a", "3b"])
        #expect(keys(.rename, [], ["a"]) == ["3k", "3a"] && keys(.move, [7]) == ["3k", "7k"])
        #expect(keys(.copy, [-1], ["a"]) == ["3k", "3a"] && keys(.copy, [9], ["a"]) == ["3k", "9a"])
        #expect(keys(.move, [16]) == ["3k"] && keys(.copy, [-2], ["a"]) == ["3k"])
        #expect(keys(.flushAll).isEmpty && keys(.scan, [0, 10]).isEmpty)
        for method in Method.allCases { #expect(method.isKeyless == keys(method, [0, 0], ["a", "b"]).isEmpty) }
    }
}
