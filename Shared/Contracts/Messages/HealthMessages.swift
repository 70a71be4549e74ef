import Base
import CProto

/// `grpc.health.v1.HealthCheckRequest`: which service; empty for the server as a whole.
package struct HealthCheckRequest: Hashable, Sendable {
    package var service: String

    package init(service: String = "") { self.service = service }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        service = try Protobuf.decode(
            bytes, grpc__health__v1__health_check_request__unpack, grpc__health__v1__health_check_request__free_unpacked
        ) { message throws(DatabaseError) in Protobuf.text(message.service) }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(grpc__health__v1__health_check_request__init) { $0.service = arena.text(service) }
        }
    }
}

/// `grpc.health.v1.HealthCheckResponse`.
package struct HealthCheckResponse: Hashable, Sendable {
    /// The numbers are the wire form.
    package enum Status: UInt32, Hashable, Sendable {
        case unknown = 0, serving, notServing
        /// Answered by Watch for a service that is not there (yet).
        case serviceUnknown
    }

    package var status: Status

    package init(status: Status) { self.status = status }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        let number = try Protobuf.decode(
            bytes, grpc__health__v1__health_check_response__unpack,
            grpc__health__v1__health_check_response__free_unpacked
        ) { message throws(DatabaseError) in message.status.rawValue }
        status = Status(rawValue: UInt32(truncatingIfNeeded: number)) ?? .unknown
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(grpc__health__v1__health_check_response__init) {
                $0.status = Grpc__Health__V1__HealthCheckResponse__ServingStatus(rawValue: .init(status.rawValue))
            }
        }
    }
}
