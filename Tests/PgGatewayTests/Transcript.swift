import Base
import Contracts
import Crypto
import DataModel
import PgGateway

/// A golden file: stories, each one connection, told in steps.
///
///     # A comment; it stays where it is.
///     open | closed | tls            what gateway it is: nobody has to log in; everybody has to; and it offers TLS
///     > startup user=u database=d    the client sends a message: see `StoryRunner.encode` for all of them
///     user PASSWORD | user none      the user's record is found, with a verifier of that password; or there is none
///     login PASSWORD                 the client goes through SCRAM, to its end
///     checked yes | no               a password sent in clear is right, or not
///     < prepared int4 : a int4       the runner answers: see `StoryRunner.answer`
///     clock +1500                    milliseconds pass
///     drained                        the client has taken what it was sent
///     cancelled                      another connection asks to cancel
///     end                            the client sends nothing more
///     drop                           the client has gone
///     ---
///     execute select 1               what came of it
///     send Z idle
///
/// An empty line ends a step, `===` a story.
struct Transcript {
    /// Runs all stories of `text` and returns it with the true outcomes in place.
    static func replay(_ text: String) -> String {
        var output: [String] = [], runner = StoryRunner(), isOutcome = false
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        func flush() {
            guard isOutcome else { return }
            output += runner.takeOutcome()
            isOutcome = false
        }
        for line in lines {
            if line == "===" {
                flush()
                runner = StoryRunner()
                output.append(line)
            } else if line.isEmpty {
                flush()
                output.append(line)
            } else if line == "---" {
                output.append(line)
                isOutcome = true
            } else if isOutcome {
                continue
            } else {
                output.append(line)
                if !line.hasPrefix("#") { runner.play(line) }
            }
        }
        flush()
        return output.joined(separator: "\n") + "\n"
    }
}

/// One connection of a transcript.
final class StoryRunner {
    private var server = StoryRunner.server()
    private let recorder = Recorder()
    private var input = ByteBuffer()
    private lazy var session: PgSession = server.admit(recorder)

    static func server(isOpen: Bool = true, tls: Bool = false, clear: Bool = false) -> PgServer {
        var limits = PgServer.Limits()
        (limits.output, limits.input) = (4096, 4096)
        return PgServer(
            limits: limits, zones: TimeZoneNames(["Europe/Berlin", "Etc/UTC", "America/New_York"]), isOpen: isOpen,
            offersTLS: tls, prefersClearPassword: clear, randomBytes: { Bytes(repeating: 7, count: $0) })
    }

    func takeOutcome() -> [String] {
        defer { recorder.lines = [] }
        return recorder.lines
    }

    func play(_ line: String) {
        let words = line.split(separator: " ").map(String.init)
        let rest = line.split(separator: " ", maxSplits: 1).dropFirst().first.map(String.init) ?? ""
        switch words[0] {
        case "open": server = Self.server(isOpen: true)
        case "closed": server = Self.server(isOpen: false)
        case "tls": server = Self.server(isOpen: false, tls: true)
        case "clear": server = Self.server(isOpen: false, tls: true, clear: true)
        case ">":
            input.append(Self.encode(String(line.dropFirst(2))))
            session.receive(&input)
        case "<": answer(Array(words.dropFirst()), String(line.dropFirst(2)))
        case "user": foundUser(rest)
        case "login": login(rest)
        case "checked": session.passwordChecked(rest == "yes")
        case "clock":
            server.monotonicMilliseconds += UInt64(rest.dropFirst()) ?? 0
            session.checkIdle()
        case "drained": session.outputDrained()
        case "cancelled": session.cancel()
        case "end": session.inputEnded()
        case "drop": session.peerClosed()
        default: recorder.lines.append("? \(line)")
        }
        collect()
    }

    private func collect() {
        if words(session.output.readable).isEmpty == false { recorder.lines += words(session.output.readable) }
        session.output.removeAll()
        for action in session.takeActions() { recorder.lines.append("do \(action)") }
    }

    private func words(_ view: ByteView) -> [String] { BackendText.describe(view) }

    // MARK: Login

    private func foundUser(_ password: String) {
        guard password != "none" else { return session.userFound(.success(nil)) }
        let salt = Bytes("0123456789abcdef".utf8)
        let verifier = try? SCRAMVerifier(password: Bytes(password.utf8), salt: salt, iterations: 16)
        let text = verifier?.description ?? ""
        session.userFound(
            .success(
                UserRecord(name: "u", verifiers: [.init(mechanism: UserRecord.scramSHA256, text: text)])))
    }

    /// A client of SCRAM-SHA-256, as RFC 5802 has it.
    private func login(_ password: String) {
        session.output.removeAll()
        let first = "n=,r=clientnonce"
        input.append(
            WireTests.message(
                "p",
                WireTests.text("SCRAM-SHA-256") + WireTests.bytes(Int32(first.utf8.count + 3))
                    + Bytes("n,,\(first)".utf8)))
        session.receive(&input)
        let challenge = String(decoding: session.output.readable.dropFirst(9), as: UTF8.self)
        session.output.removeAll()
        let parts = challenge.split(separator: ",").map { $0.dropFirst(2) }
        guard parts.count == 3, let salt = Base64.decode(parts[1]), let iterations = Int(parts[2]),
            let salted = try? PBKDF2.sha256(password: Bytes(password.utf8), salt: salt, iterations: iterations)
        else { return recorder.lines.append("? \(challenge)") }
        let clientKey = HMAC.sha256(key: salted, message: Bytes("Client Key".utf8))
        let bare = "c=biws,r=\(parts[0])"
        let signed = Bytes("\(first),\(challenge),\(bare)".utf8)
        let signature = HMAC.sha256(key: SHA256.hash(clientKey), message: signed)
        let proof = zip(clientKey, signature).map { $0 ^ $1 }
        input.append(WireTests.message("p", Bytes("\(bare),p=\(Base64.encode(proof))".utf8)))
        session.receive(&input)
        let serverKey = HMAC.sha256(key: salted, message: Bytes("Server Key".utf8))
        let expected = Bytes("v=\(Base64.encode(HMAC.sha256(key: serverKey, message: signed)))".utf8)
        let final = WireTests.message("R", WireTests.bytes(Int32(12)) + expected)
        if session.output.readable.starts(with: final) {
            recorder.lines.append("the server knows the password, too")
            session.output.consume(final.count)
        }
    }

    // MARK: Messages

    /// `""` is an empty word.
    private static func word(_ words: [String], _ index: Int) -> Bytes {
        guard index < words.count, words[index] != "\"\"" else { return [0] }
        return WireTests.text(words[index])
    }

    private static func formats(_ text: String) -> Bytes {
        let codes = text.split(separator: ",").compactMap { Int16($0) }
        return WireTests.bytes(Int16(codes.count)) + codes.flatMap { WireTests.bytes($0) }
    }

    static func encode(_ line: String) -> Bytes {
        let words = line.split(separator: " ").map(String.init)
        let rest = line.split(separator: " ", maxSplits: 1).dropFirst().first.map(String.init) ?? ""
        switch words[0] {
        case "startup":
            let pairs = words.dropFirst().map { pair in
                let parts = pair.split(separator: "=", maxSplits: 1).map(String.init)
                return (parts[0], parts.count > 1 ? parts[1].replacing("+", with: " ") : "")
            }
            let version = pairs.first { $0.0 == "version" }.flatMap { Int32($0.1) } ?? 3 << 16
            return WireTests.startup(pairs.filter { $0.0 != "version" }, version: version)
        case "ssl": return WireTests.bytes(Int32(8)) + WireTests.bytes(Int32(80_877_103))
        case "gss": return WireTests.bytes(Int32(8)) + WireTests.bytes(Int32(80_877_104))
        case "cancel":
            return WireTests.bytes(Int32(16)) + WireTests.bytes(Int32(80_877_102))
                + words.dropFirst().flatMap { WireTests.bytes(Int32($0) ?? 0) }
        case "password": return WireTests.message("p", WireTests.text(rest))
        case "query": return WireTests.message("Q", WireTests.text(rest))
        case "parse":
            // parse NAME TYPES TEXT; TYPES are OIDs with commas between, or `-`.
            let types = words[2] == "-" ? [] : words[2].split(separator: ",").compactMap { Int32($0) }
            let text = words.dropFirst(3).joined(separator: " ")
            return WireTests.message(
                "P",
                word(words, 1) + WireTests.text(text) + WireTests.bytes(Int16(types.count))
                    + types.flatMap { WireTests.bytes($0) })
        case "bind":
            // bind PORTAL STATEMENT FORMATS VALUES FORMATS; VALUES with commas between, or `-`.
            let values = words.count > 4 && words[4] != "-" ? words[4].components(",") : []
            let encoded = values.flatMap { value -> Bytes in
                value == "NULL"
                    ? WireTests.bytes(Int32(-1)) : WireTests.bytes(Int32(value.utf8.count)) + Bytes(value.utf8)
            }
            return WireTests.message(
                "B",
                word(words, 1) + word(words, 2) + formats(words.count > 3 ? words[3] : "")
                    + WireTests.bytes(Int16(values.count)) + encoded + formats(words.count > 5 ? words[5] : ""))
        case "describe", "close":
            return WireTests.message(words[0] == "close" ? "C" : "D", Bytes(words[1].utf8) + word(words, 2))
        case "execute":
            return WireTests.message(
                "E", word(words, 1) + WireTests.bytes(words.count > 2 ? Int32(words[2]) ?? 0 : 0))
        case "sync": return WireTests.message("S", [])
        case "flush": return WireTests.message("H", [])
        case "terminate": return WireTests.message("X", [])
        case "function": return WireTests.message("F", [])
        case "copydata": return WireTests.message("d", Bytes(rest.utf8))
        case "copydone": return WireTests.message("c", [])
        case "copyfail": return WireTests.message("f", WireTests.text(rest))
        case "raw": return words.dropFirst().compactMap { UInt8($0, radix: 16) }
        default: return []
        }
    }

    // MARK: The runner

    /// `a int4, b text` → columns.
    private static func columns(_ text: String) -> [ResultColumn] {
        text.split(separator: ",").compactMap { column in
            let words = column.split(separator: " ").map(String.init)
            return words.count == 2 ? PostgresTypes.type(named: words[1]).map { ResultColumn(words[0], $0) } : nil
        }
    }

    private func answer(_ words: [String], _ line: String) {
        let token = recorder.token
        let rest = line.split(separator: " ", maxSplits: 1).dropFirst().first.map(String.init) ?? ""
        switch words[0] {
        case "prepared":
            // prepared TYPES : COLUMNS; COLUMNS may be `none`.
            let parts = rest.components(":")
            let types = (parts.first ?? "").split(whereSeparator: { $0 == "," || $0 == " " })
                .compactMap { PostgresTypes.type(named: String($0)) }
            let columns = parts.count > 1 && !parts[1].contains("none") ? Self.columns(parts[1]) : nil
            session.prepared(token, StatementDescription(parameters: types, columns: columns))
        case "columns":
            recorder.columns = Self.columns(rest)
            session.began(token, Self.columns(rest))
        case "rows":
            let rows = rest.components("|").map { row in
                row.components(",").map { text -> Value in
                    let text = text.split(separator: " ").joined(separator: " ")
                    return text == "NULL" ? .null : Int64(text).map { .integer($0) } ?? .text(text)
                }
            }
            let records = rows.map { row in
                RecordEncoding.encode(
                    row.enumerated().map { (column: UInt32($0 + 1), value: $1) }.filter { !$0.value.isNull })
            }
            let batch = RowBatch(columnCount: rows[0].count, records: records)
            if !session.rows(token, batch) { recorder.lines.append("hold") }
        case "done":
            session.completed(token, StatementCompletion(words[1], rows: words.count > 2 ? Int64(words[2]) : nil))
        case "suspended": session.suspended(token)
        case "failed":
            // failed STATE POSITION MESSAGE
            let message = words.dropFirst(3).joined(separator: " ")
            session.failed(
                token, StatementError(SQLState(rawValue: words[1]), message, position: Int(words[2]) ?? 0))
        case "notice": session.noticed(.notice, StatementError(SQLState(rawValue: "00000"), rest))
        case "copyin": session.copyBegan(token, .fromClient, .text, columns: Int(words[1]) ?? 0)
        case "copyout": session.copyBegan(token, .toClient, .text, columns: Int(words[1]) ?? 0)
        case "copydata": Bytes(rest.utf8).withUnsafeBytes { _ = session.copyOut(token, $0) }
        case "copyend": session.copyOutEnded(token)
        case "copyready": session.copyReady(token)
        case "lost": session.transactionLost()
        default: recorder.lines.append("? \(line)")
        }
    }
}

extension String {
    func components(_ separator: Character) -> [String] {
        split(separator: separator, omittingEmptySubsequences: false).map(String.init)
    }
}

/// Writes down what a session wants of its runner.
final class Recorder: PlanRunner {
    var lines: [String] = []
    var token: UInt64 = 0
    var columns: [ResultColumn] = []

    func prepare(_ token: UInt64, _ statement: PlannedStatement, types: [UInt32], _ context: SessionContext) {
        self.token = token
        lines.append("prepare \(String(decoding: statement.text, as: UTF8.self)) \(types)")
    }

    func execute(_ token: UInt64, _ call: ExecuteCall, _ context: SessionContext) {
        self.token = token
        var line = "execute \(String(decoding: call.statement.text, as: UTF8.self)) \(Self.text(call.use))"
        let values = call.parameters.enumerated().map { index, value in
            "\(value.map { String(decoding: $0, as: UTF8.self) } ?? "NULL") \(call.formats[index])"
        }
        if !values.isEmpty { line += " with \(values.joined(separator: ", "))" }
        if call.rowLimit > 0 { line += " limit \(call.rowLimit)" }
        lines.append(line)
    }

    private static func text(_ use: TransactionUse) -> String {
        switch use {
        case .alone: "alone"
        case .within(let terms):
            "in \(terms.isolation.rawValue)" + (terms.isReadOnly ? " read only" : "")
                + (terms.isDeferrable ? " deferrable" : "")
        }
    }

    func fetch(_ token: UInt64, cursor: UInt32, rowLimit: Int) {
        self.token = token
        lines.append("fetch limit \(rowLimit)")
    }

    func resume(_ token: UInt64) { lines.append("resume") }

    func close(cursor: UInt32) { lines.append("close cursor") }

    func forgetSequences() { lines.append("forget sequences") }

    func control(_ token: UInt64, _ control: TransactionControl, _ use: TransactionUse, _ context: SessionContext) {
        self.token = token
        lines.append("control \(control)")
    }

    func cancel(_ token: UInt64) { lines.append("cancel") }

    func copyData(_ token: UInt64, _ data: ByteView) -> Bool {
        let text = String(decoding: data, as: UTF8.self)
        lines.append("copy data \(text)")
        return !text.hasSuffix("hold")
    }

    func copyEnd(_ token: UInt64, failure: StatementError?) {
        lines.append("copy end\(failure.map { " \($0.message)" } ?? "")")
    }

    func end() { lines.append("end") }
}
