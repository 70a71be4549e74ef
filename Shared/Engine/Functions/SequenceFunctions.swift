import Base
import Contracts
import DataModel

/// nextval(): numbers come from the shard that counts them, so an evaluation may have to wait for one.
enum SequenceFunctions {
    /// What calls for one sequence are made of.
    private static let next = ScalarFunction("nextval", [.of(.text)], .of(.int64), volatility: .volatile, example: nil)
    {
        _, _ throws(StatementError) in throw StatementError(.internalError, "nextval of no sequence")
    }

    /// The function that draws from one sequence.
    static func drawing(from sequence: CollectionID) -> ScalarFunction {
        ScalarFunction("nextval \(sequence.rawValue)", of: next, result: .int64, volatility: .volatile) {
            _, context throws(StatementError) in .integer(try context.drawn.next(sequence, context.access))
        }
    }
}

/// The numbers that an evaluation drew. While it waits for one, it is begun again from the start of its batch, and gets
/// those again that it had.
struct DrawnNumbers {
    private var numbers: [(sequence: CollectionID, number: Int64)] = []
    private var place = 0
    private var isWaiting = false

    static let waiting = StatementError(.internalError, "a number of a sequence has to be waited for")

    mutating func next(_ sequence: CollectionID, _ access: (any RowAccess)?) throws(StatementError) -> Int64 {
        while place < numbers.count {
            defer { place += 1 }
            if numbers[place].sequence == sequence { return numbers[place].number }
        }
        guard let access else { throw StatementError(.featureNotSupported, "nextval is not supported here") }
        guard let number = try access.draw(1, from: sequence)?.first else {
            isWaiting = true
            throw Self.waiting
        }
        numbers.append((sequence, number))
        place = numbers.count
        return number
    }

    /// Whether the evaluation ended because it waits; it is to be begun again then.
    mutating func pause() -> Bool {
        defer { (isWaiting, place) = (false, 0) }
        return isWaiting
    }

    /// The batch is done.
    mutating func forget() { if !numbers.isEmpty { self = DrawnNumbers() } }
}

extension Binder {
    /// nextval('name'), the name being a constant: found as a table would be.
    func bindSequenceCall(_ node: LogicalPlan.Node) throws(StatementError) -> BoundExpression? {
        guard node.name == "nextval" else {
            guard ["currval", "lastval", "setval"].contains(node.name) else { return nil }
            throw unsupported("\(node.name)()", at: node.position)
        }
        let list = plan.list(node.children[1])
        guard list.count == 1 else { return nil }
        var argument = plan[list[0]]
        if argument.kind == .cast, ["regclass", "text"].contains(plan[argument.children[1]].name) {
            argument = plan[argument.children[0]]
        }
        guard argument.kind == .string else { throw unsupported("nextval of what is no literal", at: node.position) }
        let parts = try Self.names(in: argument.name)
        let sequence = try findCollection(parts[parts.count - 1], qualifier: Array(parts.dropLast()), at: 0)
        guard sequence.kind == .sequence else {
            throw StatementError(.wrongObjectType, "\"\(sequence.name)\" is not a sequence")
        }
        return BoundExpression(
            form: .call(SequenceFunctions.drawing(from: sequence.id), []), type: .int64, position: node.position)
    }

    /// `space."Name"` in its parts.
    private static func names(in text: String) throws(StatementError) -> [String] {
        var parts: [String] = [""], isQuoted = false, wasQuoted = false
        let scalars = Array(text.unicodeScalars)
        var index = 0
        while index < scalars.count {
            let scalar = scalars[index]
            index += 1
            if scalar == "\"" {
                if isQuoted, index < scalars.count, scalars[index] == "\"" {
                    parts[parts.count - 1].unicodeScalars.append(scalar)
                    index += 1
                } else {
                    (isQuoted, wasQuoted) = (!isQuoted, true)
                }
            } else if scalar == ".", !isQuoted {
                parts.append("")
            } else if isQuoted {
                parts[parts.count - 1].unicodeScalars.append(scalar)
            } else {
                parts[parts.count - 1] += String(scalar).lowercased()
            }
        }
        guard !isQuoted, parts.count <= 2, wasQuoted || !parts.contains("") else {
            throw StatementError(.invalidName, "invalid name syntax")
        }
        return parts
    }
}
