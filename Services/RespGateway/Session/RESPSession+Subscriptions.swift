import Base
import Contracts

/// Subscriptions: a client that listens to channels.
///
/// A subscription begins when its confirmation leaves, never before: so SUBSCRIBE waits for the answers to what was
/// sent before it, and, if it is about keys' events, for the moment from which on the gateway hears of them.
extension RESPSession {
    /// SUBSCRIBE, PSUBSCRIBE
    func subscribe(_ words: Words, _ kind: SubscriptionKind, _ reply: inout ByteBuffer) throws(DatabaseError) {
        let row = kind == .channel ? RESPCommand.subscribe : .patternSubscribe
        // A user who may do everything with commands and keys may still lack a channel.
        if let denial = user?.denial(of: row, words) { throw DatabaseError(.permissionDenied, denial) }
        let names = (1..<words.count).map { words[$0].bytes }
        var fresh = 0, bytes = 0
        for name in names where !(kind == .channel ? subscriptions.channels : subscriptions.patterns).contains(name) {
            fresh += 1
            bytes += name.count
        }
        guard subscriptions.count + fresh <= Subscriptions.limit,
            subscriptions.bytes + bytes <= Subscriptions.bytesLimit
        else {
            throw DatabaseError(
                .limitExceeded,
                "A client subscribes to at most \(Subscriptions.limit) channels and patterns of "
                    + "\(Subscriptions.bytesLimit) bytes together")
        }
        guard kind == .channel || names.allSatisfy({ $0.count <= Subscriptions.patternLimit }) else {
            throw DatabaseError(.limitExceeded, "A pattern has at most \(Subscriptions.patternLimit) bytes")
        }
        var interest = KeyspaceInterest()
        if server.settings.notifications.isAny {
            for name in names {
                interest.formUnion(kind == .channel ? .init(channel: name) : .init(pattern: name))
            }
        }
        if ring.isEmpty, interest.isEmpty { return confirm(names, kind, &reply) }
        postpone(.listen(nextToken, interest)) { [unowned self] in confirm(names, kind, &$0) }
    }

    private func confirm(_ names: [Bytes], _ kind: SubscriptionKind, _ reply: inout ByteBuffer) {
        for name in names {
            if subscriptions.insert(name, kind) { server.channels.add(name, kind, id) }
            reply.appendPush(3, version)
            reply.appendBulk(kind.words.subscribe)
            name.withUnsafeBytes { reply.appendBulk($0) }
            reply.appendInteger(Int64(subscriptions.count))
        }
        noteListening()
    }

    /// UNSUBSCRIBE, PUNSUBSCRIBE: without names all of the kind.
    func unsubscribe(_ words: Words, _ kind: SubscriptionKind, _ reply: inout ByteBuffer) {
        let names = words.count > 1 ? (1..<words.count).map { words[$0].bytes } : subscriptions.names(kind)
        for name in names {
            if subscriptions.remove(name, kind) { server.channels.remove(name, kind, id) }
            reply.appendPush(3, version)
            reply.appendBulk(kind.words.unsubscribe)
            name.withUnsafeBytes { reply.appendBulk($0) }
            reply.appendInteger(Int64(subscriptions.count))
        }
        if names.isEmpty {
            reply.appendPush(3, version)
            reply.appendBulk(kind.words.unsubscribe)
            reply.appendNull(version)
            reply.appendInteger(Int64(subscriptions.count))
        }
        noteListening()
    }

    /// Without a word: RESET, and a client that has gone.
    func forgetSubscriptions() {
        guard isListening else { return }
        for kind in [SubscriptionKind.channel, .pattern] {
            for name in subscriptions.names(kind) { server.channels.remove(name, kind, id) }
        }
        subscriptions = Subscriptions()
        noteListening()
    }

    private func noteListening() { isListening = !subscriptions.isEmpty }

    /// Why a client that listens may not send the command: RESP2 has no way to tell an answer from a message.
    func refusalOfListener(_ command: RESPCommand, _ words: Words) -> String? {
        guard isListening, version == .two else { return nil }
        var leaf = command
        if case .container = command.body, words.count > 1 {
            // What does not exist is refused for that.
            guard let row = command.subcommand(words[1]), row.accepts(words.count) else { return nil }
            leaf = row
        }
        let allowed: [RESPCommand] = [
            .ping, .quit, .reset, .subscribe, .unsubscribe, .patternSubscribe, .patternUnsubscribe,
        ]
        guard !allowed.contains(where: { $0 === leaf }) else { return nil }
        return "ERR Can't execute '\(leaf.name)': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are "
            + "allowed in this context"
    }

    /// Whether the user may still listen to everything that the client listens to.
    var mayListen: Bool {
        guard isListening else { return true }
        guard let user else { return false }
        return subscriptions.channels.allSatisfy { name in name.withUnsafeBytes { user.mayListen(to: $0, .channel) } }
            && subscriptions.patterns.allSatisfy { name in name.withUnsafeBytes { user.mayListen(to: $0, .pattern) } }
    }

    /// A message on a channel; `pattern`: because of that subscription.
    package func deliver(_ channel: Bytes, _ message: ByteView, pattern: Bytes?, output: inout ByteBuffer) {
        guard wait != .closed, wait != .closing else { return }
        if let pattern {
            output.appendPush(4, version)
            output.appendBulk("pmessage")
            pattern.withUnsafeBytes { output.appendBulk($0) }
        } else {
            output.appendPush(3, version)
            output.appendBulk("message")
        }
        channel.withUnsafeBytes { output.appendBulk($0) }
        output.appendBulk(message)
    }
}
