import Base
import Crypto
import Testing

private func hex(_ text: String) -> Bytes {
    let digits = text.compactMap { $0.hexDigitValue }
    return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

@Suite("Digests and verifiers")
struct DigestTests {
    @Test("SHA-256 gives the values of FIPS 180-4, in one call and piece by piece")
    func sha256() {
        #expect(SHA256.hash([]) == hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"))
        let message = Bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8)
        let expected = hex("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
        #expect(SHA256.hash(message) == expected)
        var pieces = SHA256()
        for byte in message { withUnsafeBytes(of: byte) { pieces.update($0) } }
        #expect(pieces.finish() == expected)
    }

    @Test("SHA-1 and MySQL's hash of a hash")
    func sha1() {
        #expect(SHA1.hash(Bytes("abc".utf8)) == hex("a9993e364706816aba3e25717850c26c9cd0d89d"))
        // SELECT PASSWORD('password') of MySQL and MariaDB.
        #expect(MySQLPasswordDigest.native(Bytes("password".utf8)) == hex("2470c0c06dee42fd1618bb99005adca2ec9d1e19"))
        #expect(MySQLPasswordDigest.cachingSHA2(Bytes("abc".utf8)) == SHA256.hash(SHA256.hash(Bytes("abc".utf8))))
    }

    @Test("HMAC-SHA-256 gives the values of RFC 4231")
    func hmac() {
        #expect(
            HMAC.sha256(key: Bytes(repeating: 0x0b, count: 20), message: Bytes("Hi There".utf8))
                == hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"))
        #expect(
            HMAC.sha256(key: Bytes("Jefe".utf8), message: Bytes("what do ya want for nothing?".utf8))
                == hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"))
        #expect(
            HMAC.sha256(
                key: Bytes(repeating: 0xaa, count: 131),
                message: Bytes("Test Using Larger Than Block-Size Key - Hash Key First".utf8))
                == hex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"))
    }

    @Test("PBKDF2 gives the values of RFC 7914 and of RFC 6070's inputs under SHA-256")
    func pbkdf2() throws {
        let cases: [(String, String, Int, Int, String)] = [
            ("password", "salt", 1, 32, "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b"),
            ("password", "salt", 4096, 32, "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a"),
            (
                "passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096, 40,
                "348c89dbcbd32b2f32d814b8116e84cf2b17347ebc1800181c4e2a1fb8dd53e1c635518c7dac47e9"
            ),
            ("pass\0word", "sa\0lt", 4096, 16, "89b69d0516f829893c696226650a8687"),
        ]
        for (password, salt, iterations, count, expected) in cases {
            let key = try PBKDF2.sha256(
                password: Bytes(password.utf8), salt: Bytes(salt.utf8), iterations: iterations, byteCount: count)
            #expect(key == hex(expected))
        }
        #expect(throws: CryptoError.self) { try PBKDF2.sha256(password: [], salt: [], iterations: 0) }
    }

    @Test("compares in constant time what is equal and what is not")
    func equality() {
        #expect(constantTimeEquals([], []))
        #expect(constantTimeEquals([1, 2, 3], [1, 2, 3]))
        #expect(!constantTimeEquals([1, 2, 3], [1, 2, 4]))
        #expect(!constantTimeEquals([1, 2, 3], [1, 2]))
        #expect(randomBytes(32) != randomBytes(32))
        #expect(randomBytes(0).isEmpty)
    }

    @Test("Base64 gives the values of RFC 4648 and refuses what is not canonical")
    func base64() {
        for (plain, text) in [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy"),
        ] {
            #expect(Base64.encode(Bytes(plain.utf8)) == text)
            #expect(Base64.decode(text) == Bytes(plain.utf8))
        }
        for bad in ["Z", "Zg", "Zg=", "Zh==", "Zm9=", "====", "=Zg=", "Zm9v\n", "Zm9!", "Zg==Zg=="] {
            #expect(Base64.decode(bad) == nil, "\(bad)")
        }
        for length in 0..<64 {
            let bytes = randomBytes(length)
            #expect(Base64.decode(Base64.encode(bytes)) == bytes)
        }
    }

    /// The exchange of RFC 7677, section 3: user "user", password "pencil".
    @Test("SCRAM gives the values of RFC 7677")
    func scram() throws {
        let salt = try #require(Base64.decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
        let verifier = try SCRAMVerifier(password: Bytes("pencil".utf8), salt: salt)
        let exchange =
            "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            + "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
        var proof = try #require(Base64.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
        #expect(
            verifier.serverSignature(forProof: proof, authMessage: Bytes(exchange.utf8)).map { Base64.encode($0) }
                == "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        proof[7] ^= 1
        #expect(verifier.serverSignature(forProof: proof, authMessage: Bytes(exchange.utf8)) == nil)
        #expect(verifier.serverSignature(forProof: [], authMessage: Bytes(exchange.utf8)) == nil)
    }

    @Test("a verifier survives its text form and knows its password")
    func verifierText() throws {
        let verifier = try SCRAMVerifier(password: Bytes("correct horse".utf8), iterations: 64)
        let read = try #require(SCRAMVerifier(parsing: verifier.description))
        #expect(read == verifier)
        #expect(read.matches(password: Bytes("correct horse".utf8)))
        #expect(!read.matches(password: Bytes("correct horsf".utf8)))
        #expect(!read.matches(password: []))
        let text = verifier.description
        for length in 0..<text.count {
            #expect(SCRAMVerifier(parsing: String(text.prefix(length))) == nil, "cut to \(length)")
        }
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
        for bad in [
            "SCRAM-SHA-1$4096:AA==$\(key):\(key)", "SCRAM-SHA-256$0:AA==$\(key):\(key)",
            "SCRAM-SHA-256$-1:AA==$\(key):\(key)", "SCRAM-SHA-256$99999999999:AA==$\(key):\(key)",
            "SCRAM-SHA-256$4096:$\(key):\(key)", "SCRAM-SHA-256$4096:AA==$\(key):\(key):\(key)",
        ] {
            #expect(SCRAMVerifier(parsing: bad) == nil, "\(bad)")
        }
    }
}
