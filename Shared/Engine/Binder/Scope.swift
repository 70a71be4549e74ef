import Base
import DataModel

/// A column that names may mean.
struct ScopeColumn {
    var name: String
    var expression: BoundExpression
    var collection: CollectionID?
    var column: ColumnID?
}

/// A relation of FROM, by the name under which its columns are known.
struct ScopeRelation {
    var alias: String
    /// Of a collection without an alias: its namespace, for `s.t.c`.
    var namespace: String?
    var columns: [ScopeColumn]
    var collection: CollectionDescriptor?
    /// Of a collection whose rows are written or locked: its encoded keys.
    var key: Attribute?
    var source = Source.query
    /// On the side of an outer join that may be NULL as a whole.
    var isNullable = false

    enum Source {
        case table, query, function, common, join
        /// A recursive query within itself.
        case working

        /// As PostgreSQL says it.
        var title: String {
            switch self {
            case .table: "a table"
            case .query: "a subquery"
            case .function: "a function"
            case .join: "a join"
            case .common, .working: "a WITH query"
            }
        }
    }
}

/// A name of WITH.
enum CommonTableEntry {
    case made(CommonTable)
    /// Within its own recursive part.
    case working(RecursionID, name: String, outputs: [OutputColumn])
}

/// Where names are looked for: the relations of one query, and behind it those around.
final class Scope {
    let parent: Scope?
    /// What FROM has so far; all of it once it is bound.
    var relations: [ScopeRelation] = []
    /// Columns that a name without a qualifier may mean: those merged by USING once.
    var columns: [ScopeColumn] = []
    /// Names of relations that are there, but not to be read from here.
    var hidden: Set<String> = []
    var commonTables: [String: CommonTableEntry] = [:]
    /// The windows of the WINDOW clause, by name.
    var windows: [String: Binder.Window] = [:]

    /// Locking clauses of the query, and those of queries around it that reach into it.
    var lockings: [Locking] = []

    /// What the subquery that is being bound stands in; nil in FROM.
    var subqueryPlace: ExpressionPlace?
    /// Aggregates that stand in subqueries and read columns of this query only: it computes them, under attributes
    /// that the subqueries read.
    var outerAggregates: [(attribute: Attribute, call: AggregateCall)] = []

    init(parent: Scope?) { self.parent = parent }

    /// The WITH query of that name, from the inside out.
    func commonTable(_ name: String) -> CommonTableEntry? {
        commonTables[name] ?? parent?.commonTable(name)
    }

    /// The attributes of this query's own FROM.
    var ownAttributes: Set<Attribute> {
        var found: Set<Attribute> = []
        for relation in relations {
            for column in relation.columns { column.expression.collectAttributes(into: &found) }
        }
        for column in columns { column.expression.collectAttributes(into: &found) }
        return found
    }
}

/// What an expression stands in, as far as it decides what may be in it.
enum ExpressionPlace {
    case targets, condition, grouping, having, order, joinCondition, values, limit, returning, assignment
    case columnDefault, check, window, frameRows, frameRange, frameGroups, functionInFrom, filter, aggregateArgument

    /// As PostgreSQL names it in messages.
    var title: String {
        switch self {
        case .targets: "SELECT"
        case .condition: "WHERE"
        case .grouping: "GROUP BY"
        case .having: "HAVING"
        case .order: "ORDER BY"
        case .joinCondition: "JOIN conditions"
        case .values: "VALUES"
        case .limit: "LIMIT"
        case .returning: "RETURNING"
        case .assignment: "UPDATE"
        case .columnDefault: "DEFAULT expressions"
        case .check: "check constraints"
        case .window: "window definitions"
        case .frameRows: "window ROWS"
        case .frameRange: "window RANGE"
        case .frameGroups: "window GROUPS"
        case .functionInFrom: "functions in FROM"
        case .filter: "FILTER"
        case .aggregateArgument: "aggregate function calls"
        }
    }

    var allowsAggregates: Bool {
        switch self {
        case .targets, .having, .order, .window: true
        case .condition, .grouping, .joinCondition, .values, .limit, .returning, .assignment, .columnDefault, .check,
            .frameRows, .frameRange, .frameGroups, .functionInFrom, .filter, .aggregateArgument:
            false
        }
    }

    var allowsWindows: Bool {
        switch self {
        case .targets, .order: true
        case .condition, .grouping, .having, .joinCondition, .values, .limit, .returning, .assignment, .columnDefault,
            .check, .window, .frameRows, .frameRange, .frameGroups, .functionInFrom, .filter, .aggregateArgument:
            false
        }
    }

    var allowsRows: Bool {
        switch self {
        case .targets, .order, .grouping: true
        case .condition, .having, .joinCondition, .values, .limit, .returning, .assignment, .columnDefault, .check,
            .window, .frameRows, .frameRange, .frameGroups, .functionInFrom, .filter, .aggregateArgument:
            false
        }
    }

    var allowsSubqueries: Bool {
        switch self {
        case .columnDefault, .check: false
        case .targets, .condition, .grouping, .having, .order, .joinCondition, .values, .limit, .returning,
            .assignment, .window, .frameRows, .frameRange, .frameGroups, .functionInFrom, .filter, .aggregateArgument:
            true
        }
    }
}
