import Base
import Contracts
import DataModel

/// GRANT and REVOKE on tables, views, sequences and schemas; OWNER TO.
extension DefinitionPlanner {
    /// What is given or taken.
    private struct GrantChange {
        var rights: Privileges
        let grantees: [String]
        let isRevoke: Bool
        /// WITH GRANT OPTION, GRANT OPTION FOR.
        let isOption: Bool
        let isCascade: Bool
        /// ALL: as much as there is.
        var isAll: Bool
    }

    mutating func grant(_ node: LogicalPlan.Node) throws(StatementError) {
        guard let object = PlanObject(rawValue: node.number) else { throw Self.unsupported("GRANT on this") }
        if node.children[3] != 0 { throw Self.unsupported("GRANTED BY", at: node.position) }
        let listed = plan.list(node.children[0])
        let onColumns = listed.filter { !plan.list(plan[$0].children[0]).isEmpty }
        let names = listed.filter { plan.list(plan[$0].children[0]).isEmpty }
        guard onColumns.isEmpty || object == .table else {
            throw StatementError(.invalidGrantOperation, "column privileges are only valid for relations")
        }
        var grantees: [String] = []
        for index in plan.list(node.children[2]) {
            let name = roleName(index)
            if name != "public" { try checkRole(name) }
            grantees.append(name == "public" ? "" : name)
        }
        var change = GrantChange(
            rights: [], grantees: grantees, isRevoke: node.flags.contains(.isNegated),
            isOption: node.flags.contains(.isMarked), isCascade: node.flags.contains(.isCascade), isAll: listed.isEmpty)
        switch object {
        case .schema:
            change.rights = try rights(names, .ofSchemas, "schema")
            for index in plan.list(node.children[1]) { try grant(change, onSchema: index) }
        case .table, .sequence:
            let isInSchema = node.flags.contains(.isAll)
            let found = try isInSchema ? all(object, in: node.children[1]) : named(object, node.children[1])
            let known = object == .sequence ? Privileges.ofSequences : .ofTables.union(.ofSequences)
            if !names.isEmpty || listed.isEmpty {
                change.rights = try rights(names, known, object == .sequence ? "sequence" : "relation")
            }
            for collection in found { try grant(change, onColumns, on: collection) }
        case .database: throw Self.unsupported("GRANT ON DATABASE", at: node.position)
        case .index, .view, .column, .constraint, .role, .type, .function:
            throw Self.unsupported("GRANT ON " + "\(object)".uppercased(), at: node.position)
        }
        hasAsked = true
    }

    private func rights(_ names: [Int32], _ all: Privileges, _ title: String) throws(StatementError) -> Privileges {
        guard !names.isEmpty else { return all }
        var rights: Privileges = []
        for index in names {
            let name = plan[index].name
            guard let known = Privileges.all.first(where: { $0.name == name }) else {
                let others: Set<String> = ["connect", "temporary", "temp", "execute", "set", "alter system"]
                throw others.contains(name)
                    ? Self.wrongRight(name, title)
                    : StatementError(.syntaxError, "unrecognized privilege type \"\(name)\"")
            }
            guard all.contains(known.right) else { throw Self.wrongRight(name, title) }
            rights.insert(known.right)
        }
        return rights
    }

    private static func wrongRight(_ name: String, _ title: String) -> StatementError {
        StatementError(.invalidGrantOperation, "invalid privilege type \(name.uppercased()) for \(title)")
    }

    private func named(_ object: PlanObject, _ list: Int32) throws(StatementError) -> [CollectionDescriptor] {
        var found: [CollectionDescriptor] = []
        for index in plan.list(list) {
            let name = try qualifiedName(index)
            guard let collection = try find(name), collection.entriesOf == nil else {
                throw StatementError(.undefinedTable, "relation \"\(name.text)\" does not exist")
            }
            guard object != .sequence || collection.kind == .sequence else {
                throw StatementError(.wrongObjectType, "\"\(name.name)\" is not a sequence")
            }
            found.append(collection)
        }
        return found
    }

    private func all(_ object: PlanObject, in list: Int32) throws(StatementError) -> [CollectionDescriptor] {
        var found: [CollectionDescriptor] = []
        for index in plan.list(list) {
            let schema = try namespace(named: plan[index].name)
            found += catalog.collections.values.filter { collection in
                collection.namespace == schema.id && collection.entriesOf == nil
                    && (collection.kind == .sequence) == (object == .sequence)
            }
        }
        return found.sorted { $0.id < $1.id }
    }

    private mutating func grant(_ change: GrantChange, onSchema index: Int32) throws(StatementError) {
        var schema = try namespace(named: plan[index].name)
        var list = GrantList(schema.effectiveGrants, owner: schema.owner, AccessRights(catalog))
        try make(change, in: &list, "schema", schema.name)
        schema.grants = list.grants
        put(schema)
    }

    private mutating func grant(
        _ change: GrantChange, _ onColumns: [Int32], on collection: CollectionDescriptor
    ) throws(StatementError) {
        var collection = collection, change = change
        let wanted = try columnRights(onColumns, collection)
        let extra = change.rights.subtracting(collection.allPrivileges)
        change.rights.formIntersection(collection.allPrivileges)
        if !change.isAll, let wrong = Privileges.all.first(where: { extra.contains($0.right) }) {
            guard collection.kind == .sequence else { throw Self.wrongRight(wrong.name, "table") }
            notices.append(
                StatementError(
                    .warning,
                    "sequence \"\(collection.name)\" only supports USAGE, SELECT, and UPDATE privileges"))
        }
        var list = GrantList(collection.effectiveGrants, owner: collection.owner, AccessRights(catalog))
        try make(change, in: &list, "\(collection.kind)", collection.name)
        if !change.rights.isEmpty { collection.grants = list.grants }
        for (place, rights) in wanted.sorted(by: { $0.key < $1.key }) {
            var part = change
            (part.rights, part.isAll) = (rights, rights == .ofColumns)
            try make(part, on: place, of: &collection, list.grants)
        }
        // What is taken on a table is taken on its columns too.
        if change.isRevoke {
            change.rights.formIntersection(.ofColumns)
            for place in collection.columns.indices where !(collection.columns[place].grants ?? []).isEmpty {
                try make(change, on: place, of: &collection, list.grants)
            }
        }
        put(collection)
    }

    /// What is said of single columns, by their places.
    private func columnRights(
        _ nodes: [Int32], _ collection: CollectionDescriptor
    ) throws(StatementError) -> [Int: Privileges] {
        var found: [Int: Privileges] = [:]
        for index in nodes {
            let node = plan[index]
            let right = node.name == "all" ? .ofColumns : try rights([index], .everything, "relation")
            guard right.isSubset(of: .ofColumns) else { throw Self.wrongRight(node.name, "column") }
            for name in plan.list(node.children[0]) {
                guard let place = collection.columns.firstIndex(where: { $0.name == plan[name].name }) else {
                    throw StatementError(
                        .undefinedColumn,
                        "column \"\(plan[name].name)\" of relation \"\(collection.name)\" does not exist")
                }
                found[place, default: []].formUnion(right)
            }
        }
        return found
    }

    /// Who may give a right on the table may give it on its columns.
    private mutating func make(
        _ change: GrantChange, on place: Int, of collection: inout CollectionDescriptor, _ onTable: [Grant]
    ) throws(StatementError) {
        let rights = AccessRights(catalog), column = collection.columns[place]
        var list = GrantList(column.grants ?? [], owner: collection.owner, rights)
        list.others = onTable
        try make(
            change, in: &list, "column", collection.name,
            title: "column \"\(column.name)\" of relation \"\(collection.name)\"")
        collection.columns[place].grants = list.grants.isEmpty ? nil : list.grants
    }

    /// Who may give nothing of it is told so, or refused if it has no right at all.
    private mutating func make(
        _ change: GrantChange, in list: inout GrantList, _ kind: String, _ name: String, title: String? = nil
    ) throws(StatementError) {
        let (grantor, mayGive) = list.grantor(for: sender, change.rights)
        if mayGive.isEmpty, !change.rights.isEmpty, let sender {
            let roles = AccessRights(catalog).roles(of: sender)
            guard (list.grants + list.others).contains(where: { $0.grantee.isEmpty || roles.contains($0.grantee) })
            else {
                throw title.map { StatementError(.insufficientPrivilege, "permission denied for \($0)") }
                    ?? Binder.denied(kind, name)
            }
        }
        if mayGive != change.rights, mayGive.isEmpty || !change.isAll {
            let done = change.isRevoke ? "could be revoked" : "were granted"
            notices.append(
                StatementError(
                    SQLState(rawValue: change.isRevoke ? "01006" : "01007"),
                    (mayGive.isEmpty ? "no" : "not all") + " privileges \(done) for \(title ?? "\"\(name)\"")"))
        }
        guard !mayGive.isEmpty else { return }
        for grantee in change.grantees {
            if change.isRevoke {
                try list.take(
                    mayGive, optionOnly: change.isOption, from: grantee, by: grantor, isCascade: change.isCascade)
            } else {
                try list.give(mayGive, withOption: change.isOption, to: grantee, by: grantor)
            }
        }
    }

    // MARK: Owners

    mutating func alterOwner(
        _ node: LogicalPlan.Node, _ object: PlanObject, _ action: Int32
    ) throws(StatementError) -> String {
        let name = try qualifiedName(node.children[0]), tag = "ALTER " + "\(object)".uppercased()
        guard let found = try find(name), found.entriesOf == nil else {
            let text = "relation \"\(name.text)\" does not exist"
            guard node.flags.contains(.isConditional) else { throw StatementError(.undefinedTable, text) }
            notices.append(StatementError(.undefinedTable, text + ", skipping"))
            return tag
        }
        // ALTER TABLE takes all kinds.
        guard object == .table || "\(object)" == "\(found.kind)" else {
            throw StatementError(.wrongObjectType, "\"\(name.name)\" is not \(Self.article(of: object))")
        }
        let table = catalog.collections.values.first { $0.columns.contains { $0.sequence == found.id } }
        if found.kind == .sequence, let table {
            throw StatementError(
                .featureNotSupported, "cannot change owner of sequence \"\(found.name)\"",
                detail: "Sequence \"\(found.name)\" is linked to table \"\(table.name)\".")
        }
        try setOwner(found, plan[action])
        return tag
    }

    private static func article(of object: PlanObject) -> String { object == .index ? "an index" : "a \(object)" }

    /// OWNER TO of a table, a view, a sequence.
    private mutating func setOwner(_ collection: CollectionDescriptor, _ node: LogicalPlan.Node) throws(StatementError)
    {
        let owner = try newOwner(node)
        for id in [collection.id] + collection.columns.compactMap(\.sequence) {
            guard var changed = catalog.collection(id) else { continue }
            changed.grants = Self.handed(changed.grants, from: changed.owner, to: owner)
            for place in changed.columns.indices {
                changed.columns[place].grants = Self.handed(
                    changed.columns[place].grants, from: changed.owner, to: owner)
            }
            changed.owner = owner
            put(changed)
        }
        for hidden in catalog.collections.values.sorted(by: { $0.id < $1.id }) where hidden.entriesOf == collection.id {
            var changed = hidden
            changed.owner = owner
            put(changed)
        }
    }

    mutating func alterSchema(_ node: LogicalPlan.Node) throws(StatementError) {
        var schema = try namespace(named: node.name)
        let action = plan[node.children[0]]
        guard action.kind == .setOwner else { throw Self.unsupported("ALTER SCHEMA … RENAME", at: node.position) }
        let owner = try newOwner(action)
        schema.grants = Self.handed(schema.grants, from: schema.owner, to: owner)
        schema.owner = owner
        put(schema)
    }

    private func newOwner(_ node: LogicalPlan.Node) throws(StatementError) -> String {
        let name = roleName(node.name)
        try checkRole(name)
        return name
    }

    /// What the old owner had or gave, the new one has or gives.
    private static func handed(_ grants: [Grant]?, from old: String, to new: String) -> [Grant]? {
        guard let grants else { return nil }
        var fresh: [Grant] = []
        for grant in grants {
            let grantee = grant.grantee == old ? new : grant.grantee
            let grantor = grant.grantor == old ? new : grant.grantor
            if let place = fresh.firstIndex(where: { $0.grantee == grantee && $0.grantor == grantor }) {
                fresh[place].rights.formUnion(grant.rights)
                fresh[place].grantable.formUnion(grant.grantable)
            } else {
                fresh.append(
                    Grant(grantee: grantee, grantor: grantor, rights: grant.rights, grantable: grant.grantable))
            }
        }
        return fresh
    }
}
