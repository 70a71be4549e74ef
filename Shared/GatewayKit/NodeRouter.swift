// GatewayKit: what every gateway shares on its way to the data.
//
// A gateway is stateless: it knows where a slot lives (the shard map, watched at the coordinator) and keeps one stream
// per loop and node (`NodeStream`). `NodeRouter` puts the two together: slot → bucket → shard → leader → stream, by
// table look-ups.
//
// Invariants. Calls of one client connection to one shard leave in the order they were made. A call is answered exactly
// once: by its reply, or by an error that says whether the outcome is known. Everything is confined to the loop.

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
        /// For each shard, its leader's stream.
        var streams: [NodeStream?] = []
    }

    private let loop: EventLoop
    private let tls: TLSContext?
    private let session: UInt64
    private let callTimeout: UInt64
    private let connectPatience: UInt64
    private var routes = Routes()
    private var streamsByAddress: [SocketAddress: NodeStream] = [:]
    private var timer: LoopTimer?

    /// The highest timestamp seen in a reply: handed to every node, so that nobody reads an older state than this
    /// gateway saw.
    package private(set) var bookmark = Timestamp.zero
    package private(set) var epoch = MapEpoch(rawValue: 0)
    /// Called when a stream came or went, and when the map changed: `isReady` may have changed.
    package var onChange: (() -> Void)?

    /// `session` is random per loop. A call waits up to `connectPatience` for a connection and then up to `callTimeout`
    /// for its answer, in milliseconds; how long it waited is seen every `checkPeriod`.
    package init(
        loop: EventLoop, tls: TLSContext?, session: UInt64, callTimeout: UInt64 = 30_000,
        connectPatience: UInt64 = 5_000, checkPeriod: Int = 250
    ) {
        self.loop = loop
        self.tls = tls
        self.session = session
        self.callTimeout = callTimeout * 1_000_000
        self.connectPatience = connectPatience * 1_000_000
        timer = loop.schedule(afterMilliseconds: checkPeriod, repeating: true) { [unowned self] in
            for stream in streamsByAddress.values { stream.expire() }
        }
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

    /// Where calls go that are for all of the data: one slot of each shard that has any.
    package var slotOfEachShard: [UInt32] { routes.shards.indices.compactMap { anySlot(ofShardIndex: $0) } }

    /// The first slot of a bucket: a scan's cursor names buckets. A bucket that does not exist counts as the first.
    package func firstSlot(ofBucket bucket: Int) -> UInt32 {
        bucket < routes.shardOfBucket.count ? UInt32(bucket * routes.slotsPerBucket) : 0
    }

    /// Adopts a shard map: streams to new leaders are opened, streams that lead nothing any more are closed.
    package func adopt(_ map: ShardMap) {
        guard map.epoch >= epoch else { return }
        epoch = map.epoch
        var fresh = Routes()
        fresh.slotsPerBucket = RoutingTable.slotCount / map.bucketCount
        fresh.shardOfBucket = Array(repeating: 0, count: map.bucketCount)
        var kept: [SocketAddress: NodeStream] = [:]
        for shard in map.shards {
            for bucket in shard.buckets.joined() { fresh.shardOfBucket[bucket] = fresh.shards.count }
            fresh.shards.append(shard.id)
            fresh.streams.append(leaderAddress(of: shard, in: map).map { stream(to: $0, keeping: &kept) })
        }
        // Routes first: a receiver that is told of a failure may call again at once.
        let before = streamsByAddress
        streamsByAddress = kept
        routes = fresh
        for (address, stream) in before where kept[address] == nil { stream.close() }
        onChange?()
    }

    /// Calls a method of the actor that `key` names, on the shard that owns `slot`.
    @inline(__always)
    package func call(
        connection: UInt64, slot: UInt32, method: Method, database: UInt8, key: ByteView, flags: UInt32,
        numbers: UnsafeBufferPointer<Int64>, arguments: UnsafeBufferPointer<ByteView>,
        receiver: any ReplyReceiver, ticket: UInt64
    ) {
        guard let index = shardIndex(ofSlot: slot), let stream = routes.streams[index] else {
            receiver.failed(ticket, Self.noLeader)
            return
        }
        stream.call(
            connection: connection, slot: slot, method: method, database: database, key: key, flags: flags,
            numbers: numbers, arguments: arguments, receiver: receiver, ticket: ticket)
    }

    /// Reads or writes a record directly, on the shard that owns `slot`.
    package func record(slot: UInt32, _ operation: RecordOperationView, receiver: any ReplyReceiver, ticket: UInt64) {
        guard let index = shardIndex(ofSlot: slot), let stream = routes.streams[index] else {
            receiver.failed(ticket, Self.noLeader)
            return
        }
        stream.record(slot: slot, operation, receiver: receiver, ticket: ticket)
    }

    /// Closes every stream; calls in flight fail.
    package func close() {
        timer?.cancel()
        let before = streamsByAddress
        streamsByAddress = [:]
        routes = Routes()
        for stream in before.values { stream.close() }
    }

    /// Calls in flight or waiting, over all streams.
    package var inFlight: Int { streamsByAddress.values.reduce(0) { $0 + $1.inFlight } }

    private static let noLeader = DatabaseError(.unavailable, "The shard has no leader")

    func observe(bookmark: Timestamp, epoch: MapEpoch) {
        if bookmark > self.bookmark { self.bookmark = bookmark }
    }

    func streamsChanged() { onChange?() }

    private func leaderAddress(of shard: ShardMap.Shard, in map: ShardMap) -> SocketAddress? {
        guard let leader = shard.leader, let node = map.node(leader), node.state == .up else { return nil }
        // A process of the same host is reached over its unix socket, at half the cost per call.
        return node.addresses.compactMap { try? SocketAddress(parsing: $0) }.first
    }

    private func stream(to address: SocketAddress, keeping kept: inout [SocketAddress: NodeStream]) -> NodeStream {
        let stream =
            kept[address] ?? streamsByAddress[address]
            ?? NodeStream(
                loop: loop, address: address, tls: address.host == nil ? nil : tls, session: session,
                callTimeout: callTimeout,
                connectPatience: connectPatience, router: self)
        kept[address] = stream
        return stream
    }
}
