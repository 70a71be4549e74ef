import Base

// What a node tells of sagas; docs/sagas.md lists it.

extension Node {
    func registerSagas(_ metrics: Metrics) {
        func gauge(_ name: String, _ help: String, _ value: @escaping (ShardSagas) -> Int) {
            metrics.sampledGauge(name, help: help) { [self] in
                Double(executors.reduce(0) { $0 + ($1.isServing ? value($1.sagas) : 0) })
            }
        }
        gauge("orbit_sagas", "Sagas of led shards") { $0.residents.count }
        gauge("orbit_sagas_active", "Sagas that are running or compensating") { $0.active.count }
        gauge("orbit_sagas_queued", "Sagas that wait to begin") { $0.queuedCount }
        gauge("orbit_saga_bytes", "Bytes of the definitions of sagas") { $0.bytes }

        func counter(
            _ name: String, _ help: String, outcome: String? = nil, _ value: KeyPath<SagaCounts, UInt64>,
            per unit: Double = 1
        ) {
            let sample = { [self] in
                Double(executors.reduce(0 as UInt64) { $0 &+ $1.sagas.counts[keyPath: value] }) / unit
            }
            if let outcome {
                metrics.sampledCounter(name, help: help, labels: ["outcome": outcome], sample)
            } else {
                metrics.sampledCounter(name, help: help, sample)
            }
        }
        let ends = "Sagas that came to an end"
        counter("orbit_sagas_started_total", "Sagas that were made", \.started)
        counter("orbit_sagas_total", ends, outcome: "completed", \.completed)
        counter("orbit_sagas_total", ends, outcome: "compensated", \.compensated)
        counter("orbit_sagas_total", ends, outcome: "failed", \.failed)
        counter("orbit_saga_actions_total", "Steps and compensations that were executed", \.actions)
        counter("orbit_saga_obstacles_total", "Attempts of steps and compensations that failed", \.obstacles)
        counter("orbit_saga_seconds_total", "Time from the start of sagas to their end", \.duration, per: 1000)
    }
}
