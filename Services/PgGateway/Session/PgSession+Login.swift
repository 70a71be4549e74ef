import Base
import Contracts
import Crypto

/// From the first byte to the first ReadyForQuery.
extension PgSession {
    /// Returns how many bytes of `view` were a packet; 0 if there is none yet.
    func handleStartup(_ view: ByteView) -> Int {
        do throws(StartupError) {
            guard let (packet, byteCount) = try StartupPacket.next(view) else { return 0 }
            switch packet {
            case .requestTLS: return answerTLSRequest(isAlone: view.count == byteCount) ? byteCount : view.count
            case .requestGSS: output.append("N")
            case .cancel(let processID, let secret):
                act(.cancel(processID: processID, secret: secret))
                close()
            case .startup(let message): begin(message)
            }
            return byteCount
        } catch {
            server.protocolErrors &+= 1
            switch error {
            case .silent: close()
            case .told(let error): end(error)
            }
            return view.count
        }
    }

    /// Bytes behind the request would have been sent before anything was encrypted: they may be anybody's.
    private func answerTLSRequest(isAlone: Bool) -> Bool {
        guard server.offersTLS, !isEncrypted else {
            output.append("N")
            return true
        }
        guard isAlone else {
            end(
                StatementError(
                    .protocolViolation, "received unencrypted data after SSL request",
                    detail: "This could be either a client-software bug or evidence of an attempted "
                        + "man-in-the-middle attack."))
            return false
        }
        output.append("S")
        isEncrypted = true
        act(.startTLS)
        return true
    }

    private func begin(_ message: StartupMessage) {
        if message.minorVersion > 0 || !message.unknownOptions.isEmpty {
            output.appendNegotiateProtocolVersion(unknownOptions: message.unknownOptions)
        }
        guard !isSurplus else {
            server.connectionsRefused &+= 1
            return end(StatementError(.tooManyConnections, "sorry, too many clients already"))
        }
        guard !message.wantsReplication else {
            return end(StatementError(.featureNotSupported, "replication connections are not supported"))
        }
        startup = message
        begin(user: message.user, database: message.database)
        if server.isOpen { return accept() }
        phase = .login(.findingUser)
        act(.findUser(message.user))
    }

    // MARK: Passwords

    /// The user's record was read: nil if there is none.
    package func userFound(_ result: Result<UserRecord?, DatabaseError>) {
        guard phase == .login(.findingUser) else { return }
        switch result {
        case .failure(let error): end(StatementError(error))
        case .success(let record): ask(record)
        }
        pump()
        settle()
    }

    private func ask(_ record: UserRecord?) {
        let isKnown = record?.isEnabled ?? false
        if let record, isKnown, record.hasNoPassword {
            guard mayUseSQL(record) else { return }
            return accept()
        }
        let texts = isKnown ? record?.verifiers.filter { $0.mechanism == UserRecord.scramSHA256 }.map(\.text) ?? [] : []
        self.record = record
        if server.prefersClearPassword, isEncrypted {
            output.appendAuthentication(.clearPassword)
            phase = .login(.password)
            return
        }
        // A user may have several passwords; SCRAM's salt belongs to one of them, the newest.
        let known = texts.last.flatMap { SCRAMVerifier(parsing: $0) }
        guard let verifier = known ?? SCRAMExchange.decoy(for: user, key: server.decoyKey) else {
            return end(StatementError(.internalError, "no verifier"))
        }
        scram = SCRAMExchange(verifier, isDecoy: known == nil, nonce: server.randomBytes(18))
        output.appendAuthentication(.sasl([SCRAMExchange.mechanism]))
        phase = .login(.saslFirst)
    }

    /// Returns how many bytes of `view` were a message.
    func handlePassword(_ view: ByteView, _ step: LoginStep) -> Int {
        do throws(StatementError) {
            guard let frame = try MessageFrame.nextPassword(view, limit: server.limits.login) else { return 0 }
            switch step {
            case .password: try takePassword(frame.body)
            case .saslFirst: try takeFirst(frame.body)
            case .saslFinal: try takeFinal(frame.body)
            case .findingUser, .checking: break
            }
            return frame.byteCount
        } catch {
            server.protocolErrors &+= 1
            end(error)
            return view.count
        }
    }

    private func takePassword(_ body: ByteView) throws(StatementError) {
        var reader = ByteReader(body)
        let password = try reader.text()
        try reader.end()
        guard !password.isEmpty else {
            throw StatementError(.invalidPassword, "empty password returned by client")
        }
        let isKnown = record?.isEnabled ?? false
        var texts = isKnown ? record?.verifiers.filter { $0.mechanism == UserRecord.scramSHA256 }.map(\.text) ?? [] : []
        if texts.isEmpty, let decoy = SCRAMExchange.decoy(for: user, key: server.decoyKey) {
            texts = [decoy.description]  // It takes as long as a real one.
        }
        phase = .login(.checking)
        act(.checkPassword(verifiers: texts, password: password.bytes))
    }

    /// The password of a client fits one of its verifiers, or none.
    package func passwordChecked(_ isRight: Bool) {
        guard phase == .login(.checking) else { return }
        if isRight, let record, mayUseSQL(record) { accept() } else { refuse() }
        pump()
        settle()
    }

    private func takeFirst(_ body: ByteView) throws(StatementError) {
        var reader = ByteReader(body)
        let mechanism = try reader.text(), length = try reader.number()
        guard mechanism.elementsEqual(SCRAMExchange.mechanism.utf8) else {
            throw .protocolViolation("client selected an invalid SASL authentication mechanism")
        }
        guard length >= 0 else {
            throw StatementError(.featureNotSupported, "SASL authentication must begin with the client's first message")
        }
        let message = try reader.bytes(Int(length))
        try reader.end()
        guard let answer = try scram?.begin(message) else { return refuse() }
        output.appendAuthentication(.saslContinue(answer))
        phase = .login(.saslFinal)
    }

    private func takeFinal(_ body: ByteView) throws(StatementError) {
        switch try scram?.finish(body) {
        case .accepted(let final):
            guard let record, mayUseSQL(record) else { return }
            output.appendAuthentication(.saslFinal(final))
            accept()
        case .refused, nil: refuse()
        }
    }

    private func refuse() {
        server.loginsRefused &+= 1
        end(StatementError(.invalidPassword, "password authentication failed for user \"\(user)\""))
    }

    /// SQL is for roles, whose rights come with GRANT, and for users without roles who may do everything.
    private func mayUseSQL(_ record: UserRecord) -> Bool {
        role = record.role
        guard let role else {
            if record.allowsEverything { return true }
            return refuseSQL()
        }
        if role.mayLogIn { return true }
        server.loginsRefused &+= 1
        end(StatementError(.invalidAuthorizationSpecification, "role \"\(user)\" is not permitted to log in"))
        return false
    }

    private func refuseSQL() -> Bool {
        server.loginsRefused &+= 1
        end(
            StatementError(
                .insufficientPrivilege, "permission denied for user \"\(user)\"",
                detail: "SQL is open to roles, and to users without restrictions."))
        return false
    }

    // MARK: In

    private func accept() {
        (scram, record) = (nil, nil)
        guard let message = startup else { return }
        startup = nil
        guard PgServer.databases.contains(message.database) else {
            return end(StatementError(.invalidCatalogName, "database \"\(message.database)\" does not exist"))
        }
        settings.fix("session_authorization", user)
        settings.fix("is_superuser", role?.isSuperuser ?? true ? "on" : "off")
        do throws(StatementError) {
            for setting in message.settings { try settings.begin(with: setting.name, setting.value) }
        } catch {
            return end(error)
        }
        phase = .ready
        output.appendAuthentication(.ok)
        reportSettings()
        output.appendBackendKeyData(processID: id, secret: secret)
        becomeReady()
        act(.loggedIn)
    }
}

extension UserRecord {
    private var words: Set<Substring> { Set(rules.split(separator: " ")) }

    /// Whoever claims to be this user is believed.
    var hasNoPassword: Bool { words.contains("nopass") }

    /// Nothing in the rules takes anything away, and they give everything.
    var allowsEverything: Bool {
        let words = words.subtracting(["on", "nopass", "sanitize-payload", "&*", "allchannels"])
        let commands = words.contains("+@all") || words.contains("allcommands")
        let keys = words.contains("~*") || words.contains("allkeys")
        return commands && keys && words.isSubset(of: ["+@all", "allcommands", "~*", "allkeys"])
    }
}
