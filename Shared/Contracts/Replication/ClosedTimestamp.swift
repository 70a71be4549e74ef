import Base

/// A leader's word to its followers: what was acknowledged before that time lies at or below `index` of the shard's
/// log, so whoever has applied the log up to there has it all.
package struct ClosedTimestamp: Hashable, Sendable {
    package var shard: ShardID
    package var index: LogIndex
    /// Since 1970, on the leader's clock.
    package var milliseconds: UInt64

    package init(shard: ShardID, index: LogIndex, milliseconds: UInt64) {
        (self.shard, self.index, self.milliseconds) = (shard, index, milliseconds)
    }
}
