import Base

/// The leader's side of a snapshot's transfer.
///
/// The driver asks `next` what to do, again and again until it is told to wait, and after the wait, after each answer
/// and whenever the stream has room again. It may stop asking while the stream is full: that is how back-pressure
/// works.
package struct SnapshotSender: Sendable {
    /// How much, how fast, how patient.
    package struct Limits: Hashable, Sendable {
        /// Bytes in one part.
        package var chunk: UInt64 = 256 << 10
        /// Bytes on the way, not yet told to be written. Twice what a disk takes in a round trip, and little memory.
        package var window: UInt64 = 4 << 20
        /// Bytes a second; 0: no limit. Half a gigabit leaves room for clients on a gigabit and on a disk.
        package var rate: UInt64
        /// Nanoseconds after which a part is taken for lost.
        package var resendAfter: UInt64 = 2_000_000_000
        /// Nanoseconds without progress after which the receiver is taken for lost.
        package var giveUpAfter: UInt64 = 60_000_000_000

        package init(rate: UInt64 = 64 << 20) {
            self.rate = rate
        }
    }

    /// How a transfer ended.
    package enum Outcome: Hashable, Sendable {
        case staged
        case refused(SnapshotRefusal)
        /// Nothing was heard for too long.
        case silent
        /// The files to be sent are no files.
        case impossible
    }

    /// What to do next.
    package enum Action: Hashable, Sendable {
        case offer(SnapshotOffer)
        /// Send so many bytes of a file.
        case send(transfer: UInt64, from: SnapshotPosition, count: Int)
        /// Nothing before that time, unless an answer comes.
        case wait(until: UInt64)
        case finish(Outcome)
    }

    package private(set) var offer: SnapshotOffer
    private let limits: Limits
    private let layout: SnapshotLayout
    private var bucket: TokenBucket
    private var outcome: Outcome?
    private var isOffered = false
    /// What the receiver has written; nil before it has said so.
    private var written: UInt64?
    private var round: UInt64 = 0
    /// The next byte to send.
    private var position: UInt64 = 0
    /// Where the last gap made it go back to: once for each gap, however many parts are behind it.
    private var gap: UInt64?
    private var resendAt: UInt64
    /// When the receiver made progress, or something was first sent that it has not answered.
    private var waitingSince: UInt64
    /// Bytes sent, again ones too.
    package private(set) var bytesSent: UInt64 = 0

    package init(_ offer: SnapshotOffer, limits: Limits = Limits(), now: UInt64) {
        self.offer = offer
        self.limits = limits
        let layout = SnapshotLayout(sizes: offer.sizes)
        self.layout = layout ?? SnapshotLayout()
        outcome = layout == nil ? .impossible : nil
        bucket = TokenBucket(rate: limits.rate, burst: max(limits.chunk, limits.rate / 16), now: now)
        resendAt = now
        waitingSince = now
    }

    /// Bytes of all files, and how many of them the receiver has.
    package var total: UInt64 { layout.total }
    package var done: UInt64 { written ?? 0 }

    /// The stream was lost and there is a new one: a new attempt, which the receiver lets go on where it is.
    package mutating func reconnected(now: UInt64) {
        offer.transfer &+= 1
        isOffered = false
        written = nil
        (position, round, gap) = (0, 0, nil)
        waitingSince = now
    }

    // MARK: What comes

    /// The receiver said something. What makes no sense is of another attempt, or from a broken peer: passed over.
    package mutating func received(_ progress: SnapshotProgress, now: UInt64) {
        guard outcome == nil, progress.transfer == offer.transfer else { return }
        switch progress.state {
        case .unknown: reconnected(now: waitingSince)  // It counts as silence if it never says anything else.
        case .opening: waitingSince = now
        case .staged: outcome = .staged
        case .refused(let refusal): outcome = .refused(refusal)
        case .receiving(let written, let wanted):
            guard let place = layout.absolute(written) else { return }
            take(place, wanted.flatMap(layout.absolute), progress.round, now)
        }
    }

    private mutating func take(_ place: UInt64, _ wanted: UInt64?, _ round: UInt64, _ now: UInt64) {
        guard let before = written, round == self.round else {
            guard written == nil || round > self.round else { return }
            (written, position, self.round, gap) = (place, place, round, nil)
            progressed(now)
            return
        }
        if place > before {
            written = place
            position = max(position, place)
            progressed(now)
        }
        if let wanted, wanted >= place, wanted < position, gap != wanted {
            (position, gap) = (wanted, wanted)
            resendAt = now &+ limits.resendAfter
        }
    }

    private mutating func progressed(_ now: UInt64) {
        waitingSince = now
        resendAt = now &+ limits.resendAfter
    }

    // MARK: What to do

    /// The next thing to do.
    package mutating func next(now: UInt64) -> Action {
        if let outcome { return .finish(outcome) }
        let deadline = waitingSince &+ limits.giveUpAfter
        if isWaiting, now >= deadline {
            outcome = .silent
            return .finish(.silent)
        }
        guard isOffered, let written else {
            if isOffered, now < resendAt { return .wait(until: min(resendAt, deadline)) }
            isOffered = true
            resendAt = now &+ limits.resendAfter
            return .offer(offer)
        }
        if now >= resendAt {
            // The receiver owes an answer for two round trips and more: something was lost. If it has everything, the
            // answer was.
            position = written
            gap = nil
            resendAt = now &+ limits.resendAfter
            if written == layout.total { return .offer(offer) }
        }
        return sendMore(written, deadline, now)
    }

    private mutating func sendMore(_ written: UInt64, _ deadline: UInt64, _ now: UInt64) -> Action {
        let onTheWay = position &- written
        let count = min(limits.chunk, layout.end(at: position) &- position)
        guard count > 0, onTheWay == 0 || onTheWay &+ count <= limits.window else {
            return .wait(until: min(resendAt, deadline))
        }
        guard bucket.take(count, now: now) else {
            let ready = bucket.ready(count, now: now)
            return .wait(until: onTheWay == 0 ? ready : min(ready, resendAt, deadline))
        }
        if onTheWay == 0 {
            waitingSince = max(waitingSince, now)
            resendAt = now &+ limits.resendAfter
        }
        let from = layout.position(at: position)
        position &+= count
        bytesSent &+= count
        return .send(transfer: offer.transfer, from: from, count: Int(count))
    }

    /// Whether the receiver owes something.
    private var isWaiting: Bool {
        guard let written else { return true }
        return position > written || written == layout.total
    }
}
