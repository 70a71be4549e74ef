import Base
import Contracts
import DataModel

/// CREATE SEQUENCE and its options; CREATE SCHEMA.
extension DefinitionPlanner {
    mutating func createSequence(_ node: LogicalPlan.Node) throws(StatementError) {
        if node.flags.contains(.isTemporary) { throw Self.unsupported("CREATE TEMPORARY SEQUENCE") }
        if node.flags.contains(.isUnlogged) { throw Self.unsupported("CREATE UNLOGGED SEQUENCE") }
        let name = try qualifiedName(node.children[0])
        let namespace = try target(name)
        if isTaken(name.name, in: namespace.id) {
            guard node.flags.contains(.isConditional) else {
                throw StatementError(.duplicateTable, "relation \"\(name.name)\" already exists")
            }
            return notices.append(
                StatementError(.duplicateTable, "relation \"\(name.name)\" already exists, skipping"))
        }
        var sequence = Self.sequence(of: .int64)
        try apply(options: plan.list(node.children[1]), to: &sequence)
        var descriptor = CollectionDescriptor(
            id: try newCollection(), namespace: namespace.id, name: name.name, kind: .sequence, owner: context.owner)
        descriptor.sequence = sequence
        put(descriptor)
    }

    /// Options as CREATE SEQUENCE takes them, with PostgreSQL's defaults for what is not said (init_params).
    func apply(
        options: [Int32], to sequence: inout CollectionDescriptor.Sequence
    ) throws(StatementError) {
        var said: [String: LogicalPlan.Node] = [:]
        for index in options {
            let node = plan[index]
            guard said.updateValue(node, forKey: node.name) == nil else {
                throw StatementError(
                    .syntaxError, "conflicting or redundant options", position: Int(node.position))
            }
        }
        func number(_ name: String) -> Int64? {
            said[name].flatMap { node in
                let value = plan[node.children.first ?? 0]
                return value.kind == .integer ? value.number : nil
            }
        }
        for name in said.keys.sorted() {
            switch name {
            case "increment", "minvalue", "maxvalue", "start", "cache", "cycle", "as": break
            case _: throw Self.unsupported("option \(name) of a sequence", at: said[name]?.position ?? 0)
            }
        }
        if let option = said["as"] {
            let type = try resolvedType(plan, option.children.first ?? 0)
            guard [.int16, .int32, .int64].contains(type.kind), !type.isArray else {
                throw StatementError(.invalidParameterValue, "sequence type must be smallint, integer, or bigint")
            }
            sequence = Self.sequence(of: type)
        }
        let limits = Self.sequence(of: sequence.type).maximum
        if let increment = number("increment") { sequence.increment = increment }
        guard sequence.increment != 0 else {
            throw StatementError(.invalidParameterValue, "INCREMENT must not be zero")
        }
        let isRising = sequence.increment > 0
        sequence.maximum = number("maxvalue") ?? (isRising ? limits : -1)
        sequence.minimum = number("minvalue") ?? (isRising ? 1 : -limits - 1)
        for (word, value) in [("MAXVALUE", sequence.maximum), ("MINVALUE", sequence.minimum)]
        where value > limits || value < -limits - 1 {
            throw StatementError(
                .invalidParameterValue,
                "\(word) (\(value)) is out of range for sequence data type \(sequence.type.formatted)")
        }
        guard sequence.minimum < sequence.maximum else {
            throw StatementError(
                .invalidParameterValue,
                "MINVALUE (\(sequence.minimum)) must be less than MAXVALUE (\(sequence.maximum))")
        }
        sequence.start = number("start") ?? (isRising ? sequence.minimum : sequence.maximum)
        if sequence.start < sequence.minimum {
            throw StatementError(
                .invalidParameterValue,
                "START value (\(sequence.start)) cannot be less than MINVALUE (\(sequence.minimum))")
        }
        if sequence.start > sequence.maximum {
            throw StatementError(
                .invalidParameterValue,
                "START value (\(sequence.start)) cannot be greater than MAXVALUE (\(sequence.maximum))")
        }
        if let cache = number("cache") {
            guard cache > 0 else {
                throw StatementError(.invalidParameterValue, "CACHE (\(cache)) must be greater than zero")
            }
            sequence.cache = cache
        }
        if let option = said["cycle"] { sequence.cycles = plan[option.children.first ?? 0].number == 1 }
    }

    mutating func createSchema(_ node: LogicalPlan.Node) throws(StatementError) {
        if node.children[0] != 0 { throw Self.unsupported("AUTHORIZATION of a schema") }
        if node.children[1] != 0 { throw Self.unsupported("elements in CREATE SCHEMA") }
        guard !node.name.utf8.starts(with: "pg_".utf8) else {
            throw StatementError(
                .reservedName, "unacceptable schema name \"\(node.name)\"",
                detail: "The prefix \"pg_\" is reserved for system schemas.")
        }
        if catalog.hasNamespace(node.name) {
            guard node.flags.contains(.isConditional) else {
                throw StatementError(.duplicateSchema, "schema \"\(node.name)\" already exists")
            }
            return notices.append(
                StatementError(.duplicateSchema, "schema \"\(node.name)\" already exists, skipping"))
        }
        let id = NamespaceID(rawValue: try newCollection().rawValue)
        put(NamespaceDescriptor(id: id, name: node.name, owner: context.owner))
    }
}
