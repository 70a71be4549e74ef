import Base
import ServiceKit

/// Actors that are in memory, as a table for people and as JSON.
package struct ActorTable {
    /// An actor in memory. Times are milliseconds since 1970.
    package struct Row: Hashable {
        let key: Bytes
        let type: String
        let database: UInt32
        let shard: UInt32
        let term: UInt64
        let process: String
        let activeSince: UInt64
        let lastCalled: UInt64
        let bytes: UInt64
        let isPending: Bool

        package init(
            key: Bytes, type: String, database: UInt32, shard: UInt32, term: UInt64, process: String,
            activeSince: UInt64, lastCalled: UInt64, bytes: UInt64, isPending: Bool
        ) {
            (self.key, self.type, self.database, self.shard, self.term) = (key, type, database, shard, term)
            (self.process, self.activeSince, self.lastCalled) = (process, activeSince, lastCalled)
            (self.bytes, self.isPending) = (bytes, isPending)
        }

        /// How it is and has been, for its columns: ACTIVE, IDLE, SIZE, PENDING.
        fileprivate func state(now: UInt64) -> [String] {
            [
                ActorTable.age(activeSince, now), ActorTable.age(lastCalled, now),
                PlacementTable.size(Int64(clamping: bytes)), isPending ? "yes" : "no",
            ]
        }

        fileprivate var members: [JSON.Member] {
            [
                .init("type", .text(type)), .init("activeSince", .integer(Int64(clamping: activeSince))),
                .init("lastCalled", .integer(Int64(clamping: lastCalled))),
                .init("bytes", .integer(Int64(clamping: bytes))), .init("pending", .bool(isPending)),
            ]
        }
    }

    /// Where an actor lives, in memory or not.
    package struct Place {
        let key: Bytes
        let database: UInt32
        let bucket: UInt32
        let shard: UInt32
        let node: UInt32
        let process: String
        let addresses: [String]
        let term: UInt64
        let actor: Row?

        package init(
            key: Bytes, database: UInt32, bucket: UInt32, shard: UInt32, node: UInt32, process: String,
            addresses: [String], term: UInt64, actor: Row?
        ) {
            (self.key, self.database, self.bucket, self.shard) = (key, database, bucket, shard)
            (self.node, self.process, self.addresses, self.term) = (node, process, addresses, term)
            self.actor = actor
        }

        /// For people, at wall time `now`.
        package func lines(now: UInt64) -> [String] {
            let state = actor.map { [$0.type] + $0.state(now: now) } ?? ["-", "not active", "-", "-", "-"]
            return Console.table([
                ["KEY", "DB", "BUCKET", "SHARD", "TERM", "NODE", "TYPE", "ACTIVE", "IDLE", "SIZE", "PENDING"],
                [ActorTable.short(key), "\(database)", "\(bucket)", "\(shard)", "\(term)", process] + state,
            ])
        }

        package var document: JSON {
            .object(
                [
                    .init("key", .text(ActorTable.text(key))), .init("database", .integer(Int64(database))),
                    .init("bucket", .integer(Int64(bucket))), .init("shard", .integer(Int64(shard))),
                    .init("node", .integer(Int64(node))), .init("process", .text(process)),
                    .init("addresses", .array(addresses.map { .text($0) })),
                    .init("term", .integer(Int64(clamping: term))), .init("active", .bool(actor != nil)),
                ] + (actor?.members ?? []))
        }
    }

    /// The names that `--type` takes, as TYPE answers them.
    static let types = ["string", "hash"]

    /// In the order in which they came.
    package var rows: [Row]
    /// There are no more.
    package var isComplete: Bool

    package init(rows: [Row], isComplete: Bool) {
        self.rows = rows
        self.isComplete = isComplete
    }

    /// By shard, database and key.
    private var sorted: [Row] {
        rows.sorted { left, right in
            guard (left.shard, left.database) == (right.shard, right.database) else {
                return (left.shard, left.database) < (right.shard, right.database)
            }
            return left.key.lexicographicallyPrecedes(right.key)
        }
    }

    /// For people, at wall time `now`.
    package func lines(now: UInt64) -> [String] {
        let head = ["KEY", "TYPE", "DB", "SHARD", "TERM", "NODE", "ACTIVE", "IDLE", "SIZE", "PENDING"]
        let body = sorted.map { row in
            [Self.short(row.key), row.type, "\(row.database)", "\(row.shard)", "\(row.term)", row.process]
                + row.state(now: now)
        }
        return Console.table([head] + body) + (isComplete ? [] : ["… and more: --limit N shows more"])
    }

    package var document: JSON {
        let actors = sorted.map { row in
            JSON.object(
                [
                    .init("key", .text(Self.text(row.key))), .init("database", .integer(Int64(row.database))),
                    .init("shard", .integer(Int64(row.shard))), .init("term", .integer(Int64(clamping: row.term))),
                    .init("process", .text(row.process)),
                ] + row.members)
        }
        return .object([.init("actors", .array(actors)), .init("complete", .bool(isComplete))])
    }

    // MARK: For people

    /// How long ago; a clock that was set back makes it now.
    private static func age(_ time: UInt64, _ now: UInt64) -> String {
        StatusReport.duration(Int64(clamping: now > time ? (now - time) / 1000 : 0))
    }

    /// A key as a terminal can show it: what is not printable ASCII as `\xNN`, a backslash doubled.
    static func text(_ key: Bytes) -> String {
        var text = ""
        for byte in key {
            switch byte {
            case UInt8(ascii: "\\"): text += "\\\\"
            case 0x20...0x7E: text.unicodeScalars.append(Unicode.Scalar(byte))
            case _:
                let digits = String(byte, radix: 16)
                text += "\\x" + (digits.count == 1 ? "0" : "") + digits
            }
        }
        return text
    }

    /// The same for a column; an empty key has to be seen too.
    private static func short(_ key: Bytes) -> String {
        let text = text(key)
        return text.isEmpty ? "\"\"" : text.count <= 64 ? text : text.prefix(63) + "…"
    }
}
