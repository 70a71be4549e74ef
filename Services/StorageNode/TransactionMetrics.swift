import Base
import Transactions

// What a node tells of transactions over several shards; docs/transactions.md lists it.

extension Node {
    func registerTransactions(_ metrics: Metrics) {
        func sum(_ value: (Participant) -> Int) -> Double {
            Double(executors.reduce(0) { $0 + value($1.transactions.participant) })
        }
        func gauge(_ name: String, _ help: String, _ value: @escaping (Participant) -> Int) {
            metrics.sampledGauge(name, help: help) { sum(value) }
        }
        gauge("orbit_transaction_parts", "Parts of transactions at led shards that are not over") { $0.partCount }
        gauge("orbit_transaction_intents", "Parts that are written and not decided") { $0.intentCount }
        gauge("orbit_transaction_intent_bytes", "Bytes of effects of parts that are not decided") { $0.intentBytes }
        gauge("orbit_transaction_locks", "Parts that hold locks") { $0.locks.holderCount }
        gauge("orbit_lock_waiters", "Calls that wait for locks of transactions") { $0.locks.waiterCount }

        func counter(
            _ name: String, _ help: String, outcome: String? = nil,
            _ value: KeyPath<Participant.Counts, UInt64>
        ) {
            let sample = { sum { Int(clamping: $0.counts[keyPath: value]) } }
            if let outcome {
                metrics.sampledCounter(name, help: help, labels: ["outcome": outcome], sample)
            } else {
                metrics.sampledCounter(name, help: help, sample)
            }
        }
        let ends = "Parts of transactions that are over, at each shard"
        counter("orbit_transaction_parts_started_total", "Parts that got their locks or waited for them", \.started)
        counter("orbit_transaction_parts_total", ends, outcome: "committed", \.committed)
        counter("orbit_transaction_parts_total", ends, outcome: "aborted", \.aborted)
        counter("orbit_transaction_parts_total", ends, outcome: "conflict", \.conflicts)
        counter("orbit_transactions_recovered_total", "Transactions decided without their driver", \.recovered)
        counter("orbit_lock_waits_total", "Calls and parts that had to wait for locks", \.waits)
        watchContradictions(metrics)
        registerScopes(metrics)
    }

    /// Interactive transactions.
    private func registerScopes(_ metrics: Metrics) {
        func sum(_ value: (ShardTransactions) -> UInt64) -> Double {
            Double(executors.reduce(0) { $0 &+ value($1.transactions) })
        }
        func gauge(_ name: String, _ help: String, _ value: @escaping (ShardScopes) -> Int) {
            metrics.sampledGauge(name, help: help) { sum { UInt64(value($0.scopes)) } }
        }
        gauge("orbit_transaction_scopes", "Interactive transactions that are open at led shards") { $0.count }
        gauge("orbit_transaction_scope_bytes", "Memory of what they have done") { max($0.bytes, 0) }
        gauge("orbit_transaction_statements_parked", "Statements that wait for earlier writes") { $0.parkedCount }

        func counter(
            _ name: String, _ help: String, outcome: String? = nil, _ value: @escaping (ShardTransactions) -> UInt64
        ) {
            if let outcome {
                metrics.sampledCounter(name, help: help, labels: ["outcome": outcome]) { sum(value) }
            } else {
                metrics.sampledCounter(name, help: help) { sum(value) }
            }
        }
        counter("orbit_transaction_statements_total", "Statements of interactive transactions") { $0.scopes.statements }
        counter("orbit_transaction_scopes_opened_total", "Shards that interactive transactions have begun at") {
            $0.participant.counts.scopesOpened
        }
        let ends = "What became of interactive transactions, at each shard"
        counter("orbit_transaction_scopes_total", ends, outcome: "prepared") { $0.participant.counts.scopesPrepared }
        counter("orbit_transaction_scopes_total", ends, outcome: "committed") {
            $0.participant.counts.scopesCommittedOne
        }
        let reasons: [(PartRefusal, String)] = [
            (.aborted, "aborted"), (.deadlock, "deadlock"), (.idleTimeout, "idle"),
            (.serializationFailure, "serialization"),
        ]
        for (reason, name) in reasons {
            counter("orbit_transaction_scopes_total", ends, outcome: name) {
                $0.participant.counts.scopesDropped[reason] ?? 0
            }
        }
        counter("orbit_deadlocks_total", "Transactions that had to give way in a circle of waits") {
            $0.participant.counts.deadlocks
        }
        counter("orbit_lock_timeouts_total", "Statements that waited for a lock for too long") {
            $0.participant.counts.lockTimeouts
        }
    }

    /// What must stay 0, and is worth an alarm.
    private func watchContradictions(_ metrics: Metrics) {
        metrics.sampledCounter(
            "orbit_transaction_contradictions_total", help: "Participants that aborted what the anchor has committed"
        ) { [self] in
            Double(executors.reduce(0) { $0 + $1.transactions.participant.contradictions })
        }
    }
}
