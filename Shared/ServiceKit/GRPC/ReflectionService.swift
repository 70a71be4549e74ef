import Base
import Contracts
import Net

/// Server reflection (`grpc.reflection.v1`, and `v1alpha` for older tools): tells a client without our .proto files
/// what it can call and how.
package enum ReflectionService {
    /// Offers reflection over what `server` serves.
    package static func register(on server: GRPCServer, descriptors: DescriptorSet = .embedded) {
        for version in ["v1", "v1alpha"] {
            let path = "/grpc.reflection.\(version).ServerReflection/ServerReflectionInfo"
            server.register(path: path) { [services = server.services] stream in
                ReflectionCall(stream, services, descriptors)
            }
        }
    }

    /// The answer to one question.
    static func answer(
        _ request: ReflectionRequest, services: [String], descriptors: DescriptorSet
    ) -> ReflectionResponse {
        func files(_ file: DescriptorSet.File?, _ missing: String) -> ReflectionResponse.Answer {
            guard let file else { return error(.notFound, missing) }
            return .files(descriptors.closure(of: file).map(\.bytes))
        }
        func error(_ code: GRPCStatus.Code, _ message: String) -> ReflectionResponse.Answer {
            .error(code: Int32(code.rawValue), message: message)
        }
        let answer: ReflectionResponse.Answer =
            switch request.question {
            case .fileByName(let name): files(descriptors.file(named: name), "no file \(name)")
            case .fileContainingSymbol(let symbol): files(descriptors.file(containing: symbol), "no symbol \(symbol)")
            case .fileContainingExtension(let type, let number):
                // Proto/ has no extensions: proto3 knows them for options only.
                error(.notFound, "no extension \(number) of \(type)")
            case .extensionNumbers(let type):
                descriptors.file(containing: type) == nil
                    ? error(.notFound, "no type \(type)") : .extensionNumbers(type: type, [])
            case .services: .services(services)
            case .none: error(.invalidArgument, "a request without a question")
            }
        return ReflectionResponse(to: request, answer)
    }
}

/// One reflection stream: answers in the order of the questions.
private final class ReflectionCall: GRPCStreamHandler {
    private let stream: GRPCServerStream
    private let services: GRPCServices
    private let descriptors: DescriptorSet

    init(_ stream: GRPCServerStream, _ services: GRPCServices, _ descriptors: DescriptorSet) {
        (self.stream, self.services, self.descriptors) = (stream, services, descriptors)
    }

    func received(_ message: ByteView) {
        // Questions are tiny and answers are not: who asks without reading is refused.
        guard stream.isWritable else {
            stream.finish(GRPCStatus(.resourceExhausted, "answers are not read"))
            return
        }
        do throws(DatabaseError) {
            let request = try ReflectionRequest(decoding: message)
            let response = ReflectionService.answer(
                request, services: services.serviceNames, descriptors: descriptors)
            stream.send { $0.append(response.encode()) }
        } catch {
            stream.finish(GRPCStatus(error))
        }
    }

    func receivedEnd() { stream.finish(.ok) }

    func closed(_ status: GRPCStatus) {}
}
