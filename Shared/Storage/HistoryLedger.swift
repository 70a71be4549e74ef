import Base

/// A promise that the past of a shard can be read from some time on, until it is released or expires.
package struct HistoryHold: Hashable, Sendable {
    let number: UInt64
}

/// How far the past of a shard can be read, and whom it is kept for.
struct HistoryLedger {
    private struct Hold {
        let timestamp: Timestamp
        let expiresAtMilliseconds: UInt64
    }

    /// Holds at once; snapshots under way, cursors and feeds have one each.
    static let holdLimit = 4096

    /// Nothing of the time before can be read. The overlays may have a higher one.
    private(set) var floor: Timestamp
    /// The newest commit timestamp in the store.
    private(set) var newest: Timestamp
    /// The same, of each collection; not remembered over a restart.
    private(set) var changes: ChangeTimes
    private var holds: [UInt64: Hold] = [:]
    private var lastNumber: UInt64 = 0

    init(floor: Timestamp, newest: Timestamp) {
        (self.floor, self.newest) = (floor, newest)
        changes = ChangeTimes(newest)
    }

    var holdCount: Int { holds.count }

    /// The oldest time that somebody holds, of those that can be read.
    func oldestHold(above floor: Timestamp) -> Timestamp? {
        holds.isEmpty ? nil : holds.values.lazy.map(\.timestamp).filter { $0 >= floor }.min()
    }

    /// Raises the floor as far as holds allow.
    mutating func raise(to wanted: Timestamp) {
        guard wanted > floor else { return }
        floor = max(floor, min(wanted, oldestHold(above: floor) ?? wanted))
    }

    /// What the store has now.
    mutating func wrote(floor: Timestamp, newest: Timestamp) {
        self.floor = max(self.floor, floor)
        self.newest = newest
    }

    /// Other records have taken the place of all.
    mutating func replaced(floor: Timestamp, newest: Timestamp) {
        (self.floor, self.newest) = (floor, newest)
        changes = ChangeTimes(newest)
    }

    /// The store has these changes, too.
    mutating func wrote(_ changes: ChangeTimes) { self.changes.merge(changes) }

    mutating func hold(at timestamp: Timestamp, untilMilliseconds: UInt64) -> HistoryHold? {
        guard holds.count < Self.holdLimit else { return nil }
        lastNumber &+= 1
        holds[lastNumber] = Hold(timestamp: timestamp, expiresAtMilliseconds: untilMilliseconds)
        return HistoryHold(number: lastNumber)
    }

    mutating func prolong(_ hold: HistoryHold, untilMilliseconds: UInt64) -> Bool {
        guard let held = holds[hold.number] else { return false }
        holds[hold.number] = Hold(timestamp: held.timestamp, expiresAtMilliseconds: untilMilliseconds)
        return true
    }

    mutating func release(_ hold: HistoryHold) { holds[hold.number] = nil }

    mutating func expire(nowMilliseconds: UInt64) {
        guard !holds.isEmpty else { return }
        holds = holds.filter { $0.value.expiresAtMilliseconds > nowMilliseconds }
    }
}
