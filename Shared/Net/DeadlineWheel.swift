/// Where an object hangs in a deadline wheel; owned by the wheel, stored in the object.
package struct DeadlineTicket {
    /// The deadline in loop nanoseconds; 0 without one.
    package fileprivate(set) var deadline: UInt64 = 0
    fileprivate var slot: Int32 = -1
    fileprivate var index: Int32 = 0

    package init() {}
}

/// An object with at most one coarse deadline: an idle connection, a call that must answer.
package protocol DeadlineHolder: AnyObject {
    var deadlineTicket: DeadlineTicket { get set }
    /// The deadline passed; the ticket is empty again.
    func deadlinePassed()
}

/// Deadlines by the ten thousand, coarse and cheap.
///
/// A hashed timing wheel: 256 slots of 100 ms. An object hangs in the slot of its deadline (modulo one turn), so
/// setting, moving and clearing cost an array write each; a deadline more than a turn away is looked at once per turn
/// (25 s) and left hanging. Postponing, what a connection does with every request, writes only the ticket: the object
/// stays in its old slot and moves on when that slot comes round. Deadlines fire at most one slot late, never early.
package final class DeadlineWheel {
    private static let slotCount = 256
    private static let slotNanoseconds: UInt64 = 100_000_000

    private var slots: [[any DeadlineHolder]] = Array(repeating: [], count: slotCount)
    /// The number of the next slot time to be visited, counted from the epoch of the clock.
    private var cursor: UInt64
    /// How many objects hang here.
    package private(set) var count = 0

    package init(startingAt now: UInt64) { cursor = now / Self.slotNanoseconds }

    /// Sets or moves the deadline of `holder`.
    package func set(_ holder: any DeadlineHolder, deadline: UInt64) {
        let previous = holder.deadlineTicket
        if previous.slot >= 0, previous.deadline <= deadline {
            holder.deadlineTicket.deadline = deadline
            return
        }
        if previous.slot >= 0 { clear(holder) }
        hang(holder, deadline: deadline)
    }

    /// Removes the deadline of `holder`, if it has one.
    package func clear(_ holder: any DeadlineHolder) {
        let ticket = holder.deadlineTicket
        guard ticket.slot >= 0 else { return }
        let slot = Int(ticket.slot)
        let last = slots[slot].removeLast()
        if last !== holder {
            slots[slot][Int(ticket.index)] = last
            last.deadlineTicket.index = ticket.index
        }
        holder.deadlineTicket = DeadlineTicket()
        count -= 1
    }

    private func hang(_ holder: any DeadlineHolder, deadline: UInt64) {
        // A deadline falls due when its slot has fully passed: never early.
        let due = max(deadline / Self.slotNanoseconds + 1, cursor)
        let slot = Int(due % UInt64(Self.slotCount))
        var ticket = DeadlineTicket()
        ticket.deadline = deadline
        ticket.slot = Int32(slot)
        ticket.index = Int32(slots[slot].count)
        holder.deadlineTicket = ticket
        slots[slot].append(holder)
        count += 1
    }

    /// When the loop must wake for the wheel: the start of the next slot that holds anything.
    package var nextWake: UInt64 {
        guard count > 0 else { return .max }
        for step in 0..<UInt64(Self.slotCount) where !slots[Int((cursor + step) % UInt64(Self.slotCount))].isEmpty {
            return (cursor + step) * Self.slotNanoseconds
        }
        return .max
    }

    /// Fires everything due at `now`.
    package func advance(to now: UInt64) {
        let current = now / Self.slotNanoseconds
        guard current >= cursor else { return }
        guard count > 0 else {
            cursor = current + 1
            return
        }
        // After a long stall one turn visits everything.
        if current - cursor >= UInt64(Self.slotCount) { cursor = current - UInt64(Self.slotCount) + 1 }
        while cursor <= current {
            let slot = Int(cursor % UInt64(Self.slotCount))
            cursor += 1
            guard !slots[slot].isEmpty else { continue }
            visit(slot, now: now)
        }
    }

    private func visit(_ slot: Int, now: UInt64) {
        let holders = slots[slot]
        for holder in holders {
            // A holder that fired before may have cleared or moved this one.
            let ticket = holder.deadlineTicket
            guard ticket.slot == Int32(slot) else { continue }
            if ticket.deadline <= now {
                clear(holder)
                holder.deadlinePassed()
            } else if (ticket.deadline / Self.slotNanoseconds + 1) % UInt64(Self.slotCount) != UInt64(slot) {
                clear(holder)
                hang(holder, deadline: ticket.deadline)
            }
        }
    }
}
