import Base

/// What a replica must not forget between two lives: without it, it could vote twice in a term.
package struct HardState: Hashable, Sendable {
    package var term: Term
    package var votedFor: NodeID?

    package init(term: Term, votedFor: NodeID?) {
        self.term = term
        self.votedFor = votedFor
    }
}
