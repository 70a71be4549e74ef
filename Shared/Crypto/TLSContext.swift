import Base
import COpenSSL

/// What the engines of one listener or one kind of client share: own certificate, whom to trust, protocols to offer.
///
/// Immutable once made, therefore shared between threads. TLS 1.2 and 1.3; no renegotiation, compression or session
/// resumption: a resumed session would outlive a withdrawn certificate, and full handshakes are rare between processes.
package final class TLSContext: @unchecked Sendable {
    /// Which side of the handshake.
    package enum Role: Hashable, Sendable { case server, client }

    /// What is asked of the peer's certificate. A client always should require; a server for the public may not ask.
    package enum PeerVerification: Hashable, Sendable {
        case none
        /// Ask; whoever presents a certificate must present a good one.
        case optional
        case required
    }

    package struct Settings: Hashable, Sendable {
        package var role: Role
        /// PEM: own certificate first, intermediates after it.
        package var certificate: Bytes?
        /// PEM, not encrypted.
        package var privateKey: Bytes?
        /// PEM: every authority that is trusted. There is no fallback to the system's authorities.
        package var authorities: Bytes?
        package var verification: PeerVerification
        /// ALPN names, most wanted first. A server refuses a client that offers names of which it knows none.
        package var applicationProtocols: [String]

        package init(
            role: Role, certificate: Bytes? = nil, privateKey: Bytes? = nil, authorities: Bytes? = nil,
            verification: PeerVerification = .required, applicationProtocols: [String] = []
        ) {
            self.role = role
            self.certificate = certificate
            self.privateKey = privateKey
            self.authorities = authorities
            self.verification = verification
            self.applicationProtocols = applicationProtocols
        }
    }

    package let role: Role
    let handle: OpaquePointer
    /// ALPN wire form (length-prefixed names); OpenSSL's callback reads it, so its address never changes.
    private let protocols: UnsafeMutableBufferPointer<UInt8>

    /// Fails when a certificate or key does not parse, they do not belong together, or verification has no authority.
    package init(_ settings: Settings) throws(CryptoError) {
        ERR_clear_error()
        let wire = try Self.wireForm(settings.applicationProtocols)
        let method = settings.role == .server ? TLS_server_method() : TLS_client_method()
        guard let handle = SSL_CTX_new(method) else { throw CryptoError.openSSL("TLS context") }
        self.handle = handle
        role = settings.role
        protocols = .allocate(capacity: wire.count)
        _ = protocols.initialize(from: wire)
        orbit_ctx_harden(handle)
        try configureIdentity(settings)
        try configureTrust(settings)
        try configureProtocols()
    }

    deinit {
        SSL_CTX_free(handle)
        protocols.deallocate()
    }

    /// A new session. A client that gives `serverName` (a DNS name or an IP address) insists that the peer's
    /// certificate bears it; without one it trusts every certificate of its authorities and should look at the subject.
    package func makeEngine(serverName: String? = nil) throws(CryptoError) -> TLSEngine {
        try TLSEngine(context: self, serverName: serverName)
    }

    private func configureIdentity(_ settings: Settings) throws(CryptoError) {
        guard let certificatePEM = settings.certificate, let keyPEM = settings.privateKey else {
            if settings.certificate != nil || settings.privateKey != nil || settings.role == .server {
                throw CryptoError("TLS context", "needs a certificate and its private key")
            }
            return
        }
        let chain = try Certificate.parseAll(certificatePEM)
        guard let leaf = chain.first else { throw CryptoError("TLS context", "no certificate in the PEM text") }
        try check(SSL_CTX_use_certificate(handle, leaf.handle), "TLS certificate")
        for intermediate in chain.dropFirst() {
            try check(orbit_ctx_add_chain(handle, intermediate.handle), "TLS certificate chain")
        }
        let key = try PrivateKey(pem: keyPEM)
        try check(SSL_CTX_use_PrivateKey(handle, key.handle), "TLS private key")
        try check(SSL_CTX_check_private_key(handle), "TLS private key")
    }

    private func configureTrust(_ settings: Settings) throws(CryptoError) {
        switch settings.verification {
        case .none:
            SSL_CTX_set_verify(handle, SSL_VERIFY_NONE, nil)
            return
        case .optional:
            SSL_CTX_set_verify(handle, SSL_VERIFY_PEER, nil)
        case .required:
            SSL_CTX_set_verify(handle, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        }
        let authorities = try Certificate.parseAll(settings.authorities ?? [])
        guard !authorities.isEmpty else { throw CryptoError("TLS context", "verifying peers needs an authority") }
        guard let store = SSL_CTX_get_cert_store(handle) else { throw CryptoError.openSSL("TLS trust store") }
        for authority in authorities {
            try check(X509_STORE_add_cert(store, authority.handle), "TLS trust store")
            if role == .server { try check(SSL_CTX_add_client_CA(handle, authority.handle), "TLS client authorities") }
        }
    }

    private func configureProtocols() throws(CryptoError) {
        guard protocols.count > 0 else { return }
        switch role {
        case .client:
            // This one function of OpenSSL returns 0 for success.
            guard SSL_CTX_set_alpn_protos(handle, protocols.baseAddress, UInt32(protocols.count)) == 0 else {
                throw CryptoError.openSSL("ALPN")
            }
        case .server:
            // Unretained: every engine keeps its context alive, and only engines cause the callback.
            SSL_CTX_set_alpn_select_cb(handle, selectProtocol, Unmanaged.passUnretained(self).toOpaque())
        }
    }

    fileprivate func select(
        _ selected: UnsafeMutablePointer<UnsafePointer<UInt8>?>, _ length: UnsafeMutablePointer<UInt8>,
        from offered: UnsafePointer<UInt8>, _ offeredCount: UInt32
    ) -> Int32 {
        var choice: UnsafeMutablePointer<UInt8>?
        let outcome = SSL_select_next_proto(
            &choice, length, protocols.baseAddress, UInt32(protocols.count), offered, offeredCount)
        guard outcome == OPENSSL_NPN_NEGOTIATED else { return SSL_TLSEXT_ERR_ALERT_FATAL }
        selected.pointee = UnsafePointer(choice)
        return SSL_TLSEXT_ERR_OK
    }

    private static func wireForm(_ names: [String]) throws(CryptoError) -> Bytes {
        var wire: Bytes = []
        for name in names {
            guard (1...255).contains(name.utf8.count) else { throw CryptoError("ALPN", "bad protocol name") }
            wire.append(UInt8(name.utf8.count))
            wire.append(contentsOf: name.utf8)
        }
        return wire
    }
}

private func selectProtocol(
    _ ssl: OpaquePointer?, _ selected: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    _ length: UnsafeMutablePointer<UInt8>?, _ offered: UnsafePointer<UInt8>?, _ offeredCount: UInt32,
    _ context: UnsafeMutableRawPointer?
) -> Int32 {
    guard let selected, let length, let offered, let context else { return SSL_TLSEXT_ERR_ALERT_FATAL }
    return Unmanaged<TLSContext>.fromOpaque(context).takeUnretainedValue()
        .select(selected, length, from: offered, offeredCount)
}
