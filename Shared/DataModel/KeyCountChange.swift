import Base

/// How calls change the number of keys of a database in a bucket. A transaction's part keeps it as a difference,
/// because others change the same counter before the part is decided.
package struct KeyCountChange: Hashable, Sendable {
    package let bucket: BucketID
    package let database: UInt8
    package let delta: Int64

    package init(bucket: BucketID, database: UInt8, delta: Int64) {
        (self.bucket, self.database, self.delta) = (bucket, database, delta)
    }
}
