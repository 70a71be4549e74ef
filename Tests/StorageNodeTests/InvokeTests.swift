import Base
import Contracts
import DataModel
import Net
import Replication
import Storage
import TestKit
import Testing

@testable import StorageNode

/// A client without a gateway: it sends what bytes it likes.
private final class RawStream: GRPCStreamHandler {
    private(set) var replies: [UInt64: Reply] = [:]
    var onClosed: (GRPCStatus) -> Void = { _ in }

    func received(_ message: ByteView) {
        do {
            replies.merge(try Reply.decode(message)) { _, new in
                Issue.record("two replies to a call")
                return new
            }
        } catch {
            Issue.record("\(error)")
        }
    }

    func closed(_ status: GRPCStatus) { onClosed(status) }
}

@Suite("Invoke", .serialized)
struct InvokeTests {
    private static let unary = "/orbit.v1.InvocationService/Invoke"

    /// A batch of calls; ids count from 1.
    private static func batch(_ calls: [(Method, String, [Bytes])], bookmark: Timestamp = .zero) -> Bytes {
        var encoder = InvocationBatchEncoder(session: 9)
        encoder.begin(bookmark: bookmark, schemaVersion: 0, mapEpoch: MapEpoch(rawValue: 1))
        for (index, call) in calls.enumerated() {
            let flat = call.2.flatMap { $0 }
            Bytes(call.1.utf8).withUnsafeBytes { key in
                flat.withUnsafeBytes { flat in
                    var views: [ByteView] = [], start = 0
                    for argument in call.2 {
                        views.append(ByteView(rebasing: flat[start..<start + argument.count]))
                        start += argument.count
                    }
                    views.withUnsafeBufferPointer { views in
                        encoder.append(
                            id: UInt64(index + 1), connection: 1, slot: UInt32(Slot.of(key).rawValue), method: call.0,
                            database: 0, key: key, flags: 0, numbers: .init(start: nil, count: 0), arguments: views)
                    }
                }
            }
        }
        return encoder.message.bytes
    }

    private static func decoded(_ result: Result<Bytes, GRPCStatus>) -> [UInt64: Reply]? {
        guard case .success(let bytes) = result else { return nil }
        return bytes.withUnsafeBytes { try? Reply.decode($0) }
    }

    private static func code(_ result: Result<Bytes, GRPCStatus>) -> GRPCStatus.Code? {
        if case .failure(let status) = result { status.code } else { nil }
    }

    /// Runs a story with a channel to the node.
    private func run(
        segmentBytes: Int = 4 << 20, _ begin: @escaping (Stage, GRPCClientChannel) -> Void
    ) throws {
        try Stage.withDirectory { directory in
            var channel: GRPCClientChannel?
            defer { _ = channel }
            try Stage.run(directory, shards: 2, settings: { $0.log.segmentBytes = segmentBytes }) { stage in
                let made = GRPCClientChannel(loop: stage.loop, address: stage.address, limits: InvocationStream.limits)
                channel = made
                begin(stage, made)
            }
        }
    }

    @Test("a unary batch is answered by one message, also when some replies wait for an entry and some do not")
    func unary() throws {
        try run { stage, channel in
            let calls: [(Method, String, [Bytes])] = [
                (.get, "none", []), (.set, "a", [[0x31]]), (.get, "a", []), (.set, "{b}", [[0x32]]), (.get, "c", []),
            ]
            channel.unary(path: Self.unary, request: Self.batch(calls)) { result in
                #expect(Self.decoded(result) == [1: .null, 2: .ok, 3: .text("1"), 4: .ok, 5: .null])
                channel.unary(path: Self.unary, request: []) { result in
                    #expect(Self.decoded(result) == [:])
                    channel.unary(path: Self.unary, request: [0xff, 0xff]) { result in
                        #expect(Self.code(result) == .invalidArgument)
                        channel.close()
                        stage.finish()
                    }
                }
            }
        }
    }

    @Test("a bookmark moves the node's clock; one that no clock of the cluster can have given is refused")
    func bookmarks() throws {
        try run { stage, channel in
            let near = Timestamp(milliseconds: SystemClock().wallMilliseconds() + 100)
            let far = Timestamp(milliseconds: near.milliseconds + 3_600_000)
            channel.unary(path: Self.unary, request: Self.batch([(.set, "a", [[0x31]])], bookmark: far)) { result in
                #expect(Self.decoded(result) == [1: .error(.invalidArgument)])
                channel.unary(path: Self.unary, request: Self.batch([(.get, "a", [])], bookmark: near)) { result in
                    #expect(Self.decoded(result) == [1: .null])
                    guard case .success(let bytes) = result else { return stage.finish() }
                    var decoder = ReplyBatchDecoder()
                    bytes.withUnsafeBytes { try? decoder.decode($0) { _ in } }
                    #expect(decoder.bookmark >= near && decoder.bookmark < far)
                    channel.close()
                    stage.finish()
                }
            }
        }
    }

    @Test("replies that one message cannot hold are an error of the call, not a silence")
    func tooLarge() throws {
        try run(segmentBytes: 32 << 20) { stage, channel in
            let value = Bytes(repeating: 0x78, count: 8 << 20)
            channel.unary(path: Self.unary, request: Self.batch([(.set, "a", [value])])) { result in
                guard case .success(let bytes) = result else { return #expect(Bool(false), "\(result)") }
                var decoder = ReplyBatchDecoder()
                bytes.withUnsafeBytes { try? decoder.decode($0) { #expect($0.kind == .ok, "\($0.error)") } }
                let reads = [(Method, String, [Bytes])](repeating: (.get, "a", []), count: 6)
                channel.unary(path: Self.unary, request: Self.batch(reads)) { result in
                    #expect(Self.code(result) == .resourceExhausted)
                    channel.unary(path: Self.unary, request: Self.batch([(.stringLength, "a", [])])) { result in
                        #expect(Self.decoded(result) == [1: .integer(Int64(value.count))])
                        channel.close()
                        stage.finish()
                    }
                }
            }
        }
    }

    @Test("a stream that its caller ends is ended when everything is answered; damage ends it at once")
    func streams() throws {
        try run { stage, channel in
            let first = RawStream(), second = RawStream()
            first.onClosed = { status in
                #expect(status.isOK && first.replies == [1: .ok, 2: .text("1"), 3: .null])
                let stream = channel.open(path: "/orbit.v1.InvocationService/Stream", handler: second)
                stream.send { $0.append(Bytes([0x2a, 0x7f, 1])) }
            }
            second.onClosed = { status in
                #expect(status.code == .invalidArgument && second.replies.isEmpty)
                channel.close()
                stage.finish()
            }
            let stream = channel.open(path: "/orbit.v1.InvocationService/Stream", handler: first)
            let calls: [(Method, String, [Bytes])] = [(.set, "a", [[0x31]]), (.get, "a", []), (.get, "b", [])]
            stream.send { $0.append(Self.batch(calls)) }
            stream.end()
        }
    }

    @Test("damaged batches: every call ends once, and the node goes on")
    func damage() throws {
        let seed = freshSeed("Invoke.damage")
        try run { stage, channel in
            var random = SplitMix64(seed: seed)
            let text = Bytes("12".utf8)
            let whole = Self.batch([
                (.set, "a", [text]), (.get, "a", []), (.hashSet, "h", [text, text]), (.append, "b", [text]),
                (.multiSet, "{x}1", [text, Bytes("{x}2".utf8), text]), (.incrementByFloat, "n", [text]),
                (.hashGetAll, "h", []), (.delete, "a", [Bytes("b".utf8)]), (.scan, "", []), (.bitField, "f", []),
            ])
            var messages = Damage.truncations(of: whole) + Damage.corruptions(of: whole, count: 700, using: &random)
            // Every method, without the arguments that it expects.
            messages.append(Self.batch(Method.allCases.map { ($0, "m", []) }))
            var ended = 0
            func next() {
                guard ended < messages.count else {
                    stage.caller.set("after", "1")
                    stage.caller.onOutcome = { _, outcome in
                        #expect(outcome == .reply(.ok))
                        channel.close()
                        stage.finish()
                    }
                    return
                }
                channel.unary(path: Self.unary, request: messages[ended]) { result in
                    // Damaged ids may be the same twice, so the replies are not told apart.
                    if let code = Self.code(result) { #expect(code == .invalidArgument, "message \(ended)") }
                    ended += 1
                    next()
                }
            }
            next()
        }
    }
}
