import Base
import CProto

/// What a node answers to a `QueryRequest` (Proto/query.proto says what the fields mean).
package struct QueryReply: Hashable, Sendable {
    /// A column of the rows.
    package struct Column: Hashable, Sendable {
        package var name: String
        package var type: ValueTypeForm
        package var collection: UInt32, column: UInt32

        package init(name: String, type: ValueTypeForm, collection: UInt32 = 0, column: UInt32 = 0) {
            (self.name, self.type, self.collection, self.column) = (name, type, collection, column)
        }
    }

    /// An error or a notice; texts that are empty are not there.
    package struct Notice: Hashable, Sendable {
        package var severity: String
        package var error: StatementError

        package init(severity: String, _ error: StatementError) { (self.severity, self.error) = (severity, error) }
    }

    /// A statement that the shard of its one record carries out.
    package struct Point: Hashable, Sendable {
        package enum KeyPart: Hashable, Sendable {
            /// The value of a parameter (from 0), encoded as the column's type.
            case parameter(Int, column: ValueTypeForm)
            /// Encoded already.
            case constant(Bytes)
            /// The number of a new row, of a collection without a primary key: whoever calls takes one by chance.
            case fresh
        }

        package var program: Bytes
        package var collection: UInt32
        package var version: UInt64
        package var writes: Bool
        package var key: [KeyPart]

        package init(program: Bytes, collection: UInt32, version: UInt64, writes: Bool, key: [KeyPart]) {
            (self.program, self.collection, self.version) = (program, collection, version)
            (self.writes, self.key) = (writes, key)
        }
    }

    package var isUnknown = false
    package var parameterTypes: [ValueTypeForm] = []
    /// Nil: not asked for, or the statement gives no rows (`givesRows`).
    package var columns: [Column] = []
    package var givesRows = false
    package var rows: [Bytes] = []
    package var cursor: UInt64 = 0
    package var tag = ""
    package var count: UInt64?
    package var notices: [Notice] = []
    package var error: Notice?
    package var point: Point?
    /// What rows the plan's input takes; empty if it has none.
    package var inputs: [Column] = []
    package var isPending = false
    package var sequences: [SequenceNumber] = []

    package init() {}

    package init(error: StatementError) { self.error = Notice(severity: "ERROR", error) }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            let columns = self.columns.map { Optional($0.build(arena)) }
            let sequences = self.sequences.map { Optional($0.build(arena)) }
            let inputs = self.inputs.map { Optional($0.build(arena)) }
            return arena.make(orbit__v1__query_reply__init) { message in
                message.is_unknown = isUnknown ? 1 : 0
                message.parameter_types = arena.array(parameterTypes.map { Optional($0.build(arena)) })
                message.n_parameter_types = parameterTypes.count
                message.columns = arena.array(columns)
                message.n_columns = columns.count
                message.has_columns = givesRows ? 1 : 0
                message.rows = arena.array(rows.map(arena.data))
                message.n_rows = rows.count
                message.cursor = cursor
                message.tag = arena.text(tag)
                message.has_count = count == nil ? 0 : 1
                message.count = count ?? 0
                message.notices = arena.array(notices.map { Optional($0.build(arena)) })
                message.n_notices = notices.count
                message.error = error?.build(arena)
                message.point = point?.build(arena)
                message.inputs = arena.array(inputs)
                message.n_inputs = inputs.count
                message.is_pending = isPending ? 1 : 0
                message.sequences = arena.array(sequences)
                message.n_sequences = sequences.count
            }
        }
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(bytes, orbit__v1__query_reply__unpack, orbit__v1__query_reply__free_unpacked) {
            message throws(DatabaseError) in
            var reply = QueryReply()
            reply.isUnknown = message.is_unknown != 0
            reply.parameterTypes = UnsafeBufferPointer(
                start: message.parameter_types, count: message.n_parameter_types
            ).map { ValueTypeForm($0) }
            reply.columns = Protobuf.messages(message.columns, message.n_columns).map(Column.init)
            reply.inputs = Protobuf.messages(message.inputs, message.n_inputs).map(Column.init)
            reply.givesRows = message.has_columns != 0
            reply.rows = Protobuf.byteStrings(message.rows, message.n_rows)
            reply.cursor = message.cursor
            reply.tag = Protobuf.text(message.tag)
            reply.count = message.has_count != 0 ? message.count : nil
            reply.notices = Protobuf.messages(message.notices, message.n_notices).map(Notice.init)
            reply.error = (message.error?.pointee).map(Notice.init)
            reply.point = (message.point?.pointee).map(Point.init)
            reply.isPending = message.is_pending != 0
            reply.sequences = Protobuf.messages(message.sequences, message.n_sequences).map(SequenceNumber.init)
            return reply
        }
    }
}

extension QueryReply.Column {
    fileprivate init(_ message: Orbit__V1__QueryColumn) {
        self.init(
            name: Protobuf.text(message.name), type: ValueTypeForm(message.type), collection: message.collection,
            column: message.column)
    }

    fileprivate func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__QueryColumn> {
        arena.make(orbit__v1__query_column__init) { message in
            message.name = arena.text(name)
            message.type = type.build(arena)
            message.collection = collection
            message.column = column
        }
    }
}

extension QueryReply.Notice {
    fileprivate init(_ message: Orbit__V1__QueryNotice) {
        func optional(_ pointer: UnsafePointer<CChar>?) -> String? {
            let text = Protobuf.text(pointer)
            return text.isEmpty ? nil : text
        }
        var error = StatementError(
            SQLState(rawValue: Protobuf.text(message.state)), Protobuf.text(message.message))
        error.detail = optional(message.detail)
        error.hint = optional(message.hint)
        error.position = Int(message.position)
        error.schema = optional(message.schema)
        error.table = optional(message.table)
        error.column = optional(message.column)
        error.dataType = optional(message.data_type)
        error.constraint = optional(message.constraint)
        error.context = optional(message.context)
        error.row = Int(message.row)
        self.init(severity: Protobuf.text(message.severity), error)
    }

    fileprivate func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__QueryNotice> {
        arena.make(orbit__v1__query_notice__init) { message in
            message.severity = arena.text(severity)
            message.state = arena.text(error.state.rawValue)
            message.message = arena.text(error.message)
            message.detail = arena.text(error.detail ?? "")
            message.hint = arena.text(error.hint ?? "")
            message.position = UInt32(clamping: error.position)
            message.schema = arena.text(error.schema ?? "")
            message.table = arena.text(error.table ?? "")
            message.column = arena.text(error.column ?? "")
            message.data_type = arena.text(error.dataType ?? "")
            message.constraint = arena.text(error.constraint ?? "")
            message.context = arena.text(error.context ?? "")
            message.row = UInt32(clamping: error.row)
        }
    }
}

extension QueryReply.Point {
    fileprivate init(_ message: Orbit__V1__QueryPoint) {
        let key = Protobuf.messages(message.key, message.n_key).map { part in
            if part.is_fresh != 0 { return KeyPart.fresh }
            return part.parameter == 0
                ? .constant(Protobuf.bytes(part.constant))
                : .parameter(Int(part.parameter) - 1, column: ValueTypeForm(part.column))
        }
        self.init(
            program: Protobuf.bytes(message.program), collection: message.collection, version: message.version,
            writes: message.writes != 0, key: key)
    }

    fileprivate func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__QueryPoint> {
        let parts = key.map { part in
            Optional(
                arena.make(orbit__v1__query_key_part__init) { message in
                    switch part {
                    case .parameter(let index, let column):
                        message.parameter = UInt32(clamping: index + 1)
                        message.column = column.build(arena)
                    case .constant(let bytes): message.constant = arena.data(bytes)
                    case .fresh: message.is_fresh = 1
                    }
                })
        }
        return arena.make(orbit__v1__query_point__init) { message in
            message.program = arena.data(program)
            message.collection = collection
            message.version = version
            message.writes = writes ? 1 : 0
            message.key = arena.array(parts)
            message.n_key = parts.count
        }
    }
}
