import Base

/// What is stored of a password: enough to check it, not enough to use it elsewhere (SCRAM-SHA-256, RFC 5802 and 7677).
///
/// The text form is PostgreSQL's, `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, so that users move between the
/// two unchanged. Passwords are taken as bytes; a client's SASLprep changes only passwords with non-ASCII characters.
/// Deriving costs thousands of hashes: do it on a worker, never on a loop.
package struct SCRAMVerifier: Hashable, Sendable, CustomStringConvertible {
    package static let defaultIterations = 4096
    package static let saltByteCount = 16
    /// A stored verifier that asks for more is refused: reading it must not become a way to stop a process.
    package static let iterationLimit = 10_000_000

    package let iterations: Int
    package let salt: Bytes
    package let storedKey: Bytes
    package let serverKey: Bytes

    /// Derives the verifier of a password with a salt of the caller's or a fresh random one.
    package init(password: Bytes, salt: Bytes? = nil, iterations: Int = Self.defaultIterations) throws(CryptoError) {
        let salt = salt ?? randomBytes(Self.saltByteCount)
        guard (1...Self.iterationLimit).contains(iterations), !salt.isEmpty else {
            throw CryptoError("SCRAM", "iterations or salt out of range")
        }
        let salted = try PBKDF2.sha256(password: password, salt: salt, iterations: iterations)
        self.iterations = iterations
        self.salt = salt
        storedKey = SHA256.hash(HMAC.sha256(key: salted, message: Bytes("Client Key".utf8)))
        serverKey = HMAC.sha256(key: salted, message: Bytes("Server Key".utf8))
    }

    /// Reads the text form; nil if it is not one.
    package init?(parsing text: String) {
        let parts = text.split(separator: "$", omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "SCRAM-SHA-256" else { return nil }
        let head = parts[1].split(separator: ":", omittingEmptySubsequences: false)
        let keys = parts[2].split(separator: ":", omittingEmptySubsequences: false)
        guard head.count == 2, keys.count == 2, head[0].utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
            let iterations = Int(head[0]), (1...Self.iterationLimit).contains(iterations),
            let salt = Base64.decode(head[1]), !salt.isEmpty,
            let storedKey = Base64.decode(keys[0]), storedKey.count == SHA256.byteCount,
            let serverKey = Base64.decode(keys[1]), serverKey.count == SHA256.byteCount
        else { return nil }
        self.iterations = iterations
        self.salt = salt
        self.storedKey = storedKey
        self.serverKey = serverKey
    }

    package var description: String {
        "SCRAM-SHA-256$\(iterations):\(Base64.encode(salt))$\(Base64.encode(storedKey)):\(Base64.encode(serverKey))"
    }

    /// True if `password`, sent in the clear (RESP AUTH, a password over TLS), is the one.
    package func matches(password: Bytes) -> Bool {
        guard let salted = try? PBKDF2.sha256(password: password, salt: salt, iterations: iterations) else {
            return false
        }
        let clientKey = HMAC.sha256(key: salted, message: Bytes("Client Key".utf8))
        return constantTimeEquals(SHA256.hash(clientKey), storedKey)
    }

    /// The server's half of the exchange: checks the client's proof over the exchange's text (`AuthMessage`) and gives
    /// the server signature that proves to the client that we know the password's verifier. Nil: refused.
    package func serverSignature(forProof proof: Bytes, authMessage: Bytes) -> Bytes? {
        guard proof.count == SHA256.byteCount else { return nil }
        let clientSignature = HMAC.sha256(key: storedKey, message: authMessage)
        let clientKey = zip(proof, clientSignature).map { $0 ^ $1 }
        guard constantTimeEquals(SHA256.hash(clientKey), storedKey) else { return nil }
        return HMAC.sha256(key: serverKey, message: authMessage)
    }
}

/// Stored forms of a password for mechanisms of MySQL, which check a hash of a hash.
package enum MySQLPasswordDigest {
    /// `mysql_native_password`: SHA1(SHA1(password)).
    package static func native(_ password: Bytes) -> Bytes { SHA1.hash(SHA1.hash(password)) }

    /// The fast path of `caching_sha2_password`: SHA256(SHA256(password)).
    package static func cachingSHA2(_ password: Bytes) -> Bytes { SHA256.hash(SHA256.hash(password)) }
}
