import Base

/// Who belongs to a group. In force from the moment it is in the log, committed or not.
///
/// A change of voters goes through a *joint* membership, in which every decision needs a majority of the old voters
/// and a majority of the new ones; there is no moment at which two majorities could decide apart.
package struct Membership: Hashable, Sendable, CustomStringConvertible {
    /// What a group may count at most, learners included.
    package static let limit = 32
    /// Format 2 adds the version, and is written only where there is one: whoever has none writes what he always did.
    private static let formatVersion: UInt8 = 1, versionedFormat: UInt8 = 2

    /// The voters, ascending; while joint, the old ones.
    package let voters: [NodeID]
    /// While joint, the voters that are to be.
    package let incoming: [NodeID]?
    /// Who receives the log and has no vote. While joint it may name a voter that is becoming a learner.
    package let learners: [NodeID]
    /// Which state of a plan it carries out; 0 where nobody plans. It never falls: a leader that knows an older plan
    /// cannot undo what an earlier one did by a newer.
    package let version: UInt64

    /// Sorts, and drops what is named twice.
    package init(voters: [NodeID], incoming: [NodeID]? = nil, learners: [NodeID] = [], version: UInt64 = 0) {
        func tidy(_ nodes: [NodeID]) -> [NodeID] { Array(Set(nodes)).sorted() }
        self.voters = tidy(voters)
        self.incoming = incoming.map(tidy)
        self.learners = tidy(learners)
        self.version = version
    }

    package var isJoint: Bool { incoming != nil }

    /// Whether a group could live with it: there are voters, nobody is both voter and learner in the end, not too many.
    package var isWellFormed: Bool {
        let final = incoming ?? voters
        return !voters.isEmpty && !final.isEmpty && voters.count <= Self.limit && final.count <= Self.limit
            && learners.count <= Self.limit && learners.allSatisfy { !final.contains($0) }
    }

    /// What a joint membership leads to; itself when it is not joint.
    package var final: Membership { Membership(voters: incoming ?? voters, learners: learners, version: version) }

    /// Everybody, each once, ascending.
    package var everyone: [NodeID] { Array(Set(voters + (incoming ?? []) + learners)).sorted() }

    /// Whether `node` votes (while joint: on either side).
    package func isVoter(_ node: NodeID) -> Bool { voters.contains(node) || incoming?.contains(node) == true }

    package func contains(_ node: NodeID) -> Bool { isVoter(node) || learners.contains(node) }

    /// Whether `node` alone decides everything.
    package func isOnlyVoter(_ node: NodeID) -> Bool {
        voters.count == 1 && voters.first == node && (incoming == nil || incoming == voters)
    }

    /// Whether those for whom `holds` is true are a majority (while joint: of both sides).
    package func isQuorum(_ holds: (NodeID) -> Bool) -> Bool {
        func majority(_ side: [NodeID]) -> Bool {
            var count = 0
            for node in side where holds(node) { count += 1 }
            return count > side.count / 2
        }
        return majority(voters) && (incoming.map(majority) ?? true)
    }

    /// Whether `holds` is true for every voter (while joint: on both sides).
    package func isUnanimous(_ holds: (NodeID) -> Bool) -> Bool {
        voters.allSatisfy(holds) && incoming?.allSatisfy(holds) != false
    }

    /// The payload of a configuration entry, and what a snapshot's manifest keeps.
    package func encoded() -> Bytes {
        var bytes: Bytes = [version == 0 ? Self.formatVersion : Self.versionedFormat, incoming == nil ? 0 : 1]
        if version != 0 { withUnsafeBytes(of: version.littleEndian) { bytes.append(contentsOf: $0) } }
        for side in [voters, incoming ?? [], learners] {
            bytes.append(UInt8(truncatingIfNeeded: side.count))
            for node in side {
                for shift in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: node.rawValue >> shift)) }
            }
        }
        return bytes
    }

    /// Nil for anything that `encoded` does not write.
    package static func decode(_ view: ByteView) -> Membership? {
        var reader = ByteReader(view)
        guard let format = reader.byte(), format == formatVersion || format == versionedFormat,
            let joint = reader.byte(), joint <= 1
        else { return nil }
        var version: UInt64 = 0
        if format == versionedFormat {
            guard let known = reader.littleEndian(UInt64.self), known != 0 else { return nil }
            version = known
        }
        var sides: [[NodeID]] = []
        for _ in 0..<3 {
            guard let count = reader.byte(), Int(count) <= limit else { return nil }
            var side: [NodeID] = []
            for _ in 0..<count {
                guard let number = reader.littleEndian(UInt32.self) else { return nil }
                let node = NodeID(rawValue: number)
                if let last = side.last, last >= node { return nil }
                side.append(node)
            }
            sides.append(side)
        }
        guard reader.isAtEnd, joint == 1 || sides[1].isEmpty else { return nil }
        let membership = Membership(
            voters: sides[0], incoming: joint == 1 ? sides[1] : nil, learners: sides[2], version: version)
        return membership.isWellFormed ? membership : nil
    }

    /// `[1 2 3] → [1 2 4], learners [5], version 7`
    package var description: String {
        func list(_ nodes: [NodeID]) -> String { "[" + nodes.map(\.description).joined(separator: " ") + "]" }
        return list(voters) + (incoming.map { " → " + list($0) } ?? "")
            + (learners.isEmpty ? "" : ", learners \(list(learners))") + (version == 0 ? "" : ", version \(version)")
    }
}
