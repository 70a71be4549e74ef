import Base
import Crypto

/// The server's side of SCRAM-SHA-256 (RFC 5802, 7677), without channel binding. Pure: the nonce comes in as a value.
///
///     client  n,,n=,r=<client nonce>
///     server  r=<client nonce><server nonce>,s=<salt>,i=<iterations>
///     client  c=biws,r=<both nonces>,p=<proof>
///     server  v=<server signature>
///
/// The user's name in the first message is ignored, as PostgreSQL does: the start-up packet has said it.
struct SCRAMExchange {
    static let mechanism = "SCRAM-SHA-256"
    /// PostgreSQL's limit of a message.
    static let messageLimit = 1024

    private let verifier: SCRAMVerifier
    /// There is no such user, or it has no password: everything goes as if there were, and fails at the end.
    private let isDecoy: Bool
    private let serverNonce: String
    private var header = "", clientFirst = "", serverFirst = "", nonce = ""

    enum Outcome { case accepted(final: Bytes), refused }

    init(_ verifier: SCRAMVerifier, isDecoy: Bool, nonce: Bytes) {
        (self.verifier, self.isDecoy, serverNonce) = (verifier, isDecoy, Base64.encode(nonce))
    }

    /// What answers the client's first message.
    mutating func begin(_ message: ByteView) throws(StatementError) -> Bytes {
        let text = try Self.text(message)
        var rest = Substring(text)
        switch rest.first {
        case "n", "y": rest = rest.dropFirst()
        case "p": throw Self.malformed("The client selected SCRAM-SHA-256 without channel binding, but used it.")
        case _: throw Self.malformed("Unexpected channel-binding flag.")
        }
        guard rest.first == "," else { throw Self.malformed("Comma expected.") }
        rest = rest.dropFirst()
        guard rest.first != "a" else {
            throw StatementError(.featureNotSupported, "client uses authorization identity, but it is not supported")
        }
        guard rest.first == "," else { throw Self.malformed("Unexpected attribute in client-first-message.") }
        rest = rest.dropFirst()
        header = String(text[..<rest.startIndex])
        guard rest.first != "m" else {
            throw StatementError(.featureNotSupported, "client requires an unsupported SCRAM extension")
        }
        clientFirst = String(rest)
        let attributes = rest.split(separator: ",", omittingEmptySubsequences: false)
        guard attributes.count >= 2, attributes[0].hasPrefix("n="), attributes[1].hasPrefix("r=") else {
            throw Self.malformed("Attributes n and r expected.")
        }
        let clientNonce = attributes[1].dropFirst(2)
        guard !clientNonce.isEmpty, clientNonce.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            throw Self.malformed("Non-printable characters in SCRAM nonce.")
        }
        nonce = clientNonce + serverNonce
        serverFirst = "r=\(nonce),s=\(Base64.encode(verifier.salt)),i=\(verifier.iterations)"
        return Bytes(serverFirst.utf8)
    }

    /// Whether the client knows the password.
    func finish(_ message: ByteView) throws(StatementError) -> Outcome {
        let text = try Self.text(message)
        guard let end = text.firstRange(of: ",p=") else { throw Self.malformed("Attribute p expected.") }
        let withoutProof = text[..<end.lowerBound], proofText = text[end.upperBound...]
        let attributes = withoutProof.split(separator: ",", omittingEmptySubsequences: false)
        guard attributes.count >= 2, attributes[0].hasPrefix("c="), attributes[1].hasPrefix("r=") else {
            throw Self.malformed("Attributes c and r expected.")
        }
        guard attributes[0].dropFirst(2) == Base64.encode(Bytes(header.utf8)) else {
            throw StatementError(
                .protocolViolation, "unexpected SCRAM channel-binding attribute in client-final-message")
        }
        guard attributes[1].dropFirst(2) == nonce else {
            throw StatementError(.protocolViolation, "invalid SCRAM response", detail: "Nonce does not match.")
        }
        guard let proof = Base64.decode(proofText), proof.count == SHA256.byteCount else {
            throw Self.malformed("Malformed proof in client-final-message.")
        }
        let signed = Bytes("\(clientFirst),\(serverFirst),\(withoutProof)".utf8)
        guard let signature = verifier.serverSignature(forProof: proof, authMessage: signed), !isDecoy else {
            return .refused
        }
        return .accepted(final: Bytes("v=\(Base64.encode(signature))".utf8))
    }

    private static func text(_ message: ByteView) throws(StatementError) -> String {
        guard message.count <= messageLimit, !message.contains(0), let text = String(validating: message, as: UTF8.self)
        else { throw malformed("Message length does not match input length.") }
        return text
    }

    private static func malformed(_ detail: String) -> StatementError {
        .protocolViolation("malformed SCRAM message", detail: detail)
    }

    /// A verifier that no password fits, always the same for a name: its salt tells nothing about who exists.
    static func decoy(for user: String, key: Bytes) -> SCRAMVerifier? {
        let salt = Bytes(HMAC.sha256(key: key, message: Bytes(user.utf8)).prefix(SCRAMVerifier.saltByteCount))
        let zeros = String(repeating: "A", count: 43) + "="
        return SCRAMVerifier(
            parsing: "SCRAM-SHA-256$\(SCRAMVerifier.defaultIterations):\(Base64.encode(salt))$\(zeros):\(zeros)")
    }
}
