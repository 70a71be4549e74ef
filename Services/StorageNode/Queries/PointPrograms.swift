import Actors
import Base
import Contracts
import Crypto
import DataModel
import Engine

/// The programs of statements on single records that this node knows (`Engine.PointProgram`), by name: the shards that
/// it leads evaluate them as calls of their own.
///
/// A name says everything that a program depends on beside the catalog: the statement, the types of its parameters, the
/// settings and the user. So a gateway may send it to any node; one that does not know it, or knows it by another
/// version of the collection, says so and does nothing. A program is kept as long as the plan that it was made from.
final class PointPrograms: RowPrograms {
    /// The first 16 bytes of a digest.
    struct Name: Hashable {
        let high: UInt64, low: UInt64

        init?(_ bytes: ByteView) {
            var reader = ByteReader(bytes)
            guard bytes.count == 16, let high = reader.bigEndian(UInt64.self), let low = reader.bigEndian(UInt64.self)
            else { return nil }
            (self.high, self.low) = (high, low)
        }
    }

    private let clock: () -> UInt64
    private var programs: [Name: Program] = [:]
    /// Of the catalog that statements are bound by now; nil while a change of it is being decided.
    var catalogVersion: () -> UInt64? = { nil }

    /// `clock` tells milliseconds since 1970.
    init(clock: @escaping () -> UInt64) { self.clock = clock }

    var count: Int { programs.count }

    func program(_ name: ByteView) -> (any RowProgram)? {
        guard let found = Name(name).flatMap({ programs[$0] }) else { return nil }
        // While a change of the catalog is being decided nobody knows, and the statement is bound when that is over.
        if let version = found.boundVersion, version != catalogVersion() { return nil }
        return found
    }

    /// Keeps the program of a statement that was just bound, if it is one, and says how to call it.
    func keep(_ prepared: PreparedPlan, _ request: QueryRequest, _ settings: StatementSettings) -> QueryReply.Point? {
        guard let program = PointProgram(prepared) else { return nil }
        let digest = Self.digest(request)
        guard let name = digest.withUnsafeBytes({ Name($0) }) else { return nil }
        programs[name] = Program(program, settings, clock)
        var key: [QueryReply.Point.KeyPart] = []
        for part in program.key {
            switch part {
            case .parameter(let index, let column): key.append(.parameter(index, column: ValueTypeForm(column)))
            case .constant(let bytes): key.append(.constant(bytes))
            case .fresh: key.append(.fresh)
            }
        }
        return QueryReply.Point(
            program: digest, collection: program.collection.id.rawValue, version: program.collection.version,
            writes: program.writes, key: key)
    }

    /// The encoded primary key of the record that a program is about; nil where it is about none.
    func key(of point: QueryReply.Point, _ parameters: [Value], chance: () -> UInt64) -> Bytes? {
        point.program.withUnsafeBytes { Name($0) }.flatMap { programs[$0] }?.program.key(parameters, chance: chance)
    }

    /// The plan that it was made from is gone.
    func forget(_ point: QueryReply.Point) {
        if let name = point.program.withUnsafeBytes({ Name($0) }) { programs[name] = nil }
    }

    private static func digest(_ request: QueryRequest) -> Bytes {
        var text = ByteBuffer(capacity: 256)
        text.append(request.fingerprint)
        text.append(varint: UInt64(request.parameterTypes.count))
        for type in request.parameterTypes {
            text.append(type.kind)
            text.append(littleEndian: type.modifier)
            text.append(type.isArray ? 1 : 0)
        }
        for setting in request.settings {
            for part in [setting.name, setting.value] {
                text.append(varint: UInt64(part.utf8.count))
                text.append(text: part)
            }
        }
        return Bytes(SHA256.hash(text.readable.bytes).prefix(16))
    }

    /// A program with the settings that it was bound under.
    private final class Program: RowProgram {
        let program: PointProgram
        private let settings: StatementSettings
        private let clock: () -> UInt64

        init(_ program: PointProgram, _ settings: StatementSettings, _ clock: @escaping () -> UInt64) {
            (self.program, self.settings, self.clock) = (program, settings, clock)
            // Rights were asked for when it was bound; those of roles change with the catalog.
            let engine = settings.engine
            let isRole =
                engine.authority != .user || engine.user != settings.principal
                || engine.catalog?.role(named: engine.user) != nil
            // A name that is looked for elsewhere first may mean another table by then.
            let namespace = program.collection.namespace
            let isFirst = engine.searchPath.first.map { engine.catalog?.namespace(named: $0)?.id == namespace } ?? false
            boundVersion = isRole || !isFirst ? engine.catalog?.version : nil
        }

        var writes: Bool { program.writes }
        var version: UInt64 { program.collection.version }
        /// Of the catalog by which the user may do this, and the table's name means this one; nil: whatever else there
        /// is, it stays so.
        let boundVersion: UInt64?

        func evaluate(
            _ record: Bytes?, key: ByteView, parameters: ViewList, time: Int64, into reply: inout ByteBuffer
        ) -> RowProgramChange {
            do throws(StatementError) {
                var engine = settings.engine
                engine.statementTime = Int64(clamping: clock() &* 1000)
                engine.transactionTime = time == 0 ? engine.statementTime : time
                engine.text.now = engine.transactionTime
                let outcome = try program.run(
                    record, key: key, parameters: try values(parameters, engine.text), settings: engine)
                PointReply.appendDone(count: UInt8(clamping: outcome.count), row: outcome.row, to: &reply)
                return switch outcome.change {
                case .none: .none
                case .put(let record): .put(record)
                case .delete: .delete
                }
            } catch {
                reply.removeAll()
                PointReply.appendFailed(error, to: &reply)
                return .none
            }
        }

        /// The program's name comes before them.
        private func values(_ arguments: ViewList, _ settings: TextSettings) throws(StatementError) -> [Value] {
            let types = program.parameterTypes
            guard arguments.count == types.count + 1 else {
                throw StatementError(
                    .protocolViolation,
                    "bind message supplies \(arguments.count - 1) parameters, but prepared statement requires "
                        + "\(types.count)")
            }
            var values: [Value] = []
            values.reserveCapacity(types.count)
            for (index, type) in types.enumerated() {
                switch PointParameter(arguments[index + 1]) {
                case .null: values.append(.null)
                case .text(let view):
                    values.append(try ValueText.parse(view, as: type, settings))
                case .binary(let view): values.append(try ValueBinary.decode(view, as: type))
                case nil: throw StatementError(.protocolViolation, "a parameter of a program is damaged")
                }
            }
            return values
        }
    }
}

/// A statement on one record as a call to its shard, and what comes back.
enum PointCall {
    /// `time`: of the transaction, in microseconds since 1970.
    static func body(
        _ point: QueryReply.Point, key: Bytes, _ parameters: [QueryRequest.Parameter], time: Int64
    ) -> Bytes {
        var arguments = [point.program]
        for parameter in parameters {
            var buffer = ByteBuffer(capacity: 16)
            if let value = parameter.value {
                value.withUnsafeBytes {
                    PointParameter.append($0, isBinary: parameter.isBinary, to: &buffer)
                }
            } else {
                PointParameter.append(nil, isBinary: false, to: &buffer)
            }
            arguments.append(buffer.readable.bytes)
        }
        var builder = RowCallBuilder()
        builder.append(
            point.writes ? .rowModify : .rowQuery,
            key: key.withUnsafeBytes { RowKey.make(CollectionID(rawValue: point.collection), primaryKey: $0) },
            numbers: [Int64(bitPattern: point.version), time], arguments: arguments)
        return builder.body
    }

    static func take(_ data: ByteView, into reply: inout QueryReply) throws(StatementError) {
        switch PointReply(data) {
        case .done(let count, let row):
            reply.count = UInt64(count)
            if let row { reply.rows = [row.bytes] }
        case .failed(let error): throw error
        case nil: throw RowKeeper.malformed
        }
    }
}
