/// Classic mistakes, to show that the tests would find them; none of them in production.
package struct TransactionBugs: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The driver tells everybody to commit, without waiting for the anchor's record.
    package static let commitOthersFirst = TransactionBugs(rawValue: 1 << 0)
    /// Recovery believes that a missing intent will not come, and leaves no fence.
    package static let recoverWithoutFence = TransactionBugs(rawValue: 1 << 1)
    /// The record goes before all participants have committed, and no outcome stays.
    package static let forgetEarly = TransactionBugs(rawValue: 1 << 2)
    /// Recovery aborts a transaction whose intents are all there.
    package static let abortComplete = TransactionBugs(rawValue: 1 << 3)
    /// A younger transaction waits for an older one too.
    package static let youngerWaits = TransactionBugs(rawValue: 1 << 4)
    /// The driver tells its client of an abort that the anchor has not confirmed.
    package static let answerBeforeAbort = TransactionBugs(rawValue: 1 << 5)
    /// An intent counts before its entry is committed.
    package static let trustOpenIntent = TransactionBugs(rawValue: 1 << 6)
    /// After a change of leader, locks go before what was committed is visible.
    package static let releaseBeforeApply = TransactionBugs(rawValue: 1 << 7)
    /// Reads of several shards are not confirmed.
    package static let readWithoutConfirm = TransactionBugs(rawValue: 1 << 8)
    /// A new leader does not lock the keys of the intents that it finds.
    package static let restoreWithoutLocks = TransactionBugs(rawValue: 1 << 9)
    /// What a transaction has read is locked, whoever is about to change it.
    package static let shareWithoutLook = TransactionBugs(rawValue: 1 << 10)
    /// A transaction is prepared although others share what it changes.
    package static let hardenAtOnce = TransactionBugs(rawValue: 1 << 11)

    /// A scope that was lost and one that has come since are not told apart.
    package static let anyIncarnation = TransactionBugs(rawValue: 1 << 12)
    /// Statements that wait for each other are not looked for.
    package static let overlookCircles = TransactionBugs(rawValue: 1 << 13)
    /// What a transaction has read is looked at when it is prepared, and not locked.
    package static let readWithoutLocks = TransactionBugs(rawValue: 1 << 14)

    /// Pieces of a transaction that is lost stay.
    package static let keepPieces = TransactionBugs(rawValue: 1 << 15)
    /// Locks go when a part in pieces is decided, before it is applied.
    package static let releaseBeforePieces = TransactionBugs(rawValue: 1 << 16)
    /// The record does not say how far a part in pieces is applied.
    package static let forgetProgress = TransactionBugs(rawValue: 1 << 17)
    /// Who finds a part that is half applied takes it for whole.
    package static let applyHalf = TransactionBugs(rawValue: 1 << 18)
    /// The store does not say that it shows half of a transaction.
    package static let leaveUnmarked = TransactionBugs(rawValue: 1 << 19)

    /// All of them with their names, for lists and reports.
    package static let catalog: [(name: String, bug: TransactionBugs)] = [
        ("commitOthersFirst", .commitOthersFirst), ("recoverWithoutFence", .recoverWithoutFence),
        ("forgetEarly", .forgetEarly), ("abortComplete", .abortComplete), ("youngerWaits", .youngerWaits),
        ("answerBeforeAbort", .answerBeforeAbort), ("trustOpenIntent", .trustOpenIntent),
        ("releaseBeforeApply", .releaseBeforeApply), ("readWithoutConfirm", .readWithoutConfirm),
        ("restoreWithoutLocks", .restoreWithoutLocks),
    ]
}
