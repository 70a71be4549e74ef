import Base
import Crypto
import Testing

@Suite("CertificateAuthority")
struct CertificateAuthorityTests {
    private static let now: Int64 = 1_800_000_000

    @Test("puts role, id and names into a certificate and survives PEM")
    func issue() throws {
        let made = try CertificateAuthority.make(name: "test cluster", now: Self.now)
        let authority = try CertificateAuthority(
            certificatePEM: made.certificatePEM, privateKeyPEM: made.privateKeyPEM)
        let root = try CertificateSubject(pem: made.certificatePEM)
        #expect(root.commonName == "test cluster")
        #expect(root.notAfter == Self.now + 3650 * 86400)
        let issued = try authority.issue(
            role: "coordinator", id: "c-1", dnsNames: ["localhost", "c-1.cluster.local"],
            addresses: ["10.1.2.3", "fe80::1"], now: Self.now)
        #expect(
            try CertificateSubject(pem: issued.certificatePEM)
                == CertificateSubject(
                    organization: "orbit", organizationalUnit: "coordinator", commonName: "c-1",
                    dnsNames: ["localhost", "c-1.cluster.local"], addresses: ["10.1.2.3", "fe80:0:0:0:0:0:0:1"],
                    notAfter: Self.now + 365 * 86400))
    }

    @Test("takes text literally: a name cannot smuggle in another field")
    func literalNames() throws {
        let authority = try CertificateAuthority.make(now: Self.now)
        let issued = try authority.issue(
            role: "resp-gw", id: "x,OU=coordinator", dnsNames: ["a,IP:1.2.3.4"], addresses: [], now: Self.now)
        let subject = try CertificateSubject(pem: issued.certificatePEM)
        #expect(subject.organizationalUnit == "resp-gw")
        #expect(subject.commonName == "x,OU=coordinator")
        #expect(subject.dnsNames == ["a,IP:1.2.3.4"])
        #expect(subject.addresses.isEmpty)
    }

    @Test("refuses names that no certificate can hold")
    func badNames() throws {
        let authority = try CertificateAuthority.make(now: Self.now)
        let long = String(repeating: "x", count: 65)
        for (role, id, names, addresses) in [
            ("", "a", [], []), ("r", "", [], []), (long, "a", [], []), ("r", long, [], []), ("r", "a", [""], []),
            ("r", "a", ["ü"], []), ("r", "a", ["a b"], []), ("r", "a", [], ["300.1.1.1"]), ("r", "a", [], ["host"]),
        ] as [(String, String, [String], [String])] {
            #expect(throws: CryptoError.self) {
                try authority.issue(role: role, id: id, dnsNames: names, addresses: addresses, now: Self.now)
            }
        }
        #expect(throws: CryptoError.self) {
            try authority.issue(role: "r", id: "a", now: Self.now, validForDays: 0)
        }
    }

    @Test("refuses a key that is not the certificate's, and PEM that is damaged or cut")
    func damaged() throws {
        let one = try CertificateAuthority.make(now: Self.now)
        let two = try CertificateAuthority.make(now: Self.now)
        #expect(throws: CryptoError.self) {
            try CertificateAuthority(certificatePEM: one.certificatePEM, privateKeyPEM: two.privateKeyPEM)
        }
        for length in stride(from: 0, to: one.certificatePEM.count - 1, by: 7) {
            #expect(throws: CryptoError.self, "cut to \(length)") {
                try CertificateSubject(pem: Bytes(one.certificatePEM.prefix(length)))
            }
        }
        for position in stride(from: 30, to: one.certificatePEM.count - 30, by: 11) {
            var damaged = one.certificatePEM
            damaged[position] ^= 0x55
            // Parsing may succeed, for a flipped bit of the signature say: what counts is that nothing traps.
            _ = try? CertificateSubject(pem: damaged)
        }
    }
}
