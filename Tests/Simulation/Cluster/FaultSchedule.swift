import Base

/// A sequence of faults, waits and guided clients that leads to one classic accident, as data: who takes part is
/// decided when it is played, by the seed and by what the cluster does. Nobody who plays it knows what is planted; in a
/// cluster without a bug nothing may come of it.
struct FaultSchedule: Sendable {
    /// Some of the voters of the shard in which it is played; of `n` voters `q = n / 2 + 1` are a majority.
    enum Part: Hashable, Sendable {
        /// Who led when it began.
        case leader
        /// The others are `q` rivals and, if there are more, allies: with them the leader is no majority.
        case rivals, allies
        /// One of the rivals, and the rest of them.
        case challenger, witnesses
        /// Who was elected last, unless that is `leader`.
        case successor
        /// All voters but the leader and the successor.
        case others
        /// So many of the others that they are a majority with one more.
        case helpers
    }

    /// What is waited for. It is looked at after every single event.
    enum Condition: Hashable, Sendable {
        /// The challenger is in a later term than the leader.
        case campaigns
        /// Somebody else was elected after `leader`, or after whoever was elected last.
        case elected
        /// `leader` was elected again.
        case returns
        /// `leader` leads no more, as far as it knows.
        case abdicates
        /// The leader knows that something is committed, and no other voter does.
        case isAhead
        /// A majority has entries that `leader` brought from an earlier term, and not the one that it began with.
        case copies
        /// The successor has committed that many entries.
        case commits(Int)
    }

    /// What happens next. Times are milliseconds.
    enum Step: Hashable, Sendable {
        /// Parts them from all other machines; every other link works.
        case isolate([Part])
        /// Cuts the links between these, both ways; every other link works.
        case cut([Part], from: [Part])
        case heal
        /// The processes die and stay dead until the end.
        case kill([Part])
        /// The processes die and start anew: what was on its way to them is lost, too.
        case bounce([Part])
        /// SIGSTOP and SIGCONT.
        case stop([Part])
        case resume([Part])
        /// Their disks take up to a second for a write, or do as before.
        case slow([Part])
        case fast
        /// Half of the clients read, half of them write, one key, in a hurry, and ask nobody but these.
        case guide(readers: [Part], writers: [Part])
        /// Gives up when it does not come about.
        case until(Condition, within: UInt64)
        case pass(ClosedRange<UInt64>)
    }

    let steps: [Step]

    init(_ steps: Step...) { self.steps = steps }
}

/// Whom clients ask while a schedule is played, and about which key.
struct ClientGuidance {
    var key: Int
    var readers: [Int]
    var writers: [Int]

    /// How long a guided client waits between two operations, and for an answer, in nanoseconds.
    static let think: UInt64 = 20_000_000
    static let patience: UInt64 = 250_000_000

    /// Which clients read.
    static func isReader(_ client: Int) -> Bool { client & 1 == 0 }
}
