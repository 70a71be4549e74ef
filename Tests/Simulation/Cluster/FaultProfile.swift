import Base
import Raft

/// What the faults of a run are after. Most seeds mix all faults at random; the others play schedules in between, each
/// of which random faults hardly ever come by.
package enum FaultProfile: String, CaseIterable, Hashable, Sendable {
    /// Everything at random.
    case mixed
    /// The paper's figure 8: an old leader comes back, brings entries of its earlier term to a majority, and is lost
    /// before one of its new term; then comes somebody who has other entries of a term between.
    case figure8
    /// Somebody who does not hear the leader campaigns while the leader's lease runs.
    case usurper
    /// A candidate wins, and dies before its own vote is on disk.
    case lostVote
    /// A leader dies with the news that something is committed; the next one is asked at once.
    case earlyReader
    /// A leader sleeps through its own fall, and is asked before it hears of it.
    case sleeper

    /// The profile that a seed has, unless somebody asks for another one.
    package init(seed: UInt64) {
        // Apart from the run's own numbers: the same seed with another profile is the same cluster.
        var random = SplitMix64(seed: seed ^ 0x7072_6F66_696C_6573)
        guard random.oneIn(4) else {
            self = .mixed
            return
        }
        let directed = Self.allCases.filter { $0 != .mixed }
        self = directed[Int(random.next(below: UInt64(directed.count)))]
    }

    var schedules: [FaultSchedule] {
        switch self {
        case .mixed: []
        case .figure8: [Self.figure8Schedule]
        case .usurper: [Self.usurpation, Self.forgetfulWitness]
        case .lostVote: [Self.lostVoteSchedule]
        case .earlyReader: [Self.earlyRead]
        case .sleeper: [Self.sleepAlone, Self.sleepAmongOthers]
        }
    }

    private static let figure8Schedule = FaultSchedule(
        .guide(readers: [.leader], writers: [.leader]),
        // What is written now stays with the leader.
        .isolate([.leader]),
        .until(.elected, within: 4000),
        // The first entry of the successor stays with it.
        .isolate([.leader, .helpers]),
        .bounce([.others]),
        .until(.returns, within: 6000),
        .until(.copies, within: 1000),
        .kill([.leader]),
        .bounce([.helpers]),
        .heal,
        .guide(readers: [.successor], writers: [.successor]),
        .until(.elected, within: 6000),
        .pass(100...600))

    private static let usurpation = FaultSchedule(
        .guide(readers: [.leader], writers: [.challenger]),
        .cut([.leader], from: [.challenger]),
        .until(.campaigns, within: 2500),
        .isolate([.leader]),
        .pass(400...800))

    /// The witnesses may not know any more whom they have heard.
    private static let forgetfulWitness = FaultSchedule(
        .guide(readers: [.leader], writers: [.challenger]),
        .cut([.leader], from: [.challenger]),
        .pass(300...700),
        .bounce([.witnesses]),
        .until(.campaigns, within: 2000),
        .isolate([.leader]),
        .pass(400...800))

    private static let lostVoteSchedule = FaultSchedule(
        .isolate([.leader, .allies]),
        .slow([.rivals]),
        .until(.elected, within: 4000),
        .bounce([.successor]),
        .fast,
        .until(.abdicates, within: 3000),
        // The minority that has not heard of the election, and the one who may have forgotten it.
        .isolate([.leader, .allies, .successor]),
        .pass(2000...3500))

    private static let earlyRead = FaultSchedule(
        .guide(readers: [.leader], writers: [.leader]),
        .pass(50...300),
        .until(.isAhead, within: 2000),
        .kill([.leader]),
        .guide(readers: [.others], writers: [.others]),
        .until(.elected, within: 4000),
        .slow([.others]),
        .guide(readers: [.successor], writers: [.successor]),
        .pass(300...1000))

    private static let sleepAlone = FaultSchedule(
        .guide(readers: [.leader], writers: [.leader]),
        .pass(50...300),
        .stop([.leader]),
        .isolate([.leader]),
        .guide(readers: [.rivals], writers: [.rivals]),
        .until(.elected, within: 4000),
        .guide(readers: [.successor], writers: [.successor]),
        .until(.commits(3), within: 2000),
        .guide(readers: [.leader], writers: [.successor]),
        .pass(0...100),
        .resume([.leader]),
        .pass(100...600))

    private static let sleepAmongOthers = FaultSchedule(
        .stop([.leader]),
        .guide(readers: [.rivals], writers: [.rivals]),
        .until(.elected, within: 4000),
        .guide(readers: [.successor], writers: [.successor]),
        .until(.commits(3), within: 2000),
        .guide(readers: [.leader], writers: [.successor]),
        .pass(20...150),
        .resume([.leader]),
        .pass(100...600))
}

extension ClusterPlan {
    /// Leaves nothing to chance without which the profile's schedules come to nothing.
    mutating func suit(_ profile: FaultProfile) {
        switch profile {
        case .mixed, .lostVote, .sleeper: break
        case .figure8: appendEntries = 1
        case .usurper:
            isLeaseOn = true
            clockRate = Self.clockRateWithLeases
        case .earlyReader: hasActors = false
        }
    }
}

extension ClusterBug {
    /// Where it is looked for: what random faults find, is left to them.
    package var profile: FaultProfile {
        switch planted {
        case .commitEarlierTermByCount: .figure8
        case .leaseWithoutFencing: .usurper
        case .ackBeforeHardState: .lostVote
        case .readBeforeOwnCommit: .earlyReader
        case .readWithoutQuorum: .sleeper
        case _: .mixed
        }
    }
}
