import Base
import Contracts
import DataModel

/// nextval() and its kin: numbers come from the shard that counts them, so an evaluation may have to wait for one; what
/// was seen last is the session's.
enum SequenceFunctions {
    static let rows: [ScalarFunction] = [
        row("nextval", [.regclass]) { a, context throws(StatementError) in
            try context.sequences.next(try sequence(a[0], context, [.usage, .update]).id, context.access)
        },
        row("currval", [.regclass]) { a, context throws(StatementError) in
            let sequence = try sequence(a[0], context, [.usage, .select])
            guard let number = context.sequences.known.number(of: sequence.id.rawValue) else {
                throw StatementError(
                    .objectNotInPrerequisiteState,
                    "currval of sequence \"\(sequence.name)\" is not yet defined in this session")
            }
            return number
        },
        row("lastval", []) { _, context throws(StatementError) in
            guard let number = context.sequences.known.last else {
                throw StatementError(.objectNotInPrerequisiteState, "lastval is not yet defined in this session")
            }
            let drawn = context.sequences.known.list.first { $0.isDrawn }
            if let drawn, let sequence = context.settings.catalog?.collection(CollectionID(rawValue: drawn.sequence)) {
                try check([.usage, .select], on: sequence, context)
            }
            return number
        },
        row("setval", [.regclass, .int64]) { a, context throws(StatementError) in
            try set(a, isCalled: true, context)
        },
        row("setval", [.regclass, .int64, .bool]) { a, context throws(StatementError) in
            try set(a, isCalled: CatalogFunctions.flag(a[2]), context)
        },
    ]

    private static func row(
        _ name: String, _ parameters: [DataType],
        _ body: @escaping @Sendable ([Value], ExecutionContext) throws(StatementError) -> Int64
    ) -> ScalarFunction {
        ScalarFunction(name, parameters.map { .of($0) }, .of(.int64), volatility: .volatile, example: nil) {
            arguments, context throws(StatementError) in .integer(try body(arguments, context))
        }
    }

    private static func set(
        _ a: [Value], isCalled: Bool, _ context: ExecutionContext
    ) throws(StatementError) -> Int64 {
        let sequence = try sequence(a[0], context, .update), number = CatalogFunctions.integer(a[1])
        guard let terms = sequence.sequence, (terms.minimum...max(terms.minimum, terms.maximum)).contains(number) else {
            let bounds = sequence.sequence.map { "\($0.minimum)..\($0.maximum)" } ?? ""
            throw StatementError(
                .numericValueOutOfRange,
                "setval: value \(number) is out of bounds for sequence \"\(sequence.name)\" (\(bounds))")
        }
        return try context.sequences.set(sequence.id, to: number, isCalled: isCalled, context.access)
    }

    /// The sequence with a number, of which the user must have one of the rights.
    private static func sequence(
        _ value: Value, _ context: ExecutionContext, _ rights: Privileges
    ) throws(StatementError) -> CollectionDescriptor {
        let number = CatalogFunctions.oid(value)
        guard let relation = context.system.relation(number) else {
            throw StatementError(.internalError, "could not open relation with OID \(number)")
        }
        guard relation.collection.kind == .sequence else {
            throw StatementError(.wrongObjectType, "\"\(relation.name)\" is not a sequence")
        }
        try check(rights, on: relation.collection, context)
        return relation.collection
    }

    /// Which sequence it is shows only when the statement runs. So it is its user who is asked, also within a view.
    private static func check(
        _ rights: Privileges, on sequence: CollectionDescriptor, _ context: ExecutionContext
    ) throws(StatementError) {
        guard let catalog = context.settings.catalog, let user = context.settings.restrictedUser(catalog) else {
            return
        }
        guard !AccessRights(catalog).privileges(of: user, on: sequence).isDisjoint(with: rights) else {
            throw Binder.denied("sequence", sequence.name)
        }
    }

    /// Whether an expression is a call that may have to wait for a shard.
    static func draws(_ expression: BoundExpression) -> Bool {
        guard case .call(let function, _) = expression.form, function.volatility == .volatile else { return false }
        return ["nextval", "setval"].contains { function.name.hasPrefix($0) }
    }

    /// The function that draws from one sequence.
    static func drawing(from sequence: CollectionID) -> ScalarFunction {
        ScalarFunction("nextval \(sequence.rawValue)", of: rows[0], result: .int64, volatility: .volatile) {
            _, context throws(StatementError) in .integer(try context.sequences.next(sequence, context.access))
        }
    }
}

/// What an evaluation did with sequences. While it waits for a number, it is begun again from the start of its batch,
/// and gets those again that it had.
struct SequenceCalls {
    private enum Call: Equatable { case draw, set(Int64, isCalled: Bool) }

    private var done: [(sequence: CollectionID, call: Call, number: Int64)] = []
    private var place = 0
    private var isWaiting = false
    /// What the session knows at this place of the evaluation, and what it knew when the batch began.
    private(set) var known: SessionSequences
    private var knownBefore: SessionSequences
    /// What was done since somebody asked.
    private var news: [SequenceNumber] = []

    private let isReadOnly: Bool

    /// `isReadOnly`: the transaction may draw none.
    init(_ known: SessionSequences, isReadOnly: Bool) {
        (self.known, knownBefore, self.isReadOnly) = (known, known, isReadOnly)
    }

    /// Told only where an operator does not wait.
    static let waiting = StatementError(.featureNotSupported, "nextval and setval are not supported in this place")

    mutating func next(_ sequence: CollectionID, _ access: (any RowAccess)?) throws(StatementError) -> Int64 {
        guard !isReadOnly else { throw .inReadOnlyTransaction("nextval()") }
        return try perform(.draw, sequence) { () throws(StatementError) in
            guard let access else { throw StatementError(.featureNotSupported, "nextval is not supported here") }
            return try access.draw(1, from: sequence)?.first
        }
    }

    mutating func set(
        _ sequence: CollectionID, to number: Int64, isCalled: Bool, _ access: (any RowAccess)?
    ) throws(StatementError) -> Int64 {
        guard !isReadOnly else { throw .inReadOnlyTransaction("setval()") }
        return try perform(.set(number, isCalled: isCalled), sequence) { () throws(StatementError) in
            guard let access else { throw StatementError(.featureNotSupported, "setval is not supported here") }
            return try access.set(sequence, to: number, isCalled: isCalled)
        }
    }

    private mutating func perform(
        _ call: Call, _ sequence: CollectionID, _ body: () throws(StatementError) -> Int64?
    ) throws(StatementError) -> Int64 {
        while place < done.count {
            let old = done[place]
            place += 1
            if old.sequence == sequence, old.call == call {
                note(old.sequence, call, old.number, isNew: false)
                return old.number
            }
        }
        guard let number = try body() else {
            isWaiting = true
            throw Self.waiting
        }
        done.append((sequence, call, number))
        place = done.count
        note(sequence, call, number, isNew: true)
        return number
    }

    private mutating func note(_ sequence: CollectionID, _ call: Call, _ number: Int64, isNew: Bool) {
        // What setval() says is still to come was not seen.
        if case .set(_, isCalled: false) = call { return }
        let entry = SequenceNumber(sequence.rawValue, number, isDrawn: call == .draw)
        known.note(entry)
        if isNew { news.append(entry) }
    }

    /// Numbers that were drawn beside an evaluation.
    mutating func drew(_ numbers: [Int64], from sequence: CollectionID) {
        guard let last = numbers.last else { return }
        note(sequence, .draw, last, isNew: true)
        knownBefore = known
    }

    /// Whether the evaluation ended because it waits; it is to be begun again then.
    mutating func pause() -> Bool {
        if isWaiting { known = knownBefore }
        defer { (isWaiting, place) = (false, 0) }
        return isWaiting
    }

    /// The batch is done.
    mutating func forget() {
        guard !done.isEmpty else { return }
        (done, place, knownBefore) = ([], 0, known)
    }

    /// What the session is to know, in its order.
    mutating func takeNews() -> [SequenceNumber] {
        guard !news.isEmpty else { return [] }
        defer { news = [] }
        return news
    }
}

extension Binder {
    /// nextval('name'), the name being a constant: found as a table would be. Other calls find theirs when they run.
    func bindSequenceCall(_ node: LogicalPlan.Node) throws(StatementError) -> BoundExpression? {
        guard node.name == "nextval" else { return nil }
        let list = plan.list(node.children[1])
        guard list.count == 1 else { return nil }
        var argument = plan[list[0]]
        if argument.kind == .cast, ["regclass", "text"].contains(plan[argument.children[1]].name) {
            argument = plan[argument.children[0]]
        }
        guard argument.kind == .string else { return nil }
        let parts = try ObjectNames.parts(argument.name)
        guard parts.count <= 2, let name = parts.last else { return nil }
        let sequence = try findCollection(name, qualifier: Array(parts.dropLast()), at: 0)
        guard sequence.kind == .sequence else {
            throw StatementError(.wrongObjectType, "\"\(sequence.name)\" is not a sequence")
        }
        needsDrawing(from: sequence)
        return BoundExpression(
            form: .call(SequenceFunctions.drawing(from: sequence.id), []), type: .int64, position: node.position)
    }
}
