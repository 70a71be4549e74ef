/// A number that only grows. Confined to the loop of its `Metrics`: adding is one addition.
@usableFromInline package final class Counter {
    @usableFromInline package var value: UInt64 = 0
    @usableFromInline init() {}
    @inlinable package func add(_ amount: UInt64 = 1) { value &+= amount }
}

/// A number that goes up and down.
@usableFromInline package final class Gauge {
    @usableFromInline package var value: Int64 = 0
    @usableFromInline init() {}
    @inlinable package func add(_ amount: Int64) { value &+= amount }
    @inlinable package func set(_ value: Int64) { self.value = value }
}

/// How often a measured quantity fell below each of some fixed bounds.
@usableFromInline package final class Histogram {
    /// Upper bounds, ascending; one more bucket holds what exceeds them all.
    @usableFromInline package let bounds: [Double]
    @usableFromInline package private(set) var counts: [UInt64]
    @usableFromInline package private(set) var sum = 0.0

    @usableFromInline init(bounds: [Double]) {
        self.bounds = bounds
        counts = Array(repeating: 0, count: bounds.count + 1)
    }

    package func observe(_ value: Double) {
        var bucket = 0
        while bucket < bounds.count, value > bounds[bucket] { bucket += 1 }
        counts[bucket] &+= 1
        sum += value
    }

    /// The upper bound of the bucket that holds the given quantile (0…1); infinity above the last bound, nil while
    /// empty.
    package func quantile(_ fraction: Double) -> Double? {
        let total = counts.reduce(0, &+)
        guard total > 0 else { return nil }
        var rest = fraction * Double(total)
        for (bucket, count) in counts.enumerated() {
            rest -= Double(count)
            if rest <= 0 { return bucket < bounds.count ? bounds[bucket] : .infinity }
        }
        return .infinity
    }

    /// From 50 µs to 10 s, in seconds: request latencies.
    package static let latencyBounds: [Double] = [
        0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    ]
    /// Powers of four from 1 to 65536: batch sizes.
    package static let sizeBounds: [Double] = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536]
}

/// The measurements of one loop, by name and labels, as Prometheus reads them (text format 0.0.4).
///
/// Not thread-safe: registered, counted and rendered on the loop that owns it; another thread's numbers are posted to
/// it. Registering the same name and labels again gives the same instrument; the same name as another kind is a
/// programmer's error.
package final class Metrics {
    private enum Instrument {
        case counter(Counter), gauge(Gauge), histogram(Histogram), sampled(() -> Double)
    }

    private struct Family {
        let kind: String, help: String
        /// In order of registration; the label text (`{a="b"}` or empty) is the key.
        var series: [(labels: String, instrument: Instrument)] = []
    }

    private var families: [String: Family] = [:]
    private var order: [String] = []

    package init() {}

    /// A counter; by convention its name ends in `_total`.
    package func counter(_ name: String, help: String, labels: KeyValuePairs<String, String> = [:]) -> Counter {
        let instrument = register(name, "counter", help, labels) { .counter(Counter()) }
        guard case .counter(let counter) = instrument else { preconditionFailure("\(name) is sampled") }
        return counter
    }

    /// A gauge that its owner sets.
    package func gauge(_ name: String, help: String, labels: KeyValuePairs<String, String> = [:]) -> Gauge {
        let instrument = register(name, "gauge", help, labels) { .gauge(Gauge()) }
        guard case .gauge(let gauge) = instrument else { preconditionFailure("\(name) is sampled") }
        return gauge
    }

    /// A histogram with these upper bounds, ascending; names end in the unit, `_seconds` or `_bytes`.
    package func histogram(
        _ name: String, help: String, labels: KeyValuePairs<String, String> = [:], bounds: [Double]
    ) -> Histogram {
        let instrument = register(name, "histogram", help, labels) { .histogram(Histogram(bounds: bounds)) }
        guard case .histogram(let histogram) = instrument else { preconditionFailure("\(name) is no histogram") }
        return histogram
    }

    /// A gauge that is asked for its value when somebody looks.
    package func sampledGauge(
        _ name: String, help: String, labels: KeyValuePairs<String, String> = [:], _ sample: @escaping () -> Double
    ) {
        _ = register(name, "gauge", help, labels) { .sampled(sample) }
    }

    /// A counter that somebody else keeps (CPU seconds, bytes of the log thread).
    package func sampledCounter(
        _ name: String, help: String, labels: KeyValuePairs<String, String> = [:], _ sample: @escaping () -> Double
    ) {
        _ = register(name, "counter", help, labels) { .sampled(sample) }
    }

    private func register(
        _ name: String, _ kind: String, _ help: String, _ labels: KeyValuePairs<String, String>,
        _ make: () -> Instrument
    ) -> Instrument {
        let text = Self.render(labels)
        if families[name] == nil { order.append(name) }
        var family = families[name] ?? Family(kind: kind, help: help)
        precondition(family.kind == kind, "metric \(name) is registered as \(family.kind) and as \(kind)")
        if let known = family.series.first(where: { $0.labels == text }) { return known.instrument }
        let instrument = make()
        family.series.append((text, instrument))
        families[name] = family
        return instrument
    }

    /// Everything, in Prometheus' text format.
    package func prometheusText() -> String {
        var text = ""
        for name in order {
            guard let family = families[name] else { continue }
            let help = Self.escaped(family.help, quotes: false)
            text += "# HELP \(name) \(help)\n# TYPE \(name) \(family.kind)\n"
            for (labels, instrument) in family.series {
                switch instrument {
                case .counter(let counter): text += "\(name)\(labels) \(counter.value)\n"
                case .gauge(let gauge): text += "\(name)\(labels) \(gauge.value)\n"
                case .sampled(let sample): text += "\(name)\(labels) \(Self.number(sample()))\n"
                case .histogram(let histogram): Self.append(histogram, name, labels, to: &text)
                }
            }
        }
        return text
    }

    private static func append(_ histogram: Histogram, _ name: String, _ labels: String, to text: inout String) {
        let open = labels.isEmpty ? "{" : labels.dropLast() + ","
        var total: UInt64 = 0
        for (bucket, count) in histogram.counts.enumerated() {
            total &+= count
            let bound = bucket < histogram.bounds.count ? number(histogram.bounds[bucket]) : "+Inf"
            text += "\(name)_bucket\(open)le=\"\(bound)\"} \(total)\n"
        }
        text += "\(name)_sum\(labels) \(number(histogram.sum))\n\(name)_count\(labels) \(total)\n"
    }

    private static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if let integer = Int64(exactly: value) { return String(integer) }
        return String(value)
    }

    private static func render(_ labels: KeyValuePairs<String, String>) -> String {
        if labels.isEmpty { return "" }
        return "{" + labels.map { "\($0.key)=\"\(escaped($0.value, quotes: true))\"" }.joined(separator: ",") + "}"
    }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        var result = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quotes: result += "\\\""
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
