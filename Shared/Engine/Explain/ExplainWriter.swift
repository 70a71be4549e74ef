/// Writes the tree of a plan as PostgreSQL does.
struct ExplainWriter {
    let options: ExplainOptions
    /// Of an execution, by the number of the node.
    let figures: [ExplainProbe.Figures]?
    /// Nanoseconds.
    let planning: UInt64, execution: UInt64

    private var hasSummary: Bool { options.showsSummary ?? options.isExecuted }

    // MARK: Text

    func text(_ root: ExplainTree) -> [String] {
        var lines: [String] = []
        append(root, indent: 0, isRoot: true, to: &lines)
        if hasSummary {
            lines.append("Planning Time: \(milliseconds(planning)) ms")
            if figures != nil { lines.append("Execution Time: \(milliseconds(execution)) ms") }
        }
        return lines
    }

    private func append(_ node: ExplainTree, indent: Int, isRoot: Bool, to lines: inout [String]) {
        let space = String(repeating: " ", count: indent)
        lines.append(space + (isRoot ? "" : "->  ") + node.title + estimated(node) + measured(node))
        let inside = indent + (isRoot ? 2 : 6)
        for (label, value) in node.details {
            lines.append(String(repeating: " ", count: inside) + "\(label): \(value)")
        }
        for child in node.children {
            if let name = child.section {
                lines.append(String(repeating: " ", count: inside) + name)
                append(child, indent: inside + 2, isRoot: false, to: &lines)
            } else {
                append(child, indent: inside, isRoot: false, to: &lines)
            }
        }
    }

    private func estimated(_ node: ExplainTree) -> String {
        guard options.showsCosts else { return "" }
        let estimate = node.estimate
        return "  (cost=\(hundredths(estimate.start))..\(hundredths(estimate.total)) "
            + "rows=\(whole(estimate.rows)) width=\(estimate.width))"
    }

    private func whole(_ number: Double) -> Int64 { Int64(exactly: min(number, 1e18).rounded()) ?? 0 }

    /// With two digits behind the point.
    private func hundredths(_ number: Double) -> String {
        let value = whole(min(number, 1e15) * 100), rest = String(value % 100)
        return "\(value / 100)." + (rest.count < 2 ? "0" : "") + rest
    }

    private func measured(_ node: ExplainTree) -> String {
        guard let figure = figure(node) else { return "" }
        guard figure.loops > 0 else { return " (never executed)" }
        let loops = figure.loops
        var text = " (actual "
        if options.showsTimes {
            let each = UInt64(loops)
            text += "time=\(milliseconds(figure.first / each))..\(milliseconds(figure.total / each)) "
        }
        // As PostgreSQL counts: an average, rounded.
        return text + "rows=\((figure.rows + loops / 2) / loops) loops=\(loops))"
    }

    private func figure(_ node: ExplainTree) -> ExplainProbe.Figures? {
        guard let figures, figures.indices.contains(node.number) else { return nil }
        return figures[node.number]
    }

    /// With three digits behind the point.
    private func milliseconds(_ nanoseconds: UInt64) -> String {
        let micros = (nanoseconds &+ 500) / 1000
        let rest = String(micros % 1000)
        return "\(micros / 1000)." + String(repeating: "0", count: 3 - rest.count) + rest
    }

    // MARK: JSON

    func json(_ root: ExplainTree) -> String {
        var text = "[\n  {\n    \"Plan\": " + object(root, indent: 4)
        if hasSummary {
            text += ",\n    \"Planning Time\": \(milliseconds(planning))"
            if figures != nil { text += ",\n    \"Execution Time\": \(milliseconds(execution))" }
        }
        return text + "\n  }\n]"
    }

    private func object(_ node: ExplainTree, indent: Int) -> String {
        let space = String(repeating: " ", count: indent + 2)
        var members = ["\"Node Type\": \(Self.quoted(node.kind))"]
        if let relation = node.relation { members.append("\"Relation Name\": \(Self.quoted(relation))") }
        if let alias = node.alias { members.append("\"Alias\": \(Self.quoted(alias))") }
        if let section = node.section { members.append("\"Subplan Name\": \(Self.quoted(section))") }
        if options.showsCosts {
            let estimate = node.estimate
            members.append("\"Startup Cost\": \(hundredths(estimate.start))")
            members.append("\"Total Cost\": \(hundredths(estimate.total))")
            members.append("\"Plan Rows\": \(whole(estimate.rows))")
            members.append("\"Plan Width\": \(estimate.width)")
        }
        for (label, value) in node.details { members.append("\(Self.quoted(label)): \(Self.quoted(value))") }
        if let figure = figure(node) {
            let loops = max(figure.loops, 1), each = UInt64(loops)
            if options.showsTimes {
                members.append("\"Actual Startup Time\": \(milliseconds(figure.first / each))")
                members.append("\"Actual Total Time\": \(milliseconds(figure.total / each))")
            }
            members.append("\"Actual Rows\": \((figure.rows + loops / 2) / loops)")
            members.append("\"Actual Loops\": \(figure.loops)")
        }
        if !node.children.isEmpty {
            let inner = node.children.map { space + "  " + object($0, indent: indent + 4) }
            members.append("\"Plans\": [\n" + inner.joined(separator: ",\n") + "\n\(space)]")
        }
        return "{\n" + members.map { space + $0 }.joined(separator: ",\n") + "\n"
            + String(repeating: " ", count: indent) + "}"
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            case _: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
