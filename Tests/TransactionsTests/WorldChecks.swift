import Base
import DataModel
import Transactions

/// What must be true when a world has come to rest.
extension SimulatedWorld {
    func check() {
        checkRemains()
        for attempt in attempts where !attempt.isReadOnly { checkAtomic(attempt) }
        for call in calls where call.operation.isWrite { checkCall(call) }
        checkOrder()
        checkRealTime()
        if weather.isOrdered { checkProgress() }
    }

    /// Where nothing fails, nobody waits for long: neither for locks that are never free, nor for recovery.
    private func checkProgress() {
        // The locks of a reader that has died go by themselves, but not at once.
        let limit = attempts.allSatisfy(\.isAlive) ? 2500 : 2500 + limits.holdMilliseconds
        for attempt in attempts where attempt.life == nil {
            let end = attempt.answeredAt ?? .max
            if end - attempt.begunAt > limit { violations.append("an attempt has taken \(end - attempt.begunAt) ms") }
        }
    }

    private func list(_ key: Int) -> [UInt64] { shards[position(of: key)].lists[key] ?? [] }

    /// No lock, no record and no part is left anywhere.
    private func checkRemains() {
        for shard in shards {
            if !shard.records.isEmpty { violations.append("\(shard.records.count) records are left") }
            if !shard.participant.locks.isFree { violations.append("a lock is left") }
            if shard.participant.partCount > 0 { violations.append("a part is left") }
            if shard.participant.verdictCount > 0 { violations.append("a verdict is left") }
            if shard.participant.contradictions > 0 { violations.append("a participant contradicts the anchor") }
            if shard.participant.intentBytes != 0 { violations.append("bytes of intents are left") }
        }
    }

    /// At all its keys or at none, once, and as the client was told.
    private func checkAtomic(_ attempt: Attempt) {
        let counts = attempt.operations.filter(\.isWrite).map { operation in
            list(operation.key).count { $0 == attempt.id.rawValue }
        }
        let isThere = counts.allSatisfy { $0 == 1 }
        guard isThere || counts.allSatisfy({ $0 == 0 }) else {
            return violations.append("half done: \(counts), the client was told \(told(attempt))")
        }
        if attempt.timestamps.count > 1 { violations.append("two timestamps of one commit") }
        switch attempt.answer {
        case .committed: if !isThere { violations.append("told committed, and it is not") }
        case .aborted, .failed: if isThere { violations.append("told \(told(attempt)), and it is there") }
        case .unknown, nil: break
        }
    }

    private func told(_ attempt: Attempt) -> String { attempt.answer.map { "\($0)" } ?? "nothing" }

    private func checkCall(_ call: Call) {
        let count = list(call.operation.key).count { $0 == call.id }
        switch call.isDone {
        case true: if count != 1 { violations.append("a call that was done is there \(count) times") }
        case false: if count != 0 { violations.append("a call that was refused is there") }
        case nil: if count > 1 { violations.append("a call is there \(count) times") }
        }
    }

    /// Every read of a committed transaction and of a call that was done: who, which key, what.
    private var reads: [(id: UInt64, begunAt: UInt64, key: Int, seen: [UInt64])] {
        var found: [(id: UInt64, begunAt: UInt64, key: Int, seen: [UInt64])] = []
        for attempt in attempts {
            guard case .committed = attempt.answer else { continue }
            for key in attempt.reads.keys.sorted() {
                found.append((attempt.id.rawValue, attempt.begunAt, key, attempt.reads[key] ?? []))
            }
        }
        for call in calls where !call.operation.isWrite && call.isDone == true {
            for key in call.seen.keys.sorted() { found.append((call.id, call.begunAt, key, call.seen[key] ?? [])) }
        }
        return found
    }

    /// Lists and reads say who came before whom; there is no circle in it.
    private func checkOrder() {
        var successors: [UInt64: Set<UInt64>] = [:], before: [UInt64: Int] = [:]
        func edge(_ from: UInt64, _ to: UInt64) {
            guard from != to, successors[from, default: []].insert(to).inserted else { return }
            before[to, default: 0] += 1
            before[from, default: 0] += 0
        }
        for key in 0..<(keysPerShard * shards.count) {
            let ids = list(key)
            for (left, right) in zip(ids, ids.dropFirst()) { edge(left, right) }
        }
        for read in reads {
            let ids = list(read.key)
            guard read.seen.count <= ids.count, read.seen.elementsEqual(ids.prefix(read.seen.count)) else {
                return violations.append("somebody has read what never was")
            }
            if let last = read.seen.last { edge(last, read.id) }
            if read.seen.count < ids.count { edge(read.id, ids[read.seen.count]) }
        }
        var free = before.filter { $0.value == 0 }.map(\.key), done = 0
        while let id = free.popLast() {
            done += 1
            for next in successors[id] ?? [] {
                before[next, default: 0] -= 1
                if before[next] == 0 { free.append(next) }
            }
        }
        if done < before.count { violations.append("no order explains what was read and written") }
    }

    /// What was acknowledged before somebody began, he has seen, and he comes behind it.
    private func checkRealTime() {
        var ended: [UInt64: UInt64] = [:], begun: [UInt64: UInt64] = [:]
        for attempt in attempts {
            begun[attempt.id.rawValue] = attempt.begunAt
            if case .committed = attempt.answer { ended[attempt.id.rawValue] = attempt.answeredAt }
        }
        for call in calls {
            begun[call.id] = call.begunAt
            if call.isDone == true { ended[call.id] = call.endedAt }
        }
        for read in reads {
            for id in list(read.key).dropFirst(read.seen.count) {
                guard let end = ended[id], end < read.begunAt else { continue }
                return violations.append("a read has missed what was acknowledged before it began")
            }
        }
        for key in 0..<(keysPerShard * shards.count) {
            var latestBegin: UInt64 = 0
            for id in list(key) {
                if let end = ended[id], end < latestBegin {
                    return violations.append("what was acknowledged comes behind what began later")
                }
                latestBegin = max(latestBegin, begun[id] ?? 0)
            }
        }
    }
}
