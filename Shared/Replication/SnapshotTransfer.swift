import Base
import Raft

// The transfer of a snapshot from a leader to a replica whose entries the log no longer has, as two values:
//
//     SnapshotSender ──offer, chunks──▶ SnapshotReceiver ──open, write, check, stage──▶ disk, group
//                    ◀────progress─────
//
// Pure: no bytes of files, no clock, no disk. The drivers read and write what the actions name, and carry what the two
// say to each other over a stream of its own, so that a snapshot never holds up heartbeats. Parts may be lost, doubled
// and reordered, and either side may start anew: the receiver's word about what it has decides where the sender goes
// on.
//
// A transfer is all of the snapshot's files, one behind the other. The receiver takes chunks in order and tells what
// has been written; the sender keeps at most a window of bytes on the way and goes back to what the receiver wants
// when something was lost. Each file is checked when it is complete, and received again when it is damaged.

/// Where a transfer stands: everything before it is meant.
package struct SnapshotPosition: Hashable, Sendable, Comparable {
    package var file: Int
    package var offset: UInt64

    package init(file: Int, offset: UInt64) {
        self.file = file
        self.offset = offset
    }

    package static func < (left: SnapshotPosition, right: SnapshotPosition) -> Bool {
        (left.file, left.offset) < (right.file, right.offset)
    }
}

/// What the sender has for the receiver.
package struct SnapshotOffer: Hashable, Sendable {
    /// Names this attempt; parts and answers of others are of the past.
    package var transfer: UInt64
    package var shard: ShardID
    /// The sender's term: the receiver's group gets it with the metadata once everything is staged.
    package var leaderTerm: Term
    package var metadata: SnapshotMetadata
    /// What the files are, in the words of whoever made them; equal manifests mean equal files.
    package var manifest: Bytes
    /// Bytes of each file.
    package var sizes: [UInt64]

    package init(
        transfer: UInt64, shard: ShardID, leaderTerm: Term, metadata: SnapshotMetadata, manifest: Bytes,
        sizes: [UInt64]
    ) {
        self.transfer = transfer
        self.shard = shard
        self.leaderTerm = leaderTerm
        self.metadata = metadata
        self.manifest = manifest
        self.sizes = sizes
    }

    /// The Raft message that ends the transfer, for the receiver's group.
    package func message(from leader: NodeID, to follower: NodeID) -> Message {
        Message(from: leader, to: follower, term: leaderTerm, body: .snapshot(metadata))
    }

    /// Whether the files are the same, whoever offers them and in which attempt.
    func isSameSnapshot(as other: SnapshotOffer) -> Bool {
        metadata == other.metadata && manifest == other.manifest && sizes == other.sizes
    }
}

/// Why a receiver does not want a snapshot.
package enum SnapshotRefusal: UInt32, CaseIterable, Hashable, Sendable {
    /// It has as much already, or a newer leader sends.
    case stale = 1
    /// It cannot take one now.
    case busy = 2
    /// Its disk has no room.
    case full = 3
    /// The offer makes no sense to it: other keys, an unknown format, impossible sizes.
    case malformed = 4
    /// A file was damaged time and again.
    case damaged = 5
    /// Its disk failed.
    case failed = 6
}

/// What the receiver says.
package struct SnapshotProgress: Hashable, Sendable {
    /// What the receiver makes of the transfer.
    package enum State: Hashable, Sendable {
        /// The receiver does not know the transfer (it was restarted): offer it again.
        case unknown
        /// It looks for room and for what it has already.
        case opening
        /// Everything before `written` is on disk. `wanted` is told when a part before it is missing.
        case receiving(written: SnapshotPosition, wanted: SnapshotPosition?)
        /// Everything is there and checked; the group has been told.
        case staged
        case refused(SnapshotRefusal)
    }

    package var transfer: UInt64
    /// Rises when the receiver goes back, because a file was damaged: older answers then mean nothing.
    package var round: UInt64
    package var state: State

    package init(transfer: UInt64, round: UInt64, state: State) {
        self.transfer = transfer
        self.round = round
        self.state = state
    }
}

/// Files as one run of bytes.
struct SnapshotLayout: Hashable, Sendable {
    /// Where each file ends.
    private let ends: [UInt64]

    static let fileLimit = 1 << 16

    /// No files.
    init() { ends = [] }

    /// Nil for sizes that no disk has.
    init?(sizes: [UInt64]) {
        guard sizes.count <= Self.fileLimit else { return nil }
        var ends: [UInt64] = []
        ends.reserveCapacity(sizes.count)
        var total: UInt64 = 0
        for size in sizes {
            guard size < 1 << 48 else { return nil }
            total &+= size  // 2^16 files of 2^48 bytes: below 2^64.
            ends.append(total)
        }
        guard total < 1 << 62 else { return nil }
        self.ends = ends
    }

    var total: UInt64 { ends.last ?? 0 }
    var files: Int { ends.count }

    /// Where `file` begins; the end of everything for the one behind the last.
    func start(of file: Int) -> UInt64 { file <= 0 ? 0 : ends[min(file, ends.count) - 1] }

    /// The place in the run, or nil when there is none.
    func absolute(_ position: SnapshotPosition) -> UInt64? {
        guard position.file >= 0, position.file <= ends.count else { return nil }
        let start = start(of: position.file)
        let size = position.file < ends.count ? ends[position.file] &- start : 0
        return position.offset <= size ? start &+ position.offset : nil
    }

    /// The file that holds the byte at `place`, and where in it; behind the last byte: the file behind the last.
    func position(at place: UInt64) -> SnapshotPosition {
        var low = 0
        var high = ends.count
        while low < high {
            let middle = (low + high) / 2
            if ends[middle] > place { high = middle } else { low = middle + 1 }
        }
        return SnapshotPosition(file: low, offset: low < ends.count ? place &- start(of: low) : 0)
    }

    /// The end of the file that holds the byte at `place`.
    func end(at place: UInt64) -> UInt64 {
        let file = position(at: place).file
        return file < ends.count ? ends[file] : total
    }
}
