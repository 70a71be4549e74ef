extension LogicalPlan: CustomStringConvertible {
    package var description: String { describe() }

    /// The plan as indented text, for tests and people: one line for a node that fits, its children labelled as in
    /// its shape; otherwise a line for each child. Positions only when asked for.
    package func describe(positions: Bool = false) -> String {
        var texts: [[String]] = []
        texts.reserveCapacity(nodes.count)
        for node in nodes { texts.append(lines(node, texts, positions)) }
        return nodes.indices.contains(Int(root)) ? texts[Int(root)].joined(separator: "\n") : ""
    }

    private static let width = 100

    private func lines(_ node: Node, _ texts: [[String]], _ positions: Bool) -> [String] {
        var head = node.kind == .list ? "" : "\(node.kind)"
        if !node.name.isEmpty { head += " \(Self.quoted(node.name))" }
        if node.number != 0 || node.kind == .integer || node.kind == .boolean { head += " \(node.number)" }
        for flag in node.flags.names { head += " \(flag)" }
        if positions, node.position != 0 { head += " @\(node.position)" }
        var parts: [(label: String, lines: [String])] = []
        for (index, child) in node.children.enumerated() where child != 0 {
            let slots = node.kind.shape.slots
            guard let slot = index < slots.count ? slots[index] : slots.last, Int(child) < texts.count else { continue }
            parts.append((slot.isRest ? "" : slot.label + ": ", texts[Int(child)]))
        }
        if parts.isEmpty { return [node.kind == .list ? "[]" : head] }
        if parts.allSatisfy({ $0.lines.count == 1 }) {
            let inside = parts.map { $0.label + $0.lines[0] }.joined(separator: ", ")
            let line = node.kind == .list ? "[\(inside)]" : "\(head)(\(inside))"
            if line.count <= Self.width { return [line] }
        }
        var result = [node.kind == .list ? "[" : "\(head)("]
        for part in parts {
            result.append("  " + part.label + (part.lines.first ?? ""))
            for line in part.lines.dropFirst() { result.append("  " + line) }
        }
        result.append(node.kind == .list ? "]" : ")")
        return result
    }

    /// Names as they are where they are plain, else quoted.
    private static func quoted(_ name: String) -> String {
        let isPlain = name.utf8.allSatisfy {
            (0x61...0x7a).contains($0) || $0 == 0x5f || (0x30...0x39).contains($0)
        }
        guard !isPlain || name.utf8.first.map({ (0x30...0x39).contains($0) }) == true else { return name }
        return "'\(name)'"
    }
}

extension PlanFlags {
    /// Every flag with what the description calls it.
    private static let words: [(PlanFlags, String)] = [
        (.isNegated, "negated"), (.isDistinct, "distinct"), (.isAll, "all"), (.isLateral, "lateral"),
        (.isRecursive, "recursive"), (.isNatural, "natural"), (.isConditional, "conditional"),
        (.isCascade, "cascade"), (.isDescending, "descending"), (.isNullsFirst, "nullsFirst"),
        (.isNullsLast, "nullsLast"), (.isSymmetric, "symmetric"), (.isStar, "star"), (.isVariadic, "variadic"),
        (.isWithinGroup, "withinGroup"), (.isBuiltIn, "builtIn"), (.isExplicit, "explicit"),
        (.isGroupDistinct, "groupDistinct"), (.isWithTies, "withTies"), (.isNoWait, "noWait"),
        (.isSkipLocked, "skipLocked"), (.isOnly, "only"), (.isWithOrdinality, "withOrdinality"),
        (.isTemporary, "temporary"), (.isUnlogged, "unlogged"), (.isReplace, "replace"), (.isUnique, "unique"),
        (.isConcurrent, "concurrent"), (.isDeferrable, "deferrable"),
        (.isInitiallyDeferred, "initiallyDeferred"), (.isWithoutData, "withoutData"), (.isMarked, "marked"),
    ]

    var names: [String] { Self.words.filter { contains($0.0) }.map(\.1) }
}
