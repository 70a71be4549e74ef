import Base
import COpenSSL

/// One TLS session as a transformation of bytes: ciphertext from the socket goes in by `feed` and comes out by `drain`,
/// plaintext comes out by `read` and goes in by `write`.
///
/// The owner's turn is always the same: `feed` what the socket gave, `read`, act on `state`, `write` what is to be
/// sent, `drain` into the socket's buffer, in the failed state too, because an alert for the peer may be waiting there.
/// A client's first flight is ready after `init`. The engine is confined to the owner's thread.
package final class TLSEngine {
    /// Where the session stands.
    package enum State: Hashable, Sendable {
        case handshaking
        case established
        /// The peer said that nothing follows. Without this state an end of the connection is a truncation.
        case peerClosed
        case failed(CryptoError)
    }

    package private(set) var state = State.handshaking

    private let context: TLSContext
    private let handle: OpaquePointer
    private let incoming: OpaquePointer
    private let outgoing: OpaquePointer

    /// The largest plaintext of a TLS record: one `SSL_read` never gives more.
    private static let recordSize = 16384

    init(context: TLSContext, serverName: String?) throws(CryptoError) {
        ERR_clear_error()
        guard let handle = SSL_new(context.handle) else { throw CryptoError.openSSL("TLS session") }
        guard let incoming = BIO_new(BIO_s_mem()), let outgoing = BIO_new(BIO_s_mem()) else {
            SSL_free(handle)
            throw CryptoError.openSSL("TLS session")
        }
        (self.context, self.handle, self.incoming, self.outgoing) = (context, handle, incoming, outgoing)
        SSL_set_bio(handle, incoming, outgoing)  // The session owns both from here.
        switch context.role {
        case .server:
            SSL_set_accept_state(handle)
        case .client:
            SSL_set_connect_state(handle)
            if let serverName { try expect(serverName) }
            advanceHandshake()
        }
    }

    deinit { SSL_free(handle) }

    /// Takes bytes that came from the peer. They are only stored here; `read` works on them.
    package func feed(_ ciphertext: ByteView) {
        guard case .failed = state else {
            var offset = 0
            while offset < ciphertext.count {
                let chunk = min(ciphertext.count - offset, 1 << 30)
                guard let base = ciphertext.baseAddress,
                    BIO_write(incoming, base + offset, Int32(chunk)) == Int32(chunk)
                else {
                    state = .failed(CryptoError.openSSL("TLS", fallback: "out of memory"))
                    return
                }
                offset += chunk
            }
            return
        }
    }

    /// Continues the handshake, then appends every plaintext byte that has arrived. The state tells what to do next.
    @discardableResult package func read(into plaintext: inout ByteBuffer) -> State {
        if case .handshaking = state { advanceHandshake() }
        guard case .established = state else { return state }
        ERR_clear_error()
        while true {
            let room = plaintext.prepare(Self.recordSize)
            let count = SSL_read(handle, room.baseAddress, Int32(clamping: room.count))
            guard count > 0 else {
                settle(count, "TLS read")
                return state
            }
            plaintext.commit(Int(count))
        }
    }

    /// Encrypts `plaintext` for the peer and returns how much was taken: all of it, or 0 while the handshake lasts or
    /// after a failure (the owner keeps the bytes and offers them again after the next `read`).
    package func write(_ plaintext: ByteView) -> Int {
        guard !plaintext.isEmpty, state == .established || state == .peerClosed else { return 0 }
        ERR_clear_error()
        var written = 0
        let outcome = SSL_write_ex(handle, plaintext.baseAddress, plaintext.count, &written)
        guard outcome == 1 else {
            // Writing to memory never waits, and renegotiation is off: nothing but a failure is possible.
            settle(outcome, "TLS write")
            return 0
        }
        return written
    }

    /// Says to the peer that nothing follows; `drain` once more afterwards. It may still be read from.
    package func close() {
        guard state == .established || state == .peerClosed else { return }
        ERR_clear_error()
        _ = SSL_shutdown(handle)
        ERR_clear_error()
    }

    /// True when `drain` has something to give.
    package var hasOutput: Bool { orbit_bio_pending(outgoing) > 0 }

    /// Appends the bytes that are to be sent to the peer, and returns how many there were.
    @discardableResult package func drain(into ciphertext: inout ByteBuffer) -> Int {
        var total = 0
        while true {
            let pending = min(orbit_bio_pending(outgoing), 1 << 30)
            guard pending > 0 else { return total }
            let room = ciphertext.prepare(pending)
            let count = BIO_read(outgoing, room.baseAddress, Int32(pending))
            guard count > 0 else { return total }
            ciphertext.commit(Int(count))
            total += Int(count)
        }
    }

    /// The peer's verified certificate; nil before the handshake is complete, without one, or when none was asked for.
    package var peerSubject: CertificateSubject? {
        guard state == .established || state == .peerClosed, SSL_get_verify_mode(handle) != SSL_VERIFY_NONE,
            SSL_get_verify_result(handle) == Int(X509_V_OK), let certificate = SSL_get1_peer_certificate(handle)
        else { return nil }
        return Certificate(owning: certificate).subject
    }

    /// The protocol agreed by ALPN, nil if none was.
    package var applicationProtocol: String? {
        var name: UnsafePointer<UInt8>?
        var length: UInt32 = 0
        SSL_get0_alpn_selected(handle, &name, &length)
        guard let name, length > 0 else { return nil }
        return String(decoding: UnsafeBufferPointer(start: name, count: Int(length)), as: UTF8.self)
    }

    /// "TLSv1.3" and the cipher suite, for logs.
    package var protocolDescription: String {
        let suite = SSL_get_current_cipher(handle).flatMap { SSL_CIPHER_get_name($0) }.map { String(cString: $0) }
        return String(cString: SSL_get_version(handle)) + " " + (suite ?? "-")
    }

    private func expect(_ serverName: String) throws(CryptoError) {
        let parameters = SSL_get0_param(handle)
        if X509_VERIFY_PARAM_set1_ip_asc(parameters, serverName) == 1 { return }
        ERR_clear_error()
        try check(X509_VERIFY_PARAM_set1_host(parameters, serverName, serverName.utf8.count), "TLS server name")
        try check(orbit_ssl_set_server_name(handle, serverName), "TLS server name")
    }

    private func advanceHandshake() {
        ERR_clear_error()
        let outcome = SSL_do_handshake(handle)
        if outcome == 1 {
            state = .established
        } else {
            settle(outcome, "TLS handshake")
        }
    }

    /// Reads what a call that gave no data means for the session.
    private func settle(_ outcome: Int32, _ operation: String) {
        switch SSL_get_error(handle, outcome) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE:
            break
        case SSL_ERROR_ZERO_RETURN:
            state = .peerClosed
        default:
            let verification = SSL_get_verify_result(handle)
            var error = CryptoError.openSSL(operation, fallback: "broken session")
            if verification != Int(X509_V_OK), let text = X509_verify_cert_error_string(verification) {
                error = CryptoError(operation, "\(error.reason) (\(String(cString: text)))")
            }
            state = .failed(error)
        }
    }
}
