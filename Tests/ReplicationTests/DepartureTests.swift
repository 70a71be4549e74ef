import Base
import Raft
import Replication
import TestKit
import Testing

/// A replica leaves its group, and perhaps comes back: it has promised something, and what was said to it and by it may
/// still be on its way.
struct DepartureTests {
    /// A group that has agreed on something and cut its log, its leader, and a follower that has left and is not
    /// missed.
    private func left(
        _ seed: UInt64, flushing: Bool
    ) throws -> (Cluster, leader: TestReplica, away: TestReplica, late: [Cluster.Parcel]) {
        let cluster = try Cluster(seed: seed) {
            $0.cacheBytes = 500
            $0.retainedBytes = 0
        }
        let leader = try cluster.elect()
        let away = try #require(cluster.replicas.first { $0 !== leader })
        for number in 0..<80 as Range<UInt8> {
            try cluster.propose(Bytes(repeating: number, count: 100), at: leader)
            if number % 8 == 7 {
                cluster.settle()
                if flushing { for replica in cluster.replicas { replica.flush() } }
            }
        }
        cluster.settle()
        // What it says of its log, and what it is asked, arrives when it is gone.
        try cluster.propose([1], at: leader)
        for replica in cluster.replicas { replica.runLog() }
        let toIt = cluster.parcels.filter { $0.message.to == away.id }
        cluster.deliverAll()
        for replica in cluster.replicas { replica.runLog() }
        let ofIt = cluster.parcels.filter { $0.message.from == away.id }
        cluster.settle()
        let voters = cluster.replicas.map(\.id).filter { $0 != away.id }
        try leader.group.propose(Membership(voters: voters, version: 2))
        cluster.settle()
        away.leave()
        cluster.settle()
        #expect(away.remains != nil)
        return (cluster, leader, away, toIt + ofIt)
    }

    /// In one life of the process and across a restart; from the log's beginning or by a snapshot; with late messages.
    @Test(arguments: [false, true], [false, true]) func comesBack(flushing: Bool, restarting: Bool) throws {
        let (cluster, leader, away, late) = try left(21, flushing: flushing)
        #expect(late.contains { $0.message.from == away.id } && late.contains { $0.message.to == away.id })
        for number in 0..<20 as Range<UInt8> { try cluster.propose([number, 7], at: leader) }
        cluster.parcels += late
        cluster.settle()
        #expect(away.store.applied.isEmpty)
        if restarting { #expect(try away.restartAway() == [1, 2, 3]) }
        let voters = cluster.replicas.map(\.id).filter { $0 != away.id }
        try away.comeBack(to: voters)
        try leader.group.propose(Membership(voters: voters, learners: [away.id], version: 3))
        cluster.parcels = late + cluster.parcels
        cluster.settle(ticks: 60)
        #expect(away.store.applied == leader.store.applied)
        #expect(away.installed == (flushing ? 1 : 0))
        try leader.group.propose(Membership(voters: voters + [away.id], version: 4))
        cluster.settle()
        // Its own log holds what it has acknowledged since, whatever was flushed in the life before.
        away.flush()
        for number in 0..<60 as Range<UInt8> { try cluster.propose(Bytes(repeating: number, count: 100), at: leader) }
        cluster.settle()
        try away.restart()
        cluster.settle(ticks: 60)
        #expect(away.store.applied == leader.store.applied && cluster.violation == nil)
        #expect(away.group.membership.version == 4 && away.group.status.mayVote)
    }

    /// What a replica that is away has said before it left counts for nothing; and nothing of it keeps segments.
    @Test func theLogForgetsIt() throws {
        let (cluster, leader, away, _) = try left(22, flushing: false)
        away.runLog()
        #expect(leader.groups.writer.statistics.segments > 1)
        #expect(away.groups.writer.statistics.segments == 1)
        #expect(away.groups.all.isEmpty)
        #expect(try away.restartAway() == [1, 2, 3])
        #expect(away.remains?.isGone == true && cluster.violation == nil)
    }

    /// A voter of before the change missed everything: the commits and its own removal. One who comes back with an
    /// empty log must not help it to lead, nor lead by a membership that its log has just come past.
    @Test(arguments: [false, true]) func doesNotVoteByAnEmptyLog(restarting: Bool) throws {
        let cluster = try Cluster(seed: 23)
        let leader = try cluster.elect()
        try cluster.propose([1], at: leader)
        cluster.settle()
        let others = cluster.replicas.filter { $0 !== leader }
        let (behind, away) = (others[0], others[1])
        cluster.cutOff = behind.id
        for number in 0..<10 as Range<UInt8> { try cluster.propose([2, number], at: leader) }
        cluster.settle()
        #expect(cluster.acknowledged.count == 11)
        try leader.group.propose(Membership(voters: [leader.id], version: 2))
        cluster.settle()
        away.leave()
        cluster.settle()
        if restarting { _ = try away.restartAway() }
        try away.comeBack(to: [leader.id])
        // Now those two hear each other, and nobody hears the leader.
        cluster.cutOff = leader.id
        cluster.settle(ticks: 200)
        #expect(!behind.group.isLeading && !away.group.isLeading)
        #expect(behind.group.status.role != .leader)
        cluster.cutOff = nil
        try leader.group.propose(Membership(voters: [leader.id], learners: [behind.id, away.id], version: 3))
        cluster.settle(ticks: 100)
        #expect(cluster.replicas.allSatisfy { $0.store.applied == cluster.agreed } && cluster.violation == nil)
        #expect(leader.group.isLeading && cluster.acknowledged.count == 11)
    }

    /// The first and only voter leaves, and comes back to a log that begins where it was alone.
    @Test func isNotAloneAgain() throws {
        let cluster = try Cluster(seed: 24)
        let leader = try cluster.elect()
        try leader.group.propose(Membership(voters: [leader.id], version: 2))
        cluster.settle()
        for number in 0..<10 as Range<UInt8> { try cluster.propose([number], at: leader) }
        cluster.settle()
        let heir = try #require(cluster.replicas.first { $0 !== leader })
        try leader.group.propose(Membership(voters: [leader.id, heir.id], version: 3))
        cluster.settle(ticks: 20)
        try leader.group.transferLeadership(to: heir.id)
        cluster.settle(ticks: 20)
        try #require(heir.group.isLeading)
        try heir.group.propose(Membership(voters: [heir.id], version: 4))
        cluster.settle()
        leader.leave()
        cluster.settle()
        try leader.comeBack(to: [heir.id])
        try heir.group.propose(Membership(voters: [heir.id], learners: [leader.id], version: 5))
        // What comes, comes one by one, and time passes between.
        for _ in 0..<400 {
            cluster.deliverAll(limit: 1)
            for replica in cluster.replicas { replica.runLog() }
            cluster.clock.advance(milliseconds: 50)
            for replica in cluster.replicas { replica.groups.tick() }
            #expect(leader.group.status.role == .follower)
        }
        cluster.settle(ticks: 60)
        #expect(leader.store.applied == heir.store.applied && cluster.violation == nil)
    }

    @Test func theLogTellsLivesApart() throws {
        let fixture = LogFixture()
        var log = try fixture.open()
        let shard = ShardID(rawValue: 1), floor = EntryID(term: Term(rawValue: 3), index: LogIndex(rawValue: 60))
        let vote = HardState(term: Term(rawValue: 5), votedFor: NodeID(rawValue: 2))
        for index in 1...60 as ClosedRange<UInt64> { try log.write([entry(index, size: 100)], term: 3) }
        var batch = LogBatch()
        batch.append(removedAt: floor, note: [9], shard: shard)
        batch.append(vote, shard: shard)
        try log.write(&batch)
        // Gone, and it stays so when what is before is removed; twice over.
        for _ in 0..<2 {
            for index in 1...80 as ClosedRange<UInt64> { try log.append([entry(index, shard: 2, size: 100)]) }
            try log.truncate(flushed: [ShardID(rawValue: 2): LogIndex(rawValue: 80)])
            log = try fixture.crashAndOpen()
            #expect(log.state(1).removal == [9] && log.state(1).hardState == vote && log.state(1).floor == floor)
            #expect(try log.entries().allSatisfy { $0.shard == 2 })
            #expect(log.state(1).lastIndex == .zero && log.state(1).membership == nil)
        }
        #expect(log.segmentCount < 4)
        // Here again.
        batch = LogBatch()
        batch.append(Membership(voters: [NodeID(rawValue: 1)]), at: .zero, shard: shard)
        try log.write(&batch)
        try log.append([entry(1), entry(2)], term: 3)
        for _ in 0..<2 {
            #expect(log.state(1).removal == nil && log.state(1).floor == floor)
            #expect(!log.isSingle(shard, on: NodeID(rawValue: 1)))
            #expect(try log.entries().filter { $0.shard == 1 }.map(\.index) == [1, 2])
            for index in 81...160 as ClosedRange<UInt64> { try log.append([entry(index, shard: 2, size: 100)]) }
            try log.truncate(flushed: [ShardID(rawValue: 2): LogIndex(rawValue: 160)])
            log = try fixture.crashAndOpen()
        }
    }
}
