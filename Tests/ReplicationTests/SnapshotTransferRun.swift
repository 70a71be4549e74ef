import Base
import Raft
import Replication
import TestKit

/// One transfer on virtual time: a sender, a receiver with a disk, and the network between them.
final class SnapshotTransferRun {
    private enum Parcel {
        case offer(SnapshotOffer)
        case part(transfer: UInt64, at: SnapshotPosition, bytes: Bytes)
        case progress(SnapshotProgress)
    }

    let files: [Bytes]
    var limits = SnapshotSender.Limits()
    var rate: UInt64 = 0
    var lossPerMille: UInt64 = 0
    var doublePerMille: UInt64 = 0
    var restartPerMille: UInt64 = 0
    var jitter: UInt64 = 0
    var damagedWrites: Set<Int> = []
    var damagesFile: Int?
    var failingWrite: Int?
    var refusal: SnapshotRefusal?

    private(set) var sender: SnapshotSender
    private(set) var receiver = SnapshotReceiver()
    private(set) var now: UInt64 = 0
    private(set) var outcome: SnapshotSender.Outcome?
    private(set) var staged: [SnapshotOffer] = []
    private(set) var offers = 0
    private(set) var discards = 0
    private(set) var violation: String?

    private var random: SplitMix64
    private var network: [(at: UInt64, parcel: Parcel)] = []
    private var work: [(at: UInt64, action: SnapshotReceiver.Action, bytes: Bytes)] = []
    private var disk: [Int: Bytes] = [:]
    private var diskManifest: Bytes?
    private var senderWakes: UInt64 = 0
    private var writes = 0
    private var faultsLeft = 40

    static func offer(sizes: [UInt64]) -> SnapshotOffer {
        let last = EntryID(term: Term(rawValue: 4), index: LogIndex(rawValue: 1000))
        return SnapshotOffer(
            transfer: 1, shard: ShardID(rawValue: 2), leaderTerm: Term(rawValue: 5),
            metadata: SnapshotMetadata(last: last, membership: Membership(voters: [NodeID(rawValue: 1)])),
            manifest: [1, 2, 3], sizes: sizes)
    }

    init(seed: UInt64, files: [Bytes]? = nil) {
        var random = SplitMix64(seed: seed)
        self.files = files ?? (0..<5).map { _ in random.bytes(1 + Int(random.next(below: 20_000))) }
        self.random = random
        sender = SnapshotSender(Self.offer(sizes: []), now: 0)
    }

    func beBad() {
        (lossPerMille, doublePerMille) = (random.next(below: 150), random.next(below: 100))
        jitter = random.next(below: 20_000_000)
        restartPerMille = random.next(below: 10)
        if random.oneIn(2) { rate = 100_000 + random.next(below: 1_000_000) }
        if random.oneIn(3) { damagedWrites = [Int(random.next(below: 20))] }
    }

    func start() {
        limits.chunk = 1000
        limits.window = 8000
        limits.rate = rate
        sender = SnapshotSender(Self.offer(sizes: files.map { UInt64($0.count) }), limits: limits, now: 0)
    }

    var isOver: Bool { outcome != nil }
    var isWhole: Bool { files.indices.allSatisfy { disk[$0] ?? [] == files[$0] } }

    var summary: String {
        "\(String(describing: outcome)) at \(now / 1_000_000) ms, \(sender.done) of \(sender.total) bytes, "
            + "\(sender.bytesSent) sent, \(violation ?? "no violation")"
    }

    func run(until isEnough: (SnapshotTransferRun) -> Bool = { _ in false }) {
        var steps = 0
        while outcome == nil, !isEnough(self), steps < 1_000_000 {
            steps += 1
            advance()
        }
    }

    /// The stream is gone with what was on it.
    func loseStream() {
        network.removeAll()
        sender.reconnected(now: now)
        senderWakes = now
    }

    /// The process of the receiver is gone with what its disk had not yet been told; the stream with it.
    func restartReceiver() {
        receiver = SnapshotReceiver()
        work.removeAll()
        loseStream()
    }

    // MARK: Time

    private func advance() {
        let nextParcel = network.indices.min { network[$0].at < network[$1].at }
        let times = [nextParcel.map { network[$0].at }, work.first?.at, senderWakes].compactMap { $0 }
        now = max(now, times.min() ?? now)
        if let nextParcel, network[nextParcel].at <= now {
            let parcel = network.remove(at: nextParcel).parcel
            deliver(parcel)
        } else if let job = work.first, job.at <= now {
            work.removeFirst()
            perform(job.action, job.bytes)
        } else {
            wakeSender()
        }
        if faultsLeft > 0, random.next(below: 1000) < restartPerMille {
            faultsLeft -= 1
            switch random.next(below: 3) {
            case 0: loseStream()
            case 1: restartReceiver()
            case _:  // Only the receiver's memory: its words on the way still count.
                receiver = SnapshotReceiver()
                work.removeAll()
            }
        }
    }

    private func wakeSender() {
        switch sender.next(now: now) {
        case .offer(let offer):
            offers += 1
            send(.offer(offer))
        case .send(let transfer, let from, let count):
            let start = Int(from.offset)
            send(.part(transfer: transfer, at: from, bytes: Bytes(files[from.file][start..<start + count])))
            let allowed = rate == 0 ? .max : max(limits.chunk, rate / 16) + now / 1000 * rate / 1_000_000 + 1
            if sender.bytesSent > allowed { violation = "faster than the rate" }
        case .wait(let until):
            if until <= now { violation = "waits for the past" }
            senderWakes = until
        case .finish(let result):
            outcome = result
        }
    }

    // MARK: Network

    private func send(_ parcel: Parcel) {
        var copies = random.next(below: 1000) < lossPerMille ? 0 : 1
        if random.next(below: 1000) < doublePerMille { copies += 1 }
        for _ in 0..<copies {
            network.append((now + 1_000_000 + (jitter > 0 ? random.next(below: jitter) : 0), parcel))
        }
    }

    private func deliver(_ parcel: Parcel) {
        switch parcel {
        case .offer(let offer): act(receiver.step(.offered(offer), now: now), [])
        case .part(let transfer, let at, let bytes):
            act(receiver.step(.part(transfer: transfer, at: at, count: bytes.count), now: now), bytes)
        case .progress(let progress):
            sender.received(progress, now: now)
            senderWakes = now
        }
    }

    // MARK: The receiver's driver

    private func act(_ actions: [SnapshotReceiver.Action], _ bytes: Bytes) {
        for action in actions {
            switch action {
            case .answer(let progress): send(.progress(progress))
            case .stage(let offer):
                if !isWhole { violation = "staged before it was whole" }
                staged.append(offer)
            case .discard:
                discards += 1
                work.append((max(now, work.last?.at ?? 0), action, []))
            case .open, .write, .check:
                work.append((max(now, work.last?.at ?? 0) + 100_000, action, bytes))
            }
        }
        if work.reduce(0, { $0 + $1.bytes.count }) > 8 << 20 { violation = "more than the window is waiting" }
    }

    private func perform(_ action: SnapshotReceiver.Action, _ bytes: Bytes) {
        switch action {
        case .open(let round, let offer):
            if let refusal { return act(receiver.step(.failed(round: round, refusal), now: now), []) }
            if diskManifest != offer.manifest { disk.removeAll() }
            diskManifest = offer.manifest
            let held = files.indices.first { disk[$0] != files[$0] } ?? files.count
            act(receiver.step(.opened(round: round, held: held), now: now), [])
        case .write(let round, let at, _):
            writes += 1
            if writes == failingWrite { return act(receiver.step(.failed(round: round, .failed), now: now), []) }
            write(at, bytes)
            act(receiver.step(.written(round: round, at: at, count: bytes.count), now: now), [])
        case .check(let round, let file):
            let isWhole = disk[file] ?? [] == files[file]
            if !isWhole { disk[file] = nil }
            act(receiver.step(.checked(round: round, file: file, isWhole: isWhole), now: now), [])
        case .discard:
            disk.removeAll()
            diskManifest = nil
        case .answer, .stage: break
        }
    }

    private func write(_ at: SnapshotPosition, _ bytes: Bytes) {
        var file = disk[at.file] ?? []
        let end = Int(at.offset) + bytes.count
        if file.count < end { file += Bytes(repeating: 0, count: end - file.count) }
        file.replaceSubrange(Int(at.offset)..<end, with: bytes)
        if damagedWrites.contains(writes) || damagesFile == at.file { file[Int(at.offset)] ^= 1 }
        disk[at.file] = file
    }
}
