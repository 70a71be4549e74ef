import Base
import Contracts

/// A number of a simple query that was taken out of its statement, to be a parameter of it.
package struct LiftedNumber: Hashable, Sendable {
    /// As PostgreSQL types a literal: by what it takes to hold it.
    package enum Form: Hashable, Sendable { case int32, int64, decimal }

    package let form: Form
    package let text: Bytes
}

/// Statements of simple queries that differ in their numbers alone, read once.
///
/// A client that writes values into its statements sends a new text every time. Here the numbers that are values (in
/// conditions, in what is inserted or set) become parameters, typed as the literals were: then the plan, its
/// fingerprint, and what nodes keep under it are the same for all of them, and a text of a known shape is not even
/// parsed. The shape has the lengths of the numbers, so that errors point to the right characters.
///
/// Texts with quotes, comments or several statements have no shape, and are read as ever.
struct StatementShapes {
    private static let limit = 256, textLimit = 4096, numberLimit = 64
    /// Nil: some number of it is no value (ORDER BY 1), so that every text is a statement of its own.
    private var shapes: [Bytes: PlannedStatement?] = [:]

    /// The statements of a text, as `StatementReader.read` gives them.
    mutating func read(_ text: Bytes) throws(StatementError) -> [SessionStatement] {
        guard let scan = Self.scan(text) else { return try StatementReader.read(text) }
        if let known = shapes[scan.shape] {
            guard let known else { return try StatementReader.read(text) }
            return [.node(known.replacing(text: text, numbers: scan.numbers))]
        }
        if shapes.count >= Self.limit { shapes.removeAll(keepingCapacity: true) }
        let parsed = try StatementReader.parse(text)
        guard parsed.count == 1, case .node(let planned) = parsed[0].statement,
            let lifted = NumberLifting.lift(parsed[0].plan, scan.numbers)
        else {
            shapes[scan.shape] = .some(nil)
            return parsed.map(\.statement)
        }
        let statement = PlannedStatement(
            text: text, characterOffset: planned.characterOffset, verb: planned.verb, plan: lifted.encode(),
            numbers: scan.numbers)
        shapes[scan.shape] = statement
        return [.node(statement)]
    }

    /// The text with its numbers masked, and the numbers in their order; nil where it has no shape.
    static func scan(_ text: Bytes) -> (shape: Bytes, numbers: [LiftedNumber])? {
        guard text.count <= textLimit else { return nil }
        var shape = text, numbers: [LiftedNumber] = [], index = 0
        while index < text.count {
            let byte = text[index]
            switch byte {
            case UInt8(ascii: "'"), UInt8(ascii: "\""), UInt8(ascii: "$"), UInt8(ascii: "\\"): return nil
            case UInt8(ascii: ";") where text[(index + 1)...].contains(where: { !isSpace($0) }): return nil
            case UInt8(ascii: "-") where index + 1 < text.count && text[index + 1] == byte: return nil
            case UInt8(ascii: "/") where index + 1 < text.count && text[index + 1] == UInt8(ascii: "*"): return nil
            case 0..<9: return nil  // Masks are made of these.
            case _ where isDigit(byte):
                let end = endOfNumber(text, index)
                guard let number = number(text[index..<end], behind: end < text.count ? text[end] : 0) else {
                    return nil
                }
                guard numbers.count < numberLimit else { return nil }
                numbers.append(number)
                for place in index..<end { shape[place] = mask(number.form) }
                index = end
                continue
            case _ where isWord(byte):
                while index < text.count, isWord(text[index]) || isDigit(text[index]) { index += 1 }
                continue
            case _: break
            }
            index += 1
        }
        return numbers.isEmpty ? nil : (shape, numbers)
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte &- 9 < 5 }

    /// What an identifier may begin with; all bytes of characters beyond ASCII.
    private static func isWord(_ byte: UInt8) -> Bool {
        (byte | 0x20) &- 0x61 < 26 || byte == UInt8(ascii: "_") || byte >= 0x80
    }

    private static func endOfNumber(_ text: Bytes, _ start: Int) -> Int {
        var end = start
        while end < text.count, isDigit(text[end]) { end += 1 }
        guard end + 1 < text.count, text[end] == UInt8(ascii: "."), isDigit(text[end + 1]) else { return end }
        end += 1
        while end < text.count, isDigit(text[end]) { end += 1 }
        return end
    }

    /// Nil for what only a parser should judge: exponents, junk behind a number, more digits than 64 bits hold.
    private static func number(_ digits: ArraySlice<UInt8>, behind: UInt8) -> LiftedNumber? {
        guard !isWord(behind), behind != UInt8(ascii: ".") else { return nil }
        if digits.contains(UInt8(ascii: ".")) { return LiftedNumber(form: .decimal, text: Bytes(digits)) }
        guard digits.count <= 18 else { return nil }
        let value = digits.reduce(0 as Int64) { $0 * 10 + Int64($1 - 0x30) }
        return LiftedNumber(form: value <= Int64(Int32.max) ? .int32 : .int64, text: Bytes(digits))
    }

    /// Bytes that no text with a shape has.
    private static func mask(_ form: LiftedNumber.Form) -> UInt8 {
        switch form {
        case .int32: 1
        case .int64: 2
        case .decimal: 3
        }
    }
}

/// Makes numbers of a plan its parameters.
enum NumberLifting {
    /// Nil unless all `numbers`, which are all that stand in the text, are values, and nothing else is a parameter.
    static func lift(_ plan: LogicalPlan, _ numbers: [LiftedNumber]) -> LogicalPlan? {
        guard !plan.nodes.contains(where: { $0.kind == .parameter }) else { return nil }
        let root = plan[plan.root]
        var places: [Int32] = []
        switch root.kind {
        case .select: collect(root.children[4], plan, &places)
        case .update:
            for item in plan.list(root.children[2]) where plan[item].kind == .assignment {
                collect(plan[item].children[0], plan, &places)
            }
            collect(root.children[4], plan, &places)
        case .delete: collect(root.children[3], plan, &places)
        case .insert where plan[root.children[3]].kind == .values:
            for row in plan.list(plan[root.children[3]].children[1]) {
                for value in plan.list(row) { collect(value, plan, &places) }
            }
        case _: return nil  // Of a larger enum: nothing else is asked for one record.
        }
        guard places.count == numbers.count else { return nil }
        places.sort { plan[$0].position < plan[$1].position }
        var lifted = plan
        for (index, place) in places.enumerated() {
            let node = plan[place]
            guard node.position > 0, text(node) == numbers[index].text else { return nil }
            lifted.nodes[Int(place)] = .init(.parameter, number: Int64(index + 1), position: node.position)
        }
        return lifted
    }

    private static func text(_ node: LogicalPlan.Node) -> Bytes {
        Bytes((node.kind == .integer ? String(node.number) : node.name).utf8)
    }

    /// Numbers in an expression that are values, in any order.
    private static func collect(_ index: Int32, _ plan: LogicalPlan, _ places: inout [Int32]) {
        let node = plan[index]
        switch node.kind {
        case .integer, .decimal: places.append(index)
        case .operator, .and, .or, .not, .nullTest, .booleanTest, .distinctTest, .between, .inList, .list, .case, .when,
            .coalesce, .nullIf, .greatest, .least, .row, .arrayConstructor:
            for child in node.children { collect(child, plan, &places) }
        case .cast: collect(node.children[0], plan, &places)
        case _: break  // Of a larger enum: what is in it stays, and the statement has no shape.
        }
    }
}
