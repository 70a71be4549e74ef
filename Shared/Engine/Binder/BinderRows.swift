import Base
import Contracts
import DataModel

// Whole rows of relations: `t.*` in an expression, `(t).*` and `(t).column`.

extension Binder {
    /// The relation whose row an expression names: `t`, unless a column is called so, or `t.*`.
    func relation(named index: Int32, _ scope: Scope) throws(StatementError) -> ScopeRelation? {
        let node = plan[index], qualifier = nameParts(plan[index].children.first ?? 0)
        switch node.kind {
        case .star where !qualifier.isEmpty && recorder == nil:
            return try findRelation(qualifier, scope, at: node.position)
        case .columnReference where qualifier.isEmpty && recorder == nil:
            guard try findColumn(node.name, scope) == nil else { return nil }
            return try? findRelation([node.name], scope, at: node.position)
        case _: return nil  // Other expressions.
        }
    }

    /// `t.*` where one value is wanted.
    func bindWholeRow(_ node: LogicalPlan.Node, _ scope: Scope) throws(StatementError) -> BoundExpression {
        let qualifier = nameParts(node.children[0])
        guard !qualifier.isEmpty else {
            throw StatementError(.syntaxError, "row expansion via \"*\" is not supported here")
        }
        guard recorder == nil else { throw unsupported("a whole row in a view", at: node.position) }
        let relation = try findRelation(qualifier, scope, at: node.position)
        return row(of: relation, at: node.position)
    }

    func row(of relation: ScopeRelation, at position: Int32) -> BoundExpression {
        let columns = BoundExpression(
            form: .row(relation.columns.map(\.expression)), type: .record, position: position)
        return ifThere(columns, relation)
    }

    /// A value that is made of the row of a relation: NULL where an outer join has found no row. A column that is never
    /// NULL shows that; without one, no row is taken for a row of NULLs.
    func ifThere(_ value: BoundExpression, _ relation: ScopeRelation) -> BoundExpression {
        guard relation.isNullable, !relation.columns.isEmpty else { return value }
        let certain = relation.columns.first { column in
            guard let table = relation.collection, let id = column.column else { return false }
            return table.primaryKey.contains(id) || table.columns.contains { $0.id == id && $0.isNotNull }
        }
        let tests = (certain.map { [$0] } ?? relation.columns).map {
            BoundExpression(form: .isNull($0.expression, isNegated: false), type: .bool)
        }
        let isMissing = tests.count == 1 ? tests[0] : BoundExpression(form: .and(tests), type: .bool)
        return BoundExpression(
            form: .choice([(isMissing, .constant(.null, value.type))], otherwise: value), type: value.type,
            position: value.position)
    }

    /// An element of ROW or VALUES; `t.*` in it stands for all columns of `t`.
    func bindElements(_ index: Int32, _ scope: Scope, _ place: ExpressionPlace) throws(StatementError)
        -> [BoundExpression]
    {
        guard plan[index].kind == .star, let relation = try relation(named: index, scope) else {
            return [try bindExpression(index, scope, place)]
        }
        return relation.columns.map { placed($0.expression, plan[index].position) }
    }

    /// `(t).name`.
    func bindRelationField(_ node: LogicalPlan.Node, _ scope: Scope) throws(StatementError) -> BoundExpression? {
        guard let relation = try relation(named: node.children[0], scope) else { return nil }
        let found = relation.columns.filter { $0.name == node.name }
        guard found.count <= 1 else {
            throw StatementError(
                .ambiguousColumn, "column reference \"\(node.name)\" is ambiguous", position: node.position)
        }
        guard let column = found.first else {
            throw StatementError(
                .undefinedColumn, "column \(relation.alias).\(node.name) does not exist", position: node.position)
        }
        return placed(column.expression, node.position)
    }

    /// Functions that give rows must not stand where they may or may not be called.
    func refuseRows(_ parts: [BoundExpression], in title: String) throws(StatementError) {
        func rows(_ expression: BoundExpression) -> BoundExpression? {
            if case .rows = expression.form { return expression }
            for operand in expression.operands {
                if let found = rows(operand) { return found }
            }
            return nil
        }
        for part in parts {
            guard let found = rows(part) else { continue }
            throw StatementError(
                .featureNotSupported, "set-returning functions are not allowed in \(title)",
                hint: "You might be able to move the set-returning function into a LATERAL FROM item.",
                position: found.position)
        }
    }

    /// That no relation is called so; one of that name may be there under another.
    func missingRelation(_ name: String, _ scope: Scope, at position: Int32) -> StatementError {
        var current: Scope? = scope
        while let level = current {
            if let other = level.relations.first(where: { $0.collection?.name == name && $0.alias != name }) {
                return StatementError(
                    .undefinedTable, "invalid reference to FROM-clause entry for table \"\(name)\"",
                    hint: "Perhaps you meant to reference the table alias \"\(other.alias)\".", position: position)
            }
            current = level.parent
        }
        return StatementError(
            .undefinedTable, "missing FROM-clause entry for table \"\(name)\"", position: position)
    }
}
