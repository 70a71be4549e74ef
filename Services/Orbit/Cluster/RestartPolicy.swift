/// When a process that ended is started again. Pure: times come in as values (monotonic milliseconds).
///
/// The delay doubles from 100 ms to 5 s while the process keeps dying soon, and starts over once it has lived for ten
/// seconds: a crash loop stays cheap, a lone crash costs a tenth of a second.
package struct RestartPolicy: Hashable, Sendable {
    package static let firstDelay = 100
    package static let longestDelay = 5_000
    package static let healthyAfter = 10_000

    /// Ends in a row that came soon after their start.
    package private(set) var failures = 0

    package init() {}

    /// Notes that the process ended after living for `lifetime` milliseconds; returns the delay before its next start.
    package mutating func ended(afterMilliseconds lifetime: Int) -> Int {
        failures = lifetime >= Self.healthyAfter ? 1 : failures + 1
        return min(Self.longestDelay, Self.firstDelay << min(failures - 1, 10))
    }
}
