import Base
import DataModel

/// By which a caller names a call that it may make again: session and sequence, and the bucket that the call goes to.
package struct OutcomeToken: Hashable, Sendable {
    package let bucket: BucketID
    package let session: UInt64, sequence: UInt64

    package init(bucket: BucketID, session: UInt64, sequence: UInt64) {
        (self.bucket, self.session, self.sequence) = (bucket, session, sequence)
    }
}

/// The bounds of what a shard remembers of calls with tokens.
package struct OutcomeLimits: Sendable {
    /// Outcomes of one session in one bucket: those with the highest sequences.
    package var window = 64
    /// Outcomes of the shard.
    package var count = 65_536
    /// Bytes of a reply that is kept; of a larger one it is kept that it was given.
    package var replyBytes = 1024
    /// A session whose newest call in a bucket is so long ago is forgotten there.
    package var retentionMilliseconds: UInt64 = 600_000

    package init() {}
}

/// What became of a shard's calls with tokens: a call that comes again is answered from here, and not executed again.
///
/// An outcome is a record of the shard (`OutcomeRecord`), written by the entry that has the call's effects: where the
/// effects are, the outcome is, on every replica and in every snapshot. Memory holds which outcomes there are; replies
/// are there until their entry is committed, then they are read from the store.
///
/// Invariants:
/// - A token that is remembered is never executed again, nor one below its session's window. The window slides by
///   itself: a full one drops its lowest sequence for a higher one. So no outcome disappears from the middle, and what
///   is remembered says what is too old.
/// - A session is forgotten in a bucket as a whole, after `retentionMilliseconds` without a new call there. Only the
///   leader's clock decides that; replicas apply the deletions.
/// - Only who serves the shard asks; who begins or ceases to, calls `reset`, and memory is filled from the store again.
package final class OutcomeMemory {
    private struct Outcome {
        let sequence: UInt64, digest: UInt64
        /// The entry that brings it; zero: of before.
        let index: LogIndex
    }

    private struct SessionKey: Hashable {
        let bucket: BucketID, session: UInt64
    }

    /// A session's calls in one bucket.
    private final class Session {
        let key: SessionKey
        var position = 0
        /// When the newest was executed.
        var usedAt: UInt64 = 0
        /// The entry that brings the newest.
        var index = LogIndex.zero
        /// In the order of their sequences; there is one at least.
        var outcomes: [Outcome] = []

        init(_ key: SessionKey) { self.key = key }

        /// Where the sequence is, or would be.
        func place(of sequence: UInt64) -> Int {
            var low = 0, high = outcomes.count
            while low < high {
                let middle = (low + high) / 2
                if outcomes[middle].sequence < sequence { low = middle + 1 } else { high = middle }
            }
            return low
        }

        func outcome(_ sequence: UInt64) -> Outcome? {
            let place = place(of: sequence)
            return place < outcomes.count && outcomes[place].sequence == sequence ? outcomes[place] : nil
        }
    }

    /// The outcome of a call that came before.
    package struct Recollection {
        /// The answer has to wait for this entry.
        package let index: LogIndex
        /// The reply as it was encoded; nil if it was too large to be kept.
        package let reply: Bytes?
    }

    private let reader: any RecordReader
    private let buckets: Range<Int>
    private let limits: OutcomeLimits
    private var sessions: [SessionKey: Session] = [:]
    /// All sessions, in the order of the hand that looks for idle ones.
    private var ring: [Session] = []
    private var hand = 0
    /// Outcomes remembered.
    package private(set) var count = 0
    /// Buckets whose records have been read.
    private var loaded = 0
    private var committed = LogIndex.zero
    /// Replies whose entry is not committed, and the entries in order.
    private var replies: [OutcomeToken: Bytes] = [:]
    private var pending: [(index: LogIndex, token: OutcomeToken)] = []
    private var key = ByteBuffer(capacity: 64)
    private var value = ByteBuffer(capacity: 256)

    /// The memory of the shard that owns `buckets`.
    package init(reader: any RecordReader, buckets: Range<Int>, limits: OutcomeLimits = .init()) {
        (self.reader, self.buckets, self.limits) = (reader, buckets, limits)
    }

    // MARK: Calls

    /// What became of the call if it came before; nil: it may be executed, and `remember` must follow. Throws why it
    /// must not be.
    package func recall(_ token: OutcomeToken, digest: UInt64) throws(DatabaseError) -> Recollection? {
        while !isLoaded { try loadBucket() }
        guard let session = sessions[SessionKey(bucket: token.bucket, session: token.session)] else {
            guard count < limits.count else { throw Self.full }
            return nil
        }
        if let outcome = session.outcome(token.sequence) {
            guard outcome.digest == digest else { throw Self.reused }
            return Recollection(index: outcome.index, reply: try reply(token))
        }
        guard session.outcomes.count >= limits.window else {
            guard count < limits.count else { throw Self.full }
            return nil
        }
        guard let lowest = session.outcomes.first, token.sequence > lowest.sequence else { throw Self.tooOld }
        return nil
    }

    /// Takes note of what became of a call that `recall` let through, in the entry that has its effects.
    package func remember(
        _ token: OutcomeToken, digest: UInt64, reply: ByteView, at time: Timestamp, entryIndex: LogIndex,
        into sink: some EffectSink
    ) {
        let isHeld = reply.count <= limits.replyBytes
        setKey(token)
        value.removeAll()
        OutcomeRecord(executedAtMilliseconds: time.milliseconds, digest: digest, isReplyHeld: isHeld)
            .encode(into: &value)
        if isHeld { value.append(reply) }
        sink.put(key: key.readable, value: value.readable)
        let session = session(token)
        while session.outcomes.count >= max(limits.window, 1) {
            let lowest = session.outcomes.removeFirst()
            count -= 1
            delete(lowest, of: session, from: sink)
        }
        add(Outcome(sequence: token.sequence, digest: digest, index: entryIndex), to: session, at: time.milliseconds)
        session.index = entryIndex
        replies[token] = value.readable.bytes
        pending.append((entryIndex, token))
    }

    /// The entries up to `index` are committed, and visible to the reader.
    package func committed(upTo index: LogIndex) {
        committed = index
        guard !pending.isEmpty else { return }
        let settled = pending.firstIndex { $0.index > index } ?? pending.count
        for (_, token) in pending[..<settled] { replies[token] = nil }
        pending.removeSubrange(..<settled)
    }

    /// Forgets what is in memory, pending outcomes too: the store is the truth.
    package func reset() {
        (sessions, ring, replies, pending) = ([:], [], [:], [])
        (hand, count, loaded) = (0, 0, 0)
    }

    /// Forgets sessions that nobody has used for long, looking at up to `limit` of them, until about as many outcomes
    /// are deleted. Returns how many sessions went.
    @discardableResult
    package func expire(now: UInt64, limit: Int, into sink: some EffectSink) throws(DatabaseError) -> Int {
        guard isLoaded else {
            try loadBucket()
            return 0
        }
        var looks = min(limit, ring.count), deletions = limit, gone = 0
        while looks > 0, deletions > 0 {
            looks -= 1
            if hand >= ring.count { hand = 0 }
            let session = ring[hand]
            guard session.index <= committed, now > session.usedAt,
                now - session.usedAt >= limits.retentionMilliseconds
            else {
                hand += 1
                continue
            }
            deletions -= session.outcomes.count
            gone += 1
            for outcome in session.outcomes { delete(outcome, of: session, from: sink) }
            remove(session)
        }
        return gone
    }

    // MARK: Errors

    private static let full = DatabaseError(
        .busy, "The shard remembers as many outcomes as it may; the call was not executed, try again later")
    private static let reused = DatabaseError(
        .invalidArgument, "The idempotency token was used for another call; this one was not executed")
    private static let tooOld = DatabaseError(
        .outcomeUnknown,
        "The idempotency token is older than what the shard remembers of its session; nothing was executed now, "
            + "whether it was before is unknown")
    private static let damaged = DatabaseError(.corruption, "the record of an outcome is damaged")

    // MARK: Sessions

    private func session(_ token: OutcomeToken) -> Session {
        let key = SessionKey(bucket: token.bucket, session: token.session)
        if let known = sessions[key] { return known }
        let session = Session(key)
        session.position = ring.count
        ring.append(session)
        sessions[key] = session
        return session
    }

    private func add(_ outcome: Outcome, to session: Session, at time: UInt64) {
        session.outcomes.insert(outcome, at: session.place(of: outcome.sequence))
        session.usedAt = max(session.usedAt, time)
        count += 1
    }

    private func remove(_ session: Session) {
        sessions[session.key] = nil
        count -= session.outcomes.count
        let last = ring.removeLast()
        if last !== session {
            ring[session.position] = last
            last.position = session.position
        }
    }

    private func delete(_ outcome: Outcome, of session: Session, from sink: some EffectSink) {
        setKey(
            OutcomeToken(bucket: session.key.bucket, session: session.key.session, sequence: outcome.sequence))
        sink.delete(key: key.readable)
    }

    // MARK: The store

    private var isLoaded: Bool { loaded == buckets.count }

    private func setKey(_ token: OutcomeToken) {
        key.removeAll()
        OutcomeRecord.appendKey(token.bucket, session: token.session, sequence: token.sequence, into: &key)
    }

    private func reply(_ token: OutcomeToken) throws(DatabaseError) -> Bytes? {
        setKey(token)
        var found = replies[token]
        if found == nil { found = try reader.get(key.readable) }
        guard let found else { throw Self.damaged }
        let (isIntact, reply): (Bool, Bytes?) = found.withUnsafeBytes { view in
            var reader = ByteReader(view)
            guard let record = OutcomeRecord(&reader) else { return (false, nil) }
            return (true, record.isReplyHeld ? reader.rest.bytes : nil)
        }
        guard isIntact else { throw Self.damaged }
        return reply
    }

    /// Reads which outcomes the next bucket has. No entry with outcomes is on its way to the store meanwhile: without
    /// having read everything, none is made.
    private func loadBucket() throws(DatabaseError) {
        let bucket = BucketID(rawValue: UInt16(truncatingIfNeeded: buckets.lowerBound + loaded))
        key.removeAll()
        NativeKeyLayout.appendPrefix(bucket, .systemOutcomes, into: &key)
        let first = key.readable.bytes
        NativeKeyLayout.makeRangeEnd(&key)
        let end = key.readable.bytes
        var isDamaged = false
        try first.withView { (first: ByteView) throws(DatabaseError) in
            try end.withView { (end: ByteView) throws(DatabaseError) in
                try reader.scan(from: first, to: end) { key, value in
                    var reader = ByteReader(value)
                    guard let name = OutcomeRecord.parse(key: key), let record = OutcomeRecord(&reader) else {
                        isDamaged = true
                        return false
                    }
                    add(
                        Outcome(sequence: name.sequence, digest: record.digest, index: .zero),
                        to: session(OutcomeToken(bucket: bucket, session: name.session, sequence: name.sequence)),
                        at: record.executedAtMilliseconds)
                    return true
                }
            }
        }
        guard !isDamaged else {
            reset()  // What was read of the bucket must not be there twice.
            throw Self.damaged
        }
        loaded += 1
    }
}
