/// How long a test that waits for an event is left alone before it is taken for hanging.
///
/// No test waits for it to pass, so it costs nothing to be generous: many tests share two cores with other work, and a
/// thread that is ready to run may get its turn after seconds.
package enum HangLimit {
    /// In seconds.
    package static let seconds = 180
    /// In milliseconds.
    package static let milliseconds = seconds * 1_000
    /// In nanoseconds, as clocks count.
    package static let nanoseconds = UInt64(seconds) * 1_000_000_000
}
