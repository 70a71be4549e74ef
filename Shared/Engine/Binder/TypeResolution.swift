import Base
import Contracts
import DataModel

// Which function a name means, and how its arguments get there: PostgreSQL 15 manual, chapter 10.

extension Binder {
    // MARK: Coercion

    /// A literal or parameter without a type becomes one of `type`; others stay what they are.
    func resolveUnknown(_ expression: BoundExpression, as type: DataType) throws(StatementError) -> BoundExpression {
        guard expression.type.kind == .unknown, !expression.type.isArray else { return expression }
        return try coerce(expression, to: type, .implicit, at: expression.position)
    }

    /// A literal or parameter that nothing gave a type is of the column that it goes into, and else a text.
    func settle(_ expression: inout BoundExpression, _ column: CollectionDescriptor.Column?)
        throws(StatementError)
    {
        guard expression.type.kind == .unknown, !expression.type.isArray else { return }
        if let column {
            expression = try assign(expression, to: column, at: expression.position)
            return
        }
        guard case .parameter(let index) = expression.form else { return }
        if parameterTypes[index].kind == .unknown {
            expression = try resolveUnknown(expression, as: .text)
        } else {
            expression.type = parameterTypes[index]
        }
    }

    /// The expression as a value of `type`; throws if there is no cast in that context.
    func coerce(_ expression: BoundExpression, to type: DataType, _ context: CastContext, at position: Int32)
        throws(StatementError) -> BoundExpression
    {
        if expression.type == type { return expression }
        let place = expression.position == 0 ? position : expression.position
        if expression.type.kind == .unknown, !expression.type.isArray {
            return try coerceUnknown(expression, to: type, context, at: place)
        }
        if case .row(let parts) = expression.form, type.kind == .record, !type.isArray {
            return BoundExpression(form: .row(parts), type: type, position: place)
        }
        guard var cast = Casts.find(from: expression.type, to: type, context, at: place) else {
            if context == .explicit || context == .assignment {
                throw StatementError(
                    .cannotCoerce, "cannot cast type \(expression.type.title) to \(type.title)", position: place)
            }
            throw StatementError(
                .datatypeMismatch, "cannot convert type \(expression.type.title) to \(type.title)", position: place)
        }
        cast.position = place
        return fold(cast.apply(to: expression, type))
    }

    private func coerceUnknown(
        _ expression: BoundExpression, to type: DataType, _ context: CastContext, at position: Int32
    ) throws(StatementError) -> BoundExpression {
        switch expression.form {
        case .parameter(let index):
            if parameterTypes[index].kind == .unknown { parameterTypes[index] = type.unconstrained }
            let known = BoundExpression(form: .parameter(index), type: parameterTypes[index], position: position)
            return try coerce(known, to: type, context, at: position)
        case .constant(.text(let text)):
            let value: Value
            do throws(StatementError) { value = try TextForms.parse(text, type, settings) } catch {
                throw error.placed(at: position)
            }
            // What does not fit has no place: the value is read, and then made shorter.
            return .constant(try Casts.fit(value, to: type, isExplicit: context == .explicit), type, at: position)
        case .constant: return .constant(.null, type, at: position)
        default:  // A subquery's or a CASE's column of unknown literals.
            let text = BoundExpression(form: expression.form, type: .text, position: position)
            return try coerce(text, to: type, .explicit, at: position)
        }
    }

    /// A call of constants is computed at once, unless it fails: then that is said when it is executed.
    func fold(_ expression: BoundExpression) -> BoundExpression {
        guard case .call(let function, let arguments) = expression.form, function.volatility == .immutable,
            arguments.allSatisfy({ $0.constantValue != nil && $0.collation == nil })
        else { return expression }
        let context = ExecutionContext(settings: settings, parameters: [], access: nil, attributes: 0)
        guard let value = try? Evaluator(expression, layout: Layout([])).value(context), !value.isLarge else {
            return expression
        }
        return .constant(value, expression.type, at: expression.position)
    }

    /// The one type for branches of CASE, UNION, VALUES, ARRAY and their like (10.5).
    func commonType(_ expressions: [BoundExpression], place: String, at position: Int32) throws(StatementError)
        -> DataType
    {
        let known = expressions.filter { $0.type.kind != .unknown || $0.type.isArray }
        guard let first = known.first else { return .text }
        if known.allSatisfy({ $0.type == first.type }), known.count == expressions.count { return first.type }
        var chosen = first.type
        for expression in known.dropFirst() {
            let type = expression.type
            if type.unconstrained == chosen.unconstrained { continue }
            guard type.category == chosen.category else {
                let title = chosen.title, other = type.title
                throw StatementError(
                    .datatypeMismatch,
                    place == "UNION" || place == "INTERSECT" || place == "EXCEPT" || place == "VALUES"
                        || place == "CASE" || place == "COALESCE" || place == "GREATEST" || place == "LEAST"
                        || place == "ARRAY" || place == "JOIN/USING"
                        ? "\(place) types \(title) and \(other) cannot be matched"
                        : "\(place) could not convert type \(other) to \(title)",
                    position: expression.position == 0 ? position : expression.position)
            }
            if !chosen.isPreferred, Casts.isImplicit(from: chosen, to: type), !Casts.isImplicit(from: type, to: chosen)
            {
                chosen = type
            }
        }
        return chosen.unconstrained
    }

    // MARK: Operators

    /// `left name right`, or a prefix operator; `isCollated`: texts are compared by their collation.
    func bindOperator(
        _ name: String, _ left: BoundExpression?, _ right: BoundExpression, isCollated: Bool = true, at position: Int32
    ) throws(StatementError) -> BoundExpression {
        let arguments = left.map { [$0, right] } ?? [right]
        let rows = Registry.operators(name, arguments.count)
        let types = arguments.map(\.type)
        let found: ScalarFunction
        do throws(ResolutionFailure) {
            found = try resolve(rows, types, isOperator: true)
        } catch {
            let title = left == nil ? "\(name) \(types[0].title)" : "\(types[0].title) \(name) \(types[1].title)"
            switch error {
            case .none:
                throw StatementError(
                    .undefinedFunction, "operator does not exist: \(title)",
                    hint: "No operator matches the given name and argument "
                        + (left == nil
                            ? "type. You might need to add an explicit type cast."
                            : "types. You might need to add explicit type casts."),
                    position: position)
            case .ambiguous:
                throw StatementError(
                    .ambiguousFunction, "operator is not unique: \(title)",
                    hint: "Could not choose a best candidate operator. You might need to add explicit type casts.",
                    position: position)
            }
        }
        return try call(found, arguments, isCollated: isCollated, at: position)
    }

    /// A call of a function by name, of ordinary arguments; `isBuiltIn` if it was meant to be PostgreSQL's own.
    func bindFunction(_ name: String, _ arguments: [BoundExpression], isBuiltIn: Bool = false, at position: Int32)
        throws(StatementError) -> BoundExpression
    {
        let rows = Registry.functions(name)
        let found: ScalarFunction
        do throws(ResolutionFailure) {
            found = try resolve(rows, arguments.map(\.type), isOperator: false)
        } catch {
            // `text(x)` and its like are casts.
            if arguments.count == 1, let type = PostgresTypes.type(named: name),
                arguments[0].type.kind == .unknown
                    || Casts.find(from: arguments[0].type, to: type, .explicit, at: position) != nil
            {
                return try coerce(arguments[0], to: type, .explicit, at: position)
            }
            let written = isBuiltIn ? "pg_catalog.\(name)" : name
            throw failure(error, written, arguments.map(\.type), at: position)
        }
        return try call(found, arguments, at: position)
    }

    func failure(_ error: ResolutionFailure, _ name: String, _ types: [DataType], at position: Int32)
        -> StatementError
    {
        let title = "\(name)(\(types.map(\.title).joined(separator: ", ")))"
        switch error {
        case .none:
            return StatementError(
                .undefinedFunction, "function \(title) does not exist",
                hint:
                    "No function matches the given name and argument types. You might need to add explicit type casts.",
                position: position)
        case .ambiguous:
            return StatementError(
                .ambiguousFunction, "function \(title) is not unique",
                hint: "Could not choose a best candidate function. You might need to add explicit type casts.",
                position: position)
        }
    }

    private func call(
        _ function: ScalarFunction, _ arguments: [BoundExpression], isCollated: Bool = true, at position: Int32
    ) throws(StatementError) -> BoundExpression {
        let (types, result) = try concrete(
            function.parameters, function.result, isVariadic: function.isVariadic, arguments, at: position)
        var given: [BoundExpression] = []
        for (index, argument) in arguments.enumerated() {
            // `'a' || 1` writes what is no text as one.
            let isWritten = function.name == "||" && function.parameters[index] == .anyNonArray
            given.append(
                try coerce(
                    argument, to: isWritten ? .text : types[index], isWritten ? .explicit : .implicit,
                    at: argument.position))
        }
        let typed = function.specialized(given.map(\.type), result)
        if isCollated, collations.areUsed, let collated = try collated(typed, given, result, at: position) {
            return collated
        }
        return fold(BoundExpression(form: .call(typed, given), type: result, position: position))
    }

    /// What the places of a chosen function come to for these arguments, and its result.
    func concrete(
        _ parameters: [ParameterType], _ result: ResultType, isVariadic: Bool, _ arguments: [BoundExpression],
        at position: Int32
    ) throws(StatementError) -> ([DataType], DataType) {
        var element: DataType?
        var commons: [BoundExpression] = []
        for (index, argument) in arguments.enumerated() {
            switch parameters[min(index, parameters.count - 1)] {
            case .anyElement where argument.type.kind != .unknown || argument.type.isArray:
                element = element ?? argument.type.unconstrained
            case .anyArray where argument.type.isArrayLike: element = element ?? argument.type.element.unconstrained
            case .anyCompatible: commons.append(argument)
            case .anyCompatibleArray where argument.type.isArrayLike:
                commons.append(.attribute(Attribute(id: -1), argument.type.element))
            case .anyElement, .anyArray, .anyCompatibleArray, .of, .any, .anyNonArray: break
            }
        }
        let common = commons.isEmpty ? nil : try commonType(commons, place: "anycompatible", at: position)
        let undetermined = StatementError(
            .datatypeMismatch, "could not determine polymorphic type because input has type unknown")
        var types: [DataType] = []
        for (index, argument) in arguments.enumerated() {
            switch parameters[min(index, parameters.count - 1)] {
            case .of(let type):
                // A constraint of the argument, such as a length, is no reason for a cast.
                types.append(argument.type.unconstrained == type ? argument.type : type)
            case .any, .anyNonArray:
                types.append(argument.type.kind == .unknown && !argument.type.isArray ? .text : argument.type)
            case .anyElement:
                guard let element else { throw undetermined }
                types.append(argument.type.unconstrained == element ? argument.type : element)
            case .anyArray:
                guard let element else { throw undetermined }
                types.append(argument.type.isArrayLike && !argument.type.isArray ? argument.type : element.array)
            case .anyCompatible: types.append(common ?? .text)
            case .anyCompatibleArray: types.append((common ?? .text).array)
            }
        }
        switch result {
        case .of(let type): return (types, type)
        case .element: return (types, element ?? .text)
        case .array: return (types, (element ?? .text).array)
        case .common: return (types, common ?? .text)
        case .commonArray: return (types, (common ?? .text).array)
        }
    }
}

/// Why no function was chosen.
enum ResolutionFailure: Error { case none, ambiguous }

/// What the rows of the registry have in common for the choice among them.
protocol Overload: AnyObject {
    var parameters: [ParameterType] { get }
    var isVariadic: Bool { get }
}

extension ScalarFunction: Overload {}
extension AggregateFunction: Overload {}
extension RowsFunction: Overload {}

/// The choice of one function among those of a name (10.2, 10.3).
func resolve<Row: Overload>(_ rows: [Row], _ types: [DataType], isOperator: Bool) throws(ResolutionFailure) -> Row {
    let bare = types.map(\.unconstrained)
    let isUnknown = bare.map { $0.kind == .unknown && !$0.isArray }
    func parameter(_ row: Row, _ index: Int) -> ParameterType { row.parameters[min(index, row.parameters.count - 1)] }
    let fitting = rows.filter { row in
        row.parameters.count == types.count || (row.isVariadic && types.count >= row.parameters.count)
    }
    func isExact(_ row: Row, _ index: Int) -> Bool {
        if case .of(let type) = parameter(row, index) { return type == bare[index] }
        return false
    }
    if let exact = fitting.first(where: { row in bare.indices.allSatisfy { isExact(row, $0) } }) { return exact }
    if isOperator, bare.count == 2, isUnknown[0] != isUnknown[1] {
        // A literal beside a typed operand is of the same type, if there is such an operator.
        let type = isUnknown[0] ? bare[1] : bare[0]
        let match = fitting.first { row in
            row.parameters.allSatisfy { if case .of(let other) = $0 { other == type } else { false } }
        }
        if let match { return match }
    }
    var candidates = fitting.filter { accepts($0, bare) }
    guard !candidates.isEmpty else { throw .none }
    if candidates.count == 1 { return candidates[0] }
    func keepBest(_ score: (Row) -> Int) {
        let scores = candidates.map(score)
        guard let best = scores.max(), best > 0 else { return }
        candidates = candidates.indices.filter { scores[$0] == best }.map { candidates[$0] }
    }
    keepBest { row in bare.indices.filter { isExact(row, $0) }.count }
    if candidates.count == 1 { return candidates[0] }
    keepBest { row in
        bare.indices.filter { index in
            if isExact(row, index) { return true }
            guard !isUnknown[index], case .of(let type) = parameter(row, index) else { return false }
            return type.isPreferred && type.category == bare[index].category
        }.count
    }
    if candidates.count == 1 { return candidates[0] }
    if isUnknown.contains(true) { try narrowUnknowns(&candidates, bare, isUnknown) }
    guard candidates.count == 1 else { throw .ambiguous }
    return candidates[0]
}

/// Whether a function takes these types, implicit casts included, and its open types agree.
private func accepts<Row: Overload>(_ row: Row, _ bare: [DataType]) -> Bool {
    func isUnknown(_ index: Int) -> Bool { bare[index].kind == .unknown && !bare[index].isArray }
    var element: DataType?, common: DataType?
    /// Types that could be brought to one.
    func fits(_ type: DataType) -> Bool {
        defer { common = common ?? type }
        guard let other = common, other != type else { return true }
        return other.isArray == type.isArray && other.category == type.category
    }
    for index in bare.indices where !isUnknown(index) {
        switch row.parameters[min(index, row.parameters.count - 1)] {
        case .of(let type): guard Casts.isImplicit(from: bare[index], to: type) else { return false }
        case .any: break
        case .anyNonArray: guard !bare[index].isArrayLike else { return false }
        case .anyCompatible: guard fits(bare[index]) else { return false }
        case .anyCompatibleArray:
            guard bare[index].isArrayLike, fits(bare[index].element) else { return false }
        case .anyElement:
            guard element == nil || element == bare[index] else { return false }
            element = bare[index]
        case .anyArray:
            guard bare[index].isArrayLike, element == nil || element == bare[index].element else { return false }
            element = bare[index].element
        }
    }
    return true
}

/// Literals without a type: strings if a candidate takes strings there, else what all take; preferred types first; and
/// last, all literals of the type of the others.
private func narrowUnknowns<Row: Overload>(_ candidates: inout [Row], _ types: [DataType], _ isUnknown: [Bool])
    throws(ResolutionFailure)
{
    func type(_ row: Row, _ index: Int) -> DataType? {
        if case .of(let type) = row.parameters[min(index, row.parameters.count - 1)] { return type }
        return nil
    }
    if let kept = candidatesOfCategories(candidates, isUnknown, type) {
        candidates = kept
        if candidates.count == 1 { return }
    }
    let known = Set(types.indices.filter { !isUnknown[$0] }.map { types[$0] })
    if known.count == 1, let same = known.first {
        let matching = candidates.filter { accepts($0, types.map { _ in same }) }
        if matching.count == 1 { candidates = matching }
    }
}

/// Those that take at every literal what the literal is seen as: a text if one of them takes that, else what they all
/// take. Nil where that is open for some literal, or none is left.
private func candidatesOfCategories<Row: Overload>(
    _ candidates: [Row], _ isUnknown: [Bool], _ type: (Row, Int) -> DataType?
) -> [Row]? {
    var kept = candidates
    for index in isUnknown.indices where isUnknown[index] {
        let categories = Set(candidates.map { type($0, index)?.category ?? "P" })
        guard let category = categories.contains("S") ? "S" : categories.count == 1 ? categories.first : nil else {
            return nil
        }
        let hasPreferred = candidates.contains {
            type($0, index).map { $0.category == category && $0.isPreferred } ?? false
        }
        kept = kept.filter { row in
            let taken = type(row, index)
            return (taken?.category ?? "P") == category && (!hasPreferred || taken?.isPreferred == true)
        }
    }
    return kept.isEmpty ? nil : kept
}
