import Base
import Contracts
import Net
import Placement

/// Keeps the newest shard map: watches the coordinator that leads, and watches again whenever the stream is lost.
///
/// No change is missed when another coordinator takes over: the new watch begins with the map that it has, unless that
/// is the one we have. While no coordinator is there the last map stays in force: data does not move without it. Maps
/// older than the one in force and maps of another cluster are refused, so that a coordinator restored from an old copy
/// does not turn routing back unnoticed. Confined to its loop.
package final class PlacementWatcher {
    /// The newest map; nil until the first came.
    package private(set) var map: ShardMap?
    /// Told of each new map, after `map` has it.
    package var onChange: ((ShardMap) -> Void)?

    private static let firstRetry = 100, lastRetry = 1_000

    private let coordinators: CoordinatorClient
    private let logger: Logger
    private var call: CoordinatorCall?
    private var retry: LoopTimer?
    private var retryDelay = PlacementWatcher.firstRetry
    private var isRunning = false

    /// `coordinators` may be shared with `NodeLease`.
    package init(coordinators: CoordinatorClient, logger: Logger) {
        self.coordinators = coordinators
        self.logger = logger
    }

    /// Begins to watch.
    package func start() {
        guard !isRunning else { return }
        isRunning = true
        open()
    }

    /// Ends watching; the map stays.
    package func stop() {
        isRunning = false
        retry?.cancel()
        retry = nil
        call?.cancel()
        call = nil
    }

    /// Takes a map that came by another way, such as the answer to a registration. False when it is refused.
    @discardableResult
    package func adopt(_ message: ShardMapMessage) -> Bool {
        do throws(DatabaseError) {
            let fresh = try ShardMap(message)
            if let map, map.cluster != fresh.cluster {
                logger.error("refused a shard map of another cluster", ["cluster": .count(fresh.cluster)])
                return false
            }
            guard fresh.epoch > map?.epoch ?? MapEpoch(rawValue: 0) else { return fresh.epoch == map?.epoch }
            map = fresh
            onChange?(fresh)
            return true
        } catch {
            logger.error("refused a shard map", ["error": .describing(error)])
            return false
        }
    }

    private func open() {
        let request = WatchRequest(knownEpoch: map?.epoch.rawValue ?? 0).encode()
        // Weak, because the call keeps them: a watcher that was let go must go.
        call = coordinators.stream(
            path: PlacementPath.watch, request: request, onMessage: { [weak self] in self?.received($0) },
            onClosed: { [weak self] in self?.closed($0) })
    }

    private func received(_ bytes: ByteView) {
        retryDelay = Self.firstRetry
        do throws(DatabaseError) {
            adopt(try ShardMapMessage(decoding: bytes))
        } catch {
            logger.error("unreadable shard map", ["error": .describing(error)])
        }
    }

    private func closed(_ status: GRPCStatus) {
        call = nil
        guard isRunning else { return }
        logger.debug("shard map watch ended", ["status": .describing(status)])
        retry = coordinators.loop.schedule(afterMilliseconds: retryDelay) { [weak self] in
            guard let self, isRunning else { return }
            open()
        }
        retryDelay = min(retryDelay * 2, Self.lastRetry)
    }
}
