import Base
import Replication
import Storage
import TestKit

/// Every entry that was ever written to a shard, and how many of them were acknowledged.
struct Ledger {
    var entries: [Bytes] = []
    private(set) var acknowledged = 0
    /// The records after the first `counted` entries.
    private var records: [Bytes: Bytes] = [:]
    private var counted = 0

    /// Acknowledges everything written; returns how many are new.
    mutating func acknowledgeAll() -> Int {
        defer { acknowledged = entries.count }
        return entries.count - acknowledged
    }

    /// After a recovery: the first `count` entries are there and answered for; the others never happened.
    mutating func keep(_ count: Int) {
        entries.removeLast(entries.count - count)
        acknowledged = count
    }

    /// What the shard must show.
    mutating func expected() throws(StoreError) -> [Bytes: Bytes] {
        if counted > entries.count { (records, counted) = ([:], 0) }
        while counted < entries.count {
            var failure: StoreError?
            entries[counted].withUnsafeBytes { view in
                do throws(StoreError) { try Self.apply(view, to: &records) } catch { failure = error }
            }
            if let failure { throw failure }
            counted += 1
        }
        return records
    }

    private static func apply(_ effects: ByteView, to records: inout [Bytes: Bytes]) throws(StoreError) {
        var reader = try EffectReader(effects)
        while let effect = try reader.next() {
            switch effect {
            case .put(let key, let value): records[key.bytes] = value.bytes
            case .delete(let key): records[key.bytes] = nil
            case .timestamp, .note: break
            case .deleteRange(let from, let to), .collectRange(let from, let to, _):
                for key in records.keys {
                    let isInside = key.withUnsafeBytes { compareKeys($0, from) >= 0 && compareKeys($0, to) < 0 }
                    if isInside { records[key] = nil }
                }
            }
        }
    }
}

/// Dying, coming back, and what must hold then.
extension ShardSimulation {
    func closeAndRestart() throws {
        guard let log, log.failure == nil else { return try restart(powerLoss: false) }
        do throws(LogError) { try log.close() } catch { return try restart(powerLoss: true) }
        acknowledge()
        try restart(powerLoss: random.oneIn(2))
    }

    /// The process dies (its memory is gone), perhaps with the machine, and comes back.
    func restart(powerLoss: Bool) throws {
        die(powerLoss: powerLoss)
        // Recovery meets faults, too: then it is tried again after a power loss.
        for _ in 0..<20 {
            switch open() {
            case .success(let opened):
                if try recover(from: opened, mayCut: [:]) { return }
                die(powerLoss: true)
            case .failure(let error):
                trace?("recovery failed: \(error)")
                guard error.kind != .damaged else {
                    throw Violation("recovery refuses a disk that only lost what was not synced: \(error)")
                }
                if error.kind == .full { disk.capacity = .max }
                die(powerLoss: true)
            }
        }
        throw Violation("recovery does not end")
    }

    private func die(powerLoss: Bool) {
        (log, job, shards) = (nil, nil, [:])
        if powerLoss {
            disk.crash()
            isFaultPlanted = false
            report.powerLosses += 1
        }
        store.crash(surviving: Int(random.next(below: 3)))
    }

    private func open() -> Result<SegmentedLog, LogError> {
        let random = SplitMix64(seed: random.next())
        do throws(LogError) {
            return .success(try SegmentedLog(disk: disk, directory: Self.directory, options: options, random: random))
        } catch {
            return .failure(error)
        }
    }

    /// One byte of the log rots. Recovery must refuse it, or may cut the last round.
    func rot() throws {
        guard let running = log, running.failure == nil, !isFaultPlanted else { return }
        try sync()
        guard running.failure == nil, let names = try? disk.list(Self.directory), !names.isEmpty else { return }
        let path = Self.directory + "/" + names[Int(random.next(below: UInt64(names.count)))]
        let isLast = path.hasSuffix(LogSegment.name(running.end.segment))
        let limit = isLast ? running.end.offset : options.segmentBytes
        let offset = Int(random.next(below: UInt64(limit)))
        let mask = UInt8(1) << UInt8(random.next(below: 8))
        guard (try? disk.corrupt(path, at: offset, mask: mask)) != nil else { return }
        report.faults += 1
        die(powerLoss: false)
        switch open() {
        case .success(let opened):
            if try !recover(from: opened, mayCut: lastRound) { try restart(powerLoss: true) }
        case .failure(let error):
            guard error.kind == .damaged else { return try restart(powerLoss: true) }
            report.damageFound += 1
            let sequence = LogSegment.sequence(ofName: String(path.dropFirst(Self.directory.count + 1))) ?? 0
            let isNamed = error.damage.map { ($0.lowerBound.segment...$0.upperBound.segment).contains(sequence) }
            guard isNamed ?? error.message.contains(path) else {
                throw Violation("damage of \(path) at \(offset) is reported as: \(error)")
            }
            try? disk.corrupt(path, at: offset, mask: mask)  // The disk is exchanged for its mirror.
            try restart(powerLoss: false)
        }
    }

    /// Replays the log above what the store holds, and checks the promises. False when a fault got in between.
    private func recover(from opened: SegmentedLog, mayCut: [ShardID: Int]) throws -> Bool {
        report.recoveries += 1
        trace?(
            "recovered \(opened.recovery), \((try? disk.list(Self.directory)) ?? []), "
                + "busy \(opened.state(of: Self.busy)), idle \(opened.state(of: Self.idle))")
        if opened.recovery.wasCut { report.cuts += 1 }
        var stores: [ShardID: ShardStore] = [:]
        for shard in ledgers.keys { stores[shard] = try ShardStore(shard: shard, store: store) }
        guard try replay(opened, into: stores) else { return false }
        var marks = LogBatch(capacity: 256)
        for id in [Self.busy, Self.idle] {
            guard let shard = stores[id] else { continue }
            let cut = opened.recovery.wasCut ? mayCut[id] ?? 0 : 0
            let state = opened.state(of: id)
            try check(shard, state, cut)
            if state.lastIndex < shard.appliedIndex {
                marks.append(markAt: shard.appliedIndex, state.lastTerm, shard: id, firstSegment: 1)
            }
        }
        (log, shards, isRoundOver) = (opened, stores, true)
        if opened.recovery.isSealed { lastRound = [:] }
        do throws(LogError) { try opened.write(&marks) } catch { return error.kind == .full }
        return true
    }

    private func replay(_ opened: SegmentedLog, into stores: [ShardID: ShardStore]) throws -> Bool {
        var violation: Violation?
        do throws(DatabaseError) {
            try opened.replay { [ledgers] record throws(DatabaseError) in
                guard violation == nil, let shard = stores[record.shard], let ledger = ledgers[record.shard] else {
                    return
                }
                let position = Int(record.index.rawValue) - 1
                guard ledger.entries.indices.contains(position),
                    record.payload.elementsEqual(ledger.entries[position])
                else {
                    violation = Violation("shard \(record.shard): entry \(record.index) is not what was written")
                    return
                }
                guard record.index > shard.appliedIndex else { return }
                do throws(StoreError) { try shard.apply(record.payload, index: record.index) } catch {
                    violation = Violation("replay: \(error)")
                }
            }
        } catch {
            return false  // The power failed while the log was read again.
        }
        if let violation { throw violation }
        return true
    }

    private func check(_ shard: ShardStore, _ state: ShardLogState, _ mayCut: Int) throws {
        guard let ledger = ledgers[shard.shard] else { return }
        let found = Int(shard.appliedIndex.rawValue)
        guard found >= ledger.acknowledged - mayCut else {
            throw Violation(
                "shard \(shard.shard): entries \(found + 1)…\(ledger.acknowledged) were acknowledged and are gone")
        }
        guard found <= ledger.entries.count else {
            throw Violation("shard \(shard.shard): entry \(found) was never written")
        }
        let behind = found - Int(state.lastIndex.rawValue)
        guard behind <= max(mayCut, lag[shard.shard] ?? 0) else {
            throw Violation("shard \(shard.shard): the log ends at \(state.lastIndex), the store is at \(found)")
        }
        lag[shard.shard] = max(behind, 0)
        ledgers[shard.shard]?.keep(found)
        try compare(shard)
    }

    func read() throws {
        guard let shard = shards[Self.busy], let ledger = ledgers[Self.busy] else { return }
        // After a failed write the ledger knows entries that the node does not show any more.
        if Int(shard.appliedIndex.rawValue) == ledger.entries.count { try compare(shard) }
    }

    private func compare(_ shard: ShardStore) throws {
        let expected = try ledgers[shard.shard]?.expected() ?? [:]
        let prefix = UInt8(shard.shard.rawValue)
        var found: [(key: Bytes, value: Bytes)] = []
        try [prefix].withUnsafeBytes { from in
            try [prefix + 1].withUnsafeBytes { to in
                try shard.scan(from: from, to: to) { key, value in
                    found.append((key.bytes, value.bytes))
                    return true
                }
            }
        }
        guard found.count == expected.count, found.allSatisfy({ expected[$0.key] == $0.value }) else {
            throw Violation(
                "shard \(shard.shard): \(found.count) records instead of \(expected.count), or other values")
        }
        let key = randomKey(shard.shard)
        guard try key.withUnsafeBytes({ try shard.get($0) }) == expected[key] else {
            throw Violation("shard \(shard.shard): a read disagrees with the entries")
        }
    }
}
