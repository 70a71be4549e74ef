/// What a database may promise about transactions. Each level forbids what those before it do, and more.
package enum IsolationLevel: String, CaseIterable, Comparable, Sendable {
    case readCommitted = "read-committed"
    case snapshot
    case serializable
    case strictSerializable = "strict-serializable"

    private var rank: Int {
        switch self {
        case .readCommitted: 0
        case .snapshot: 1
        case .serializable: 2
        case .strictSerializable: 3
        }
    }

    package static func < (left: IsolationLevel, right: IsolationLevel) -> Bool { left.rank < right.rank }
}

/// Something that clients saw and should not have seen.
package struct IsolationAnomaly: Hashable, Sendable {
    /// The phenomena of Adya's thesis where he has a name for it ("Weak Consistency", 1999), the worst first. Of an
    /// anomaly drawn as a cycle: ww leads from a write to the one that replaced it, wr from a write to who read it, rw
    /// from a read to the write that replaced what it saw.
    package enum Kind: String, CaseIterable, Sendable {
        /// The recorder's fault: two writes of one value, or a key that is both list and register.
        case malformed
        /// A value that nobody wrote.
        case unwritten
        /// An append that happened twice.
        case duplicate
        /// Two reads that no single order of appends explains.
        case incompatibleOrders = "incompatible orders"
        /// A transaction does not see its own writes, or they have lost their order.
        case own = "internal"
        case abortedRead = "G1a, aborted read"
        /// A read of what its writer replaced itself.
        case intermediateRead = "G1b, intermediate read"
        /// A cycle of ww.
        case dirtyWrite = "G0, dirty write"
        /// A cycle of ww and wr.
        case circularInformation = "G1c, circular information flow"
        /// A transaction reads a key twice, and others wrote in between.
        case nonRepeatableRead = "non-repeatable read"
        /// Two transactions read the same version of a key and both replace it.
        case lostUpdate = "lost update"
        /// A cycle with one rw.
        case readSkew = "G-single, read skew"
        /// A cycle with several rw, no two of them in a row: as impossible in snapshots as with one.
        case nonadjacent = "G-nonadjacent"
        /// A cycle with two rw in a row.
        case writeSkew = "G2-item, write skew"
        /// A cycle with the order in time of transactions that did not overlap.
        case realTime = "against real time"

        /// The weakest level that forbids it.
        package var level: IsolationLevel {
            switch self {
            case .malformed, .unwritten, .duplicate, .incompatibleOrders, .own, .abortedRead, .intermediateRead,
                .dirtyWrite, .circularInformation:
                .readCommitted
            case .nonRepeatableRead, .lostUpdate, .readSkew, .nonadjacent: .snapshot
            case .writeSkew: .serializable
            case .realTime: .strictSerializable
            }
        }
    }

    package let kind: Kind
    /// The transactions concerned, by their place in the history; those of a cycle in its order, then those that only
    /// show an order of others.
    package let transactions: [Int]
    /// What each of them did, and how one leads to the next.
    package let explanation: String
}

/// What a history shows.
package struct IsolationReport: Sendable {
    /// How many of a kind are told; all are counted.
    package static let told = 8

    package private(set) var anomalies: [IsolationAnomaly] = []
    package private(set) var counts: [IsolationAnomaly.Kind: Int] = [:]
    /// Transactions that committed, those of unknown outcome among them that somebody has seen.
    package internal(set) var committed = 0

    /// What a level forbids of it.
    package func violations(of level: IsolationLevel) -> [IsolationAnomaly] {
        anomalies.filter { $0.kind.level <= level }
    }

    /// The strongest level that the history does not contradict; nil when it contradicts them all.
    package var level: IsolationLevel? {
        IsolationLevel.allCases.last { violations(of: $0).isEmpty }
    }

    mutating func add(
        _ kind: IsolationAnomaly.Kind, _ transactions: [Int], _ explanation: () -> String
    ) {
        counts[kind, default: 0] += 1
        if counts[kind, default: 0] > Self.told { return }
        anomalies.append(IsolationAnomaly(kind: kind, transactions: transactions, explanation: explanation()))
    }
}
