import Base
import DataModel

// Aggregates that belong to a query around the one in which they stand.

extension Binder {
    /// The query whose columns an aggregate reads, if it reads none of the query in which it stands.
    func home(of call: AggregateCall, _ scope: Scope, at position: Int32) throws(StatementError) -> Scope? {
        var read: Set<Attribute> = []
        for operand in call.operands { operand.collectAttributes(into: &read) }
        guard !read.isEmpty, read.isDisjoint(with: scope.ownAttributes) else { return nil }
        var outer = scope.parent
        while let found = outer {
            guard !found.outerAggregates.contains(where: { read.contains($0.attribute) }) else {
                throw misplaced(.aggregateArgument, at: position)
            }
            if !read.isDisjoint(with: found.ownAttributes) { return found }
            outer = found.parent
        }
        return nil
    }

    /// The value of an aggregate that another query computes.
    func adopted(_ call: AggregateCall, by home: Scope, at position: Int32) throws(StatementError) -> BoundExpression {
        guard let place = home.subqueryPlace else {
            throw StatementError(
                .groupingError, "aggregate functions are not allowed in FROM clause of their own query level",
                position: position)
        }
        guard place.allowsAggregates else { throw misplaced(place, at: position) }
        if let same = home.outerAggregates.first(where: { $0.call.isSame(as: call) }) {
            return .attribute(same.attribute, call.type, at: position)
        }
        let attribute = newAttribute()
        home.outerAggregates.append((attribute, call))
        return .attribute(attribute, call.type, at: position)
    }

    func misplaced(_ place: ExpressionPlace, at position: Int32) -> StatementError {
        let message =
            place == .aggregateArgument
            ? "aggregate function calls cannot be nested"
            : "aggregate functions are not allowed in \(place.title)"
        return StatementError(.groupingError, message, position: position)
    }
}
