import Base
import Contracts
import Raft

// Raft and Contracts are siblings and do not know each other; here is where a message becomes bytes and bytes become a
// message. What a peer sent is checked once, here: the core gets what could be a message or nothing.

/// The kinds of entries on the wire; 0, the ordinary one, is left out.
enum EntryKind {
    static let empty: UInt64 = 1, configuration: UInt64 = 2
}

extension PeerBatchEncoder {
    /// Appends a message of the group `shard`; false when `payload` does not write what the entries' sizes say.
    mutating func append(_ message: Message, of shard: ShardID, payload: (inout ByteBuffer) -> Void) -> Bool {
        switch message.body {
        case .append(let body): return append(body, of: shard, term: message.term, payload: payload)
        case .snapshot(let metadata):
            var wire = PeerMessage(shard: shard, kind: .snapshot, term: message.term)
            (wire.index, wire.logTerm) = (metadata.last.index, metadata.last.term)
            return metadata.membership.encoded().withUnsafeBytes {
                wire.membership = $0
                return append(wire)
            }
        case .preVoteRequest, .preVoteReply, .voteRequest, .voteReply, .appendReply, .heartbeat, .heartbeatReply,
            .timeoutNow:
            return append(PeerMessage(message, of: shard))
        }
    }

    private mutating func append(
        _ body: Message.Append, of shard: ShardID, term: Term, payload: (inout ByteBuffer) -> Void
    ) -> Bool {
        var wire = PeerMessage(shard: shard, kind: .append, term: term)
        (wire.index, wire.logTerm) = (body.previous.index, body.previous.term)
        (wire.commit, wire.round) = (body.commit, body.round)
        let entries = body.entries
        guard !entries.isEmpty else { return append(wire) }
        let kinds = entries.specials.map { special in
            PeerEntries.KindException(
                position: special.index.rawValue &- entries.first.rawValue, kind: Self.kind(of: special.content))
        }
        return kinds.withUnsafeBufferPointer { kinds in
            entries.sizes.withUnsafeBufferPointer { sizes in
                wire.entries.kinds = kinds
                wire.entries.sizes = sizes
                guard !entries.laterTerms.isEmpty else {
                    // One term, as nearly always: no table is made.
                    let run = PeerEntries.TermRun(count: UInt64(entries.count), term: entries.firstTerm.rawValue)
                    return withUnsafePointer(to: run) {
                        wire.entries.terms = UnsafeBufferPointer(start: $0, count: 1)
                        return append(wire, payload: payload)
                    }
                }
                return Self.runs(of: entries).withUnsafeBufferPointer {
                    wire.entries.terms = $0
                    return append(wire, payload: payload)
                }
            }
        }
    }

    private static func kind(of content: EntryContent) -> UInt64 {
        switch content {
        case .normal: 0
        case .empty: EntryKind.empty
        case .configuration: EntryKind.configuration
        }
    }

    private static func runs(of entries: EntryRun) -> [PeerEntries.TermRun] {
        var runs: [PeerEntries.TermRun] = []
        var (start, term) = (entries.first.rawValue, entries.firstTerm)
        for later in entries.laterTerms {
            runs.append(.init(count: later.first.rawValue &- start, term: term.rawValue))
            (start, term) = (later.first.rawValue, later.term)
        }
        runs.append(.init(count: entries.end.rawValue &- start, term: term.rawValue))
        return runs
    }
}

extension PeerMessage {
    /// The messages that have only numbers.
    fileprivate init(_ message: Message, of shard: ShardID) {
        self.init(shard: shard, kind: .timeoutNow, term: message.term)
        switch message.body {
        case .preVoteRequest(let request): ask(.preVoteRequest, request)
        case .voteRequest(let request): ask(.voteRequest, request)
        case .preVoteReply(let reply): answer(.preVoteReply, reply)
        case .voteReply(let reply): answer(.voteReply, reply)
        case .appendReply(let reply):
            kind = .appendReply
            round = reply.round
            switch reply.outcome {
            case .matched(let matched): index = matched
            case .rejected(let previous, let hint):
                flags = .refused
                (index, logTerm) = (hint.index, hint.term)
                self.hint = previous.rawValue
            }
        case .heartbeat(let beat):
            kind = .heartbeat
            (commit, round) = (beat.commit, beat.round)
            if beat.isQuiescing { flags.insert(.quiescing) }
            if let rejoin = beat.rejoin {
                flags.insert(.rejoin)
                (hint, index) = (rejoin.nonce, rejoin.commit)
            }
        case .heartbeatReply(let reply):
            kind = .heartbeatReply
            round = reply.round
            if reply.rejoin != 0 {
                flags.insert(.rejoin)
                hint = reply.rejoin
            }
        case .timeoutNow, .append, .snapshot: break  // The first has no more to say, the others do not come here.
        }
    }

    private mutating func ask(_ kind: Kind, _ request: Message.VoteRequest) {
        self.kind = kind
        (index, logTerm) = (request.last.index, request.last.term)
        flags = request.isTransfer ? .transfer : []
    }

    private mutating func answer(_ kind: Kind, _ reply: Message.VoteReply) {
        self.kind = kind
        if !reply.isGranted { flags.insert(.refused) }
        if reply.isCut { flags.insert(.rejoin) }
    }

    private var entryID: EntryID { EntryID(term: logTerm, index: index) }

    /// What a peer said; nil for what no replica says.
    func message(from: NodeID, to: NodeID) -> Message? {
        body.map { Message(from: from, to: to, term: term, body: $0) }
    }

    private var body: Message.Body? {
        switch kind {
        case .append:
            return entryRun.map { .append(.init(previous: entryID, entries: $0, commit: commit, round: round)) }
        case .appendReply:
            guard flags.contains(.refused) else { return .appendReply(.init(outcome: .matched(index), round: round)) }
            guard hint <= Self.limit else { return nil }
            return .appendReply(
                .init(outcome: .rejected(previous: LogIndex(rawValue: hint), hint: entryID), round: round))
        case .heartbeat:
            let rejoin = flags.contains(.rejoin) ? Message.Rejoin(nonce: hint, commit: index) : nil
            return .heartbeat(
                .init(commit: commit, round: round, isQuiescing: flags.contains(.quiescing), rejoin: rejoin))
        case .heartbeatReply: return .heartbeatReply(.init(round: round, rejoin: flags.contains(.rejoin) ? hint : 0))
        case .preVoteRequest: return .preVoteRequest(voteRequest)
        case .voteRequest: return .voteRequest(voteRequest)
        case .preVoteReply: return .preVoteReply(voteReply)
        case .voteReply: return .voteReply(voteReply)
        case .timeoutNow: return .timeoutNow
        case .snapshot:
            return Membership.decode(membership).map { .snapshot(.init(last: entryID, membership: $0)) }
        }
    }

    private var voteRequest: Message.VoteRequest {
        Message.VoteRequest(last: entryID, isTransfer: flags.contains(.transfer))
    }

    private var voteReply: Message.VoteReply {
        Message.VoteReply(isGranted: !flags.contains(.refused), isCut: flags.contains(.rejoin))
    }

    /// The entries behind `index`. The decoder has seen to it that the tables agree.
    private var entryRun: EntryRun? {
        let first = LogIndex(rawValue: index.rawValue &+ 1)
        guard let run = entries.terms.first else { return EntryRun(first: first) }
        if entries.terms.count == 1, entries.kinds.isEmpty {
            return EntryRun(first: first, term: Term(rawValue: run.term), sizes: Array(entries.sizes))
        }
        var result = EntryRun(first: first)
        var position = 0, offset = 0, special = 0
        for run in entries.terms {
            for _ in 0..<run.count {
                let size = entries.sizes[position]
                var content = EntryContent.normal
                if special < entries.kinds.count, entries.kinds[special].position == UInt64(position) {
                    let payload = ByteView(rebasing: entries.payload[offset..<offset &+ Int(size)])
                    guard let known = Self.content(entries.kinds[special].kind, payload) else { return nil }
                    content = known
                    special += 1
                }
                result.append(term: Term(rawValue: run.term), size: size, content: content)
                position += 1
                offset &+= Int(size)
            }
        }
        return result
    }

    private static func content(_ kind: UInt64, _ payload: ByteView) -> EntryContent? {
        switch kind {
        case 0: .normal
        case EntryKind.empty: payload.isEmpty ? .empty : nil
        case EntryKind.configuration: Membership.decode(payload).map { .configuration($0) }
        case _: nil  // Of a later version, which a cluster of this one does not write.
        }
    }
}
