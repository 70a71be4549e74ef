import Base
import Coordinator
import Placement
import Replication
import TestKit
import Testing

/// A log on a simulated disk that is written and synced when the test says so.
private final class DiskLog: CommandLog {
    static let shard = ShardID(rawValue: 0)

    private(set) var lastIndex: LogIndex
    private(set) var committedIndex: LogIndex
    private(set) var flushed = LogIndex.zero
    private let log: SegmentedLog
    private var batch = LogBatch()

    init(_ log: SegmentedLog) {
        self.log = log
        lastIndex = log.state(of: Self.shard).lastIndex
        committedIndex = lastIndex
    }

    static func open(_ disk: SimulatedDisk, seed: UInt64) throws -> SegmentedLog {
        var options = SegmentedLog.Options()
        options.segmentBytes = 16 << 10
        return try SegmentedLog(disk: disk, directory: "/c/log", options: options, random: SplitMix64(seed: seed))
    }

    func propose(_ payload: ByteView) throws(DatabaseError) -> LogIndex {
        let index = LogIndex(rawValue: lastIndex.rawValue + 1)
        do throws(LogError) {
            _ = try batch.append(.entry, shard: Self.shard, term: Term(rawValue: 1), index: index) {
                $0.append(payload)
            }
        } catch { throw error.databaseError }
        lastIndex = index
        return index
    }

    func noteFlushed(_ index: LogIndex) { flushed = index }
    var leaseIsValid: Bool { true }
    func confirmLeadership(_ body: @escaping (Bool) -> Void) { body(true) }

    /// Writes what was proposed; it is lost in a crash until `sync`.
    func write() throws { try log.write(&batch) }

    func sync() throws {
        try write()
        try log.sync()
        committedIndex = lastIndex
    }
}

/// A log in memory, committed by hand.
private final class MemoryLog: CommandLog {
    var entries: [Bytes] = []
    var committedIndex = LogIndex.zero
    var isFull = false
    var flushed = LogIndex.zero
    var lastIndex: LogIndex { LogIndex(rawValue: UInt64(entries.count)) }
    var leaseIsValid = true
    var confirmations: [(Bool) -> Void] = []
    func confirmLeadership(_ body: @escaping (Bool) -> Void) { confirmations.append(body) }

    func propose(_ payload: ByteView) throws(DatabaseError) -> LogIndex {
        guard !isFull else { throw DatabaseError(.diskFull, "full") }
        entries.append(payload.bytes)
        return lastIndex
    }

    func noteFlushed(_ index: LogIndex) { flushed = index }
}

@Suite("CommandLedger")
struct CommandLedgerTests {
    private static let create = PlacementCommand.createCluster(id: 5, bucketCount: 64, shardCount: 2, nodeCount: 1)

    private static func register(_ low: UInt64, _ incarnation: UInt64 = 1) -> PlacementCommand {
        .registerNode(uid: NodeUID(high: 0, low: low), addresses: ["unix:/n\(low)"], incarnation: incarnation)
    }

    @Test("answers nothing before it is durable, and everything in order")
    func answersWait() throws {
        let log = MemoryLog()
        let ledger = CommandLedger(log: log, state: PlacementState())
        ledger.lead()
        var said: [String] = []
        var maps: [UInt64] = []
        ledger.onMapChanged = { maps.append($0.epoch.rawValue) }
        ledger.submit(Self.create) { _ in said.append("created") }
        ledger.submit(Self.register(1)) { _ in said.append("registered") }
        ledger.submit(Self.create) { result in
            if case .failure = result { said.append("refused") }
        }
        ledger.whenDurable { _ in said.append("read") }
        #expect(said.isEmpty, "a refusal and a read saw what is not durable, so they wait too")
        #expect(maps.isEmpty)
        #expect(ledger.publishedMap == nil)
        log.committedIndex = LogIndex(rawValue: 1)
        ledger.committed(log.committedIndex)
        #expect(said == ["created"])
        #expect(maps == [1])
        log.committedIndex = LogIndex(rawValue: 2)
        ledger.committed(log.committedIndex)
        #expect(said == ["created", "registered", "refused", "read"])
        #expect(maps == [1, 2])
        ledger.submit(Self.register(1)) { _ in said.append("again") }
        #expect(log.entries.count == 2, "a repeated registration changes nothing")
        #expect(said.last == "again")
    }

    @Test("keeps its state when the log refuses")
    func fullDisk() {
        let log = MemoryLog()
        let ledger = CommandLedger(log: log, state: PlacementState())
        ledger.lead()
        log.isFull = true
        var error: DatabaseError?
        ledger.submit(Self.create) { result in
            if case .failure(let failure) = result { error = failure }
        }
        #expect(error?.code == .diskFull)
        #expect(ledger.state == PlacementState())
    }

    @Test("gives the log up to a snapshot once that is durable, and replays from there")
    func snapshots() throws {
        let log = MemoryLog()
        let ledger = CommandLedger(log: log, state: PlacementState(), snapshotInterval: 10)
        ledger.lead()
        ledger.submit(Self.create) { _ in }
        for _ in 0..<25 { ledger.submit(.allocateIDs(kind: "index", count: 1)) { _ in } }
        #expect(log.flushed == .zero)
        log.committedIndex = log.lastIndex
        ledger.committed(log.lastIndex)
        #expect(log.flushed.rawValue > 15)
        var replay = CommandReplay()
        // Segments go as a whole: entries before the snapshot may be there, without those before them.
        for index in Int(log.flushed.rawValue) - 3..<log.entries.count {
            try log.entries[index].withUnsafeBytes { view in
                try replay.add(LogIndex(rawValue: UInt64(index) + 1), view)
            }
        }
        #expect(try replay.finish().state == ledger.state)
    }

    @Test("without a lease nothing that was not proposed is answered before the others have been asked")
    func confirmation() {
        let log = MemoryLog()
        let ledger = CommandLedger(log: log, state: PlacementState())
        ledger.lead()
        log.leaseIsValid = false
        var said: [String] = []
        ledger.submit(Self.create) { _ in said.append("created") }
        ledger.whenDurable { _ in said.append("read") }
        log.committedIndex = log.lastIndex
        ledger.committed(log.lastIndex)
        #expect(said == ["created"], "its own entry says that it led")
        ledger.whenDurable { _ in said.append("later read") }
        #expect(log.confirmations.count == 1)
        log.confirmations.removeFirst()(true)
        #expect(said == ["created", "read"], "the later read came after the question")
        #expect(log.confirmations.count == 1)
        log.confirmations.removeFirst()(false)
        #expect(said == ["created", "read"])
        log.leaseIsValid = true
        ledger.whenDurable { _ in said.append("last") }
        #expect(said == ["created", "read", "later read", "last"])
    }

    @Test("leadership lost: what was proposed is unknown and may come back, what was asked goes elsewhere")
    func leadershipLost() {
        let log = MemoryLog()
        let ledger = CommandLedger(log: log, state: PlacementState())
        var codes: [ErrorCode?] = []
        func note(_ result: Result<[PlacementEvent], DatabaseError>) {
            if case .failure(let error) = result { codes.append(error.code) } else { codes.append(nil) }
        }
        ledger.submit(Self.create, note)
        ledger.lead()
        ledger.submit(Self.create, note)
        log.committedIndex = log.lastIndex
        ledger.committed(log.lastIndex)
        ledger.submit(Self.register(1), note)
        ledger.submit(Self.create, note)
        ledger.whenDurable { codes.append($0?.code) }
        #expect(codes == [.notLeader, nil])
        ledger.follow()
        #expect(codes == [.notLeader, nil, .outcomeUnknown, .notLeader, .notLeader])
        #expect(ledger.state.leaseHolders.isEmpty)
        var maps: [UInt64] = []
        ledger.onMapChanged = { maps.append($0.epoch.rawValue) }
        log.entries[1].withUnsafeBytes { ledger.apply(LogIndex(rawValue: 2), $0) }
        #expect(ledger.state.leaseHolders.map(\.fencingToken) == [1] && maps == [2])
        var damage: DatabaseError?
        ledger.onDamage = { damage = $0 }
        log.entries[0].withUnsafeBytes { ledger.apply(LogIndex(rawValue: 3), $0) }
        #expect(damage?.code == .corruption, "the cluster is created once")
    }

    @Test("one of several begins behind what its log has lost, with the first snapshot that is left")
    func replayStart() throws {
        func start(mark: UInt64, _ entries: [(UInt64, PlacementCommand)]) throws -> UInt64 {
            var start = ReplayStart(mark: LogIndex(rawValue: mark))
            for (index, command) in entries {
                var entry = ByteBuffer()
                command.encode(into: &entry)
                let bytes = entry.readable.bytes
                try bytes.withUnsafeBytes { view in try start.add(LogIndex(rawValue: index), view) }
            }
            return try start.finish().rawValue
        }
        let snapshot = PlacementCommand.snapshot(PlacementState())
        #expect(try start(mark: 0, [(2, Self.create), (5, snapshot)]) == 0)
        #expect(try start(mark: 3, [(4, Self.register(1)), (5, snapshot), (9, snapshot)]) == 4)
        #expect(try start(mark: 4, [(2, Self.create), (5, snapshot)]) == 4)
        #expect(try start(mark: 4, []) == 4)
        #expect(try start(mark: 3, [(5, snapshot), (9, snapshot), (8, Self.create), (10, snapshot)]) == 4)
        #expect(throws: DatabaseError.self) { try start(mark: 3, [(5, snapshot), (5, Self.create)]) }
    }

    @Test("a log that does not fit together is refused")
    func badLog() throws {
        var replay = CommandReplay()
        var entry = ByteBuffer()
        Self.register(1).encode(into: &entry)
        let bytes = entry.readable.bytes
        try bytes.withUnsafeBytes { view in try replay.add(LogIndex(rawValue: 1), view) }
        #expect(throws: DatabaseError.self) { try replay.finish() }
    }

    @Test("whatever was answered survives a disk that loses what was not synced", arguments: 1...60)
    func crashes(_ seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let disk = SimulatedDisk(seed: seed)
        var (epoch, token, nextID): (UInt64, UInt64, UInt64) = (0, 0, 1)
        var incarnation: UInt64 = 0
        for life in 0..<6 as Range<UInt64> {
            let segments = try DiskLog.open(disk, seed: seed &* 100 &+ life)
            var replay = CommandReplay()
            try segments.replay { record throws(DatabaseError) in try replay.add(record.index, record.payload) }
            let (state, entries) = try replay.finish()
            let log = DiskLog(segments)
            let ledger = CommandLedger(
                log: log, state: state, entriesSinceSnapshot: entries, snapshotInterval: 20)
            ledger.lead()
            #expect(ledger.publishedMap?.epoch.rawValue ?? 0 >= epoch, "seed \(seed), life \(life)")
            if state.cluster == nil {
                #expect(epoch == 0, "seed \(seed), life \(life)")
                ledger.submit(Self.create) { _ in }
            }
            ledger.onMapChanged = { map in
                #expect(map.epoch.rawValue > epoch, "seed \(seed), life \(life)")
                epoch = map.epoch.rawValue
            }
            for _ in 0..<random.next(below: 40) {
                switch random.next(below: 4) {
                case 0:
                    incarnation += 1
                    ledger.submit(Self.register(random.next(below: 3), incarnation)) { result in
                        guard case .success(let events) = result,
                            case .nodeRegistered(_, let given)? = events.first
                        else { return }
                        #expect(given > token, "seed \(seed), life \(life)")
                        token = given
                    }
                case 1:
                    ledger.submit(.allocateIDs(kind: "index", count: random.next(below: 9) + 1)) { result in
                        guard case .success(let events) = result, case .idsAllocated(_, let range)? = events.first
                        else { return }
                        #expect(range.lowerBound >= nextID, "seed \(seed), life \(life): given twice")
                        nextID = range.upperBound
                    }
                case 2:
                    try log.write()
                default:
                    try log.sync()
                    ledger.committed(log.committedIndex)
                }
            }
            disk.crash()
        }
    }
}
