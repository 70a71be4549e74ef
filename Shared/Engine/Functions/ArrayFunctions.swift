import Base
import DataModel

/// Arrays.
enum ArrayFunctions {
    static let rows: [ScalarFunction] = [
        ScalarFunction(
            "array_length", [.anyArray, .of(.int32)], .of(.int32), isSafe: true,
            example: ("array_length(ARRAY[1,2,3], 1)", "3")
        ) { a, _ throws(StatementError) in
            guard let dimension = dimension(a[0], a[1]) else { return .null }
            return .integer(Int64(dimension.count))
        },
        ScalarFunction(
            "array_lower", [.anyArray, .of(.int32)], .of(.int32), isSafe: true,
            example: ("array_lower(ARRAY[1,2,3], 1)", "1")
        ) { a, _ throws(StatementError) in
            guard let dimension = dimension(a[0], a[1]) else { return .null }
            return .integer(Int64(dimension.lowerBound))
        },
        ScalarFunction(
            "array_upper", [.anyArray, .of(.int32)], .of(.int32), isSafe: true,
            example: ("array_upper(ARRAY[1,8,3,7], 1)", "4")
        ) { a, _ throws(StatementError) in
            guard let dimension = dimension(a[0], a[1]) else { return .null }
            return .integer(Int64(dimension.lowerBound) + Int64(dimension.count) - 1)
        },
        ScalarFunction("cardinality", [.anyArray], .of(.int32), isSafe: true, example: ("cardinality(ARRAY[1,2])", "2"))
        {
            a, _ throws(StatementError) in .integer(Int64(elements(a[0]).count))
        },
        ScalarFunction("array_ndims", [.anyArray], .of(.int32), isSafe: true, example: ("array_ndims(ARRAY[1,2])", "1"))
        {
            a, _ throws(StatementError) in
            guard case .array(let array) = a[0], !array.dimensions.isEmpty else { return .null }
            return .integer(Int64(array.dimensions.count))
        },
        ScalarFunction(
            "array_append", [.anyCompatibleArray, .anyCompatible], .commonArray, isStrict: false,
            example: ("(array_append(ARRAY[1,2], 3))[3]", "3")
        ) { a, _ throws(StatementError) in try joined(elements(a[0]) + [a[1]], like: a[0], a[1]) },
        ScalarFunction(
            "array_prepend", [.anyCompatible, .anyCompatibleArray], .commonArray, isStrict: false,
            example: ("(array_prepend(1, ARRAY[2,3]))[1]", "1")
        ) { a, _ throws(StatementError) in try joined([a[0]] + elements(a[1]), like: a[1], a[0]) },
        ScalarFunction(
            "array_cat", [.anyCompatibleArray, .anyCompatibleArray], .commonArray, isStrict: false,
            example: ("cardinality(array_cat(ARRAY[1,2], ARRAY[3]))", "3")
        ) { a, _ throws(StatementError) in try concatenated(a) },
        ScalarFunction(
            "||", [.anyCompatibleArray, .anyCompatibleArray], .commonArray, isStrict: false,
            example: ("cardinality(ARRAY[1,2] || ARRAY[3,4])", "4")
        ) { a, _ throws(StatementError) in try concatenated(a) },
        ScalarFunction(
            "||", [.anyCompatibleArray, .anyCompatible], .commonArray, isStrict: false,
            example: ("(ARRAY[1,2] || 3)[3]", "3")
        ) { a, _ throws(StatementError) in try joined(elements(a[0]) + [a[1]], like: a[0], a[1]) },
        ScalarFunction(
            "||", [.anyCompatible, .anyCompatibleArray], .commonArray, isStrict: false,
            example: ("(3 || ARRAY[1,2])[1]", "3")
        ) { a, _ throws(StatementError) in try joined([a[0]] + elements(a[1]), like: a[1], a[0]) },
        ScalarFunction(
            "@>", [.anyArray, .anyArray], .of(.bool), isSafe: true, example: ("ARRAY[1,4,3] @> ARRAY[3,1]", "true")
        ) {
            a, _ throws(StatementError) in .bool(contains(a[0], a[1]))
        },
        ScalarFunction(
            "<@", [.anyArray, .anyArray], .of(.bool), isSafe: true, example: ("ARRAY[2] <@ ARRAY[1,2]", "true")
        ) {
            a, _ throws(StatementError) in .bool(contains(a[1], a[0]))
        },
        ScalarFunction(
            "&&", [.anyArray, .anyArray], .of(.bool), isSafe: true, example: ("ARRAY[1,4] && ARRAY[2,1]", "true")
        ) {
            a, _ throws(StatementError) in
            let others = elements(a[1])
            return .bool(elements(a[0]).contains { mine in !mine.isNull && others.contains { same(mine, $0) } })
        },
    ]

    static func elements(_ value: Value) -> [Value] {
        if case .array(let array) = value { return array.elements }
        return []
    }

    private static func same(_ left: Value, _ right: Value) -> Bool {
        left.isNull || right.isNull ? left.isNull && right.isNull : Value.compare(left, right) == 0
    }

    private static func contains(_ whole: Value, _ part: Value) -> Bool {
        let all = elements(whole)
        return elements(part).allSatisfy { wanted in !wanted.isNull && all.contains { same($0, wanted) } }
    }

    private static func dimension(_ array: Value, _ number: Value) -> ArrayValue.Dimension? {
        guard case .array(let array) = array, case .integer(let number) = number, number >= 1,
            number <= array.dimensions.count
        else { return nil }
        return array.dimensions[Int(number) - 1]
    }

    private static func joined(_ elements: [Value], like array: Value, _ value: Value) throws(StatementError) -> Value {
        guard case .array(let array) = array else {
            return .array(ArrayValue(type(of: value), elements))
        }
        guard array.dimensions.count <= 1 else {
            throw StatementError(.dataException, "argument must be empty or one-dimensional array")
        }
        let bound = array.dimensions.first?.lowerBound ?? 1
        let dimension = ArrayValue.Dimension(count: Int32(clamping: elements.count), lowerBound: bound)
        return ArrayValue(array.element, dimensions: [dimension], elements: elements).map { .array($0) } ?? .null
    }

    /// The type of an element where there is no array to ask: only its form matters then.
    private static func type(of value: Value) -> DataType {
        switch value {
        case .bool: .bool
        case .integer: .int64
        case .float: .float64
        case .decimal: .decimal
        case .bytes: .bytes
        case .uuid: .uuid
        case .date: .date
        case .time: .time
        case .timeWithZone: .timeWithZone
        case .timestamp: .timestamp
        case .interval: .interval
        case .json: .jsonb
        case .null, .text, .array, .tuple: .text
        }
    }

    private static func concatenated(_ a: [Value]) throws(StatementError) -> Value {
        guard case .array(let left) = a[0] else { return a[1] }
        guard case .array(let right) = a[1] else { return a[0] }
        if left.elements.isEmpty { return a[1] }
        if right.elements.isEmpty { return a[0] }
        func extents(_ dimensions: ArraySlice<ArrayValue.Dimension>) -> [Int32] {
            dimensions.flatMap { [$0.count, $0.lowerBound] }
        }
        var dimensions: [ArrayValue.Dimension]
        if left.dimensions.count == right.dimensions.count,
            extents(left.dimensions.dropFirst()) == extents(right.dimensions.dropFirst())
        {
            dimensions = left.dimensions
            dimensions[0].count &+= right.dimensions[0].count
        } else if left.dimensions.count == right.dimensions.count + 1,
            extents(left.dimensions.dropFirst()) == extents(right.dimensions[...])
        {
            // An array more in an array of such.
            dimensions = left.dimensions
            dimensions[0].count &+= 1
        } else if left.dimensions.count + 1 == right.dimensions.count,
            extents(left.dimensions[...]) == extents(right.dimensions.dropFirst())
        {
            dimensions = right.dimensions
            dimensions[0].count &+= 1
        } else {
            let counts = (left.dimensions.count, right.dimensions.count)
            let detail =
                abs(counts.0 - counts.1) > 1
                ? "Arrays of \(counts.0) and \(counts.1) dimensions are not compatible for concatenation."
                : "Arrays with differing \(counts.0 == counts.1 ? "element " : "")dimensions are not compatible for "
                    + "concatenation."
            throw StatementError(.arraySubscriptError, "cannot concatenate incompatible arrays", detail: detail)
        }
        let all = left.elements + right.elements
        return ArrayValue(left.element, dimensions: dimensions, elements: all).map { .array($0) } ?? .null
    }

    // MARK: Forms of the language

    /// `array[i][j]`; NULL outside of it.
    static let subscription = ScalarFunction("subscript", [.any], .element, isVariadic: true, example: nil) {
        a, _ throws(StatementError) in
        guard case .array(let array) = a[0], array.dimensions.count == a.count - 1 else { return .null }
        var place = 0
        for (dimension, index) in zip(array.dimensions, a.dropFirst()) {
            guard case .integer(let number) = index else { return .null }
            let offset = number - Int64(dimension.lowerBound)
            guard offset >= 0, offset < Int64(dimension.count) else { return .null }
            place = place * Int(dimension.count) + Int(offset)
        }
        return place < array.elements.count ? array.elements[place] : .null
    }

    /// `x op ANY (array)`, `x op ALL (array)`.
    static func quantified(_ function: ScalarFunction, isAll: Bool) -> ScalarFunction {
        ScalarFunction(
            isAll ? "all" : "any", of: function.origin ?? function, result: .bool, volatility: function.volatility,
            isStrict: false
        ) { a, context throws(StatementError) in
            guard case .array(let array) = a[1] else { return .null }
            var hasNull = false
            for element in array.elements {
                if function.isStrict, a[0].isNull || element.isNull {
                    hasNull = true
                    continue
                }
                guard case .bool(let flag) = try function.body([a[0], element], context) else {
                    hasNull = true
                    continue
                }
                if flag != isAll { return .bool(!isAll) }
            }
            return hasNull ? .null : .bool(isAll)
        }
    }
}
