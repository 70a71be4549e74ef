import Base
import Synchronization
import TestKit
import Testing

@Suite("Logger")
struct LoggerTests {
    private final class Lines: Sendable {
        let text = Mutex("")
        var all: String { text.withLock { $0 } }
        func add(_ line: ByteView) {
            let line = String(decoding: line, as: UTF8.self)
            text.withLock { $0 += line }
        }
    }

    private func logger(_ format: Logger.Format, _ lines: Lines, level: LogLevel = .info) -> Logger {
        Logger(process: "resp-gw", format: format, level: level, clock: ManualClock()) { lines.add($0) }
    }

    @Test("writes text with fields, quoted where needed")
    func text() {
        let lines = Lines()
        let log = logger(.text, lines).with(["shard": 3])
        log.info(
            "opened",
            ["path": "/a b", "ok": true, "ratio": .number(0.5), "empty": "", "plain": .describing(NodeID(rawValue: 7))])
        log.warning("two\nlines")
        #expect(
            lines.all == """
                2026-01-01T00:00:00.000Z info  resp-gw opened shard=3 path="/a b" ok=true ratio=0.5 empty="" plain=7
                2026-01-01T00:00:00.000Z warning resp-gw "two\\nlines" shard=3

                """)
    }

    @Test("writes JSON that control characters cannot break")
    func json() {
        let lines = Lines()
        logger(.json, lines).with(requestID: "r-1").error("bad \"thing\"", ["x": "a\n\u{1}\\é", "n": .number(.nan)])
        #expect(
            lines.all == #"{"time":"2026-01-01T00:00:00.000Z","level":"error","process":"resp-gw","#
                + #""message":"bad \"thing\"","request_id":"r-1","x":"a\n\u0001\\é","n":null}"# + "\n")
    }

    @Test("drops lines below the level, without rendering their fields; the level is shared")
    func levels() {
        let lines = Lines()
        let log = logger(.text, lines, level: .warning)
        func explode() -> LogValue {
            Issue.record("rendered")
            return ""
        }
        log.info("no", ["x": explode()])
        let child = log.with(["a": 1])
        log.level = .debug
        child.debug("yes")
        #expect(lines.all.hasSuffix("debug resp-gw yes a=1\n") && !lines.all.contains("no"))
    }

    @Test(
        "formats time like the calendar",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"), (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] as [(UInt64, String)])
    func time(_ milliseconds: UInt64, _ expected: String) {
        #expect(formatTime(milliseconds: milliseconds) == expected)
    }
}

@Suite("Metrics")
struct MetricsTests {
    @Test("renders Prometheus text")
    func render() {
        let metrics = Metrics()
        let gets = metrics.counter("orbit_commands_total", help: "Commands\nserved.", labels: ["command": "get"])
        let sets = metrics.counter("orbit_commands_total", help: "Commands\nserved.", labels: ["command": "s\"e\\t"])
        metrics.gauge("orbit_connections", help: "Open connections.").set(-2)
        let latency = metrics.histogram(
            "orbit_latency_seconds", help: "Latency.", labels: ["q": "a"], bounds: [0.1, 1])
        metrics.sampledGauge("orbit_load", help: "Load.") { 0.25 }
        gets.add()
        sets.add(41)
        metrics.counter("orbit_commands_total", help: "", labels: ["command": "get"]).add()
        for value in [0.05, 0.1, 0.5, 7] { latency.observe(value) }
        #expect(
            metrics.prometheusText() == """
                # HELP orbit_commands_total Commands\\nserved.
                # TYPE orbit_commands_total counter
                orbit_commands_total{command="get"} 2
                orbit_commands_total{command="s\\"e\\\\t"} 41
                # HELP orbit_connections Open connections.
                # TYPE orbit_connections gauge
                orbit_connections -2
                # HELP orbit_latency_seconds Latency.
                # TYPE orbit_latency_seconds histogram
                orbit_latency_seconds_bucket{q="a",le="0.1"} 2
                orbit_latency_seconds_bucket{q="a",le="1"} 3
                orbit_latency_seconds_bucket{q="a",le="+Inf"} 4
                orbit_latency_seconds_sum{q="a"} 7.65
                orbit_latency_seconds_count{q="a"} 4
                # HELP orbit_load Load.
                # TYPE orbit_load gauge
                orbit_load 0.25

                """)
        #expect(latency.quantile(0.5) == 0.1 && latency.quantile(1) == .infinity)
    }
}

@Suite("MemoryBudget")
struct MemoryBudgetTests {
    @Test("refuses what does not fit, here or above, and says what is to be freed")
    func limits() throws {
        let process = MemoryBudget("process", limit: 100)
        let actors = MemoryBudget("actors", limit: 80, parent: process)
        let buffers = MemoryBudget("buffers", limit: 80, parent: process)
        try actors.reserve(70)
        #expect(buffers.available == 30)
        #expect(throws: DatabaseError.self) { try buffers.reserve(31) }
        #expect(buffers.used == 0 && process.used == 70)
        buffers.charge(40)
        #expect(actors.isExceeded && actors.excess == 10)
        actors.release(10)
        #expect(!actors.isExceeded && process.peak == 110 && actors.peak == 70)
    }
}
