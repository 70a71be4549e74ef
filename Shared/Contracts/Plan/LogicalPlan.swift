import Base

/// A statement in any of our languages, before names are bound: what a gateway's parser makes and a node executes.
///
/// A tree as an array (ARCHITECTURE.md: no recursive messages): a node names its children by index, children lie before
/// their parents, and node 0 is `none`, so that child 0 means "not there". What the children, the name and the number
/// of a node mean is said at its kind (`PlanKind`), in the words of `PlanShape`.
package struct LogicalPlan: Hashable, Sendable {
    /// The language the statement was written in: names are compared and types are resolved by its rules.
    package enum Dialect: UInt8, Hashable, Sendable { case postgres = 1 }

    package struct Node: Hashable, Sendable {
        package var kind: PlanKind
        /// Indices into `nodes`, each below the node's own; 0: absent.
        package var children: [Int32]
        package var name: String
        package var number: Int64
        package var flags: PlanFlags
        /// The character of the statement where this begins, from 1, as errors point at it; 0: none.
        package var position: Int32

        package init(
            _ kind: PlanKind, _ children: [Int32] = [], name: String = "", number: Int64 = 0, flags: PlanFlags = [],
            position: Int32 = 0
        ) {
            (self.kind, self.children, self.name) = (kind, children, name)
            (self.number, self.flags, self.position) = (number, flags, position)
        }
    }

    /// Nodes of one statement; a parser refuses longer ones.
    package static let nodeLimit = 1 << 20
    /// How deep a plan may nest: every pass over it may recurse on a thread's stack.
    package static let depthLimit = 1000

    package var dialect: Dialect
    package var nodes: [Node]
    /// The statement.
    package var root: Int32

    package init(dialect: Dialect, nodes: [Node], root: Int32) {
        (self.dialect, self.nodes, self.root) = (dialect, nodes, root)
    }

    /// A node of a plan that was validated; `none` for an index that is none of it.
    package subscript(index: Int32) -> Node {
        nodes.indices.contains(Int(index)) ? nodes[Int(index)] : Node(.none)
    }

    /// The elements of the list at `index`; none for an absent one.
    package func list(_ index: Int32) -> [Int32] { self[index].kind == .list ? self[index].children : [] }

    /// Throws unless this is a tree of bounded depth in which every node has the children of its kind.
    ///
    /// A plan comes over the wire: what passes here can be walked without a check of indices, and without a count of
    /// steps (no node has two parents, so a pass over the tree is linear).
    package func validate() throws(DatabaseError) {
        guard nodes.count <= Self.nodeLimit, let first = nodes.first, first == Node(.none) else {
            throw DatabaseError(.protocolViolation, "malformed plan: no node 0, or too many nodes")
        }
        guard root > 0, root < nodes.count,
            [.statement, .query].contains(nodes[Int(root)].kind.shape.family)
        else {
            throw DatabaseError(.protocolViolation, "malformed plan: no statement at its root")
        }
        var depths = [UInt16](repeating: 0, count: nodes.count)
        var hasParent = [Bool](repeating: false, count: nodes.count)
        for index in 1..<max(nodes.count, 1) {
            let node = nodes[index]
            var depth: UInt16 = 0
            for child in node.children where child != 0 {
                guard child > 0, child < index, !hasParent[Int(child)] else {
                    throw DatabaseError(.protocolViolation, "malformed plan: node \(index) has child \(child)")
                }
                hasParent[Int(child)] = true
                depth = max(depth, depths[Int(child)] &+ 1)
            }
            guard depth < Self.depthLimit else {
                throw DatabaseError(.limitExceeded, "plan nests deeper than \(Self.depthLimit)")
            }
            depths[index] = depth
            guard node.kind.shape.accepts(node, in: self) else {
                throw DatabaseError(.protocolViolation, "malformed plan: node \(index) is no \(node.kind)")
            }
        }
    }
}

/// What is said of a node beside its kind; the meaning of each is the same for every kind that has it.
package struct PlanFlags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32

    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// NOT in front of, or in, what the node says (NOT LIKE, IS NOT NULL, NOT DEFERRABLE …).
    package static let isNegated = PlanFlags(rawValue: 1 << 0)
    /// DISTINCT: of a select block, an aggregate's arguments, GROUP BY.
    package static let isDistinct = PlanFlags(rawValue: 1 << 1)
    /// ALL: of a set operation, a quantified comparison, DEALLOCATE, CLOSE, FETCH, privileges.
    package static let isAll = PlanFlags(rawValue: 1 << 2)
    package static let isLateral = PlanFlags(rawValue: 1 << 3)
    /// WITH RECURSIVE; NATURAL of a join has a flag of its own.
    package static let isRecursive = PlanFlags(rawValue: 1 << 4)
    package static let isNatural = PlanFlags(rawValue: 1 << 5)
    /// IF EXISTS, IF NOT EXISTS.
    package static let isConditional = PlanFlags(rawValue: 1 << 6)
    /// CASCADE (else: RESTRICT, said or not).
    package static let isCascade = PlanFlags(rawValue: 1 << 7)
    /// DESC.
    package static let isDescending = PlanFlags(rawValue: 1 << 8)
    package static let isNullsFirst = PlanFlags(rawValue: 1 << 9)
    package static let isNullsLast = PlanFlags(rawValue: 1 << 10)
    package static let isSymmetric = PlanFlags(rawValue: 1 << 11)
    /// `count(*)`.
    package static let isStar = PlanFlags(rawValue: 1 << 12)
    package static let isVariadic = PlanFlags(rawValue: 1 << 13)
    package static let isWithinGroup = PlanFlags(rawValue: 1 << 14)
    /// Written in a form of the language rather than with a name: means the built-in thing, whatever the search path
    /// (EXTRACT(…), AT TIME ZONE, the type `integer` as against `"integer"`).
    package static let isBuiltIn = PlanFlags(rawValue: 1 << 15)
    /// ROW(…) as against (…, …).
    package static let isExplicit = PlanFlags(rawValue: 1 << 16)
    /// GROUP BY DISTINCT.
    package static let isGroupDistinct = PlanFlags(rawValue: 1 << 17)
    /// FETCH FIRST … WITH TIES.
    package static let isWithTies = PlanFlags(rawValue: 1 << 18)
    package static let isNoWait = PlanFlags(rawValue: 1 << 19)
    package static let isSkipLocked = PlanFlags(rawValue: 1 << 20)
    /// ONLY, in front of a table.
    package static let isOnly = PlanFlags(rawValue: 1 << 21)
    /// WITH ORDINALITY.
    package static let isWithOrdinality = PlanFlags(rawValue: 1 << 22)
    package static let isTemporary = PlanFlags(rawValue: 1 << 23)
    package static let isUnlogged = PlanFlags(rawValue: 1 << 24)
    /// OR REPLACE.
    package static let isReplace = PlanFlags(rawValue: 1 << 25)
    package static let isUnique = PlanFlags(rawValue: 1 << 26)
    /// CONCURRENTLY.
    package static let isConcurrent = PlanFlags(rawValue: 1 << 27)
    package static let isDeferrable = PlanFlags(rawValue: 1 << 28)
    package static let isInitiallyDeferred = PlanFlags(rawValue: 1 << 29)
    /// NOT VALID of a constraint, WITH NO DATA of CREATE TABLE AS.
    package static let isWithoutData = PlanFlags(rawValue: 1 << 30)
    /// What a kind says it is: see there (`PlanKind`).
    package static let isMarked = PlanFlags(rawValue: 1 << 31)
}
