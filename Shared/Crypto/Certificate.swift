import Base
import COpenSSL

/// Whom a certificate names. In the cluster: O=orbit, OU=role, CN=id.
package struct CertificateSubject: Hashable, Sendable {
    package var organization: String?
    /// The role of a process; nil also when a certificate names several, because then it is not one of ours.
    package var organizationalUnit: String?
    package var commonName: String?
    package var dnsNames: [String]
    /// IPv4 and IPv6 addresses in text form.
    package var addresses: [String]
    /// End of validity, seconds since 1970.
    package var notAfter: Int64

    package init(
        organization: String?, organizationalUnit: String?, commonName: String?, dnsNames: [String] = [],
        addresses: [String] = [], notAfter: Int64 = 0
    ) {
        self.organization = organization
        self.organizationalUnit = organizationalUnit
        self.commonName = commonName
        self.dnsNames = dnsNames
        self.addresses = addresses
        self.notAfter = notAfter
    }

    /// The subject of the first certificate of a PEM text.
    package init(pem: Bytes) throws(CryptoError) {
        guard let first = try Certificate.parseAll(pem).first else {
            throw CryptoError("certificate", "no certificate in the PEM text")
        }
        self = first.subject
    }
}

/// An X.509 certificate, parsed.
final class Certificate {
    let handle: OpaquePointer

    /// Takes over one reference.
    init(owning handle: OpaquePointer) { self.handle = handle }

    deinit { X509_free(handle) }

    /// Every certificate of a PEM text, in order; text around them is skipped, a broken one is an error.
    static func parseAll(_ pem: Bytes) throws(CryptoError) -> [Certificate] {
        ERR_clear_error()
        guard !pem.isEmpty else { return [] }
        let source = try Owned.memory(pem)
        var result: [Certificate] = []
        while let handle = PEM_read_bio_X509(source.pointer, nil, orbit_no_password, nil) {
            result.append(Certificate(owning: handle))
        }
        let code = ERR_peek_last_error()
        // The end of the text is reported as "no start line"; anything else is damage.
        if code != 0, orbit_error_reason(code) != PEM_R_NO_START_LINE { throw CryptoError.openSSL("certificate") }
        ERR_clear_error()
        return result
    }

    var subject: CertificateSubject {
        let name = X509_get_subject_name(handle)
        let (dnsNames, addresses) = alternativeNames()
        return CertificateSubject(
            organization: Self.only(NID_organizationName, in: name),
            organizationalUnit: Self.only(NID_organizationalUnitName, in: name),
            commonName: Self.only(NID_commonName, in: name), dnsNames: dnsNames, addresses: addresses,
            notAfter: Self.seconds(X509_get0_notAfter(handle)))
    }

    /// The one entry of a kind; nil when there is none or more than one.
    private static func only(_ nid: Int32, in name: OpaquePointer?) -> String? {
        let position = X509_NAME_get_index_by_NID(name, nid, -1)
        guard position >= 0, X509_NAME_get_index_by_NID(name, nid, position) < 0 else { return nil }
        guard let entry = X509_NAME_get_entry(name, position) else { return nil }
        var utf8: UnsafeMutablePointer<UInt8>?
        let count = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry))
        guard count >= 0, let utf8 else { return nil }
        defer { orbit_free(utf8) }
        return String(decoding: UnsafeBufferPointer(start: utf8, count: Int(count)), as: UTF8.self)
    }

    func pem() throws(CryptoError) -> Bytes {
        let sink = try Owned.memory()
        try check(PEM_write_bio_X509(sink.pointer, handle), "certificate")
        return sink.memoryContents()
    }

    private func alternativeNames() -> (dns: [String], addresses: [String]) {
        guard let raw = X509_get_ext_d2i(handle, NID_subject_alt_name, nil, nil) else { return ([], []) }
        let names = OpaquePointer(raw)
        defer { orbit_names_free(names) }
        var (dns, addresses): ([String], [String]) = ([], [])
        for index in 0..<max(orbit_names_count(names), 0) {
            var type: Int32 = 0
            guard let name = orbit_names_at(names, index), let value = GENERAL_NAME_get0_value(name, &type) else {
                continue
            }
            let text = value.assumingMemoryBound(to: ASN1_STRING.self)
            let bytes = UnsafeBufferPointer(start: ASN1_STRING_get0_data(text), count: Int(ASN1_STRING_length(text)))
            if type == GEN_DNS {
                dns.append(String(decoding: bytes, as: UTF8.self))
            } else if type == GEN_IPADD {
                addresses.append(Self.address(Bytes(bytes)))
            }
        }
        return (dns, addresses)
    }

    /// Text of an address of 4 or 16 bytes; other lengths are named as what they are.
    private static func address(_ bytes: Bytes) -> String {
        switch bytes.count {
        case 4:
            return bytes.map { String($0) }.joined(separator: ".")
        case 16:
            return stride(from: 0, to: 16, by: 2).map { offset in
                String(UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1]), radix: 16)
            }.joined(separator: ":")
        case let count:
            return "invalid(\(count) bytes)"
        }
    }

    private static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64 {
        guard let epoch = ASN1_TIME_set(nil, 0) else { return 0 }
        defer { ASN1_TIME_free(epoch) }
        var (days, seconds): (Int32, Int32) = (0, 0)
        guard ASN1_TIME_diff(&days, &seconds, epoch, time) == 1 else { return 0 }
        return Int64(days) * 86400 + Int64(seconds)
    }
}

/// A private key, parsed.
final class PrivateKey {
    let handle: OpaquePointer

    /// Takes over one reference.
    init(owning handle: OpaquePointer) { self.handle = handle }

    /// Fails for encrypted keys: a process cannot ask for a password.
    init(pem: Bytes) throws(CryptoError) {
        ERR_clear_error()
        let source = try Owned.memory(pem)
        guard let key = PEM_read_bio_PrivateKey(source.pointer, nil, orbit_no_password, nil) else {
            throw CryptoError.openSSL("private key", fallback: "not readable")
        }
        handle = key
    }

    deinit { EVP_PKEY_free(handle) }

    /// A fresh key on the curve P-256.
    static func generate() throws(CryptoError) -> PrivateKey {
        guard let key = orbit_generate_p256() else { throw CryptoError.openSSL("key generation") }
        return PrivateKey(owning: key)
    }

    /// PKCS#8, not encrypted: file permissions protect it.
    func pem() throws(CryptoError) -> Bytes {
        let sink = try Owned.memory()
        try check(PEM_write_bio_PrivateKey(sink.pointer, handle, nil, nil, 0, nil, nil), "private key")
        return sink.memoryContents()
    }
}
