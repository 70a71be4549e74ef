// A small gRPC server for tests with foreign clients: methods of service `probe.Probe` that take and give plain bytes.
//
//     grpc-probe ADDRESS [CERTIFICATE KEY AUTHORITY]
//
// Prints the address in effect, serves until its standard input ends.
import Base
import Contracts
import Crypto
import Glibc
import Net
import ServiceKit

/// A handler out of closures.
final class ProbeHandler: GRPCStreamHandler {
    var onMessage: (ByteView) -> Void = { _ in }
    var onEnd: () -> Void = {}
    var onClosed: (GRPCStatus) -> Void = { _ in }

    func received(_ message: ByteView) { onMessage(message) }
    func receivedEnd() { onEnd() }

    func closed(_ status: GRPCStatus) {
        onClosed(status)
        (onMessage, onEnd, onClosed) = ({ _ in }, {}, { _ in })
    }
}

func text(_ view: ByteView) -> String { String(decoding: view, as: UTF8.self) }

func registerUnaryMethods(_ server: GRPCServer) {
    server.registerUnary(path: "/probe.Probe/Echo") { request, call in call.reply(request.bytes) }
    // "CODE message": ends so, with a trailer.
    server.registerUnary(path: "/probe.Probe/Fail") { request, call in
        let words = text(request).split(separator: " ", maxSplits: 1)
        let code = words.first.flatMap { UInt8($0) }.flatMap { GRPCStatus.Code(rawValue: $0) } ?? .unknown
        var trailers = GRPCMetadata()
        trailers.add("x-detail-bin", binary: [0, 1, 254, 255])
        call.stream.finish(GRPCStatus(code, words.count > 1 ? String(words[1]) : ""), trailers: trailers)
    }
    // Gives the caller's `x-` metadata back as headers.
    server.registerUnary(path: "/probe.Probe/Metadata") { request, call in
        var headers = GRPCMetadata()
        for entry in call.stream.metadata.entries where entry.name.hasPrefix("x-") {
            if entry.name.hasSuffix("-bin") {
                headers.add(entry.name, binary: entry.value)
            } else {
                headers.add(entry.name, String(decoding: entry.value, as: UTF8.self))
            }
        }
        call.stream.sendHeaders(headers)
        call.reply(Bytes())
    }
    server.registerUnary(path: "/probe.Probe/Peer") { _, call in
        let name =
            switch call.stream.peer {
            case .none: "none"
            case .process(let user, _, _): "user \(user)"
            case .certificate(let subject): subject.commonName ?? ""
            }
        call.reply(Bytes(name.utf8))
    }
}

func registerStreamingMethods(_ server: GRPCServer) {
    server.register(path: "/probe.Probe/Chat") { stream in
        let handler = ProbeHandler()
        handler.onMessage = { stream.send($0) }
        handler.onEnd = { stream.finish(.ok) }
        return handler
    }
    // "COUNT SIZE": that many messages of that size, as fast as they are taken.
    server.register(path: "/probe.Probe/Count") { stream in
        let handler = ProbeHandler()
        handler.onMessage = { message in
            let numbers = text(message).split(separator: " ").compactMap { Int($0) }
            guard numbers.count == 2 else { return stream.finish(GRPCStatus(.invalidArgument, "COUNT SIZE")) }
            let payload = Bytes(repeating: 7, count: min(max(numbers[1], 0), 1 << 20))
            for _ in 0..<min(max(numbers[0], 0), 1 << 16) { stream.send { $0.append(payload) } }
            stream.finish(.ok)
        }
        return handler
    }
    // Any number of messages: "COUNT BYTES" at the end.
    server.register(path: "/probe.Probe/Sum") { stream in
        let handler = ProbeHandler()
        var (count, bytes) = (0, 0)
        handler.onMessage = { message in
            count += 1
            bytes += message.count
        }
        handler.onEnd = {
            stream.send { $0.append(Bytes("\(count) \(bytes)".utf8)) }
            stream.finish(.ok)
        }
        return handler
    }
    // Never answers; how many calls of it ended is told by Ended.
    var ended = 0
    server.register(path: "/probe.Probe/Wait") { stream in
        let handler = ProbeHandler()
        handler.onClosed = { _ in ended += 1 }
        return handler
    }
    server.registerUnary(path: "/probe.Probe/Ended") { _, call in call.reply(Bytes("\(ended)".utf8)) }
}

func contents(of path: String) throws -> Bytes {
    let file = open(path, O_RDONLY)
    guard file >= 0 else { throw SystemError("open \(path)") }
    defer { close(file) }
    var bytes = Bytes(repeating: 0, count: 1 << 16)
    let count = read(file, &bytes, bytes.count)
    return Bytes(bytes.prefix(max(count, 0)))
}

func serve() throws {
    let arguments = CommandLine.arguments
    guard arguments.count == 2 || arguments.count == 5 else {
        throw DatabaseError(.invalidArgument, "usage: grpc-probe ADDRESS [CERTIFICATE KEY AUTHORITY]")
    }
    var tls: TLSContext?
    if arguments.count == 5 {
        tls = try TLSContext(
            TLSContext.Settings(
                role: .server, certificate: contents(of: arguments[2]), privateKey: contents(of: arguments[3]),
                authorities: contents(of: arguments[4]), applicationProtocols: ["h2"]))
    }
    let loop = try EventLoop()
    let server = GRPCServer(loop: loop)
    registerUnaryMethods(server)
    registerStreamingMethods(server)
    let health = HealthService()
    health.register(on: server)
    health.set(.serving)
    server.registerUnary(path: "/probe.Probe/SetHealth") { request, call in
        health.set(text(request) == "serving" ? .serving : .notServing, for: "probe.Probe")
        call.reply(Bytes())
    }
    ReflectionService.register(on: server)
    let listener = try server.listen(on: SocketAddress(parsing: arguments[1]), tls: tls)
    print(listener.boundAddress)
    fflush(nil)
    let watcher = InputEnd(loop)
    try loop.register(fd: 0, interest: .readable, source: watcher)
    loop.run()
}

/// Stops the loop when standard input ends.
final class InputEnd: EventSource {
    private let loop: EventLoop

    init(_ loop: EventLoop) { self.loop = loop }

    func ready(_ events: IOEvents) {
        var byte: UInt8 = 0
        if read(0, &byte, 1) <= 0 { loop.stop() }
    }
}

try serve()
