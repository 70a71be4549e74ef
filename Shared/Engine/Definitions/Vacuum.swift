import Base
import Contracts
import DataModel

/// VACUUM: what was superseded, and nobody may read any more, is removed from the stores of all replicas now.
package struct TableVacuum: Hashable, Sendable {
    /// Tables with their indexes; nil: everything that the stores have.
    package var collections: [CollectionID]?
    /// What is left is written anew, too.
    package var rewrites: Bool
}

/// What the options of a VACUUM say.
package struct VacuumOptions: Hashable, Sendable {
    /// FULL: what is left is written anew.
    package private(set) var isFull = false
    /// ANALYZE: statistics are made as well.
    package private(set) var analyzes = false

    /// Refused are, beside what PostgreSQL refuses, options that would ask for something else than what is done.
    package init(_ plan: LogicalPlan) throws(StatementError) {
        let root = plan[plan.root]
        var unsupported: LogicalPlan.Node?, workers: Int64 = 0, skipsPages = true, keepsLarge = false
        for index in plan.list(root.children[1]) {
            let option = plan[index]
            var asksMore = false
            switch option.name {
            case "full": isFull = try plan.isOn(option)
            case "analyze": analyzes = try plan.isOn(option)
            case "freeze", "verbose", "skip_locked": asksMore = try plan.isOn(option)
            case "truncate": asksMore = try !plan.isOn(option)
            case "disable_page_skipping":
                skipsPages = try !plan.isOn(option)
                asksMore = !skipsPages
            case "process_toast":
                keepsLarge = try !plan.isOn(option)
                asksMore = keepsLarge
            case "index_cleanup":
                guard plan[option.children.first ?? 0].name.lowercased() != "auto" else { break }
                asksMore = try !plan.isOn(option)
            case "parallel":
                workers = try Self.workers(plan, option)
                asksMore = workers > 0
            case _:
                throw StatementError(
                    .syntaxError, "unrecognized VACUUM option \"\(option.name)\"", position: Int(option.position))
            }
            if asksMore, unsupported == nil { unsupported = option }
        }
        if isFull, workers > 0 {
            throw StatementError(.featureNotSupported, "VACUUM FULL cannot be performed in parallel")
        }
        for index in plan.list(root.children[0]) where !analyzes && !plan.list(plan[index].children[1]).isEmpty {
            throw StatementError(
                .featureNotSupported, "ANALYZE option must be specified when a column list is provided")
        }
        if isFull, !skipsPages {
            throw StatementError(
                .featureNotSupported, "VACUUM option DISABLE_PAGE_SKIPPING cannot be used with FULL")
        }
        if isFull, keepsLarge {
            throw StatementError(.featureNotSupported, "PROCESS_TOAST required with VACUUM FULL")
        }
        if let unsupported {
            let value = ["truncate", "process_toast", "index_cleanup"].contains(unsupported.name) ? " OFF" : ""
            throw StatementError(
                .featureNotSupported, "VACUUM option \(unsupported.name.uppercased())\(value) is not supported",
                position: Int(unsupported.position))
        }
    }

    private static func workers(_ plan: LogicalPlan, _ option: LogicalPlan.Node) throws(StatementError) -> Int64 {
        let value = plan[option.children.first ?? 0]
        guard value.kind != .none else {
            throw StatementError(
                .syntaxError, "parallel option requires a value between 0 and 1024", position: Int(option.position))
        }
        guard value.kind == .integer else {
            throw StatementError(.syntaxError, "parallel requires an integer value")
        }
        guard (0...1024).contains(value.number) else {
            throw StatementError(
                .syntaxError, "parallel workers for vacuum must be between 0 and 1024", position: Int(option.position))
        }
        return value.number
    }

    /// VACUUM is not done in a transaction: what it removes does not come back.
    package static let inTransaction = StatementError(
        .activeSQLTransaction, "VACUUM cannot run inside a transaction block")
}

extension DefinitionPlanner {
    mutating func vacuum(_ node: LogicalPlan.Node) throws(StatementError) {
        let options = try VacuumOptions(plan)
        let targets = plan.list(node.children[0])
        guard !targets.isEmpty else {
            let found = tables.filter { mayDo("vacuum", $0) }
            if options.analyzes {
                analyses = found.map { TableAnalysis(table: $0, columns: $0.columns.map(\.id)) }
            }
            let all = sender == nil ? nil : found.flatMap { stored($0) }
            if all?.isEmpty != true { vacuum = TableVacuum(collections: all, rewrites: options.isFull) }
            return
        }
        var collections: [CollectionID] = []
        for index in targets {
            guard let table = try table(of: plan[index], for: "vacuum") else { continue }
            if options.analyzes { try analyze(table, plan[index]) }
            guard !collections.contains(table.id) else { continue }
            collections += stored(table)
        }
        if !collections.isEmpty { vacuum = TableVacuum(collections: collections, rewrites: options.isFull) }
    }

    /// A table with its indexes.
    private func stored(_ table: CollectionDescriptor) -> [CollectionID] {
        [table.id] + catalog.collections.values.filter { $0.entriesOf == table.id }.map(\.id).sorted()
    }
}

extension SchemaChange {
    /// Whether `plan` is a VACUUM, which is done outside of transactions.
    package static func isVacuum(_ plan: LogicalPlan) -> Bool {
        plan[plan.root].kind == .vacuum && !plan[plan.root].flags.contains(.isMarked)
    }
}

extension LogicalPlan {
    /// The value of an option that is on or off.
    func isOn(_ option: Node) throws(StatementError) -> Bool {
        let value = self[option.children.first ?? 0]
        switch value.kind {
        case .none: return true
        case .boolean, .integer: if value.number == 0 || value.number == 1 { return value.number == 1 }
        case _:
            switch value.name.lowercased() {
            case "true", "on": return true
            case "false", "off": return false
            case _: break
            }
        }
        throw StatementError(.syntaxError, "\(option.name) requires a Boolean value")
    }
}
