// GatewayKit: what every gateway shares on its way to the data.
//
// A gateway is stateless: it knows where a slot lives (the shard map, watched at the coordinator) and keeps one stream
// per loop and node (`NodeStream`). `NodeRouter` puts the two together: slot → bucket → shard → leader → stream, by
// table look-ups.
//
// Invariants. Calls of one client connection to one shard are done in the order they were made, also where the shard's
// leader changes meanwhile (`ShardRoute`). A call is answered exactly once: by its reply, or by an error that says
// whether the outcome is known. Only what was certainly not done is sent again. Everything is confined to the loop.

import Base
import Contracts
import Crypto
import Net
import Placement

/// Routes calls to the leader of the shard that owns their slot.
package final class NodeRouter {
    /// Where calls go, as tables: recomputed when the map changes.
    private struct Routes {
        var shards: [ShardID] = []
        /// For each bucket, the position of its shard in `shards`.
        var shardOfBucket: [Int] = []
        var slotsPerBucket = 16384
        /// For each shard, the stream that its calls take now; nil while they are parked.
        var streams: [NodeStream?] = []
        /// For each shard, how that stream is found.
        var routes: [ShardRoute] = []
    }

    private let loop: EventLoop
    private let tls: TLSContext?
    let session: UInt64
    private let callTimeout: UInt64
    /// For how long a shard is asked to wait for a lock at a time, in milliseconds: no call is left unanswered for as
    /// long as one may wait.
    package var longestLockWait: UInt64 = 20_000
    private let connectPatience: UInt64
    private var routes = Routes()
    private var addresses: [NodeID: SocketAddress] = [:]
    private var streams: [NodeID: NodeStream] = [:]
    private var timer: LoopTimer?
    private var retry: LoopTimer?
    private let reviewPeriod: Int
    private var nextReview: LoopTimer?
    private(set) var isClosed = false
    /// Encodes calls that are parked before they were ever sent.
    private var scratch = InvocationBatchEncoder(session: 0)
    private let scratchDecoder = InvocationBatchDecoder()
    /// Reads below strong that are on their way, some that are done among them, and how many make it worth a look.
    var replicaReads: [ReplicaRead] = []
    var replicaReadsToSweep = 1024
    /// Attempts of transactions over several shards that are not over.
    var attempts: [TransactionAttempt] = []
    /// The node that this process is, if it is one: its shards are reached without a socket.
    package var local: (id: NodeID, node: any LocalNode)?
    /// Who wants a timestamp to read at; asked for at the end of the tick.
    var timestampAskers: [(Result<Timestamp, DatabaseError>) -> Void] = []
    /// Interactive transactions that are not over.
    var openTransactions: [InteractiveRun] = []
    /// Nodes that are homes of transactions of clients here, and of how many: they are kept, also without shards.
    var homes: [NodeID: Int] = [:]
    /// Nodes that have left reads unanswered, and until when they are not asked.
    var resting: [NodeID: UInt64] = [:]

    /// The highest timestamp seen in a reply: handed to every node, so that nobody reads an older state than this
    /// gateway saw.
    package private(set) var bookmark = Timestamp.zero
    package private(set) var epoch = MapEpoch(rawValue: 0)
    /// Called when a stream came or went, and when the map changed: `isReady` may have changed.
    package var onChange: (() -> Void)?
    /// Some shard has more than one replica.
    private(set) var hasReplicas = false
    /// Some shard's calls are parked.
    private(set) var isRerouting = false

    /// `session` is random per loop. A call waits up to `connectPatience` for a connection or a leader and then up to
    /// `callTimeout` for its answer, in milliseconds; how long it waited is seen every `checkPeriod`. A node whose
    /// successor is known is given up after five times `reviewPeriod` without a word.
    package init(
        loop: EventLoop, tls: TLSContext?, session: UInt64, callTimeout: UInt64 = 30_000,
        connectPatience: UInt64 = 5_000, checkPeriod: Int = 250, reviewPeriod: Int = 100
    ) {
        self.loop = loop
        self.tls = tls
        self.session = session
        self.callTimeout = callTimeout * 1_000_000
        self.connectPatience = connectPatience * 1_000_000
        self.reviewPeriod = reviewPeriod
        timer = loop.schedule(afterMilliseconds: checkPeriod, repeating: true) { [unowned self] in expire() }
    }

    /// Where the nodes are that are up, in the order of their numbers.
    package var nodeAddresses: [SocketAddress] {
        addresses.sorted { $0.key.rawValue < $1.key.rawValue }.map(\.value)
    }

    /// Ready when every shard's leader is known and connected.
    package var isReady: Bool {
        !routes.streams.isEmpty && routes.streams.allSatisfy { $0?.isConnected ?? false }
    }

    /// The shards of the cluster, in the order of their buckets.
    package var shards: [ShardID] { routes.shards }

    /// The position in `shards` of the shard that owns a slot; nil while no map is known.
    @inline(__always)
    package func shardIndex(ofSlot slot: UInt32) -> Int? {
        let bucket = Int(slot) / routes.slotsPerBucket
        return bucket < routes.shardOfBucket.count ? routes.shardOfBucket[bucket] : nil
    }

    /// A slot that the shard owns: addresses a call to a shard as a whole.
    package func anySlot(ofShardIndex index: Int) -> UInt32? {
        routes.shardOfBucket.firstIndex(of: index).map { UInt32($0 * routes.slotsPerBucket) }
    }

    /// The nodes that have replicas of shards, in the order of their numbers.
    package var replicaNodes: [NodeID] {
        Set(routes.routes.flatMap(\.replicas)).sorted { $0.rawValue < $1.rawValue }
    }

    /// The buckets of a shard, as ranges in their order.
    package func buckets(ofShardIndex index: Int) -> [Range<Int>] {
        var ranges: [Range<Int>] = []
        for (bucket, owner) in routes.shardOfBucket.enumerated() where owner == index {
            if let last = ranges.last, last.upperBound == bucket {
                ranges[ranges.count - 1] = last.lowerBound..<bucket + 1
            } else {
                ranges.append(bucket..<bucket + 1)
            }
        }
        return ranges
    }

    /// Where calls go that are for all of the data: one slot of each shard that has any.
    package var slotOfEachShard: [UInt32] { routes.shards.indices.compactMap { anySlot(ofShardIndex: $0) } }

    /// The first slot of a bucket: a scan's cursor names buckets. A bucket that does not exist counts as the first.
    package func firstSlot(ofBucket bucket: Int) -> UInt32 {
        bucket < routes.shardOfBucket.count ? UInt32(bucket * routes.slotsPerBucket) : 0
    }

    // MARK: The map

    /// Adopts a shard map. A shard whose calls reach a replica that is still one keeps its way while answers come
    /// (`ShardRoute.review`); the others look for a leader, beginning with the one that the map names.
    package func adopt(_ map: ShardMap) {
        guard map.epoch >= epoch else { return }
        epoch = map.epoch
        let known = Dictionary(routes.routes.map { ($0.shard, $0) }, uniquingKeysWith: { first, _ in first })
        var fresh = Routes()
        fresh.slotsPerBucket = RoutingTable.slotCount / map.bucketCount
        fresh.shardOfBucket = Array(repeating: 0, count: map.bucketCount)
        var before: [NodeStream] = []
        let moved = adoptNodes(of: map, closing: &before)
        for shard in map.shards {
            for bucket in shard.buckets.joined() { fresh.shardOfBucket[bucket] = fresh.shards.count }
            fresh.shards.append(shard.id)
            let route = known[shard.id] ?? ShardRoute(shard.id)
            route.adopt(shard, in: map, moved: moved)
            fresh.routes.append(route)
            fresh.streams.append(route.target)
        }
        hasReplicas = map.shards.contains { $0.replicas.count > 1 }
        // Routes first: a receiver that is told of a failure may call again at once.
        routes = fresh
        for stream in before { stream.close() }
        review(counts: false)
        reroute()
        closeUnused()
        onChange?()
    }

    /// Takes over the addresses of the nodes; answers the nodes that cannot be reached where they were.
    private func adoptNodes(of map: ShardMap, closing: inout [NodeStream]) -> Set<NodeID> {
        var fresh: [NodeID: SocketAddress] = [:]
        for node in map.nodes where node.state == .up {
            // A process of the same host is reached over its unix socket, at half the cost per call.
            fresh[node.id] = node.addresses.compactMap { try? SocketAddress(parsing: $0) }.first
        }
        var moved: Set<NodeID> = []
        for (node, address) in addresses where fresh[node] != address {
            moved.insert(node)
            if let stream = streams.removeValue(forKey: node) { closing.append(stream) }
        }
        addresses = fresh
        return moved
    }

    private func closeUnused() {
        let used = Set(routes.routes.flatMap { $0.replicas + [$0.target?.node, $0.previous?.node].compactMap { $0 } })
        for (node, stream) in streams where !used.contains(node) && homes[node] == nil {
            streams[node] = nil
            stream.close()
        }
    }

    // MARK: Calls

    /// Calls a method of the actor that `key` names, on the shard that owns `slot`.
    @inline(__always)
    package func call(
        connection: UInt64, slot: UInt32, method: Method, database: UInt8, key: ByteView, flags: UInt32,
        numbers: UnsafeBufferPointer<Int64>, arguments: UnsafeBufferPointer<ByteView>,
        receiver: any ReplyReceiver, ticket: UInt64
    ) {
        guard let index = shardIndex(ofSlot: slot), let stream = routes.streams[index] else {
            var size = key.count
            for argument in arguments { size &+= argument.count }
            park(slot, size, isWrite: method.isWrite, receiver, ticket) { scratch in
                scratch.append(
                    id: 0, connection: connection, slot: slot, method: method, database: database, key: key,
                    flags: flags, numbers: numbers, arguments: arguments)
            }
            return
        }
        stream.call(
            connection: connection, slot: slot, method: method, database: database, key: key, flags: flags,
            numbers: numbers, arguments: arguments, receiver: receiver, ticket: ticket)
    }

    /// Reads or writes a record directly, on the shard that owns `slot`.
    package func record(slot: UInt32, _ operation: RecordOperationView, receiver: any ReplyReceiver, ticket: UInt64) {
        guard let index = shardIndex(ofSlot: slot), let stream = routes.streams[index] else {
            let isWrite = operation.kind == .put || operation.kind == .delete
            park(slot, operation.key.count &+ operation.value.count, isWrite: isWrite, receiver, ticket) {
                $0.append(id: 0, slot: slot, record: operation)
            }
            return
        }
        stream.record(slot: slot, operation, receiver: receiver, ticket: ticket)
    }

    /// Has calls of the shard that owns `slot` done at once or not at all; `body` is an encoded `CallBatch`. Who was
    /// called before it on that connection, and after it, comes before it and after it.
    package func batch(
        connection: UInt64, slot: UInt32, body: ByteView, isWrite: Bool, receiver: any ReplyReceiver, ticket: UInt64
    ) {
        guard let index = shardIndex(ofSlot: slot), let stream = routes.streams[index] else {
            return park(slot, body.count, isWrite: isWrite, receiver, ticket) {
                $0.append(id: 0, connection: connection, slot: slot, batch: body)
            }
        }
        stream.batch(
            connection: connection, slot: slot, body: body, isWrite: isWrite, receiver: receiver, ticket: ticket)
    }

    /// Tells the shard that owns `slot` of a step of a transaction that it has a part of. With `isUrgent` the receiver
    /// may be told of the answer before this returns.
    package func step(
        connection: UInt64, slot: UInt32, _ step: TransactionStep, isUrgent: Bool = false,
        receiver: any ReplyReceiver, ticket: UInt64
    ) {
        guard let index = shardIndex(ofSlot: slot), let stream = routes.streams[index] else {
            return park(slot, step.participants.count &* 3, isWrite: step.kind != .sample, receiver, ticket) {
                $0.append(id: 0, connection: connection, slot: slot, step: step)
            }
        }
        stream.step(
            connection: connection, slot: slot, step, isUrgent: isUrgent, receiver: receiver, ticket: ticket)
    }

    /// Closes every stream; calls in flight fail.
    package func close() {
        isClosed = true
        timer?.cancel()
        retry?.cancel()
        nextReview?.cancel()
        let (before, parked) = (streams, routes.routes)
        streams = [:]
        routes = Routes()
        for stream in before.values { stream.close() }
        for route in parked { route.failAll(DatabaseError(.unavailable, "The gateway is shutting down")) }
    }

    /// Calls in flight or waiting, over all streams.
    package var inFlight: Int {
        streams.values.reduce(0) { $0 + $1.inFlight } + routes.routes.reduce(0) { $0 + $1.count }
    }

    /// Nobody is known to lead the shard.
    package static let noLeader = DatabaseError(.unavailable, "The shard has no leader")

    func observe(bookmark: Timestamp, epoch: MapEpoch) {
        if bookmark > self.bookmark { self.bookmark = bookmark }
    }

    func streamsChanged() {
        if hasReplicas {
            for index in routes.routes.indices where routes.routes[index].holdIfLost() {
                routes.streams[index] = nil
                isRerouting = true
            }
        }
        if isRerouting { reroute() }
        onChange?()
    }

    // MARK: Successors

    /// Leaves nodes whose successor the map names, where order is kept, and gives up those that are silent. A process
    /// that hangs does so for all its shards: the whole connection goes.
    func review(counts: Bool) {
        var (hung, isWaiting): ([NodeStream], Bool) = ([], false)
        for (index, route) in routes.routes.enumerated() {
            let verdict = route.review(
                counts: counts, reach: { stream(to: $0)?.isConnected ?? false },
                isOwed: { $0.owes { self.shardIndex(ofSlot: $0) == index } })
            switch verdict {
            case .settled: break
            case .moved:
                routes.streams[index] = nil
                isRerouting = true
            case .waiting: isWaiting = true
            case .hung(let stream): hung.append(stream)
            }
        }
        // Routes first: a receiver that is told of a failure may call again at once.
        for stream in hung { stream.abandon() }
        guard isWaiting || !hung.isEmpty, nextReview == nil, !isClosed else { return }
        nextReview = loop.schedule(afterMilliseconds: reviewPeriod) { [unowned self] in
            nextReview = nil
            review(counts: true)
            guard isRerouting else { return }
            reroute()
            onChange?()
        }
    }

    // MARK: Parked calls

    /// Keeps a call until its shard has a leader. Cold code.
    @inline(never)
    func park(
        _ slot: UInt32, _ size: Int, isWrite: Bool, _ receiver: any ReplyReceiver, _ ticket: UInt64,
        _ encode: (inout InvocationBatchEncoder) -> Void
    ) {
        guard let index = shardIndex(ofSlot: slot), !isClosed else { return receiver.failed(ticket, Self.noLeader) }
        guard size <= NodeStream.callLimit else {
            return receiver.failed(ticket, DatabaseError(.limitExceeded, "the arguments of one command exceed 12 MB"))
        }
        let call = ParkedCall(
            id: .max, receiver: receiver, ticket: ticket, isWrite: isWrite, slot: slot, body: encoded(encode),
            madeAt: loop.now)
        park(call, index)
    }

    /// Keeps a call until the shard at a position of `shards` has a leader.
    func park(_ call: ParkedCall, _ index: Int) {
        guard routes.routes[index].park(call) else { return call.receiver.failed(call.ticket, Self.noLeader) }
        isRerouting = true
        scheduleRetry()
    }

    /// A call as bytes, without an id.
    func encoded(_ encode: (inout InvocationBatchEncoder) -> Void) -> Bytes {
        encode(&scratch)
        var body: Bytes = []
        try? scratchDecoder.decode(scratch.message) { body = $0.body.bytes }  // Our own bytes: they decode.
        scratch.reset()
        return body
    }

    /// A node has refused the call as not its shard's leader, or was never sent it. `leader` is whom the node named.
    func refused(_ call: ParkedCall, by stream: NodeStream, leader: NodeID?) {
        if let home = Self.home(ofSlot: call.slot), !isClosed { return sendHome(call, home) }
        guard let index = shardIndex(ofSlot: call.slot), !isClosed else {
            return call.receiver.failed(call.ticket, Self.noLeader)
        }
        let route = routes.routes[index]
        route.refused(by: stream, leader: leader, now: loop.now)
        routes.streams[index] = route.target
        // Only a read that was asked of a follower comes back while the route is open: it is in no order.
        if let target = route.target { target.resend(call) } else { park(call, index) }
    }

    /// Looks for leaders, and sends what was parked to those that were found.
    func reroute() {
        isRerouting = false
        for index in routes.routes.indices where routes.streams[index] == nil {
            let route = routes.routes[index]
            if let stream = route.next(now: loop.now, stream: { stream(to: $0) }) {
                routes.streams[index] = stream
                for call in route.takeParked() { stream.resend(call) }
            } else if route.isWaiting {
                isRerouting = true
            }
        }
        if isRerouting { scheduleRetry() }
    }

    private func scheduleRetry() {
        guard retry == nil, !isClosed else { return }
        retry = loop.schedule(afterMilliseconds: ShardRoute.retryMilliseconds) { [unowned self] in
            retry = nil
            reroute()
        }
    }

    private func expire() {
        for stream in streams.values { stream.expire() }
        expireReads()
        if !attempts.isEmpty { tickAttempts() }
        if !openTransactions.isEmpty { tickTransactions() }
        let limit = loop.now
        for route in routes.routes { route.expire(madeBefore: limit &- min(limit, connectPatience)) }
        if isRerouting { reroute() }
    }

    /// The loop's time.
    var now: UInt64 { loop.now }

    /// Calls `body` after that time; nil: in this tick.
    package func after(milliseconds: Int?, _ body: @escaping () -> Void) {
        if let milliseconds { loop.schedule(afterMilliseconds: milliseconds, body) } else { loop.runLater(body) }
    }

    /// How the shard at a position of `shards` is reached.
    func route(_ index: Int) -> ShardRoute { routes.routes[index] }

    /// Whether a node is on this host.
    func isNear(_ node: NodeID) -> Bool { addresses[node].map { $0.host == nil } ?? false }

    /// The stream to a node, opened if need be; nil when the map does not say where it is.
    func stream(to node: NodeID) -> NodeStream? {
        if let stream = streams[node] { return stream }
        guard let address = addresses[node], !isClosed else { return nil }
        let stream: NodeStream
        if let local, local.id == node {
            stream = NodeStream(
                loop: loop, node: node, local: local.node, session: session, callTimeout: callTimeout, router: self)
        } else {
            stream = NodeStream(
                loop: loop, node: node, address: address, tls: address.host == nil ? nil : tls, session: session,
                callTimeout: callTimeout, connectPatience: connectPatience, router: self)
        }
        streams[node] = stream
        return stream
    }
}
