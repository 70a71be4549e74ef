import Base
import Contracts
import Feeds
import Net

/// `orbit.v1.ChangeFeedService`: the changes of a shard that is led here, or of all shards, merged.
final class ChangeFeedService {
    /// Calls at once; more are refused.
    static let callLimit = 1024
    /// How long a subscriber may take nothing before its call is ended.
    static let patience: UInt64 = 30_000_000_000

    let node: Node
    let links: FeedLinks
    private var calls: [ObjectIdentifier: FeedCall] = [:]

    init(_ node: Node, _ links: FeedLinks) { (self.node, self.links) = (node, links) }

    /// Offers the methods on `server`.
    func register(on server: GRPCServer) {
        server.register(path: ChangeFeedPath.subscribe) { [self] stream in
            let call = FeedCall(self, stream)
            if calls.count < Self.callLimit {
                calls[ObjectIdentifier(call)] = call
            } else {
                stream.finish(GRPCStatus(.resourceExhausted, "This node has too many subscribers"))
            }
            return call
        }
    }

    fileprivate func remove(_ call: FeedCall) { calls[ObjectIdentifier(call)] = nil }

    var callCount: Int { calls.count }

    /// Called every 100 ms.
    func tick() {
        for call in Array(calls.values) { call.tick() }
    }

    func close() { links.close() }
}

/// One Subscribe call.
private final class FeedCall: GRPCStreamHandler, FeedConsumer {
    /// A batch is sent when it has so many bytes: foreign clients take 4 MiB.
    private static let batchBytes = 1 << 20

    private enum Source {
        case none
        case shard(ShardSubscription)
        case merged(MergedFeed)
    }

    private unowned let service: ChangeFeedService
    private let stream: GRPCServerStream
    private var source = Source.none
    private var hasRequest = false
    private var batch = ByteBuffer(capacity: 4096)
    /// How far the caller has got, when it has what was sent.
    private var sent: FeedPosition?
    private var blockedSince: UInt64?

    init(_ service: ChangeFeedService, _ stream: GRPCServerStream) { (self.service, self.stream) = (service, stream) }

    func received(_ message: ByteView) {
        guard !hasRequest else {
            return finish(DatabaseError(.protocolViolation, "Subscribe takes one request"))
        }
        hasRequest = true
        do throws(DatabaseError) {
            let request = try SubscribeRequest(decoding: message), filter = try FeedFilter(request)
            sent = request.position
            stream.sendHeaders()
            if let shard = request.shard {
                try subscribe(to: ShardID(rawValue: shard), request, filter)
            } else {
                let merged = try MergedFeed(service, request, filter, to: self)
                source = .merged(merged)
                merged.start()
            }
        } catch {
            finish(error)
        }
    }

    func receivedEnd() {
        if !hasRequest { finish(DatabaseError(.protocolViolation, "Subscribe takes one request")) }
    }

    private func subscribe(
        to shard: ShardID, _ request: SubscribeRequest, _ filter: FeedFilter
    ) throws(DatabaseError) {
        guard service.node.adopted?.map.shard(shard) != nil else {
            throw DatabaseError(.invalidArgument, "There is no shard \(shard)")
        }
        guard let executor = service.node.leader(of: shard), let feed = try executor.openFeed() else {
            return refuse(shard)
        }
        let subscription = ShardSubscription(
            feed, filter, wantsOldValues: request.wantsOldValues, from: request.position)
        subscription.attach(self)
        source = .shard(subscription)
        feed.add(subscription)
    }

    private func refuse(_ shard: ShardID) {
        let refusal = service.node.directions(to: shard)
        stream.finish(GRPCStatus(refusal.error), trailers: refusal.trailers)
    }

    // MARK: What is told

    var isReady: Bool { stream.isOpen && !stream.isFinished && stream.isWritable }

    func take(_ change: Change, _ position: FeedPosition) {
        ChangeBatch.append(change, to: &batch)
        if batch.count >= Self.batchBytes { send(position) }
    }

    func reached(_ position: FeedPosition, isMark: Bool) {
        guard !batch.isEmpty || isMark && position != sent || sent == nil else { return }
        send(position)
    }

    private func send(_ position: FeedPosition) {
        guard !stream.isFinished, stream.isOpen else { return }
        ChangeBatch.finish(position, &batch)
        let isSent = stream.send(batch.readable)
        batch.removeAll()
        batch.trim(to: 1 << 20)
        guard isSent else {
            return finish(DatabaseError(.limitExceeded, "A change is too large for a message"))
        }
        sent = position
    }

    func ended(_ error: DatabaseError) {
        source = .none
        finish(error)
    }

    /// Ends the call, and says where another one goes on.
    private func finish(_ error: DatabaseError) {
        batch.removeAll()
        var trailers = GRPCMetadata()
        if let sent, sent.resolved > .zero {
            trailers.add(ChangeFeedPath.resumeAfterTrailer, "\(sent.resolved)")
            trailers.add(ChangeFeedPath.resumeSkipTrailer, "\(sent.skip)")
        }
        stream.finish(GRPCStatus(error), trailers: trailers)
        leave()
    }

    private func leave() {
        let left = source
        source = .none
        switch left {
        case .none: break
        case .shard(let subscription): subscription.cancel()
        case .merged(let feed): feed.cancel()
        }
    }

    // MARK: The stream

    func tick() {
        if case .merged(let feed) = source { feed.tick() }
        guard !stream.isWritable else {
            blockedSince = nil
            return
        }
        let now = service.node.loop.now, since = blockedSince ?? now
        blockedSince = since
        if now &- since > ChangeFeedService.patience {
            finish(DatabaseError(.limitExceeded, "The subscriber has not taken anything for 30 s"))
        }
    }

    func writable() {
        switch source {
        case .none: break
        case .shard(let subscription): subscription.resume()
        case .merged(let feed): feed.resume()
        }
    }

    func draining() { finish(DatabaseError(.unavailable, "The server is shutting down")) }

    func closed(_ status: GRPCStatus) {
        leave()
        service.remove(self)
    }
}
