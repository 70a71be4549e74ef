/// What children a kind of node has: `PlanKind` says the same for people.
package struct PlanShape: Hashable, Sendable {
    /// What a node may stand for.
    package enum Family: UInt8, Hashable, Sendable { case none, list, clause, expression, query, relation, statement }

    package struct Slot: Hashable, Sendable {
        package enum Content: Hashable, Sendable {
            case any, list, name
            case family(Family)
        }

        package let label: String
        package let content: Content
        package let isOptional: Bool
        /// This and all children that follow.
        package let isRest: Bool
    }

    package let family: Family
    package let slots: [Slot]

    /// True for a node whose children are there, and of the kinds that this shape wants. Indices were checked before.
    func accepts(_ node: LogicalPlan.Node, in plan: LogicalPlan) -> Bool {
        guard family != .none else { return false }
        if let last = slots.last, last.isRest {
            guard node.children.count >= slots.count - 1 else { return false }
        } else {
            guard node.children.count == slots.count else { return false }
        }
        for (index, child) in node.children.enumerated() {
            let slot = slots[min(index, slots.count - 1)]
            guard child != 0 else {
                guard slot.isOptional else { return false }
                continue
            }
            guard slot.accepts(plan[child].kind) else { return false }
            if slot.content == .list, plan[child].children.isEmpty { return false }
        }
        return true
    }

    /// By the raw value of the kind.
    fileprivate static let table: [PlanShape] = {
        let none = PlanShape(family: .none, slots: [])
        let count = Int(PlanKind.allCases.reduce(0) { max($0, $1.rawValue) }) + 1
        var table = [PlanShape](repeating: none, count: count)
        for (kind, family, slots) in rows {
            table[Int(kind.rawValue)] = PlanShape(family: family, slots: slots.split(separator: " ").map { Slot($0) })
        }
        return table
    }()

    private static let rows: [(PlanKind, Family, String)] = [
        (.none, .none, ""),
        (.list, .list, "elements:any…"),
        (.identifier, .clause, ""),
        (.name, .clause, "qualifier:name?"),
        (.option, .clause, "value:any?"),
        (.null, .expression, ""),
        (.boolean, .expression, ""),
        (.integer, .expression, ""),
        (.decimal, .expression, ""),
        (.string, .expression, ""),
        (.bits, .expression, ""),
        (.parameter, .expression, ""),
        (.columnReference, .expression, "qualifier:name?"),
        (.star, .expression, "qualifier:name?"),
        (.default, .expression, ""),
        (.specialValue, .expression, ""),
        (.currentOf, .expression, ""),
        (.operator, .expression, "left:expression? right:expression qualifier:name?"),
        (.and, .expression, "operands:expression…"),
        (.or, .expression, "operands:expression…"),
        (.not, .expression, "operand:expression"),
        (.nullTest, .expression, "operand:expression"),
        (.booleanTest, .expression, "operand:expression"),
        (.distinctTest, .expression, "left:expression right:expression"),
        (.between, .expression, "operand:expression low:expression high:expression"),
        (.like, .expression, "operand:expression pattern:expression escape:expression?"),
        (.inList, .expression, "operand:expression elements:list"),
        (.inQuery, .expression, "operand:expression query:query"),
        (.quantifiedQuery, .expression, "operand:expression query:query qualifier:name?"),
        (.quantifiedArray, .expression, "operand:expression array:expression qualifier:name?"),
        (.scalarQuery, .expression, "query:query"),
        (.exists, .expression, "query:query"),
        (.arrayQuery, .expression, "query:query"),
        (.case, .expression, "operand:expression? whens:list else:expression?"),
        (.when, .clause, "condition:expression result:expression"),
        (.cast, .expression, "operand:expression type:clause"),
        (.typeName, .clause, "qualifier:name? modifiers:list*"),
        (
            .functionCall, .expression,
            "qualifier:name? arguments:list* orderBy:list* filter:expression? over:clause?"
        ),
        (.namedArgument, .expression, "value:expression"),
        (.coalesce, .expression, "operands:expression…"),
        (.nullIf, .expression, "left:expression right:expression"),
        (.greatest, .expression, "operands:expression…"),
        (.least, .expression, "operands:expression…"),
        (.collate, .expression, "operand:expression collation:name"),
        (.arrayConstructor, .expression, "elements:expression…"),
        (.row, .expression, "elements:expression…"),
        (.grouping, .expression, "arguments:expression…"),
        (.arraySubscript, .expression, "operand:expression index:expression"),
        (.arraySlice, .expression, "operand:expression low:expression? high:expression?"),
        (.fieldSelection, .expression, "operand:expression"),
        (.allFields, .expression, "operand:expression"),
        (.window, .clause, "partitionBy:list* orderBy:list* frame:clause?"),
        (.windowReference, .clause, ""),
        (.frame, .clause, "start:clause end:clause?"),
        (.frameBound, .clause, "offset:expression?"),
        (
            .select, .query,
            "with:clause? distinctOn:list* targets:list* from:list* where:expression? groupBy:list* "
                + "having:expression? windows:list* orderBy:list* limit:expression? offset:expression? "
                + "locking:list*"
        ),
        (
            .setOperation, .query,
            "with:clause? left:query right:query orderBy:list* limit:expression? offset:expression? "
                + "locking:list*"
        ),
        (
            .values, .query,
            "with:clause? rows:list orderBy:list* limit:expression? offset:expression? locking:list*"
        ),
        (.input, .query, ""),
        (.with, .clause, "tables:clause…"),
        (.commonTable, .clause, "columns:list* statement:statement"),
        (.target, .clause, "value:expression"),
        (.orderItem, .clause, "value:expression qualifier:name?"),
        (.groupingSet, .clause, "contents:any…"),
        (.namedWindow, .clause, "window:clause"),
        (.locking, .clause, "relations:list*"),
        (.table, .relation, "qualifier:name? alias:clause?"),
        (.alias, .clause, "columns:list*"),
        (.derivedTable, .relation, "query:query alias:clause?"),
        (.functionTable, .relation, "calls:list alias:clause?"),
        (.tableFunction, .clause, "call:expression columns:list*"),
        (.join, .relation, "left:relation right:relation condition:expression? using:list* alias:clause?"),
        (
            .insert, .statement,
            "with:clause? target:relation columns:list* source:query? conflict:clause? returning:list*"
        ),
        (.conflict, .clause, "elements:list* elementsWhere:expression? assignments:list* where:expression?"),
        (.assignment, .clause, "value:expression"),
        (.multipleAssignment, .clause, "columns:list source:expression"),
        (
            .update, .statement,
            "with:clause? target:relation assignments:list from:list* where:expression? returning:list*"
        ),
        (.delete, .statement, "with:clause? target:relation using:list* where:expression? returning:list*"),
        (.truncate, .statement, "tables:list"),
        (.copy, .statement, "table:relation? columns:list* query:statement? options:list* where:expression?"),
        (.createTable, .statement, "table:name elements:list* options:list*"),
        (.columnDefinition, .clause, "type:clause? collation:name? constraints:list*"),
        (.notNullConstraint, .clause, ""),
        (.nullConstraint, .clause, ""),
        (.defaultConstraint, .clause, "value:expression"),
        (.checkConstraint, .clause, "condition:expression"),
        (.generatedConstraint, .clause, "value:expression"),
        (.identityConstraint, .clause, "options:list*"),
        (.primaryKeyConstraint, .clause, "columns:list* include:list* options:list*"),
        (.uniqueConstraint, .clause, "columns:list* include:list* options:list*"),
        (.foreignKeyConstraint, .clause, "columns:list* table:relation referenced:list* setColumns:list*"),
        (.likeTable, .clause, "table:relation options:list*"),
        (.createTableAs, .statement, "table:name columns:list* query:statement options:list*"),
        (
            .createIndex, .statement,
            "table:relation elements:list include:list* where:expression? options:list* method:clause?"
        ),
        (.indexElement, .clause, "value:expression collation:name? operatorClass:name?"),
        (.createSequence, .statement, "sequence:name options:list*"),
        (.createSchema, .statement, "owner:clause? elements:list*"),
        (.createView, .statement, "view:name columns:list* query:query options:list*"),
        (.drop, .statement, "objects:list"),
        (.alter, .statement, "object:relation actions:list"),
        (.addColumn, .clause, "column:clause"),
        (.dropColumn, .clause, ""),
        (.setColumnType, .clause, "type:clause collation:name? using:expression?"),
        (.setColumnDefault, .clause, "value:expression?"),
        (.setColumnNotNull, .clause, ""),
        (.setColumnOptions, .clause, "options:list"),
        (.addIdentity, .clause, "options:list*"),
        (.setIdentity, .clause, "options:list"),
        (.dropIdentity, .clause, ""),
        (.dropExpression, .clause, ""),
        (.addConstraint, .clause, "constraint:clause"),
        (.dropConstraint, .clause, ""),
        (.alterConstraint, .clause, ""),
        (.validateConstraint, .clause, ""),
        (.renameColumn, .clause, "to:clause"),
        (.renameConstraint, .clause, "to:clause"),
        (.rename, .clause, "to:clause"),
        (.setSchema, .clause, ""),
        (.setOwner, .clause, ""),
        (.setOptions, .clause, "options:list"),
        (.alterSequence, .statement, "sequence:name options:list"),
        (.alterSchema, .statement, "action:clause"),
        (.comment, .statement, "object:name table:name? text:expression"),
        (.createRole, .statement, "options:list*"),
        (.alterRole, .statement, "options:list*"),
        (.dropRole, .statement, "roles:list"),
        (.grant, .statement, "privileges:list* objects:list grantees:list grantor:clause?"),
        (.privilege, .clause, "columns:list*"),
        (.grantRole, .statement, "roles:list grantees:list grantor:clause?"),
        (.begin, .statement, "modes:list*"),
        (.commit, .statement, ""),
        (.rollback, .statement, ""),
        (.savepoint, .statement, ""),
        (.releaseSavepoint, .statement, ""),
        (.rollbackTo, .statement, ""),
        (.prepareTransaction, .statement, ""),
        (.commitPrepared, .statement, ""),
        (.rollbackPrepared, .statement, ""),
        (.setTransaction, .statement, "modes:list"),
        (.setConstraints, .statement, "constraints:list*"),
        (.set, .statement, "values:list*"),
        (.show, .statement, ""),
        (.reset, .statement, ""),
        (.prepare, .statement, "types:list* statement:statement"),
        (.execute, .statement, "arguments:list*"),
        (.deallocate, .statement, ""),
        (.declareCursor, .statement, "query:query options:list*"),
        (.fetch, .statement, ""),
        (.closeCursor, .statement, ""),
        (.explain, .statement, "statement:statement options:list*"),
        (.discard, .statement, ""),
        (.lock, .statement, "tables:list"),
        (.vacuum, .statement, "tables:list* options:list*"),
        (.vacuumTarget, .clause, "table:relation columns:list*"),
        (.checkpoint, .statement, ""),
    ]
}

extension PlanKind {
    package var shape: PlanShape { PlanShape.table[Int(rawValue)] }
}

extension PlanShape.Slot {
    /// `label:content` with `?` (may be absent), `*` (a list, or absent), `…` (any number).
    fileprivate init(_ text: Substring) {
        let suffix = text.last
        isOptional = suffix == "?" || suffix == "*"
        isRest = suffix == "…"
        let parts = (isOptional || isRest ? text.dropLast() : text).split(separator: ":")
        label = String(parts[0])
        content =
            switch parts.last {
            case "list": .list
            case "name": .name
            case "clause": .family(.clause)
            case "expression": .family(.expression)
            case "query": .family(.query)
            case "relation": .family(.relation)
            case "statement": .family(.statement)
            case _: .any
            }
    }

    fileprivate func accepts(_ kind: PlanKind) -> Bool {
        switch content {
        case .any: true
        case .list: kind == .list
        case .name: kind == .name
        case .family(let family):
            kind.shape.family == family || family == .statement && kind.shape.family == .query
        }
    }
}

/// What DROP, ALTER, COMMENT ON, GRANT and REVOKE are about: `number` of their nodes.
package enum PlanObject: Int64, Hashable, Sendable {
    case table = 0, index, sequence, view, schema, column, constraint, role, database, type, function
}
