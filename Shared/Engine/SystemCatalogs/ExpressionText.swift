import Base
import Contracts
import DataModel

/// Writes an expression of the catalog as `pg_get_expr` does: literals with the types that they have become, and the
/// casts that types demand. What this does not know how to write is written as it was kept.
///
/// Plain text has parentheses around every operation; pretty text only where they are needed.
final class ExpressionText {
    /// What is around a piece, as far as that decides whether the piece needs parentheses there.
    enum Place {
        case operation(String, isFirst: Bool)
        case conjunction, disjunction, negation, cast, test
        /// Arguments, elements: they have parentheses or brackets of their own.
        case list
    }

    enum Shape {
        case simple, test
        case operation(String)
        case conjunction, disjunction, negation
    }

    struct Piece {
        var text: String
        var type: DataType
        var shape = Shape.simple
        /// A literal whose type is not decided yet.
        var literal: String?
    }

    private struct Unwritable: Error {}

    let plan: LogicalPlan
    let binder: Binder
    let scope: Scope
    let isPretty: Bool
    let settings: EngineSettings

    private init(_ plan: LogicalPlan, _ table: CollectionDescriptor?, _ settings: EngineSettings, isPretty: Bool) {
        self.plan = plan
        self.isPretty = isPretty
        self.settings = settings
        binder = Binder(plan, catalog: settings.catalog ?? Catalog(), settings: settings, parameterTypes: [])
        scope = Scope(parent: nil)
        if let table {
            let columns = binder.scanPlan(table).1
            scope.columns = columns
            scope.relations = [ScopeRelation(alias: table.name, columns: columns)]
        }
    }

    /// The text of what is kept; `type`: what it is assigned to.
    static func text(
        _ stored: StoredExpression, of table: CollectionDescriptor?, type: DataType?, _ settings: EngineSettings,
        isPretty: Bool
    ) -> String {
        guard let plan = try? StoredPlans.expression(stored) else { return stored.text }
        let writer = ExpressionText(plan, table, settings, isPretty: isPretty)
        do {
            let piece = try writer.piece(plan.root)
            guard piece.literal != nil else { return piece.text }
            return try writer.decided(piece, type?.unconstrained ?? .text).text
        } catch {
            return stored.text
        }
    }

    // MARK: Pieces

    private func type(_ index: Int32) throws -> DataType { try binder.bindExpression(index, scope, .check).type }

    /// A literal as one of `type`; anything else as it is.
    private func decided(_ piece: Piece, _ type: DataType) throws -> Piece {
        guard let literal = piece.literal else { return piece }
        return constant(try TextForms.parse(literal, type, settings), type)
    }

    /// A piece as a value of `type`: with a cast, if it is of another one.
    private func cast(_ piece: Piece, to type: DataType) throws -> Piece {
        if piece.literal != nil { return try decided(piece, type) }
        guard piece.type.unconstrained != type.unconstrained else { return piece }
        return labelled(piece, type)
    }

    private func labelled(_ piece: Piece, _ type: DataType) -> Piece {
        let text = isPretty ? placed(piece, .cast) : "(\(piece.text))"
        return Piece(text: "\(text)::\(type.formatted)", type: type)
    }

    /// The text of a piece where it stands.
    private func placed(_ piece: Piece, _ place: Place) -> String {
        guard isPretty, !isSimple(piece.shape, place) else { return piece.text }
        return "(\(piece.text))"
    }

    private func isSimple(_ shape: Shape, _ place: Place) -> Bool {
        if case .list = place { return true }
        switch shape {
        case .simple: return true
        case .operation(let name):
            if case .operation(let outer, let isFirst) = place {
                let low = "+-", high = "*/%"
                guard name.count == 1, outer.count == 1, (low + high).contains(name), (low + high).contains(outer)
                else { return false }
                if high.contains(name), low.contains(outer) { return true }
                if low.contains(name), high.contains(outer) { return false }
                return isFirst
            }
            return isLogical(place)
        case .test: return isLogical(place)
        case .conjunction, .negation:
            switch place {
            case .conjunction, .disjunction: return true
            case .negation, .operation, .cast, .test, .list: return false
            }
        case .disjunction:
            if case .disjunction = place { return true }
            return false
        }
    }

    private func isLogical(_ place: Place) -> Bool {
        switch place {
        case .conjunction, .disjunction, .negation: true
        case .operation, .cast, .test, .list: false
        }
    }

    private func wrapped(_ text: String, _ shape: Shape, _ type: DataType = .bool) -> Piece {
        Piece(text: isPretty ? text : "(\(text))", type: type, shape: shape)
    }

    // MARK: Constants

    private func constant(_ value: Value, _ type: DataType) -> Piece {
        if value.isNull { return Piece(text: "NULL::\(type.formatted)", type: type) }
        let text = TextForms.text(value, type, settings)
        let quoted = SQLWriter.standardLiteral(text)
        guard !type.isArray else { return Piece(text: "\(quoted)::\(type.formatted)", type: type) }
        switch type.kind {
        case .bool: return Piece(text: text == "t" ? "true" : "false", type: type)
        case .int32 where !text.hasPrefix("-"): return Piece(text: text, type: type)
        case .decimal where !text.hasPrefix("-") && text.contains { "eE.".contains($0) }:
            return Piece(text: text, type: type)
        case .unknown: return Piece(text: quoted, type: type)
        case _: return Piece(text: "\(quoted)::\(type.formatted)", type: type)
        }
    }

    // MARK: Nodes

    private func piece(_ index: Int32) throws -> Piece {
        let node = plan[index]
        switch node.kind {
        case .null: return Piece(text: "NULL", type: .unknown)
        case .boolean: return constant(.bool(node.number != 0), .bool)
        case .integer:
            return constant(.integer(node.number), Int32(exactly: node.number) == nil ? .int64 : .int32)
        case .decimal: return constant(.decimal(try Decimal(parsing: node.name)), .decimal)
        case .string: return Piece(text: SQLWriter.standardLiteral(node.name), type: .unknown, literal: node.name)
        case .columnReference: return Piece(text: SQLWriter.quoted(node.name), type: try type(index))
        case .specialValue:
            let precision = node.number >= 0 ? "(\(node.number))" : ""
            return Piece(text: node.name.uppercased() + precision, type: try type(index))
        case .operator: return try operation(index, node)
        case .and, .or: return try chain(node)
        case .not: return wrapped("NOT " + placed(try condition(node.children[0]), .negation), .negation)
        case .nullTest:
            let not = node.flags.contains(.isNegated) ? "NOT " : ""
            return wrapped("\(placed(try piece(node.children[0]), .test)) IS \(not)NULL", .test)
        case .booleanTest:
            let not = node.flags.contains(.isNegated) ? "NOT " : ""
            let word = ["TRUE", "FALSE", "UNKNOWN"][Int(min(max(node.number, 0), 2))]
            return wrapped("\(placed(try condition(node.children[0]), .test)) IS \(not)\(word)", .test)
        case .distinctTest: return try distinct(node)
        case .between: return try between(node)
        case .like: return try like(node)
        case .inList: return try membership(node)
        case _: return try form(index, node)
        }
    }

    private func form(_ index: Int32, _ node: LogicalPlan.Node) throws -> Piece {
        switch node.kind {
        case .quantifiedArray: return try quantified(index, node)
        case .cast: return try explicitCast(index, node)
        case .functionCall: return try call(index, node)
        case .collate:
            let type = try type(index), operand = try decided(try piece(node.children[0]), type)
            let name = SQLWriter.quoted(plan[node.children[1]].name)
            return wrapped("\(placed(operand, .cast)) COLLATE \(name)", .operation("COLLATE"), type)
        case .case: return try choice(index, node)
        case .coalesce, .greatest, .least:
            let type = try type(index)
            let name = node.kind == .coalesce ? "COALESCE" : node.kind == .greatest ? "GREATEST" : "LEAST"
            return Piece(text: "\(name)(\(try list(node.children, type)))", type: type)
        case .nullIf:
            let type = try type(index)
            let first = try decided(try piece(node.children[0]), type)
            let second = try decided(try piece(node.children[1]), type)
            return Piece(text: "NULLIF(\(first.text), \(second.text))", type: type)
        case .arrayConstructor:
            let type = try type(index)
            return Piece(text: "ARRAY[\(try list(node.children, type.element))]", type: type)
        case .arraySubscript:
            let type = try type(index)
            let array = try piece(node.children[0]), place = try piece(node.children[1])
            return Piece(text: "\(array.text)[\(place.text)]", type: type)
        case _: throw Unwritable()
        }
    }

    private func condition(_ index: Int32) throws -> Piece { try decided(try piece(index), .bool) }

    private func list(_ nodes: [Int32], _ type: DataType) throws -> String {
        var texts: [String] = []
        for node in nodes { texts.append(try cast(try piece(node), to: type).text) }
        return texts.joined(separator: ", ")
    }

    private func chain(_ node: LogicalPlan.Node) throws -> Piece {
        let isAnd = node.kind == .and
        var texts: [String] = []
        for child in node.children {
            texts.append(placed(try condition(child), isAnd ? .conjunction : .disjunction))
        }
        return wrapped(texts.joined(separator: isAnd ? " AND " : " OR "), isAnd ? .conjunction : .disjunction)
    }

    // MARK: Operators

    private func operation(_ index: Int32, _ node: LogicalPlan.Node) throws -> Piece {
        let operand = plan[node.children[1]]
        if node.children[0] == 0, node.name == "-", operand.kind == .integer || operand.kind == .decimal {
            // A number with a sign is a literal.
            guard operand.kind == .integer else {
                return constant(.decimal(try Decimal(parsing: "-" + operand.name)), .decimal)
            }
            let number = 0 &- operand.number
            return constant(.integer(number), Int32(exactly: number) == nil ? .int64 : .int32)
        }
        let right = try piece(node.children[1])
        guard node.children[0] != 0 else {
            let types = try parameters(Registry.operators(node.name, 1), [right.type], isOperator: true)
            let operand = placed(try cast(right, to: types[0]), .operation(node.name, isFirst: true))
            return wrapped("\(node.name) \(operand)", .operation(node.name), try type(index))
        }
        let left = try piece(node.children[0])
        return try comparison(node.name, left, right, try type(index))
    }

    private func comparison(_ name: String, _ left: Piece, _ right: Piece, _ result: DataType) throws -> Piece {
        let types = try parameters(Registry.operators(name, 2), [left.type, right.type], isOperator: true)
        let first = placed(try cast(left, to: types[0]), .operation(name, isFirst: true))
        let second = placed(try cast(right, to: types[1]), .operation(name, isFirst: false))
        return wrapped("\(first) \(name == "!=" ? "<>" : name) \(second)", .operation(name), result)
    }

    /// What the places of the chosen function are; of one that takes anything, the arguments' own types.
    private func parameters<Row: Overload>(_ rows: [Row], _ types: [DataType], isOperator: Bool) throws -> [DataType] {
        let row = try resolve(rows, types, isOperator: isOperator)
        let given = types.map { BoundExpression.constant(.null, $0) }
        return try binder.concrete(
            row.parameters, .of(.bool), isVariadic: row.isVariadic, given, at: 0
        ).0
    }

    private func distinct(_ node: LogicalPlan.Node) throws -> Piece {
        let left = try piece(node.children[0]), right = try piece(node.children[1])
        let types = try parameters(Registry.operators("=", 2), [left.type, right.type], isOperator: true)
        let first = placed(try cast(left, to: types[0]), .test), second = placed(try cast(right, to: types[1]), .test)
        let test = wrapped("\(first) IS DISTINCT FROM \(second)", .test)
        guard node.flags.contains(.isNegated) else { return test }
        return wrapped("NOT " + placed(test, .negation), .negation)
    }

    private func between(_ node: LogicalPlan.Node) throws -> Piece {
        guard !node.flags.contains(.isSymmetric) else { throw Unwritable() }
        let isNegated = node.flags.contains(.isNegated)
        let value = try piece(node.children[0])
        let low = try comparison(isNegated ? "<" : ">=", value, try piece(node.children[1]), .bool)
        let high = try comparison(isNegated ? ">" : "<=", value, try piece(node.children[2]), .bool)
        let place = isNegated ? Place.disjunction : .conjunction
        let text = "\(placed(low, place)) \(isNegated ? "OR" : "AND") \(placed(high, place))"
        return wrapped(text, isNegated ? .disjunction : .conjunction)
    }

    private func like(_ node: LogicalPlan.Node) throws -> Piece {
        guard node.number < 2 else { throw Unwritable() }
        let name = (node.flags.contains(.isNegated) ? "!~~" : "~~") + (node.number == 1 ? "*" : "")
        var pattern = try piece(node.children[1])
        if node.children[2] != 0 {
            let escape = try cast(try piece(node.children[2]), to: .text)
            let text = try cast(pattern, to: .text)
            pattern = Piece(text: "like_escape(\(text.text), \(escape.text))", type: .text)
        }
        return try comparison(name, try piece(node.children[0]), pattern, .bool)
    }

    /// `x IN (a, b)` is `x = ANY (ARRAY[a, b])`.
    private func membership(_ node: LogicalPlan.Node) throws -> Piece {
        let isNegated = node.flags.contains(.isNegated), name = isNegated ? "<>" : "="
        let items = plan.list(node.children[1])
        let value = try piece(node.children[0])
        if items.count == 1 { return try comparison(name, value, try piece(items[0]), .bool) }
        var bound = [try binder.bindExpression(node.children[0], scope, .check)]
        for item in items { bound.append(try binder.bindExpression(item, scope, .check)) }
        let common = try binder.commonType(bound, place: "IN", at: 0).unconstrained
        let elements = Piece(text: "ARRAY[\(try list(items, common))]", type: common.array)
        return try quantified(name, isAll: isNegated, value, elements)
    }

    private func quantified(_ index: Int32, _ node: LogicalPlan.Node) throws -> Piece {
        let value = try piece(node.children[0])
        let array = try decided(try piece(node.children[1]), value.type.unconstrained.array)
        return try quantified(node.name, isAll: node.flags.contains(.isAll), value, array)
    }

    private func quantified(_ name: String, isAll: Bool, _ value: Piece, _ array: Piece) throws -> Piece {
        let types = try parameters(
            Registry.operators(name, 2), [value.type, array.type.element], isOperator: true)
        let first = placed(try cast(value, to: types[0]), .operation(name, isFirst: true))
        let second = try cast(array, to: types[1].unconstrained.array)
        return wrapped(
            "\(first) \(name == "!=" ? "<>" : name) \(isAll ? "ALL" : "ANY") (\(second.text))", .operation(name))
    }

    // MARK: Calls

    private func explicitCast(_ index: Int32, _ node: LogicalPlan.Node) throws -> Piece {
        let type = try binder.bindType(node.children[1])
        let inner = try piece(node.children[0])
        if inner.literal != nil {
            let plain = try decided(inner, type.unconstrained)
            guard type.modifier >= 0, !type.isArray else { return plain }
            return Piece(text: "\(SQLWriter.standardLiteral(inner.literal ?? ""))::\(type.formatted)", type: type)
        }
        if inner.type == type || inner.text.hasPrefix("ARRAY[]") && type.isArray {
            return inner.text == "ARRAY[]" ? Piece(text: "ARRAY[]::\(type.formatted)", type: type) : inner
        }
        if plan[node.children[0]].kind == .null { return constant(.null, type) }
        return labelled(inner, type)
    }

    private func call(_ index: Int32, _ node: LogicalPlan.Node) throws -> Piece {
        let arguments = plan.list(node.children[1])
        // Forms of the language with words between their arguments are written as they are kept.
        guard !node.flags.contains(.isBuiltIn), !node.flags.contains(.isVariadic) else {
            guard let text = plan.text(ofExpression: index) else { throw Unwritable() }
            return Piece(text: text, type: try type(index))
        }
        var pieces: [Piece] = []
        for argument in arguments { pieces.append(try piece(argument)) }
        let types = try parameters(Registry.functions(node.name), pieces.map(\.type), isOperator: false)
        var texts: [String] = []
        for (place, piece) in pieces.enumerated() { texts.append(try cast(piece, to: types[place]).text) }
        return Piece(
            text: "\(SQLWriter.quoted(node.name))(\(texts.joined(separator: ", ")))", type: try type(index))
    }

    private func choice(_ index: Int32, _ node: LogicalPlan.Node) throws -> Piece {
        let type = try type(index)
        var text = "\nCASE"
        let operand = node.children[0] == 0 ? nil : try piece(node.children[0])
        if let operand { text += " \(operand.text)" }
        for when in plan.list(node.children[1]) {
            let branch = plan[when]
            var condition = try piece(branch.children[0])
            if let operand {
                let types = try parameters(
                    Registry.operators("=", 2), [operand.type, condition.type], isOperator: true)
                condition = try cast(condition, to: types[1])
            } else {
                condition = try decided(condition, .bool)
            }
            text += "\n    WHEN \(condition.text) THEN \(try cast(try piece(branch.children[1]), to: type).text)"
        }
        if node.children[2] != 0 {
            text += "\n    ELSE \(try cast(try piece(node.children[2]), to: type).text)"
        }
        return Piece(text: text + "\nEND", type: type)
    }
}
