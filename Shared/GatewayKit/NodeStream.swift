import Base
import Contracts
import Crypto
import Net

/// The one stream from a gateway loop to a storage node.
///
/// Everything called in a tick leaves as one batch at the end of the tick. While the node cannot be reached, calls
/// gather in the batch that has not been sent; after `connectPatience` they fail as *unavailable*, which is certain,
/// for they were never sent. Calls that were sent when the stream broke, or that outlive their deadline, fail as
/// *outcome unknown* if they may write: nobody here repeats them (TRANSACTIONS.md, promise 4).
///
/// A call that the node refuses as not its leader was certainly not done: it goes back to its shard's route, which
/// sends it elsewhere. So the bytes of a batch are kept until its last call is answered; they change hands, nothing is
/// copied.
final class NodeStream: GRPCStreamHandler, TickFlushable {
    /// Bytes that may wait for a connection; past it calls are refused at once. With one call more it is still a
    /// message that the node takes.
    static let queueLimit = 16 << 20
    /// Calls that may be in flight, answered ones behind an unanswered one included: what the ring may grow to while a
    /// node that is stuck owes an answer.
    static let spanLimit = 1 << 22
    /// How long to wait before another stream is opened when one ended and its connection did not: a server that
    /// refuses the stream must not be asked without end.
    static let reopenMilliseconds = 50
    /// Size at which a batch leaves before the tick ends, so that no message nears the receiver's limit.
    static let batchLimit = 4 << 20

    /// Argument bytes that one call may bring: its effects must fit one entry of the node's log.
    static let callLimit = 12 << 20
    /// A node answers with up to 24 MiB at once, in a batch that holds at most 4 MiB of others.
    static var limits: GRPCLimits {
        var limits = GRPCLimits()
        limits.messageSize = 40 << 20
        return limits
    }

    private let loop: EventLoop
    /// Nil for the node that this process is, which is `local`.
    private let channel: GRPCClientChannel?
    private let local: (any LocalNode)?
    /// Where calls go; nil while they have to wait.
    private var stream: NodeWay?
    /// The stream of a connection whose server is shutting down: it answers what it was sent and gets nothing more.
    private var retiring: NodeWay?
    private var reopening: LoopTimer?
    private var isClosed = false
    private var batch: InvocationBatchEncoder
    private var ring = InFlightRing()
    /// First id of the unsent batch.
    private var firstUnsent: UInt64 = 1
    private var sent = SentBatches()
    /// Goes into every batch, and rises when a call under it was refused: what the node refuses behind that call, it
    /// refuses up to the next route.
    private var route: UInt64 = 0
    /// The route that the unsent batch was begun under.
    private var batchRoute: UInt64 = 0
    let node: NodeID
    /// Loop time when the oldest unsent call came while there was no stream; 0: none waits.
    private var waitingSince: UInt64 = 0
    /// Messages received.
    private(set) var heard: UInt64 = 0
    var isFlushPending = false
    private let callTimeout: UInt64
    /// Longest time a call waits for a connection, in nanoseconds.
    private let connectPatience: UInt64
    private var decoder = ReplyBatchDecoder()
    /// A call is being evaluated inside the call that has made it.
    private var isHandingOver = false
    /// Answers are being read: no others can be, meanwhile.
    private var isReceiving = false
    private unowned(unsafe) let router: NodeRouter

    /// Times are in nanoseconds. The router owns the stream and outlives it.
    init(
        loop: EventLoop, node: NodeID, address: SocketAddress, tls: TLSContext?, session: UInt64, callTimeout: UInt64,
        connectPatience: UInt64, router: NodeRouter
    ) {
        self.loop = loop
        self.node = node
        self.callTimeout = callTimeout
        self.connectPatience = connectPatience
        local = nil
        self.router = router
        batch = InvocationBatchEncoder(session: session)
        let channel = GRPCClientChannel(loop: loop, address: address, tls: tls, limits: Self.limits)
        self.channel = channel
        channel.onStateChange = { [unowned self] state in self.channelChanged(state) }
        channel.connect()
    }

    /// The stream to the node that this process is.
    init(loop: EventLoop, node: NodeID, local: any LocalNode, session: UInt64, callTimeout: UInt64, router: NodeRouter)
    {
        (self.loop, self.node, self.callTimeout, self.router) = (loop, node, callTimeout, router)
        (connectPatience, channel, self.local) = (0, nil, local)
        batch = InvocationBatchEncoder(session: session)
        stream = local.openStream(to: self).map { .local($0) }
    }

    /// Calls in flight or waiting.
    var inFlight: Int { ring.count }

    var isConnected: Bool { stream != nil }

    /// The id that the next call gets, and the oldest without an answer: when the second has reached what the first
    /// was, everything that was called then is answered.
    var nextCall: UInt64 { ring.next }
    var oldestCall: UInt64 { ring.oldest }

    /// Whether a call for such a slot has no answer yet. Looks at every call in flight: cold code.
    func owes(_ isMeant: (_ slot: UInt32) -> Bool) -> Bool {
        sent.contains(unsent: batch.message) { id, slot in ring.contains(id) && isMeant(slot) }
    }

    /// Gives up the connection to a node that is held for hung: what was sent has an unknown outcome (reads are
    /// unavailable) and is never answered, also if the node wakes up; the rest goes elsewhere. Another connection is
    /// there once the node says hello.
    func abandon() { channel?.abandon("the storage node does not answer") }

    /// Adds a call to the batch of this tick.
    @inline(__always)
    func call(
        connection: UInt64, slot: UInt32, method: Method, database: UInt8, key: ByteView, flags: UInt32,
        numbers: UnsafeBufferPointer<Int64>, arguments: UnsafeBufferPointer<ByteView>,
        receiver: any ReplyReceiver, ticket: UInt64
    ) {
        var size = key.count
        for argument in arguments { size &+= argument.count }
        guard size <= Self.callLimit else {
            receiver.failed(ticket, DatabaseError(.limitExceeded, "the arguments of one command exceed 12 MB"))
            return
        }
        guard let id = begin(receiver: receiver, ticket: ticket, isWrite: method.isWrite) else { return }
        batch.append(
            id: id, connection: connection, slot: slot, method: method, database: database, key: key, flags: flags,
            numbers: numbers, arguments: arguments)
        if batch.message.count > Self.batchLimit, stream != nil { flushAtTickEnd() }
    }

    /// Adds a record operation to the batch of this tick.
    func record(slot: UInt32, _ operation: RecordOperationView, receiver: any ReplyReceiver, ticket: UInt64) {
        let isWrite = operation.kind == .put || operation.kind == .delete
        guard operation.key.count &+ operation.value.count <= Self.callLimit else {
            receiver.failed(ticket, DatabaseError(.limitExceeded, "the record exceeds 12 MB"))
            return
        }
        guard let id = begin(receiver: receiver, ticket: ticket, isWrite: isWrite) else { return }
        batch.append(id: id, slot: slot, record: operation)
        if batch.message.count > Self.batchLimit, stream != nil { flushAtTickEnd() }
    }

    /// Adds calls that are done at once or not at all to the batch of this tick.
    func batch(
        connection: UInt64, slot: UInt32, body: ByteView, isWrite: Bool, receiver: any ReplyReceiver, ticket: UInt64
    ) {
        guard body.count <= Self.callLimit else {
            receiver.failed(ticket, DatabaseError(.limitExceeded, "the commands of one transaction exceed 12 MB"))
            return
        }
        guard let id = begin(receiver: receiver, ticket: ticket, isWrite: isWrite) else { return }
        batch.append(id: id, connection: connection, slot: slot, batch: body)
        if batch.message.count > Self.batchLimit, stream != nil { flushAtTickEnd() }
    }

    /// Adds a step of a transaction to the batch of this tick.
    func step(
        connection: UInt64, slot: UInt32, _ step: TransactionStep, isUrgent: Bool, receiver: any ReplyReceiver,
        ticket: UInt64
    ) {
        guard let id = begin(receiver: receiver, ticket: ticket, isWrite: step.kind != .sample) else { return }
        batch.append(id: id, connection: connection, slot: slot, step: step)
        if isUrgent { handOver() }
        if batch.message.count > Self.batchLimit, stream != nil { flushAtTickEnd() }
    }

    /// Adds something that is done at a time, or within an interactive transaction, to the batch of this tick.
    func scoped(
        connection: UInt64, slot: UInt32, transaction: UInt64, scope: InvocationScope, _ operation: ScopedOperation,
        isWrite: Bool, isUrgent: Bool, receiver: any ReplyReceiver, ticket: UInt64
    ) {
        guard operation.size <= Self.callLimit else {
            return receiver.failed(
                ticket, DatabaseError(.limitExceeded, "the commands of one statement exceed 12 MB"))
        }
        guard let id = begin(receiver: receiver, ticket: ticket, isWrite: isWrite) else { return }
        batch.append(
            id: id, connection: connection, slot: slot, transaction: transaction, scope: scope, operation)
        if isUrgent { handOver() }
        if batch.message.count > Self.batchLimit, stream != nil { flushAtTickEnd() }
    }

    /// Adds a command of a transaction whose home the node is.
    func home(
        connection: UInt64, slot: UInt32, principal: ByteView, operation: ByteView, receiver: any ReplyReceiver,
        ticket: UInt64
    ) {
        guard operation.count <= Self.callLimit else {
            return receiver.failed(
                ticket, DatabaseError(.limitExceeded, "the commands of one statement exceed 12 MB"))
        }
        guard let id = begin(receiver: receiver, ticket: ticket, isWrite: true) else { return }
        batch.append(id: id, connection: connection, slot: slot, principal: principal, home: operation)
        if batch.message.count > Self.batchLimit, stream != nil { flushAtTickEnd() }
    }

    /// Adds a call that was made before and has certainly not been done.
    func resend(_ call: ParkedCall) {
        guard
            let id = begin(
                receiver: call.receiver, ticket: call.ticket, isWrite: call.isWrite, madeAt: call.madeAt)
        else { return }
        call.body.withUnsafeBytes { batch.append(id: id, body: $0) }
        if batch.message.count > Self.batchLimit, stream != nil { flushAtTickEnd() }
    }

    @inline(__always)
    private func begin(
        receiver: any ReplyReceiver, ticket: UInt64, isWrite: Bool, madeAt: UInt64? = nil
    ) -> UInt64? {
        if stream == nil {
            guard !isClosed, batch.message.count < Self.queueLimit else {
                receiver.failed(ticket, Self.unreachable)
                return nil
            }
            if waitingSince == 0 { waitingSince = loop.now }
        }
        guard ring.span < Self.spanLimit else {
            receiver.failed(ticket, DatabaseError(.busy, "Too many calls wait for the storage node"))
            return nil
        }
        if batch.isEmpty {
            batch.begin(bookmark: router.bookmark, schemaVersion: 0, mapEpoch: router.epoch, route: route)
            batchRoute = route
            firstUnsent = ring.next
        }
        if !isFlushPending { loop.flushUpstream(self) }
        return ring.insert(
            .init(receiver: receiver, ticket: ticket, isWrite: isWrite, deadline: (madeAt ?? loop.now) &+ callTimeout))
    }

    /// Has a node that is this process evaluate the call that was just added, unless others wait before it: then it
    /// leaves with them.
    private func handOver() {
        guard batch.count == 1, !isHandingOver, !isReceiving, case .local(let local)? = stream else { return }
        isHandingOver = true
        sent.keep(&batch, until: ring.next, route: batchRoute, oldest: ring.oldest)
        firstUnsent = ring.next
        if !local.evaluate(sent.newest) { local.send(sent.newest) }
        isHandingOver = false
    }

    // MARK: Tick

    func flushAtTickEnd() {
        guard let stream, !batch.isEmpty else { return }
        guard stream.send(batch.message) else {
            // Nothing left: that is certain, and nobody must wait for an answer.
            failUnsent(DatabaseError(.unavailable, "The calls could not be sent to the storage node"))
            return
        }
        sent.keep(&batch, until: ring.next, route: batchRoute, oldest: ring.oldest)
        firstUnsent = ring.next
    }

    private static let unreachable = DatabaseError(.unavailable, "The storage node cannot be reached")

    /// Called a few times a second: gives up what waited too long.
    func expire() {
        let now = loop.now
        if waitingSince != 0, stream == nil, now &- waitingSince > connectPatience {
            failUnsent(Self.unreachable)
        }
        while let (id, entry) = ring.first, id < firstUnsent, entry.deadline < now {
            _ = ring.remove(id)
            entry.receiver.failed(
                entry.ticket,
                entry.isWrite
                    ? DatabaseError(.outcomeUnknown, "The storage node did not answer in time; the outcome is unknown")
                    : DatabaseError(.deadlineExceeded, "The storage node did not answer in time"))
        }
    }

    /// Ends the stream for good; every call fails.
    func close() {
        isClosed = true  // A receiver that calls again is refused at once.
        reopening?.cancel()
        channel?.close()
        if channel == nil { stream?.end() }
        failSent()
        failUnsent(DatabaseError(.unavailable, "The gateway is shutting down"))
    }

    // MARK: Stream

    private func channelChanged(_ state: GRPCClientChannel.State) {
        if case .failed = state, let stream {
            // The server is shutting down (or the connection was lost: then `closed` follows at once). What was sent is
            // answered still; what comes waits for the next connection, so that none of it has an unknown outcome.
            self.stream = nil
            retiring = stream
            if !batch.isEmpty { waitingSince = loop.now }
            stream.end()
            giveBackUnsent()
            router.streamsChanged()
            return
        }
        guard case .ready = state, stream == nil, retiring == nil, !isClosed, let channel else { return }
        reopening?.cancel()
        reopening = nil
        stream = .remote(channel.open(path: "/orbit.v1.InvocationService/Stream", handler: self))
        waitingSince = 0
        router.streamsChanged()
        flushAtTickEnd()
    }

    func received(_ message: ByteView) {
        heard &+= 1
        isReceiving = true
        defer { isReceiving = false }
        do {
            try decoder.decode(message) { reply in
                guard let entry = ring.remove(reply.id) else { return }  // Given up already: the client has its error.
                if reply.kind == .error, isTakenBack(reply, entry) { return }
                entry.receiver.completed(entry.ticket, reply)
            }
            router.observe(bookmark: decoder.bookmark, epoch: decoder.mapEpoch)
            if router.isRerouting { router.reroute() }
        } catch {
            (stream ?? retiring)?.cancel()  // A node that sends nonsense is worse than none: start afresh.
        }
    }

    /// Whether a call that was refused goes on elsewhere.
    @inline(never)
    private func isTakenBack(_ reply: borrowing ReplyView, _ entry: InFlightRing.Entry) -> Bool {
        switch reply.errorCode {
        case .notLeader: return giveBack(reply.id, entry, reply.leader)
        case .staleSchema, .staleMap:
            let error = reply.error
            return sent.withCall(reply.id) { entry.receiver.refusedAsStale(entry.ticket, $0, error) }
        case _: return false
        }
    }

    /// Hands a refused call to its shard's route.
    private func giveBack(_ id: UInt64, _ entry: InFlightRing.Entry, _ leader: NodeID?) -> Bool {
        guard let (batch, body, slot) = sent.find(id) else { return false }
        if batch == route { route &+= 1 }
        let call = ParkedCall(
            id: id, receiver: entry.receiver, ticket: entry.ticket, isWrite: entry.isWrite, slot: slot, body: body,
            madeAt: entry.deadline &- callTimeout)
        router.refused(call, by: self, leader: leader)
        return true
    }

    func receivedEnd() {}

    func writable() {}

    func closed(_ status: GRPCStatus) {
        guard stream != nil || retiring != nil else { return }
        let delay = stream == nil ? 0 : Self.reopenMilliseconds
        (stream, retiring) = (nil, nil)
        failSent()
        sent.removeAll()
        route = 0  // The next stream begins without refusals.
        if !batch.isEmpty, waitingSince == 0 { waitingSince = loop.now }
        giveBackUnsent()
        router.streamsChanged()
        // The channel reconnects if it lost its connection. If only the stream ended, or the next connection is there
        // already, another stream is opened, but not from in here: the connection may be about to end as well.
        guard !isClosed, reopening == nil else { return }
        reopening = loop.schedule(afterMilliseconds: delay) { [weak self] in
            guard let self else { return }
            reopening = nil
            if let channel { return channelChanged(channel.state) }
            stream = local?.openStream(to: self).map { .local($0) }
            waitingSince = 0
            router.streamsChanged()
            flushAtTickEnd()
        }
    }

    private func failSent() {
        while let (id, entry) = ring.first, id < firstUnsent {
            _ = ring.remove(id)
            entry.receiver.failed(
                entry.ticket,
                entry.isWrite
                    ? DatabaseError(
                        .outcomeUnknown, "The connection to the storage node was lost; the outcome is unknown")
                    : DatabaseError(.unavailable, "The connection to the storage node was lost"))
        }
    }

    /// The connection is gone: calls that were never sent may go to another replica, if their shard has one.
    private func giveBackUnsent() {
        guard !batch.isEmpty, !isClosed, router.hasReplicas else { return }
        var kept: [ParkedCall] = []
        sent.forEach(in: batch.message) { id, body, slot in
            guard let entry = ring.remove(id) else { return }
            kept.append(
                ParkedCall(
                    id: id, receiver: entry.receiver, ticket: entry.ticket, isWrite: entry.isWrite, slot: slot,
                    body: body, madeAt: entry.deadline &- callTimeout))
        }
        batch.reset()
        waitingSince = 0
        firstUnsent = ring.next
        for call in kept { router.refused(call, by: self, leader: nil) }
    }

    private func failUnsent(_ error: DatabaseError) {
        waitingSince = 0
        batch.reset()
        let end = ring.next  // A receiver may call again at once; that call is a new one.
        firstUnsent = end
        while let (id, entry) = ring.first, id < end {
            _ = ring.remove(id)
            entry.receiver.failed(entry.ticket, error)
        }
    }
}
