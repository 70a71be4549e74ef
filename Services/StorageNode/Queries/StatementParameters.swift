import Base
import Contracts
import DataModel
import Engine

/// The values that a client has bound, from what it wrote.
enum StatementParameters {
    /// As PostgreSQL's input and receive functions read them.
    static func values(
        _ request: QueryRequest, as types: [DataType], _ settings: StatementSettings
    ) throws(StatementError) -> [Value] {
        if request.parameters.isEmpty, !types.isEmpty {
            // A simple query: nobody has bound anything.
            throw StatementError(.undefinedParameter, "there is no parameter $1")
        }
        guard request.parameters.count == types.count else {
            throw StatementError(
                .protocolViolation,
                "bind message supplies \(request.parameters.count) parameters, but prepared statement requires "
                    + "\(types.count)")
        }
        var values: [Value] = []
        values.reserveCapacity(types.count)
        for (parameter, type) in zip(request.parameters, types) {
            guard let bytes = parameter.value else {
                values.append(.null)
                continue
            }
            values.append(
                try bytes.withView { (view: ByteView) throws(StatementError) in
                    parameter.isBinary
                        ? try ValueBinary.decode(view, as: type)
                        : try TextForms.parse(try ValueBinary.text(view), type, settings.engine)
                })
        }
        return values
    }
}
