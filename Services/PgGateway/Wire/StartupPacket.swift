import Base

/// What a client says first: a length and a code, without a type.
package enum StartupPacket: Equatable {
    case requestTLS
    case requestGSS
    /// Cancel what another connection does; nothing is answered.
    case cancel(processID: Int32, secret: Int32)
    case startup(StartupMessage)

    /// PostgreSQL's limit of the whole packet.
    package static let limit = 10_000
    /// The only version there is: 3.0.
    package static let latestVersion: Int32 = 3 << 16

    private enum Code {
        static let cancel: Int32 = 80_877_102, tls: Int32 = 80_877_103, gss: Int32 = 80_877_104
    }

    /// The packet at the beginning of `view` and its length; nil when it is not there to its end.
    package static func next(_ view: ByteView) throws(StartupError) -> (packet: StartupPacket, byteCount: Int)? {
        var reader = ByteReader(view)
        guard let length = reader.bigEndian(Int32.self) else { return nil }
        // As in PostgreSQL: who begins so does not speak the protocol, and would not understand an answer.
        guard (8...limit).contains(Int(length)) else { throw .silent("invalid length of startup packet") }
        guard let body = reader.view(Int(length) - 4) else { return nil }
        var inside = ByteReader(body)
        guard let code = inside.bigEndian(Int32.self) else { throw .silent("invalid length of startup packet") }
        switch code {
        case Code.tls: return (.requestTLS, Int(length))
        case Code.gss: return (.requestGSS, Int(length))
        case Code.cancel:
            guard let processID = inside.bigEndian(Int32.self), let secret = inside.bigEndian(Int32.self),
                inside.isAtEnd
            else { throw .silent("invalid length of startup packet") }
            return (.cancel(processID: processID, secret: secret), Int(length))
        case _: return (.startup(try StartupMessage(version: code, inside.rest)), Int(length))
        }
    }
}

/// Why a connection is not begun.
package enum StartupError: Error, Hashable {
    /// It is closed without a word.
    case silent(String)
    case told(StatementError)
}

/// The parameters with which a client begins.
package struct StartupMessage: Equatable {
    /// A name and its value.
    package struct Parameter: Equatable {
        package let name: String, value: String

        package init(_ name: String, _ value: String) { (self.name, self.value) = (name, value) }
    }

    /// Of the protocol 3.n: which n.
    package let minorVersion: UInt16
    package let user: String
    package let database: String
    /// All the others but those of the protocol itself, in order: settings.
    package private(set) var settings: [Parameter] = []
    /// Extensions of the protocol (`_pq_.…`), none of which we know.
    package private(set) var unknownOptions: [String] = []
    package private(set) var wantsReplication = false

    package init(version: Int32, _ body: ByteView) throws(StartupError) {
        guard version >> 16 == 3 else {
            let minor = UInt32(bitPattern: version) & 0xffff
            throw .told(
                StatementError(
                    .featureNotSupported,
                    "unsupported frontend protocol \(UInt32(bitPattern: version) >> 16).\(minor): "
                        + "server supports 3.0 to 3.0"))
        }
        minorVersion = UInt16(truncatingIfNeeded: version)
        var reader = ByteReader(body), user = "", database: String?, options = ""
        let badLayout = StatementError(
            .protocolViolation, "invalid startup packet layout: expected terminator as last byte")
        while true {
            guard let name = Self.text(&reader) else { throw .told(badLayout) }
            if name.isEmpty { break }
            guard let value = Self.text(&reader) else { throw .told(badLayout) }
            switch name {
            case "user": user = value
            case "database": database = value
            case "options": options = value
            case "replication": wantsReplication = !["false", "off", "no", "0"].contains(value)
            case _ where name.hasPrefix("_pq_."): unknownOptions.append(name)
            case _: settings.append(Parameter(name, value))
            }
        }
        guard reader.isAtEnd else { throw .told(badLayout) }
        guard !user.isEmpty else {
            throw .told(
                StatementError(
                    .invalidAuthorizationSpecification, "no PostgreSQL user name specified in startup packet"))
        }
        (self.user, self.database) = (user, database.flatMap { $0.isEmpty ? nil : $0 } ?? user)
        do throws(StatementError) {
            // Options count less than parameters of their own, as in PostgreSQL, which reads them first.
            settings.insert(contentsOf: try StartupOptions.parse(options), at: 0)
        } catch {
            throw .told(error)
        }
    }

    private static func text(_ reader: inout ByteReader) -> String? {
        guard let view = try? reader.text() else { return nil }
        // Names with other bytes match no user and no setting.
        return String(decoding: view, as: UTF8.self)
    }
}

/// The parameter `options`: arguments of the server's command line.
enum StartupOptions {
    static func parse(_ text: String) throws(StatementError) -> [StartupMessage.Parameter] {
        var rest = words(text)[...], settings: [StartupMessage.Parameter] = []
        while let word = rest.popFirst() {
            let assignment: String
            if word == "-c", let next = rest.popFirst() {
                assignment = next
            } else if word.hasPrefix("--"), word.count > 2 {
                assignment = String(word.dropFirst(2))
            } else if word.hasPrefix("-c"), word.count > 2 {
                assignment = String(word.dropFirst(2))
            } else {
                throw StatementError(.syntaxError, "invalid command-line argument for server process: \(word)")
            }
            guard let equals = assignment.firstIndex(of: "=") else {
                throw StatementError(.syntaxError, "-c \(assignment) requires a value")
            }
            let name = assignment[..<equals].map { $0 == "-" ? "_" : $0 }
            settings.append(.init(String(name), String(assignment[assignment.index(after: equals)...])))
        }
        return settings
    }

    /// Blanks part words; a backslash takes the next character as it is.
    private static func words(_ text: String) -> [String] {
        var words: [String] = [], word: String?, isEscaped = false
        for character in text {
            if isEscaped {
                word = (word ?? "") + String(character)
                isEscaped = false
            } else if character == "\\" {
                word = word ?? ""
                isEscaped = true
            } else if character.isWhitespace {
                if let word { words.append(word) }
                word = nil
            } else {
                word = (word ?? "") + String(character)
            }
        }
        if let word { words.append(word) }
        return words
    }
}
