import DataModel

/// By what an expression is compared, and how much that counts beside another one: PostgreSQL 15 manual, section 24.2.
struct CollationState: Hashable, Sendable {
    enum Strength: Int, Hashable, Sendable, Comparable {
        /// It is no text.
        case none
        /// That of a column, or of a type.
        case implicit
        /// Two implicit ones, of which none counts more.
        case conflict
        case explicit

        static func < (left: Strength, right: Strength) -> Bool { left.rawValue < right.rawValue }
    }

    var strength = Strength.none
    var collation = Collation.standard
    /// Of a conflict.
    var other = Collation.standard

    static func implicit(_ collation: Collation) -> CollationState {
        CollationState(strength: .implicit, collation: collation)
    }

    /// Of two operands: the stronger one. Nil if they are two explicit ones that differ.
    func merged(with right: CollationState) -> CollationState? {
        if right.strength != strength { return right.strength > strength ? right : self }
        guard right.collation != collation else { return self }
        switch strength {
        case .none, .conflict: return self
        case .implicit:
            // Any other counts more than the default one.
            if collation == .standard { return right }
            if right.collation == .standard { return self }
            return CollationState(strength: .conflict, collation: collation, other: right.collation)
        case .explicit: return nil
        }
    }

    /// As a column of the query around.
    var asColumn: CollationState {
        strength == .explicit ? .implicit(collation) : self
    }

    /// Whether texts are compared by their keys.
    var needsKeys: Bool { strength != .none && strength != .conflict && !collation.isByBytes }
}

/// What is known of columns within a statement and its views. Empty unless some column has a collation of its own.
final class ColumnCollations {
    private var states: [Attribute: CollationState] = [:]
    /// Whether the statement has a collation other than that of types at all: most have none, and are not looked at.
    private(set) var areUsed = false

    func use() { areUsed = true }

    subscript(_ attribute: Attribute) -> CollationState? { states[attribute] }

    func set(_ state: CollationState, of attribute: Attribute) {
        guard state.strength != .none, state != .implicit(.standard) else { return }
        states[attribute] = state
        areUsed = true
    }
}
