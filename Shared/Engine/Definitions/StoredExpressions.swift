import Base
import Contracts
import DataModel

/// Expressions that the catalog keeps. Each is bound once here, so that what nobody could ever evaluate is refused when
/// it is defined.
extension DefinitionPlanner {
    /// A column's DEFAULT.
    func stored(
        defaultValue index: Int32, of column: CollectionDescriptor.Column
    ) throws(StatementError) -> StoredExpression {
        try refuse(in: index, of: "DEFAULT expressions")
        let expression = plan.extracted(index)
        if plan[index].kind == .string || plan[index].kind == .null {
            // A literal is one of the column's type, if it can be read as such.
            if plan[index].kind == .string {
                var settings = EngineSettings()
                settings.catalog = catalog
                let value = try TextForms.parse(plan[index].name, column.type, settings)
                _ = try Casts.fit(value, to: column.type, isExplicit: false)
            }
            return try kept(index, expression)
        }
        var settings = EngineSettings()
        settings.user = context.owner
        let prepared = try PreparedPlan(expression, catalog: catalog, settings: settings, parameterTypes: [])
        guard let type = prepared.columns.first?.type,
            let context = Casts.context(from: type, to: column.type), context <= .assignment
        else {
            throw StatementError(
                .datatypeMismatch,
                "column \"\(column.name)\" is of type \(column.type.title) but default expression is of type "
                    + (prepared.columns.first?.type.title ?? "unknown"),
                hint: "You will need to rewrite or cast the expression.")
        }
        return try kept(index, expression)
    }

    /// What a default is in all rows that are there; nil if it is another value for each.
    func constant(_ stored: StoredExpression, for column: CollectionDescriptor.Column) throws(StatementError) -> Value?
    {
        let binder = Binder(
            try StoredPlans.expression(stored), catalog: catalog, settings: context.settings, parameterTypes: [])
        let bound = try binder.bindExpression(binder.plan.root, Scope(parent: nil), .columnDefault)
        let value = try binder.assign(bound, to: column, at: 0)
        guard !value.isVolatile else { return nil }
        let execution = ExecutionContext(
            settings: context.settings, parameters: [], access: nil, attributes: Int(binder.attributeCount))
        return try Evaluator(value, layout: Layout([])).value(execution)
    }

    /// USING of ALTER COLUMN … TYPE.
    func stored(transform index: Int32, of table: CollectionDescriptor) throws(StatementError) -> StoredExpression {
        for node in reached(from: index) {
            switch node.kind {
            case .scalarQuery, .exists, .inQuery, .quantifiedQuery, .arrayQuery:
                throw StatementError(
                    .featureNotSupported, "cannot use subquery in transform expression", position: Int(node.position))
            case .columnReference where table.column(named: node.name) == nil:
                throw StatementError(
                    .undefinedColumn, "column \"\(node.name)\" does not exist", position: Int(node.position))
            case _: break
            }
        }
        return try kept(index, plan.extracted(index))
    }

    private func kept(_ index: Int32, _ expression: LogicalPlan) throws(StatementError) -> StoredExpression {
        guard let text = plan.text(ofExpression: index) else {
            throw Self.unsupported("keeping this expression in the catalog", at: plan[index].position)
        }
        return StoredExpression(plan: expression.encode(), text: text)
    }

    /// A CHECK of a table; its columns are bound when rows are written.
    func stored(
        condition index: Int32, of table: CollectionDescriptor
    ) throws(StatementError) -> StoredExpression {
        for node in reached(from: index) {
            switch node.kind {
            case .scalarQuery, .exists, .inQuery, .quantifiedQuery, .arrayQuery:
                throw StatementError(
                    .featureNotSupported, "cannot use subquery in check constraint", position: Int(node.position))
            case .columnReference where table.column(named: node.name) == nil:
                throw StatementError(
                    .undefinedColumn, "column \"\(node.name)\" does not exist", position: Int(node.position))
            case _: break
            }
        }
        return try kept(index, plan.extracted(index))
    }

    private func refuse(in index: Int32, of what: String) throws(StatementError) {
        for node in reached(from: index) {
            switch node.kind {
            case .columnReference:
                throw StatementError(
                    .featureNotSupported, "cannot use column reference in DEFAULT expression",
                    position: Int(node.position))
            case .scalarQuery, .exists, .inQuery, .quantifiedQuery, .arrayQuery:
                throw StatementError(
                    .featureNotSupported, "cannot use subquery in DEFAULT expression",
                    position: Int(node.position))
            case .parameter:
                throw StatementError(
                    .undefinedParameter, "there is no parameter $\(node.number)", position: Int(node.position))
            case _: break
            }
        }
    }

    private func reached(from index: Int32) -> [LogicalPlan.Node] {
        var found: [LogicalPlan.Node] = [], open = [index]
        while let next = open.popLast() {
            guard next != 0 else { continue }
            found.append(plan[next])
            open += plan[next].children
        }
        return found
    }
}
