import Base
import ServiceKit

extension Gateway {
    /// What Prometheus sees.
    func registerMetrics(_ metrics: Metrics) {
        metrics.sampledGauge("orbit_resp_connections", help: "Connected clients") { [self] in Double(clients.count) }
        metrics.sampledGauge("orbit_resp_calls_in_flight", help: "Calls sent to nodes and not answered") { [self] in
            Double(router.inFlight)
        }
        let counters: [(String, String, (ServerState) -> UInt64)] = [
            ("orbit_resp_connections_total", "Connections accepted", { $0.connectionsReceived }),
            ("orbit_resp_connections_refused_total", "Connections refused, too many", { $0.connectionsRejected }),
            ("orbit_resp_commands_total", "Commands begun", { $0.commandsProcessed }),
            ("orbit_resp_errors_total", "Error replies", { $0.errors }),
            ("orbit_resp_protocol_errors_total", "Connections ended for malformed input", { $0.protocolErrors }),
            (
                "orbit_resp_key_events_total", "Events of keys that listeners could be told of",
                {
                    [keyspace] _ in keyspace.eventCount
                }
            ),
            ("orbit_resp_logins_refused_total", "Logins refused", { [users] _ in users.refusals }),
            ("orbit_resp_input_bytes_total", "Bytes of commands", { $0.inputBytes }),
            ("orbit_resp_output_bytes_total", "Bytes of replies", { $0.outputBytes }),
        ]
        for (name, help, value) in counters {
            metrics.sampledCounter(name, help: help) { [self] in Double(value(server)) }
        }
    }
}
