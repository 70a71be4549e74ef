// One shard, its log and its store on a disk that loses, tears, fails and fills up, driven by one seed.
//
// The simulated node does what a storage node does, synchronously: it writes a batch of entries, syncs, acknowledges,
// applies, flushes its overlay in steps, and truncates the log to the flushed index. A second, idle shard shares log
// and store. Between any two steps the power may fail, the process may die, a sync or a write may fail, the disk may
// fill up, or a byte of the log may rot.
//
// The checker knows every entry that was ever written. After each recovery it demands
// 1. what is there is a prefix of what was written, entry by entry: nothing refused, nothing invented, nothing
// reordered;
// 2. the prefix reaches every acknowledged entry; only where a byte of the very last round rotted may recovery cut
// (and say so);
// 3. reads and scans of the shard show exactly the effects of that prefix.

import Base
import Replication
import Storage
import TestKit

/// Bugs that can be planted, to prove that the checker finds them.
package enum PlantedBug: String, CaseIterable, Sendable {
    /// Entries are acknowledged when they are written, not when they are durable.
    case acknowledgeBeforeSync = "ack-before-sync"
    /// The log is cut to what was applied, not to what the store has flushed.
    case truncateToApplied = "truncate-to-applied"
    /// Recovery does not compare checksums.
    case ignoreChecksums = "ignore-checksums"
}

/// How a run ended, and what it went through.
package struct SimulationReport: Sendable {
    /// What is wrong; nil when the run was clean.
    package var violation: String?
    package var step = 0
    package var acknowledged = 0
    package var recoveries = 0
    package var powerLosses = 0
    package var faults = 0
    package var refusals = 0
    package var truncations = 0
    package var cuts = 0
    package var damageFound = 0
}

extension SimulationReport {
    mutating func add(_ other: SimulationReport) {
        acknowledged += other.acknowledged
        recoveries += other.recoveries
        powerLosses += other.powerLosses
        faults += other.faults
        refusals += other.refusals
        truncations += other.truncations
        cuts += other.cuts
        damageFound += other.damageFound
    }

    var summary: String {
        "\(acknowledged) entries acknowledged, \(recoveries) recoveries, \(powerLosses) power losses, "
            + "\(faults) faults, "
            + "\(refusals) refusals, \(truncations) truncations, \(cuts) torn tails cut, \(damageFound) damages found"
    }

    /// What a long run must have met and has not.
    var unexercised: String? {
        let counts = [
            ("acknowledgements", acknowledged), ("power losses", powerLosses), ("faults", faults),
            ("refusals", refusals),
            ("truncations", truncations), ("torn tails", cuts), ("damages", damageFound),
        ]
        return counts.first { $0.1 == 0 }?.0
    }
}

/// A broken promise; ends the run.
struct Violation: Error {
    let text: String
    init(_ text: String) { self.text = text }
}

/// One run.
package final class ShardSimulation {
    static let directory = "/node/log"
    static let busy = ShardID(rawValue: 1), idle = ShardID(rawValue: 2)

    let bug: PlantedBug?
    var random: SplitMix64
    let disk: SimulatedDisk
    let store = MemoryStore()
    var options = SegmentedLog.Options()
    var report = SimulationReport()

    // The node: gone when the process dies.
    var log: SegmentedLog?
    var shards: [ShardID: ShardStore] = [:]
    var job: FlushJob?

    /// The entries that no later batch header testifies to, by shard: what a rotten byte may cost. They are those
    /// written since the last sync but one.
    var lastRound: [ShardID: Int] = [:]
    var isRoundOver = false
    /// How far the log of a shard may end before its store: a rotten round was cut, and the mark that moves the log
    /// on is not durable yet.
    var lag: [ShardID: Int] = [:]
    /// A fault waits for its moment, which must not come while damage is looked for.
    var isFaultPlanted = false

    // What the checker knows, by shard.
    var ledgers: [ShardID: Ledger] = [busy: Ledger(), idle: Ledger()]

    /// Is told what each step does, when somebody looks for a bug.
    package var trace: ((String) -> Void)?

    package init(seed: UInt64, bug: PlantedBug? = nil) {
        self.bug = bug
        random = SplitMix64(seed: seed)
        disk = SimulatedDisk(seed: random.next())
        options.segmentBytes = [2048, 4096, 16384][Int(random.next(below: 3))]
        options.ignoresChecksums = bug == .ignoreChecksums
    }

    /// Runs `steps` steps and a last recovery.
    package func run(steps: Int) -> SimulationReport {
        do {
            try restart(powerLoss: true)
            for step in 0..<steps {
                report.step = step
                try self.step()
            }
            disk.capacity = .max
            try restart(powerLoss: true)
        } catch let violation as Violation {
            report.violation = violation.text
        } catch {
            report.violation = "unexpected error: \(error)"
        }
        return report
    }

    // MARK: Steps

    func step() throws {
        let choice = random.next(below: 100)
        trace?(
            "\(report.step): choice \(choice), written \(ledgers[Self.busy]?.entries.count ?? 0), "
                + "acknowledged \(ledgers[Self.busy]?.acknowledged ?? 0), flushed "
                + "\(shards[Self.busy]?.flushedIndex ?? .zero), "
                + "log \(log?.end.description ?? "-") synced \(log?.synced.description ?? "-") "
                + "of \(log?.segmentCount ?? 0) segments\(log?.failure == nil ? "" : ", failed")")
        switch choice {
        case 0..<42: try propose()
        case 42..<57: try sync()
        case 57..<62: try read()
        case 62..<70: try beginFlush()
        case 70..<78: try finishFlush()
        case 78..<84: try truncate()
        case 84..<88: try restart(powerLoss: true)
        case 88..<91: try restart(powerLoss: false)
        case 91..<92: try closeAndRestart()
        case 92..<94: plantFault()
        case 94..<96: disk.capacity = random.oneIn(2) ? .max : options.segmentBytes * Int(2 + random.next(below: 4))
        case 96..<98: try rot()
        default: store.failNext(with: StoreError(.full, "simulated"))
        }
    }

    func pick() -> ShardID { random.oneIn(20) ? Self.idle : Self.busy }

    func propose() throws {
        guard let log, log.failure == nil else { return }
        var batch = LogBatch(capacity: 256)
        var proposed: [(shard: ShardID, effects: Bytes)] = []
        for _ in 0...random.next(below: 4) {
            let shard = pick()
            let effects = randomEffects(shard)
            guard let ledger = ledgers[shard] else { continue }
            let index = ledger.entries.count + proposed.filter { $0.shard == shard }.count + 1
            do throws(LogError) {
                _ = try batch.append(
                    .entry, shard: shard, term: Term(rawValue: 1), index: LogIndex(rawValue: UInt64(index)),
                    limit: log.options.maximumPayload
                ) { $0.append(effects) }
            } catch {
                report.refusals += 1  // Too large for these small segments.
                continue
            }
            proposed.append((shard, effects))
        }
        do throws(LogError) {
            try log.write(&batch)
        } catch {
            // A full disk refuses cleanly: these entries must never be seen. After a failed write they may or may not
            // be there.
            if error.kind == .full {
                report.refusals += 1
            } else {
                for entry in proposed { ledgers[entry.shard]?.entries.append(entry.effects) }
            }
            return
        }
        if isRoundOver { lastRound = [:] }
        isRoundOver = false
        for entry in proposed {
            lastRound[entry.shard, default: 0] += 1
            ledgers[entry.shard]?.entries.append(entry.effects)
            let index = LogIndex(rawValue: UInt64(ledgers[entry.shard]?.entries.count ?? 0))
            try entry.effects.withUnsafeBytes { try shards[entry.shard]?.apply($0, index: index) }
        }
        if bug == .acknowledgeBeforeSync { acknowledge() }
    }

    func randomEffects(_ shard: ShardID) -> Bytes {
        var batch = WriteBatch(capacity: 128)
        for _ in 0..<random.next(below: 4) {
            switch random.next(below: 12) {
            case 0..<8:
                let size = random.oneIn(20) ? random.next(below: 900) : random.next(below: 60)
                batch.put(randomKey(shard), random.bytes(Int(size)))
            case 8..<11: batch.delete(randomKey(shard))
            default: batch.deleteRange(from: randomKey(shard), to: randomKey(shard))
            }
        }
        return batch.effects.bytes
    }

    /// Few and short keys, so that they meet; each shard has its own.
    func randomKey(_ shard: ShardID) -> Bytes {
        [UInt8(shard.rawValue)] + (0...random.next(below: 2)).map { _ in UInt8(random.next(below: 8)) }
    }

    func sync() throws {
        guard let log, log.failure == nil else { return }
        do throws(LogError) { try log.sync() } catch { return }  // The node stops; a restart will come.
        isRoundOver = true
        acknowledge()
    }

    func acknowledge() {
        for shard in ledgers.keys {
            report.acknowledged += ledgers[shard]?.acknowledgeAll() ?? 0
        }
    }

    /// A flush may begin once everything applied is committed: the node applies when it proposes.
    func beginFlush() throws {
        try sync()
        guard job == nil, let shard = shards[random.oneIn(3) ? Self.idle : Self.busy],
            let ledger = ledgers[shard.shard],
            Int(shard.appliedIndex.rawValue) <= ledger.acknowledged
        else { return }
        job = shard.beginFlush()
    }

    func finishFlush() throws {
        guard let job else { return }
        do throws(StoreError) {
            try job.write()
            if random.oneIn(4) { return }  // The flush comes later, or a crash does.
            try store.flush()
        } catch { return }
        shards[job.shard]?.finishFlush(job)
        self.job = nil
    }

    func truncate() throws {
        guard let log, log.failure == nil else { return }
        var indexes: [ShardID: LogIndex] = [:]
        for (id, shard) in shards {
            indexes[id] = bug == .truncateToApplied ? shard.appliedIndex : shard.flushedIndex
        }
        do throws(LogError) {
            if try log.truncate(flushed: indexes) > 0 {
                report.truncations += 1
                isRoundOver = true
                acknowledge()  // A truncation syncs.
            }
        } catch {
            if error.kind == .full { report.refusals += 1 }
        }
    }

    func plantFault() {
        report.faults += 1
        isFaultPlanted = true
        switch random.next(below: 3) {
        case 0: disk.failSyncs(1)
        case 1: disk.failWrites(1)
        default: disk.losePower(afterChanges: Int(random.next(below: 12)))
        }
    }
}
