import Base
import Contracts
import DataModel

// Collations: what texts are compared by. One that is not by bytes is bound as a comparison of keys, so that nothing
// behind the binder needs to know of collations, and nothing takes the order of an index for the one that was asked
// for.

extension Binder {
    // MARK: COLLATE

    func bindCollate(_ node: LogicalPlan.Node, _ operand: BoundExpression) throws(StatementError) -> BoundExpression {
        let collation = try collation(named: nameParts(node.children[1]), at: node.position)
        var text = try resolveUnknown(operand, as: .text)
        guard Collation.of(text.type) != nil else {
            throw StatementError(
                .datatypeMismatch, "collations are not supported by type \(text.type.title)", position: node.position)
        }
        collations.use()
        // Two of them: the outer one counts, and the inner one has to be kept from view.
        if let inner = text.collation, inner != collation {
            text = BoundExpression(form: .coalesce([text]), type: text.type, position: text.position)
        }
        text.collation = collation
        return text
    }

    func collation(named parts: [String], at position: Int32) throws(StatementError) -> Collation {
        try Collation.named(parts, hasNamespace: catalog.hasNamespace, at: position)
    }

    // MARK: Derivation

    /// By what an expression is compared.
    func collation(of expression: BoundExpression) throws(StatementError) -> CollationState {
        if let collation = expression.collation { return CollationState(strength: .explicit, collation: collation) }
        let type = Collation.of(expression.type)
        switch expression.form {
        case .call(let function, let operands) where CollationFunctions.isKey(function):
            return try merged(operands)
        case .call(let function, let operands) where CollationFunctions.isText(function):
            let state = try inside(operands)
            return state.strength == .none ? .implicit(.root) : state
        default: break  // What follows from its type and its parts.
        }
        guard let type else { return CollationState() }
        var state = CollationState()
        switch expression.form {
        case .attribute(let attribute): return collations[attribute] ?? .implicit(type)
        case .subquery(let subquery):
            if let output = subquery.outputs.first?.attribute, let state = collations[output] { return state }
        case .call(_, let list), .coalesce(let list), .array(let list), .rows(_, let list): state = try merged(list)
        case .choice(let branches, let otherwise):
            state = try merged(branches.map(\.result) + (otherwise.map { [$0] } ?? []))
        case .aggregate(let call): state = try merged(call.arguments)
        case .window(let call): state = try merged(call.arguments)
        case .constant, .parameter, .and, .or, .not, .isNull, .row: break
        }
        return state.strength == .none ? .implicit(type) : state
    }

    /// Of what a text is taken out of again: an extreme of keys.
    private func inside(_ operands: [BoundExpression]) throws(StatementError) -> CollationState {
        guard let operand = operands.first else { return CollationState() }
        switch operand.form {
        case .aggregate(let call): return try merged(call.arguments)
        case .window(let call): return try merged(call.arguments)
        case .call(_, let list): return try merged(list)
        default: return CollationState()  // The value of an aggregate that is computed elsewhere.
        }
    }

    func merged(_ expressions: [BoundExpression]) throws(StatementError) -> CollationState {
        var result = CollationState()
        for expression in expressions {
            let state = try collation(of: expression)
            guard let both = result.merged(with: state) else {
                throw StatementError(
                    .collationMismatch,
                    "collation mismatch between explicit collations \"\(result.collation.name)\" and "
                        + "\"\(state.collation.name)\"", position: expression.position)
            }
            result = both
        }
        return result
    }

    /// Says of a column of a query what is known of its expression.
    func note(_ attribute: Attribute, _ expression: BoundExpression) throws(StatementError) {
        guard collations.areUsed else { return }
        collations.set(try columnState(of: expression), of: attribute)
    }

    /// What an expression is as a column. A row has none; that texts in it go by keys is kept, so that it is refused.
    func columnState(of expression: BoundExpression) throws(StatementError) -> CollationState {
        guard collations.areUsed else { return CollationState() }
        if expression.type.kind == .record {
            return try holdsKeyedText(expression) ? .implicit(.root) : CollationState()
        }
        return try collation(of: expression).asColumn
    }

    func note(_ attribute: Attribute, _ column: CollectionDescriptor.Column) {
        guard let collation = column.collation else { return }
        collations.set(.implicit(collation), of: attribute)
    }

    /// An expression to sort by, up.
    func sortTerm(_ expression: BoundExpression) throws(StatementError) -> SortTerm {
        let state = try requireOneCollation(expression)
        return SortTerm(expression: expression, collation: state.needsKeys ? state.collation : .standard)
    }

    /// Of a column of a set operation: only UNION ALL compares nothing.
    func note(_ output: OutputColumn, _ arms: [OutputColumn], isAll: Bool, at position: Int32) throws(StatementError) {
        guard collations.areUsed, Collation.of(output.type) != nil else { return }
        let state = try merged(arms.map { .attribute($0.attribute, $0.type) })
        if state.strength == .conflict, !isAll { throw mismatch(state, at: position) }
        collations.set(state, of: output.attribute)
    }

    /// Of a column of a recursive query: what the recursive part makes must be compared as what it began with.
    func checkCollation(
        of mine: OutputColumn, with theirs: OutputColumn, _ item: LogicalPlan.Node, _ index: Int, at position: Int32
    ) throws(StatementError) {
        guard collations.areUsed, Collation.of(mine.type) != nil, Collation.of(theirs.type) != nil else { return }
        let start = try collation(of: .attribute(mine.attribute, mine.type))
        let whole = try merged([.attribute(mine.attribute, mine.type), .attribute(theirs.attribute, theirs.type)])
        if whole.strength == .conflict { throw mismatch(whole, at: position) }
        guard start.collation != whole.collation else { return }
        throw StatementError(
            .collationMismatch,
            "recursive query \"\(item.name)\" column \(index + 1) has collation \"\(start.collation.name)\" in "
                + "non-recursive term but collation \"\(whole.collation.name)\" overall",
            hint: "Use the COLLATE clause to set the collation of the non-recursive term.", position: item.position)
    }

    /// Of a column of a view; nil for that of its type.
    func collation(ofViewColumn name: String, _ output: OutputColumn) throws(StatementError) -> Collation? {
        guard let usual = Collation.of(output.type), let state = collations[output.attribute] else { return nil }
        guard state.strength != .conflict else { throw undetermined("view column \"\(name)\"", at: 0) }
        return state.collation == usual ? nil : state.collation
    }

    private func mismatch(_ state: CollationState, at position: Int32) -> StatementError {
        StatementError(
            .collationMismatch,
            "collation mismatch between implicit collations \"\(state.collation.name)\" and \"\(state.other.name)\"",
            hint: "You can choose the collation by applying the COLLATE clause to one or both expressions.",
            position: position)
    }

    // MARK: Where an order is asked for

    /// Where one of rows, groups or different values is asked for, there must be one collation.
    func requireOneCollation(_ expression: BoundExpression, isEquality: Bool = false) throws(StatementError)
        -> CollationState
    {
        guard collations.areUsed else { return CollationState() }
        if !isEquality, try holdsKeyedText(expression) {
            throw unsupported("an order of rows with texts of another collation than their bytes'", at: 0)
        }
        let state = try collation(of: expression)
        guard state.strength == .conflict else { return state }
        throw mismatch(state, at: expression.position)
    }

    private func holdsKeyedText(_ expression: BoundExpression) throws(StatementError) -> Bool {
        guard expression.type.kind == .record else { return false }
        if let attribute = expression.attribute { return collations[attribute]?.needsKeys ?? false }
        for operand in expression.operands {
            if try holdsKeyedText(operand) { return true }
            if try collation(of: operand).needsKeys { return true }
        }
        return false
    }

    /// The chosen function with its arguments as they are compared; nil if it takes them as they are.
    func collated(
        _ function: ScalarFunction, _ arguments: [BoundExpression], _ type: DataType, at position: Int32
    ) throws(StatementError) -> BoundExpression? {
        let state = try merged(arguments)
        let comparison = Comparison(rawValue: function.name)
        let asksForOrder = comparison.map { $0 != .equal && $0 != .notEqual } ?? false
        if asksForOrder {
            for argument in arguments {
                guard try holdsKeyedText(argument) else { continue }
                throw unsupported(
                    "a comparison of rows with texts of another collation than their bytes'", at: position)
            }
        }
        let casing = ["lower", "upper", "initcap"].contains(function.name)
        if state.strength == .conflict, let what = Self.reader(function.name, isComparison: comparison != nil) {
            throw undetermined(what, at: position)
        }
        if casing, let mapping = CollationFunctions.casing(function.name, state.collation) {
            return BoundExpression(form: .call(mapping, arguments), type: type, position: position)
        }
        guard state.needsKeys else { return nil }
        guard let comparison else {
            guard function.name == "width_bucket", arguments.count == 2 else { return nil }
            let keys = arguments.map { CollationFunctions.key(of: $0) }
            let typed = (function.origin ?? function).specialized(keys.map(\.type), type)
            return BoundExpression(form: .call(typed, keys), type: type, position: position)
        }
        guard asksForOrder else { return nil }
        let keys = arguments.map { CollationFunctions.key(of: $0) }
        let ordering = try Self.comparison(comparison, ofArrays: keys[0].type.isArray)
        return BoundExpression(form: .call(ordering, keys), type: .bool, position: position)
    }

    /// What fails where there are two implicit collations, as PostgreSQL calls it.
    private static func reader(_ name: String, isComparison: Bool) -> String? {
        if isComparison { return "string comparison" }
        switch name {
        case "lower", "upper", "initcap": return "\(name)() function"
        case "~~*", "!~~*": return "ILIKE"
        case "~", "!~", "~*", "!~*": return "regular expression"
        case _: return nil
        }
    }

    func undetermined(_ what: String, at position: Int32) -> StatementError {
        StatementError(
            .indeterminateCollation, "could not determine which collation to use for \(what)",
            hint: "Use the COLLATE clause to set the collation explicitly.", position: position)
    }

    /// A comparison of keys, or of arrays of them.
    static func comparison(_ comparison: Comparison, ofArrays: Bool) throws(StatementError) -> ScalarFunction {
        let type: DataType = ofArrays ? .bytes.array : .bytes
        do throws(ResolutionFailure) {
            return try resolve(Registry.operators(comparison.rawValue, 2), [type, type], isOperator: true)
        } catch {
            throw StatementError(.internalError, "there is no comparison of bytes")
        }
    }

    /// A comparison of a value with the elements of an array: its function, the value, and the array.
    func collated(
        quantified function: ScalarFunction, _ value: BoundExpression, _ array: BoundExpression, at position: Int32
    ) throws(StatementError) -> (ScalarFunction, BoundExpression, BoundExpression) {
        guard collations.areUsed else { return (function, value, array) }
        let state = try merged([value, array]), comparison = Comparison(rawValue: function.name)
        if state.strength == .conflict, let what = Self.reader(function.name, isComparison: comparison != nil) {
            throw undetermined(what, at: position)
        }
        guard state.needsKeys, let comparison, comparison != .equal, comparison != .notEqual else {
            return (function, value, array)
        }
        return (
            try Self.comparison(comparison, ofArrays: false), CollationFunctions.key(of: value),
            CollationFunctions.key(of: array)
        )
    }

    /// GREATEST and LEAST, of keys where that is what is compared.
    func extreme(_ function: ScalarFunction, _ parts: [BoundExpression], _ type: DataType, at position: Int32)
        throws(StatementError) -> BoundExpression
    {
        if collations.areUsed {
            let state = try merged(parts)
            if state.strength == .conflict { throw undetermined("string comparison", at: position) }
            if state.needsKeys {
                let keys = parts.map { CollationFunctions.key(of: $0, isWhole: true) }
                let typed = function.specialized(keys.map(\.type), keys[0].type)
                let best = BoundExpression(form: .call(typed, keys), type: keys[0].type, position: position)
                return CollationFunctions.text(ofKey: best, type)
            }
        }
        let typed = function.specialized(parts.map(\.type), type)
        return BoundExpression(form: .call(typed, parts), type: type, position: position)
    }

    /// Whether `min` or `max` of a text has to be that of its keys; then its argument is made one.
    func takesKeys(_ function: AggregateFunction, _ arguments: inout [BoundExpression], at position: Int32)
        throws(StatementError) -> Bool
    {
        guard collations.areUsed else { return false }
        let state = try merged(arguments)
        guard ["min", "max"].contains(function.name) else { return false }
        if let argument = arguments.first, try holdsKeyedText(argument) {
            throw unsupported("an extreme of rows with texts of another collation than their bytes'", at: position)
        }
        if state.strength == .conflict { throw undetermined("string comparison", at: position) }
        guard state.needsKeys else { return false }
        arguments = arguments.map { CollationFunctions.key(of: $0, isWhole: true) }
        return true
    }

    /// `COLLATION FOR (…)`.
    func bindCollationFor(_ node: LogicalPlan.Node, _ arguments: [BoundExpression]) throws(StatementError)
        -> BoundExpression
    {
        guard arguments.count == 1 else {
            throw failure(.none, node.name, arguments.map(\.type), at: node.position)
        }
        let argument = arguments[0]
        if argument.type.kind == .unknown, !argument.type.isArray {
            return .constant(.null, .text, at: node.position)
        }
        guard Collation.of(argument.type) != nil else {
            throw StatementError(
                .datatypeMismatch, "collations are not supported by type \(argument.type.title)")
        }
        let state = try collation(of: argument)
        guard state.strength != .conflict else { return .constant(.null, .text, at: node.position) }
        return .constant(.text(SQLWriter.quoted(state.collation.name)), .text, at: node.position)
    }
}

extension Collation {
    /// The one that a name means; what PostgreSQL has and Orbit has not is told apart from what there is nowhere.
    static func named(_ parts: [String], hasNamespace: (String) -> Bool, at position: Int32) throws(StatementError)
        -> Collation
    {
        let name = parts.last ?? "", isQualified = parts.count > 1
        let full = parts.joined(separator: ".")
        guard parts.count <= 2 else {
            throw StatementError(
                .syntaxError, "improper qualified name (too many dotted names): \(full)", position: position)
        }
        if isQualified, !hasNamespace(parts[0]) {
            throw StatementError(.invalidSchemaName, "schema \"\(parts[0])\" does not exist", position: position)
        }
        if !isQualified || parts[0] == "pg_catalog" {
            if let found = Collation(name: name) { return found }
            if name.hasSuffix("-x-icu") || name.lowercased().hasSuffix(".utf8") {
                throw StatementError(
                    .featureNotSupported, "collation \"\(full)\" is not supported", position: position)
            }
        }
        throw StatementError(
            .undefinedObject, "collation \"\(full)\" for encoding \"UTF8\" does not exist", position: position)
    }
}

extension SortTerm {
    /// The term as it is sorted by: over keys, if its collation is not that of bytes.
    var keyed: SortTerm {
        guard !collation.isByBytes else { return self }
        var term = self
        term.expression = CollationFunctions.key(of: expression)
        term.collation = .standard
        return term
    }
}
