import Base

/// Writes plans as SQL again, in the form that PostgreSQL's `pg_get_expr` has: operators in parentheses, names quoted
/// where they must be, types by their SQL names. What is written reads back as the same plan, positions aside.
///
/// It takes validated plans (`LogicalPlan.validate`): its recursion is as deep as they are.
package struct SQLWriter {
    let plan: LogicalPlan
    var text = ""

    private init(_ plan: LogicalPlan) { self.plan = plan }

    /// An expression of a plan; nil for something that this does not write.
    package static func expression(_ index: Int32, of plan: LogicalPlan) -> String? {
        var writer = SQLWriter(plan)
        return writer.write(index) ? writer.text : nil
    }

    /// A query of a plan; nil for something that this does not write.
    package static func query(_ index: Int32, of plan: LogicalPlan) -> String? {
        var writer = SQLWriter(plan)
        return writer.writeQuery(index) ? writer.text : nil
    }

    /// A name as it must be written: quoted unless it is a plain word that is no keyword but an unreserved one.
    package static func quoted(_ name: String) -> String {
        let isPlain =
            name.utf8.first.map { (0x61...0x7a).contains($0) || $0 == 0x5f } == true
            && name.utf8.allSatisfy { (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5f }
        if isPlain, SQLKeyword(name).map({ $0.category == .unreserved }) != false { return name }
        return wrapped(name, in: "\"")
    }

    /// A string as a literal: escaped if it has a backslash, as PostgreSQL writes it.
    package static func literal(_ string: String) -> String {
        guard string.utf8.contains(0x5c) else { return wrapped(string, in: "'") }
        var text = " E'"
        for scalar in string.unicodeScalars {
            if scalar == "\\" || scalar == "'" { text.unicodeScalars.append(scalar) }
            text.unicodeScalars.append(scalar)
        }
        return String((text + "'").dropFirst())
    }

    /// A string as a literal of standard SQL, in which a backslash is a character like others.
    package static func standardLiteral(_ string: String) -> String { wrapped(string, in: "'") }

    private static func wrapped(_ content: String, in quote: Unicode.Scalar) -> String {
        var text = String(quote)
        for scalar in content.unicodeScalars {
            if scalar == quote { text.unicodeScalars.append(scalar) }
            text.unicodeScalars.append(scalar)
        }
        text.unicodeScalars.append(quote)
        return text
    }

    // MARK: Parts

    func children(_ node: LogicalPlan.Node, _ slot: Int) -> Int32 {
        node.children.indices.contains(slot) ? node.children[slot] : 0
    }

    /// Elements with commas between them.
    mutating func commas(_ elements: [Int32], _ write: (inout SQLWriter, Int32) -> Bool) -> Bool {
        for (index, element) in elements.enumerated() {
            if index > 0 { text += ", " }
            guard write(&self, element) else { return false }
        }
        return true
    }

    mutating func expressions(_ elements: [Int32]) -> Bool { commas(elements) { $0.write($1) } }

    /// `a.b.` of a qualifier.
    mutating func qualifier(_ index: Int32) {
        guard plan[index].kind == .name else { return }
        qualifier(children(plan[index], 0))
        text += Self.quoted(plan[index].name) + "."
    }

    mutating func name(_ index: Int32) {
        qualifier(children(plan[index], 0))
        text += Self.quoted(plan[index].name)
    }

    /// A value that something is done to: in parentheses unless it is one word.
    mutating func operand(_ index: Int32) -> Bool {
        switch plan[index].kind {
        case .columnReference, .parameter, .arraySubscript, .arraySlice:
            return write(index)
        case _:
            text += "("
            guard write(index) else { return false }
            text += ")"
            return true
        }
    }

    /// What a subscript is of.
    private mutating func subscripted(_ node: LogicalPlan.Node) -> Bool {
        node.flags.contains(.isMarked) ? parts("(", [children(node, 0)], ")") : operand(children(node, 0))
    }

    mutating func subquery(_ index: Int32) -> Bool {
        text += "("
        guard writeQuery(index) else { return false }
        text += ")"
        return true
    }

    // MARK: Expressions

    mutating func write(_ index: Int32) -> Bool {
        let node = plan[index]
        switch node.kind {
        case .null: text += "NULL"
        case .boolean: text += node.number == 0 ? "false" : "true"
        case .integer: text += node.number < 0 ? "(\(node.number))" : "\(node.number)"
        case .decimal: text += node.name
        case .string: text += Self.literal(node.name)
        case .bits: text += "\(node.name.prefix(1).uppercased())'\(node.name.dropFirst())'"
        case .parameter: text += "$\(node.number)"
        case .columnReference: name(index)
        case .star:
            qualifier(children(node, 0))
            text += "*"
        case .default: text += "DEFAULT"
        case .specialValue:
            text += node.name.uppercased()
            if node.number >= 0 { text += "(\(node.number))" }
        case .cast: return cast(node)
        case .functionCall: return call(node)
        case .case: return caseExpression(node)
        case _: return composed(node)
        }
        return true
    }

    /// What is made of other expressions.
    private mutating func composed(_ node: LogicalPlan.Node) -> Bool {
        let not = node.flags.contains(.isNegated) ? "NOT " : ""
        let all = node.flags.contains(.isAll) ? "ALL" : "ANY"
        switch node.kind {
        case .operator: return operation(node)
        case .and, .or: return chain(node, node.kind == .and ? " AND " : " OR ")
        case .not: return parts("(NOT ", [children(node, 0)], ")")
        case .nullTest: return parts("(", [children(node, 0)], " IS \(not)NULL)")
        case .booleanTest:
            let value = ["TRUE", "FALSE", "UNKNOWN"][Int(min(max(node.number, 0), 2))]
            return parts("(", [children(node, 0)], " IS \(not)\(value))")
        case .distinctTest: return parts("(", node.children, ")", between: [" IS \(not)DISTINCT FROM "])
        case .between:
            let symmetric = node.flags.contains(.isSymmetric) ? "SYMMETRIC " : ""
            return parts("(", node.children, ")", between: [" \(not)BETWEEN \(symmetric)", " AND "])
        case .like:
            let word = ["LIKE", "ILIKE", "SIMILAR TO"][Int(min(max(node.number, 0), 2))]
            return parts(
                "(", node.children.filter { $0 != 0 }, ")", between: [" \(not)\(word) ", " ESCAPE "])
        case .inList: return membership(node, " \(not)IN ", isQuery: false)
        case .inQuery: return membership(node, " \(not)IN ", isQuery: true)
        case .quantifiedQuery: return membership(node, " \(operatorName(node, 2)) \(all) ", isQuery: true)
        case .quantifiedArray:
            return parts(
                "(", [node.children[0], node.children[1]], "))", between: [" \(operatorName(node, 2)) \(all) ("])
        case .scalarQuery: return subquery(children(node, 0))
        case .exists:
            text += "(EXISTS "
            guard subquery(children(node, 0)) else { return false }
            text += ")"
            return true
        case .arrayQuery:
            text += "ARRAY"
            return subquery(children(node, 0))
        case _: return constructed(node)
        }
    }

    private mutating func constructed(_ node: LogicalPlan.Node) -> Bool {
        switch node.kind {
        case .coalesce: return list("COALESCE(", node.children)
        case .nullIf: return list("NULLIF(", node.children)
        case .greatest: return list("GREATEST(", node.children)
        case .least: return list("LEAST(", node.children)
        case .grouping: return list("GROUPING(", node.children)
        case .row: return list(node.flags.contains(.isExplicit) ? "ROW(" : "(", node.children)
        case .arrayConstructor:
            text += "ARRAY["
            guard expressions(node.children) else { return false }
            text += "]"
            return true
        case .collate:
            guard parts("(", [children(node, 0)], " COLLATE ") else { return false }
            name(children(node, 1))
            text += ")"
            return true
        case .namedArgument:
            text += Self.quoted(node.name) + " => "
            return write(children(node, 0))
        case .arraySubscript:
            guard subscripted(node) else { return false }
            return parts("[", [children(node, 1)], "]")
        case .arraySlice:
            guard subscripted(node) else { return false }
            text += "["
            if children(node, 1) != 0, !write(children(node, 1)) { return false }
            text += ":"
            if children(node, 2) != 0, !write(children(node, 2)) { return false }
            text += "]"
            return true
        case .fieldSelection: return parts("(", [children(node, 0)], ").\(Self.quoted(node.name))")
        case .allFields: return parts("(", [children(node, 0)], ").*")
        case _: return false
        }
    }

    /// Expressions with words around and between them.
    private mutating func parts(
        _ before: String, _ values: [Int32], _ behind: String, between: [String] = []
    ) -> Bool {
        text += before
        for (index, value) in values.enumerated() {
            if index > 0, index <= between.count { text += between[index - 1] }
            guard write(value) else { return false }
        }
        text += behind
        return true
    }

    private mutating func list(_ before: String, _ values: [Int32]) -> Bool {
        text += before
        guard expressions(values) else { return false }
        text += ")"
        return true
    }

    private mutating func chain(_ node: LogicalPlan.Node, _ word: String) -> Bool {
        parts("(", node.children, ")", between: Array(repeating: word, count: max(node.children.count - 1, 0)))
    }

    private func operatorName(_ node: LogicalPlan.Node, _ slot: Int) -> String {
        guard children(node, slot) != 0 else { return node.name }
        var writer = SQLWriter(plan)
        writer.qualifier(children(node, slot))
        return "OPERATOR(\(writer.text)\(node.name))"
    }

    private mutating func operation(_ node: LogicalPlan.Node) -> Bool {
        let name = operatorName(node, 2)
        if children(node, 0) == 0 { return parts("(\(name) ", [children(node, 1)], ")") }
        return parts("(", [node.children[0], node.children[1]], ")", between: [" \(name) "])
    }

    private mutating func membership(_ node: LogicalPlan.Node, _ word: String, isQuery: Bool) -> Bool {
        text += "("
        guard write(children(node, 0)) else { return false }
        text += word
        if isQuery {
            guard subquery(children(node, 1)) else { return false }
        } else {
            guard list("(", plan.list(children(node, 1))) else { return false }
        }
        text += ")"
        return true
    }

    private mutating func caseExpression(_ node: LogicalPlan.Node) -> Bool {
        text += "CASE"
        if children(node, 0) != 0, !parts(" ", [children(node, 0)], "") { return false }
        for when in plan.list(children(node, 1)) {
            guard parts(" WHEN ", plan[when].children, "", between: [" THEN "]) else { return false }
        }
        if children(node, 2) != 0, !parts(" ELSE ", [children(node, 2)], "") { return false }
        text += " END"
        return true
    }

    // MARK: Types

    private mutating func cast(_ node: LogicalPlan.Node) -> Bool {
        let operand = plan[children(node, 0)], type = plan[children(node, 1)]
        // These two are of length 1 where they stand alone, and of any length in front of a literal.
        let hasNoLength = type.flags.contains(.isBuiltIn) && ["bit", "bpchar"].contains(type.name)
        if hasNoLength, children(type, 1) == 0, type.number == 0, operand.kind == .string {
            text += (type.name == "bit" ? "bit " : "character ") + Self.literal(operand.name)
            return true
        }
        // Constants need no parentheses, unless a sign in front would bind looser than the cast.
        let isBare = [.string, .null, .boolean].contains(operand.kind)
        if !isBare { text += "(" }
        guard write(children(node, 0)) else { return false }
        if !isBare { text += ")" }
        text += "::"
        return self.type(children(node, 1))
    }

    /// SQL's spellings of built-in types, and where modifiers stand in them.
    private static let spellings: [String: (before: String, behind: String)] = [
        "int2": ("smallint", ""), "int4": ("integer", ""), "int8": ("bigint", ""), "float4": ("real", ""),
        "float8": ("double precision", ""), "bool": ("boolean", ""), "bpchar": ("character", ""),
        "varchar": ("character varying", ""), "varbit": ("bit varying", ""),
        "time": ("time", " without time zone"), "timetz": ("time", " with time zone"),
        "timestamp": ("timestamp", " without time zone"), "timestamptz": ("timestamp", " with time zone"),
    ]

    mutating func type(_ index: Int32) -> Bool {
        let node = plan[index]
        guard node.kind == .typeName else { return false }
        if node.flags.contains(.isAll) { text += "SETOF " }
        let modifiers = plan.list(children(node, 1))
        var spelling: (before: String, behind: String) = (Self.quoted(node.name), "")
        if node.flags.contains(.isBuiltIn) {
            spelling = Self.spellings[node.name] ?? (node.name, "")
        } else {
            qualifier(children(node, 0))
        }
        text += spelling.before
        if node.flags.contains(.isBuiltIn), node.name == "interval" {
            interval(modifiers.map { plan[$0].number })
        } else if !modifiers.isEmpty {
            guard list("(", modifiers) else { return false }
        }
        text += spelling.behind
        if node.flags.contains(.isMarked) { text += "%TYPE" }
        text += String(repeating: "[]", count: Int(min(max(node.number, 0), 6)))
        return true
    }

    /// Fields and precision of an interval, from its modifiers.
    private mutating func interval(_ modifiers: [Int64]) {
        guard let mask = modifiers.first else { return }
        let fields: [(Int64, String)] = [
            (1 << 2, "year"), (1 << 1, "month"), (1 << 3, "day"), (1 << 10, "hour"), (1 << 11, "minute"),
            (1 << 12, "second"),
        ]
        let there = mask == 0x7fff ? [] : fields.filter { mask & $0.0 != 0 }.map(\.1)
        if let first = there.first { text += " " + first }
        if let last = there.last, there.count > 1 { text += " to " + last }
        if modifiers.count > 1 { text += "(\(modifiers[1]))" }
    }
}

extension LogicalPlan {
    /// An expression as SQL (`SQLWriter`); nil for something that has no text.
    package func text(ofExpression index: Int32) -> String? { SQLWriter.expression(index, of: self) }

    /// A query as SQL.
    package func text(ofQuery index: Int32) -> String? { SQLWriter.query(index, of: self) }
}
