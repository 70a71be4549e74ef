import Base

/// What replicas of a group say to each other. Any of them may be lost, late, doubled or out of order.
package struct Message: Hashable, Sendable {
    package var from: NodeID
    package var to: NodeID
    /// The sender's term; of a pre-vote, the term that the sender would campaign in.
    package var term: Term
    package var body: Body

    package init(from: NodeID, to: NodeID, term: Term, body: Body) {
        self.from = from
        self.to = to
        self.term = term
        self.body = body
    }

    /// The kinds of message.
    package enum Body: Hashable, Sendable {
        /// "Would you vote for me?" Changes nothing at whoever is asked.
        case preVoteRequest(VoteRequest)
        case preVoteReply(VoteReply)
        case voteRequest(VoteRequest)
        case voteReply(VoteReply)
        /// Entries; the driver attaches the payloads of `entries.indexes`, in order.
        case append(Append)
        case appendReply(AppendReply)
        case heartbeat(Heartbeat)
        case heartbeatReply(HeartbeatReply)
        /// The receiving driver steps it when it has the whole snapshot staged: it travels at the end of the snapshot's
        /// stream, not beside the other messages.
        case snapshot(SnapshotMetadata)
        /// The leader asks the receiver to campaign at once.
        case timeoutNow
    }

    /// A candidate's case.
    package struct VoteRequest: Hashable, Sendable {
        /// The end of the candidate's log.
        package var last: EntryID
        /// The leader itself has asked for this election and has given its lease up: fences do not hold it back.
        package var isTransfer: Bool

        package init(last: EntryID, isTransfer: Bool) {
            self.last = last
            self.isTransfer = isTransfer
        }
    }

    /// A voter's answer.
    package struct VoteReply: Hashable, Sendable {
        package var isGranted: Bool
        /// The voter's log was cut, and it has not caught up since: its vote counts only beside everybody else's.
        package var isCut: Bool

        package init(isGranted: Bool, isCut: Bool = false) {
            self.isGranted = isGranted
            self.isCut = isCut
        }
    }

    /// Entries that follow `previous`; none is a question whether the log matches there.
    package struct Append: Hashable, Sendable {
        package var previous: EntryID
        package var entries: EntryRun
        /// The leader's commit index.
        package var commit: LogIndex
        /// The newest round of the leader when it was sent; the reply repeats it.
        package var round: UInt64

        package init(previous: EntryID, entries: EntryRun, commit: LogIndex, round: UInt64) {
            self.previous = previous
            self.entries = entries
            self.commit = commit
            self.round = round
        }
    }

    /// What became of an append.
    package struct AppendReply: Hashable, Sendable {
        /// Matches or not.
        package enum Outcome: Hashable, Sendable {
            /// The follower's durable log equals the leader's up to here.
            case matched(LogIndex)
            /// The follower's log does not hold the entry before `previous + 1`. The logs may match at `hint` or below:
            /// the follower's last entry whose index and term do not exceed the refused ones.
            case rejected(previous: LogIndex, hint: EntryID)
        }

        package var outcome: Outcome
        package var round: UInt64

        package init(outcome: Outcome, round: UInt64) {
            self.outcome = outcome
            self.round = round
        }
    }

    /// "I lead." Opens or repeats a round.
    package struct Heartbeat: Hashable, Sendable {
        /// The leader's commit index, but not beyond what the receiver is known to match.
        package var commit: LogIndex
        package var round: UInt64
        /// The last one for now: the group is idle, and all logs end at `commit`. The receiver stops its timer.
        package var isQuiescing: Bool
        /// Answers the receiver's `rejoin`; nil when nothing was asked.
        package var rejoin: Rejoin?

        package init(commit: LogIndex, round: UInt64, isQuiescing: Bool = false, rejoin: Rejoin? = nil) {
            self.commit = commit
            self.round = round
            self.isQuiescing = isQuiescing
            self.rejoin = rejoin
        }
    }

    /// Answers the question of a replica whose log was cut.
    package struct Rejoin: Hashable, Sendable {
        /// As it was asked: the leader knows that the log was cut, and believes nothing that was said of it before.
        package var nonce: UInt64
        /// Whatever was committed before the question is in the log up to here. Zero: not known yet.
        package var commit: LogIndex

        package init(nonce: UInt64, commit: LogIndex) {
            self.nonce = nonce
            self.commit = commit
        }
    }

    /// "You lead."
    package struct HeartbeatReply: Hashable, Sendable {
        package var round: UInt64
        /// Not zero: the sender's log was cut, and it wants to know how far it must catch up before it may vote.
        package var rejoin: UInt64

        package init(round: UInt64, rejoin: UInt64 = 0) {
            self.round = round
            self.rejoin = rejoin
        }
    }
}

/// What a snapshot stands for: the state after `last`.
package struct SnapshotMetadata: Hashable, Sendable {
    package var last: EntryID
    /// The membership in force at `last`.
    package var membership: Membership

    package init(last: EntryID, membership: Membership) {
        self.last = last
        self.membership = membership
    }
}
