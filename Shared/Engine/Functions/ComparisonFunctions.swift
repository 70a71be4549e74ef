import Base
import DataModel

/// The six comparisons of every type that has an order.
enum Comparison: String, CaseIterable, Sendable {
    case equal = "=", notEqual = "<>", less = "<", lessOrEqual = "<=", greater = ">", greaterOrEqual = ">="

    /// Whether it holds for values whose order is `order` (negative, zero, positive).
    @inline(__always) func holds(_ order: Int) -> Bool {
        switch self {
        case .equal: order == 0
        case .notEqual: order != 0
        case .less: order < 0
        case .lessOrEqual: order <= 0
        case .greater: order > 0
        case .greaterOrEqual: order >= 0
        }
    }
}

enum ComparisonFunctions {
    static let rows: [ScalarFunction] = {
        var rows: [ScalarFunction] = []
        for comparison in Comparison.allCases {
            for left in integers {
                for right in integers { rows.append(integer(comparison, left, right)) }
            }
            for left in [DataType.float32, .float64] {
                for right in [DataType.float32, .float64] { rows.append(float(comparison, left, right)) }
            }
            for (type, literals) in others { rows.append(generic(comparison, type, literals)) }
            rows.append(array(comparison))
            rows.append(record(comparison))
        }
        return rows
    }()

    private static let integers: [DataType] = [.int16, .int32, .int64]

    /// Types, and two literals in order.
    private static let others: [(DataType, (String, String))] = [
        (.bool, ("false", "true")), (.decimal, ("1.5", "1.50001")), (.text, ("'a'::text", "'b'::text")),
        (.char, ("'a'::bpchar", "'b'::bpchar")), (.name, ("'a'::name", "'b'::name")),
        (.bytes, ("'\\x01'::bytea", "'\\x02'::bytea")),
        (.uuid, ("'00000000-0000-0000-0000-000000000001'::uuid", "'00000000-0000-0000-0000-000000000002'::uuid")),
        (.date, ("'2024-01-01'::date", "'2024-01-02'::date")), (.time, ("'10:00'::time", "'10:01'::time")),
        (.timeWithZone, ("'10:00+00'::timetz", "'10:01+00'::timetz")),
        (.timestamp, ("'2024-01-01'::timestamp", "'2024-01-02'::timestamp")),
        (.timestampWithZone, ("'2024-01-01 00:00+00'::timestamptz", "'2024-01-02 00:00+00'::timestamptz")),
        (.interval, ("'1 day'::interval", "'2 days'::interval")),
        (.jsonb, ("'1'::jsonb", "'2'::jsonb")), (.oid, ("1::oid", "2::oid")),
        (.internalChar, ("'a'::\"char\"", "'b'::\"char\"")),
    ]

    private static func answer(_ comparison: Comparison) -> String { comparison.holds(-1) ? "true" : "false" }

    private static func integer(_ comparison: Comparison, _ left: DataType, _ right: DataType) -> ScalarFunction {
        ScalarFunction(
            comparison.rawValue, [.of(left), .of(right)], .of(.bool), isSafe: true, kernel: kernel(comparison),
            example: ("1::\(left.name) \(comparison.rawValue) 2::\(right.name)", answer(comparison)),
            body: body(comparison))
    }

    private static func float(_ comparison: Comparison, _ left: DataType, _ right: DataType) -> ScalarFunction {
        ScalarFunction(
            comparison.rawValue, [.of(left), .of(right)], .of(.bool), isSafe: true, kernel: kernel(comparison),
            example: ("1::\(left.name) \(comparison.rawValue) 2::\(right.name)", answer(comparison)),
            body: body(comparison))
    }

    private static func generic(_ comparison: Comparison, _ type: DataType, _ literals: (String, String))
        -> ScalarFunction
    {
        ScalarFunction(
            comparison.rawValue, [.of(type), .of(type)], .of(.bool), isSafe: true,
            kernel: type.form == .values ? nil : kernel(comparison, isPadded: type == .char),
            example: ("\(literals.0) \(comparison.rawValue) \(literals.1)", answer(comparison)),
            body: type == .char ? paddedBody(comparison) : body(comparison))
    }

    private static func array(_ comparison: Comparison) -> ScalarFunction {
        ScalarFunction(
            comparison.rawValue, [.anyArray, .anyArray], .of(.bool), isSafe: true,
            example: ("ARRAY[1,2] \(comparison.rawValue) ARRAY[1,3]", answer(comparison)), body: body(comparison))
    }

    private static func record(_ comparison: Comparison) -> ScalarFunction {
        ScalarFunction(
            comparison.rawValue, [.of(.record), .of(.record)], .of(.bool), isSafe: true, example: nil,
            body: body(comparison))
    }

    private static func body(_ comparison: Comparison) -> ScalarBody {
        { arguments, _ throws(StatementError) in
            .bool(comparison.holds(Value.compare(arguments[0], arguments[1])))
        }
    }

    private static func paddedBody(_ comparison: Comparison) -> ScalarBody {
        { arguments, _ throws(StatementError) in
            guard case .text(let left) = arguments[0], case .text(let right) = arguments[1] else { return .null }
            return .bool(comparison.holds(Value.compareBytes(left.withoutTrailingBlanks, right.withoutTrailingBlanks)))
        }
    }

    // MARK: Kernels

    static func kernel(_ comparison: Comparison, isPadded: Bool = false) -> Kernel {
        { columns, count throws(StatementError) in
            let left = columns[0], right = columns[1]
            let validity = Bitmap.both(left.validity, right.validity)
            let flags: [Bool]
            switch (left.storage, right.storage) {
            case (.integers(let mine), .integers(let theirs)):
                flags = compare(comparison, mine, theirs, left.stride, right.stride, count)
            case (.floats(let mine), .floats(let theirs)):
                flags = compareFloats(comparison, mine, theirs, left.stride, right.stride, count)
            case (.booleans(let mine), .booleans(let theirs)):
                flags = (0..<count).map { row in
                    comparison.holds((mine[row * left.stride] ? 1 : 0) - (theirs[row * right.stride] ? 1 : 0))
                }
            case (.bytes(let mine), .bytes(let theirs)):
                flags = compareBytes(comparison, mine, theirs, left.stride, right.stride, count, isPadded: isPadded)
            case _:
                throw StatementError(.internalError, "columns of different forms were compared")
            }
            return Column(.bool, .booleans(flags), validity: validity, count: count)
        }
    }

    private static func compare(
        _ comparison: Comparison, _ left: [Int64], _ right: [Int64], _ mine: Int, _ theirs: Int, _ count: Int
    ) -> [Bool] {
        @inline(__always) func loop(_ test: (Int64, Int64) -> Bool) -> [Bool] {
            [Bool](unsafeUninitializedCapacity: count) { flags, written in
                left.withUnsafeBufferPointer { left in
                    right.withUnsafeBufferPointer { right in
                        for row in 0..<count {
                            flags.initializeElement(at: row, to: test(left[row &* mine], right[row &* theirs]))
                        }
                    }
                }
                written = count
            }
        }
        switch comparison {
        case .equal: return loop { $0 == $1 }
        case .notEqual: return loop { $0 != $1 }
        case .less: return loop { $0 < $1 }
        case .lessOrEqual: return loop { $0 <= $1 }
        case .greater: return loop { $0 > $1 }
        case .greaterOrEqual: return loop { $0 >= $1 }
        }
    }

    /// NaN equals itself and is greater than all others.
    private static func compareFloats(
        _ comparison: Comparison, _ left: [Double], _ right: [Double], _ mine: Int, _ theirs: Int, _ count: Int
    ) -> [Bool] {
        left.withUnsafeBufferPointer { left in
            right.withUnsafeBufferPointer { right in
                (0..<count).map { row in
                    let first = left[row &* mine], second = right[row &* theirs]
                    let order =
                        first < second
                        ? -1
                        : first > second
                            ? 1
                            : first == second
                                ? 0 : (first.isNaN ? 1 : 0) - (second.isNaN ? 1 : 0)
                    return comparison.holds(order)
                }
            }
        }
    }

    private static func compareBytes(
        _ comparison: Comparison, _ left: ByteColumn, _ right: ByteColumn, _ mine: Int, _ theirs: Int, _ count: Int,
        isPadded: Bool
    ) -> [Bool] {
        let isEquality = comparison == .equal || comparison == .notEqual
        return left.data.withUnsafeBytes { leftBytes in
            right.data.withUnsafeBytes { rightBytes in
                (0..<count).map { row in
                    let first = row &* mine, second = row &* theirs
                    var left = ByteView(rebasing: leftBytes[Int(left.offsets[first])..<Int(left.offsets[first + 1])])
                    var right = ByteView(
                        rebasing: rightBytes[Int(right.offsets[second])..<Int(right.offsets[second + 1])])
                    if isPadded { (left, right) = (left.withoutTrailingBlanks, right.withoutTrailingBlanks) }
                    if isEquality, left.count != right.count { return comparison == .notEqual }
                    return comparison.holds(compareKeys(left, right))
                }
            }
        }
    }
}

/// GREATEST and LEAST: forms of the language, which ignore NULL.
enum ConditionalFunctions {
    static let greatest = extreme("greatest", isMax: true), least = extreme("least", isMax: false)

    private static func extreme(_ name: String, isMax: Bool) -> ScalarFunction {
        ScalarFunction(name, [.anyCompatible], .common, isStrict: false, isVariadic: true, example: nil) { _, type in
            { arguments, _ throws(StatementError) in
                var best = Value.null
                for argument in arguments where !argument.isNull {
                    let order = best.isNull ? 0 : Value.compare(argument.forKey(as: type), best.forKey(as: type))
                    if best.isNull || (isMax ? order > 0 : order < 0) { best = argument }
                }
                return best
            }
        }
    }
}
