import Base

/// A user, as stored in collection `system.users` (DataModel: `CollectionID.systemUsers`, number 16).
///
/// The record's key is the key-encoded name (`KeyEncoding`, one text), its slot is that of the encoded key. There is
/// one verifier per mechanism, so that every protocol can check the same password its own way and no password is
/// stored.
///
///     version u8 (1) | flags u8 (bit 0: enabled) | name | rules | count varint | count × (mechanism | verifier)
///
/// Every text is a varint length and UTF-8.
package struct UserRecord: Hashable, Sendable {
    package var name: String
    /// A disabled user keeps its record and cannot log in.
    package var isEnabled: Bool
    /// What the user may do, as the rules of Redis `ACL SETUSER`: `~* &* +@all`.
    package var rules: String
    /// By mechanism; `SCRAM-SHA-256` holds the text form of PostgreSQL.
    package var verifiers: [Verifier]
    /// What the role of that name is in SQL; nil: there is none, or nobody has asked. It is kept elsewhere: in the
    /// catalog.
    package var role: Role?

    /// A role, as far as a gateway must know it.
    package struct Role: Hashable, Sendable {
        /// Of the catalog: another role of that name has another one.
        package var number: UInt32
        package var isSuperuser: Bool, mayLogIn: Bool

        package init(number: UInt32, isSuperuser: Bool, mayLogIn: Bool) {
            (self.number, self.isSuperuser, self.mayLogIn) = (number, isSuperuser, mayLogIn)
        }
    }

    /// What proves a password under one mechanism.
    package struct Verifier: Hashable, Sendable {
        package var mechanism: String
        package var text: String

        package init(mechanism: String, text: String) {
            self.mechanism = mechanism
            self.text = text
        }
    }

    /// The collection `system.users`.
    package static let collection = CollectionID(rawValue: 16)
    package static let scramSHA256 = "SCRAM-SHA-256"
    /// The rules of a user that may do everything.
    package static let allRules = "~* &* +@all"
    /// Limits of the decoder: no text is longer, no user has more verifiers.
    package static let maximumTextLength = 65_536
    package static let maximumVerifiers = 16

    package init(name: String, isEnabled: Bool = true, rules: String = allRules, verifiers: [Verifier] = []) {
        self.name = name
        self.isEnabled = isEnabled
        self.rules = rules
        self.verifiers = verifiers
    }

    /// The verifier of one mechanism, if the user has it.
    package func verifier(of mechanism: String) -> String? {
        verifiers.first { $0.mechanism == mechanism }?.text
    }

    /// The stored form.
    package func encode() -> Bytes {
        var buffer = ByteBuffer(capacity: 256)
        buffer.append(1 as UInt8)
        buffer.append(isEnabled ? 1 : 0 as UInt8)
        Self.append(name, to: &buffer)
        Self.append(rules, to: &buffer)
        buffer.append(varint: UInt64(verifiers.count))
        for verifier in verifiers {
            Self.append(verifier.mechanism, to: &buffer)
            Self.append(verifier.text, to: &buffer)
        }
        return buffer.readable.bytes
    }

    /// Reads the stored form; anything unexpected is `corruption`, an unknown version `featureNotSupported`.
    package init(decoding view: ByteView) throws(DatabaseError) {
        var reader = ByteReader(view)
        guard let version = reader.byte() else { throw Self.corrupt("it is empty") }
        guard version == 1 else {
            throw DatabaseError(.featureNotSupported, "user record of version \(version): written by a newer release")
        }
        guard let flags = reader.byte(), flags <= 1 else { throw Self.corrupt("unknown flags") }
        isEnabled = flags & 1 == 1
        name = try Self.text(&reader)
        rules = try Self.text(&reader)
        verifiers = []
        guard let count = reader.varint(), count <= UInt64(Self.maximumVerifiers) else {
            throw Self.corrupt("too many verifiers")
        }
        for _ in 0..<count {
            let mechanism = try Self.text(&reader)
            verifiers.append(Verifier(mechanism: mechanism, text: try Self.text(&reader)))
        }
        guard reader.isAtEnd else { throw Self.corrupt("bytes after the end") }
    }

    private static func append(_ text: String, to buffer: inout ByteBuffer) {
        buffer.append(varint: UInt64(text.utf8.count))
        buffer.append(text: text)
    }

    private static func text(_ reader: inout ByteReader) throws(DatabaseError) -> String {
        guard let view = reader.delimited(), view.count <= maximumTextLength,
            let text = String(validating: view, as: UTF8.self)
        else { throw corrupt("a text is cut, too long or not UTF-8") }
        return text
    }

    private static func corrupt(_ why: String) -> DatabaseError {
        DatabaseError(.corruption, "user record: \(why)")
    }
}
