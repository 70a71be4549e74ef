import Base
import Raft

/// Messages and replicas in words, for scenarios.
enum Narration {
    static func describe(_ message: Message) -> String {
        "\(message.from)→\(message.to) t\(message.term) \(describe(message.body))"
    }

    private static func describe(_ body: Message.Body) -> String {
        switch body {
        case .preVoteRequest(let request): "would you vote for me? my log ends at \(request.last)"
        case .preVoteReply(let reply): (reply.isGranted ? "I would" : "I would not") + suffix(reply)
        case .voteRequest(let request):
            "vote for me, my log ends at \(request.last)" + (request.isTransfer ? ", I was asked to" : "")
        case .voteReply(let reply):
            (reply.isGranted ? "you have my vote" : "you do not have my vote") + suffix(reply)
        case .append(let append):
            "append \(describe(append.entries)) after \(append.previous), commit \(append.commit)"
        case .appendReply(let reply): describe(reply.outcome)
        case .heartbeat(let heartbeat):
            "heartbeat \(heartbeat.round), commit \(heartbeat.commit)" + (heartbeat.isQuiescing ? ", good night" : "")
                + (heartbeat.rejoin.map { $0.commit > .zero ? ", catch up to \($0.commit)" : ", you were cut" } ?? "")
        case .heartbeatReply(let reply):
            "heard \(reply.round)" + (reply.rejoin != 0 ? ", my log was cut" : "")
        case .snapshot(let snapshot): "snapshot of \(snapshot.last), members \(snapshot.membership)"
        case .timeoutNow: "campaign now"
        }
    }

    private static func suffix(_ reply: Message.VoteReply) -> String { reply.isCut ? ", my log was cut" : "" }

    private static func describe(_ outcome: Message.AppendReply.Outcome) -> String {
        switch outcome {
        case .matched(let index): "matched \(index)"
        case .rejected(let previous, let hint): "nothing matches at \(previous), perhaps at \(hint)"
        }
    }

    static func describe(_ run: EntryRun) -> String {
        guard let last = run.last else { return "nothing" }
        let first = EntryID(term: run.firstTerm, index: run.first)
        return first == last ? "\(first)" : "\(first)…\(last)"
    }

    static func describe(_ replica: Replica) -> String {
        guard let core = replica.core else { return "\(replica.id) is down" }
        let status = core.status
        var text = "\(replica.id) \(status.role.rawValue) t\(status.term)"
        text += ", log \(core.compactedThrough.index.rawValue + 1)…\(status.last), commit \(status.commit)"
        if let leader = status.leader, leader != replica.id { text += ", follows \(leader)" }
        if core.durableIndex < core.lastIndex { text += ", durable to \(core.durableIndex)" }
        if !status.mayVote { text += ", cut" }
        if status.isQuiescent { text += ", quiet" }
        for peer in status.peers {
            text += "; \(peer.id) \(peer.mode) \(peer.matched)"
        }
        return text
    }
}
