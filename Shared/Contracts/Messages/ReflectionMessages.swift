import Base
import CProto

/// `grpc.reflection.v1.ServerReflectionRequest`; version v1alpha has the same wire form.
package struct ReflectionRequest: Hashable, Sendable {
    /// What is asked.
    package enum Question: Hashable, Sendable {
        case fileByName(String)
        case fileContainingSymbol(String)
        case fileContainingExtension(type: String, number: Int32)
        case extensionNumbers(ofType: String)
        case services
        /// None set, or one of a later version.
        case none
    }

    package var host: String
    package var question: Question

    package init(host: String = "", question: Question) {
        self.host = host
        self.question = question
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, grpc__reflection__v1__server_reflection_request__unpack,
            grpc__reflection__v1__server_reflection_request__free_unpacked
        ) { message throws(DatabaseError) in ReflectionRequest(message) }
    }

    fileprivate init(_ message: Grpc__Reflection__V1__ServerReflectionRequest) {
        host = Protobuf.text(message.host)
        switch message.message_request_case {
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
            question = .fileByName(Protobuf.text(message.file_by_filename))
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
            question = .fileContainingSymbol(Protobuf.text(message.file_containing_symbol))
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION:
            let wanted = message.file_containing_extension?.pointee
            question = .fileContainingExtension(
                type: Protobuf.text(wanted?.containing_type), number: wanted?.extension_number ?? 0)
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE:
            question = .extensionNumbers(ofType: Protobuf.text(message.all_extension_numbers_of_type))
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
            question = .services
        default:  // C's enumeration, not ours: an unknown case is a question of a later version.
            question = .none
        }
    }

    package func encode() -> Bytes { Protobuf.encode(build) }

    func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Grpc__Reflection__V1__ServerReflectionRequest> {
        arena.make(grpc__reflection__v1__server_reflection_request__init) { message in
            message.host = arena.text(host)
            switch question {
            case .fileByName(let name):
                message.message_request_case =
                    GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME
                message.file_by_filename = arena.text(name)
            case .fileContainingSymbol(let symbol):
                message.message_request_case =
                    GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL
                message.file_containing_symbol = arena.text(symbol)
            case .fileContainingExtension(let type, let number):
                message.message_request_case =
                    GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_EXTENSION
                message.file_containing_extension = arena.make(grpc__reflection__v1__extension_request__init) {
                    $0.containing_type = arena.text(type)
                    $0.extension_number = number
                }
            case .extensionNumbers(let type):
                message.message_request_case =
                    GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_ALL_EXTENSION_NUMBERS_OF_TYPE
                message.all_extension_numbers_of_type = arena.text(type)
            case .services:
                message.message_request_case =
                    GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES
                message.list_services = arena.text("*")
            case .none: break
            }
        }
    }
}

/// `grpc.reflection.v1.ServerReflectionResponse`.
package struct ReflectionResponse: Hashable, Sendable {
    /// What is answered.
    package enum Answer: Hashable, Sendable {
        /// Serialized `FileDescriptorProto`s: the file asked for, then what it imports.
        case files([Bytes])
        case extensionNumbers(type: String, [Int32])
        case services([String])
        /// A gRPC status code.
        case error(code: Int32, message: String)
        case none
    }

    package var request: ReflectionRequest
    package var answer: Answer

    package init(to request: ReflectionRequest, _ answer: Answer) {
        self.request = request
        self.answer = answer
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, grpc__reflection__v1__server_reflection_response__unpack,
            grpc__reflection__v1__server_reflection_response__free_unpacked
        ) { message throws(DatabaseError) in ReflectionResponse(message) }
    }

    private init(_ message: Grpc__Reflection__V1__ServerReflectionResponse) {
        request = message.original_request.map { ReflectionRequest($0.pointee) } ?? ReflectionRequest(question: .none)
        switch message.message_response_case {
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE:
            let list = message.file_descriptor_response?.pointee
            let files = UnsafeBufferPointer(
                start: list?.file_descriptor_proto, count: list?.n_file_descriptor_proto ?? 0)
            answer = .files(files.map(Protobuf.bytes))
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE:
            let list = message.all_extension_numbers_response?.pointee
            let numbers = UnsafeBufferPointer(start: list?.extension_number, count: list?.n_extension_number ?? 0)
            answer = .extensionNumbers(type: Protobuf.text(list?.base_type_name), Array(numbers))
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE:
            let list = message.list_services_response?.pointee
            let services = UnsafeBufferPointer(start: list?.service, count: list?.n_service ?? 0)
            answer = .services(services.map { Protobuf.text($0?.pointee.name) })
        case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE:
            let error = message.error_response?.pointee
            answer = .error(code: error?.error_code ?? 0, message: Protobuf.text(error?.error_message))
        default:  // C's enumeration, not ours: nothing set.
            answer = .none
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(grpc__reflection__v1__server_reflection_response__init) { message in
                message.valid_host = arena.text(request.host)
                message.original_request = request.build(arena)
                fill(&message, arena)
            }
        }
    }

    private func fill(_ message: inout Grpc__Reflection__V1__ServerReflectionResponse, _ arena: ProtobufArena) {
        switch answer {
        case .files(let files):
            message.message_response_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE
            message.file_descriptor_response = arena.make(grpc__reflection__v1__file_descriptor_response__init) {
                $0.n_file_descriptor_proto = files.count
                $0.file_descriptor_proto = arena.array(files.map(arena.data))
            }
        case .extensionNumbers(let type, let numbers):
            message.message_response_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE
            message.all_extension_numbers_response = arena.make(grpc__reflection__v1__extension_number_response__init) {
                $0.base_type_name = arena.text(type)
                $0.n_extension_number = numbers.count
                $0.extension_number = arena.array(numbers)
            }
        case .services(let names):
            message.message_response_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE
            message.list_services_response = arena.make(grpc__reflection__v1__list_service_response__init) {
                $0.n_service = names.count
                $0.service = arena.array(
                    names.map { name in
                        arena.make(grpc__reflection__v1__service_response__init) { $0.name = arena.text(name) }
                    })
            }
        case .error(let code, let text):
            message.message_response_case =
                GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE
            message.error_response = arena.make(grpc__reflection__v1__error_response__init) {
                $0.error_code = code
                $0.error_message = arena.text(text)
            }
        case .none: break
        }
    }
}
