import Base
import CProto

/// A type of DataModel as it travels: `DataType`'s kind by number, its modifier, and whether it is an array.
package struct ValueTypeForm: Hashable, Sendable {
    package var kind: UInt8
    package var modifier: Int32
    package var isArray: Bool

    package init(kind: UInt8, modifier: Int32, isArray: Bool) {
        (self.kind, self.modifier, self.isArray) = (kind, modifier, isArray)
    }

    /// A kind above 255 is no type of any release; it reads as 255, which is none either.
    init(_ message: UnsafeMutablePointer<Orbit__V1__ValueType>?) {
        self.init(
            kind: UInt8(clamping: message?.pointee.kind ?? 0), modifier: message?.pointee.modifier ?? -1,
            isArray: message?.pointee.is_array ?? 0 != 0)
    }

    func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__ValueType> {
        arena.make(orbit__v1__value_type__init) { message in
            message.kind = UInt32(kind)
            message.modifier = modifier
            message.is_array = isArray ? 1 : 0
        }
    }
}

/// The last number that a session has of a sequence.
package struct SequenceNumber: Hashable, Sendable {
    package var sequence: UInt32
    package var number: Int64
    /// nextval gave it; of what travels with a request: nothing was drawn later from another sequence.
    package var isDrawn: Bool

    package init(_ sequence: UInt32, _ number: Int64, isDrawn: Bool) {
        (self.sequence, self.number, self.isDrawn) = (sequence, number, isDrawn)
    }

    init(_ message: Orbit__V1__SequenceNumber) {
        self.init(message.sequence, message.number, isDrawn: message.is_drawn != 0)
    }

    func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__SequenceNumber> {
        arena.make(orbit__v1__sequence_number__init) { message in
            (message.sequence, message.number, message.is_drawn) = (sequence, number, isDrawn ? 1 : 0)
        }
    }
}

/// What a gateway wants of a statement (Proto/query.proto says what the fields mean).
package struct QueryRequest: Hashable, Sendable {
    package enum Kind: UInt32, Hashable, Sendable {
        case execute = 0, prepare = 1, fetch = 2, close = 3, cancel = 4, command = 5, wait = 6, reclaim = 7
    }

    /// The value of a parameter, as the client wrote it.
    package struct Parameter: Hashable, Sendable {
        /// Nil: null.
        package var value: Bytes?
        package var isBinary: Bool

        package init(_ value: Bytes?, isBinary: Bool = false) { (self.value, self.isBinary) = (value, isBinary) }
    }

    /// A setting of the session.
    package struct Setting: Hashable, Sendable {
        package var name: String, value: String

        package init(_ name: String, _ value: String) { (self.name, self.value) = (name, value) }
    }

    /// Parameters of a statement; PostgreSQL counts them in 16 bits.
    package static let parameterLimit = 65_535

    package var kind: Kind
    package var fingerprint: Bytes = []
    package var plan: Bytes = []
    package var parameterTypes: [ValueTypeForm] = []
    package var parameters: [Parameter] = []
    package var rowLimit: UInt32 = 0
    package var cursor: UInt64 = 0
    package var wantsColumns = false
    package var settings: [Setting] = []
    package var statement: UInt64 = 0
    package var rows: [Bytes] = []
    package var lockTimeout: UInt32 = 0
    package var sequences: [SequenceNumber] = []
    package var rewrites = false

    package init(_ kind: Kind) { self.kind = kind }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            let parameters = self.parameters.map { parameter in
                Optional(
                    arena.make(orbit__v1__query_parameter__init) { message in
                        message.is_null = parameter.value == nil ? 1 : 0
                        message.value = arena.data(parameter.value ?? [])
                        message.format = Orbit__V1__QueryParameter__Format(rawValue: parameter.isBinary ? 1 : 0)
                    })
            }
            let sequences = self.sequences.map { Optional($0.build(arena)) }
            let settings = self.settings.map { setting in
                Optional(
                    arena.make(orbit__v1__setting__init) { message in
                        message.name = arena.text(setting.name)
                        message.value = arena.text(setting.value)
                    })
            }
            return arena.make(orbit__v1__query_request__init) { message in
                message.kind = Orbit__V1__QueryRequest__Kind(rawValue: kind.rawValue)
                message.fingerprint = arena.data(fingerprint)
                message.plan = arena.data(plan)
                message.parameter_types = arena.array(parameterTypes.map { Optional($0.build(arena)) })
                message.n_parameter_types = parameterTypes.count
                message.parameters = arena.array(parameters)
                message.n_parameters = parameters.count
                message.row_limit = rowLimit
                message.cursor = cursor
                message.wants_columns = wantsColumns ? 1 : 0
                message.settings = arena.array(settings)
                message.n_settings = settings.count
                message.statement = statement
                message.rows = arena.array(rows.map(arena.data))
                message.n_rows = rows.count
                message.lock_timeout = lockTimeout
                message.sequences = arena.array(sequences)
                message.n_sequences = sequences.count
                message.rewrites = rewrites ? 1 : 0
            }
        }
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__query_request__unpack, orbit__v1__query_request__free_unpacked
        ) { message throws(DatabaseError) in
            guard let kind = Kind(rawValue: message.kind.rawValue) else {
                throw DatabaseError(.featureNotSupported, "a kind of statement request that this node does not know")
            }
            guard message.n_parameters <= Self.parameterLimit, message.n_parameter_types <= Self.parameterLimit else {
                throw DatabaseError(.limitExceeded, "a statement takes at most \(Self.parameterLimit) parameters")
            }
            var request = QueryRequest(kind)
            request.fingerprint = Protobuf.bytes(message.fingerprint)
            request.plan = Protobuf.bytes(message.plan)
            request.parameterTypes = UnsafeBufferPointer(
                start: message.parameter_types, count: message.n_parameter_types
            ).map { ValueTypeForm($0) }
            request.parameters = Protobuf.messages(message.parameters, message.n_parameters).map { parameter in
                Parameter(
                    parameter.is_null != 0 ? nil : Protobuf.bytes(parameter.value),
                    isBinary: parameter.format.rawValue == 1)
            }
            request.rowLimit = message.row_limit
            request.cursor = message.cursor
            request.wantsColumns = message.wants_columns != 0
            request.settings = Protobuf.messages(message.settings, message.n_settings).map { setting in
                Setting(Protobuf.text(setting.name), Protobuf.text(setting.value))
            }
            request.statement = message.statement
            request.rows = Protobuf.byteStrings(message.rows, message.n_rows)
            request.lockTimeout = message.lock_timeout
            request.sequences = Protobuf.messages(message.sequences, message.n_sequences).map(SequenceNumber.init)
            request.rewrites = message.rewrites != 0
            return request
        }
    }
}

extension QueryRequest.Setting {
    /// Says as which role of the catalog the user has logged in: if that is gone, the statement has no rights. Nothing
    /// that a client can set is called so.
    package static let roleNumber = "role number"
}
