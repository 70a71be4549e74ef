import Base
import DataModel

/// Arrays made, searched and changed as a whole.
enum ArrayChanges {
    static let rows: [ScalarFunction] = searched + changed + made + shown

    private static func same(_ left: Value, _ right: Value) -> Bool {
        left.isNull || right.isNull ? left.isNull && right.isNull : Value.compare(left, right) == 0
    }

    private static func flat(_ value: Value, _ what: String) throws(StatementError) -> ArrayValue? {
        guard case .array(let array) = value else { return nil }
        guard array.dimensions.count <= 1 else {
            throw StatementError(
                .featureNotSupported, "\(what) multidimensional arrays is not supported")
        }
        return array
    }

    private static func rebuilt(_ array: ArrayValue, _ elements: [Value]) -> Value {
        guard let first = array.dimensions.first, !elements.isEmpty else {
            return .array(ArrayValue(array.element, elements))
        }
        let dimension = ArrayValue.Dimension(count: Int32(clamping: elements.count), lowerBound: first.lowerBound)
        return ArrayValue(array.element, dimensions: [dimension], elements: elements).map { .array($0) } ?? .null
    }

    /// The index of an element, from a place on.
    private static func position(_ a: [Value]) throws(StatementError) -> Value {
        guard let array = try flat(a[0], "searching for elements in") else { return .null }
        let bound = Int64(array.dimensions.first?.lowerBound ?? 1)
        var start = 0
        if a.count > 2 {
            guard case .integer(let from) = a[2] else {
                throw StatementError(.nullValueNotAllowed, "initial position must not be null")
            }
            start = Int(max(from - bound, 0))
        }
        guard start < array.elements.count else { return .null }
        let place = array.elements[start...].firstIndex { same($0, a[1]) }
        return place.map { .integer(Int64($0) + bound) } ?? .null
    }

    private static let searched: [ScalarFunction] = [
        ScalarFunction(
            "array_position", [.anyCompatibleArray, .anyCompatible], .of(.int32), isStrict: false,
            example: ("array_position(ARRAY['sun','mon','tue'], 'mon')", "2")
        ) { a, _ throws(StatementError) in try position(a) },
        ScalarFunction(
            "array_position", [.anyCompatibleArray, .anyCompatible, .of(.int32)], .of(.int32), isStrict: false,
            example: ("array_position(ARRAY[1,2,1], 1, 2)", "3")
        ) { a, _ throws(StatementError) in try position(a) },
        ScalarFunction(
            "array_positions", [.anyCompatibleArray, .anyCompatible], .of(.int32.array), isStrict: false,
            example: ("array_positions(ARRAY[1,2,1], 1)", "{1,3}")
        ) { a, _ throws(StatementError) in
            guard let array = try flat(a[0], "searching for elements in") else { return .null }
            let bound = Int64(array.dimensions.first?.lowerBound ?? 1)
            let places = array.elements.indices.filter { same(array.elements[$0], a[1]) }
            return .array(ArrayValue(.int32, places.map { .integer(Int64($0) + bound) }))
        },
    ]

    private static let changed: [ScalarFunction] = [
        ScalarFunction(
            "array_remove", [.anyCompatibleArray, .anyCompatible], .commonArray, isStrict: false,
            example: ("array_remove(ARRAY[1,2,3,2], 2)", "{1,3}")
        ) { a, _ throws(StatementError) in
            guard let array = try flat(a[0], "removing elements from") else { return .null }
            return rebuilt(array, array.elements.filter { !same($0, a[1]) })
        },
        ScalarFunction(
            "array_replace", [.anyCompatibleArray, .anyCompatible, .anyCompatible], .commonArray, isStrict: false,
            example: ("array_replace(ARRAY[1,2,5,4], 5, 3)", "{1,2,3,4}")
        ) { a, _ throws(StatementError) in
            guard case .array(let array) = a[0] else { return .null }
            let elements = array.elements.map { same($0, a[1]) ? a[2] : $0 }
            return ArrayValue(array.element, dimensions: array.dimensions, elements: elements).map { .array($0) }
                ?? .null
        },
        ScalarFunction(
            "trim_array", [.anyArray, .of(.int32)], .array, example: ("trim_array(ARRAY[1,2,3,4], 2)", "{1,2}")
        ) { a, _ throws(StatementError) in
            guard case .array(let array) = a[0] else { return .null }
            let length = Int64(array.dimensions.first?.count ?? 0)
            guard a[1].int >= 0, a[1].int <= length else {
                throw StatementError(
                    .arraySubscriptError, "number of elements to trim must be between 0 and \(length)")
            }
            if a[1].int == length { return .array(ArrayValue(array.element, [])) }
            var dimensions = array.dimensions
            guard !dimensions.isEmpty else { return a[0] }
            dimensions[0].count -= Int32(clamping: a[1].int)
            // A slice counts from 1.
            for index in dimensions.indices { dimensions[index].lowerBound = 1 }
            let width = array.elements.count / Int(max(length, 1))
            let kept = Array(array.elements.prefix(Int(length - a[1].int) * width))
            return ArrayValue(array.element, dimensions: dimensions, elements: kept).map { .array($0) } ?? .null
        },
    ]

    // MARK: Made

    private static func filled(_ value: Value, _ type: DataType, _ counts: Value, _ bounds: Value?)
        throws(StatementError) -> Value
    {
        func numbers(_ value: Value) throws(StatementError) -> [Int32] {
            guard case .array(let array) = value else {
                throw StatementError(.nullValueNotAllowed, "dimension array or low bound array cannot be null")
            }
            guard array.dimensions.count <= 1 else {
                throw StatementError(
                    .arraySubscriptError, "wrong number of array subscripts",
                    detail: "Dimension array must be one dimensional.")
            }
            var numbers: [Int32] = []
            for element in array.elements {
                guard case .integer(let number) = element else {
                    throw StatementError(.nullValueNotAllowed, "dimension values cannot be null")
                }
                numbers.append(Int32(clamping: number))
            }
            return numbers
        }
        let counts = try numbers(counts), lows = try bounds.map(numbers)
        guard counts.count <= ArrayValue.dimensionLimit else {
            throw StatementError(
                .programLimitExceeded,
                "number of array dimensions (\(counts.count)) exceeds the maximum allowed (6)")
        }
        guard lows == nil || lows?.count == counts.count else {
            throw StatementError(
                .arraySubscriptError, "wrong number of array subscripts",
                detail: "Low bound array has different size than dimensions array.")
        }
        var total = 1
        for count in counts {
            guard count >= 0, total <= 10_000_000 / max(Int(count), 1) else {
                throw StatementError(
                    .programLimitExceeded, "array size exceeds the maximum allowed (134217727)")
            }
            total *= Int(count)
        }
        if counts.isEmpty || total == 0 { return .array(ArrayValue(type, [])) }
        let dimensions = counts.indices.map {
            ArrayValue.Dimension(count: counts[$0], lowerBound: lows.map { $0 }?[$0] ?? 1)
        }
        guard
            let array = ArrayValue(
                type, dimensions: dimensions, elements: Array(repeating: value, count: total))
        else {
            throw StatementError(.programLimitExceeded, "array size exceeds the maximum allowed (134217727)")
        }
        return .array(array)
    }

    private static let made: [ScalarFunction] = [
        ScalarFunction(
            "array_fill", [.anyElement, .of(.int32.array)], .array, isStrict: false,
            example: ("array_fill(7, ARRAY[2,2])", "{{7,7},{7,7}}")
        ) { types, _ in { a, _ throws(StatementError) in try filled(a[0], types[0].unconstrained, a[1], nil) } },
        ScalarFunction(
            "array_fill", [.anyElement, .of(.int32.array), .of(.int32.array)], .array, isStrict: false,
            example: ("array_fill(7, ARRAY[2], ARRAY[5])", "[5:6]={7,7}")
        ) { types, _ in { a, _ throws(StatementError) in try filled(a[0], types[0].unconstrained, a[1], a[2]) } },
    ]

    // MARK: Shown

    private static let shown: [ScalarFunction] = [
        .row(
            "string_to_array", [.text, .text], .text.array, ("string_to_array('xx~yy~zz', '~')", "{xx,yy,zz}"),
            isStrict: false
        ) {
            a, _ throws(StatementError) in parts(a[0], a[1], .null)
        },
        .row(
            "string_to_array", [.text, .text, .text], .text.array,
            ("string_to_array('xx~yy~zz', '~', 'yy')", "{xx,NULL,zz}"), isStrict: false
        ) { a, _ throws(StatementError) in parts(a[0], a[1], a[2]) },
        ScalarFunction(
            "array_dims", [.anyArray], .of(.text), isSafe: true,
            example: ("array_dims(ARRAY[[1,2,3],[4,5,6]])", "[1:2][1:3]")
        ) { a, _ throws(StatementError) in
            guard case .array(let array) = a[0], !array.dimensions.isEmpty else { return .null }
            let bounds = array.dimensions.map {
                "[\($0.lowerBound):\(Int64($0.lowerBound) + Int64($0.count) - 1)]"
            }
            return .text(bounds.joined())
        },
        ScalarFunction(
            "array_to_string", [.anyArray, .of(.text)], .of(.text), volatility: .stable,
            example: ("array_to_string(ARRAY[1,2,NULL,3], '-')", "1-2-3")
        ) { types, _ in
            { a, context throws(StatementError) in
                joined(a[0], types[0].element, a[1].string, nil, context)
            }
        },
        ScalarFunction(
            "array_to_string", [.anyArray, .of(.text), .of(.text)], .of(.text), volatility: .stable, isStrict: false,
            example: ("array_to_string(ARRAY[1,NULL,3], ',', '*')", "1,*,3")
        ) { types, _ in
            { a, context throws(StatementError) in
                guard !a[0].isNull, case .text(let separator) = a[1] else { return .null }
                return joined(a[0], types[0].element, separator, a[2].isNull ? nil : a[2].string, context)
            }
        },
        ScalarFunction(
            "array_to_json", [.anyArray], .of(.json), volatility: .stable,
            example: ("array_to_json(ARRAY[[1,2],[3,4]])", "[[1,2],[3,4]]")
        ) { types, _ in
            { a, context throws(StatementError) in .text(JSONMaking.text(a[0], types[0], context.settings)) }
        },
        ScalarFunction(
            "array_to_json", [.anyArray, .of(.bool)], .of(.json), volatility: .stable,
            example: ("array_to_json(ARRAY[[1,2],[3,4]], true)", "[[1,2],\n [3,4]]")
        ) { types, _ in
            { a, context throws(StatementError) in
                let text = JSONMaking.text(a[0], types[0], context.settings)
                return .text(a[1].flag ? JSONText(text).broken() : text)
            }
        },
    ]

    private static func joined(
        _ value: Value, _ type: DataType, _ separator: String, _ null: String?, _ context: ExecutionContext
    ) -> Value {
        var parts: [String] = []
        for element in ArrayFunctions.elements(value) {
            if !element.isNull {
                parts.append(TextForms.text(element, type, context.settings))
            } else if let null {
                parts.append(null)
            }
        }
        return .text(parts.joined(separator: separator))
    }

    static func parts(_ value: Value, _ separator: Value, _ null: Value) -> Value {
        guard case .text(let text) = value else { return .null }
        let pieces: [String]
        if text.isEmpty {
            pieces = []
        } else if case .text(let separator) = separator {
            pieces = TextFunctions.split(text, separator)
        } else {
            pieces = text.unicodeScalars.map { String($0) }
        }
        let nullText = null.isNull ? nil : null.string
        return .array(
            ArrayValue(.text, pieces.map { $0.utf8.elementsEqual((nullText ?? "\u{0}").utf8) ? .null : .text($0) }))
    }

    // MARK: Slices

    /// `array[2:3]`: for each dimension a lower and an upper bound; NULL (a bound left out) is the array's own.
    static func slice(_ value: Value, _ bounds: [(low: Value?, high: Value?)]) -> Value {
        guard case .array(let array) = value else { return .null }
        let empty = Value.array(ArrayValue(array.element, []))
        guard bounds.count <= array.dimensions.count else { return empty }
        var ranges: [Range<Int>] = [], dimensions: [ArrayValue.Dimension] = []
        for (index, dimension) in array.dimensions.enumerated() {
            let first = Int64(dimension.lowerBound), last = first + Int64(dimension.count) - 1
            var low = first, high = last
            if index < bounds.count {
                if let bound = bounds[index].low {
                    guard case .integer(let number) = bound else { return .null }
                    low = max(number, first)
                }
                if let bound = bounds[index].high {
                    guard case .integer(let number) = bound else { return .null }
                    high = min(number, last)
                }
            }
            guard low <= high else { return empty }
            ranges.append(Int(low - first)..<Int(high - first + 1))
            dimensions.append(ArrayValue.Dimension(count: Int32(clamping: high - low + 1)))
        }
        var elements: [Value] = []
        func walk(_ depth: Int, _ place: Int) {
            guard depth < ranges.count else {
                if place < array.elements.count { elements.append(array.elements[place]) }
                return
            }
            for index in ranges[depth] { walk(depth + 1, place * Int(array.dimensions[depth].count) + index) }
        }
        walk(0, 0)
        return ArrayValue(array.element, dimensions: dimensions, elements: elements).map { .array($0) } ?? empty
    }
}
