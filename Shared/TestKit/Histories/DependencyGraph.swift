/// A directed graph without parallel edges, made once: its knots (strongly connected components), and short paths in
/// them.
struct DependencyGraph {
    /// An edge. Of several between the same nodes the one with the least rank stays.
    struct Edge {
        var from: Int32
        var to: Int32
        var rank: UInt8
        /// What it stands for; the graph does not care.
        var label: Int32
    }

    private let nodeCount: Int
    /// Sorted by `from`; those of a node begin at its offset.
    let edges: [Edge]
    private let offsets: [Int]

    init(nodeCount: Int, _ given: [Edge]) {
        self.nodeCount = nodeCount
        var ends = [Int](repeating: 0, count: nodeCount + 1)
        for edge in given { ends[Int(edge.from) + 1] += 1 }
        for node in 0..<nodeCount { ends[node + 1] += ends[node] }
        var sorted = given
        var next = ends
        for edge in given {
            sorted[next[Int(edge.from)]] = edge
            next[Int(edge.from)] += 1
        }
        var kept: [Edge] = []
        kept.reserveCapacity(given.count)
        var offsets: [Int] = []
        offsets.reserveCapacity(nodeCount + 1)
        // Where the edge to a node is kept; less than the offset of the node at hand: it is another node's.
        var places = [Int](repeating: -1, count: nodeCount)
        for node in 0..<nodeCount {
            offsets.append(kept.count)
            for position in ends[node]..<ends[node + 1] {
                let edge = sorted[position]
                let place = places[Int(edge.to)]
                if place >= offsets[node] {
                    if edge.rank < kept[place].rank { kept[place] = edge }
                } else {
                    places[Int(edge.to)] = kept.count
                    kept.append(edge)
                }
            }
        }
        offsets.append(kept.count)
        edges = kept
        self.offsets = offsets
    }

    /// The sets of nodes that all lead to each other, of two nodes at least. Tarjan's algorithm with a stack of its
    /// own: a path may be as long as the history.
    func knots() -> [[Int32]] {
        var result: [[Int32]] = []
        var order = [Int32](repeating: 0, count: nodeCount)  // 0: not visited.
        var low = order
        var isOpen = [Bool](repeating: false, count: nodeCount)
        var open: [Int32] = []
        var path: [(node: Int, edge: Int)] = []
        var visited: Int32 = 0
        for root in 0..<nodeCount where order[root] == 0 && offsets[root] < offsets[root + 1] {
            path.append((root, offsets[root]))
            while let (node, edge) = path.last {
                if order[node] == 0 {
                    visited += 1
                    order[node] = visited
                    low[node] = visited
                    isOpen[node] = true
                    open.append(Int32(node))
                }
                if edge < offsets[node + 1] {
                    path[path.count - 1].edge = edge + 1
                    let target = Int(edges[edge].to)
                    if order[target] == 0 {
                        path.append((target, offsets[target]))
                    } else if isOpen[target] {
                        low[node] = min(low[node], order[target])
                    }
                    continue
                }
                path.removeLast()
                if let parent = path.last?.node { low[parent] = min(low[parent], low[node]) }
                guard low[node] == order[node] else { continue }
                var knot: [Int32] = []
                while let member = open.popLast() {
                    isOpen[Int(member)] = false
                    knot.append(member)
                    if Int(member) == node { break }
                }
                if knot.count > 1 { result.append(knot) }
            }
        }
        return result
    }

    /// A path inside a knot from some node to one that ends it: the shortest, unless the knot is so large that looking
    /// everywhere would take too long. None is shorter than `minimum`. A cycle is a path that its start ends.
    func shortPath(
        in knot: [Int32], minimum: Int, maximumSteps: Int = 5_000_000, isEnd: (_ start: Int32, _ node: Int32) -> Bool
    ) -> [Edge] {
        var isInside = [Bool](repeating: false, count: nodeCount)
        for node in knot { isInside[Int(node)] = true }
        var arrival = [Int](repeating: -1, count: nodeCount)  // The edge by which a node was reached first.
        var seen = [Int32](repeating: -1, count: nodeCount)
        var best: [Edge] = []
        var steps = 0
        for start in knot.sorted() {
            if best.count == minimum || steps > maximumSteps && !best.isEmpty { break }
            var layer = [start]
            var length = 1
            var last: Int?
            while last == nil, !layer.isEmpty, best.isEmpty || length < best.count {
                var following: [Int32] = []
                for node in layer where last == nil {
                    for edge in offsets[Int(node)]..<offsets[Int(node) + 1] {
                        steps += 1
                        let target = edges[edge].to
                        if isInside[Int(target)], isEnd(start, target) {
                            last = edge
                            break
                        }
                        guard isInside[Int(target)], seen[Int(target)] != start else { continue }
                        seen[Int(target)] = start
                        arrival[Int(target)] = edge
                        following.append(target)
                    }
                }
                layer = following
                length += 1
            }
            guard var edge = last else { continue }
            var path = [edges[edge]]
            while edges[edge].from != start {
                edge = arrival[Int(edges[edge].from)]
                path.append(edges[edge])
            }
            best = path.reversed()
        }
        return best
    }
}
