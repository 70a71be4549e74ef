import Base
import Contracts
import DataModel

/// Work on the rows of a table that is altered.
extension Binder {
    func bindTask(_ task: TableTask) throws(StatementError) -> FillPlan {
        let (scan, columns) = scanPlan(task.source)
        guard let key = scan.key else { throw StatementError(.internalError, "a scan to write by has no key") }
        let scope = Scope(parent: nil)
        scope.columns = columns
        scope.relations = [ScopeRelation(alias: task.source.name, columns: columns, collection: task.source)]
        var projections = [Projection(attribute: key, expression: .attribute(key, .bytes))]
        var values: [Attribute] = []
        for column in task.target.columns {
            let attribute = newAttribute()
            values.append(attribute)
            let expression: BoundExpression
            if let stored = task.values[column.id] {
                let inner = Binder(try StoredPlans.expression(stored), within: self)
                let bound = try inner.bindExpression(inner.plan.root, scope, .assignment)
                expression = try inner.assign(bound, to: column, at: 0)
                absorb(inner)
            } else if let old = columns.first(where: { $0.column == column.id }) {
                expression = try assign(old.expression, to: column, at: 0)
            } else {
                expression = .constant(column.missing ?? .null, column.type)
            }
            projections.append(Projection(attribute: attribute, expression: expression))
        }
        var plan = FillPlan(
            child: .project(.scan(scan), projections), values: values, key: key,
            schema: catalog.name(of: task.target.namespace))
        let wanted = Set(task.indexes)
        plan.indexes = zip(task.target.indexes, try indexes(task.target)).filter { wanted.contains($0.0.id) }.map(\.1)
        plan.checks = try checks(task.target, self.columns(task.target, values)).filter {
            task.checks.contains($0.name)
        }
        return plan
    }
}
