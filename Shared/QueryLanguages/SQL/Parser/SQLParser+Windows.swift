import Base
import Contracts

extension SQLParser {
    /// `(name PARTITION BY … ORDER BY … frame)`.
    mutating func windowSpecification() throws(StatementError) -> Int32 {
        let start = offset
        try expect("(")
        var name = ""
        let isClause = ["partition", "range", "rows", "groups"].contains(where: at)
        if token.isColumnName, !isClause { name = try columnName() }
        var partition: Int32 = 0
        if at("partition") {
            advance()
            try expect("by")
            partition = try list(try expressions())
        }
        let order = try orderBy()
        let frame = try frame()
        try expect(")")
        return try emit(.window, [partition, order, frame], name: name, at: start)
    }

    private mutating func frame() throws(StatementError) -> Int32 {
        let start = offset
        guard let mode = ["range", "rows", "groups"].firstIndex(where: at) else { return 0 }
        advance()
        let first: Int32, last: Int32
        if accept("between") {
            first = try frameBound()
            try expect("and")
            last = try frameBound()
        } else {
            (first, last) = (try frameBound(), 0)
        }
        try checkFrame(from: nodes[Int(first)], to: nodes[Int(last == 0 ? first : last)], isOpen: last == 0)
        var number = Int64(mode)
        if accept("exclude") {
            if accept("current") {
                try expect("row")
                number += 4
            } else if accept("group") {
                number += 8
            } else if accept("ties") {
                number += 12
            } else {
                try expect("no", "others")
            }
        }
        return try emit(.frame, [first, last], number: number, at: start)
    }

    private mutating func frameBound() throws(StatementError) -> Int32 {
        let start = offset
        if at("unbounded"), peek().says("preceding") || peek().says("following") {
            let number: Int64 = peek().says("preceding") ? 0 : 4
            index += 2
            return try emit(.frameBound, [0], number: number, at: start)
        }
        if accept("current", "row") { return try emit(.frameBound, [0], number: 2, at: start) }
        let value = try expression()
        if accept("preceding") { return try emit(.frameBound, [value], number: 1, at: start) }
        try expect("following")
        return try emit(.frameBound, [value], number: 3, at: start)
    }

    /// An open frame ends with the current row.
    private func checkFrame(
        from first: LogicalPlan.Node, to last: LogicalPlan.Node, isOpen: Bool
    ) throws(StatementError) {
        let fault: String? =
            switch (first.number, isOpen ? 2 : last.number) {
            case (4, _): "frame start cannot be UNBOUNDED FOLLOWING"
            case (_, 0): "frame end cannot be UNBOUNDED PRECEDING"
            case (2, 1): "frame starting from current row cannot have preceding rows"
            case (3, 2): "frame starting from following row cannot end with current row"
            case (3, 1): "frame starting from following row cannot have preceding rows"
            case _: nil
            }
        guard let fault else { return }
        throw StatementError(.windowingError, fault, position: Int((first.number == 4 ? first : last).position))
    }
}
