import Base
import Contracts
import Net

/// One gateway's stream: decodes its batches, hands each invocation to the executor of its shard, sends the replies.
///
/// Replies that depend on nothing pending gather in `ready` and leave at the end of the tick as one message; the others
/// are sent by their executor when their entry commits. `id` pairs them at the gateway, so they may overtake one
/// another.
///
/// All clients of a gateway share its stream, and replies are larger than calls: a few bytes that ask for megabytes
/// must neither take all memory nor hold up the others' replies. So a client connection whose replies have not left
/// waits once they exceed its share (`replyShare`), everybody waits while the stream has more than `replyBacklog`, and
/// whoever waits goes on, in turn, when the stream is nearly empty. Nobody is refused for what others have asked.
final class InvocationStream: GRPCStreamHandler, TickFlushable {
    /// The largest reply of one call, and what a batch of replies may hold before another one is begun.
    static let replyLimit = 24 << 20, batchLimit = 4 << 20
    /// Batches of more bytes are looked ahead through: about four calls.
    static let lookAheadFrom = 160
    /// Replies above this size count against their connection's share, once the stream has `countedFrom` bytes to send:
    /// what every call costs stays a comparison.
    private static let largeReply = 4 << 10, countedFrom = 256 << 10
    /// Calls that wait go on below this. Not less than the stream's high mark, because a stream that has not been above
    /// it does not tell when it is empty; not more than `replyShare`.
    private static let resumeMark = 1 << 20
    static var limits: GRPCLimits {
        var limits = GRPCLimits()
        limits.messageSize = 40 << 20
        return limits
    }

    private let loop: EventLoop
    private let node: Node
    private let channel: any ReplyChannel
    private let decoder = InvocationBatchDecoder()
    private let ready = ReplyBatchEncoder()
    var isFlushPending = false
    private(set) var isOpen = true
    /// A unary call is answered by one message: its replies gather in `ready` until the last is there.
    let isUnary: Bool
    /// Invocations without a reply so far.
    private var owed = 0
    /// Bytes of replies that executors hold until their entry commits.
    private var heldBytes = 0
    /// Bytes in the stream, as of the last look.
    private var queued = 0
    /// Calls that came under a lower route are refused, because one before them was (`InvocationBatch.route`).
    private var fence: UInt64 = 0
    private var newestRoute: UInt64 = 0
    /// The highest bookmark that came: what waits has outlived its batch.
    private(set) var bookmark = Timestamp.zero
    private var shares = ReplyShares()
    private var waiting = WaitingCalls()
    /// The caller sends nothing more: the call ends after the last reply.
    private var hasEnded = false
    /// When the calls that are evaluated now came, on the loop's clock.
    private var arrival: UInt64 = 0
    /// What the peer may demand.
    let rights: CallerRights
    /// Connections on it belong to transactions whose home is here.
    var hasMembers = false

    init(loop: EventLoop, node: Node, channel: any ReplyChannel, isUnary: Bool, rights: CallerRights) {
        (self.loop, self.node, self.channel, self.isUnary) = (loop, node, channel, isUnary)
        self.rights = rights
    }

    /// The session of the batch whose calls are evaluated now; with a call's id it is the call's token.
    var session: UInt64 { decoder.session }

    /// Names a client connection among those of all streams; 0 for none.
    func lane(of connection: UInt64) -> UInt64 {
        connection == 0 ? 0 : connection &+ UInt64(UInt(bitPattern: ObjectIdentifier(self))) | 1 << 63
    }

    /// How long the calls that are evaluated now have waited here.
    var waitedMilliseconds: UInt64 { (loop.now &- arrival) / 1_000_000 }

    // MARK: From the gateway

    func received(_ message: ByteView) {
        take(message, looksAhead: message.count > Self.lookAheadFrom)
        if !ready.isEmpty { loop.flushUpstream(self) }
    }

    /// The same for one call of this process; what is ready leaves before this returns.
    func receivedUrgent(_ message: ByteView) {
        take(message, looksAhead: false)
        send(ready)
    }

    private func take(_ message: ByteView, looksAhead: Bool) {
        guard isOpen else { return }
        look()
        arrival = loop.now
        do {
            if looksAhead {
                // Reading the batch twice costs 20 ns a call; waiting for memory one call after the other costs more.
                try decoder.decode(message) { node.prefetch($0) }
                node.prefetched()
            }
            var refusal: DatabaseError?
            var isHeaderKnown = false
            let (share, isLimited) = (node.settings.replyShare, rights.isLimitedToSteps)
            try decoder.decode(message) { invocation in
                owed += 1
                node.log.noteCall()
                if !isHeaderKnown {
                    isHeaderKnown = true
                    newestRoute = decoder.route
                    bookmark = max(bookmark, decoder.bookmark)
                    refusal =
                        InvocationTerms.refusal(ofSchemaVersion: decoder.schemaVersion)
                        ?? node.observe(decoder.bookmark)
                }
                if let refusal {
                    ready.error(invocation.id, refusal)
                    return
                }
                if newestRoute < fence {
                    ready.error(invocation.id, Self.notLed)
                    return
                }
                if isLimited, !Self.isStep(invocation) {
                    ready.error(invocation.id, Self.forNodes)
                    return
                }
                // One connection cannot have its share outstanding while all together have less.
                let isBusy = outstanding > share || !waiting.isEmpty
                if isBusy, hasToWait(invocation) { return }
                evaluate(invocation)
            }
        } catch {
            fail(GRPCStatus(.invalidArgument, error.message))
        }
        if newestRoute < fence, !waiting.isEmpty { refuseWaiting() }
    }

    /// Bytes of replies that have not left.
    private var outstanding: Int { queued &+ heldBytes &+ ready.size }

    private func look() {
        queued = channel.bufferedBytes
        shares.settle(queued: queued, unsent: heldBytes &+ ready.size)
    }

    @inline(__always)
    private func evaluate(_ invocation: borrowing InvocationView) {
        let before = heldBytes &+ ready.size
        node.dispatch(invocation, on: self, ready: ready)
        let unsent = heldBytes &+ ready.size
        if unsent &- before > Self.largeReply, queued &+ unsent > Self.countedFrom {
            shares.add(unsent &- before, for: invocation.connection, unsent: unsent)
        }
        if ready.size > Self.batchLimit, !isUnary { send(ready) }
    }

    // MARK: Refusing

    private static let forNodes = DatabaseError(
        .permissionDenied, "A storage node may only take part in transactions and sagas")
    /// What a node sends: it settles transactions, drives those whose home it is, and does steps of sagas.
    private static func isStep(_ invocation: borrowing InvocationView) -> Bool {
        let isScoped = invocation.hasScope, transaction = invocation.transaction
        return switch invocation.operation {
        case .step: true
        case .batch(let batch): batch.token != nil || transaction != 0 || isScoped
        case .call, .record, .home, .unknown: false
        }
    }
    private static let notLed = DatabaseError(.notLeader, "This node does not lead the slot's shard")

    /// Refuses a call whose shard is led elsewhere, and with it what waits, and what comes behind it before the gateway
    /// knows: a call that is sent again must not be overtaken by its successors.
    func refuse(_ id: UInt64, leader: NodeID?) { refuse(id, leader: leader, replies: ready) }

    /// The same for a call whose reply was held.
    func refuse(_ id: UInt64, leader: NodeID?, replies: ReplyBatchEncoder) {
        replies.error(id, Self.notLed, leader: leader)
        fence = newestRoute &+ 1
        if !waiting.isEmpty { loop.flushUpstream(self) }
    }

    /// After a refusal, what waits is behind it.
    private func refuseWaiting() {
        let refused = waiting
        waiting = WaitingCalls()
        refused.forEach { calls in
            // They have been decoded before.
            try? decoder.decode(calls) { ready.error($0.id, Self.notLed) }
        }
    }

    // MARK: Waiting

    /// True if the call has been put in line (or refused), because too much has to leave before its reply.
    private func hasToWait(_ invocation: borrowing InvocationView) -> Bool {
        let (connection, call, settings) = (invocation.connection, invocation.encoded, node.settings)
        // Nothing of a unary call's replies leaves before the last is there. A line does not know its calls' sessions.
        let mayWait = !(invocation.isIdempotent || isUnary)
        if !waiting.contains(connection) {
            let isOverShare = !isUnary && shares[connection] > settings.replyShare
            guard isOverShare || outstanding > settings.replyBacklog else { return false }
        }
        if !mayWait || !waiting.append(call, of: connection, arrival: arrival) {
            ready.error(invocation.id, Self.backlogged)
        }
        return true
    }

    /// Lets calls that wait go on if the stream is nearly empty.
    private func resume() {
        guard !waiting.isEmpty, isOpen else { return }
        look()
        guard outstanding <= Self.resumeMark else { return }
        // A new round. The rest of a large reply must not count as the whole: a line that adds nothing now might never
        // be told that the stream is empty.
        shares.removeAll()
        var turns = waiting.count
        while turns > 0, outstanding <= node.settings.replyBacklog, let line = waiting.next() {
            turns -= 1
            serve(line)
            waiting.putBack(line)
        }
        if newestRoute < fence { refuseWaiting() }
        send(ready)
    }

    private func serve(_ line: WaitingCalls.Line) {
        let settings = node.settings
        while let call = line.first, isOpen, outstanding <= settings.replyBacklog,
            shares[line.connection] <= settings.replyShare
        {
            arrival = line.firstArrival
            do throws(DatabaseError) {
                try decoder.decode(call) { evaluate($0) }
            } catch {
                fail(GRPCStatus(.internalError, error.message))  // Not reached: it has been decoded before.
            }
            waiting.removeFirst(of: line)
        }
    }

    func receivedEnd() {
        hasEnded = true
        // What is ready leaves first, at the end of this tick.
        loop.flushUpstream(self)
    }

    /// A stream ends once it owes nothing; a unary call ends by itself.
    func draining() {
        if !isUnary { receivedEnd() }
    }

    func closed(_ status: GRPCStatus) {
        isOpen = false
        waiting.removeAll()
        if hasMembers { node.homes?.streamClosed(self) }
        node.queries?.streamClosed(self)
    }

    func writable() {
        if !waiting.isEmpty { loop.flushUpstream(self) }
    }

    // MARK: To the gateway

    /// Takes replies whose entry has committed, and empties the encoder.
    func send(_ replies: ReplyBatchEncoder) {
        guard isOpen else { return replies.reset() }
        if isUnary {
            if replies !== ready { replies.moveAll(to: ready) }
            if hasEnded, ready.count == owed { write(ready) }
        } else if !replies.isEmpty {
            write(replies)
        }
        // What was held has left for the stream: perhaps nothing else tells when it is empty.
        if !waiting.isEmpty, replies !== ready { loop.flushUpstream(self) }
        if hasEnded, owed == 0, isOpen {
            isOpen = false
            channel.end(.ok)
        }
    }

    /// Takes a reply that nobody's log has to do with, at any time.
    func answer(_ write: (ReplyBatchEncoder) -> Void) {
        guard isOpen else { return }
        write(ready)
        loop.flushUpstream(self)
    }

    /// An executor holds that many bytes of our replies more (or fewer).
    func holds(_ bytes: Int) { heldBytes &+= bytes }

    private func write(_ replies: ReplyBatchEncoder) {
        owed -= replies.count
        let size = replies.size
        let isSent = channel.send { buffer in
            replies.write(bookmark: node.clock.last, mapEpoch: node.mapEpoch, into: &buffer)
        }
        replies.reset()
        shares.didSend(size)
        queued = channel.bufferedBytes
        // The caller must not wait for what does not come. Of streams no batch is that large; a unary call can ask for
        // too much.
        if !isSent { fail(GRPCStatus(.resourceExhausted, "the replies exceed what one message may hold")) }
    }

    private static let backlogged = DatabaseError(
        .busy, "Too many bytes of replies wait for the gateway; ask for less at a time")

    func flushAtTickEnd() {
        if newestRoute < fence, !waiting.isEmpty { refuseWaiting() }
        send(ready)
        resume()
    }

    private func fail(_ status: GRPCStatus) {
        isOpen = false
        channel.end(status)
    }
}
