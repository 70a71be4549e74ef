import Base
import Contracts
import DataModel

/// What EXPLAIN is asked for.
struct ExplainOptions: Sendable {
    var isExecuted = false
    var isVerbose = false
    var isJSON = false
    var showsCosts = true
    var showsTimes = true
    /// Planning and execution as a whole; nil: where it is executed.
    var showsSummary: Bool?

    /// Of an `explain` node. What changes nothing of what we show is checked and taken; what we do not have is refused.
    init(_ node: LogicalPlan.Node, _ plan: LogicalPlan) throws(StatementError) {
        var isTimingSaid = false
        for index in plan.list(node.children.count > 1 ? node.children[1] : 0) {
            let option = plan[index]
            func flag() throws(StatementError) -> Bool { try Self.flag(option, plan) }
            switch option.name {
            case "analyze", "analyse": isExecuted = try flag()
            case "verbose": isVerbose = try flag()
            case "costs": showsCosts = try flag()
            case "summary": showsSummary = try flag()
            case "timing":
                showsTimes = try flag()
                isTimingSaid = true
            case "buffers", "wal", "settings":
                guard try !flag() else {
                    throw StatementError(
                        .featureNotSupported, "EXPLAIN option \(option.name.uppercased()) is not supported",
                        position: option.position)
                }
            case "format":
                let value = plan[option.children.first ?? 0].name
                switch value.lowercased() {
                case "text": isJSON = false
                case "json": isJSON = true
                case "xml", "yaml":
                    throw StatementError(
                        .featureNotSupported, "EXPLAIN option FORMAT \(value.uppercased()) is not supported",
                        position: option.position)
                case _:
                    throw StatementError(
                        .invalidParameterValue, "unrecognized value for EXPLAIN option \"format\": \"\(value)\"",
                        position: option.position)
                }
            case _:
                throw StatementError(
                    .syntaxError, "unrecognized EXPLAIN option \"\(option.name)\"", position: option.position)
            }
        }
        if isTimingSaid, showsTimes, !isExecuted {
            throw StatementError(.invalidParameterValue, "EXPLAIN option TIMING requires ANALYZE")
        }
    }

    private static func flag(_ option: LogicalPlan.Node, _ plan: LogicalPlan) throws(StatementError) -> Bool {
        guard let index = option.children.first, index != 0 else { return true }
        let value = plan[index]
        switch (value.kind, value.name.lowercased()) {
        case (.boolean, _): return value.number != 0
        case (.integer, _) where value.number == 0 || value.number == 1: return value.number == 1
        case (_, "true"), (_, "on"): return true
        case (_, "false"), (_, "off"): return false
        case _:
            throw StatementError(.syntaxError, "\(option.name) requires a Boolean value")
        }
    }
}
