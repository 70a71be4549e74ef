import Base
import Crypto

/// What a connection's owner is told.
///
/// Every call comes on the loop's thread; none comes from inside a call of the owner's own, except the two of the
/// output watermarks, which may come from `flush`.
package protocol ConnectionHandler: AnyObject {
    /// Bytes arrived. What is not consumed is kept and given again, at the front, with the next bytes.
    func received(_ connection: Connection, _ input: inout ByteBuffer)
    /// The peer will send nothing more; it may still read. Closes after the flush unless the handler decides otherwise.
    func inputEnded(_ connection: Connection)
    /// More than the high watermark waits for the peer: stop producing.
    func outputCongested(_ connection: Connection)
    /// After `outputCongested`: no more than the low watermark waits.
    func outputDrained(_ connection: Connection)
    /// The deadline set by `setDeadline` passed. Closes unless the handler decides otherwise.
    func deadlineReached(_ connection: Connection)
    /// The connection is gone; the last call, exactly one.
    func closed(_ connection: Connection, _ reason: CloseReason)
}

extension ConnectionHandler {
    package func inputEnded(_ connection: Connection) { connection.close(afterFlush: true) }
    package func outputCongested(_ connection: Connection) {}
    package func outputDrained(_ connection: Connection) {}
    package func deadlineReached(_ connection: Connection) { connection.close(reason: .deadline) }
}

/// Why a connection ended.
package enum CloseReason: Hashable, Sendable {
    /// We closed it, for the handler's own reasons.
    case local
    /// The peer closed it, in order.
    case endOfStream
    /// The deadline of `setDeadline` passed.
    case deadline
    /// The peer took no output for too long.
    case stalled
    /// More output waited than the hard limit allows.
    case outputLimit
    /// The TLS handshake took too long.
    case handshakeTimeout
    case failed(SystemError)
    case tls(CryptoError)
}

/// The limits of a connection.
package struct ConnectionOptions: Hashable, Sendable {
    /// `outputCongested` above the one, `outputDrained` at or below the other.
    package var outputHighWatermark = 1 << 20
    package var outputLowWatermark = 256 << 10
    /// Bytes that may wait after a flush; more closes the connection.
    package var outputLimit = 256 << 20
    /// How long the peer may take no output while some waits.
    package var stallMilliseconds = 120_000
    /// How long `close(afterFlush:)` may take to send the rest.
    package var closeMilliseconds = 5_000
    /// How long a closed connection waits for the peer's own close, so that our last bytes are not lost to a reset.
    package var lingerMilliseconds = 1_000
    package var handshakeMilliseconds = 10_000

    package init() {}
}
