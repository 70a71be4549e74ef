import Base
import COpenSSL

/// SHA-256, in one call or piece by piece.
package struct SHA256: ~Copyable {
    package static let byteCount = 32
    private let context: OpaquePointer

    package init() {
        guard let context = EVP_MD_CTX_new(), EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
            fatalError("OpenSSL has no SHA-256: out of memory or broken installation")
        }
        self.context = context
    }

    deinit { EVP_MD_CTX_free(context) }

    /// Takes the next piece of the message.
    package mutating func update(_ bytes: ByteView) {
        _ = EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
    }

    package consuming func finish() -> Bytes {
        var digest = Bytes(repeating: 0, count: Self.byteCount)
        _ = EVP_DigestFinal_ex(context, &digest, nil)
        return digest
    }

    package static func hash(_ bytes: Bytes) -> Bytes { digest(bytes, EVP_sha256(), byteCount) }
}

/// SHA-1, only for protocols that prescribe it (`mysql_native_password`, WebSocket); never for new formats.
package enum SHA1 {
    package static let byteCount = 20

    package static func hash(_ bytes: Bytes) -> Bytes { digest(bytes, EVP_sha1(), byteCount) }
}

/// Digests that statements ask for by name; nothing of ours relies on them.
package enum NamedDigest: String, CaseIterable, Sendable {
    case md5, sha224, sha256, sha384, sha512

    /// Nil where the library of the system refuses it (MD5 may be forbidden).
    package func hash(_ bytes: Bytes) -> Bytes? {
        let (algorithm, count) =
            switch self {
            case .md5: (EVP_md5(), 16)
            case .sha224: (EVP_sha224(), 28)
            case .sha256: (EVP_sha256(), 32)
            case .sha384: (EVP_sha384(), 48)
            case .sha512: (EVP_sha512(), 64)
            }
        var result = Bytes(repeating: 0, count: count)
        return EVP_Digest(bytes, bytes.count, &result, nil, algorithm, nil) == 1 ? result : nil
    }
}

private func digest(_ bytes: Bytes, _ algorithm: OpaquePointer?, _ byteCount: Int) -> Bytes {
    var result = Bytes(repeating: 0, count: byteCount)
    let done = EVP_Digest(bytes, bytes.count, &result, nil, algorithm, nil)
    precondition(done == 1, "OpenSSL lacks a digest that it must have")
    return result
}

/// Keyed digests (RFC 2104).
package enum HMAC {
    package static func sha256(key: Bytes, message: Bytes) -> Bytes {
        var result = Bytes(repeating: 0, count: SHA256.byteCount)
        let done = COpenSSL.HMAC(
            EVP_sha256(), key, Int32(clamping: key.count), message, message.count, &result, nil)
        precondition(done != nil, "OpenSSL lacks HMAC-SHA-256")
        return result
    }
}

/// Keys from passwords (RFC 8018). Slow on purpose: call it on a worker, never on a loop.
package enum PBKDF2 {
    /// Fails when `iterations` or `byteCount` is not positive.
    package static func sha256(
        password: Bytes, salt: Bytes, iterations: Int, byteCount: Int = SHA256.byteCount
    ) throws(CryptoError) -> Bytes {
        guard iterations > 0, iterations <= Int(Int32.max), byteCount > 0, byteCount <= 1024 else {
            throw CryptoError("PBKDF2", "iterations or length out of range")
        }
        var result = Bytes(repeating: 0, count: byteCount)
        let done = password.withUnsafeBytes { password in
            PKCS5_PBKDF2_HMAC(
                password.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(clamping: password.count), salt,
                Int32(clamping: salt.count), Int32(iterations), EVP_sha256(), Int32(byteCount), &result)
        }
        try check(done, "PBKDF2")
        return result
    }
}

/// Equality that takes the same time wherever the first difference lies. Lengths are not secret.
package func constantTimeEquals(_ left: Bytes, _ right: Bytes) -> Bool {
    left.count == right.count && CRYPTO_memcmp(left, right, left.count) == 0
}

/// Bytes from the system's generator through OpenSSL's: fit for keys, salts and passwords.
package func randomBytes(_ count: Int) -> Bytes {
    var result = Bytes(repeating: 0, count: max(count, 0))
    // There is no safe way on without randomness, and no peer can bring this about.
    precondition(count <= 0 || RAND_bytes(&result, Int32(clamping: count)) == 1, "no randomness from the system")
    return result
}
