import Base
import Contracts

extension Queries {
    /// What Prometheus sees.
    func register(_ metrics: Metrics) {
        for (name, help, count) in [
            ("orbit_statements_total", "Statements of query languages", \Counts.statements),
            ("orbit_statements_failed_total", "Statements that were answered with an error", \Counts.failed),
            ("orbit_statements_called_total", "Those on one record that came as calls", \Counts.called),
            ("orbit_statements_bound_total", "Plans that were bound", \Counts.bound),
            ("orbit_definitions_total", "Statements that changed the catalog", \Counts.definitions),
        ] {
            metrics.sampledCounter(name, help: help) { [self] in Double(counts[keyPath: count]) }
        }
        metrics.sampledGauge("orbit_statements_running", help: "Statements under way") { [self] in Double(running) }
        metrics.sampledGauge("orbit_cursors", help: "Cursors with rows left") { [self] in Double(cursors.count) }
    }
}
