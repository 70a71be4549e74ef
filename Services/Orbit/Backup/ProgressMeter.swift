import Base
import Glibc

/// Numbers for people.
enum Figures {
    /// `1.5 MiB`.
    static func bytes(_ count: UInt64) -> String {
        if count < 1024 { return "\(count) B" }
        var (whole, tenths) = (count, UInt64(0))
        for unit in ["KiB", "MiB", "GiB"] {
            (whole, tenths) = (whole / 1024, whole % 1024 * 10 / 1024)
            if whole < 1024 { return "\(whole).\(tenths) \(unit)" }
        }
        return "\(whole / 1024).\(whole % 1024 * 10 / 1024) TiB"
    }

    /// `2026-01-31 12:00:00 UTC`.
    static func time(_ milliseconds: UInt64) -> String {
        var seconds = time_t(clamping: milliseconds / 1000)
        var parts = tm()
        guard gmtime_r(&seconds, &parts) != nil else { return "\(milliseconds) ms" }
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) "
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) UTC"
    }
}

/// Shows how far something is, a few times a second at most.
struct ProgressMeter {
    private static let interval: UInt64 = 500_000_000

    private let console: Console
    private let clock: any Clock
    private let began: UInt64
    private var shown: UInt64
    /// Bytes that there are to do; 0 where nobody knows.
    var total: UInt64

    init(_ console: Console, total: UInt64 = 0, clock: any Clock = SystemClock()) {
        (self.console, self.clock, self.total) = (console, clock, total)
        began = clock.monotonicNanoseconds()
        shown = began
    }

    /// Since the beginning.
    var milliseconds: UInt64 { (clock.monotonicNanoseconds() &- began) / 1_000_000 }

    /// Bytes done so far, and what else there is to say.
    mutating func show(bytes: UInt64, _ more: @autoclosure () -> String = "") {
        let now = clock.monotonicNanoseconds()
        guard now &- shown >= Self.interval else { return }
        shown = now
        let share = total > 0 ? " of \(Figures.bytes(total))" : ""
        let rate = bytes / max(milliseconds, 1) * 1000
        let rest = more()
        console.progress(
            "  \(Figures.bytes(bytes))\(share), \(Figures.bytes(rate))/s" + (rest.isEmpty ? "" : ", " + rest))
    }
}
