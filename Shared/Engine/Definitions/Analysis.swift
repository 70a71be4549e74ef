import Base
import Contracts
import DataModel

/// ANALYZE: which tables are looked at, and which columns of them.
extension DefinitionPlanner {
    mutating func analyze(_ node: LogicalPlan.Node) throws(StatementError) {
        for index in plan.list(node.children[1]) { try checkOption(plan[index]) }
        let targets = plan.list(node.children[0])
        guard !targets.isEmpty else {
            for table in tables where mayDo("analyze", table) {
                analyses.append(TableAnalysis(table: table, columns: table.columns.map(\.id)))
            }
            return
        }
        for index in targets {
            if let table = try table(of: plan[index], for: "analyze") { try analyze(table, plan[index]) }
        }
    }

    /// All tables, in the order in which they were made.
    var tables: [CollectionDescriptor] {
        let tables = catalog.collections.values.filter { $0.kind == .table && $0.entriesOf == nil }
        return tables.sorted { $0.id < $1.id }
    }

    /// Options that ask for something are refused: nothing is told beside errors, and locks are waited for.
    private func checkOption(_ option: LogicalPlan.Node) throws(StatementError) {
        guard ["verbose", "skip_locked"].contains(option.name) else {
            throw StatementError(
                .syntaxError, "unrecognized ANALYZE option \"\(option.name)\"", position: Int(option.position))
        }
        guard try !plan.isOn(option) else {
            throw StatementError(
                .featureNotSupported, "ANALYZE option \(option.name.uppercased()) is not supported",
                position: Int(option.position))
        }
    }

    /// Tables of others are left out.
    mutating func mayDo(_ action: String, _ table: CollectionDescriptor) -> Bool {
        guard let sender, !AccessRights(catalog).owns(sender, table.owner) else { return true }
        notices.append(
            StatementError(.warning, "skipping \"\(table.name)\" --- only table or database owner can \(action) it"))
        return false
    }

    /// The table that a target names; nil for what is none, which is skipped.
    mutating func table(
        of target: LogicalPlan.Node, for action: String
    ) throws(StatementError) -> CollectionDescriptor? {
        let name = try qualifiedName(target.children[0])
        guard let table = try find(name) else {
            throw StatementError(.undefinedTable, "relation \"\(name.text)\" does not exist")
        }
        guard table.kind == .table, table.entriesOf == nil else {
            notices.append(
                StatementError(
                    .warning, "skipping \"\(table.name)\" --- cannot \(action) non-tables or special system tables"))
            return nil
        }
        guard mayDo(action, table) else { return nil }
        return table
    }

    /// Statistics of a table are made, of the columns that the target names.
    mutating func analyze(_ table: CollectionDescriptor, _ target: LogicalPlan.Node) throws(StatementError) {
        var columns: [ColumnID] = []
        for index in plan.list(target.children[1]) {
            let wanted = plan[index].name
            guard let column = table.column(named: wanted) else {
                throw StatementError(
                    .undefinedColumn, "column \"\(wanted)\" of relation \"\(table.name)\" does not exist")
            }
            guard !columns.contains(column.id) else {
                throw StatementError(
                    .duplicateColumn, "column \"\(wanted)\" of relation \"\(table.name)\" appears more than once")
            }
            columns.append(column.id)
        }
        if columns.isEmpty { columns = table.columns.map(\.id) }
        analyses.append(TableAnalysis(table: table, columns: columns))
    }
}

/// A table whose statistics are to be made anew, those of these columns at least.
package struct TableAnalysis: Hashable, Sendable {
    package let table: CollectionDescriptor
    let columns: [ColumnID]

    /// Begins to read rows of it.
    package func begin(settings: EngineSettings, access: any RowAccess) throws(StatementError) -> TableAnalysisRun {
        try TableAnalysisRun(self, settings: settings, access: access)
    }
}

/// An analysis under way.
package final class TableAnalysisRun {
    /// To be executed to its end; it gives no rows.
    package let execution: Execution
    private let analysis: TableAnalysis
    private let sampling: AnalyzeOperator

    init(_ analysis: TableAnalysis, settings: EngineSettings, access: any RowAccess) throws(StatementError) {
        let context = ExecutionContext(settings: settings, parameters: [], access: access, attributes: 0)
        self.analysis = analysis
        sampling = try AnalyzeOperator(analysis.table, analysis.columns, access, context)
        execution = Execution(root: sampling, context: context, outputs: [], kind: .insert)
    }

    /// The table with its new statistics, and with the version that it had: nothing that was bound is wrong now. Those
    /// of columns that were not looked at stay as they are. Valid at the end.
    package var table: CollectionDescriptor {
        var table = analysis.table
        var statistics = CollectionDescriptor.Statistics(rows: sampling.rows)
        let known = table.statistics?.columns ?? []
        for column in table.columns {
            if let fresh = sampling.found[column.id] ?? known.first(where: { $0.column == column.id }) {
                statistics.columns.append(fresh)
            }
        }
        table.statistics = statistics
        return table
    }
}
