import Base

/// The measurements of the way to one peer; they outlive links.
final class PeerFigures {
    let messagesSent: Counter, bytesSent: Counter, messagesReceived: Counter, bytesReceived: Counter
    let dropped: Counter, connects: Counter, refused: Counter
    let isUp: Gauge
    let offset: Gauge

    init(_ node: NodeID, _ metrics: Metrics) {
        let labels: KeyValuePairs = ["peer": node.description]
        messagesSent = metrics.counter(
            "orbit_peer_messages_sent_total", help: "Raft messages sent to a peer", labels: labels)
        bytesSent = metrics.counter("orbit_peer_bytes_sent_total", help: "Bytes of batches sent", labels: labels)
        messagesReceived = metrics.counter(
            "orbit_peer_messages_received_total", help: "Raft messages received from a peer", labels: labels)
        bytesReceived = metrics.counter(
            "orbit_peer_bytes_received_total", help: "Bytes of batches received", labels: labels)
        dropped = metrics.counter(
            "orbit_peer_messages_dropped_total", help: "Raft messages given up before they left", labels: labels)
        connects = metrics.counter("orbit_peer_connects_total", help: "Links established", labels: labels)
        refused = metrics.counter("orbit_peer_refused_total", help: "Streams refused or cut off", labels: labels)
        isUp = metrics.gauge("orbit_peer_up", help: "1 while the peer answers", labels: labels)
        offset = metrics.gauge(
            "orbit_peer_clock_offset_milliseconds", help: "The peer's clock minus ours", labels: labels)
    }
}
