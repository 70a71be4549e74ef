/// What one gRPC connection may cost, and when it counts as dead.
package struct GRPCLimits: Sendable {
    package var http2 = HTTP2Limits()
    /// The largest message taken or sent.
    package var messageSize = 20 << 20
    /// Bytes of incomplete messages over all streams of a connection.
    package var assemblySize = 64 << 20
    /// Output of one stream above which `isWritable` is false.
    package var streamHighMark = 1 << 20
    /// Bytes gathered into a connection's output at once; the rest waits in its streams, where it can still be
    /// cancelled.
    package var outputHighMark = 1 << 20
    /// Nothing heard for this long: ask. No answer for that long: lost.
    package var keepAliveNanoseconds: UInt64 = 10_000_000_000
    package var keepAliveTimeoutNanoseconds: UInt64 = 10_000_000_000
    /// The peer's first SETTINGS must come within this time.
    package var handshakeNanoseconds: UInt64 = 10_000_000_000

    package init() {}
}
