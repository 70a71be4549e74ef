import Base
import DataModel

/// What a function takes in one place.
enum ParameterType: Hashable, Sendable {
    case of(DataType)
    /// All places of these kinds agree on one type within a call.
    case anyElement, anyArray
    /// The same, where numbers and texts are brought to a common type first.
    case anyCompatible, anyCompatibleArray
    /// Anything at all; anything but an array.
    case any, anyNonArray
}

/// What a function gives.
enum ResultType: Hashable, Sendable {
    case of(DataType)
    /// What `anyElement` came to, an array of it, the common type.
    case element, array, common, commonArray
}

enum Volatility: Hashable, Sendable { case immutable, stable, volatile }

/// What an evaluation may know of the world; everything in it came in as a value.
typealias ScalarBody = @Sendable (_ arguments: [Value], _ context: ExecutionContext) throws(StatementError) -> Value

/// The same for whole columns; the kernel cares for NULL itself.
typealias Kernel = @Sendable (_ columns: [Column], _ count: Int) throws(StatementError) -> Column

/// One row of the registry: a function, an operator or a cast.
final class ScalarFunction: Sendable {
    /// The name that statements use; an operator's are its characters.
    let name: String
    let parameters: [ParameterType]
    /// The last parameter may come any number of times.
    let isVariadic: Bool
    let result: ResultType
    let volatility: Volatility
    /// NULL in, NULL out, without asking the body.
    let isStrict: Bool
    /// It cannot fail: may be evaluated where its result is not needed.
    let isSafe: Bool
    let body: ScalarBody
    let kernel: Kernel?
    /// An expression and the text of what it gives, executed by a test. Nil for what is made on the fly (casts).
    let example: (expression: String, result: String)?
    /// Makes the body for the types of a call, where values alone do not say enough of them.
    let specialize: (@Sendable (_ arguments: [DataType], _ result: DataType) -> ScalarBody)?
    /// The row that this was made of for one call.
    let origin: ScalarFunction?

    init(
        _ name: String, _ parameters: [ParameterType], _ result: ResultType, volatility: Volatility = .immutable,
        isStrict: Bool = true, isSafe: Bool = false, isVariadic: Bool = false, kernel: Kernel? = nil,
        example: (String, String)?, body: @escaping ScalarBody
    ) {
        (self.name, self.parameters, self.result, self.volatility) = (name, parameters, result, volatility)
        (self.isStrict, self.isSafe, self.isVariadic, self.kernel) = (isStrict, isSafe, isVariadic, kernel)
        self.example = example
        self.body = body
        (specialize, origin) = (nil, nil)
    }

    /// A row whose body depends on the types that it is called with.
    init(
        _ name: String, _ parameters: [ParameterType], _ result: ResultType, volatility: Volatility = .immutable,
        isStrict: Bool = true, isVariadic: Bool = false, example: (String, String)?,
        specialize: @escaping @Sendable (_ arguments: [DataType], _ result: DataType) -> ScalarBody
    ) {
        (self.name, self.parameters, self.result, self.volatility) = (name, parameters, result, volatility)
        (self.isStrict, self.isSafe, self.isVariadic, kernel) = (isStrict, false, isVariadic, nil)
        self.example = example
        body = { _, _ throws(StatementError) in
            throw StatementError(.internalError, "\(name) was not made for its types")
        }
        self.specialize = specialize
        origin = nil
    }

    /// What is made of `origin` on the fly: the same as whatever else is made of it under the same name.
    init(
        _ name: String, of origin: ScalarFunction, result: DataType, volatility: Volatility, isStrict: Bool = true,
        kernel: Kernel? = nil, body: @escaping ScalarBody
    ) {
        (self.name, self.volatility, self.isStrict, self.kernel) = (name, volatility, isStrict, kernel)
        (parameters, isVariadic, isSafe) = (origin.parameters, origin.isVariadic, false)
        self.result = .of(result)
        self.body = body
        self.origin = origin
        (example, specialize) = (nil, nil)
    }

    /// The function for one call.
    func specialized(_ arguments: [DataType], _ result: DataType) -> ScalarFunction {
        guard let specialize else { return self }
        return ScalarFunction(
            name, of: self, result: result, volatility: volatility, isStrict: isStrict,
            body: specialize(arguments, result))
    }

    /// Whether both compute the same of the same arguments.
    func isSame(as other: ScalarFunction) -> Bool {
        if self === other { return true }
        guard let origin, let theirs = other.origin else { return false }
        return origin === theirs && name == other.name && result == other.result
    }

    /// A row over types that are all known.
    static func row(
        _ name: String, _ parameters: [DataType], _ result: DataType, _ example: (String, String),
        volatility: Volatility = .immutable, isStrict: Bool = true, body: @escaping ScalarBody
    ) -> ScalarFunction {
        ScalarFunction(
            name, parameters.map { .of($0) }, .of(result), volatility: volatility, isStrict: isStrict,
            example: example, body: body)
    }
}

/// How a function that sees many rows keeps what it has seen: one state for each group.
protocol Accumulator: AnyObject {
    /// Makes room: groups are numbered from 0.
    func grow(to groups: Int)
    /// Takes row `rows[i]` of the arguments into group `groups[i]`.
    func add(_ arguments: [Column], rows: [Int32], groups: [Int32], context: ExecutionContext) throws(StatementError)
    func result(of group: Int) throws(StatementError) -> Value
}

/// A row of the registry: an aggregate.
final class AggregateFunction: Sendable {
    let name: String
    let parameters: [ParameterType]
    let result: ResultType
    let isVariadic: Bool
    /// Rows in which an argument is NULL do not count.
    let isStrict: Bool
    /// WITHIN GROUP: the last argument is what the rows are sorted by.
    let isOrderedSet: Bool
    let make: @Sendable (_ arguments: [DataType], _ result: DataType) -> any Accumulator
    /// Over VALUES, in place of a FROM: `sum(x)` over `(1), (2)`; and the text of the result.
    let example: (expression: String, values: String, result: String)

    init(
        _ name: String, _ parameters: [ParameterType], _ result: ResultType, isStrict: Bool = true,
        isVariadic: Bool = false, isOrderedSet: Bool = false, example: (String, String, String),
        make: @escaping @Sendable (_ arguments: [DataType], _ result: DataType) -> any Accumulator
    ) {
        (self.name, self.parameters, self.result) = (name, parameters, result)
        (self.isStrict, self.isVariadic, self.make) = (isStrict, isVariadic, make)
        self.isOrderedSet = isOrderedSet
        self.example = (example.0, example.1, example.2)
    }
}

/// A row of the registry: a function that gives rows.
final class RowsFunction: Sendable {
    let name: String
    let parameters: [ParameterType]
    let result: ResultType
    /// Names of several columns; empty for one, which is called as the function.
    let columns: [(name: String, type: DataType)]
    let isVariadic: Bool
    let isStrict: Bool
    /// Rows as they are asked for, where there may be many.
    let stream: (@Sendable (_ arguments: [Value], _ context: ExecutionContext) throws(StatementError) -> RowStream)?
    /// All rows at once; each has as many values as there are columns.
    let body: @Sendable (_ arguments: [Value], _ context: ExecutionContext) throws(StatementError) -> [[Value]]
    let example: (expression: String, result: String)

    init(
        _ name: String, _ parameters: [ParameterType], _ result: ResultType, columns: [(String, DataType)] = [],
        isVariadic: Bool = false, isStrict: Bool = true, example: (String, String),
        body:
            @escaping @Sendable (_ arguments: [Value], _ context: ExecutionContext) throws(StatementError)
            -> [[Value]]
    ) {
        (self.name, self.parameters, self.result, self.isVariadic) = (name, parameters, result, isVariadic)
        self.columns = columns.map { (name: $0.0, type: $0.1) }
        (self.isStrict, self.body, stream) = (isStrict, body, nil)
        self.example = (example.0, example.1)
    }

    init(
        lazy name: String, _ parameters: [ParameterType], _ result: ResultType, example: (String, String),
        stream:
            @escaping @Sendable (_ arguments: [Value], _ context: ExecutionContext) throws(StatementError)
            -> RowStream
    ) {
        (self.name, self.parameters, self.result, isVariadic) = (name, parameters, result, false)
        (columns, isStrict, self.stream) = ([], true, stream)
        body = { _, _ throws(StatementError) in [] }
        self.example = (example.0, example.1)
    }
}

/// Window functions proper; aggregates can be used as such too.
enum WindowFunction: String, Hashable, Sendable, CaseIterable {
    case rowNumber = "row_number"
    case rank
    case denseRank = "dense_rank"
    case percentRank = "percent_rank"
    case cumulativeDistribution = "cume_dist"
    case ntile
    case lag
    case lead
    case firstValue = "first_value"
    case lastValue = "last_value"
    case nthValue = "nth_value"
}
