import Base
import DataModel

/// Objects of JSON as rows of columns that a statement names: json_to_record and its like.
enum JSONRecords {
    /// What a function of that name takes and gives.
    struct Shape {
        let type: DataType
        /// Any number of rows, of an array.
        let isSet: Bool
        /// Its columns are those of a table, which its first argument names.
        let isPopulating: Bool
    }

    static func shape(of name: String) -> Shape? {
        guard let end = name.utf8.firstIndex(of: UInt8(ascii: "_")), ["json", "jsonb"].contains(name[..<end]) else {
            return nil
        }
        let type: DataType = name[..<end] == "json" ? .json : .jsonb
        switch name[end...] {
        case "_to_record": return Shape(type: type, isSet: false, isPopulating: false)
        case "_to_recordset": return Shape(type: type, isSet: true, isPopulating: false)
        case "_populate_record": return Shape(type: type, isSet: false, isPopulating: true)
        case "_populate_recordset": return Shape(type: type, isSet: true, isPopulating: true)
        case _: return nil
        }
    }

    static func function(_ name: String, _ shape: Shape, _ columns: [(name: String, type: DataType)]) -> RowsFunction {
        RowsFunction(
            name, [.of(shape.type)], .of(.record), columns: columns.map { ($0.name, $0.type) }, isStrict: false,
            example: ("", "")
        ) { a, context throws(StatementError) in
            let document: Source
            switch a[0] {
            case .json(let binary): document = .binary(binary)
            case .text(let text): document = .text(try JSONText(checking: text))
            case _: return shape.isSet ? [] : [[Value](repeating: .null, count: columns.count)]
            }
            guard shape.isSet else {
                guard document.kind == .object else {
                    throw refused(
                        "cannot call populate_composite on \(document.kind == .array ? "an array" : "a scalar")")
                }
                return [try row(document, columns, context)]
            }
            guard document.kind == .array else {
                let kind = document.kind == .object ? "an object" : "a scalar"
                throw refused("cannot call \(name) on \(shape.type == .json ? kind : "a non-array")")
            }
            var rows: [[Value]] = []
            for element in document.elements {
                guard element.kind == .object else { throw refused("argument of \(name) must be an array of objects") }
                rows.append(try row(element, columns, context))
            }
            return rows
        }
    }

    private static func refused(_ message: String) -> StatementError { StatementError(.invalidParameterValue, message) }

    /// Either form of a document.
    private enum Source {
        case text(JSONText)
        case binary(JSONBinary)

        var kind: JSONBinary.Kind {
            switch self {
            case .text(let text): text.kind
            case .binary(let binary): binary.kind
            }
        }

        var elements: [Source] {
            switch self {
            case .text(let text): text.elements.map { .text($0) }
            case .binary(let binary): (0..<binary.count).compactMap { binary.element(at: $0).map { .binary($0) } }
            }
        }

        var text: String {
            switch self {
            case .text(let text): text.text
            case .binary(let binary): binary.text
            }
        }

        /// A string without its quotes.
        func plain() throws(StatementError) -> String {
            switch self {
            case .text(let text): try text.unquoted() ?? "null"
            case .binary(let binary): binary.unquotedText ?? "null"
            }
        }
    }

    private static func row(
        _ object: Source, _ columns: [(name: String, type: DataType)], _ context: ExecutionContext
    ) throws(StatementError) -> [Value] {
        // By their bytes: two texts that Unicode calls equal are two keys.
        var members: [Bytes: Source] = [:]
        if case .text(let text) = object {
            // The last one of a key counts.
            for (key, value) in try text.members() { members[Bytes(key.utf8)] = .text(value) }
        }
        var row: [Value] = []
        for column in columns {
            let found: Source? =
                switch object {
                case .text: members[Bytes(column.name.utf8)]
                case .binary(let binary): binary.value(forKey: column.name).map { .binary($0) }
                }
            guard let found, found.kind != .null else {
                row.append(.null)
                continue
            }
            row.append(try value(found, column.type, column.name, context))
        }
        return row
    }

    private static func value(_ source: Source, _ type: DataType, _ key: String, _ context: ExecutionContext)
        throws(StatementError) -> Value
    {
        if type.isArray, source.kind != .string { return try array(source, type, key, context) }
        let value: Value
        switch type.kind {
        case .json where !type.isArray: value = .text(source.text)
        case .jsonb where !type.isArray:
            if case .binary(let binary) = source {
                value = .json(binary)
            } else {
                value = .json(try JSONBinary(parsing: source.text))
            }
        case _: value = try TextForms.parse(try source.plain(), type, context)
        }
        return try Casts.fit(value, to: type, isExplicit: false)
    }

    // MARK: Arrays

    private static func array(_ source: Source, _ type: DataType, _ key: String, _ context: ExecutionContext)
        throws(StatementError) -> Value
    {
        // As deep as the first element of each is.
        var counts: [Int] = [], first: Source? = source
        while let found = first, found.kind == .array || counts.isEmpty {
            guard found.kind == .array else { throw expected("value of key \"\(key)\"") }
            let elements = found.elements
            counts.append(elements.count)
            first = elements.first
            guard counts.count <= ArrayValue.dimensionLimit else {
                throw StatementError(
                    .programLimitExceeded,
                    "number of array dimensions (\(counts.count)) exceeds the maximum allowed "
                        + "(\(ArrayValue.dimensionLimit))")
            }
        }
        var values: [Value] = []
        func walk(_ list: Source, _ depth: Int, _ place: String) throws(StatementError) {
            guard list.kind == .array else { throw expected("array element \(place) of key \"\(key)\"") }
            let elements = list.elements
            guard elements.count == counts[depth] else {
                throw StatementError(
                    .invalidTextRepresentation, "malformed JSON array",
                    detail: "Multidimensional arrays must have sub-arrays with matching dimensions.")
            }
            for (index, element) in elements.enumerated() {
                if depth + 1 < counts.count {
                    try walk(element, depth + 1, place + "[\(index)]")
                } else {
                    values.append(
                        element.kind == .null ? .null : try value(element, type.element, key, context))
                }
            }
        }
        try walk(source, 0, "")
        guard !counts.contains(0) else { return .array(ArrayValue(type.element, [])) }
        let dimensions = counts.map { ArrayValue.Dimension(count: Int32(clamping: $0)) }
        return ArrayValue(type.element, dimensions: dimensions, elements: values).map { .array($0) } ?? .null
    }

    private static func expected(_ place: String) -> StatementError {
        StatementError(.invalidTextRepresentation, "expected JSON array", hint: "See the \(place).")
    }
}
