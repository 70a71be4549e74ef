import Base
import Contracts
import DataModel

// Expressions: names, literals, and what is made of them.

extension Binder {
    /// A condition: boolean, or an error that names the clause.
    func bindCondition(_ index: Int32, _ scope: Scope, _ place: ExpressionPlace, _ clause: String)
        throws(StatementError) -> BoundExpression
    {
        let bound = try bindExpression(index, scope, place)
        return try requireBool(bound, clause, at: plan.leftmost(index))
    }

    func requireBool(_ expression: BoundExpression, _ clause: String, at position: @autoclosure () -> Int32)
        throws(StatementError) -> BoundExpression
    {
        let expression = try resolveUnknown(expression, as: .bool)
        guard expression.type == .bool else {
            throw StatementError(
                .datatypeMismatch, "argument of \(clause) must be type boolean, not type \(expression.type.title)",
                position: position())
        }
        return expression
    }

    /// An expression; `allowsRows` lets one that gives rows stand at the top.
    func bindExpression(_ index: Int32, _ scope: Scope, _ place: ExpressionPlace, allowsRows: Bool = false)
        throws(StatementError) -> BoundExpression
    {
        do throws(StatementError) {
            let bound = try bindNode(index, scope, place)
            if !allowsRows, !place.allowsRows, bound.contains({ if case .rows = $0.form { true } else { false } }) {
                throw StatementError(
                    .featureNotSupported, "set-returning functions are not allowed in \(place.title)")
            }
            return bound
        } catch {
            throw error.placed(at: plan[index].position)
        }
    }

    private func bindNode(_ index: Int32, _ scope: Scope, _ place: ExpressionPlace) throws(StatementError)
        -> BoundExpression
    {
        let node = plan[index]
        func operand(_ number: Int) throws(StatementError) -> BoundExpression {
            try bindExpression(node.children[number], scope, place)
        }
        switch node.kind {
        case .null, .boolean, .integer, .decimal, .string, .bits, .parameter: return try bindLiteral(node)
        case .columnReference:
            recorder?.columns[index] = try recorded(node, scope)
            return try bindColumn(node, scope)
        case .star: return try bindWholeRow(node, scope)
        case .specialValue: return try bindSpecialValue(node, scope, place)
        case .operator:
            if node.children[0] != 0, plan[node.children[0]].kind == .row,
                plan[node.children[1]].kind == .row || plan[node.children[1]].kind == .scalarQuery
            {
                return try bindRowComparison(node, scope, place)
            }
            if let least = leastInteger(node) { return least }
            // Of two faults the left one is told.
            let left = node.children[0] == 0 ? nil : try operand(0)
            return try bindOperator(node.name, left, try operand(1), at: node.position)
        case .and, .or:
            var parts: [BoundExpression] = []
            let clause = node.kind == .and ? "AND" : "OR"
            for child in node.children {
                parts.append(try bindCondition(child, scope, place, clause))
            }
            return BoundExpression(form: node.kind == .and ? .and(parts) : .or(parts), type: .bool)
        case .not:
            let part = try bindCondition(node.children[0], scope, place, "NOT")
            return BoundExpression(form: .not(part), type: .bool)
        case .nullTest:
            let isNegated = node.flags.contains(.isNegated), tested = try operand(0)
            // Of a row: all of it is NULL, or nothing is.
            let relation = try relation(named: node.children[0], scope)
            var parts = relation?.columns.map(\.expression) ?? []
            if case .row(let own) = tested.form { parts = own }
            guard !parts.isEmpty else {
                return BoundExpression(form: .isNull(tested, isNegated: isNegated), type: .bool)
            }
            return join(
                parts.map { BoundExpression(form: .isNull($0, isNegated: isNegated), type: .bool) }, isAnd: true)
        case .booleanTest: return try bindBooleanTest(node, scope, place)
        case .distinctTest: return try distinct(try operand(0), try operand(1), node)
        case .between: return try bindBetween(node, try operand(0), try operand(1), try operand(2))
        case .like: return try bindLike(node, scope, place)
        case .inList: return try bindInList(node, scope, place)
        case .inQuery, .quantifiedQuery, .scalarQuery, .exists, .arrayQuery:
            return try bindSubquery(node, scope, place)
        case .quantifiedArray: return try bindQuantifiedArray(node, try operand(0), try operand(1))
        case .case: return try bindCase(node, scope, place)
        case .cast:
            let type = try bindType(node.children[1])
            // An empty ARRAY[] gets its type from the cast.
            if plan[node.children[0]].kind == .arrayConstructor, type.isArray {
                return try bindArray(plan[node.children[0]], scope, place, element: type.element)
            }
            let value = try operand(0)
            do {
                return try coerce(value, to: type, .explicit, at: node.position)
            } catch var error {
                // That there is no such cast is a fault of the cast; what a literal says wrong is one of the literal.
                if error.state == .cannotCoerce { error.position = Int(node.position) }
                throw error
            }
        case .functionCall: return try bindCall(node, scope, place)
        case _: return try bindForm(node, scope, place)  // Forms of the language.
        }
    }

    private func bindForm(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace) throws(StatementError)
        -> BoundExpression
    {
        func operand(_ number: Int) throws(StatementError) -> BoundExpression {
            try bindExpression(node.children[number], scope, place)
        }
        switch node.kind {
        case .coalesce, .greatest, .least: return try bindCommon(node, scope, place)
        case .nullIf:
            let left = try operand(0), right = try operand(1)
            let isEqual = try bindOperator("=", left, right, at: node.position)
            let value = try asCompared(left, right)
            let null = BoundExpression.constant(.null, value.type)
            return BoundExpression(form: .choice([(isEqual, null)], otherwise: value), type: value.type)
        case .collate: return try bindCollate(node, try operand(0))
        case .arrayConstructor: return try bindArray(node, scope, place, element: nil)
        case .row:
            var elements: [BoundExpression] = []
            for child in node.children {
                for element in try bindElements(child, scope, place) {
                    elements.append(try resolveUnknown(element, as: .text))
                }
            }
            return BoundExpression(form: .row(elements), type: .record)
        case .arraySubscript, .arraySlice: return try bindSubscript(node, scope, place)
        case .grouping: return try bindGroupingCall(node, scope, place)
        case .fieldSelection:
            if let column = try bindRelationField(node, scope) { return column }
            return try bindField(node, try operand(0))
        case .allFields, .currentOf, .namedArgument:
            throw unsupported("this expression (\(node.kind))", at: node.position)
        case .default:
            throw StatementError(.syntaxError, "DEFAULT is not allowed in this context")
        case _: throw unsupported("this expression", at: node.position)  // Not an expression.
        }
    }

    /// The left side of an equality as PostgreSQL compares it: varchar as text, say.
    private func asCompared(_ left: BoundExpression, _ right: BoundExpression) throws(StatementError) -> BoundExpression
    {
        // Of these PostgreSQL has equalities with other types.
        let isKept = !left.type.isArray && [.date, .timestamp, .name].contains(left.type.kind)
        let chosen = try? resolve(Registry.operators("=", 2), [left.type, right.type], isOperator: true)
        guard !isKept, case .of(let type)? = chosen?.parameters[0], left.type.unconstrained != type else {
            return try resolveUnknown(left, as: .text)
        }
        return try coerce(left, to: type, .implicit, at: left.position)
    }

    private func bindLiteral(_ node: LogicalPlan.Node) throws(StatementError) -> BoundExpression {
        let position = node.position
        switch node.kind {
        case .null: return .constant(.null, .unknown, at: position)
        case .boolean: return .constant(.bool(node.number != 0), .bool, at: position)
        case .integer:
            let isSmall = Int32(exactly: node.number) != nil
            return .constant(.integer(node.number), isSmall ? .int32 : .int64, at: position)
        case .decimal:
            do throws(DatabaseError) {
                return .constant(.decimal(try Decimal(parsing: node.name)), .decimal, at: position)
            } catch {
                throw StatementError(error).placed(at: position)
            }
        case .string: return .constant(.text(node.name), .unknown, at: position)
        case .parameter:
            guard node.number > 0, node.number <= 65_535 else {
                throw StatementError(.undefinedParameter, "there is no parameter $\(node.number)", position: position)
            }
            let index = Int(node.number) - 1
            while parameterTypes.count <= index { parameterTypes.append(.unknown) }
            return BoundExpression(form: .parameter(index), type: parameterTypes[index], position: position)
        case _: throw unsupported("a bit string", at: position)  // Literals have no other kinds.
        }
    }

    // MARK: Columns

    func bindColumn(_ node: LogicalPlan.Node, _ scope: Scope) throws(StatementError) -> BoundExpression {
        let qualifier = nameParts(node.children[0])
        if qualifier.isEmpty {
            if let found = try findColumn(node.name, scope) { return placed(found.expression, node.position) }
            // The name of a function in FROM stands for its one column.
            if let relation = try? findRelation([node.name], scope, at: node.position), relation.collection == nil,
                relation.columns.count == 1, relation.columns[0].name == "value"
            {
                return placed(relation.columns[0].expression, node.position)
            }
            if recorder == nil, let relation = try? findRelation([node.name], scope, at: node.position) {
                return row(of: relation, at: node.position)
            }
            throw StatementError(
                .undefinedColumn, "column \"\(node.name)\" does not exist", position: node.position)
        }
        let relation = try findRelation(qualifier, scope, at: node.position)
        if isStored, node.number != 0 {
            let column = relation.columns.first { column in
                guard let collection = column.collection, let id = column.column else { return false }
                return ViewNumber.of(collection, id) == node.number
            }
            if let column { return column.expression }
        }
        let found = relation.columns.filter { $0.name == node.name }
        guard found.count <= 1 else {
            throw StatementError(
                .ambiguousColumn, "column reference \"\(node.name)\" is ambiguous", position: node.position)
        }
        if found.isEmpty, node.name == "tableoid", let collection = relation.collection,
            SystemCatalogs.isSystem(collection)
        {
            return .constant(.oid(collection.id.rawValue), .oid, at: node.position)
        }
        guard let column = found.first else {
            throw StatementError(
                .undefinedColumn, "column \((qualifier.suffix(1) + [node.name]).joined(separator: ".")) does not exist",
                position: node.position)
        }
        return placed(column.expression, node.position)
    }

    /// What a name of a column means, for a query that the catalog keeps.
    private func recorded(_ node: LogicalPlan.Node, _ scope: Scope) throws(StatementError) -> ViewRecorder.Column? {
        let qualifier = nameParts(node.children[0])
        if !qualifier.isEmpty {
            let relation = try findRelation(qualifier, scope, at: node.position)
            return relation.columns.first { $0.name == node.name }.map { ViewRecorder.column($0, among: [relation]) }
        }
        var level: Scope? = scope
        while let current = level {
            if let column = current.columns.first(where: { $0.name == node.name }) {
                return ViewRecorder.column(column, among: current.relations)
            }
            level = current.parent
        }
        return nil
    }

    func placed(_ expression: BoundExpression, _ position: Int32) -> BoundExpression {
        var expression = expression
        expression.position = position
        return expression
    }

    /// By its bare name, from the inside out.
    func findColumn(_ name: String, _ scope: Scope) throws(StatementError) -> ScopeColumn? {
        var current: Scope? = scope
        while let level = current {
            let found = level.columns.filter { $0.name == name }
            if found.count > 1 {
                throw StatementError(.ambiguousColumn, "column reference \"\(name)\" is ambiguous")
            }
            if let column = found.first { return column }
            current = level.parent
        }
        return nil
    }

    func findRelation(_ qualifier: [String], _ scope: Scope, at position: Int32) throws(StatementError)
        -> ScopeRelation
    {
        let alias = qualifier[qualifier.count - 1]
        var current: Scope? = scope, isHidden = false
        while let level = current {
            let found = level.relations.filter { relation in
                relation.alias == alias
                    && (qualifier.count == 1 || relation.namespace == qualifier[qualifier.count - 2])
            }
            if found.count > 1 {
                throw StatementError(
                    .ambiguousAlias, "table reference \"\(alias)\" is ambiguous", position: position)
            }
            if let relation = found.first { return relation }
            isHidden = isHidden || level.hidden.contains(alias)
            current = level.parent
        }
        if isHidden {
            throw StatementError(
                .undefinedTable, "invalid reference to FROM-clause entry for table \"\(alias)\"",
                hint: "There is an entry for table \"\(alias)\", but it cannot be referenced from this part of the "
                    + "query.", position: position)
        }
        throw missingRelation(alias, scope, at: position)
    }

    // MARK: Tests and comparisons

    private func bindBooleanTest(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace)
        throws(StatementError) -> BoundExpression
    {
        let isNegated = node.flags.contains(.isNegated)
        let clause = (isNegated ? "IS NOT " : "IS ") + ["TRUE", "FALSE", "UNKNOWN"][min(Int(node.number), 2)]
        let operand = try bindCondition(node.children[0], scope, place, clause)
        if node.number == 2 { return BoundExpression(form: .isNull(operand, isNegated: isNegated), type: .bool) }
        let wanted = node.number == 0 ? operand : BoundExpression(form: .not(operand), type: .bool)
        let known = BoundExpression(
            form: .coalesce([wanted, .constant(.bool(false), .bool)]), type: .bool, position: node.position)
        return isNegated ? BoundExpression(form: .not(known), type: .bool) : known
    }

    /// `a = b`, or both NULL; computed from three-valued parts.
    private func distinct(_ left: BoundExpression, _ right: BoundExpression, _ node: LogicalPlan.Node)
        throws(StatementError) -> BoundExpression
    {
        if case .row(let mine) = left.form, case .row(let theirs) = right.form {
            guard mine.count == theirs.count, !mine.isEmpty else {
                throw StatementError(
                    .syntaxError, "unequal number of entries in row expressions", position: node.position)
            }
            var parts: [BoundExpression] = []
            for (one, other) in zip(mine, theirs) { parts.append(try distinct(one, other, node)) }
            return join(parts, isAnd: node.flags.contains(.isNegated))
        }
        let isEqual = try bindOperator("=", left, right, at: node.position)
        let mine = BoundExpression(form: .isNull(left, isNegated: false), type: .bool)
        let theirs = BoundExpression(form: .isNull(right, isNegated: false), type: .bool)
        let bothNull = BoundExpression(form: .and([mine, theirs]), type: .bool)
        let isSame = BoundExpression(form: .coalesce([isEqual, bothNull]), type: .bool)
        return node.flags.contains(.isNegated) ? isSame : BoundExpression(form: .not(isSame), type: .bool)
    }

    private func bindBetween(
        _ node: LogicalPlan.Node, _ operand: BoundExpression, _ low: BoundExpression, _ high: BoundExpression
    ) throws(StatementError) -> BoundExpression {
        let position = node.position, isNegated = node.flags.contains(.isNegated)
        func within(_ low: BoundExpression, _ high: BoundExpression) throws(StatementError) -> BoundExpression {
            let first = try bindOperator(isNegated ? "<" : ">=", operand, low, at: position)
            let second = try bindOperator(isNegated ? ">" : "<=", operand, high, at: position)
            return BoundExpression(form: isNegated ? .or([first, second]) : .and([first, second]), type: .bool)
        }
        guard node.flags.contains(.isSymmetric) else { return try within(low, high) }
        let both = [try within(low, high), try within(high, low)]
        return BoundExpression(form: isNegated ? .and(both) : .or(both), type: .bool)
    }

    private func bindLike(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace) throws(StatementError)
        -> BoundExpression
    {
        let operand = try bindExpression(node.children[0], scope, place)
        var pattern = try bindExpression(node.children[1], scope, place)
        let isSimilar = node.number == 2
        if node.children[2] != 0 || isSimilar {
            let escape = node.children[2] == 0 ? [] : [try bindExpression(node.children[2], scope, place)]
            let name = isSimilar ? "similar_to_escape" : "like_escape"
            pattern = try bindFunction(name, [pattern] + escape, isBuiltIn: true, at: node.position)
        }
        if isSimilar {
            let name = node.flags.contains(.isNegated) ? "!~" : "~"
            return try bindOperator(name, operand, pattern, at: node.position)
        }
        let name = (node.flags.contains(.isNegated) ? "!~~" : "~~") + (node.number == 1 ? "*" : "")
        return try bindOperator(name, operand, pattern, at: node.position)
    }

    private func bindInList(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace) throws(StatementError)
        -> BoundExpression
    {
        let isNegated = node.flags.contains(.isNegated)
        let left = node.children[0]
        let items = plan.list(node.children[1])
        if plan[left].kind == .row {
            var parts: [BoundExpression] = []
            for item in items {
                guard plan[item].kind == .row else { throw unsupported("this IN over rows", at: node.position) }
                let name = isNegated ? "<>" : "="
                parts.append(try compareRows(name, left, item, scope, place, at: node.position))
            }
            return join(parts, isAnd: isNegated)
        }
        var operand = try bindExpression(left, scope, place)
        var elements: [BoundExpression] = []
        for item in items { elements.append(try bindExpression(item, scope, place)) }
        // One type for all, as for the elements of an array, if they have one.
        if let type = try? commonType([operand] + elements, place: "IN", at: node.position), elements.count > 1 {
            operand = try coerce(operand, to: type, .implicit, at: node.position)
            for index in elements.indices {
                elements[index] = try coerce(elements[index], to: type, .implicit, at: node.position)
            }
        }
        var parts: [BoundExpression] = []
        for element in elements {
            parts.append(try bindOperator(isNegated ? "<>" : "=", operand, element, at: node.position))
        }
        return join(parts, isAnd: isNegated)
    }

    private func join(_ parts: [BoundExpression], isAnd: Bool) -> BoundExpression {
        if parts.count == 1 { return parts[0] }
        return BoundExpression(form: isAnd ? .and(parts) : .or(parts), type: .bool)
    }

    private func bindRowComparison(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace)
        throws(StatementError) -> BoundExpression
    {
        try compareRows(node.name, node.children[0], node.children[1], scope, place, at: node.position)
    }

    /// `(a, b) = (c, d)` column by column; `<` and its like lexicographically.
    private func compareRows(
        _ name: String, _ left: Int32, _ right: Int32, _ scope: Scope, _ place: ExpressionPlace, at position: Int32
    ) throws(StatementError) -> BoundExpression {
        func elements(_ index: Int32) throws(StatementError) -> [BoundExpression] {
            var bound: [BoundExpression] = []
            for child in plan[index].children { bound.append(try bindExpression(child, scope, place)) }
            return bound
        }
        let mine = try elements(left)
        let theirs: [BoundExpression]
        if plan[right].kind == .scalarQuery {
            theirs = try bindColumns(ofQuery: plan[right], count: mine.count, scope) { columns in
                StatementError(
                    .syntaxError,
                    mine.count < columns ? "subquery has too many columns" : "subquery has too few columns",
                    position: position)
            }
        } else {
            theirs = try elements(right)
        }
        guard mine.count == theirs.count, !mine.isEmpty else {
            throw StatementError(.syntaxError, "unequal number of entries in row expressions", position: position)
        }
        func compare(_ name: String, _ index: Int) throws(StatementError) -> BoundExpression {
            try bindOperator(name, mine[index], theirs[index], at: position)
        }
        switch name {
        case "=", "<>":
            var parts: [BoundExpression] = []
            for index in mine.indices { parts.append(try compare(name, index)) }
            return join(parts, isAnd: name == "=")
        case "<", ">", "<=", ">=":
            let strict = String(name.prefix(1))
            var result = try compare(name, mine.count - 1)
            for index in stride(from: mine.count - 2, through: 0, by: -1) {
                let less = try compare(strict, index), equal = try compare("=", index)
                result = join([less, join([equal, result], isAnd: true)], isAnd: false)
            }
            return result
        case _:
            throw StatementError(
                .featureNotSupported, "could not determine interpretation of row comparison operator \(name)",
                position: position)
        }
    }

    private func bindQuantifiedArray(_ node: LogicalPlan.Node, _ operand: BoundExpression, _ array: BoundExpression)
        throws(StatementError) -> BoundExpression
    {
        var array = array
        if array.type.kind == .unknown, !array.type.isArray {
            let element = operand.type.kind == .unknown ? DataType.text : operand.type
            array = try resolveUnknown(array, as: element.unconstrained.array)
        }
        guard array.type.isArrayLike else {
            throw StatementError(.wrongObjectType, "op ANY/ALL (array) requires array on right side")
        }
        let element = BoundExpression.attribute(Attribute(id: -1), array.type.element)
        let comparison = try bindOperator(node.name, operand, element, isCollated: false, at: node.position)
        guard case .call(let function, let sides) = comparison.form, comparison.type == .bool else {
            throw StatementError(.wrongObjectType, "op ANY/ALL (array) requires operator to yield boolean")
        }
        let type = sides[1].type
        let elements = try coerce(array, to: type.unconstrained.array, .implicit, at: node.position)
        let (compared, value, all) = try collated(quantified: function, sides[0], elements, at: node.position)
        let call = ArrayFunctions.quantified(compared, isAll: node.flags.contains(.isAll))
        return BoundExpression(form: .call(call, [value, all]), type: .bool, position: node.position)
    }

    // MARK: CASE and its like

    private func bindCase(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace) throws(StatementError)
        -> BoundExpression
    {
        let operand = node.children[0] == 0 ? nil : try bindExpression(node.children[0], scope, place)
        var conditions: [BoundExpression] = [], results: [BoundExpression] = []
        for when in plan.list(node.children[1]) {
            let branch = plan[when]
            if let operand {
                let value = try bindExpression(branch.children[0], scope, place)
                conditions.append(try bindOperator("=", operand, value, at: branch.position))
            } else {
                conditions.append(try bindCondition(branch.children[0], scope, place, "CASE/WHEN"))
            }
            results.append(try bindExpression(branch.children[1], scope, place))
        }
        let hasElse = node.children[2] != 0
        if hasElse { results.append(try bindExpression(node.children[2], scope, place)) }
        try refuseRows((operand.map { [$0] } ?? []) + conditions + results, in: "CASE")
        // PostgreSQL looks at ELSE first; with the others in order the outcome differs only in messages.
        let type = try commonType(hasElse ? [results[results.count - 1]] + results : results, place: "CASE", at: 0)
        for index in results.indices {
            results[index] = try coerce(results[index], to: type, .implicit, at: results[index].position)
        }
        let pairs = conditions.indices.map { (condition: conditions[$0], result: results[$0]) }
        return BoundExpression(
            form: .choice(pairs, otherwise: hasElse ? results[results.count - 1] : nil), type: type,
            position: node.position)
    }

    private func bindCommon(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace)
        throws(StatementError) -> BoundExpression
    {
        let title = node.kind == .coalesce ? "COALESCE" : node.kind == .greatest ? "GREATEST" : "LEAST"
        var parts: [BoundExpression] = []
        for child in node.children { parts.append(try bindExpression(child, scope, place)) }
        if node.kind == .coalesce { try refuseRows(parts, in: title) }
        let type = try commonType(parts, place: title, at: 0)
        for index in parts.indices {
            parts[index] = try coerce(parts[index], to: type, .implicit, at: parts[index].position)
        }
        if node.kind == .coalesce {
            return BoundExpression(form: .coalesce(parts), type: type, position: node.position)
        }
        let function = node.kind == .greatest ? ConditionalFunctions.greatest : ConditionalFunctions.least
        return try extreme(function, parts, type, at: node.position)
    }

    private func bindArray(
        _ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace, element: DataType?
    ) throws(StatementError) -> BoundExpression {
        var elements: [BoundExpression] = []
        for child in node.children {
            let isNested = plan[child].kind == .arrayConstructor
            elements.append(
                isNested
                    ? try bindArray(plan[child], scope, place, element: element)
                    : try bindExpression(child, scope, place))
        }
        guard !elements.isEmpty || element != nil else {
            throw StatementError(
                .indeterminateDatatype, "cannot determine type of empty array",
                hint: "Explicitly cast to the desired type, for example ARRAY[]::integer[].")
        }
        let isNested = elements.contains { $0.type.isArray }
        var type: DataType
        if let element {
            type = element
        } else {
            type = try commonType(elements, place: "ARRAY", at: node.position).element
        }
        if type.kind == .unknown { type = .text }
        let wanted = isNested ? type.array : type
        let context: CastContext = element == nil ? .implicit : .explicit
        for index in elements.indices {
            elements[index] = try coerce(elements[index], to: wanted, context, at: elements[index].position)
        }
        return BoundExpression(form: .array(elements), type: type.array, position: node.position)
    }
}
