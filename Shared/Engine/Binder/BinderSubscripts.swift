import Base
import Contracts
import DataModel

// Elements and slices of arrays, and members of documents.

extension Binder {
    func bindSubscript(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace)
        throws(StatementError) -> BoundExpression
    {
        // a[1][2] is one look-up with two indices; a slice anywhere makes slices of all.
        var current = node, steps: [LogicalPlan.Node] = []
        while current.kind == .arraySubscript || current.kind == .arraySlice {
            steps.insert(current, at: 0)
            if current.flags.contains(.isMarked) { break }
            current = plan[current.children[0]]
        }
        guard let first = steps.first else { throw unsupported("this expression", at: node.position) }
        let operand = try bindExpression(first.children[0], scope, place)
        if operand.type.kind == .jsonb, !operand.type.isArray { return try bindPath(operand, steps, scope, place) }
        guard operand.type.isArrayLike else {
            throw StatementError(
                .datatypeMismatch,
                "cannot subscript type \(operand.type.title) because it does not support subscripting",
                position: operand.position)
        }
        guard steps.count <= ArrayValue.dimensionLimit else {
            throw StatementError(
                .programLimitExceeded,
                "number of array dimensions (\(steps.count)) exceeds the maximum allowed (\(ArrayValue.dimensionLimit))"
            )
        }
        func bound(_ index: Int32) throws(StatementError) -> BoundExpression {
            let number = try bindExpression(index, scope, place)
            return try coerce(number, to: .int32, .assignment, at: number.position)
        }
        guard steps.contains(where: { $0.kind == .arraySlice }) else {
            var indices: [BoundExpression] = []
            for step in steps { indices.append(try bound(step.children[1])) }
            return BoundExpression(
                form: .call(ArrayFunctions.subscription, [operand] + indices), type: operand.type.element,
                position: node.position)
        }
        var bounds: [BoundExpression] = [], isGiven: [Bool] = []
        for step in steps {
            // [3] among slices is [1:3].
            let isSlice = step.kind == .arraySlice
            for child in isSlice ? [step.children[1], step.children[2]] : [-1, step.children[1]] {
                isGiven.append(child != 0)
                bounds.append(child > 0 ? try bound(child) : .constant(child < 0 ? .integer(1) : .null, .int32))
            }
        }
        let given = isGiven
        let slice = ScalarFunction(
            "slice \(given)", of: ArrayFunctions.subscription, result: operand.type.unconstrained,
            volatility: .immutable, isStrict: false
        ) { a, _ throws(StatementError) in
            var bounds: [(low: Value?, high: Value?)] = []
            for index in stride(from: 0, to: given.count, by: 2) {
                bounds.append((given[index] ? a[index + 1] : nil, given[index + 1] ? a[index + 2] : nil))
            }
            return ArrayChanges.slice(a[0], bounds)
        }
        return BoundExpression(
            form: .call(slice, [operand] + bounds), type: operand.type.unconstrained, position: node.position)
    }

    /// `document['a'][1]`: as a path of texts.
    private func bindPath(
        _ operand: BoundExpression, _ steps: [LogicalPlan.Node], _ scope: Scope, _ place: ExpressionPlace
    ) throws(StatementError) -> BoundExpression {
        var keys: [BoundExpression] = []
        for step in steps {
            guard step.kind == .arraySubscript else {
                throw StatementError(
                    .datatypeMismatch, "jsonb subscript does not support slices", position: step.position)
            }
            let key = try resolveUnknown(try bindExpression(step.children[1], scope, place), as: .text)
            guard [.int16, .int32, .text, .varchar, .char, .name].contains(key.type.kind), !key.type.isArray else {
                throw StatementError(
                    .datatypeMismatch, "subscript type \(key.type.title) is not supported",
                    hint: "jsonb subscript must be coercible to either integer or text.", position: key.position)
            }
            keys.append(try coerce(key, to: .text, .explicit, at: key.position))
        }
        return BoundExpression(
            form: .call(JSONFunctions.subscription, [operand] + keys), type: .jsonb, position: operand.position)
    }
}
