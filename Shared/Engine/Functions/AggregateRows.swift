import Base
import DataModel

extension AggregateFunction {
    static let rows: [AggregateFunction] = counts + sums + extremes + booleans + gathering

    private static let counts: [AggregateFunction] = [
        AggregateFunction("count", [], .of(.int64), example: ("count(*)", "(1,0), (NULL,0)", "2")) { _, _ in
            CountAccumulator()
        },
        AggregateFunction("count", [.any], .of(.int64), example: ("count(x)", "(1,0), (NULL,0)", "1")) { _, _ in
            CountAccumulator()
        },
    ]

    private static let sums: [AggregateFunction] = {
        var rows: [AggregateFunction] = []
        for type in [DataType.int16, .int32, .int64] {
            let isBig = type == .int64
            rows.append(
                AggregateFunction(
                    "sum", [.of(type)], .of(isBig ? .decimal : .int64),
                    example: ("sum(x::\(type.name))", "(1,0), (2,0), (NULL,0)", "3")
                ) { _, _ in IntegerSumAccumulator(isBig ? .decimal : .integer) })
            rows.append(
                AggregateFunction(
                    "avg", [.of(type)], .of(.decimal),
                    example: ("avg(x::\(type.name))", "(1,0), (2,0)", "1.5000000000000000")
                ) { _, _ in IntegerSumAccumulator(.average) })
        }
        for type in [DataType.float32, .float64] {
            rows.append(
                AggregateFunction(
                    "sum", [.of(type)], .of(type), example: ("sum(x::\(type.name))", "(1.5,0), (2,0)", "3.5")
                ) { _, _ in FloatSumAccumulator(isAverage: false, kind: type.kind) })
            rows.append(
                AggregateFunction(
                    "avg", [.of(type)], .of(.float64), example: ("avg(x::\(type.name))", "(1,0), (2,0)", "1.5")
                ) { _, _ in FloatSumAccumulator(isAverage: true, kind: type.kind) })
        }
        rows.append(
            AggregateFunction("sum", [.of(.decimal)], .of(.decimal), example: ("sum(x)", "(1.25,0), (2,0)", "3.25")) {
                _, _ in FoldAccumulator { left, right throws(StatementError) in try added(left, right) }
            })
        rows.append(
            AggregateFunction(
                "avg", [.of(.decimal)], .of(.decimal), example: ("avg(x)", "(1.0,0), (2.0,0)", "1.5000000000000000")
            ) { _, _ in DecimalAverageAccumulator() })
        rows.append(
            AggregateFunction(
                "sum", [.of(.interval)], .of(.interval),
                example: ("sum(x::interval) = '3 days'", "('1 day',0), ('2 days',0)", "true")
            ) { _, _ in
                FoldAccumulator { left, right throws(StatementError) in
                    .interval(try left.interval.adding(right.interval))
                }
            })
        return rows
    }()

    @Sendable private static func added(_ left: Value, _ right: Value) throws(StatementError) -> Value {
        guard case .decimal(let mine) = left, case .decimal(let theirs) = right else { return .null }
        return .decimal(try ArithmeticFunctions.compute(.add, mine, theirs))
    }

    private static let extremes: [AggregateFunction] = {
        let types: [(DataType, String, String)] = [
            (.int16, "(1,0), (2,0)", "x::int2"), (.int32, "(1,0), (2,0)", "x"), (.int64, "(1,0), (2,0)", "x::int8"),
            (.float32, "(1,0), (2,0)", "x::float4"), (.float64, "(1,0), (2,0)", "x::float8"),
            (.decimal, "(1.0,0), (2.0,0)", "x::numeric(5,0)"), (.text, "('1',0), ('2',0)", "x"),
            (.date, "('2001-01-01',0), ('2002-01-01',0)", "x::date"), (.time, "('01:00',0), ('02:00',0)", "x::time"),
            (.timestamp, "('2001-01-01',0), ('2002-01-01',0)", "x::timestamp"),
            (.timestampWithZone, "('2001-01-01',0), ('2002-01-01',0)", "x::timestamptz"),
            (.interval, "('1 day',0), ('2 days',0)", "x::interval"), (.char, "('1',0), ('2',0)", "x::bpchar"),
            (.oid, "(1,0), (2,0)", "x::oid"),
        ]
        var rows: [AggregateFunction] = []
        for (isMax, name) in [(true, "max"), (false, "min")] {
            for (type, values, argument) in types {
                // The text of dates and times is long: compare instead.
                rows.append(
                    AggregateFunction(
                        name, [.of(type)], .of(type),
                        example: (
                            "\(name)(\(argument)) \(isMax ? ">" : "<") \(isMax ? "min" : "max")(\(argument))", values,
                            "true"
                        )
                    ) { arguments, result in
                        if result.form == .integers { return IntegerExtremeAccumulator(isMax: isMax, type: result) }
                        return extreme(isMax: isMax, result)
                    })
            }
            rows.append(
                AggregateFunction(
                    name, [.anyArray], .array,
                    example: ("(\(name)(ARRAY[x]))[1]", "(1,0), (2,0)", isMax ? "2" : "1")
                ) { _, result in extreme(isMax: isMax, result) })
        }
        return rows
    }()

    private static func extreme(isMax: Bool, _ type: DataType) -> FoldAccumulator {
        FoldAccumulator { left, right throws(StatementError) in
            (Value.compare(left.forKey(as: type), right.forKey(as: type)) < 0) == isMax ? right : left
        }
    }

    private static let booleans: [AggregateFunction] = [("bool_and", true), ("every", true), ("bool_or", false)].map {
        (name: String, isAnd: Bool) in
        AggregateFunction(
            name, [.of(.bool)], .of(.bool), example: ("\(name)(x)", "(true,0), (false,0)", isAnd ? "false" : "true")
        ) { _, _ in
            FoldAccumulator { left, right throws(StatementError) in
                guard case .bool(let a) = left, case .bool(let b) = right else { return .null }
                return .bool(isAnd ? a && b : a || b)
            }
        }
    }

    private static let gathering: [AggregateFunction] = [
        AggregateFunction(
            "string_agg", [.of(.text), .of(.text)], .of(.text), isStrict: false,
            example: ("string_agg(x, '-')", "('a',0), ('b',0)", "a-b")
        ) { _, _ in
            GatheringAccumulator { rows throws(StatementError) in
                var result = "", isFirst = true
                for row in rows {
                    guard case .text(let text) = row[0] else { continue }
                    if !isFirst, case .text(let separator) = row[1] { result += separator }
                    result += text
                    isFirst = false
                }
                return isFirst ? .null : .text(result)
            }
        },
        AggregateFunction(
            "array_agg", [.anyElement], .array, isStrict: false,
            example: ("cardinality(array_agg(x))", "(1,0), (NULL,0)", "2")
        ) { arguments, result in
            let element = result.element, isNested = arguments[0].isArrayLike
            return GatheringAccumulator { rows throws(StatementError) in
                try StatisticsAggregates.gather(rows, element, isNested: isNested)
            }
        },
    ]
}
