import Base
import DataModel

/// + - * / % of all numbers, signs, and operators on bits.
enum ArithmeticFunctions {
    static let rows: [ScalarFunction] = {
        var rows: [ScalarFunction] = []
        let integers: [DataType] = [.int16, .int32, .int64]
        for operation in Operation.allCases {
            for left in integers {
                for right in integers where operation != .remainder || left == right {
                    rows.append(integer(operation, left, right))
                }
            }
            rows.append(decimal(operation))
            guard operation != .remainder else { continue }
            for left in [DataType.float32, .float64] {
                for right in [DataType.float32, .float64] { rows.append(float(operation, left, right)) }
            }
        }
        for type in integers + [.decimal, .float32, .float64] {
            rows.append(negation(type))
            rows.append(
                ScalarFunction("+", [.of(type)], .of(type), isSafe: true, example: ("+ 3::\(type.name)", "3")) {
                    arguments, _ throws(StatementError) in arguments[0]
                })
        }
        for type in integers { rows += bits(type) }
        return rows
    }()

    enum Operation: String, CaseIterable, Sendable {
        case add = "+", subtract = "-", multiply = "*", divide = "/", remainder = "%"
    }

    private static let answers: [Operation: String] = [
        .add: "9", .subtract: "5", .multiply: "14", .divide: "3", .remainder: "1",
    ]

    // MARK: Integers

    private static func integer(_ operation: Operation, _ left: DataType, _ right: DataType) -> ScalarFunction {
        let result =
            left == .int64 || right == .int64 ? DataType.int64 : left == .int32 || right == .int32 ? .int32 : .int16
        let range = Casts.range(of: result.kind)
        return ScalarFunction(
            operation.rawValue, [.of(left), .of(right)], .of(result), kernel: kernel(operation, result),
            example: ("7::\(left.name) \(operation.rawValue) 2::\(right.name)", answers[operation] ?? "")
        ) { arguments, _ throws(StatementError) in
            guard case .integer(let left) = arguments[0], case .integer(let right) = arguments[1] else { return .null }
            let (value, isOver) = compute(operation, left, right)
            if right == 0, operation == .divide || operation == .remainder { throw divisionByZero }
            guard !isOver, range.contains(value) else { throw Casts.outOfRange(result.kind) }
            return .integer(value)
        }
    }

    static var divisionByZero: StatementError { StatementError(.divisionByZero, "division by zero") }

    @inline(__always) private static func compute(_ operation: Operation, _ left: Int64, _ right: Int64)
        -> (Int64, Bool)
    {
        switch operation {
        case .add: left.addingReportingOverflow(right)
        case .subtract: left.subtractingReportingOverflow(right)
        case .multiply: left.multipliedReportingOverflow(by: right)
        case .divide: right == 0 ? (0, true) : left.dividedReportingOverflow(by: right)
        // The least integer by -1 leaves nothing, though the quotient is too large.
        case .remainder: right == 0 ? (0, true) : right == -1 ? (0, false) : (left % right, false)
        }
    }

    private static func kernel(_ operation: Operation, _ result: DataType) -> Kernel {
        let range = Casts.range(of: result.kind)
        return { columns, count throws(StatementError) in
            let left = columns[0], right = columns[1]
            guard case .integers(let mine) = left.storage, case .integers(let theirs) = right.storage else {
                throw StatementError(.internalError, "a kernel for integers got other columns")
            }
            let validity = Bitmap.both(left.validity, right.validity)
            let leftStride = left.stride, rightStride = right.stride
            var failed = -1
            let values = [Int64](unsafeUninitializedCapacity: count) { values, written in
                mine.withUnsafeBufferPointer { mine in
                    theirs.withUnsafeBufferPointer { theirs in
                        @inline(__always) func loop(_ test: (Int64, Int64) -> (Int64, Bool)) {
                            for row in 0..<count {
                                let (value, isOver) = test(mine[row &* leftStride], theirs[row &* rightStride])
                                values.initializeElement(at: row, to: value)
                                if isOver || value < range.lowerBound || value > range.upperBound {
                                    // What stands under a NULL does not count.
                                    if failed < 0, validity.map({ $0[row] }) ?? true { failed = row }
                                }
                            }
                        }
                        switch operation {
                        case .add: loop { $0.addingReportingOverflow($1) }
                        case .subtract: loop { $0.subtractingReportingOverflow($1) }
                        case .multiply: loop { $0.multipliedReportingOverflow(by: $1) }
                        case .divide: loop { compute(.divide, $0, $1) }
                        case .remainder: loop { compute(.remainder, $0, $1) }
                        }
                    }
                }
                written = count
            }
            if failed >= 0 {
                let isZero = theirs[failed * rightStride] == 0
                if isZero, operation == .divide || operation == .remainder { throw divisionByZero }
                throw Casts.outOfRange(result.kind)
            }
            return Column(result, .integers(values), validity: validity, count: count)
        }
    }

    // MARK: Floats and decimals

    private static func float(_ operation: Operation, _ left: DataType, _ right: DataType) -> ScalarFunction {
        let kind: DataType.Kind = left == .float32 && right == .float32 ? .float32 : .float64
        return ScalarFunction(
            operation.rawValue, [.of(left), .of(right)], .of(DataType(kind)), kernel: floatKernel(operation, kind),
            example: (
                "7::\(left.name) \(operation.rawValue) 2::\(right.name)",
                operation == .divide ? "3.5" : answers[operation] ?? ""
            )
        ) { arguments, _ throws(StatementError) in
            guard case .float(let left) = arguments[0], case .float(let right) = arguments[1] else { return .null }
            return .float(try FloatArithmetic.compute(operation, left, right, kind))
        }
    }

    private static func floatKernel(_ operation: Operation, _ kind: DataType.Kind) -> Kernel {
        { columns, count throws(StatementError) in
            let left = columns[0], right = columns[1]
            guard case .floats(let mine) = left.storage, case .floats(let theirs) = right.storage else {
                throw StatementError(.internalError, "a kernel for floats got other columns")
            }
            let validity = Bitmap.both(left.validity, right.validity)
            var values = [Double](repeating: 0, count: count)
            for row in 0..<count where validity.map({ $0[row] }) ?? true {
                values[row] = try FloatArithmetic.compute(
                    operation, mine[row &* left.stride], theirs[row &* right.stride], kind)
            }
            return Column(DataType(kind), .floats(values), validity: validity, count: count)
        }
    }

    private static func decimal(_ operation: Operation) -> ScalarFunction {
        let answer = operation == .divide ? "3.5000000000000000" : answers[operation] ?? ""
        return ScalarFunction(
            operation.rawValue, [.of(.decimal), .of(.decimal)], .of(.decimal),
            example: ("7::numeric \(operation.rawValue) 2::numeric", answer)
        ) { arguments, _ throws(StatementError) in
            guard case .decimal(let left) = arguments[0], case .decimal(let right) = arguments[1] else { return .null }
            return .decimal(try compute(operation, left, right))
        }
    }

    static func compute(_ operation: Operation, _ left: Decimal, _ right: Decimal) throws(StatementError) -> Decimal {
        do throws(DatabaseError) {
            switch operation {
            case .add: return try left.adding(right)
            case .subtract: return try left.subtracting(right)
            case .multiply: return try left.multiplied(by: right)
            case .divide: return try left.divided(by: right)
            case .remainder: return try left.remainder(by: right)
            }
        } catch {
            throw error.code == .divisionByZero ? divisionByZero : StatementError(error)
        }
    }

    // MARK: Signs and bits

    private static func negation(_ type: DataType) -> ScalarFunction {
        let range = Casts.range(of: type.kind)
        return ScalarFunction("-", [.of(type)], .of(type), example: ("- (3::\(type.name))", "-3")) {
            arguments, _ throws(StatementError) in
            switch arguments[0] {
            case .integer(let value):
                let (negative, isOver) = (0 as Int64).subtractingReportingOverflow(value)
                guard !isOver, range.contains(negative) else { throw Casts.outOfRange(type.kind) }
                return .integer(negative)
            case .float(let value): return .float(-value)
            case .decimal(let value): return .decimal(-value)
            case _: return .null
            }
        }
    }

    private static func bits(_ type: DataType) -> [ScalarFunction] {
        func row(
            _ name: String, _ second: DataType, _ answer: String, _ compute: @escaping @Sendable (Int64, Int64) -> Int64
        )
            -> ScalarFunction
        {
            ScalarFunction(
                name, [.of(type), .of(second)], .of(type), isSafe: true,
                example: ("6::\(type.name) \(name) 3::\(second.name)", answer)
            ) { arguments, _ throws(StatementError) in
                guard case .integer(let left) = arguments[0], case .integer(let right) = arguments[1] else {
                    return .null
                }
                return .integer(compute(left, right))
            }
        }
        let width: Int64 = type == .int16 ? 16 : type == .int32 ? 32 : 64
        // As C shifts int2 and int4: in 32 bits, cut to the type.
        let cut: @Sendable (Int64) -> Int64 = { value in
            width == 16
                ? Int64(Int16(truncatingIfNeeded: value))
                : width == 32 ? Int64(Int32(truncatingIfNeeded: value)) : value
        }
        let mask: Int64 = width == 64 ? 63 : 31
        return [
            row("&", type, "2") { $0 & $1 }, row("|", type, "7") { $0 | $1 }, row("#", type, "5") { $0 ^ $1 },
            row("<<", .int32, "48") { cut($0 &<< ($1 & mask)) }, row(">>", .int32, "0") { cut($0 &>> ($1 & mask)) },
            ScalarFunction("~", [.of(type)], .of(type), isSafe: true, example: ("~ (6::\(type.name))", "-7")) {
                arguments, _ throws(StatementError) in
                guard case .integer(let value) = arguments[0] else { return .null }
                return .integer(~value)
            },
        ]
    }
}

/// Floats that say when they leave their range.
enum FloatArithmetic {
    static func compute(
        _ operation: ArithmeticFunctions.Operation, _ left: Double, _ right: Double, _ kind: DataType.Kind
    )
        throws(StatementError) -> Double
    {
        let value: Double
        switch operation {
        case .add: value = left + right
        case .subtract: value = left - right
        case .multiply: value = left * right
        case .divide, .remainder:
            if right == 0, !left.isNaN { throw ArithmeticFunctions.divisionByZero }
            value = left / right
        }
        let result = kind == .float32 ? Double(Float(value)) : value
        if result.isInfinite, left.isFinite, right.isFinite { throw overflow }
        if result == 0,
            operation == .multiply ? left != 0 && right != 0 : operation == .divide && left != 0 && right.isFinite
        {
            throw underflow
        }
        return result
    }

    static var overflow: StatementError { StatementError(.numericValueOutOfRange, "value out of range: overflow") }
    static var underflow: StatementError { StatementError(.numericValueOutOfRange, "value out of range: underflow") }

    /// A number brought to a width, from one that was wider.
    static func fit(_ value: Double, _ kind: DataType.Kind, from source: Double) throws(StatementError) -> Double {
        guard kind == .float32 else { return value }
        let narrow = Double(Float(value))
        if narrow.isInfinite, source.isFinite { throw overflow }
        if narrow == 0, source != 0 { throw underflow }
        return narrow
    }
}
