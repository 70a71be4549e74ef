import Base
import Glibc
import Raft
import Replication
import Synchronization

// Measures the log writer on a real disk: what a tick of the loop pays (processor time), and how long a round takes.

/// The newest ticket that the log thread reported.
private final class Reported: Sendable {
    private let newest = Atomic<LogTicket>(0)
    func note(_ ticket: LogTicket) { newest.store(ticket, ordering: .releasing) }
    var ticket: LogTicket { newest.load(ordering: .acquiring) }
}

/// `rounds` ticks of 16 entries of 100 bytes for two shards each, in `directory`.
func logBenchmark(rounds: Int, directory: String) throws {
    let clock = SystemClock()
    for durability in [Durability.always, .everySecond] {
        let path = directory + "/orbit-bench-log-\(getpid())"
        let disk = PosixDisk()
        defer {
            for name in (try? disk.list(path)) ?? [] { try? disk.remove("\(path)/\(name)") }
            try? disk.remove(path)
        }
        let start = clock.monotonicNanoseconds()
        let log = try SegmentedLog(disk: disk, directory: path)
        let opened = (clock.monotonicNanoseconds() - start) / 1_000_000
        let reported = Reported()
        let writer = try LogWriter(log: log, durability: durability, onDurable: { reported.note($0) })
        let replicas = ReplicaGroups(id: NodeID(rawValue: 1), writer: writer, clock: clock)
        let groups = [1, 2].map {
            replicas.add(
                RecoveredReplica(new: ShardID(rawValue: $0)), founding: Membership(voters: [NodeID(rawValue: 1)]))
        }
        for group in groups { group.start() }
        let payload = Bytes(repeating: 7, count: 100)
        var loop: UInt64 = 0
        let begun = clock.monotonicNanoseconds()
        for _ in 0..<rounds {
            let before = processorTime()
            for entry in 0..<16 { _ = try groups[entry & 1].propose { $0.append(payload) } }
            replicas.endTick()
            loop += processorTime() - before
            while groups[1].committedIndex < groups[1].lastIndex { writer.complete(upTo: reported.ticket) }
        }
        let elapsed = clock.monotonicNanoseconds() - begun
        replicas.close()
        let again = clock.monotonicNanoseconds()
        let reopened = try SegmentedLog(disk: disk, directory: path)
        writeOut(
            "log \(durability): open \(opened) ms, loop \(loop / UInt64(rounds * 16)) ns per entry, "
                + "round \(elapsed / UInt64(rounds)) ns, "
                + "reopen \((clock.monotonicNanoseconds() - again) / 1_000_000) ms "
                + "with \(reopened.recovery.records) records\n")
    }
}
