import Base
import Raft
import Replication
import Synchronization
import TestKit
import Testing

/// What a replica's state machine is in these tests: the list of what was applied.
struct ListStore {
    var applied: [Bytes] = []
    /// How many of them survive a crash.
    var flushed = 0
}

/// Three replicas of one group, and what they have agreed on so far.
final class Cluster {
    static let shard = ShardID(rawValue: 7)
    struct Parcel {
        var message: Message
        var payload: Bytes
    }

    let clock = ManualClock()
    var replicas: [TestReplica] = []
    var parcels: [Parcel] = []
    /// Nothing gets to it or from it.
    var cutOff: NodeID?
    /// What any replica has applied, by index.
    var agreed: [Bytes] = []
    /// What a leader reported as committed, of its own proposals.
    var acknowledged: [LogIndex: Bytes] = [:]
    var violation: String?
    /// Logs that were torn.
    var cuts = 0

    init(seed: UInt64, options: (inout ReplicaGroups.Options) -> Void = { _ in }) throws {
        var chosen = ReplicaGroups.Options()
        options(&chosen)
        for number in 1...3 as ClosedRange<UInt32> {
            replicas.append(
                try TestReplica(self, NodeID(rawValue: number), seed: seed &* 10 &+ UInt64(number), options: chosen))
        }
    }

    /// Time passes until somebody leads and everybody knows.
    func elect(except: TestReplica? = nil) throws -> TestReplica {
        for _ in 0..<200 {
            settle(ticks: 1)
            if let leader = replicas.first(where: { $0.group.isLeading && $0 !== except }) { return leader }
        }
        throw DatabaseError(.unavailable, "nobody was elected")
    }

    func propose(_ payload: Bytes, at replica: TestReplica) throws {
        do throws(DatabaseError) {
            let index = try replica.group.propose { $0.append(payload) }
            replica.proposals[index] = payload
        } catch {
            guard error.code == .notLeader || error.code == .busy else { throw error }
        }
    }

    /// Lets everything arrive and become durable, and some time pass.
    func settle(ticks: Int = 10) {
        for _ in 0..<ticks {
            clock.advance(milliseconds: 50)
            for replica in replicas { replica.groups.tick() }
            for _ in 0..<200 {
                for replica in replicas { replica.runLog() }
                if parcels.isEmpty { break }
                let now = parcels
                parcels = []
                for parcel in now { hand(parcel) }
            }
        }
    }

    /// Delivers some messages out of order, and some of them twice.
    func deliver(_ count: Int, random: inout SplitMix64) {
        for _ in 0..<count where !parcels.isEmpty {
            let place = random.oneIn(4) ? Int(random.next(below: UInt64(parcels.count))) : 0
            let parcel = random.oneIn(10) ? parcels[place] : parcels.remove(at: place)
            hand(parcel)
        }
    }

    /// Delivers what is on its way now, in order.
    func deliverAll(limit: Int = .max) {
        let now = parcels.prefix(limit)
        parcels.removeFirst(now.count)
        for parcel in now { hand(parcel) }
    }

    func loseMessages(random: inout SplitMix64) {
        parcels = parcels.filter { _ in random.oneIn(2) }
    }

    private func hand(_ parcel: Parcel) {
        guard parcel.message.to != cutOff, parcel.message.from != cutOff,
            let target = replicas.first(where: { $0.id == parcel.message.to })
        else { return }
        parcel.payload.withUnsafeBytes { target.groups.received(parcel.message, of: Self.shard, payload: $0) }
    }

    func note(_ payload: Bytes, at index: LogIndex, by node: NodeID) {
        let position = Int(index.rawValue) - 1
        if position == agreed.count {
            agreed.append(payload)
        } else if position > agreed.count || agreed[position] != payload {
            violation = violation ?? "node \(node) applied something else at \(index)"
        }
    }
}

/// One replica with its disk, log and store.
final class TestReplica: PeerTransport, SnapshotSource, SnapshotSink {
    let id: NodeID
    private unowned let cluster: Cluster
    let disk: SimulatedDisk
    private let options: ReplicaGroups.Options
    private var random: SplitMix64
    private(set) var groups: ReplicaGroups
    private(set) var group: ReplicaGroup
    /// What the log of this life reports.
    private var durable = Tickets()
    var store = ListStore()
    var staged: [Bytes] = []
    var proposals: [LogIndex: Bytes] = [:]
    /// Snapshots that took the place of the store.
    var installed = 0
    /// Whom the group begins with, as this replica knows it.
    private var founding = Membership(voters: (1...3).map { NodeID(rawValue: $0) })
    /// What is left of a replica that has left.
    private(set) var remains: RecoveredReplica?
    private(set) var isAway = false

    private final class Tickets: Sendable {
        private let tickets = Mutex<[LogTicket]>([])
        /// The life is over: what the log says now is of no interest.
        private let isOver = Mutex(false)
        func end() { isOver.withLock { $0 = true } }
        func fail(_ error: LogError) {
            if !isOver.withLock({ $0 }) { Issue.record("the log failed: \(error)") }
        }
        func add(_ ticket: LogTicket) { tickets.withLock { $0.append(ticket) } }
        func take() -> [LogTicket] {
            tickets.withLock { tickets in
                defer { tickets = [] }
                return tickets
            }
        }
    }

    init(_ cluster: Cluster, _ id: NodeID, seed: UInt64, options: ReplicaGroups.Options) throws {
        (self.cluster, self.id, self.options) = (cluster, id, options)
        disk = SimulatedDisk(seed: seed)
        random = SplitMix64(seed: seed)
        (groups, group) = try Self.open(disk, id, 0, cluster.clock, &random, options, durable, founding)
        connect()
    }

    private static var logOptions: SegmentedLog.Options {
        var options = SegmentedLog.Options()
        options.segmentBytes = 4096
        return options
    }

    private static func open(
        _ disk: SimulatedDisk, _ id: NodeID, _ applied: Int, _ clock: ManualClock, _ random: inout SplitMix64,
        _ options: ReplicaGroups.Options, _ durable: Tickets, _ founding: Membership
    ) throws -> (ReplicaGroups, ReplicaGroup) {
        let log = try openLog(disk, &random)
        let recovered = try log.recovered(Cluster.shard, applied: LogIndex(rawValue: UInt64(applied)), on: id)
        let groups = makeGroups(log, id, clock, &random, options, durable)
        return (groups, groups.add(recovered, founding: founding))
    }

    private static func openLog(_ disk: SimulatedDisk, _ random: inout SplitMix64) throws -> SegmentedLog {
        try SegmentedLog(
            disk: disk, directory: "/log", options: logOptions, random: SplitMix64(seed: random.next()))
    }

    private static func makeGroups(
        _ log: SegmentedLog, _ id: NodeID, _ clock: ManualClock, _ random: inout SplitMix64,
        _ options: ReplicaGroups.Options, _ durable: Tickets
    ) -> ReplicaGroups {
        let writer = LogWriter(
            stepped: log, durability: .always, onDurable: { durable.add($0) },
            onFailure: { durable.fail($0) })
        return ReplicaGroups(
            id: id, writer: writer, clock: clock, random: SplitMix64(seed: random.next()), options: options,
            onFailure: { Issue.record("the log cannot be read: \($0)") })
    }

    private func connect() {
        (groups.transport, groups.snapshotSource, groups.snapshotSink) = (self, self, self)
        group.onApply = { [unowned self] index, payload in apply(payload.bytes, index) }
        group.onCommitted = { [unowned self] index in
            while store.applied.count < Int(index.rawValue) {
                let next = LogIndex(rawValue: UInt64(store.applied.count) + 1)
                guard let payload = proposals.removeValue(forKey: next) else {
                    cluster.violation = "node \(id) has not proposed \(next)"
                    return
                }
                cluster.acknowledged[next] = payload
                apply(payload, next)
            }
        }
        group.onRole = { [unowned self] role in
            if case .follower = role { proposals = [:] }
        }
        group.start()
    }

    private func apply(_ payload: Bytes, _ index: LogIndex) {
        guard Int(index.rawValue) == store.applied.count + 1 else {
            cluster.violation = "node \(id) applied \(index) after \(store.applied.count)"
            return
        }
        store.applied.append(payload)
        cluster.note(payload, at: index, by: id)
    }

    /// What is submitted becomes durable.
    func runLog() {
        groups.endTick()
        groups.writer.runRound()
        for ticket in durable.take() { groups.complete(upTo: ticket) }
    }

    func flush() {
        store.flushed = store.applied.count
        group.noteFlushed(LogIndex(rawValue: UInt64(store.flushed)))
    }

    /// Power loss, and a new life; with `isCut`, the log ends in the remains of a batch that was never durable.
    func restart(isCut: Bool = false) throws {
        disk.crash()
        groups.abandon()
        if isCut { try tearLog() }
        store.applied.removeLast(store.applied.count - store.flushed)
        (proposals, staged) = ([:], [])
        durable.end()
        durable = Tickets()
        (groups, group) = try Self.open(disk, id, store.flushed, cluster.clock, &random, options, durable, founding)
        connect()
    }

    // MARK: Leaving

    /// The group goes on without this replica.
    func leave() {
        isAway = true
        groups.remove(group, note: [1, 2, 3]) { [self] in
            remains = $0
            store = ListStore()
        }
    }

    /// The replica is wanted again, and knows who has a say now.
    func comeBack(to voters: [NodeID]) throws {
        let remains = try #require(remains)
        (self.remains, isAway) = (nil, false)
        founding = Membership(voters: voters, learners: [id])
        group = groups.add(remains, founding: founding)
        connect()
    }

    /// Power loss while it is away, and what the log says then.
    func restartAway() throws -> Bytes? {
        disk.crash()
        groups.abandon()
        durable.end()
        let log = try Self.openLog(disk, &random)
        let recovered = try log.recovered(Cluster.shard, applied: .zero, on: id)
        durable = Tickets()
        groups = Self.makeGroups(log, id, cluster.clock, &random, options, durable)
        remains = recovered
        return log.state(of: Cluster.shard).removal
    }

    /// Leaves bytes behind the end of the log.
    private func tearLog() throws {
        let log = try SegmentedLog(disk: disk, directory: "/log", options: Self.logOptions)
        guard log.end.offset + 64 < Self.logOptions.segmentBytes else { return }
        let path = "/log/" + LogSegment.name(log.end.segment)
        try disk.corrupt(path, at: log.end.offset + LogFormat.batchHeaderSize + 8)
    }

    // MARK: The peers

    func send(_ message: Message, of shard: ShardID, payload: (inout ByteBuffer) -> Void) -> Bool {
        var buffer = ByteBuffer()
        payload(&buffer)
        cluster.parcels.append(Cluster.Parcel(message: message, payload: buffer.readable.bytes))
        return true
    }

    // MARK: Snapshots

    func sendSnapshot(
        of shard: ShardID, to peer: NodeID, message: @escaping (LogIndex) -> Message?,
        completion: @escaping (Bool) -> Void
    ) {
        let content = store.applied
        let found = message(LogIndex(rawValue: UInt64(content.count)))
        let target = cluster.replicas.first { $0.id == peer }
        groups.afterStep { [self] in
            if let found, peer != cluster.cutOff, id != cluster.cutOff {
                target?.staged = content
                cluster.parcels.append(Cluster.Parcel(message: found, payload: []))
            }
            completion(found != nil)
        }
    }

    func installSnapshot(_ metadata: SnapshotMetadata, of shard: ShardID, completion: @escaping (Bool) -> Void) {
        let count = Int(metadata.last.index.rawValue)
        guard staged.count >= count else { return completion(false) }
        store = ListStore(applied: Array(staged.prefix(count)), flushed: count)
        installed += 1
        completion(true)
    }
}
