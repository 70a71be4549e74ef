import Base
import CProto

/// Where the methods of `orbit.v1.SagaService` are.
package enum SagaPath {
    package static let service = "orbit.v1.SagaService"
    package static let start = "/orbit.v1.SagaService/Start"
    package static let get = "/orbit.v1.SagaService/Get"
    package static let list = "/orbit.v1.SagaService/List"
    package static let cancel = "/orbit.v1.SagaService/Cancel"
    package static let retry = "/orbit.v1.SagaService/Retry"
    package static let delete = "/orbit.v1.SagaService/Delete"
}

/// Asks for a saga to begin.
package struct StartSagaRequest: Hashable, Sendable {
    /// A step, its calls as encoded `CallBatch`es.
    package struct Step: Hashable, Sendable {
        package var name: String
        package var action: Bytes
        package var compensation: Bytes?

        package init(name: String = "", action: Bytes, compensation: Bytes?) {
            (self.name, self.action, self.compensation) = (name, action, compensation)
        }
    }

    package var id: String
    package var steps: [Step]
    /// 0: as many as the node likes.
    package var maximumAttempts: UInt32

    package init(id: String, steps: [Step], maximumAttempts: UInt32 = 0) {
        (self.id, self.steps, self.maximumAttempts) = (id, steps, maximumAttempts)
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__start_saga_request__unpack, orbit__v1__start_saga_request__free_unpacked
        ) { message throws(DatabaseError) in
            StartSagaRequest(
                id: Protobuf.text(message.id),
                steps: Protobuf.messages(message.steps, message.n_steps).map { step in
                    Step(
                        name: Protobuf.text(step.name), action: Self.packed(step.action) ?? [],
                        compensation: Self.packed(step.compensation))
                },
                maximumAttempts: message.maximum_attempts)
        }
    }

    /// The calls as they were sent, in the one form that protobuf-c gives them.
    private static func packed(_ batch: UnsafeMutablePointer<Orbit__V1__CallBatch>?) -> Bytes? {
        guard let batch else { return nil }
        let size = orbit__v1__call_batch__get_packed_size(batch)
        return Bytes(unsafeUninitializedCapacity: size) { room, count in
            count = size == 0 ? 0 : orbit__v1__call_batch__pack(batch, room.baseAddress)
        }
    }
}

/// Names a saga; of Retry also whether it is forced.
package struct SagaRequest: Hashable, Sendable {
    package var id: String
    package var isForced = false

    package init(id: String, isForced: Bool = false) { (self.id, self.isForced) = (id, isForced) }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(bytes, orbit__v1__saga_request__unpack, orbit__v1__saga_request__free_unpacked) {
            message throws(DatabaseError) in SagaRequest(id: Protobuf.text(message.id))
        }
    }

    package init(decodingRetry bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__retry_saga_request__unpack, orbit__v1__retry_saga_request__free_unpacked
        ) { message throws(DatabaseError) in
            SagaRequest(id: Protobuf.text(message.id), isForced: message.force != 0)
        }
    }
}

/// A saga as it stands.
package struct SagaInfo: Hashable, Sendable {
    package var id: String
    /// `SagaStatus` of the wire contract.
    package var status: UInt8
    package var steps = 0, stepsDone = 0
    package var attempts: UInt32 = 0
    package var reason = ""
    package var isCancelled = false
    /// Milliseconds since 1970.
    package var createdAt: UInt64 = 0, updatedAt: UInt64 = 0
    package var shard: UInt32 = 0

    package init(id: String, status: UInt8) { (self.id, self.status) = (id, status) }

    func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__SagaInfo>? {
        arena.make(orbit__v1__saga_info__init) {
            $0.id = arena.text(id)
            $0.status = Orbit__V1__SagaStatus(UInt32(status))
            ($0.steps, $0.steps_done) = (UInt32(clamping: steps), UInt32(clamping: stepsDone))
            ($0.attempts, $0.reason, $0.cancelled) = (attempts, arena.text(reason), isCancelled ? 1 : 0)
            ($0.created_ms, $0.updated_ms, $0.shard) = (createdAt, updatedAt, shard)
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            // A message that is made is there.
            build(arena) ?? arena.make(orbit__v1__saga_info__init)
        }
    }
}

/// Asks for a page of sagas.
package struct ListSagasRequest: Hashable, Sendable {
    /// 0: as many as the node likes.
    package var pageSize: UInt32
    /// Empty: from the beginning.
    package var pageToken: Bytes
    /// Empty: all.
    package var statuses: [UInt32]

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__list_sagas_request__unpack, orbit__v1__list_sagas_request__free_unpacked
        ) { message throws(DatabaseError) in
            let statuses = UnsafeBufferPointer(
                start: message.statuses, count: message.statuses == nil ? 0 : message.n_statuses)
            return ListSagasRequest(
                pageSize: message.page_size, pageToken: Protobuf.bytes(message.page_token),
                statuses: statuses.map { UInt32(truncatingIfNeeded: $0.rawValue) })
        }
    }

    package init(pageSize: UInt32, pageToken: Bytes, statuses: [UInt32]) {
        (self.pageSize, self.pageToken, self.statuses) = (pageSize, pageToken, statuses)
    }
}

/// A page of sagas.
package struct ListSagasResponse: Hashable, Sendable {
    package var sagas: [SagaInfo]
    /// Empty: there is no more.
    package var nextPageToken: Bytes

    package init(sagas: [SagaInfo], nextPageToken: Bytes) { (self.sagas, self.nextPageToken) = (sagas, nextPageToken) }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__list_sagas_response__init) {
                ($0.sagas, $0.n_sagas) = (arena.array(sagas.map { $0.build(arena) }), sagas.count)
                $0.next_page_token = arena.data(nextPageToken)
            }
        }
    }
}

/// Says whether there was a saga to be deleted.
package struct DeleteSagaResponse: Hashable, Sendable {
    package var wasDeleted: Bool

    package init(wasDeleted: Bool) { self.wasDeleted = wasDeleted }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__delete_saga_response__init) { $0.deleted = wasDeleted ? 1 : 0 }
        }
    }
}
