import Base
import Contracts
import Testing

@Suite("Standard messages")
struct StandardMessageTests {
    @Test("health messages have the wire form of grpc.health.v1")
    func health() throws {
        let request = HealthCheckRequest(service: "a.B")
        #expect(request.encode() == [0x0a, 3] + Bytes("a.B".utf8))
        #expect(try request.encode().withUnsafeBytes { try HealthCheckRequest(decoding: $0) } == request)
        #expect(HealthCheckRequest().encode() == [])
        let response = HealthCheckResponse(status: .serviceUnknown)
        #expect(response.encode() == [8, 3])
        #expect(try response.encode().withUnsafeBytes { try HealthCheckResponse(decoding: $0) } == response)
        #expect(try ([8, 77] as Bytes).withUnsafeBytes { try HealthCheckResponse(decoding: $0) }.status == .unknown)
    }

    private static let everyQuestion: [ReflectionRequest.Question] = [
        .fileByName("invocation.proto"), .fileContainingSymbol("orbit.v1.Reply"),
        .fileContainingExtension(type: "a.B", number: -7), .extensionNumbers(ofType: "a.B"), .services, .none,
    ]

    @Test("reflection questions survive the wire", arguments: everyQuestion)
    func questions(_ question: ReflectionRequest.Question) throws {
        let request = ReflectionRequest(host: "höst", question: question)
        #expect(try request.encode().withUnsafeBytes { try ReflectionRequest(decoding: $0) } == request)
    }

    private static let everyAnswer: [ReflectionResponse.Answer] = [
        .files([[1, 2, 3], [], Bytes(repeating: 9, count: 5000)]), .files([]),
        .extensionNumbers(type: "a.B", [1, -2, 3]), .services(["a", "b.C"]), .error(code: 5, message: "nicht da"),
        .none,
    ]

    @Test("reflection answers survive the wire", arguments: everyAnswer)
    func answers(_ answer: ReflectionResponse.Answer) throws {
        let request = ReflectionRequest(host: "h", question: .fileContainingSymbol("x"))
        let response = ReflectionResponse(to: request, answer)
        #expect(try response.encode().withUnsafeBytes { try ReflectionResponse(decoding: $0) } == response)
    }

    @Test("truncated and corrupted messages are refused or read, never a trap", arguments: [UInt64(1), 2, 3])
    func hostile(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let request = ReflectionRequest(host: "h", question: .fileContainingExtension(type: "a.B", number: 1))
        let samples = Self.everyAnswer.map { ReflectionResponse(to: request, $0).encode() } + [request.encode()]
        for sample in samples where !sample.isEmpty {
            for length in 0..<min(sample.count, 200) { decodeAll(Bytes(sample[..<length])) }
            for _ in 0..<300 {
                var bytes = sample
                for _ in 0..<3 {
                    bytes[Int(random.next(below: UInt64(bytes.count)))] = UInt8(truncatingIfNeeded: random.next())
                }
                decodeAll(bytes)
            }
        }
    }

    private func decodeAll(_ bytes: Bytes) {
        bytes.withUnsafeBytes { view in
            _ = try? ReflectionResponse(decoding: view)
            _ = try? ReflectionRequest(decoding: view)
            _ = try? HealthCheckRequest(decoding: view)
            _ = try? HealthCheckResponse(decoding: view)
            _ = DescriptorSet(view).files.count
        }
    }

    @Test("the embedded schema knows its files, symbols and imports")
    func descriptors() throws {
        let set = DescriptorSet.embedded
        let names = set.files.map(\.name)
        for name in [
            "common.proto", "health.proto", "invocation.proto", "reflection.proto", "reflection_v1alpha.proto",
        ] {
            #expect(names.contains(name))
        }
        let file = try #require(set.file(containing: "orbit.v1.InvocationService"))
        #expect(file.name == "invocation.proto")
        #expect(set.closure(of: file).map(\.name) == ["invocation.proto", "common.proto"])
        for symbol in [
            "orbit.v1.InvocationService.Invoke", "orbit.v1.RecordOperation.Kind", "orbit.v1.Consistency",
            "orbit.v1.Error",
            "grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc.reflection.v1alpha.ServerReflection",
        ] {
            #expect(set.file(containing: symbol) != nil, "\(symbol)")
        }
        #expect(set.file(containing: "orbit.v1") == nil)
        #expect(set.file(named: "absent.proto") == nil)
    }

    @Test("a broken descriptor set is read as far as it goes")
    func brokenDescriptors() {
        var bytes: Bytes = []
        for file in DescriptorSet.embedded.files {
            bytes += [0x0a] + varint(file.bytes.count) + file.bytes
        }
        var random = SplitMix64(seed: 4)
        for _ in 0..<200 {
            var copy = bytes
            for _ in 0..<10 {
                copy[Int(random.next(below: UInt64(copy.count)))] = UInt8(truncatingIfNeeded: random.next())
            }
            copy.withUnsafeBytes { view in
                let set = DescriptorSet(view)
                for file in set.files { #expect(!set.closure(of: file).isEmpty) }
            }
        }
    }

    private func varint(_ value: Int) -> Bytes {
        var buffer = ByteBuffer()
        buffer.append(varint: UInt64(value))
        return buffer.readable.bytes
    }
}
