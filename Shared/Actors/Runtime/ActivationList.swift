/// Activations that the table of a runtime keeps: being in a list does not, so no references are counted, of which
/// every SET would pay for ten. Whoever takes one out of the table that is not settled takes it out of here first.
struct ActivationList {
    private var references: [Unmanaged<Activation>] = []

    var isEmpty: Bool { references.isEmpty }

    @inline(__always)
    mutating func append(_ activation: Activation) { references.append(.passUnretained(activation)) }

    @inline(__always)
    func forEach(_ body: (Activation) -> Void) {
        for reference in references { reference._withUnsafeGuaranteedRef(body) }
    }

    /// Lets go of all others.
    @inline(__always)
    mutating func keep(_ isKept: (Activation) -> Bool) {
        var kept = 0
        for position in references.indices {
            guard references[position]._withUnsafeGuaranteedRef(isKept) else { continue }
            references[kept] = references[position]
            kept += 1
        }
        references.removeSubrange(kept...)
    }

    mutating func removeAll(keepingCapacity: Bool = false) {
        references.removeAll(keepingCapacity: keepingCapacity)
    }

    /// For whoever takes them out of the table.
    var owned: [Activation] { references.map { $0.takeUnretainedValue() } }
}
