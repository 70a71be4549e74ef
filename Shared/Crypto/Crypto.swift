/// Crypto: the only module that touches OpenSSL.
///
/// It holds what the processes need and no more: digests, HMAC, PBKDF2 and password verifiers (`Digest.swift`,
/// `SCRAMVerifier.swift`), the cluster's certificate authority (`CertificateAuthority.swift`) and TLS as a pure
/// transformation of bytes (`TLSContext.swift`, `TLSEngine.swift`) that knows no socket: ciphertext goes in and out
/// through memory, so the event loop keeps its one read and one write per tick, and tests run both ends in one thread.
///
/// Invariants: a byte from a peer becomes an error value, never a trap; secrets are compared in constant time; whoever
/// may connect is decided by the certificate's subject (O=orbit, OU=role, CN=id), which only the cluster authority
/// gives.
import Base
import COpenSSL

/// A failure of a cryptographic operation, in OpenSSL's words where it had any.
package struct CryptoError: Error, Hashable, Sendable, CustomStringConvertible {
    package let operation: String
    package let reason: String

    package init(_ operation: String, _ reason: String) {
        self.operation = operation
        self.reason = reason
    }

    package var description: String { "\(operation): \(reason)" }

    /// Takes the calling thread's queued OpenSSL errors; `fallback` speaks when there is none.
    static func openSSL(_ operation: String, fallback: String = "failed") -> CryptoError {
        var reasons: [String] = []
        while reasons.count < 4 {
            let code = ERR_get_error()
            guard code != 0 else { break }
            guard let text = ERR_reason_error_string(code) else { continue }
            reasons.append(String(cString: text))
        }
        ERR_clear_error()
        return CryptoError(operation, reasons.isEmpty ? fallback : reasons.joined(separator: "; "))
    }
}

/// Owns one OpenSSL object and frees it. The pointer must not outlive the owner.
struct Owned: ~Copyable {
    let pointer: OpaquePointer
    private let free: (OpaquePointer?) -> Void

    /// Fails with the queued OpenSSL error when `pointer` is nil.
    init(_ pointer: OpaquePointer?, _ operation: String, free: @escaping (OpaquePointer?) -> Void) throws(CryptoError) {
        guard let pointer else { throw CryptoError.openSSL(operation) }
        self.pointer = pointer
        self.free = free
    }

    deinit { free(pointer) }

    /// A memory BIO that holds a copy of `content`: OpenSSL's reader and writer of PEM text.
    static func memory(_ content: Bytes = []) throws(CryptoError) -> Owned {
        let bio = try Owned(BIO_new(BIO_s_mem()), "memory") { BIO_free($0) }
        if !content.isEmpty { try check(BIO_write(bio.pointer, content, Int32(clamping: content.count)), "memory") }
        return bio
    }

    /// What was written to a memory BIO.
    func memoryContents() -> Bytes {
        let pending = Int32(clamping: orbit_bio_pending(pointer))
        var content = Bytes(repeating: 0, count: Int(pending))
        let count = BIO_read(pointer, &content, pending)
        return Bytes(content.prefix(Int(max(count, 0))))
    }
}

/// Fails with the queued OpenSSL error when a call did not return a positive number.
func check(_ result: Int32, _ operation: String) throws(CryptoError) {
    guard result > 0 else { throw CryptoError.openSSL(operation) }
}
