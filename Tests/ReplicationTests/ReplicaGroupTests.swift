import Base
import Raft
import Replication
import TestKit
import Testing

/// Three drivers in one thread: their logs on disks that lose what was not synced, their messages in a list that the
/// test reorders and loses, their clock moved by hand.
struct ReplicaGroupTests {
    @Test func threeReplicasAgree() throws {
        let cluster = try Cluster(seed: 1)
        let leader = try cluster.elect()
        for number in 0..<20 as Range<UInt8> { try cluster.propose([number], at: leader) }
        cluster.settle()
        #expect(cluster.replicas.allSatisfy { $0.store.applied.count == cluster.agreed.count })
        #expect(cluster.acknowledged.count == 20)
        // The lease holds while the majority answers, and ends when nobody does.
        #expect(leader.group.leaseIsValid)
        cluster.clock.advance(milliseconds: 2000)
        #expect(!leader.group.leaseIsValid)
    }

    @Test func readsWaitForARound() throws {
        let cluster = try Cluster(seed: 2)
        let leader = try cluster.elect()
        try cluster.propose([1], at: leader)
        cluster.settle()
        var found: [ReadReady] = []
        leader.group.readIndex { found.append(contentsOf: (try? $0.get()).map { [$0] } ?? []) }
        cluster.settle()
        #expect(found.map(\.index) == [leader.group.committedIndex])
        var refusal: DatabaseError?
        let follower = try #require(cluster.replicas.first { $0 !== leader })
        follower.group.readIndex { result in
            if case .failure(let error) = result { refusal = error }
        }
        #expect(refusal?.code == .notLeader)
    }

    /// A follower that was away gets what it missed: from memory, from the segments, or as a snapshot.
    @Test(arguments: [0, 1]) func aFollowerThatWasAwayCatchesUp(retained: UInt64) throws {
        let cluster = try Cluster(seed: 3) {
            $0.cacheBytes = 2000
            $0.retainedBytes = retained == 0 ? 0 : 1 << 30
        }
        let leader = try cluster.elect()
        let away = try #require(cluster.replicas.first { $0 !== leader })
        cluster.cutOff = away.id
        for number in 0..<200 as Range<UInt8> {
            try cluster.propose(Bytes(repeating: number, count: 100), at: leader)
            if number % 10 == 0 {
                cluster.settle()
                for replica in cluster.replicas { replica.flush() }
            }
        }
        cluster.settle()
        #expect(away.store.applied.count < 50)
        cluster.cutOff = nil
        cluster.settle(ticks: 60)
        #expect(away.store.applied == leader.store.applied)
        #expect(cluster.acknowledged.count == 200)
        #expect(away.installed == (retained == 0 ? 1 : 0))
        // And the log of its own fits to it.
        try away.restart()
        cluster.settle(ticks: 60)
        #expect(away.store.applied == leader.store.applied)
    }

    /// A leader that is cut off with entries of its own follows the new one, which has others at the same indexes.
    @Test func aConflictIsResolved() throws {
        let cluster = try Cluster(seed: 4)
        let old = try cluster.elect()
        try cluster.propose([1], at: old)
        cluster.settle()
        cluster.cutOff = old.id
        for number in 0..<30 as Range<UInt8> { try cluster.propose([2, number], at: old) }
        old.runLog()
        let new = try cluster.elect(except: old)
        for number in 0..<5 as Range<UInt8> { try cluster.propose([3, number], at: new) }
        cluster.settle()
        cluster.cutOff = nil
        cluster.settle(ticks: 60)
        #expect(old.store.applied == new.store.applied)
        #expect(!old.group.isLeading)
        #expect(cluster.acknowledged.count == 6)
        try old.restart()
        cluster.settle(ticks: 60)
        #expect(old.store.applied == new.store.applied)
    }

    @Test func leadershipIsHandedOverAndMembersChange() throws {
        let cluster = try Cluster(seed: 5)
        let first = try cluster.elect()
        let second = try #require(cluster.replicas.first { $0 !== first })
        try first.group.transferLeadership(to: second.id)
        cluster.settle()
        #expect(second.group.isLeading && !first.group.isLeading)
        let voters = cluster.replicas.map(\.id).filter { $0 != first.id }
        try second.group.propose(Membership(voters: voters))
        cluster.settle()
        #expect(second.group.membership == Membership(voters: voters))
        try cluster.propose([9], at: second)
        cluster.settle()
        #expect(cluster.acknowledged.count == 1)
        // It is remembered.
        try second.restart()
        #expect(second.group.membership == Membership(voters: voters))
    }

    /// A leader that knows an older plan cannot undo what was done by a newer one, whoever did it and after a restart.
    @Test func anOlderPlanIsRefused() throws {
        let cluster = try Cluster(seed: 6)
        let first = try cluster.elect()
        let everybody = cluster.replicas.map(\.id)
        let voters = everybody.filter { $0 != first.id }
        // The change of the plan's number alone is worth an entry: the next leader must know it.
        try first.group.propose(Membership(voters: everybody, version: 4))
        cluster.settle()
        #expect(cluster.replicas.allSatisfy { $0.group.membership.version == 4 })
        try first.group.propose(Membership(voters: voters, version: 5))
        cluster.settle()
        let second = try cluster.elect(except: first)
        #expect(second.group.membership == Membership(voters: voters, version: 5))
        #expect(throws: DatabaseError.self) { try second.group.propose(Membership(voters: everybody, version: 4)) }
        #expect(throws: DatabaseError.self) { try second.group.propose(Membership(voters: everybody)) }
        cluster.settle()
        #expect(second.group.membership.version == 5)
        try second.restart()
        #expect(second.group.membership == Membership(voters: voters, version: 5))
    }

    /// A membership of one says that all is committed to that one node only.
    @Test func aLogIsItsOwnersAlone() throws {
        let log = try LogFixture().open()
        let shard = ShardID(rawValue: 1), owner = NodeID(rawValue: 3), other = NodeID(rawValue: 4)
        var batch = LogBatch()
        batch.append(Membership(voters: [owner]), at: .zero, shard: shard)
        try log.write(&batch)
        try log.append([entry(1), entry(2)])
        #expect(log.isSingle(shard, on: owner) && !log.isSingle(shard, on: other) && !log.isSingle(shard, on: nil))
        // Elsewhere the entries are there, and nothing is taken for committed.
        let found = try log.recovered(shard, applied: .zero, on: other)
        #expect(found.applied == .zero)
    }

    /// Whatever is lost, late or crashed: what was acknowledged is there, everywhere the same.
    @Test func survivesFaults() throws {
        let seed = freshSeed("replica groups")
        var seeds = SplitMix64(seed: seed)
        var (acknowledged, installed, cut) = (0, 0, 0)
        for _ in 0..<40 {
            let run = seeds.next()
            let cluster = try disturbed(run)
            try #require(cluster.violation == nil, "seed \(seed), run \(run)")
            acknowledged += cluster.acknowledged.count
            installed += cluster.replicas.reduce(0) { $0 + $1.installed }
            cut += cluster.cuts
            for replica in cluster.replicas {
                try #require(replica.store.applied == cluster.agreed, "seed \(seed), run \(run), node \(replica.id)")
            }
            for (index, payload) in cluster.acknowledged {
                try #require(cluster.agreed[Int(index.rawValue) - 1] == payload, "seed \(seed), run \(run): \(index)")
            }
        }
        // What a run must have met to mean something.
        #expect(acknowledged > 300 && installed > 0 && cut > 10, "\(acknowledged) \(installed) \(cut)")
    }

    /// Power is lost everywhere, and every log is torn: they elect the one that has most, and are like before then.
    @Test(arguments: [1, 2, 3]) func replicasWithCutLogsElect(count: Int) throws {
        let cluster = try Cluster(seed: 7)
        let leader = try cluster.elect()
        for number in 0..<20 as Range<UInt8> { try cluster.propose([number], at: leader) }
        cluster.settle()
        for (position, replica) in cluster.replicas.enumerated() { try replica.restart(isCut: position < count) }
        #expect(cluster.replicas.filter { !$0.group.status.mayVote }.count == count)
        let next = try cluster.elect()
        try cluster.propose([99], at: next)
        cluster.settle(ticks: 20)
        for replica in cluster.replicas {
            #expect(replica.store.applied == cluster.agreed && replica.group.status.mayVote)
        }
        #expect(cluster.acknowledged.count == 21)
        #expect(cluster.violation == nil)
        // And that is remembered, too.
        for replica in cluster.replicas { try replica.restart() }
        #expect(cluster.replicas.allSatisfy { $0.group.status.mayVote })
    }

    /// Two of three were cut while the third is away, which may have what they have lost.
    @Test func replicasWithCutLogsWaitForTheOthers() throws {
        let cluster = try Cluster(seed: 8)
        let leader = try cluster.elect()
        try cluster.propose([1], at: leader)
        cluster.settle()
        cluster.cutOff = leader.id
        let others = cluster.replicas.filter { $0 !== leader }
        for replica in others {
            try replica.restart(isCut: true)
            // The second start finds a log without a flaw.
            try replica.restart()
            #expect(!replica.group.status.mayVote)
        }
        cluster.settle(ticks: 200)
        #expect(others.allSatisfy { !$0.group.isLeading && !$0.group.status.mayVote })
        cluster.cutOff = nil
        cluster.settle(ticks: 60)
        #expect(cluster.replicas.allSatisfy { $0.group.status.mayVote && $0.store.applied == cluster.agreed })
    }

    /// What a replica keeps for others must not be what fills its own disk for good.
    @Test func aFullDiskKeepsNothingForFollowers() throws {
        let cluster = try Cluster(seed: 6) { $0.retainedBytes = 1 << 30 }
        let leader = try cluster.elect()
        let small = try #require(cluster.replicas.first { $0 !== leader })
        small.disk.capacity = 3 * 4096
        var number: UInt8 = 0
        func propose() throws {
            try cluster.propose(Bytes(repeating: number, count: 100), at: leader)
            number += 1
            cluster.settle(ticks: 1)
        }
        while !small.groups.writer.isFull, number < 200 { try propose() }
        #expect(number < 200)
        for _ in 0..<100 {
            small.flush()
            try propose()
        }
        cluster.settle()
        #expect(!small.groups.writer.isFull)
        #expect(small.store.applied == cluster.agreed && cluster.violation == nil)
    }

    /// A replica that starts on a full disk, under a leader that does not know what it has: it must hear that its log
    /// is committed though it can take nothing more, or it could never flush, cut the log and make room.
    @Test(arguments: [false, true]) func aFullDiskIsLeftAfterARestart(isCut: Bool) throws {
        let cluster = try Cluster(seed: 7) { $0.retainedBytes = 1 << 30 }
        let first = try cluster.elect()
        let small = try #require(cluster.replicas.first { $0 !== first })
        let second = try #require(cluster.replicas.first { $0 !== first && $0 !== small })
        small.disk.capacity = 3 * 4096
        var number: UInt8 = 0
        while !small.groups.writer.isFull, number < 200 {
            try cluster.propose(Bytes(repeating: number, count: 100), at: first)
            number += 1
            cluster.settle(ticks: 1)
        }
        #expect(number < 200)
        cluster.cutOff = small.id
        try first.group.transferLeadership(to: second.id)
        cluster.settle()
        try #require(second.group.isLeading)
        try small.restart(isCut: isCut)
        cluster.cutOff = nil
        for number in 0..<100 as Range<UInt8> {
            small.flush()
            try cluster.propose(Bytes(repeating: number, count: 100), at: second)
            cluster.settle(ticks: 1)
        }
        cluster.settle()
        #expect(!small.groups.writer.isFull)
        #expect(small.store.applied == cluster.agreed && cluster.violation == nil)
    }

    /// Its store holds an entry of a term that its log has lost: it must not be stuck there.
    @Test(arguments: [6_554_511_255_680_277_443, 13_314_283_977_983_957_855] as [UInt64])
    func aStoreAheadOfItsLogCatchesUp(run: UInt64) throws {
        let cluster = try disturbed(run)
        #expect(cluster.violation == nil)
        for replica in cluster.replicas { #expect(replica.store.applied == cluster.agreed) }
    }

    /// A group after a time of faults and a time of peace.
    private func disturbed(_ run: UInt64) throws -> Cluster {
        let cluster = try Cluster(seed: run) {
            $0.cacheBytes = 500
            $0.retainedBytes = 300
        }
        var random = SplitMix64(seed: run)
        for _ in 0..<600 where cluster.violation == nil { try disturb(cluster, &random) }
        cluster.cutOff = nil
        for replica in cluster.replicas where random.oneIn(2) { try replica.restart() }
        cluster.settle(ticks: 200)
        return cluster
    }

    private func disturb(_ cluster: Cluster, _ random: inout SplitMix64) throws {
        let replica = cluster.replicas[Int(random.next(below: 3))]
        switch random.next(below: 100) {
        case 0..<30:
            cluster.deliver(Int(random.next(below: 12)), random: &random)
        case 30..<50:
            replica.runLog()
        case 50..<66:
            cluster.clock.advance(milliseconds: 50)
            for replica in cluster.replicas { replica.groups.tick() }
        case 66..<90:
            if replica.group.isLeading {
                try cluster.propose(random.bytes(Int(random.next(below: 200)) + 1), at: replica)
            }
        case 90..<95:
            replica.flush()
        case 95..<96:
            cluster.cutOff = random.oneIn(2) ? nil : replica.id
        case 96..<97:
            let isCut = random.oneIn(2)
            if isCut { cluster.cuts += 1 }
            try replica.restart(isCut: isCut)
        case 97..<98:
            cluster.settle(ticks: 30)
        default:
            if random.oneIn(4) { cluster.loseMessages(random: &random) }
        }
        for replica in cluster.replicas { replica.groups.endTick() }
    }
}
