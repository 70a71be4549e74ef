import Base

/// The key of a row in a collection without a primary key: a number that nobody sees.
///
/// It is taken by chance, so that nobody has to be asked for it, and rows spread over all shards. One of twenty
/// tables with a thousand million rows meets two alike; then the second is refused, nothing is overwritten.
package enum FreshKey {
    /// Of 64 bits by chance: 63 of them, not below zero.
    package static func value(_ random: UInt64) -> Value { .integer(Int64(random >> 1)) }
}
