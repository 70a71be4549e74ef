import ServiceKit

/// Nodes and shards as tables for people, from what the coordinator that leads says of itself.
package struct PlacementTable {
    private let nodes: [JSON]
    private let shards: [JSON]
    /// The process behind each number of a node.
    private let names: [Int64: String]

    /// Nil for a process that is not the coordinator that leads. `processes` are the ids and addresses of the plan.
    package init?(_ details: JSON, processes: [(id: String, addresses: [String])]) {
        guard let nodes = details["nodes"]?.elements, let shards = details["shards"]?.elements, !nodes.isEmpty,
            shards.allSatisfy({ $0["replicas"] != nil })
        else { return nil }
        (self.nodes, self.shards) = (nodes, shards)
        var names: [Int64: String] = [:]
        for node in nodes {
            guard let id = node["id"]?.integer else { continue }
            let addresses = Set((node["addresses"]?.elements ?? []).compactMap(\.text))
            names[id] = processes.first { !addresses.isDisjoint(with: $0.addresses) }?.id
        }
        self.names = names
    }

    /// What the tables show; everything else of the coordinator is shown as it is.
    package static let members: Set<String> = ["nodes", "shards"]

    package var lines: [String] { Console.table(nodeRows) + [""] + Console.table(shardRows) }

    // MARK: Nodes

    private var nodeRows: [[String]] {
        [["NODE", "PROCESS", "STATE", "ZONE", "SHARDS", "LEADS"]]
            + nodes.map { node in
                let id = node["id"]?.integer ?? 0
                let state = (node["state"]?.text ?? "?") + (node["draining"]?.bool == true ? ", draining" : "")
                let zone = node["zone"]?.text ?? ""
                let held = shards.count { (Self.ids($0, "replicas") + Self.ids($0, "learners")).contains(id) }
                return [
                    "\(id)", names[id] ?? "-", state, zone.isEmpty ? "-" : zone, "\(held)",
                    "\(shards.count { $0["leader"]?.integer == id })",
                ]
            }
    }

    private static func ids(_ shard: JSON, _ name: String) -> [Int64] {
        (shard[name]?.elements ?? []).compactMap(\.integer)
    }

    // MARK: Shards

    private var shardRows: [[String]] {
        [["SHARD", "BUCKETS", "LEADER", "REPLICAS", "SIZE", "RATE", "LAG", "UNDER WAY"]]
            + shards.map { shard in
                let leader = shard["leader"]?.integer ?? 0
                return [
                    "\(shard["id"]?.integer ?? 0)", Self.buckets(shard), leader == 0 ? "none" : place(leader),
                    replicas(shard), Self.size(shard["bytes"]?.integer),
                    shard["rate"]?.integer.map { "\($0)/s" } ?? "-", lag(shard), Self.underWay(shard),
                ]
            }
    }

    /// A node's number, with its zone where there is one.
    private func place(_ node: Int64) -> String {
        let zone = nodes.first { $0["id"]?.integer == node }?["zone"]?.text ?? ""
        return zone.isEmpty ? "\(node)" : "\(node)@\(zone)"
    }

    private static func buckets(_ shard: JSON) -> String {
        (shard["buckets"]?.elements ?? []).compactMap { range -> String? in
            guard let first = range.elements.first?.integer, let end = range.elements.last?.integer else { return nil }
            return end > first ? "\(first)-\(end - 1)" : nil
        }.joined(separator: ",")
    }

    /// `1 2 3, learner 4`: who votes, and who copies.
    private func replicas(_ shard: JSON) -> String {
        let voters = Self.ids(shard, "replicas").map(place).joined(separator: " ")
        let learners = Self.ids(shard, "learners").map { "learner \(place($0))" }
        return ([voters] + learners).filter { !$0.isEmpty }.joined(separator: ", ")
    }

    /// The replica that is furthest behind, in entries, at the last reports.
    private func lag(_ shard: JSON) -> String {
        let known = (shard["applied"]?.elements ?? []).compactMap { report -> (node: Int64, entries: Int64)? in
            guard let node = report["node"]?.integer, let lag = report["lag"]?.integer else { return nil }
            return (node, lag)
        }
        guard let last = known.max(by: { ($0.entries, $1.node) < ($1.entries, $0.node) }) else { return "-" }
        return last.entries == 0 ? "0" : "\(last.entries) (node \(last.node))"
    }

    private static func underWay(_ shard: JSON) -> String {
        func node(_ name: String) -> Int64? { shard[name]?.integer.flatMap { $0 == 0 ? nil : $0 } }
        var steps: [String] = []
        if let adding = node("adding") {
            let isCopying = ids(shard, "learners").contains(adding)
            let begin = isCopying ? "node \(adding) copies" : "node \(adding) votes"
            steps.append(begin + (node("replacing").map { ", then node \($0) leaves" } ?? ""))
        }
        if let next = node("nextLeader") { steps.append("node \(next) is to lead") }
        if steps.isEmpty, shard["settled"]?.bool == false { steps.append("replicas change") }
        return steps.isEmpty ? "-" : steps.joined(separator: "; ")
    }

    /// Bytes for people: `416 B`, `12 MB`.
    static func size(_ bytes: Int64?) -> String {
        guard let bytes else { return "-" }
        var (value, unit) = (bytes, 0)
        while value >= 10_000, unit < 4 { (value, unit) = (value / 1000, unit + 1) }
        return "\(value) \(["B", "kB", "MB", "GB", "TB"][unit])"
    }
}
