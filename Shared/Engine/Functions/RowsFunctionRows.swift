import Base
import DataModel

/// Functions that give rows.
enum RowsFunctions {
    static let rows: [RowsFunction] =
        series + patterns + RecordShape.functions + [
            RowsFunction("unnest", [.anyArray], .element, example: ("unnest(ARRAY[1,2,3])", "1,2,3")) {
                a, _ throws(StatementError) in ArrayFunctions.elements(a[0]).map { [$0] }
            },
            RowsFunction(
                "string_to_table", [.of(.text), .of(.text)], .of(.text), isStrict: false,
                example: ("string_to_table('a,b', ',')", "a,b")
            ) { a, _ throws(StatementError) in
                ArrayFunctions.elements(ArrayChanges.parts(a[0], a[1], .null)).map { [$0] }
            },
            RowsFunction(
                "string_to_table", [.of(.text), .of(.text), .of(.text)], .of(.text), isStrict: false,
                example: ("string_to_table('a,b,c', ',', 'b')", "a,c")
            ) { a, _ throws(StatementError) in
                ArrayFunctions.elements(ArrayChanges.parts(a[0], a[1], a[2])).map { [$0] }
            },
            RowsFunction(
                "generate_subscripts", [.anyArray, .of(.int32), .of(.bool)], .of(.int32),
                example: ("generate_subscripts(ARRAY[5,6], 1, true)", "2,1")
            ) { a, _ throws(StatementError) in
                guard case .array(let array) = a[0], case .integer(let number) = a[1], number >= 1,
                    number <= array.dimensions.count
                else { return [] }
                let dimension = array.dimensions[Int(number) - 1]
                let all = (0..<Int64(dimension.count)).map { [Value.integer(Int64(dimension.lowerBound) + $0)] }
                return a[2].flag ? all.reversed() : all
            },
            RowsFunction(
                "generate_subscripts", [.anyArray, .of(.int32)], .of(.int32),
                example: ("generate_subscripts(ARRAY[5,6], 1)", "1,2")
            ) { a, _ throws(StatementError) in
                guard case .array(let array) = a[0], case .integer(let number) = a[1], number >= 1,
                    number <= array.dimensions.count
                else { return [] }
                let dimension = array.dimensions[Int(number) - 1]
                return (0..<Int64(dimension.count)).map { [.integer(Int64(dimension.lowerBound) + $0)] }
            },
        ]

    private static let patterns: [RowsFunction] = [false, true].flatMap { (hasFlags: Bool) -> [RowsFunction] in
        let types: [ParameterType] = Array(repeating: .of(.text), count: hasFlags ? 3 : 2)
        return [
            RowsFunction(
                "regexp_matches", types, .of(.text.array),
                example: ("regexp_matches('ab12', '[0-9]'\(hasFlags ? ", 'g'" : ""))", hasFlags ? "{1},{2}" : "{1}")
            ) { a, context throws(StatementError) in try RegexFunctions.matchRows(a, context) },
            RowsFunction(
                "regexp_split_to_table", types, .of(.text),
                example: ("regexp_split_to_table('aXbxc', 'x'\(hasFlags ? ", 'i'" : ""))", hasFlags ? "a,b,c" : "aXb,c")
            ) { a, context throws(StatementError) in
                try RegexFunctions.split(a, "regexp_split_to_table", context).map { [$0] }
            },
        ]
    }

    /// Stands for any other function in FROM: one row of its value.
    static let single = RowsFunction("", [.any], .element, isStrict: false, example: ("", "")) {
        a, _ throws(StatementError) in [[a[0]]]
    }

    /// Several functions side by side, each with its share of the arguments.
    static func together(_ parts: [(function: RowsFunction, arguments: Int)], _ columns: [(String, DataType)])
        -> RowsFunction
    {
        RowsFunction("ROWS FROM", [.any], .of(.record), columns: columns, isStrict: false, example: ("", "")) {
            arguments, context throws(StatementError) in
            var lists: [(rows: [[Value]], width: Int)] = [], start = 0, charged = 0
            for (function, count) in parts {
                let stream = try function.begin(Array(arguments[start..<start + count]), context)
                var rows: [[Value]] = []
                start += count
                while let row = try stream.next() {
                    rows.append(row)
                    guard rows.count % 1024 == 0 else { continue }
                    try context.checkCancelled()
                    try context.charge(1024 * 64)
                    charged += 1024 * 64
                }
                lists.append((rows, max(function.columns.count, 1)))
            }
            // From here on whoever asked accounts for them.
            try context.charge(-charged)
            return (0..<(lists.map(\.rows.count).max() ?? 0)).map { row in
                lists.flatMap { $0.rows.count > row ? $0.rows[row] : [Value](repeating: .null, count: $0.width) }
            }
        }
    }

    private static let series: [RowsFunction] = {
        var rows: [RowsFunction] = []
        for type in [DataType.int32, .int64] {
            rows.append(
                RowsFunction(
                    lazy: "generate_series", [.of(type), .of(type)], .of(type),
                    example: ("generate_series(1::\(type.name), 3::\(type.name))", "1,2,3")
                ) { a, _ throws(StatementError) in try integers(a[0], a[1], .integer(1)) })
            rows.append(
                RowsFunction(
                    lazy: "generate_series", [.of(type), .of(type), .of(type)], .of(type),
                    example: ("generate_series(5::\(type.name), 1::\(type.name), (-2)::\(type.name))", "5,3,1")
                ) { a, _ throws(StatementError) in try integers(a[0], a[1], a[2]) })
        }
        return rows
    }()

    static var zeroStep: StatementError { StatementError(.invalidParameterValue, "step size cannot equal zero") }

    private static func integers(_ start: Value, _ end: Value, _ step: Value) throws(StatementError) -> RowStream {
        guard case .integer(let start) = start, case .integer(let end) = end, case .integer(let step) = step else {
            return RowStream([])
        }
        guard step != 0 else { throw zeroStep }
        var next: Int64? = start
        return RowStream { () throws(StatementError) in
            guard let value = next, step > 0 ? value <= end : value >= end else { return nil }
            let (following, isOver) = value.addingReportingOverflow(step)
            next = isOver ? nil : following
            return [.integer(value)]
        }
    }
}
