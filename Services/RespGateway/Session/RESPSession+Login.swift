import Base

/// Who the client is, and how it wants to talk.
extension RESPSession {
    /// AUTH, HELLO … AUTH: the answer waits until the password is verified, and so does everything behind it.
    func beginLogin(user: Bytes, password: Bytes, hello: Hello?) {
        wait = .login(nextToken, hello: hello)
        deferred = .authenticate(nextToken, user: user, password: password)
    }

    func conclude(_ outcome: AuthenticationOutcome, _ hello: Hello?, _ reply: inout ByteBuffer) {
        switch outcome {
        case .accepted(let name):
            guard let user = server.users.user(named: name), user.isEnabled else { return refuse(&reply) }
            self.user = user
            hasLoggedIn = true
            if let hello { welcome(hello, &reply) } else { reply.appendStatus("OK") }
        case .refused:
            refuse(&reply)
        case .failed(let error):
            server.errorCount &+= 1
            reply.appendError(error.respText)
        }
    }

    private func refuse(_ reply: inout ByteBuffer) {
        server.errorCount &+= 1
        reply.appendStatusOfFailedLogin()
    }

    /// Answers HELLO.
    func welcome(_ hello: Hello, _ reply: inout ByteBuffer) {
        if let name = hello.name { self.name = name }
        if let version = hello.version { self.version = version }
        reply.appendMap(7, version)
        reply.appendBulk("server")
        reply.appendBulk("redis")
        reply.appendBulk("version")
        reply.appendBulk(ServerFacts.redisVersion)
        reply.appendBulk("proto")
        reply.appendInteger(Int64(version.rawValue))
        reply.appendBulk("id")
        reply.appendInteger(Int64(truncatingIfNeeded: id))
        reply.appendBulk("mode")
        reply.appendBulk("standalone")
        reply.appendBulk("role")
        reply.appendBulk("master")
        reply.appendBulk("modules")
        reply.appendArray(0)
    }

    /// RESET: as if the client had just connected.
    func resetConnection() {
        user = server.users.defaultUser
        hasLoggedIn = false
        version = .two
        database = 0
        name = []
        replyMode = .on
        skipsNextReply = false
        isEvictable = true
        readOnlySince = nil
        asOf = nil
        forgetTransaction()
        forgetSubscriptions()
        guard isInteractive else { return }
        isInteractive = false
        actions.append(.interactive(nextToken, .abandon))
    }

    /// Looks again at what the user may do; false if there is no such user any more, or it may not listen any more to
    /// what it listens to. As in Redis, a user that was switched off cannot log in again, but stays.
    func refreshUser() -> Bool {
        guard hasLoggedIn, let known = user else {
            user = server.users.defaultUser
            return mayListen
        }
        guard let user = server.users.user(named: known.name), user === known else { return false }
        self.user = user
        return mayListen  // Who may not listen any more must notice.
    }
}

extension ByteBuffer {
    fileprivate mutating func appendStatusOfFailedLogin() {
        append("-WRONGPASS invalid username-password pair or user is disabled.\r\n")
    }
}
