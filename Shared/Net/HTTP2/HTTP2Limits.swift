/// What one connection may cost. The defaults suit few long-lived streams that carry batches, and stay safe with
/// strangers.
package struct HTTP2Limits: Sendable {
    /// Streams that the peer may hold open at once; more are refused with REFUSED_STREAM.
    package var concurrentStreams: UInt32 = 256
    /// Bytes in flight towards us on one stream and on the whole connection.
    package var streamWindow: UInt32 = 4 << 20
    package var connectionWindow: UInt32 = 16 << 20
    /// The largest frame we accept, and the largest we send when the peer allows it. Data is handed on as it arrives,
    /// whatever the frame's size, so a large frame costs no memory and saves headers.
    package var frameSize: UInt32 = 1 << 20
    /// RFC 9113, section 6.5.2; a larger list resets its stream.
    package var headerListSize: UInt32 = 16 << 10
    /// Streams that the peer resets, or makes us reset, in one second (rapid reset, CVE-2023-44487).
    package var resetsPerSecond = 200
    /// PING, SETTINGS, PRIORITY and empty DATA frames in one second.
    package var controlFramesPerSecond = 4096
    /// Acknowledgements waiting for a peer that does not read.
    package var outboundAcknowledgements = 256

    package init() {}
}

/// Why a stream or a connection ended (RFC 9113, section 7). Codes we do not know keep their number.
package struct HTTP2ErrorCode: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let noError = Self(rawValue: 0)
    package static let protocolError = Self(rawValue: 1)
    package static let internalError = Self(rawValue: 2)
    package static let flowControlError = Self(rawValue: 3)
    package static let settingsTimeout = Self(rawValue: 4)
    package static let streamClosed = Self(rawValue: 5)
    package static let frameSizeError = Self(rawValue: 6)
    package static let refusedStream = Self(rawValue: 7)
    package static let cancel = Self(rawValue: 8)
    package static let compressionError = Self(rawValue: 9)
    package static let connectError = Self(rawValue: 10)
    package static let enhanceYourCalm = Self(rawValue: 11)
    package static let inadequateSecurity = Self(rawValue: 12)
    package static let http11Required = Self(rawValue: 13)
}

/// A connection that can no longer be used, in the words of nghttp2.
package struct HTTP2Failure: Error, Hashable, Sendable, CustomStringConvertible {
    package let code: Int32
    package let description: String
}

/// Counts events in windows of one second.
struct RateWindow {
    private var start: UInt64 = 0
    private var count = 0

    /// Counts one event at `now` (nanoseconds); true when the window holds more than `limit`.
    mutating func exceeds(_ limit: Int, now: UInt64) -> Bool {
        if now &- start >= 1_000_000_000 {
            start = now
            count = 0
        }
        count += 1
        return count > limit
    }
}
