import Base
import DataModel

/// Where the keys lie that a condition on their first columns leaves.
struct KeyRanges {
    /// Keys, and ranges, that are looked at one by one; where there are more, all is read.
    static let keyLimit = 10_000, rangeLimit = 64

    /// Nil: no key can be meant.
    private(set) var range: ScanRequest.Range?
    /// A change of a row that leaves it within the condition leaves its key as it is.
    private(set) var isSteady = false

    var isEverywhere: Bool { if case .all? = range { true } else { false } }

    init(everywhere: Void) { range = .all }

    /// Where `keys` are, or begin: the first columns of keys. If they are whole, and nothing may follow, `isExact`.
    init(_ keys: Set<Bytes>, isWhole: Bool, isExact: Bool) {
        if keys.isEmpty { return }
        isSteady = isWhole && keys.count == 1
        guard keys.count <= (isExact ? Self.keyLimit : Self.rangeLimit) else {
            range = .all
            return
        }
        let sorted = keys.sorted { $0.lexicographicallyPrecedes($1) }
        range = isExact ? .keys(sorted) : .ranges(sorted.map { KeyRange(from: $0, to: KeyForms.end($0)) })
    }

    /// `types` are those of the key's columns. If the whole key is known, and nothing may follow it, `isExact`.
    init(
        _ condition: KeyCondition, _ types: [DataType], isExact: Bool, _ context: ExecutionContext
    ) throws(StatementError) {
        var prefixes: Set<Bytes> = [[]], hasNull = false
        for (choices, type) in zip(condition.equal, types) {
            var fresh: Set<Bytes> = []
            for part in try Self.parts(choices, type, &hasNull, context) {
                for prefix in prefixes { fresh.insert(prefix + part) }
                if fresh.count > Self.keyLimit {
                    range = .all
                    return
                }
            }
            prefixes = fresh
        }
        let next = condition.equal.count
        guard next < types.count, condition.lower != nil || condition.upper != nil || condition.pattern != nil else {
            let isWhole = condition.isComplete
            self = KeyRanges(prefixes, isWhole: isWhole, isExact: isWhole && isExact && !hasNull)
            return
        }
        guard let (from, to) = try Self.bounds(condition, types[next], context) else { return }
        var ranges: [KeyRange] = []
        for prefix in prefixes {
            let range = KeyRange(from: prefix + from, to: to.map { prefix + $0 } ?? KeyForms.end(prefix))
            if let to = range.to, !range.from.lexicographicallyPrecedes(to) { continue }
            ranges.append(range)
        }
        ranges.sort { $0.from.lexicographicallyPrecedes($1.from) }
        range = ranges.isEmpty ? nil : ranges.count > Self.rangeLimit ? .all : .ranges(ranges)
    }

    /// The encodings of what a column may be. Nothing is equal to NULL.
    private static func parts(
        _ choices: [KeyCondition.Choice], _ type: DataType, _ hasNull: inout Bool, _ context: ExecutionContext
    ) throws(StatementError) -> Set<Bytes> {
        var parts: Set<Bytes> = []
        for choice in choices {
            switch choice {
            case .null:
                hasNull = true
                parts.insert(KeyForms.encode([.null], [type]))
            case .value(let expression):
                if let part = try encoded(expression, type, context) { parts.insert(part) }
            case .elements(let expression):
                guard case .array(let array) = try value(expression, context) else { continue }
                for element in array.elements where !element.isNull {
                    parts.insert(KeyForms.encode([element], [type]))
                }
            }
        }
        return parts
    }

    /// From where to where the next column may lie; nil: nowhere.
    private static func bounds(_ condition: KeyCondition, _ type: DataType, _ context: ExecutionContext)
        throws(StatementError) -> (from: Bytes, to: Bytes?)?
    {
        // Behind NULL, which no bound lets through.
        var from: Bytes = KeyForms.afterNull, to: Bytes?
        if let bound = condition.lower {
            guard let part = try encoded(bound.expression, type, context) else { return nil }
            guard let first = bound.isInclusive ? part : KeyForms.end(part) else { return nil }
            from = first
        }
        if let bound = condition.upper {
            guard let part = try encoded(bound.expression, type, context) else { return nil }
            to = bound.isInclusive ? KeyForms.end(part) : part
        }
        guard let pattern = condition.pattern else { return (from, to) }
        guard case .text(let text) = try value(pattern, context) else { return nil }
        guard let prefix = LikePrefix(text) else { return (from, to) }
        var start = KeyForms.encode(prefix.bytes)
        // What follows the beginning of a text comes before its end.
        if !prefix.isWhole { start.removeLast() }
        if from.lexicographicallyPrecedes(start) { from = start }
        if let end = KeyForms.successor(start), to.map({ end.lexicographicallyPrecedes($0) }) ?? true { to = end }
        return (from, to)
    }

    private static func value(_ expression: BoundExpression, _ context: ExecutionContext)
        throws(StatementError) -> Value
    {
        try Evaluator(expression, layout: Layout([])).value(context)
    }

    /// Nil for NULL.
    private static func encoded(_ expression: BoundExpression, _ type: DataType, _ context: ExecutionContext)
        throws(StatementError) -> Bytes?
    {
        let value = try value(expression, context)
        return value.isNull ? nil : KeyForms.encode([value], [type])
    }
}
