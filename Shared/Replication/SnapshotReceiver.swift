import Base

/// A replica's side of the transfer of one shard's snapshot, over all streams and attempts.
///
/// The driver does what the actions say, in their order: `open`, `write`, `check` and `discard` are one queue of work
/// on the disk (a worker's), whose results come back as events under the same `round`; results of an older round are of
/// the past. The bytes of a part are the driver's: they are kept until they are written, a window of them at most.
package struct SnapshotReceiver: Sendable {
    /// How much, how patient.
    package struct Limits: Hashable, Sendable {
        /// Bytes taken and not yet written: above the sender's window, so that only a broken sender meets it.
        package var window: UInt64
        /// The largest part.
        package var chunk: UInt64 = 1 << 20
        /// How often a file may be damaged before the transfer is refused.
        package var damages = 3
        /// Nanoseconds of silence after which what was received is thrown away.
        package var forgetAfter: UInt64 = 600_000_000_000

        package init(window: UInt64 = 8 << 20) {
            self.window = window
        }
    }

    /// What comes from the stream, from the disk, from the group and from the clock.
    package enum Event: Hashable, Sendable {
        case offered(SnapshotOffer)
        /// A part of so many bytes.
        case part(transfer: UInt64, at: SnapshotPosition, count: Int)
        /// `open` is done: so many files, from the first on, are there and checked.
        case opened(round: UInt64, held: Int)
        /// `write` is done.
        case written(round: UInt64, at: SnapshotPosition, count: Int)
        /// `check` is done.
        case checked(round: UInt64, file: Int, isWhole: Bool)
        /// The disk cannot, or the offer is not for this replica.
        case failed(round: UInt64, SnapshotRefusal)
        /// The staged snapshot is installed, or the group wants none of it.
        case consumed
        /// Now and then.
        case tick
    }

    /// What to do, in this order.
    package enum Action: Hashable, Sendable {
        /// Look whether the snapshot is for this replica and the disk has room; keep its files if the same manifest is
        /// there already, else make an empty place for it.
        case open(round: UInt64, SnapshotOffer)
        /// Write the part that just came.
        case write(round: UInt64, at: SnapshotPosition, count: Int)
        /// Hold a file that is written against the manifest.
        case check(round: UInt64, file: Int)
        /// Hand the snapshot's message to the group: everything is there.
        case stage(SnapshotOffer)
        case answer(SnapshotProgress)
        /// Remove what was received.
        case discard
    }

    private struct Transfer: Sendable {
        var offer: SnapshotOffer
        let layout: SnapshotLayout
        /// Taken from the stream.
        var received: UInt64 = 0
        /// On disk.
        var written: UInt64 = 0
        /// Files before it are to be checked, or have been.
        var asked = 0
        /// Files before it are whole.
        var whole = 0
        var damages = 0
    }

    private enum State: Sendable {
        case idle
        case opening(Transfer)
        case receiving(Transfer)
        case staged(SnapshotOffer)
    }

    private let limits: Limits
    private var state = State.idle
    private var round: UInt64 = 0
    private var lastHeard: UInt64 = 0

    package init(limits: Limits = Limits()) { self.limits = limits }

    /// Whether a snapshot is on its way or waits to be installed.
    package var isIdle: Bool { if case .idle = state { true } else { false } }

    /// The only way in and the only way out.
    package mutating func step(_ event: Event, now: UInt64) -> [Action] {
        switch event {
        case .offered(let offer):
            lastHeard = now
            return offered(offer, now)
        case .part(let transfer, let at, let count):
            lastHeard = now
            return part(transfer, at, count)
        case .opened(let round, let held):
            lastHeard = now  // Looking through what is there may have taken long.
            return opened(round, held)
        case .written(let round, let at, let count): return wrote(round, at, count)
        case .checked(let round, let file, let isWhole): return checked(round, file, isWhole)
        case .failed(let round, let refusal): return failed(round, refusal)
        case .consumed:
            guard case .staged = state else { return [] }
            return abandon()
        case .tick:
            switch state {
            case .idle: return []
            // Also what is staged: the group may not have wanted it, and does not say so.
            case .opening, .receiving, .staged: return now &- lastHeard < limits.forgetAfter ? [] : abandon()
            }
        }
    }

    // MARK: Offers

    private mutating func offered(_ offer: SnapshotOffer, _ now: UInt64) -> [Action] {
        switch state {
        case .idle:
            return open(offer, now)
        case .staged(let current):
            if current.transfer == offer.transfer { return [answer(offer.transfer, .staged)] }
            if current.isSameSnapshot(as: offer), offer.leaderTerm >= current.leaderTerm {
                state = .staged(offer)
                return [.stage(offer), answer(offer.transfer, .staged)]
            }
            return isStale(offer, beside: current) ? refuse(offer, .stale) : open(offer, now)
        case .opening(var transfer):
            if isStale(offer, beside: transfer.offer) { return refuse(offer, .stale) }
            guard transfer.offer.isSameSnapshot(as: offer) else { return open(offer, now) }
            transfer.offer = offer
            state = .opening(transfer)
            return [answer(offer.transfer, .opening)]
        case .receiving(var transfer):
            if isStale(offer, beside: transfer.offer) { return refuse(offer, .stale) }
            guard transfer.offer.isSameSnapshot(as: offer) else { return open(offer, now) }
            // A new stream goes on where the old one broke. What the old one left in the disk's queue is still written.
            transfer.offer = offer
            state = .receiving(transfer)
            return [status(transfer)]
        }
    }

    /// Whether a deposed leader offers it, or one that has fallen behind its own later offer.
    private func isStale(_ offer: SnapshotOffer, beside current: SnapshotOffer) -> Bool {
        (offer.leaderTerm, offer.metadata.last.index) < (current.leaderTerm, current.metadata.last.index)
    }

    private mutating func open(_ offer: SnapshotOffer, _ now: UInt64) -> [Action] {
        guard let layout = SnapshotLayout(sizes: offer.sizes) else { return refuse(offer, .malformed) }
        // Above those of an earlier life, too: a sender that has heard of one passes over answers of lower rounds, and
        // an offer that was still on its way may have begun this one under the same number.
        round = max(round &+ 1, now)
        state = .opening(Transfer(offer: offer, layout: layout))
        return [.open(round: round, offer), answer(offer.transfer, .opening)]
    }

    private func refuse(_ offer: SnapshotOffer, _ refusal: SnapshotRefusal) -> [Action] {
        [answer(offer.transfer, .refused(refusal))]
    }

    // MARK: Parts

    private mutating func part(_ number: UInt64, _ at: SnapshotPosition, _ count: Int) -> [Action] {
        switch state {
        case .idle:
            return [answer(number, .unknown)]
        case .staged(let offer):
            return [answer(number, offer.transfer == number ? .staged : .unknown)]
        case .opening(let transfer):
            return [answer(number, transfer.offer.transfer == number ? .opening : .unknown)]
        case .receiving(var transfer):
            guard transfer.offer.transfer == number else { return [answer(number, .unknown)] }
            guard let place = transfer.layout.absolute(at), count > 0, UInt64(count) <= limits.chunk,
                UInt64(count) <= transfer.layout.end(at: place) &- place
            else { return fail(transfer, .malformed) }
            let waiting = transfer.received &- transfer.written
            guard place == transfer.received, waiting &+ UInt64(count) <= limits.window else {
                return [status(transfer, isGap: place >= transfer.received)]
            }
            transfer.received &+= UInt64(count)
            let write = Action.write(round: round, at: at, count: count)
            let checks = askForChecks(&transfer)
            state = .receiving(transfer)
            return [write] + checks
        }
    }

    /// Files that are now received as a whole are checked behind their last write.
    private func askForChecks(_ transfer: inout Transfer) -> [Action] {
        var checks: [Action] = []
        while transfer.asked < transfer.layout.files,
            transfer.layout.start(of: transfer.asked + 1) <= transfer.received
        {
            checks.append(.check(round: round, file: transfer.asked))
            transfer.asked += 1
        }
        return checks
    }

    // MARK: The disk

    private mutating func opened(_ round: UInt64, _ held: Int) -> [Action] {
        guard round == self.round, case .opening(var transfer) = state else { return [] }
        let held = min(max(held, 0), transfer.layout.files)
        (transfer.asked, transfer.whole) = (held, held)
        transfer.received = transfer.layout.start(of: held)
        transfer.written = transfer.received
        let checks = askForChecks(&transfer)
        state = .receiving(transfer)
        return checks + (stageIfWhole(transfer) ?? [status(transfer)])
    }

    private mutating func wrote(_ round: UInt64, _ at: SnapshotPosition, _ count: Int) -> [Action] {
        guard round == self.round, case .receiving(var transfer) = state, let place = transfer.layout.absolute(at)
        else { return [] }
        transfer.written = min(max(transfer.written, place &+ UInt64(max(count, 0))), transfer.received)
        state = .receiving(transfer)
        return [status(transfer)]
    }

    private mutating func checked(_ round: UInt64, _ file: Int, _ isWhole: Bool) -> [Action] {
        guard round == self.round, case .receiving(var transfer) = state else { return [] }
        if isWhole {
            transfer.whole = max(transfer.whole, min(file + 1, transfer.asked))
            state = .receiving(transfer)
            return stageIfWhole(transfer) ?? []
        }
        transfer.damages += 1
        guard transfer.damages <= limits.damages else { return fail(transfer, .damaged) }
        // Back to its beginning. What comes of the old round is written over, or never told.
        self.round &+= 1
        let file = min(max(file, 0), transfer.layout.files)
        transfer.received = transfer.layout.start(of: file)
        (transfer.written, transfer.asked, transfer.whole) = (transfer.received, file, min(transfer.whole, file))
        state = .receiving(transfer)
        return [status(transfer)]
    }

    private mutating func stageIfWhole(_ transfer: Transfer) -> [Action]? {
        guard transfer.whole == transfer.layout.files else { return nil }
        state = .staged(transfer.offer)
        return [.stage(transfer.offer), answer(transfer.offer.transfer, .staged)]
    }

    private mutating func failed(_ round: UInt64, _ refusal: SnapshotRefusal) -> [Action] {
        guard round == self.round else { return [] }
        switch state {
        case .idle, .staged: return []
        case .opening(let transfer), .receiving(let transfer): return fail(transfer, refusal)
        }
    }

    private mutating func fail(_ transfer: Transfer, _ refusal: SnapshotRefusal) -> [Action] {
        let refused = answer(transfer.offer.transfer, .refused(refusal))
        return abandon() + [refused]
    }

    private mutating func abandon() -> [Action] {
        state = .idle
        round &+= 1
        return [.discard]
    }

    // MARK: Answers

    private func answer(_ transfer: UInt64, _ state: SnapshotProgress.State) -> Action {
        .answer(SnapshotProgress(transfer: transfer, round: round, state: state))
    }

    private func status(_ transfer: Transfer, isGap: Bool = false) -> Action {
        let layout = transfer.layout
        return answer(
            transfer.offer.transfer,
            .receiving(
                written: layout.position(at: transfer.written),
                wanted: isGap ? layout.position(at: transfer.received) : nil))
    }
}
