import Base

/// Who waits for whom in the whole cluster, as the shards report it; it finds circles, and says who has to give way.
/// A value at one shard's leader; lost with it, and made again by the next reports.
///
/// Every shard reports all its waits again and again, each report in place of the one before. Reports are of different
/// moments, so a circle may be put together from waits that were never there at one time. Therefore a wait counts from
/// when it was first reported to when it was last, and a circle only if there is a time that all its waits have in
/// common, as long as reports are apart: since waits end with a grant or a refusal only, such a circle is real. The
/// youngest of it gives way. It is named to the shard where it waits in that circle, with that one's next report.
package struct WaitGraph: Sendable {
    /// How much is remembered, and for how long.
    package struct Limits: Hashable, Sendable {
        /// Of one shard; more are not looked at.
        package var edges = 4096
        package var shards = 16_384
        /// What is not reported again by then is over.
        package var lifeMilliseconds: UInt64 = 1000
        /// For so long all waits of a circle have been there.
        package var confirmMilliseconds: UInt64 = 50
        package init() {}
    }

    private struct Source {
        /// When each was first reported.
        var edges: [WaitEdge: UInt64] = [:]
        var reportedAt: UInt64
    }

    private let limits: Limits
    private var sources: [UInt64: Source] = [:]
    /// Who was named, and until when nobody else is because of him.
    private var victims: [TransactionID: UInt64] = [:]

    package init(limits: Limits = .init()) { self.limits = limits }

    /// Shards with waits.
    package var sourceCount: Int { sources.count }

    /// A shard's waits, all of them. Returns the transactions that wait there and have to give way.
    package mutating func report(_ edges: [WaitEdge], from source: UInt64, now: UInt64) -> [TransactionID] {
        expire(now)
        guard !edges.isEmpty else {
            sources[source] = nil
            return []
        }
        guard sources[source] != nil || sources.count < limits.shards else { return [] }
        let known = sources[source]?.edges ?? [:]
        var next: [WaitEdge: UInt64] = [:]
        for edge in edges.prefix(limits.edges) { next[edge] = known[edge] ?? now }
        sources[source] = Source(edges: next, reportedAt: now)
        return search(from: source, now)
    }

    private mutating func expire(_ now: UInt64) {
        sources = sources.filter { now < $0.value.reportedAt &+ limits.lifeMilliseconds }
        victims = victims.filter { now < $0.value }
    }

    /// A wait, and the time that it is known to have been there.
    private struct Span {
        let edge: WaitEdge
        let first: UInt64
        let last: UInt64
    }

    /// Looks for circles until there is none without a victim; those that wait at `source` are named now.
    private mutating func search(from source: UInt64, _ now: UInt64) -> [TransactionID] {
        var spans: [Rank: [Span]] = [:]
        for (_, shard) in sources.sorted(by: { $0.key < $1.key }) {
            let edges = shard.edges.sorted { ($0.key.waiter, $0.key.holder) < ($1.key.waiter, $1.key.holder) }
            for (edge, first) in edges where first < shard.reportedAt {
                spans[edge.waiter, default: []].append(Span(edge: edge, first: first, last: shard.reportedAt))
            }
        }
        var local: Set<Rank> = []
        for edge in sources[source]?.edges.keys.map({ $0 }) ?? [] { local.insert(edge.waiter) }
        var named: [TransactionID] = [], gone: Set<Rank> = []
        for rank in spans.keys where victims[rank.transaction] != nil { gone.insert(rank) }
        for rank in local.sorted() {
            while !gone.contains(rank), let circle = circle(through: rank, spans, without: gone),
                let youngest = circle.map(\.edge.waiter).max()
            {
                // Another shard's victim frees us too; that shard hears of it with its next report.
                gone.insert(youngest)
                guard local.contains(youngest) else { continue }
                named.append(youngest.transaction)
                victims[youngest.transaction] = now &+ limits.lifeMilliseconds
            }
        }
        return named
    }

    /// A circle of waits that were there together, the shortest first.
    private func circle(through start: Rank, _ spans: [Rank: [Span]], without gone: Set<Rank>) -> [Span]? {
        struct Step {
            let span: Span
            let before: Int
            let first: UInt64
            let last: UInt64
        }
        var steps: [Step] = [], reached: Set<Rank> = [start], next = 0
        func extend(_ rank: Rank, _ before: Int) -> Int? {
            for span in spans[rank] ?? [] where !gone.contains(span.edge.holder) {
                let first = before < 0 ? span.first : max(steps[before].first, span.first)
                let last = before < 0 ? span.last : min(steps[before].last, span.last)
                guard first &+ limits.confirmMilliseconds <= last else { continue }
                let isClosed = span.edge.holder == start
                guard isClosed || reached.insert(span.edge.holder).inserted else { continue }
                steps.append(Step(span: span, before: before, first: first, last: last))
                if isClosed { return steps.count - 1 }
            }
            return nil
        }
        var end = extend(start, -1)
        while end == nil, next < steps.count {
            end = extend(steps[next].span.edge.holder, next)
            next += 1
        }
        guard var place = end else { return nil }
        var circle: [Span] = []
        while place >= 0 {
            circle.append(steps[place].span)
            place = steps[place].before
        }
        return circle.reversed()
    }
}
