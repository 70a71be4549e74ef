import Base
import Contracts
import Crypto
import Feeds
import Net
import Placement

/// Connections to other nodes for the feeds of the shards that they lead.
final class FeedLinks {
    private let loop: EventLoop
    private let tls: TLSContext?
    private var channels: [String: GRPCClientChannel] = [:]
    private var isClosed = false

    init(loop: EventLoop, tls: TLSContext?) { (self.loop, self.tls) = (loop, tls) }

    func channel(to address: String) throws(DatabaseError) -> GRPCClientChannel {
        if let known = channels[address] { return known }
        guard !isClosed else { throw DatabaseError(.unavailable, "The node is shutting down") }
        let parsed = try SocketAddress(parsing: address)
        let channel = GRPCClientChannel(
            loop: loop, address: parsed, tls: parsed.host == nil ? nil : tls, limits: InvocationStream.limits)
        channels[address] = channel
        return channel
    }

    func close() {
        isClosed = true
        for channel in channels.values { channel.close() }
        channels = [:]
    }
}

/// The feeds of all shards as one, in the order of timestamps. Each shard's is taken from where it is led, and taken
/// anew, from where it was, when its leader changes, or when it has run too far ahead of the others.
final class MergedFeed {
    /// Bytes of a shard's changes that wait for other shards, or for the subscriber.
    static let aheadLimit = 4 << 20

    fileprivate let service: ChangeFeedService
    fileprivate let request: SubscribeRequest
    fileprivate let filter: FeedFilter
    private weak var consumer: (any FeedConsumer)?
    fileprivate var merge: FeedMerge
    private var cursor: FeedCursor
    private var sources: [FeedSource] = []
    private var isPumping = false

    init(
        _ service: ChangeFeedService, _ request: SubscribeRequest, _ filter: FeedFilter, to consumer: any FeedConsumer
    ) throws(DatabaseError) {
        (self.service, self.request, self.filter, self.consumer) = (service, request, filter, consumer)
        guard let map = service.node.adopted?.map, !map.shards.isEmpty else {
            throw DatabaseError(.unavailable, "This node has no shard map yet")
        }
        let start = request.position ?? FeedPosition(resolved: .zero)
        merge = FeedMerge(map.shards.map(\.id), from: start)
        cursor = FeedCursor(start)
    }

    func start() {
        sources = merge.shards.map { FeedSource($0, of: self) }
        for source in sources { source.open() }
        // Where nothing was asked for, the caller hears of the position when every shard has said its own.
        if request.position != nil { consumer?.reached(cursor.position, isMark: true) }
    }

    func cancel() {
        let left = sources
        sources = []
        for source in left { source.close() }
    }

    func tick() {
        for source in sources { source.tick() }
        if cursor.position.resolved > .zero { consumer?.reached(cursor.position, isMark: true) }
    }

    func resume() { pump() }

    fileprivate func fail(_ error: DatabaseError) {
        let consumer = consumer
        cancel()
        consumer?.ended(error)
    }

    /// Tells what is certain by now.
    fileprivate func pump() {
        guard !isPumping, !sources.isEmpty else { return }
        isPumping = true
        var isAtEnd = false
        while !isAtEnd, consumer?.isReady ?? false {
            if let change = merge.next() {
                if cursor.take(change) { consumer?.take(change, cursor.position) }
            } else {
                isAtEnd = true
            }
        }
        if isAtEnd {
            cursor.resolve(merge.resolved)
            if cursor.position.resolved > .zero { consumer?.reached(cursor.position, isMark: false) }
        }
        isPumping = false
        for source in sources where merge.cost(of: source.shard) < Self.aheadLimit / 2 { source.goOn() }
    }
}

/// One shard's feed, wherever it is led.
private final class FeedSource: FeedConsumer, GRPCStreamHandler {
    /// A shard says how far it is ten times a second; one that is silent for so long is asked elsewhere.
    private static let silenceLimit: UInt64 = 5_000_000_000
    private static let retryNanoseconds: UInt64 = 100_000_000

    private enum State {
        case waiting(until: UInt64)
        case local(ShardSubscription)
        case remote(GRPCClientStream)
        /// It has run ahead: taken anew when there is room.
        case parked
        case closed
    }

    let shard: ShardID
    private unowned let feed: MergedFeed
    private var state = State.closed
    private var heardAt: UInt64 = 0

    init(_ shard: ShardID, of feed: MergedFeed) { (self.shard, self.feed) = (shard, feed) }

    private var node: Node { feed.service.node }

    private var position: FeedPosition? { feed.merge.position(of: shard).flatMap { $0.resolved > .zero ? $0 : nil } }

    // MARK: Opening and closing

    func open() {
        heardAt = node.loop.now
        do throws(DatabaseError) {
            if let executor = node.leader(of: shard), let local = try executor.openFeed() {
                let subscription = ShardSubscription(
                    local, feed.filter, wantsOldValues: feed.request.wantsOldValues, from: position)
                subscription.attach(self)
                state = .local(subscription)
                local.add(subscription)
            } else if let address = node.leaderAddresses(of: shard).first {
                try openRemote(address)
            } else {
                retryLater()
            }
        } catch {
            retryLater()
        }
    }

    private func openRemote(_ address: String) throws(DatabaseError) {
        var request = feed.request
        (request.position, request.shard) = (position, shard.rawValue)
        let stream = try feed.service.links.channel(to: address).open(path: ChangeFeedPath.subscribe, handler: self)
        state = .remote(stream)
        stream.send { $0.append(request.encode()) }
        stream.end()
    }

    private func retryLater() { state = .waiting(until: node.loop.now &+ Self.retryNanoseconds) }

    /// Leaves whoever it listens to.
    private func leave(_ next: State) {
        let left = state
        state = next
        switch left {
        case .local(let subscription): subscription.cancel()
        case .remote(let stream): stream.cancel()
        case .waiting, .parked, .closed: break
        }
    }

    func close() { leave(.closed) }

    /// There is room again.
    func goOn() {
        switch state {
        case .parked: open()
        case .local(let subscription): subscription.resume()
        case .waiting, .remote, .closed: break
        }
    }

    func tick() {
        switch state {
        case .waiting(let until): if node.loop.now >= until { open() }
        case .remote:
            if node.loop.now &- heardAt > Self.silenceLimit {
                leave(.parked)
                retryLater()
            }
        case .local, .parked, .closed: break
        }
    }

    // MARK: Led here

    var isReady: Bool { feed.merge.cost(of: shard) < MergedFeed.aheadLimit }

    func take(_ change: Change, _ position: FeedPosition) { feed.merge.append(change, from: shard) }

    func reached(_ position: FeedPosition, isMark: Bool) {
        feed.merge.advance(shard, to: position)
        feed.pump()
    }

    func ended(_ error: DatabaseError) {
        guard case .local = state else { return }
        retryLater()
        if error.code.row.retry == .newTransaction { feed.fail(error) }
    }

    // MARK: Led elsewhere

    func received(_ message: ByteView) {
        guard case .remote(let stream) = state else { return }
        heardAt = node.loop.now
        do throws(DatabaseError) {
            var changes: [Change] = []
            let position = try ChangeBatch.decode(message) { changes.append($0) }
            for change in changes { feed.merge.append(change, from: shard) }
            feed.merge.advance(shard, to: position)
        } catch {
            leave(.parked)
            return retryLater()
        }
        feed.pump()
        if case .remote(let current) = state, current === stream, !isReady { leave(.parked) }
    }

    func closed(_ status: GRPCStatus) {
        guard case .remote = state else { return }
        retryLater()
        if status.code == .outOfRange { feed.fail(DatabaseError(.snapshotTooOld, status.message)) }
    }
}
