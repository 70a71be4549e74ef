import Base

/// Finds what clients of transactions have seen that an isolation level forbids.
///
/// It builds the graph of who came before whom as far as reads prove it (Adya's direct serialization graph, with the
/// versions' order taken from the lists that clients read, as Elle does), adds real time, and looks for cycles: first
/// among the edges that no level lets close a cycle, then with weaker ones. A history without an anomaly is not proved
/// to be good, but for lists that are read in the end little escapes: values never read are all that is unknown.
///
/// Three checkers of histories stand side by side. `LinearizabilityChecker` tries orders of single operations on one
/// key: it is exact, but its search grows with how many overlap, and it knows nothing that spans keys.
/// Tests/Clients/linearizability.py is the same for recordings of real clients with plain Redis commands. This one is
/// for transactions over several keys, in time that grows with the history; recordings of real clients come to it as
/// files (`orbit-simulate check`).
///
/// An anomaly explains the knot (the strongly connected component) that it lies in: nothing milder is told of a knot
/// with a transaction that something worse was told of. What a level says of a history is not changed by that.
package struct IsolationChecker: Sendable {
    package init() {}

    /// Everything wrong with a history, the worst first.
    package func check(_ history: TransactionHistory) -> IsolationReport {
        var evidence = Evidence(HistoryIndex(history))
        let count = history.transactions.count
        let edges = evidence.dependencies.enumerated().map { label, dependency in
            DependencyGraph.Edge(
                from: Int32(dependency.from), to: Int32(dependency.to), rank: dependency.rank, label: Int32(label))
        }
        let graph = DependencyGraph(nodeCount: count, edges)
        var isInKnot = [Bool](repeating: false, count: count)
        for knot in graph.knots() {
            for node in knot { isInKnot[Int(node)] = true }
        }
        let inside = graph.edges.filter { isInKnot[Int($0.from)] && isInKnot[Int($0.to)] }
        for step in Step.allCases {
            if step == .readSkew { tellSuspects(&evidence) }
            step.search(inside, count, &evidence)
        }
        return evidence.report
    }

    private func tellSuspects(_ evidence: inout Evidence) {
        for suspect in evidence.suspects where evidence.named.isDisjoint(with: suspect.transactions) {
            evidence.add(suspect.kind, suspect.transactions, suspect.text)
        }
    }

    /// What cycles are looked for, from the worst to the mildest.
    private enum Step: CaseIterable {
        case dirtyWrite, circularInformation, readSkew, writeSkew, realTime

        private var maximumRank: UInt8 {
            switch self {
            case .dirtyWrite: Dependency.Kind.writeWrite.rawValue
            case .circularInformation: Dependency.Kind.writeRead.rawValue
            case .readSkew, .writeSkew: Dependency.Kind.readWrite.rawValue
            case .realTime: Dependency.Kind.time.rawValue
            }
        }

        func search(_ edges: [DependencyGraph.Edge], _ count: Int, _ evidence: inout Evidence) {
            let used = edges.filter { $0.rank <= maximumRank }
            guard !used.isEmpty else { return }
            guard self == .readSkew else {
                search(DependencyGraph(nodeCount: count, used), count, &evidence)
                return
            }
            // Each transaction twice, the second time as one that a rw has led to: no other rw leads on from there.
            var doubled: [DependencyGraph.Edge] = []
            for var edge in used {
                if edge.rank == Dependency.Kind.readWrite.rawValue {
                    edge.to += Int32(count)
                    doubled.append(edge)
                } else {
                    doubled.append(edge)
                    edge.from += Int32(count)
                    doubled.append(edge)
                }
            }
            search(DependencyGraph(nodeCount: count * 2, doubled), count, &evidence)
        }

        private func search(_ graph: DependencyGraph, _ count: Int, _ evidence: inout Evidence) {
            for knot in graph.knots() where !knot.contains(where: { evidence.named.contains(Int($0) % count) }) {
                let cycle =
                    self == .realTime
                    ? Self.cycleInTime(graph, count, knot, evidence)
                    : graph.shortPath(in: knot, minimum: 2) { $0 == $1 }.map { evidence.dependencies[Int($0.label)] }
                evidence.add(
                    kind(cycle), cycle.map(\.from) + cycle.flatMap(\.witnesses), Self.summary(cycle, evidence.index))
            }
        }

        /// A path against the order in time, and back in one step. There always is one: where a cycle has two steps in
        /// time, the first to end had ended before the other one's second began, and cuts the cycle short.
        private static func cycleInTime(
            _ graph: DependencyGraph, _ count: Int, _ knot: [Int32], _ evidence: Evidence
        ) -> [Dependency] {
            let edges = graph.edges.filter { evidence.dependencies[Int($0.label)].kind != .time }
            let path = DependencyGraph(nodeCount: count, edges).shortPath(in: knot, minimum: 1) { start, node in
                evidence.interval(Int(node)).end < evidence.interval(Int(start)).begin
            }
            guard let first = path.first, let last = path.last else { return [] }
            let back = Dependency(
                kind: .time, from: Int(last.to), to: Int(first.from), key: nil, before: nil, after: nil)
            return path.map { evidence.dependencies[Int($0.label)] } + [back]
        }

        private static func summary(_ cycle: [Dependency], _ index: HistoryIndex) -> String {
            let steps = cycle.map { "\n  " + $0.explain(index) }
            return "each of these came before the next one" + steps.joined()
        }

        private func kind(_ cycle: [Dependency]) -> IsolationAnomaly.Kind {
            switch self {
            case .dirtyWrite: return .dirtyWrite
            case .circularInformation: return .circularInformation
            case .readSkew:
                return cycle.count { $0.rank == Dependency.Kind.readWrite.rawValue } == 1 ? .readSkew : .nonadjacent
            case .writeSkew: return .writeSkew
            case .realTime: return .realTime
            }
        }
    }
}
