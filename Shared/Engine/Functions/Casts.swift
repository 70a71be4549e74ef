import Base
import DataModel

/// Where a cast is asked for, and what the table allows: each includes those before it.
enum CastContext: Int, Comparable, Sendable {
    case implicit, assignment, explicit

    static func < (left: CastContext, right: CastContext) -> Bool { left.rawValue < right.rawValue }
}

/// One way from a type to another.
struct CastPath {
    /// Nil: the same value.
    let body: ScalarBody?
    let kernel: Kernel?
    let volatility: Volatility
    var position: Int32 = 0
    let isExplicit: Bool

    /// The expression cast by this, and fitted to the constraint of the type.
    func apply(to expression: BoundExpression, _ type: DataType) -> BoundExpression {
        var result = expression
        if let body {
            let function = ScalarFunction(
                "cast to \(type.title)", of: Casts.cast, result: type.unconstrained, volatility: volatility,
                kernel: kernel, body: body)
            result = BoundExpression(form: .call(function, [expression]), type: type.unconstrained, position: position)
        } else {
            result.type = expression.type.form == type.form ? type.unconstrained : result.type
        }
        guard type.modifier >= 0, expression.type != type else {
            result.type = type
            return result
        }
        if case .constant(let value) = result.form, let fitted = try? Casts.fit(value, to: type, isExplicit: isExplicit)
        {
            result.form = .constant(fitted)
            result.type = type
            return result
        }
        let isExplicit = isExplicit
        let fitting = ScalarFunction(type.formatted, of: Casts.cast, result: type, volatility: .immutable) {
            arguments, _ throws(StatementError) in
            try Casts.fit(arguments[0], to: type, isExplicit: isExplicit)
        }
        return BoundExpression(form: .call(fitting, [result]), type: type, position: position)
    }
}

/// The table of casts.
enum Casts {
    /// What all casts are made of: they are the same if their types are.
    static let cast = ScalarFunction("cast", [.any], .of(.void), example: nil) { a, _ throws(StatementError) in a[0] }

    private static let texts: Set<DataType.Kind> = [.text, .varchar, .char, .name]
    private static let integers: Set<DataType.Kind> = [.int16, .int32, .int64]
    private static let references: Set<DataType.Kind> = [
        .oid, .regclass, .regtype, .regproc, .regnamespace, .regrole,
    ]
    /// Numbers in the order in which they convert implicitly.
    private static let numbers: [DataType.Kind] = [.int16, .int32, .int64, .decimal, .float32, .float64]

    private struct Pair: Hashable {
        let from: DataType.Kind, to: DataType.Kind
        init(_ from: DataType.Kind, _ to: DataType.Kind) { (self.from, self.to) = (from, to) }
    }

    private static let table: [Pair: CastContext] = {
        let rows: [(CastContext, DataType.Kind, [DataType.Kind])] = [
            (.implicit, .varchar, [.text, .char, .name]), (.implicit, .char, [.text, .varchar, .name]),
            (.implicit, .text, [.varchar, .char, .name, .regclass]), (.implicit, .varchar, [.regclass]),
            (.implicit, .name, [.text]), (.assignment, .name, [.varchar, .char]), (.implicit, .internalChar, [.text]),
            (.implicit, .date, [.timestamp, .timestampWithZone]), (.implicit, .timestamp, [.timestampWithZone]),
            (.implicit, .time, [.interval, .timeWithZone]), (.assignment, .timestamp, [.date, .time]),
            (.assignment, .timestampWithZone, [.date, .timestamp, .time, .timeWithZone]),
            (.assignment, .timeWithZone, [.time]), (.assignment, .interval, [.time]),
            (.assignment, .json, [.jsonb]), (.assignment, .jsonb, [.json]),
            (.explicit, .int32, [.bool, .internalChar]), (.explicit, .bool, [.int32]),
            (.explicit, .jsonb, [.bool, .int16, .int32, .int64, .decimal, .float32, .float64]),
            (.explicit, .internalChar, [.int32]),
        ]
        var table: [Pair: CastContext] = [:]
        for (context, from, targets) in rows { for to in targets { table[Pair(from, to)] = context } }
        return table
    }()

    static func isImplicit(from source: DataType, to target: DataType) -> Bool {
        if source.unconstrained == target.unconstrained { return true }
        return context(from: source, to: target) == .implicit
    }

    /// The least context in which there is a cast; nil if there is none.
    static func context(from source: DataType, to target: DataType) -> CastContext? {
        if source.isArray || target.isArray {
            if source.isArray, target.isArray {
                return source.element.unconstrained == target.element.unconstrained
                    ? .implicit : context(from: source.element, to: target.element)
            }
            if target.isArray, source.isArrayLike, source.element == target.element.unconstrained { return .implicit }
            if source.isArray, texts.contains(target.kind) { return .assignment }
            if target.isArray, texts.contains(source.kind) { return .explicit }
            return nil
        }
        let from = source.kind, to = target.kind
        if from == to { return .implicit }
        if from == .unknown { return .implicit }
        if let mine = numbers.firstIndex(of: from), let theirs = numbers.firstIndex(of: to) {
            return mine < theirs ? .implicit : .assignment
        }
        if let context = table[Pair(from, to)] { return context }
        if integers.contains(from), references.contains(to) { return .implicit }
        if references.contains(from), references.contains(to) {
            return from == .oid || to == .oid ? .implicit : nil
        }
        if references.contains(from), to == .int32 || to == .int64 { return .assignment }
        if texts.contains(to) || to == .internalChar && texts.contains(from) { return .assignment }
        // Through its text, anything can be read; but only if asked for.
        return texts.contains(from) && to != .record && to != .void ? .explicit : nil
    }

    static func find(from source: DataType, to target: DataType, _ context: CastContext, at position: Int32)
        -> CastPath?
    {
        guard let needed = self.context(from: source, to: target), needed <= context else { return nil }
        let isExplicit = context == .explicit
        if source.unconstrained == target.unconstrained {
            return CastPath(body: nil, kernel: nil, volatility: .immutable, isExplicit: isExplicit)
        }
        let (body, kernel, volatility) = path(from: source, to: target)
        return CastPath(body: body, kernel: kernel, volatility: volatility, isExplicit: isExplicit)
    }

    private static func path(from source: DataType, to target: DataType) -> (ScalarBody?, Kernel?, Volatility) {
        if source.isArray, target.isArray { return arrays(from: source, to: target) }
        // A vector is an array that counts from 0.
        if source.isArrayLike, target.isArray { return (nil, nil, .immutable) }
        if !source.isArray, !target.isArray {
            if isSameValue(source.kind, target.kind) { return (nil, nil, .immutable) }
            if let body = numeric(from: source.kind, to: target.kind) {
                return (body, numericKernel(from: source.kind, to: target.kind), .immutable)
            }
            if let found = DateTimeCasts.body(from: source.kind, to: target.kind) { return (found.0, nil, found.1) }
            if let body = other(from: source.kind, to: target.kind) { return (body, nil, .immutable) }
        }
        if texts.contains(source.kind), !source.isArray, target == .regclass {
            // A number is a name here.
            let body: ScalarBody = { arguments, context throws(StatementError) in
                let text = arguments[0].string
                guard text != "-", !text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) || text.isEmpty else {
                    throw StatementError(.undefinedTable, "relation \"\(text)\" does not exist")
                }
                return try TextForms.parse(text, .regclass, context)
            }
            return (body, nil, .stable)
        }
        // By way of the text.
        let bare = target.unconstrained
        let body: ScalarBody = { arguments, context throws(StatementError) in
            try TextForms.parse(TextForms.text(arguments[0], source, context), bare, context)
        }
        let isStable =
            source.kind == .timestampWithZone || [.timestampWithZone, .date, .timestamp].contains(target.kind)
            || ObjectNames.kinds.contains(source.kind) || ObjectNames.kinds.contains(target.kind)
        return (body, nil, isStable ? .stable : .immutable)
    }

    /// Types whose values lie alike, so that a cast only changes the label.
    private static func isSameValue(_ from: DataType.Kind, _ to: DataType.Kind) -> Bool {
        if [.text, .varchar, .name].contains(from), [.text, .varchar].contains(to) { return true }
        if [.text, .varchar, .name].contains(from), to == .char { return true }
        if from == .float32, to == .float64 { return true }
        if from == .int16, to == .int32 || to == .int64 { return true }
        if from == .int32, to == .int64 { return true }
        return references.contains(from) && (references.contains(to) || to == .int64)
    }

    private static func arrays(from source: DataType, to target: DataType) -> (ScalarBody?, Kernel?, Volatility) {
        let element = target.element, inner = path(from: source.element, to: element)
        let body: ScalarBody = { arguments, context throws(StatementError) in
            guard case .array(let array) = arguments[0] else { return .null }
            var elements: [Value] = []
            elements.reserveCapacity(array.elements.count)
            for value in array.elements {
                let isKept = value.isNull || inner.0 == nil
                elements.append(isKept ? value : try inner.0?([value], context) ?? value)
            }
            guard let fresh = ArrayValue(element, dimensions: array.dimensions, elements: elements) else {
                return .null
            }
            return .array(fresh)
        }
        return (body, nil, inner.2)
    }

    static func range(of kind: DataType.Kind) -> ClosedRange<Int64> {
        switch kind {
        case .int16: Int64(Int16.min)...Int64(Int16.max)
        case .int32: Int64(Int32.min)...Int64(Int32.max)
        case .oid, .regclass, .regtype, .regproc, .regnamespace, .regrole: 0...Int64(UInt32.max)
        default: Int64.min...Int64.max  // The others are 64 bits wide, or no integers.
        }
    }

    static func outOfRange(_ kind: DataType.Kind) -> StatementError {
        StatementError(.numericValueOutOfRange, "\(kind == .oid ? "OID" : DataType(kind).title) out of range")
    }

    private static func numeric(from: DataType.Kind, to: DataType.Kind) -> ScalarBody? {
        let isIntegral = integers.contains(to) || references.contains(to)
        let range = range(of: to)
        if references.contains(to), from == .int16 || from == .int32 {
            // As C has it: -1 is the greatest.
            return { arguments, _ throws(StatementError) in .integer(arguments[0].int & 0xffff_ffff) }
        }
        if isIntegral, integers.contains(from) || references.contains(from) {
            return { arguments, _ throws(StatementError) in
                guard case .integer(let value) = arguments[0], range.contains(value) else { throw outOfRange(to) }
                return .integer(value)
            }
        }
        if isIntegral, from == .decimal {
            return { arguments, _ throws(StatementError) in
                guard case .decimal(let value) = arguments[0] else { return .null }
                guard value.isFinite else {
                    let what = value.kind == .nan ? "NaN" : "infinity"
                    throw StatementError(.featureNotSupported, "cannot convert \(what) to \(DataType(to).title)")
                }
                guard let integer = value.roundedInteger, range.contains(integer) else { throw outOfRange(to) }
                return .integer(integer)
            }
        }
        if isIntegral, from == .float32 || from == .float64 {
            return { arguments, _ throws(StatementError) in
                guard case .float(let value) = arguments[0],
                    let integer = Int64(exactly: value.rounded(.toNearestOrEven)), range.contains(integer)
                else { throw outOfRange(to) }
                return .integer(integer)
            }
        }
        let isFloat = to == .float32 || to == .float64
        if isFloat, integers.contains(from) {
            return { arguments, _ throws(StatementError) in
                guard case .integer(let value) = arguments[0] else { return .null }
                return .float(to == .float32 ? Double(Float(value)) : Double(value))
            }
        }
        if isFloat, from == .decimal || from == .float64 {
            return { arguments, _ throws(StatementError) in
                let value: Double
                switch arguments[0] {
                case .decimal(let decimal): return .float(try float(decimal, to))
                case .float(let double): value = double
                case _: return .null
                }
                return .float(try FloatArithmetic.fit(value, to, from: value))
            }
        }
        if to == .decimal, integers.contains(from) {
            return { arguments, _ throws(StatementError) in
                guard case .integer(let value) = arguments[0] else { return .null }
                return .decimal(Decimal(value))
            }
        }
        if to == .decimal, from == .float32 || from == .float64 {
            let digits = from == .float32 ? 6 : 15
            return { arguments, _ throws(StatementError) in
                guard case .float(let value) = arguments[0] else { return .null }
                return .decimal(Decimal(value, significantDigits: digits))
            }
        }
        return nil
    }

    private static func float(_ number: Decimal, _ kind: DataType.Kind) throws(StatementError) -> Double {
        let value = number.double, fitted = kind == .float32 ? Double(Float(value)) : value
        guard !number.isFinite || fitted.isFinite && (fitted != 0 || number.isZero) else {
            throw StatementError(
                .numericValueOutOfRange, "\"\(number.text)\" is out of range for type \(DataType(kind).title)")
        }
        return fitted
    }

    private static func numericKernel(from: DataType.Kind, to: DataType.Kind) -> Kernel? {
        guard integers.contains(from), to == .float64 else { return nil }
        return { columns, count throws(StatementError) in
            guard case .integers(let values) = columns[0].storage else { return columns[0] }
            return Column(.float64, .floats(values.map { Double($0) }), validity: columns[0].validity, count: count)
        }
    }

    private static func other(from: DataType.Kind, to: DataType.Kind) -> ScalarBody? {
        switch (from, to) {
        case (.int32, .bool):
            return { arguments, _ throws(StatementError) in
                if case .integer(let value) = arguments[0] { .bool(value != 0) } else { .null }
            }
        case (.bool, .int32):
            return { arguments, _ throws(StatementError) in
                if case .bool(let flag) = arguments[0] { .integer(flag ? 1 : 0) } else { .null }
            }
        case (.bool, .text), (.bool, .varchar), (.bool, .char):
            return { arguments, _ throws(StatementError) in
                if case .bool(let flag) = arguments[0] { .text(flag ? "true" : "false") } else { .null }
            }
        case (.internalChar, .int32):
            return { arguments, _ throws(StatementError) in
                .integer(Int64(Int8(bitPattern: arguments[0].string.utf8.first ?? 0)))
            }
        case (.int32, .internalChar):
            return { arguments, _ throws(StatementError) in
                let code = arguments[0].int
                guard (-128...127).contains(code) else {
                    throw StatementError(.numericValueOutOfRange, "\"char\" out of range")
                }
                guard code >= 0 else { throw StatementError(.featureNotSupported, "\"char\" beyond ASCII") }
                return .text(code == 0 ? "" : String(Unicode.Scalar(UInt8(code))))
            }
        case (.jsonb, .bool), (.jsonb, .decimal), (.jsonb, .int16), (.jsonb, .int32), (.jsonb, .int64),
            (.jsonb, .float32), (.jsonb, .float64):
            return { arguments, context throws(StatementError) in try scalar(arguments[0], to, context) }
        case (.char, .text), (.char, .varchar), (.char, .name):
            return { arguments, _ throws(StatementError) in
                guard case .text(let text) = arguments[0] else { return .null }
                return .text(text.withoutTrailingBlanks)
            }
        case (.text, .name), (.varchar, .name):
            return { arguments, _ throws(StatementError) in
                guard case .text(let text) = arguments[0] else { return .null }
                return .text(text.limited(toBytes: 63))
            }
        case _: return nil  // All others go by way of the text.
        }
    }
}

extension Casts {
    /// A number or a truth out of jsonb.
    private static func scalar(_ value: Value, _ kind: DataType.Kind, _ context: ExecutionContext)
        throws(StatementError) -> Value
    {
        guard case .json(let document) = value else { return .null }
        switch document.kind {
        case .bool where kind == .bool: return .bool(document.withView(\.bool))
        case .number where kind != .bool:
            let number = Value.decimal(document.withView(\.number))
            return try numeric(from: .decimal, to: kind)?([number], context) ?? number
        case .null, .string, .number, .bool, .array, .object:
            let names: [JSONBinary.Kind: String] = [
                .null: "null", .string: "string", .number: "numeric", .bool: "boolean", .array: "array",
                .object: "object",
            ]
            throw StatementError(
                .invalidParameterValue,
                "cannot cast jsonb \(names[document.kind] ?? "") to type \(DataType(kind).title)")
        }
    }

    /// The value under the constraint of its type: a length, a precision. An explicit cast cuts texts silently.
    static func fit(_ value: Value, to type: DataType, isExplicit: Bool) throws(StatementError) -> Value {
        guard type.modifier >= 0, !value.isNull else { return value }
        return try value.coerced(to: type, isExplicit: isExplicit)
    }
}
