import Base
import COpenSSL

/// The cluster's own certificate authority: one key and a self-signed certificate, made by `orbit up` or a deployment.
///
/// It issues a certificate per process whose subject says who that process is: O=orbit, OU=role, CN=id. Every process
/// trusts this authority only, and decides by the subject what a peer may do. Keys are EC P-256. Time comes in as a
/// value, so that tests can issue expired certificates.
package struct CertificateAuthority: Hashable, Sendable {
    /// The organisation in every subject that an authority of ours issues.
    package static let organization = "orbit"

    package let certificatePEM: Bytes
    /// Whoever reads it can be any process of the cluster: it belongs in a file of mode 0600.
    package let privateKeyPEM: Bytes

    /// A certificate with its key, both PEM.
    package struct Issued: Hashable, Sendable {
        package let certificatePEM: Bytes
        package let privateKeyPEM: Bytes
    }

    /// Peers' clocks may be behind ours by this much and still find a new certificate valid.
    private static let backdatedSeconds: Int64 = 3600

    /// An authority that was stored before; fails when the two do not belong together.
    package init(certificatePEM: Bytes, privateKeyPEM: Bytes) throws(CryptoError) {
        let certificate = try Self.single(certificatePEM)
        let key = try PrivateKey(pem: privateKeyPEM)
        try check(X509_check_private_key(certificate.handle, key.handle), "certificate authority")
        self.certificatePEM = certificatePEM
        self.privateKeyPEM = privateKeyPEM
    }

    /// Makes an authority that is valid from now (seconds since 1970), by default for ten years.
    package static func make(name: String = "orbit cluster", now: Int64, validForDays days: Int64 = 3650)
        throws(CryptoError) -> CertificateAuthority
    {
        let key = try PrivateKey.generate()
        let certificate = try blank(key: key, now: now, days: days)
        try setSubject(certificate, organizationalUnit: nil, commonName: name)
        try check(
            X509_set_issuer_name(certificate.handle, X509_get_subject_name(certificate.handle)), "certificate issuer")
        for (nid, value) in [
            (NID_basic_constraints, "critical,CA:TRUE,pathlen:0"), (NID_key_usage, "critical,keyCertSign,cRLSign"),
            (NID_subject_key_identifier, "hash"),
        ] {
            try check(orbit_add_extension(certificate.handle, certificate.handle, nid, value), "certificate extension")
        }
        try check(X509_sign(certificate.handle, key.handle, EVP_sha256()), "certificate signature")
        return try CertificateAuthority(certificatePEM: certificate.pem(), privateKeyPEM: key.pem())
    }

    /// What a certificate may be shown for.
    package enum Purpose: Hashable, Sendable {
        /// Both ends of a connection between processes of the cluster.
        case peer
        /// Serving clients: whoever steals it still cannot call a process of the cluster.
        case server
    }

    /// Issues a certificate to process `id` in `role` (1 to 64 bytes each).
    ///
    /// `addresses` are IP addresses in text form. Fails on a name that cannot stand in a certificate.
    package func issue(
        role: String, id: String, dnsNames: [String] = ["localhost"], addresses: [String] = ["127.0.0.1", "::1"],
        purpose: Purpose = .peer, now: Int64, validForDays days: Int64 = 365
    ) throws(CryptoError) -> Issued {
        let issuer = try Self.single(certificatePEM)
        let issuerKey = try PrivateKey(pem: privateKeyPEM)
        let key = try PrivateKey.generate()
        let certificate = try Self.blank(key: key, now: now, days: days)
        let usage =
            switch purpose {
            case .peer: "serverAuth,clientAuth"
            case .server: "serverAuth"
            }
        try Self.setSubject(certificate, organizationalUnit: role, commonName: id)
        try check(X509_set_issuer_name(certificate.handle, X509_get_subject_name(issuer.handle)), "certificate issuer")
        for (nid, value) in [
            (NID_basic_constraints, "critical,CA:FALSE"), (NID_key_usage, "critical,digitalSignature"),
            (NID_ext_key_usage, usage), (NID_subject_key_identifier, "hash"),
            (NID_authority_key_identifier, "keyid"),
        ] {
            try check(orbit_add_extension(certificate.handle, issuer.handle, nid, value), "certificate extension")
        }
        try Self.addAlternativeNames(certificate, dnsNames: dnsNames, addresses: addresses)
        try check(X509_sign(certificate.handle, issuerKey.handle, EVP_sha256()), "certificate signature")
        return try Issued(certificatePEM: certificate.pem(), privateKeyPEM: key.pem())
    }

    private static func single(_ pem: Bytes) throws(CryptoError) -> Certificate {
        guard let certificate = try Certificate.parseAll(pem).first else {
            throw CryptoError("certificate authority", "no certificate in the PEM text")
        }
        return certificate
    }

    /// A version 3 certificate with a random serial number, validity and public key.
    private static func blank(key: PrivateKey, now: Int64, days: Int64) throws(CryptoError) -> Certificate {
        guard days > 0, days <= 100 * 366 else { throw CryptoError("certificate", "validity out of range") }
        guard let handle = X509_new() else { throw CryptoError.openSSL("certificate") }
        let certificate = Certificate(owning: handle)
        try check(X509_set_version(handle, 2), "certificate version")  // Counted from 0.
        let number = try Owned(BN_bin2bn(randomBytes(16), 16, nil), "serial number") { BN_free($0) }
        guard BN_to_ASN1_INTEGER(number.pointer, X509_get_serialNumber(handle)) != nil,
            ASN1_TIME_set(X509_getm_notBefore(handle), Int(now - backdatedSeconds)) != nil,
            ASN1_TIME_set(X509_getm_notAfter(handle), Int(now + days * 86400)) != nil
        else { throw CryptoError.openSSL("certificate validity") }
        try check(X509_set_pubkey(handle, key.handle), "certificate key")
        return certificate
    }

    private static func setSubject(
        _ certificate: Certificate, organizationalUnit: String?, commonName: String
    ) throws(CryptoError) {
        let name = X509_get_subject_name(certificate.handle)
        var entries = [(NID_organizationName, organization)]
        if let organizationalUnit { entries.append((NID_organizationalUnitName, organizationalUnit)) }
        entries.append((NID_commonName, commonName))
        for (nid, value) in entries {
            let bytes = Bytes(value.utf8)
            guard (1...64).contains(bytes.count) else {
                throw CryptoError("certificate subject", "'\(value)' must have 1 to 64 bytes")
            }
            try check(
                X509_NAME_add_entry_by_NID(name, nid, V_ASN1_UTF8STRING, bytes, Int32(bytes.count), -1, 0),
                "certificate subject")
        }
    }

    private static func addAlternativeNames(
        _ certificate: Certificate, dnsNames: [String], addresses: [String]
    ) throws(CryptoError) {
        guard !dnsNames.isEmpty || !addresses.isEmpty else { return }
        let names = try Owned(orbit_names_new(), "certificate names") { orbit_names_free($0) }
        for name in dnsNames {
            let isPlain = !name.isEmpty && name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
            guard isPlain, let text = ASN1_STRING_type_new(V_ASN1_IA5STRING) else {
                throw CryptoError("certificate names", "'\(name)' is not a DNS name")
            }
            let bytes = Bytes(name.utf8)
            ASN1_STRING_set(text, bytes, Int32(clamping: bytes.count))
            try push(names, GEN_DNS, text)
        }
        for address in addresses {
            guard let octets = a2i_IPADDRESS(address) else {
                ERR_clear_error()
                throw CryptoError("certificate names", "'\(address)' is not an IP address")
            }
            try push(names, GEN_IPADD, octets)
        }
        let raw = UnsafeMutableRawPointer(names.pointer)
        try check(X509_add1_ext_i2d(certificate.handle, NID_subject_alt_name, raw, 0, 0), "certificate names")
    }

    private static func push(
        _ names: borrowing Owned, _ type: Int32, _ value: UnsafeMutablePointer<ASN1_STRING>
    ) throws(CryptoError) {
        guard let name = GENERAL_NAME_new() else {
            ASN1_STRING_free(value)
            throw CryptoError.openSSL("certificate names")
        }
        GENERAL_NAME_set0_value(name, type, value)
        try check(orbit_names_push(names.pointer, name), "certificate names")
    }
}
