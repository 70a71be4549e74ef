import Base

// What replicas tell each other (Proto/raft.proto). `PeerBatch` is the third hot message, coded by hand like the two of
// `Invocation/`: a tick's appends and their replies cost a few varints each, payloads are copied once, as one stretch.
// What the encoder writes is byte for byte what protobuf-c writes for the same fields; tests compare the two.
//
// This module knows how a message lies in its frame, not what it means: Raft is a sibling. The layer above, which has
// both, turns one into the other.

/// Where the methods of `orbit.v1.PeerService` are, and the versions of it that this program speaks.
package enum PeerPath {
    package static let service = "orbit.v1.PeerService"
    package static let exchange = "/orbit.v1.PeerService/Exchange"
    /// Whether a method is of this service or of `SnapshotService`, whichever: they are for peers only.
    package static func contains(_ path: String) -> Bool {
        path.hasPrefix("/orbit.v1.PeerService/") || path.hasPrefix("/orbit.v1.SnapshotService/")
    }

    /// The lowest and the highest version.
    package static let protocolVersions: ClosedRange<UInt32> = 1...1
}

/// A Raft message of one group: as it lies in its frame, or as it is to be written there.
///
/// The frame belongs to somebody else, and so do the tables of `entries`: a message is valid while it is being handled.
/// Numbers that were read are at most `limit`, so that adding to them cannot overflow.
package struct PeerMessage {
    /// The numbers are the wire form. In parentheses what is used beside shard and term.
    package enum Kind: UInt8, CaseIterable, Hashable, Sendable {
        /// Entries, or the question whether the logs match (index and logTerm: of the entry before the first; commit;
        /// round; entries).
        case append = 1
        /// (index: up to where the logs match; round). Refused (index and logTerm: where they may match; hint: the
        /// index that was asked for; round).
        case appendReply = 2
        /// The leader is there (commit; round; quiescing). Answering a rejoin (index: up to where what was
        /// committed before lies, 0 while that is not known; hint: the nonce).
        case heartbeat = 3
        /// (round). Asking for a rejoin (hint: the nonce).
        case heartbeatReply = 4
        /// (index and logTerm: of the candidate's last entry; transfer).
        case preVoteRequest = 5
        /// (refused; rejoin: the voter's log was cut).
        case preVoteReply = 6
        /// (index and logTerm: of the candidate's last entry; transfer).
        case voteRequest = 7
        /// (refused; rejoin: the voter's log was cut).
        case voteReply = 8
        /// The leader asks the receiver to campaign at once.
        case timeoutNow = 9
        /// A snapshot, which itself comes by another way (index and logTerm: of its last entry; membership).
        case snapshot = 10
    }

    /// What may be said beside the numbers; bits of a later version are kept.
    package struct Flags: OptionSet, Hashable, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }
        /// A reply that says no.
        package static let refused = Flags(rawValue: 1)
        /// An election that the leader itself asked for.
        package static let transfer = Flags(rawValue: 2)
        /// The last heartbeat for now.
        package static let quiescing = Flags(rawValue: 4)
        /// A rejoin is asked for or answered; of a vote: the voter's log was cut.
        package static let rejoin = Flags(rawValue: 8)
    }

    /// The highest index, term or round that is taken from a peer.
    package static let limit: UInt64 = 1 << 62

    package var shard: ShardID
    package var kind: Kind
    package var term: Term
    package var index = LogIndex.zero
    package var logTerm = Term(rawValue: 0)
    package var commit = LogIndex.zero
    package var round: UInt64 = 0
    package var flags: Flags = []
    /// Any number: it has no limit.
    package var hint: UInt64 = 0
    package var membership = ByteView(start: nil, count: 0)
    package var entries = PeerEntries()

    package init(shard: ShardID, kind: Kind, term: Term) {
        self.shard = shard
        self.kind = kind
        self.term = term
    }

    /// Nothing but what fits a row.
    @inline(__always) var isPlain: Bool { flags.isEmpty && hint == 0 }
}

/// The entries of an append: numbers in tables, payloads in one stretch.
///
/// Read from a frame they agree with each other: the runs of terms rise and cover the entries, the sizes cover the
/// payload, the exceptions rise and lie within.
package struct PeerEntries {
    /// Entries in a row that have the same term.
    package struct TermRun: Hashable, Sendable {
        package var count: UInt64
        package var term: UInt64

        package init(count: UInt64, term: UInt64) {
            self.count = count
            self.term = term
        }
    }

    /// An entry of another kind than 0, the ordinary one.
    package struct KindException: Hashable, Sendable {
        package var position: UInt64
        package var kind: UInt64

        package init(position: UInt64, kind: UInt64) {
            self.position = position
            self.kind = kind
        }
    }

    package var terms = UnsafeBufferPointer<TermRun>(start: nil, count: 0)
    package var sizes = UnsafeBufferPointer<UInt32>(start: nil, count: 0)
    package var kinds = UnsafeBufferPointer<KindException>(start: nil, count: 0)
    /// Of a message that was read; a writer hands the payload over in pieces.
    package var payload = ByteView(start: nil, count: 0)

    package init() {}

    /// The most entries that a message may have: an entry without payload is one byte in its frame and more in memory.
    package static let limit = 1 << 16

    package var count: Int { sizes.count }
}
