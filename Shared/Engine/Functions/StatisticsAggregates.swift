import Base
import DataModel

/// Aggregates of statistics: variances, regressions, percentiles, bits.
enum StatisticsAggregates {
    static let rows: [AggregateFunction] = variances + regressions + percentiles + bits + gathered

    // MARK: Variances

    private static let names: [(String, isSample: Bool, isRoot: Bool, String)] = [
        ("var_samp", true, false, "1.00000000000000000000"), ("variance", true, false, "1.00000000000000000000"),
        ("var_pop", false, false, "0.66666666666666666667"), ("stddev_samp", true, true, "1.00000000000000000000"),
        ("stddev", true, true, "1.00000000000000000000"), ("stddev_pop", false, true, "0.81649658092772603273"),
    ]

    private static let variances: [AggregateFunction] = names.flatMap {
        (name: String, isSample: Bool, isRoot: Bool, exact: String) -> [AggregateFunction] in
        let floats = exact.hasPrefix("1") ? "1" : isRoot ? "0.816496580927726" : "0.6666666666666666"
        return [DataType.float32, .float64].map { (type: DataType) in
            AggregateFunction(
                name, [.of(type)], .of(.float64), example: ("\(name)(x::\(type.name))", "(1,0), (2,0), (3,0)", floats)
            ) { _, _ in
                GatheringAccumulator { rows throws(StatementError) in
                    variance(rows.map(\.[0].double), isSample: isSample, isRoot: isRoot)
                }
            }
        }
            + [DataType.int16, .int32, .int64, .decimal].map { (type: DataType) in
                AggregateFunction(
                    name, [.of(type)], .of(.decimal),
                    example: ("\(name)(x::\(type.name))", "(1,0), (2,0), (3,0)", exact)
                ) { _, _ in
                    GatheringAccumulator { rows throws(StatementError) in
                        let numbers = rows.map { row -> Decimal in
                            if case .integer(let number) = row[0] { return Decimal(number) }
                            return row[0].exact
                        }
                        return try variance(numbers, isSample: isSample, isRoot: isRoot)
                    }
                }
            }
    }

    /// Youngs and Cramer, as PostgreSQL does.
    private static func variance(_ numbers: [Double], isSample: Bool, isRoot: Bool) -> Value {
        var count = 0.0, sum = 0.0, squares = 0.0
        for number in numbers {
            count += 1
            sum += number
            if count > 1 {
                let difference = number * count - sum
                squares += difference * difference / (count * (count - 1))
            } else if !number.isFinite {
                squares = .nan
            }
        }
        if isSample, count <= 1 { return .null }
        let value = squares / (isSample ? count - 1 : count)
        return .float(isRoot ? value.squareRoot() : value)
    }

    /// Exactly: from the sums of the numbers and of their squares.
    private static func variance(_ numbers: [Decimal], isSample: Bool, isRoot: Bool) throws(StatementError) -> Value {
        if isSample, numbers.count <= 1 { return .null }
        guard numbers.allSatisfy(\.isFinite) else { return .decimal(.notANumber) }
        var sum = Decimal.zero, squares = Decimal.zero
        for number in numbers {
            sum = try ArithmeticFunctions.compute(.add, sum, number)
            squares = try ArithmeticFunctions.compute(
                .add, squares, try ArithmeticFunctions.compute(.multiply, number, number))
        }
        let count = Decimal(Int64(numbers.count))
        let numerator = try ArithmeticFunctions.compute(
            .subtract, try ArithmeticFunctions.compute(.multiply, count, squares),
            try ArithmeticFunctions.compute(.multiply, sum, sum))
        if numerator.signum <= 0 { return .decimal(.zero) }
        let divisor = isSample ? Decimal(Int64(numbers.count - 1)) : count
        let result = try ArithmeticFunctions.compute(
            .divide, numerator, try ArithmeticFunctions.compute(.multiply, count, divisor))
        return .decimal(isRoot ? try DecimalFunctions.root(result, scale: result.scale) : result)
    }

    // MARK: Regressions

    private struct Sums {
        var count = 0.0, x = 0.0, y = 0.0, xx = 0.0, yy = 0.0, xy = 0.0

        init(_ rows: [[Value]]) {
            for row in rows {
                let newY = row[0].double, newX = row[1].double
                count += 1
                x += newX
                y += newY
                guard count > 1 else {
                    if !newX.isFinite { (xx, xy) = (.nan, .nan) }
                    if !newY.isFinite { (yy, xy) = (.nan, .nan) }
                    continue
                }
                let right = newX * count - x, up = newY * count - y, scale = 1 / (count * (count - 1))
                xx += right * right * scale
                yy += up * up * scale
                xy += right * up * scale
            }
        }
    }

    private static func regression(
        _ name: String, _ answer: String, _ compute: @escaping @Sendable (Sums) -> Double?
    ) -> AggregateFunction {
        AggregateFunction(
            name, [.of(.float64), .of(.float64)], .of(.float64),
            example: ("\(name)(y, x)", "(1::float8,2::float8), (2,3), (3,5)", answer)
        ) { _, _ in
            GatheringAccumulator { rows throws(StatementError) in compute(Sums(rows)).map { .float($0) } ?? .null }
        }
    }

    private static let regressions: [AggregateFunction] = [
        regression("corr", "0.9819805060619659") { s in
            s.xx == 0 || s.yy == 0 ? nil : s.xy / (s.xx * s.yy).squareRoot()
        },
        regression("covar_pop", "1") { $0.xy / $0.count },
        regression("covar_samp", "1.5") { $0.count < 2 ? nil : $0.xy / ($0.count - 1) },
        regression("regr_avgx", "2") { $0.x / $0.count },
        regression("regr_avgy", "3.3333333333333335") { $0.y / $0.count },
        regression("regr_intercept", "0.3333333333333333") { s in
            s.xx == 0 ? nil : (s.y - s.x * s.xy / s.xx) / s.count
        },
        regression("regr_r2", "0.9642857142857144") { s in
            s.xx == 0 ? nil : s.yy == 0 ? 1 : s.xy * s.xy / (s.xx * s.yy)
        },
        regression("regr_slope", "1.5") { $0.xx == 0 ? nil : $0.xy / $0.xx },
        regression("regr_sxx", "2") { $0.xx }, regression("regr_sxy", "3") { $0.xy },
        regression("regr_syy", "4.666666666666666") { $0.yy },
        AggregateFunction(
            "regr_count", [.of(.float64), .of(.float64)], .of(.int64),
            example: ("regr_count(y, x)", "(1::float8,2::float8), (2,NULL)", "1")
        ) { _, _ in CountAccumulator() },
    ]

    // MARK: Percentiles

    private static func fraction(_ value: Value) throws(StatementError) -> Double {
        let fraction = value.double
        guard fraction >= 0, fraction <= 1 else {
            throw StatementError(
                .numericValueOutOfRange,
                "percentile value \(TextForms.untyped(value, EngineSettings())) is not between 0 and 1")
        }
        return fraction
    }

    /// Between the two values around the place.
    private static func continuous(_ fraction: Double, _ rows: [[Value]]) throws(StatementError) -> Value {
        let place = fraction * Double(rows.count - 1), low = Int(place.rounded(.down)), high = Int(place.rounded(.up))
        guard let first = rows[low].last, let second = rows[high].last else { return .null }
        let share = place - Double(low)
        switch (first, second) {
        case (.float(let left), .float(let right)): return .float(low == high ? left : left + share * (right - left))
        case (.interval(let left), .interval(let right)):
            if low == high { return first }
            return .interval(try left.adding(try right.subtracting(left).multiplied(by: share)))
        case _: return .null
        }
    }

    private static func discrete(_ fraction: Double, _ rows: [[Value]]) -> Value {
        let place = max(Int((fraction * Double(rows.count)).rounded(.up)), 1) - 1
        return rows[min(place, rows.count - 1)].last ?? .null
    }

    private static func percentile(
        _ name: String, _ direct: DataType, _ sorted: ParameterType, _ result: ResultType,
        _ example: (String, String, String),
        _ pick: @escaping @Sendable (Double, [[Value]]) throws(StatementError) -> Value
    ) -> AggregateFunction {
        AggregateFunction(name, [.of(direct), sorted], result, isOrderedSet: true, example: example) { types, _ in
            GatheringAccumulator { rows throws(StatementError) in
                guard case .array(let fractions) = rows[0][0] else { return try pick(try fraction(rows[0][0]), rows) }
                var values: [Value] = []
                for value in fractions.elements {
                    values.append(value.isNull ? .null : try pick(try fraction(value), rows))
                }
                return .array(
                    ArrayValue(types[1].element, dimensions: fractions.dimensions, elements: values)
                        ?? ArrayValue(types[1].element, values))
            }
        }
    }

    private static let percentiles: [AggregateFunction] = [
        percentile(
            "percentile_cont", .float64, .of(.float64), .of(.float64),
            ("percentile_cont(0.5) WITHIN GROUP (ORDER BY x)", "(1,0), (2,0), (10,0), (20,0)", "6"), continuous),
        percentile(
            "percentile_cont", .float64, .of(.interval), .of(.interval),
            ("percentile_cont(0.5) WITHIN GROUP (ORDER BY x::interval)", "('1 day',0), ('3 days',0)", "2 days"),
            continuous),
        percentile(
            "percentile_cont", .float64.array, .of(.float64), .of(.float64.array),
            ("percentile_cont(ARRAY[0, 0.5]) WITHIN GROUP (ORDER BY x)", "(1,0), (2,0)", "{1,1.5}"), continuous),
        percentile(
            "percentile_disc", .float64, .anyElement, .element,
            ("percentile_disc(0.5) WITHIN GROUP (ORDER BY x)", "('a',0), ('b',0), ('c',0)", "b")
        ) { fraction, rows throws(StatementError) in discrete(fraction, rows) },
        percentile(
            "percentile_disc", .float64.array, .anyElement, .array,
            ("percentile_disc(ARRAY[0.25, 1]) WITHIN GROUP (ORDER BY x)", "(1,0), (2,0), (3,0)", "{1,3}")
        ) { fraction, rows throws(StatementError) in discrete(fraction, rows) },
        AggregateFunction(
            "mode", [.anyElement], .element, isOrderedSet: true,
            example: ("mode() WITHIN GROUP (ORDER BY x)", "(1,0), (2,0), (2,0)", "2")
        ) { _, _ in
            GatheringAccumulator { rows throws(StatementError) in
                var best = rows[0][0], bestCount = 0, current = rows[0][0], count = 0
                for row in rows {
                    if Value.compare(row[0], current) != 0 { (current, count) = (row[0], 0) }
                    count += 1
                    if count > bestCount { (best, bestCount) = (current, count) }
                }
                return best
            }
        },
    ]

    // MARK: Others

    private static let bits: [AggregateFunction] = [
        ("bit_and", "2"), ("bit_or", "7"), ("bit_xor", "5"),
    ].flatMap { (name: String, answer: String) -> [AggregateFunction] in
        [DataType.int16, .int32, .int64].map { type in
            AggregateFunction(
                name, [.of(type)], .of(type), example: ("\(name)(x::\(type.name))", "(6,0), (3,0), (NULL,0)", answer)
            ) { _, _ in
                FoldAccumulator { left, right throws(StatementError) in
                    switch name {
                    case "bit_and": .integer(left.int & right.int)
                    case "bit_or": .integer(left.int | right.int)
                    case _: .integer(left.int ^ right.int)
                    }
                }
            }
        }
    }

    private static let gathered: [AggregateFunction] = [
        AggregateFunction(
            "avg", [.of(.interval)], .of(.interval),
            example: ("avg(x::interval)", "('1 day',0), ('2 days',0)", "1 day 12:00:00")
        ) { _, _ in
            GatheringAccumulator { rows throws(StatementError) in
                var sum = Interval()
                for row in rows { sum = try sum.adding(row[0].interval) }
                return .interval(try sum.divided(by: Double(rows.count)))
            }
        },
        AggregateFunction(
            "string_agg", [.of(.bytes), .of(.bytes)], .of(.bytes), isStrict: false,
            example: ("string_agg(x::bytea, '\\x00'::bytea)", "('a',0), ('b',0)", "\\x610062")
        ) { _, _ in
            GatheringAccumulator { rows throws(StatementError) in
                var result: Bytes?
                for row in rows where !row[0].isNull {
                    result = (result.map { $0 + row[1].octets } ?? []) + row[0].octets
                }
                return result.map { .bytes($0) } ?? .null
            }
        },
        AggregateFunction(
            "max", [.of(.timeWithZone)], .of(.timeWithZone),
            example: ("max(x::timetz)", "('01:00+00',0), ('02:00+00',0)", "02:00:00+00")
        ) { _, _ in FoldAccumulator { a, b throws(StatementError) in Value.compare(a, b) < 0 ? b : a } },
        AggregateFunction(
            "min", [.of(.timeWithZone)], .of(.timeWithZone),
            example: ("min(x::timetz)", "('01:00+00',0), ('02:00+00',0)", "01:00:00+00")
        ) { _, _ in FoldAccumulator { a, b throws(StatementError) in Value.compare(a, b) > 0 ? b : a } },
    ]

    /// array_agg: of arrays, one with a dimension more.
    static func gather(_ rows: [[Value]], _ element: DataType, isNested: Bool) throws(StatementError) -> Value {
        guard isNested else { return .array(ArrayValue(element, rows.map { $0[0] })) }
        var dimensions: [ArrayValue.Dimension]?, elements: [Value] = []
        for row in rows {
            guard case .array(let array) = row[0] else {
                throw StatementError(.nullValueNotAllowed, "cannot accumulate null arrays")
            }
            guard !array.dimensions.isEmpty else {
                throw StatementError(.arraySubscriptError, "cannot accumulate empty arrays")
            }
            guard dimensions == nil || dimensions == array.dimensions else {
                throw StatementError(.arraySubscriptError, "cannot accumulate arrays of different dimensionality")
            }
            dimensions = array.dimensions
            elements += array.elements
        }
        let outer = ArrayValue.Dimension(count: Int32(clamping: rows.count))
        guard let array = ArrayValue(element, dimensions: [outer] + (dimensions ?? []), elements: elements) else {
            throw StatementError(
                .programLimitExceeded, "number of array dimensions (7) exceeds the maximum allowed (6)")
        }
        return .array(array)
    }
}
