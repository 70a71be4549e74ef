import Base
import Contracts
import DataModel

/// ANALYZE: which tables are looked at, and which columns of them.
extension DefinitionPlanner {
    mutating func analyze(_ node: LogicalPlan.Node) throws(StatementError) {
        guard node.flags.contains(.isMarked) else {
            throw StatementError(
                .featureNotSupported, "VACUUM is not supported",
                hint: "What was removed is reclaimed by itself; statistics are made by ANALYZE.",
                position: Int(node.position))
        }
        for index in plan.list(node.children[1]) { try checkOption(plan[index]) }
        let targets = plan.list(node.children[0])
        guard !targets.isEmpty else {
            let tables = catalog.collections.values.filter { $0.kind == .table && $0.entriesOf == nil }
            for table in tables.sorted(by: { $0.id < $1.id }) {
                analyses.append(TableAnalysis(table: table, columns: table.columns.map(\.id)))
            }
            return
        }
        for index in targets { try analyze(target: plan[index]) }
    }

    /// Options that ask for something are refused: nothing is told beside errors, and locks are waited for.
    private func checkOption(_ option: LogicalPlan.Node) throws(StatementError) {
        guard ["verbose", "skip_locked"].contains(option.name) else {
            throw StatementError(
                .syntaxError, "unrecognized ANALYZE option \"\(option.name)\"", position: Int(option.position))
        }
        let value = plan[option.children.first ?? 0]
        let isOff =
            switch value.kind {
            case .boolean, .integer: value.number == 0
            case _: ["off", "false"].contains(value.name.lowercased())
            }
        guard isOff else {
            throw StatementError(
                .featureNotSupported, "ANALYZE option \(option.name.uppercased()) is not supported",
                position: Int(option.position))
        }
    }

    private mutating func analyze(target: LogicalPlan.Node) throws(StatementError) {
        let name = try qualifiedName(target.children[0])
        guard let table = try find(name), table.entriesOf == nil else {
            throw StatementError(.undefinedTable, "relation \"\(name.text)\" does not exist", position: name.position)
        }
        guard table.kind == .table else {
            notices.append(
                StatementError(
                    .warning, "skipping \"\(table.name)\" --- cannot analyze non-tables or special system tables"))
            return
        }
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
