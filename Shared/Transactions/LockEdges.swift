import Base

/// A transaction waits for another one at a shard.
package struct WaitEdge: Hashable, Sendable {
    package let waiter: Rank
    package let holder: Rank

    package init(waiter: Rank, holder: Rank) { (self.waiter, self.holder) = (waiter, holder) }
}

// Circles of transactions that wait for each other.
extension LockTable {
    /// A circle through a request that waits, among those that wait here: whom it leads through, the request's owner
    /// first. Nil: there is none.
    ///
    /// It leads through locks only: nobody waits in a line behind one that waits for him.
    func circle(through token: UInt64) -> [LockOwner]? {
        guard let start = sequence(of: token), let owner = waiting[start]?.owner, holders[owner.id] != nil else {
            return nil
        }
        var open = [start], origin: [UInt64: UInt64] = [start: start]
        while let sequence = open.popLast() {
            guard let request = waiting[sequence] else { continue }
            let isClosed = meets(.holders, request) { obstacle in
                guard case .holder(let id) = obstacle else { return false }
                if id == owner.id { return true }
                for place in ownLines[id]?.places(before: .max) ?? [] where origin[place.sequence] == nil {
                    origin[place.sequence] = sequence
                    open.append(place.sequence)
                }
                return false
            }
            guard isClosed else { continue }
            var path: [LockOwner] = [], step = sequence
            while true {
                if let member = waiting[step]?.owner { path.append(member) }
                guard let before = origin[step], before != step else { return path.reversed() }
                step = before
            }
        }
        return nil
    }

    /// Who has waited since `limit` or longer for whom, without ends that come by themselves: the first `count`.
    ///
    /// Waits of one-shot transactions are among them: a circle may lead through both kinds.
    func edges(waitingSince limit: UInt64, count: Int) -> [WaitEdge] {
        var edges: Set<WaitEdge> = [], list: [WaitEdge] = []
        for (_, request) in waiting.sorted(by: { $0.key < $1.key }) {
            guard let owner = request.owner, request.since <= limit else { continue }
            // To find out who is overtaken is work for each of them: with very many the lines must be enough.
            let kind = list.count < 256 || holders[owner.id] == nil ? Obstacles.all : .holders
            var open = [request], seen: Set<UInt64> = []
            while let next = open.popLast() {
                _ = meets(kind, next) { obstacle in
                    var rank: Rank?
                    switch obstacle {
                    case .holder(let id):
                        if let holder = holders[id], !holder.isEnding { rank = holder.owner.rank }
                    case .waiter(let sequence):
                        guard let other = waiting[sequence], seen.insert(sequence).inserted else { return false }
                        rank = other.owner?.rank
                        if other.owner == nil { open.append(other) }
                    }
                    guard let rank, rank.transaction != owner.rank.transaction else { return false }
                    let edge = WaitEdge(waiter: owner.rank, holder: rank)
                    if edges.insert(edge).inserted { list.append(edge) }
                    return list.count >= count
                }
                if list.count >= count { return list }
            }
        }
        return list
    }

    /// Whether any transaction has waited since `limit` or longer.
    func hasWaits(since limit: UInt64) -> Bool { waiting.contains { $0.value.owner != nil && $0.value.since <= limit } }

    /// The requests of a part or scope that wait.
    func requests(at id: PartID) -> [LockRequest] {
        (ownLines[id]?.places(before: .max) ?? []).compactMap { waiting[$0.sequence] }
    }

    /// The requests of a transaction that wait.
    func requests(of transaction: TransactionID) -> [LockRequest] {
        waiting.values.filter { $0.owner?.id.transaction == transaction }.sorted { $0.sequence < $1.sequence }
    }
}
