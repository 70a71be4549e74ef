import Base
import Contracts
import DataModel

/// Resolves the names and types of a statement against the catalog: from the plan that a parser made to one that can
/// be executed. The rules are PostgreSQL's; what is not supported is refused.
final class Binder {
    let plan: LogicalPlan
    let catalog: any CatalogReading
    let settings: EngineSettings
    /// What the columns of the statement are compared by.
    let collations: ColumnCollations
    private(set) var attributeCount: Int32 = 0
    private var recursionCount: Int32 = 0
    private var commonCount: Int32 = 0
    /// What is known of `$1` …; unknown until something says.
    var parameterTypes: [DataType]
    /// The collections that were looked at: a plan holds as long as they have these versions.
    var versions: [CollectionID: UInt64] = [:]
    /// What has to be allowed, and who asks: the owner of the view that is being bound, or nil.
    var accesses: [Access] = []
    let accessUser: String?
    /// Told what names mean, where the catalog is to keep the query.
    var recorder: ViewRecorder?
    /// Locking clauses around the next query to be bound, which are about its tables too.
    var inheritedLockings: [Locking] = []
    /// The columns that the targets of the query bound next go into, if an INSERT takes them as they are.
    var assignedColumns: [CollectionDescriptor.Column] = []
    /// The query bound next is an arm of a set operation: its literals without a type get one from the other arm.
    var keepsOpen = false
    /// Of rows that come with the request.
    var inputs: [ResultColumn] = []
    /// Views that are being bound, against endless recursion; and how many were, in all of the statement: views of
    /// views may name as many as grow with the power of their depth.
    private(set) var openViews: [CollectionID] = []
    private var viewDepth = 0
    private let views: ViewCount

    private final class ViewCount { var count = 0 }

    init(_ plan: LogicalPlan, catalog: any CatalogReading, settings: EngineSettings, parameterTypes: [DataType]) {
        self.plan = plan
        self.catalog = catalog
        self.settings = settings
        self.parameterTypes = parameterTypes
        views = ViewCount()
        collations = ColumnCollations()
        accessUser = nil
    }

    /// A binder for another plan within the same statement: a view's, a default's.
    init(_ plan: LogicalPlan, within outer: Binder, of view: CollectionID? = nil) {
        self.plan = plan
        views = outer.views
        collations = outer.collations
        openViews = outer.openViews + (view.map { [$0] } ?? [])
        accessUser = view.flatMap { outer.catalog.collection($0)?.owner } ?? outer.accessUser
        catalog = outer.catalog
        settings = outer.settings
        parameterTypes = []
        attributeCount = outer.attributeCount
        recursionCount = outer.recursionCount
        commonCount = outer.commonCount
        viewDepth = outer.viewDepth + 1
    }

    /// Takes over what a binder made with `init(_:within:)` has counted.
    func absorb(_ inner: Binder) {
        attributeCount = inner.attributeCount
        recursionCount = inner.recursionCount
        commonCount = inner.commonCount
        versions.merge(inner.versions) { $1 }
        accesses += inner.accesses
    }

    /// The plan is the catalog's own: it may name things by number.
    var isStored: Bool { viewDepth > 0 }

    func checkViewDepth() throws(StatementError) {
        views.count += 1
        if viewDepth > 50 || views.count > 10_000 {
            throw StatementError(.statementTooComplex, "stack depth limit exceeded")
        }
    }

    func newAttribute() -> Attribute {
        attributeCount += 1
        return Attribute(id: attributeCount - 1)
    }

    func newRecursion() -> RecursionID {
        recursionCount += 1
        return RecursionID(id: recursionCount - 1)
    }

    func newCommonTable(
        _ name: String, _ plan: RelationalPlan, _ outputs: [OutputColumn], isChange: Bool = false
    ) -> CommonTable {
        commonCount += 1
        return CommonTable(
            id: commonCount - 1, name: name, plan: plan, outputs: outputs, use: isChange ? .toTheEnd : .asRead)
    }

    /// The statement itself, within EXPLAIN too.
    var topStatement: Int32 { plan[plan.root].kind == .explain ? plan[plan.root].children[0] : plan.root }

    func unsupported(_ what: String, at position: Int32) -> StatementError {
        StatementError(.featureNotSupported, "\(what) is not supported", position: position)
    }

    /// A bound query.
    struct Query {
        var plan: RelationalPlan
        var outputs: [OutputColumn]
    }

    /// What the root of the plan comes to.
    func bindStatement() throws(StatementError) -> (query: Query, kind: StatementKind) {
        try bindStatement(topStatement)
    }

    /// What the statement is called where it is refused: `SELECT FOR UPDATE`.
    func statementTitle() throws(StatementError) -> String {
        let node = plan[topStatement]
        switch node.kind {
        case .insert: return inputs.isEmpty ? "INSERT" : "COPY FROM"
        case .update: return "UPDATE"
        case .delete: return "DELETE"
        case .select: return "SELECT" + (try lockings(node.children[11]).first.map { " " + $0.title } ?? "")
        case _: return "SELECT"
        }
    }

    private func bindStatement(_ index: Int32) throws(StatementError) -> (query: Query, kind: StatementKind) {
        let node = plan[index]
        switch node.kind {
        case .select, .setOperation, .values:
            return (try bindQuery(index, in: nil), .select)
        case .insert: return (try bindInsert(node), .insert)
        case .update: return (try bindUpdate(node), .update)
        case .delete: return (try bindDelete(node), .delete)
        case _: throw unsupported("this statement", at: node.position)  // Not a statement on rows.
        }
    }

    /// A lone expression without columns, as a query of one row.
    func bindLone(_ index: Int32) throws(StatementError) -> Query {
        let expression = try bindExpression(index, Scope(parent: nil), .columnDefault)
        let output = OutputColumn(attribute: newAttribute(), name: targetName(index), type: expression.type)
        return Query(
            plan: .project(.single, [Projection(attribute: output.attribute, expression: expression)]),
            outputs: [output])
    }

    /// `a.b.c` from a `name` node, outermost first.
    func nameParts(_ index: Int32) -> [String] {
        var parts: [String] = []
        var current = index
        while current != 0, plan[current].kind == .name {
            parts.append(plan[current].name)
            current = plan[current].children.first ?? 0
        }
        return parts.reversed()
    }

    /// The collection that a name means, by the search path.
    func findCollection(_ name: String, qualifier: [String], at position: Int32) throws(StatementError)
        -> CollectionDescriptor
    {
        var namespaces = settings.searchPath
        if let namespace = qualifier.last {
            if qualifier.count > 2 {
                throw StatementError(
                    .syntaxError,
                    "improper qualified name (too many dotted names): "
                        + (qualifier + [name]).joined(separator: "."), position: position)
            }
            if qualifier.count == 2, qualifier[0] != settings.database {
                throw StatementError(
                    .featureNotSupported,
                    "cross-database references are not implemented: \"\((qualifier + [name]).joined(separator: "."))\"",
                    position: position)
            }
            namespaces = [namespace]
        } else if !namespaces.contains("pg_catalog") {
            namespaces.insert("pg_catalog", at: 0)
        }
        for namespace in namespaces {
            let actual = namespace == "$user" ? settings.user : namespace
            if let found = catalog.collection(named: name, in: actual), found.entriesOf == nil,
                !qualifier.isEmpty || isOpen(found.namespace)
            {
                if !SystemCatalogs.isSystem(found) { versions[found.id] = found.version }
                return found
            }
        }
        let full = (qualifier.suffix(1) + [name]).joined(separator: ".")
        throw StatementError(.undefinedTable, "relation \"\(full)\" does not exist", position: position)
    }

    /// The type that a `typeName` node means.
    func bindType(_ index: Int32) throws(StatementError) -> DataType {
        let node = plan[index]
        let qualifier = nameParts(node.children.first ?? 0)
        if node.flags.contains(.isAll) || node.flags.contains(.isMarked) {
            throw unsupported("SETOF or %TYPE", at: node.position)
        }
        let isKnownPlace = qualifier.isEmpty || qualifier == ["pg_catalog"]
        guard isKnownPlace, var type = PostgresTypes.type(named: node.name) else {
            let full = (qualifier + [node.name]).joined(separator: ".")
            throw StatementError(.undefinedObject, "type \"\(full)\" does not exist", position: node.position)
        }
        var numbers: [Int32] = []
        for modifier in plan.list(node.children.count > 1 ? node.children[1] : 0) {
            guard plan[modifier].kind == .integer, let number = Int32(exactly: plan[modifier].number) else {
                throw StatementError(
                    .syntaxError, "type modifiers must be simple constants or identifiers", position: node.position)
            }
            numbers.append(number)
        }
        if type.kind == .interval, !numbers.isEmpty {
            let fields = IntervalFields(mask: numbers[0], precision: numbers.count > 1 ? numbers[1] : nil)
            type = DataType(.interval, modifier: fields.modifier)
        } else if !numbers.isEmpty {
            do throws(StatementError) {
                type = try type.constrained(by: numbers)
            } catch {
                throw error.placed(at: node.position)
            }
        }
        return node.number > 0 ? type.array : type
    }
}

/// What a statement does.
package enum StatementKind: Hashable, Sendable { case select, insert, update, delete }

extension StatementError {
    /// With the position of a node.
    init(_ state: SQLState, _ message: String, detail: String? = nil, hint: String? = nil, position: Int32) {
        self.init(state, message, detail: detail, hint: hint, position: Int(position))
    }

    /// With a position, unless it has one.
    func placed(at position: Int32) -> StatementError {
        guard self.position == 0 else { return self }
        var error = self
        error.position = Int(position)
        return error
    }
}
