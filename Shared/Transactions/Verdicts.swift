import Base
import DataModel

/// Verdicts in the order in which they expire.
struct VerdictQueue: Sendable {
    private var items: [(notedAt: UInt64, id: PartID)] = []
    private var first = 0
    private var isSorted = true

    var count: Int { items.count - first }

    mutating func append(_ notedAt: UInt64, _ id: PartID) {
        // Those read from the store come in the order of their ids.
        if let last = items.last, last.notedAt > notedAt { isSorted = false }
        items.append((notedAt, id))
    }

    /// Takes the oldest one out, if it was noted at `limit` or before.
    mutating func pop(notedBy limit: UInt64) -> (notedAt: UInt64, id: PartID)? {
        if !isSorted {
            items.removeSubrange(..<first)
            first = 0
            items.sort { ($0.notedAt, $0.id) < ($1.notedAt, $1.id) }
            isSorted = true
        }
        guard first < items.count, items[first].notedAt <= limit else { return nil }
        let item = items[first]
        first += 1
        if first > 1024, first > items.count / 2 {
            items.removeSubrange(..<first)
            first = 0
        }
        return item
    }
}

extension Participant {
    /// What has become of the part is remembered, in place of what was stored of it.
    mutating func conclude(
        _ id: PartID, committed: Timestamp?, isFirm: Bool, _ moment: Moment, _ duties: inout [ParticipantDuty]
    ) {
        let record = VerdictRecord(committed: committed, isFirm: isFirm, notedAt: moment.now)
        if let state = parts.removeValue(forKey: id) { intentBytes -= state.effects.payload.count }
        put(.over(record), id, &duties)
        remember(Verdict(record: record, index: moment.entryIndex), id)
        if !isFirm, softVerdicts.count > limits.verdicts { expire(\.softVerdicts, notedBy: .max, limit: 1, &duties) }
    }

    mutating func remember(_ verdict: Verdict, _ id: PartID) {
        verdicts[id] = verdict
        if verdict.record.isFirm {
            firmVerdicts.append(verdict.record.notedAt, id)
        } else {
            softVerdicts.append(verdict.record.notedAt, id)
        }
    }

    private mutating func expire(
        _ queue: WritableKeyPath<Participant, VerdictQueue>, notedBy time: UInt64, limit: Int,
        _ duties: inout [ParticipantDuty]
    ) {
        var left = limit
        while left > 0, let oldest = self[keyPath: queue].pop(notedBy: time) {
            verdicts[oldest.id] = nil
            duties.append(.delete(key: key(oldest.id)))
            left -= 1
        }
    }

    /// Deletes what need not be remembered any more.
    mutating func expireVerdicts(_ now: UInt64, _ duties: inout [ParticipantDuty]) {
        if now >= limits.verdictMilliseconds {
            expire(\.softVerdicts, notedBy: now - limits.verdictMilliseconds, limit: limits.tickStep, &duties)
        }
        if now >= limits.firmMilliseconds {
            expire(\.firmVerdicts, notedBy: now - limits.firmMilliseconds, limit: limits.tickStep, &duties)
        }
    }
}
