import Base

/// Where a session's decisions go. The driver implements it; a test records.
package protocol SessionSink: AnyObject {
    /// Sends a call to its shard. The frame is valid during the call; the answer comes back through
    /// `RESPSession.complete`, never from inside. Throwing answers the command at once: nothing was sent.
    func invoke(_ token: UInt64, _ call: CallFrame) throws(DatabaseError)

    /// Does what is rare.
    func perform(_ action: SessionAction)
}

/// What a session wants besides calls and output. A token names the command that waits for the answer.
package enum SessionAction: Hashable, Sendable {
    /// Verify the password; answer with `RESPSession.authenticated`.
    case authenticate(UInt64, user: Bytes, password: Bytes)
    /// Answer with `RESPSession.finish` after that time.
    case delay(UInt64, milliseconds: UInt64)
    /// Count the keys of every database; answer with `RESPSession.counted`.
    case countKeys(UInt64)
    /// Change users in the catalog; answer with `RESPSession.finish`.
    case changeUsers(UInt64, [UserChange])
    /// Ask for the versions of keys of a database; answer with `RESPSession.watched`.
    case watch(UInt64, database: UInt8, [Bytes])
    /// When everything before is answered, find out which time it is; answer with `RESPSession.found`.
    case findMoment(UInt64, ReadMoment)
    /// When everything before is answered, and the gateway hears of what the client and others want to hear of keys,
    /// if anything; answer with `RESPSession.finish`.
    case listen(UInt64, KeyspaceInterest)
    /// Carry out an EXEC; answer with `RESPSession.executed`. What follows it must not overtake it.
    case execute(UInt64, TransactionPlan)
    /// Something of an interactive transaction. Answer `statement` with `RESPSession.complete` after `release`, `lock`
    /// with `executed`, `abandon` not at all, and the others with `interacted`.
    case interactive(UInt64, InteractiveAction)
    /// A pause has begun: answer with `RESPSession.finish` when every call that other clients had under way is
    /// answered, and let the clients that it holds back go on when it ends.
    case beginPause(UInt64)
    /// A pause has ended: let the clients that it held back go on.
    case endPause
    /// Close other clients.
    case kill([UInt64])
    /// Stop reading from the client, and go on; going on includes handing over what has been read already.
    case pauseReading, resumeReading
    /// Close when the output has been sent.
    case close
}

/// A change of the catalog of users.
package enum UserChange: Hashable, Sendable {
    /// Create or replace. Verifiers are derived from the new `passwords`; those that the user has are kept if
    /// `keepsPasswords`, but for those of the `dropped` passwords, each of which must be there.
    case put(name: String, isEnabled: Bool, rules: String, passwords: [Bytes], dropped: [Bytes], keepsPasswords: Bool)
    case remove(name: String)
}

/// How an attempt to log in ended.
package enum AuthenticationOutcome: Hashable, Sendable {
    case accepted(user: String)
    case refused
    /// Nobody can say now, because the catalog of users cannot be reached.
    case failed(DatabaseError)
}
