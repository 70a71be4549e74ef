import Base
import Contracts

/// The end of a transaction, and its time-outs.
///
///     what was done                        COMMIT
///     nothing but reads                    the scopes go; there is nothing to decide
///     written or locked at one shard       COMMIT_ONE: one entry, no intent
///     at several                           PREPARE to them, then as every transaction over several shards
///
/// Under SERIALIZABLE shards that were only read are asked like the others, once something is written: what was read
/// there must be as it was. Below that their scopes go when the commit is decided, not before: who waits for a lock
/// there must see all that was written under it.
extension InteractiveTransaction {
    /// COMMIT. `end` follows; of a transaction that has failed it says so, and nothing is done.
    package mutating func commit(now: UInt64, into duties: inout [Duty]) throws(DatabaseError) {
        guard phase == .idle else { throw phase == .over ? Self.none : Self.underWay }
        if let failure {
            release(&duties)
            return finish(.rolledBack(failure), &duties)
        }
        let asked = committers
        switch asked.count {
        case 0:
            release(&duties)
            finish(.committed(readTimestamp), &duties)
        case 1:
            phase = .committing
            let sole = participants[asked[0]]
            duties.append(.send(step(.commitOne, sole), slot: sole.slot, participant: asked[0]))
        case _:
            phase = .committing
            duties.append(.commit(participants: asked))
        }
    }

    /// Whose word the commit needs: the anchor first, one that writes.
    private var committers: [Int] {
        guard hasWritten else { return [] }
        let asked = participants.indices.filter {
            (options.isolation == .serializable && participants[$0].lastStatement != 0)
                || participants[$0].firstWrite != 0 || participants[$0].firstLock != 0
        }
        return asked.filter { participants[$0].firstWrite != 0 } + asked.filter { participants[$0].firstWrite == 0 }
    }

    /// ROLLBACK; `end` follows at once. A command that is under way is not answered any more.
    package mutating func rollBack(into duties: inout [Duty]) throws(DatabaseError) {
        guard phase != .over else { throw Self.none }
        guard phase != .committing else { throw Self.underWay }
        release(&duties)
        finish(.rolledBack(nil), &duties)
    }

    /// What its last statement has done cannot be told to whoever asked for it, and stands nevertheless: nothing but
    /// ROLLBACK is left.
    package mutating func abandon(_ error: DatabaseError, into duties: inout [Duty]) {
        guard phase == .idle, !isDead else { return }
        die(error, answering: false, &duties)
    }

    /// COMMIT_ONE or the `CommitDriver` has come to an end.
    package mutating func concluded(_ ending: Ending, into duties: inout [Duty]) {
        guard phase == .committing else { return }
        switch ending {
        case .committed: release(except: committers, &duties)
        // A scope that has refused is gone; the others, those that were not asked among them, are told.
        case .rolledBack: release(&duties)
        // Those that were asked are decided by what they have; nobody may say ABORT to them.
        case .unknown: release(except: committers, &duties)
        }
        finish(ending, &duties)
    }

    private mutating func finish(_ ending: Ending, _ duties: inout [Duty]) {
        phase = .over
        (participants, savepoints, shares, pieces, undoers) = ([], [], [], [:], [])
        duties.append(.end(ending))
    }

    /// Time has passed.
    package mutating func tick(now: UInt64, into duties: inout [Duty]) {
        guard phase != .over, phase != .committing, !isDead else { return }
        if options.timeLimit != 0, now &- startedAt >= options.timeLimit, now >= startedAt {
            return die(
                DatabaseError(.transactionAborted, "The transaction was open for too long, and was rolled back"),
                answering: phase != .idle, &duties)
        }
        if options.idleLimit != 0, phase == .idle, now >= activeAt, now &- activeAt >= options.idleLimit {
            return die(
                DatabaseError(.idleTimeout, "The transaction was idle for too long, and was rolled back"),
                answering: false, &duties)
        }
        if let givenUp {
            let since = givenUpAt ?? now
            givenUpAt = since
            if now &- since >= Self.givenUpMilliseconds { return die(givenUp, answering: true, &duties) }
        }
        guard !options.needsNoScopes else { return }
        for (position, participant) in participants.enumerated() where participant.incarnation != 0 {
            guard now >= participant.heardAt, now &- participant.heardAt >= Self.keepAliveMilliseconds else { continue }
            participants[position].heardAt = now
            var step = self.step(.keepAlive, participant)
            step.participants = []
            duties.append(.send(step, slot: participant.slot, participant: position))
        }
    }

    /// For how long shards may leave a statement that was given up without an answer.
    private static let givenUpMilliseconds: UInt64 = 1_000

    private static let underWay = DatabaseError(.busy, "Another command of the transaction is under way")
}
