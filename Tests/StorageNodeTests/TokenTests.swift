import Base
import Contracts
import DataModel
import Net
import Storage
import TestKit
import Testing

@testable import StorageNode

/// A batch of calls with tokens.
private struct TokenBatch {
    private var buffer = Bytes()

    init(session: UInt64 = 9) {
        guard session != 0 else { return }
        buffer = [1 << 3 | 1] + (0..<8).map { UInt8(truncatingIfNeeded: session >> ($0 * 8)) }
    }

    var message: Bytes { buffer }

    func adding(
        _ id: UInt64, _ method: Method, _ key: String, _ arguments: [Bytes] = [], numbers: [Int64] = [],
        flags: UInt32 = 0, slot: UInt32? = nil, terms: Bytes = [9 << 3, 1]
    ) -> TokenBatch {
        var encoder = InvocationBatchEncoder(session: 0)
        let flat = arguments.flatMap { $0 }
        Bytes(key.utf8).withUnsafeBytes { key in
            flat.withUnsafeBytes { flat in
                var views: [ByteView] = [], start = 0
                for argument in arguments {
                    views.append(ByteView(rebasing: flat[start..<start + argument.count]))
                    start += argument.count
                }
                numbers.withUnsafeBufferPointer { numbers in
                    views.withUnsafeBufferPointer { views in
                        encoder.append(
                            id: id, connection: 1, slot: slot ?? UInt32(Slot.of(key).rawValue), method: method,
                            database: 0, key: key, flags: flags, numbers: numbers, arguments: views)
                    }
                }
            }
        }
        return adding(encoder.message.bytes, terms)
    }

    /// A record of the users.
    func adding(_ id: UInt64, put key: String, _ value: String, onlyIfAbsent: Bool) -> TokenBatch {
        var encoder = InvocationBatchEncoder(session: 0)
        Bytes(key.utf8).withUnsafeBytes { key in
            Bytes(value.utf8).withUnsafeBytes { value in
                var record = RecordOperationView()
                (record.kind, record.collection, record.key, record.value) = (.put, .systemUsers, key, value)
                record.onlyIfAbsent = onlyIfAbsent
                encoder.append(id: id, slot: UInt32(Slot.ofPartition(key).rawValue), record: record)
            }
        }
        return adding(encoder.message.bytes, [9 << 3, 1])
    }

    private func adding(_ encoded: Bytes, _ terms: Bytes) -> TokenBatch {
        let invocation: Bytes = encoded.withUnsafeBytes { view in
            var reader = ByteReader(view)
            _ = reader.varint()
            return reader.delimited()?.bytes ?? []
        }
        var field = ByteBuffer(capacity: 64)
        field.append(InvocationView.tag)
        field.append(varint: UInt64(invocation.count + terms.count))
        var result = self
        result.buffer += field.readable.bytes + invocation + terms
        return result
    }
}

/// Calls that come again are answered, and not executed again.
@Suite("Tokens", .serialized)
struct TokenTests {
    /// Asks one after another, each what the list says, and compares the replies.
    private static func tell(
        _ stage: Stage, _ story: [(batch: TokenBatch, replies: [UInt64: Reply])], end: Stage.End = .drain
    ) {
        let channel = GRPCClientChannel(loop: stage.loop, address: stage.address, limits: InvocationStream.limits)
        func ask(_ index: Int) {
            guard index < story.count else {
                channel.close()
                return stage.finish(end)
            }
            channel.unary(path: "/orbit.v1.InvocationService/Invoke", request: story[index].batch.message) { result in
                var replies: [UInt64: Reply]?
                if case .success(let bytes) = result { replies = bytes.withUnsafeBytes { try? Reply.decode($0) } }
                #expect(replies == story[index].replies, "step \(index): \(result)")
                ask(index + 1)
            }
        }
        ask(0)
    }

    private static func increment(_ id: UInt64, session: UInt64 = 9, by delta: Int64 = 1) -> TokenBatch {
        TokenBatch(session: session).adding(id, .incrementBy, "n", numbers: [delta])
    }

    private static var count: TokenBatch { TokenBatch().adding(1, .get, "n", terms: []) }

    @Test("a call that comes again gets its reply, and is executed once")
    func again() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, shards: 2) { stage in
                let set = TokenBatch().adding(2, .set, "k", [[0x31]], flags: SetFlags.ifAbsent.rawValue)
                let hash = TokenBatch().adding(3, .hashSet, "n", [[0x31], [0x32]])
                let user = TokenBatch().adding(4, put: "ada", "1", onlyIfAbsent: true)
                let both = Self.increment(5).adding(6, .append, "k", [[0x32]]).adding(1, .get, "k", terms: [])
                Self.tell(
                    stage,
                    [
                        (Self.increment(1), [1: .integer(1)]), (Self.increment(1), [1: .integer(1)]),
                        (set, [2: .ok]), (set, [2: .ok]),
                        // An error that the evaluation gave is an outcome like others.
                        (hash, [3: .error(.wrongType)]),
                        (TokenBatch().adding(1, .delete, "n", terms: []), [1: .integer(1)]),
                        (hash, [3: .error(.wrongType)]),
                        (user, [4: .ok]), (user, [4: .ok]),
                        (both, [5: .integer(1), 6: .integer(2), 1: .text("12")]),
                        (both, [5: .integer(1), 6: .integer(2), 1: .text("12")]),
                        (Self.count, [1: .text("1")]),
                        // Other sessions have other tokens; a read takes none.
                        (Self.increment(1, session: 10), [1: .integer(2)]),
                        (TokenBatch().adding(1, .get, "n"), [1: .text("2")]),
                        (TokenBatch(session: 0).adding(0, .get, "n"), [0: .text("2")]),
                    ])
            }
        }
    }

    @Test("tokens that are none, or of another call, are refused, and nothing is executed")
    func refused() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, shards: 2) { stage in
                let invalid = Reply.error(.invalidArgument)
                Self.tell(
                    stage,
                    [
                        (Self.increment(1), [1: .integer(1)]),
                        (Self.increment(1, by: 2), [1: invalid]),
                        (TokenBatch().adding(1, .incrementBy, "n", numbers: [1], flags: 1), [1: invalid]),
                        (TokenBatch().adding(1, .append, "n", [[0x31]]), [1: invalid]),
                        (TokenBatch().adding(1, .incrementBy, "n", numbers: [1, 0]), [1: invalid]),
                        // For somebody else.
                        (
                            TokenBatch().adding(
                                1, .incrementBy, "n", numbers: [1], terms: [9 << 3, 1, 5 << 3 | 2, 1, 0x61]),
                            [1: invalid]
                        ),
                        (Self.increment(2, session: 0), [2: invalid]), (Self.increment(0), [0: invalid]),
                        (TokenBatch().adding(3, .incrementBy, "n", numbers: [1], slot: 77), [3: invalid]),
                        (Self.increment(1), [1: .integer(1)]),
                        // Deadline and trace may change, the connection too.
                        (
                            TokenBatch().adding(1, .incrementBy, "n", numbers: [1], terms: [9 << 3, 1, 4 << 3, 100]),
                            [1: .integer(1)]
                        ),
                        (Self.count, [1: .text("1")]),
                    ])
            }
        }
    }

    @Test("a reply that is too large is not kept; the call is not executed again")
    func largeReply() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory) { stage in
                let value = Bytes(repeating: 0x61, count: 2000)
                let take = TokenBatch().adding(1, .getDelete, "k")
                Self.tell(
                    stage,
                    [
                        (TokenBatch().adding(2, .set, "k", [value]), [2: .ok]),
                        (take, [1: .text(String(decoding: value, as: UTF8.self))]),
                        (TokenBatch().adding(3, .set, "k", [[0x31]]), [3: .ok]),
                        (take, [1: .error(.alreadyExecuted)]), (take, [1: .error(.alreadyExecuted)]),
                        (TokenBatch().adding(4, .get, "k"), [4: .text("1")]),
                    ])
            }
        }
    }

    @Test("outcomes outlive the process, and the window with them", arguments: [Stage.End.drain, .kill])
    func reopened(_ end: Stage.End) throws {
        try Stage.withDirectory { directory in
            for life in 0..<3 {
                try Stage.run(
                    directory, shards: 2, settings: { $0.outcomes.window = 4 }, disk: PosixDisk(), store: nil
                ) { stage in
                    var story: [(TokenBatch, [UInt64: Reply])] = []
                    for id: UInt64 in 11...16 {
                        let isTooOld = life > 0 && id < 13
                        story.append(
                            (Self.increment(id), [id: isTooOld ? .error(.outcomeUnknown) : .integer(Int64(id) - 10)]))
                    }
                    story.append((Self.increment(3), [3: .error(.outcomeUnknown)]))
                    story.append((Self.increment(3, session: 10 + UInt64(life)), [3: .integer(7 + Int64(life))]))
                    Self.tell(stage, story, end: end)
                }
            }
        }
    }

    @Test("a call that comes again while it is pending waits for the same entry, on whatever stream")
    func pending() throws {
        try Stage.withDirectory { directory in
            let disk = GatedDisk(SimulatedDisk(seed: 5))
            try Stage.run(directory, settings: { $0.log.inlineSyncNanoseconds = 0 }, disk: disk) { stage in
                let channels = (0..<3).map { _ in
                    GRPCClientChannel(loop: stage.loop, address: stage.address, limits: InvocationStream.limits)
                }
                var replies: [Reply?] = []
                func note(_ result: Result<Bytes, GRPCStatus>) {
                    guard case .success(let bytes) = result else { return replies.append(nil) }
                    replies.append(bytes.withUnsafeBytes { try? Reply.decode($0) }?[1])
                }
                disk.shut()
                let before = stage.node.invocations
                for channel in channels {
                    for _ in 0..<2 {
                        channel.unary(
                            path: "/orbit.v1.InvocationService/Invoke", request: Self.increment(1).message,
                            completion: note)
                    }
                }
                var isOpen = false
                stage.poll {
                    if !isOpen {
                        #expect(replies.isEmpty)
                        guard stage.node.invocations == before + 6 else { return false }
                        isOpen = true
                        disk.open()
                    }
                    guard replies.count == 6 else { return false }
                    #expect(replies.allSatisfy { $0 == .integer(1) })
                    for channel in channels { channel.close() }
                    stage.finish()
                    return true
                }
            }
        }
    }

    @Test("a session that nobody uses is forgotten, on disk too")
    func expiry() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, settings: { $0.outcomes.retentionMilliseconds = 50 }) { stage in
                let channel = GRPCClientChannel(
                    loop: stage.loop, address: stage.address, limits: InvocationStream.limits)
                func ask(_ expected: Int64, _ done: @escaping () -> Void) {
                    let request = Self.increment(1).message
                    channel.unary(path: "/orbit.v1.InvocationService/Invoke", request: request) { result in
                        guard case .success(let bytes) = result else {
                            Issue.record("\(result)")
                            return
                        }
                        #expect(bytes.withUnsafeBytes { try? Reply.decode($0) } == [1: .integer(expected)])
                        done()
                    }
                }
                ask(1) {
                    stage.poll {
                        guard stage.node.executors.allSatisfy({ $0.outcomes.count == 0 }) else { return false }
                        ask(2) {
                            channel.close()
                            stage.finish()
                        }
                        return true
                    }
                }
            }
        }
    }

    @Test("what the log never took is executed when it comes again")
    func abandoned() throws {
        try Stage.withDirectory { directory in
            try Stage.run(directory, settings: { $0.log.segmentBytes = 128 << 10 }) { stage in
                let large = Self.increment(1).adding(2, .set, "large", [Bytes(repeating: 0x61, count: 200_000)])
                Self.tell(
                    stage,
                    [
                        (large, [1: .error(.limitExceeded), 2: .error(.limitExceeded)]),
                        (Self.increment(1), [1: .integer(1)]), (Self.increment(1), [1: .integer(1)]),
                        (TokenBatch().adding(2, .get, "large"), [2: .null]),
                    ])
            }
        }
    }
}
