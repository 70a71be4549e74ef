import Base

/// Transactions: blocks that BEGIN opens, and the groups of statements outside blocks that live and fail together (the
/// statements of one Query message, or everything up to Sync).
///
/// | status   | open at the runner | means                                                   |
/// |----------|--------------------|---------------------------------------------------------|
/// | idle     | no                 | nothing is open, or one statement runs on its own       |
/// | idle     | yes (`isEngaged`)  | a group: committed at its end, rolled back if one fails |
/// | inBlock  | no                 | BEGIN was said, and nothing that a node has to do       |
/// | inBlock  | yes                | a block                                                 |
/// | failed   | yes or no          | a block that only ROLLBACK gets out of                  |
extension PgSession {
    func beginBlock(_ modes: TransactionModes) throws(StatementError) {
        guard status == .idle else {
            notify(
                .warning, StatementError(.activeSQLTransaction, "there is already a transaction in progress"))
            try adopt(modes)
            return complete(StatementCompletion(modes.tag))
        }
        if isEngaged {
            try adopt(modes)
        } else {
            noteUse()
            settings.adopt(modes.applied(to: settings.defaultTerms))
        }
        status = .inBlock
        complete(StatementCompletion(modes.tag))
    }

    /// Changes the terms of the transaction, as far as it is not too late.
    func adopt(_ modes: TransactionModes) throws(StatementError) {
        let old = settings.currentTerms, new = modes.applied(to: old)
        if isEngaged, new.isolation != old.isolation {
            throw StatementError(
                .activeSQLTransaction, "SET TRANSACTION ISOLATION LEVEL must be called before any query")
        }
        if isEngaged, old.isReadOnly, !new.isReadOnly {
            throw StatementError(
                .activeSQLTransaction, "transaction read-write mode must be set before any query")
        }
        settings.adopt(new)
    }

    /// COMMIT and ROLLBACK.
    func endBlock(commits: Bool, chains: Bool) throws(StatementError) {
        if status == .idle {
            if chains {
                let what = commits ? "COMMIT AND CHAIN" : "ROLLBACK AND CHAIN"
                throw StatementError(.noActiveSQLTransaction, "\(what) can only be used in transaction blocks")
            }
            notify(.warning, StatementError(.noActiveSQLTransaction, "there is no transaction in progress"))
        }
        let isCommit = commits && status != .failed
        let chained = chains ? settings.currentTerms : nil
        let tag = isCommit ? "COMMIT" : "ROLLBACK"
        guard isEngaged else {
            transactionEnded(isCommitted: isCommit)
            return finishEnd(tag, chained)
        }
        control(isCommit ? .commit : .rollback, .end(tag: tag, chained: chained))
    }

    func finishEnd(_ tag: String, _ chained: TransactionTerms?) {
        if let chained {
            noteUse()
            settings.adopt(chained)
            status = .inBlock
        }
        complete(StatementCompletion(tag))
    }

    /// Nothing is open any more.
    func transactionEnded(isCommitted: Bool) {
        (status, isEngaged, hasGroupFailed, isGroupBegun) = (.idle, false, false, false)
        settings.endTransaction(isCommitted: isCommitted)
        if !portals.isEmpty { dropPortals() }
    }

    // MARK: Savepoints

    func savepoint(_ name: String) throws(StatementError) {
        try requireBlock("SAVEPOINT")
        control(.savepoint(name), .savepoint(name))
    }

    func release(_ name: String) throws(StatementError) {
        try requireBlock("RELEASE SAVEPOINT")
        try requireSavepoint(name)
        control(.release(name), .release(name))
    }

    func rollBackTo(_ name: String) throws(StatementError) {
        try requireBlock("ROLLBACK TO SAVEPOINT")
        try requireSavepoint(name)
        control(.rollbackTo(name), .rollBackTo(name))
    }

    private func requireSavepoint(_ name: String) throws(StatementError) {
        guard !settings.hasSavepoint(name) else { return }
        throw StatementError(.invalidSavepointSpecification, "savepoint \"\(name)\" does not exist")
    }

    // MARK: Members

    /// The setting that says by which token others may join the transaction, and by which this session joins one.
    static let transactionToken = "orbit.transaction_id"

    static func isTransactionToken(_ name: String) -> Bool { name.asciiLowercased == transactionToken }

    /// SHOW orbit.transaction_id: outside of a transaction there is none.
    func showTransaction(_ portal: Portal?, _ rowLimit: Int) {
        guard status != .idle || isEngaged else {
            return sendShown([.text(Self.transactionToken)], [[""]], portal, rowLimit)
        }
        control(.identify, .identify(portal, rowLimit: rowLimit))
    }

    /// SET orbit.transaction_id = 'token': from now on this session takes part in that transaction; COMMIT and ROLLBACK
    /// end it for all, and RESET leaves it.
    func setTransaction(token: String?) throws(StatementError) {
        guard let token, !token.isEmpty else {
            guard isEngaged, status != .idle else { return complete(StatementCompletion("RESET")) }
            return control(.leave, .leave)
        }
        guard !isEngaged else {
            throw StatementError(
                .activeSQLTransaction, "SET \(Self.transactionToken) must be called before any query")
        }
        control(.join(token), .join)
    }

    // MARK: Groups

    /// The end of a script, or Sync: outside a block, what was done becomes permanent, or undone if something failed.
    func endGroup() {
        guard status == .idle else { return becomeReady() }
        guard isEngaged else {
            if isGroupBegun || !portals.isEmpty { transactionEnded(isCommitted: !hasGroupFailed) }
            hasGroupFailed = false
            return becomeReady()
        }
        control(hasGroupFailed ? .rollback : .commit, .endGroup(isCommit: !hasGroupFailed))
    }

    // MARK: Steps of the runner

    /// What follows when the runner has done something with the transaction.
    enum ControlStep {
        case end(tag: String, chained: TransactionTerms?)
        case savepoint(String), release(String), rollBackTo(String)
        case endGroup(isCommit: Bool)
        /// SHOW orbit.transaction_id, of a portal if there is one.
        case identify(Portal?, rowLimit: Int)
        case join, leave
        /// SET ROLE, SET SESSION AUTHORIZATION: a node is asked.
        case assume
    }

    func control(_ control: TransactionControl, _ step: ControlStep) {
        activity = .controlling(step)
        noteUse()
        let use = TransactionUse.within(settings.currentTerms)
        engage()
        runner.control(nextToken(), control, use, context())
    }

    /// The runner has done it.
    func controlled(_ step: ControlStep, _ completion: StatementCompletion) {
        activity = .none
        switch step {
        case .end(let tag, let chained):
            transactionEnded(isCommitted: tag == "COMMIT")
            finishEnd(tag, chained)
        case .savepoint(let name):
            settings.setSavepoint(name)
            complete(StatementCompletion("SAVEPOINT"))
        case .release(let name):
            settings.releaseSavepoint(name)
            complete(StatementCompletion("RELEASE"))
        case .rollBackTo(let name):
            settings.rollBackTo(name)
            status = .inBlock
            dropPortals()
            complete(StatementCompletion("ROLLBACK"))
        case .endGroup(let isCommit):
            transactionEnded(isCommitted: isCommit)
            becomeReady()
        case .identify(let portal, let rowLimit):
            sendShown([.text(Self.transactionToken)], [[completion.tag]], portal, rowLimit)
        case .join:
            status = .inBlock
            complete(StatementCompletion("SET"))
        case .leave:
            transactionEnded(isCommitted: false)
            complete(StatementCompletion("RESET"))
        case .assume: complete(StatementCompletion("SET"))
        }
    }

    /// The runner could not. A transaction whose end failed is over all the same, and nothing of it stays, unless the
    /// error says that nobody knows.
    func controlFailed(_ step: ControlStep, _ error: StatementError) {
        activity = .none
        switch step {
        case .end:
            transactionEnded(isCommitted: false)
            fail(error)
            hasGroupFailed = false
        case .savepoint, .release, .rollBackTo, .identify, .assume: fail(error)
        case .join, .leave:
            transactionEnded(isCommitted: false)
            fail(error)
        case .endGroup:
            transactionEnded(isCommitted: false)
            server.errorCount &+= 1
            output.appendReport(.error, error)
            becomeReady()
        }
    }
}
