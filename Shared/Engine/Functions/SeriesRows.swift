import Base
import DataModel

/// generate_series of moments, and of decimals one apart.
enum SeriesRows {
    static let rows: [RowsFunction] = [
        moments(.timestamp, ""), moments(.timestampWithZone, "+00"),
        RowsFunction(
            lazy: "generate_series", [.of(.decimal), .of(.decimal)], .of(.decimal),
            example: ("generate_series(1.5, 3.5)", "1.5,2.5,3.5")
        ) { a, _ throws(StatementError) in
            try decimals(a[0].exact, a[1].exact, step: Decimal(1))
        },
        RowsFunction(
            lazy: "generate_series", [.of(.decimal), .of(.decimal), .of(.decimal)], .of(.decimal),
            example: ("generate_series(1.0, 2.0, 0.5)", "1.0,1.5,2.0")
        ) { a, _ throws(StatementError) in
            try decimals(a[0].exact, a[1].exact, step: a[2].exact)
        },
    ]

    private static func decimals(_ start: Decimal, _ end: Decimal, step: Decimal) throws(StatementError) -> RowStream {
        for (value, name) in [(start, "start value"), (end, "stop value"), (step, "step size")] {
            guard value.isFinite else {
                let what = value.kind == .nan ? "NaN" : "infinity"
                throw StatementError(.invalidParameterValue, "\(name) cannot be \(what)")
            }
        }
        guard !step.isZero else { throw RowsFunctions.zeroStep }
        var next: Decimal? = start
        return RowStream { () throws(StatementError) in
            guard let value = next, step.signum > 0 ? value <= end : value >= end else { return nil }
            // Behind the greatest number there is none.
            next = try? ArithmeticFunctions.compute(.add, value, step)
            return [.decimal(value)]
        }
    }

    private static func moments(_ type: DataType, _ suffix: String) -> RowsFunction {
        let literal = "'2024-01-31\(suffix)'::\(type.name)", end = "'2024-02-29\(suffix)'::\(type.name)"
        return RowsFunction(
            lazy: "generate_series", [.of(type), .of(type), .of(.interval)], .of(type),
            example: (
                "generate_series(\(literal), \(end), '1 mon')",
                "2024-01-31 00:00:00\(suffix),2024-02-29 00:00:00\(suffix)"
            )
        ) { a, context throws(StatementError) in
            let zone = type == .timestampWithZone ? context.settings.text.zone : nil
            let step = a[2].interval, zero = Interval()
            guard step != zero else { throw RowsFunctions.zeroStep }
            let isRising = zero < step
            let end = a[1].moment
            var next: Int64? = a[0].moment
            return RowStream { () throws(StatementError) in
                guard let moment = next, isRising ? moment <= end : moment >= end else { return nil }
                let following = try DateTimeArithmetic.adding(step, to: moment, zone: zone)
                // A step from the last day of a month may stand still.
                next = following == moment ? nil : following
                return [.timestamp(moment)]
            }
        }
    }
}
