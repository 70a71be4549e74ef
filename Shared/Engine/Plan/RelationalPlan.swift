import Base
import DataModel

/// A column that a plan makes.
struct OutputColumn: Sendable {
    var attribute: Attribute
    var name: String
    var type: DataType
    /// Where it comes from unchanged, for a client that asks.
    var collection: CollectionID?
    var column: ColumnID?
}

/// One column of a projection.
struct Projection: Sendable {
    var attribute: Attribute
    var expression: BoundExpression
}

enum JoinKind: Hashable, Sendable { case inner, left, right, full, semi, anti }

/// What an apply does with the rows of its right side, which are made anew for every row of the left.
enum ApplyKind: Sendable {
    /// Joins: LATERAL. A left one keeps rows without a partner.
    case join(isLeft: Bool, condition: BoundExpression?)
    /// Appends a column: what a subquery in an expression comes to.
    case value(BoundSubquery, Attribute)
}

enum SetOperation: Hashable, Sendable { case union, intersect, except }

/// An algebra of relations: what the binder makes, rules change, and the executor runs.
indirect enum RelationalPlan: Sendable {
    /// One row without columns.
    case single
    case scan(ScanPlan)
    case values(rows: [[BoundExpression]], outputs: [OutputColumn])
    /// Rows that come with the execution.
    case input([OutputColumn])
    case filter(RelationalPlan, BoundExpression)
    case project(RelationalPlan, [Projection])
    case join(JoinKind, RelationalPlan, RelationalPlan, condition: BoundExpression?)
    /// A join whose sides come in the order of what is compared.
    case merge(MergePlan)
    case apply(RelationalPlan, RelationalPlan, ApplyKind)
    case aggregate(AggregatePlan)
    case sort(RelationalPlan, [SortTerm], limit: BoundExpression?)
    case limit(RelationalPlan, LimitPlan)
    /// `on`: only these columns count, of each kind the first row is kept.
    case distinct(RelationalPlan, on: [BoundExpression]?)
    case combine(CombinePlan)
    /// A function as a relation; its arguments may read outer attributes.
    case rows(RowsPlan)
    /// Unrolls functions that give rows: side by side, the shorter filled with NULL.
    case unroll(RelationalPlan, [(attribute: Attribute, call: BoundExpression)])
    case window(RelationalPlan, [(attribute: Attribute, call: WindowCall)])
    /// Makes what a WITH query gives once, for all `shared` of the rest.
    case with([CommonTable], RelationalPlan)
    case shared(CommonTable, outputs: [OutputColumn])
    /// The rows of the step before, within a recursive query.
    case working(RecursionID, outputs: [OutputColumn])
    case recursive(RecursivePlan)
    case modify(ModifyPlan)
    case lock(RelationalPlan, LockPlan)
}

/// A join of rows that come in the order of the same keys from both sides.
struct MergePlan: Sendable {
    /// Columns that are equal in rows that meet. Rows with NULL there meet none, and may lie anywhere.
    struct Key: Sendable {
        var left: BoundExpression
        var right: BoundExpression
        var isDescending = false
    }

    let kind: JoinKind
    var left: RelationalPlan
    var right: RelationalPlan
    var keys: [Key]
    /// What else is asked of rows that meet.
    var rest: BoundExpression?
}

struct RecursionID: Hashable, Sendable { let id: Int32 }

/// Rows of a collection.
struct ScanPlan: Sendable {
    let collection: CollectionDescriptor
    /// As the statement calls it, for people.
    var alias = ""
    /// Those that are needed, in the order in which they come.
    var outputs: [OutputColumn]
    /// The encoded primary key as bytes, for a plan that writes.
    var key: Attribute?
    /// The rows will be written: they are locked, and read as they are then.
    var isForUpdate = false
    /// Evaluated right at the rows.
    var filter: BoundExpression?
    /// The primary key, or its first parts, is one of these: no scan, or a short one.
    var keys: KeyCondition?
    /// The indexes that there are, and the one whose entries lead to the rows.
    var indexes: [TableIndex] = []
    var index: IndexUse?
    /// Of the right side of a join: what may be looked up for the rows of the left side.
    var lookup: ScanLookup?
    var limit: BoundExpression?
    /// Its rows are wanted in an order that a key or an index has.
    var order: ScanOrder?
    /// Its number among the fragments of the statement: the shards may do all of this with their rows.
    var fragment: Int?
    /// The rows that are found are not given, but what an aggregate makes of them.
    var partial: PartialPlan?

    /// What the scan gives.
    var attributes: [Attribute] {
        partial?.attributes ?? outputs.map(\.attribute) + (key.map { [$0] } ?? [])
    }

    var types: [DataType] { partial?.types ?? rowTypes }

    /// Of its rows, before they are aggregated.
    var rowTypes: [DataType] { outputs.map(\.type) + (key == nil ? [] : [.bytes]) }
}

/// An aggregate over the rows of a scan, as far as it can be computed from any part of them. What it makes of a part is
/// the keys of the groups, and a state of each call.
struct PartialPlan: Sendable {
    var groups: [Projection]
    var calls: [AggregateCall]
    var states: [OutputColumn]

    var attributes: [Attribute] { groups.map(\.attribute) + states.map(\.attribute) }
    var types: [DataType] { groups.map(\.expression.type) + states.map(\.type) }
    var expressions: [BoundExpression] { groups.map(\.expression) + calls.flatMap(\.operands) }
}

/// An index that rows can be found by.
struct TableIndex: Sendable {
    let name: String
    let isUnique: Bool
    let columns: [ColumnID]
    let entries: CollectionDescriptor
}

/// An index, and what is known of its first columns.
struct IndexUse: Sendable {
    let index: TableIndex
    var condition: KeyCondition
}

/// The order in which a scan gives its rows. What else the plan says of where they are is for when it cannot be had.
struct ScanOrder: Sendable {
    enum Nulls: Hashable, Sendable {
        /// Where the keys have them, or there are none.
        case inOrder
        /// At the other end: they are read by themselves.
        case apart
        /// None is wanted.
        case leftOut
    }

    /// The one whose entries are in that order; nil: the primary key is.
    let index: TableIndex?
    /// What is known of the first columns: one value of each, and bounds of the next.
    var condition: KeyCondition
    var isDescending = false
    /// Of the first column that is not known.
    var nulls = Nulls.inOrder
    /// There is no room to sort the rows: by entries too, however many they are.
    var isLong = false
    /// The order, as a sort would make it; and how many rows it would keep.
    var terms: [SortTerm]
    var sortLimit: BoundExpression?
    /// How many rows will be asked for, behind how many others.
    var count: BoundExpression?
    var offset: BoundExpression?

    var expressions: [BoundExpression] {
        condition.expressions + terms.map(\.expression) + [sortLimit, count, offset].compactMap { $0 }
    }
}

/// The primary key, or the first columns of an index, as expressions over the other side of a join.
struct ScanLookup: Sendable {
    let index: TableIndex?
    let values: [BoundExpression]
}

/// What is known of the first columns of a key, or of an index, before a scan: values, and bounds of the next column.
struct KeyCondition: Sendable {
    /// What a column may be.
    enum Choice: Sendable {
        case value(BoundExpression)
        /// Any element of an array.
        case elements(BoundExpression)
        case null
    }

    struct Bound: Sendable {
        var expression: BoundExpression
        var isInclusive: Bool
    }

    /// Of the first columns; each may be any of several (IN).
    var equal: [[Choice]] = []
    /// Of the column behind them.
    var lower: Bound?
    var upper: Bound?
    /// The column behind them begins as this pattern of LIKE does.
    var pattern: BoundExpression?
    /// Something is known of every column.
    var isComplete = false

    var isEmpty: Bool { equal.isEmpty && lower == nil && upper == nil && pattern == nil }
    /// The keys are named one by one, and are not too many: nothing else is read.
    var areValues: Bool {
        guard isComplete, equal.reduce(1, { $0 * Double($1.count) }) <= Double(KeyRanges.keyLimit) else { return false }
        return equal.allSatisfy { choices in
            choices.allSatisfy { choice in
                if case .value = choice { true } else { false }
            }
        }
    }
    /// The values, if they are one key at most.
    var single: [BoundExpression]? {
        guard isComplete else { return nil }
        var values: [BoundExpression] = []
        for choices in equal {
            guard choices.count == 1, case .value(let value) = choices[0] else { return nil }
            values.append(value)
        }
        return values
    }
}

struct AggregatePlan: Sendable {
    var child: RelationalPlan
    var groups: [Projection]
    /// Indices into `groups`; one list of all of them for a plain GROUP BY.
    var sets: [[Int]]
    var calls: [(attribute: Attribute, call: AggregateCall)]
    /// The number of the grouping set in a bit for each group: set where a column is not grouped by. For GROUPING().
    var groupingID: Attribute?
    /// The child gives states of the calls, and the keys under the groups' own attributes (`PartialPlan`).
    var states: [OutputColumn]?
    /// The child's rows come in this order of groups' columns: when one of these changes, the groups are done.
    var runs: [SortTerm]?
}

struct LimitPlan: Sendable {
    var count: BoundExpression?
    var offset: BoundExpression?
    /// The rows after the last one that are equal to it by these come too.
    var ties: [SortTerm]?
}

struct CombinePlan: Sendable {
    let operation: SetOperation
    let isAll: Bool
    var left: RelationalPlan
    var right: RelationalPlan
    /// Columns of the sides, in the order of the outputs.
    var leftAttributes: [Attribute]
    var rightAttributes: [Attribute]
    var outputs: [OutputColumn]
}

struct RowsPlan: Sendable {
    let function: RowsFunction
    var arguments: [BoundExpression]
    var outputs: [OutputColumn]
    var ordinality: Attribute?
}

/// A query of WITH, that is executed once.
final class CommonTable: Sendable {
    let id: Int32
    let name: String
    let plan: RelationalPlan
    let outputs: [OutputColumn]
    let use: Use

    enum Use: Hashable, Sendable {
        /// Its rows are made when somebody reads them.
        case asRead
        /// All its rows are made before anything else is done.
        case first
        /// It changes rows: what nobody has read of it is made at the end.
        case toTheEnd
    }

    init(id: Int32, name: String, plan: RelationalPlan, outputs: [OutputColumn], use: Use = .asRead) {
        (self.id, self.name, self.plan, self.outputs, self.use) = (id, name, plan, outputs, use)
    }
}

struct RecursivePlan: Sendable {
    let id: RecursionID
    let isAll: Bool
    var start: RelationalPlan
    var startAttributes: [Attribute]
    var step: RelationalPlan
    var stepAttributes: [Attribute]
    var outputs: [OutputColumn]
}

/// Locks rows, and goes on with them as they are then.
struct LockPlan: Sendable {
    /// The rows of one relation: their keys, and the columns that come out as they are read under the lock.
    struct Relation: Sendable {
        let collection: CollectionDescriptor
        let key: Attribute
        var outputs: [OutputColumn]
        let isExclusive: Bool
        let wait: LockWait
    }

    var relations: [Relation]
    /// What chose the rows, as far as it can be asked again: a row that has changed meanwhile may not meet it any more.
    var condition: BoundExpression?
    /// No more rows than these together are asked for, so no others are locked.
    var limits: [BoundExpression] = []
}

/// What to do where a row is locked by another transaction.
package enum LockWait: Hashable, Sendable { case wait, noWait, skipLocked }

/// INSERT, UPDATE or DELETE: the child makes the new values and the keys.
struct ModifyPlan: Sendable {
    enum Action: Sendable {
        case insert(ConflictAction)
        /// The row with that key gets `values`.
        case update(key: Attribute)
        case delete(key: Attribute)
    }

    /// ON CONFLICT, with `arbiters`.
    enum ConflictAction: Sendable {
        case fail, nothing
        /// New values of all columns over `old`, which is the row that is there, and the child's columns.
        case update([BoundExpression], condition: BoundExpression?)

        var isFail: Bool { if case .fail = self { true } else { false } }
    }

    /// A column of an INSERT whose value comes from a sequence: in all rows, or where `flag` says so.
    struct Draw: Sendable {
        let value: Attribute
        let flag: Attribute?
        let sequence: CollectionID
    }

    /// An index that is kept: its entries are rows of a collection of their own.
    struct IndexWrite: Sendable {
        let name: String
        let isUnique: Bool
        let entries: CollectionDescriptor
        /// Places among the columns of the table.
        let columns: [Int]
    }

    var child: RelationalPlan
    let collection: CollectionDescriptor
    /// The name of the collection's namespace.
    let schema: String
    var action: Action
    /// New values in the order of the collection's columns: attributes of the child. Of a DELETE: the old ones.
    var values: [Attribute]
    /// The row that is there, in the order of the collection's columns: of the child for UPDATE and DELETE, made by the
    /// operator for ON CONFLICT.
    var old: [OutputColumn]
    var draws: [Draw] = []
    var indexes: [IndexWrite] = []
    /// Where a row of an INSERT may meet another without an error.
    var arbiters: [ModifyOperator.Target] = []
    /// CHECK constraints over `values`.
    var checks: [(name: String, condition: BoundExpression)] = []
    /// RETURNING, over the child's columns, with `values` as they were stored.
    var returning: [Projection] = []
    var outputs: [OutputColumn] = []
    /// The statement says how many rows it has changed; what WITH does is not counted.
    var isCounted = true
}
