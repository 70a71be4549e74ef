import Base
import Contracts
import Crypto
import GatewayKit
import Net

/// What commands do to keys, from the nodes, for the clients that listen to it.
///
/// One stream for the whole gateway, to any node, which merges the shards (docs/changefeed.md). It is open while
/// somebody listens to channels of keys and `notify-keyspace-events` lets anything through. It asks for what the
/// clients want, and is opened anew, from where it was, when they want more, or when its node has gone: so nothing is
/// missed or told twice while the nodes still have it.
final class KeyspaceFeed: GRPCStreamHandler {
    /// A merged feed says ten times a second how far it is; one that is silent for so long is asked for elsewhere.
    private static let silence: UInt64 = 5_000_000_000
    /// How long a client waits at most for the feed to be there.
    private static let patience: UInt64 = 5_000_000_000
    /// A feed that brings more than is wanted is narrowed so often at most.
    private static let narrowing: UInt64 = 10_000_000_000
    private static let retryMilliseconds = 100

    private struct Waiter {
        let interest: KeyspaceInterest
        let since: UInt64
        let done: () -> Void
    }

    /// One commit at one shard.
    private struct Told: Hashable {
        let timestamp: Timestamp, shard: ShardID
    }

    private unowned let gateway: Gateway
    private let tls: TLSContext?
    private var channel: GRPCClientChannel?
    private var stream: GRPCClientStream?
    /// What the open stream brings.
    private var heard = KeyspaceInterest()
    /// Everything up to here was told; nil: it begins now.
    private var resolved: Timestamp?
    /// Where the open stream began.
    private var openedAfter: Timestamp?
    private var openedAt: UInt64 = 0, heardAt: UInt64 = 0
    /// What the stream brings has been told since it was opened: every shard knows that somebody listens.
    private var isLive = false
    /// What was told above `resolved`.
    private var told: Set<Told> = []
    private var waiters: [Waiter] = []
    private var attempts = 0
    private var isRetryScheduled = false
    private var isClosed = false
    /// Events that clients could be told of.
    private(set) var eventCount: UInt64 = 0

    init(_ gateway: Gateway, tls: TLSContext?) { (self.gateway, self.tls) = (gateway, tls) }

    private var server: ServerState { gateway.server }

    /// What clients listen to, or wait to.
    private var wanted: KeyspaceInterest {
        guard server.settings.notifications.isAny else { return KeyspaceInterest() }
        var wanted = server.channels.interest
        for waiter in waiters { wanted.formUnion(waiter.interest) }
        return wanted
    }

    /// Calls `done`, never from inside, when the feed brings what `interest` and all clients want; after a while in any
    /// case, for no client can do anything about it.
    func ensure(_ interest: KeyspaceInterest, _ done: @escaping () -> Void) {
        waiters.append(Waiter(interest: interest, since: gateway.loop.now, done: done))
        review()
    }

    /// Opens, widens, narrows or closes the stream; called every second, too.
    func review() {
        guard !isClosed else { return }
        let now = gateway.loop.now, wanted = wanted
        if wanted.isEmpty {
            close()
        } else if stream == nil {
            if !isRetryScheduled { open(wanted) }
        } else if !heard.covers(wanted) {
            var wider = heard
            wider.formUnion(wanted)
            reopen(wider)
        } else if now &- heardAt > Self.silence {
            attempts += 1
            reopen(heard)
        } else if heard != wanted, isLive, now &- openedAt > Self.narrowing {
            reopen(wanted)
        }
        answer(now)
    }

    private func answer(_ now: UInt64) {
        let wanted = wanted, isThere = wanted.isEmpty || isLive && heard.covers(wanted)
        let ready = waiters.filter { isThere || now &- $0.since > Self.patience }
        guard !ready.isEmpty else { return }
        waiters.removeAll { isThere || now &- $0.since > Self.patience }
        for waiter in ready { gateway.loop.runLater(waiter.done) }
    }

    /// The gateway ends.
    func stop() {
        isClosed = true
        close()
        for waiter in waiters { gateway.loop.runLater(waiter.done) }
        waiters = []
    }

    // MARK: The stream

    private func close() {
        leave()
        channel?.close()
        (channel, resolved, told, heard) = (nil, nil, [], KeyspaceInterest())
    }

    private func leave() {
        let left = stream
        (stream, isLive) = (nil, false)
        left?.cancel()
    }

    private func reopen(_ interest: KeyspaceInterest) {
        leave()
        open(interest)
    }

    private func open(_ interest: KeyspaceInterest) {
        let addresses = gateway.router.nodeAddresses
        guard !addresses.isEmpty else { return retryLater() }
        let address = addresses[attempts % addresses.count]
        if channel?.address != address {
            channel?.close()
            channel = GRPCClientChannel(
                loop: gateway.loop, address: address, tls: address.host == nil ? nil : tls, limits: Self.limits)
        }
        guard let channel else { return }
        var request = SubscribeRequest(wantsEvents: true)
        request.position = resolved.map { FeedPosition(resolved: $0) }
        request.databases = (0..<16).filter { interest.databases & 1 << UInt16($0) != 0 }
        request.patterns = interest.keys.map { Array($0) } ?? []
        (heard, openedAfter, openedAt, heardAt) = (interest, resolved, gateway.loop.now, gateway.loop.now)
        let fresh = channel.open(path: ChangeFeedPath.subscribe, handler: self)
        stream = fresh
        fresh.send { $0.append(request.encode()) }
        fresh.end()
    }

    private static var limits: GRPCLimits {
        var limits = GRPCLimits()
        limits.messageSize = 40 << 20
        return limits
    }

    private func retryLater() {
        guard !isRetryScheduled else { return }
        isRetryScheduled = true
        gateway.loop.schedule(afterMilliseconds: Self.retryMilliseconds) { [weak self] in
            self?.isRetryScheduled = false
            self?.review()
        }
    }

    func received(_ message: ByteView) {
        guard stream != nil else { return }
        gateway.beginEvent()
        heardAt = gateway.loop.now
        do throws(DatabaseError) {
            let position = try ChangeBatch.decode(message) { tell($0) }
            advance(to: position.resolved)
        } catch {
            attempts += 1
            leave()
            retryLater()
        }
    }

    /// Everything up to the timestamp was told.
    private func advance(to timestamp: Timestamp) {
        guard timestamp > .zero, timestamp >= resolved ?? .zero else { return }
        resolved = timestamp
        if !told.isEmpty { told = told.filter { $0.timestamp > timestamp } }
        // A stream that goes on says at once where it begins; only what comes after tells that all shards are there.
        guard !isLive, timestamp > openedAfter ?? .zero else { return }
        isLive = true
        answer(gateway.loop.now)
    }

    func closed(_ status: GRPCStatus) {
        guard stream != nil else { return }
        (stream, isLive) = (nil, false)
        attempts += 1
        // What was there in between is gone, for good.
        if status.code == .outOfRange { (resolved, told) = (nil, []) }
        retryLater()
    }

    // MARK: What it brings

    private func tell(_ change: Change) {
        guard change.kind == .events, change.timestamp > resolved ?? .zero,
            told.insert(Told(timestamp: change.timestamp, shard: change.shard)).inserted
        else { return }
        let classes = server.settings.notifications
        for item in change.events {
            for event in item.events where classes.includes(event) {
                eventCount &+= 1
                tell(event, item, classes)
            }
        }
    }

    private func tell(_ event: KeyEvent, _ item: KeyEvents, _ classes: NotificationClasses) {
        event.name.withUTF8Buffer { name in
            if classes.contains(.keyspace) {
                gateway.publish(Bytes("__keyspace@\(item.database)__:".utf8) + item.key, ByteView(name))
            }
            if classes.contains(.keyevent) {
                let channel = Bytes("__keyevent@\(item.database)__:".utf8) + Bytes(name)
                item.key.withUnsafeBytes { gateway.publish(channel, $0) }
            }
        }
    }
}
