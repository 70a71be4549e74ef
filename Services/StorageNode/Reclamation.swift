import Base
import DataModel
import Storage

extension Node {
    /// How often it is looked whether garbage is collected, and how long at most.
    private static let lookMilliseconds = 20, looks = 500

    /// Has the stores of this node's replicas let go of what nobody may read any more, of some collections or (nil) of
    /// all: what dropped tables and deleted keys have left, then versions that the history's floor has passed.
    /// `rewrites`: their records are written anew as well. `done` is called later.
    ///
    /// Each replica has a store of its own, so this is done at every node. What is collected of dropped tables comes to
    /// followers by the log, and to their stores at a later flush, if it is late.
    func reclaim(
        _ collections: [CollectionID]?, rewrites: Bool, then done: @escaping (StatementError?) -> Void
    ) {
        for executor in executors {
            history.maintain(executor.store, nowMilliseconds: clock.wallMilliseconds)
            executor.garbage.demand()
        }
        collect(looks: Self.looks) { [self] in
            guard let flusher, !isDraining else { return loop.runLater { done(Self.drains) } }
            flusher.flushOnce { [self] in
                guard !isDraining else { return done(Self.drains) }
                let works = executors.map { $0.store.reclaiming(collections, rewrites: rewrites) }
                departures.reclaim(works) { [self] result in
                    switch result {
                    case .success(let ranges):
                        logger.info(
                            "reclaimed", ["ranges": .count(ranges), "rewritten": .count(rewrites ? 1 : 0)])
                        done(nil)
                    case .failure(let error): done(StatementError(.internalError, "the store cannot be read: \(error)"))
                    }
                }
            }
        }
    }

    private static let drains = StatementError(.cannotConnectNow, "this node is shutting down")

    /// Goes on when there is nothing to be collected by the leaders here, or it takes too long: it goes on by itself.
    private func collect(looks: Int, then done: @escaping () -> Void) {
        guard looks > 0, !isDraining, executors.contains(where: { $0.isServing && $0.garbage.isDemanded }) else {
            return done()
        }
        loop.schedule(afterMilliseconds: Self.lookMilliseconds) { [self] in collect(looks: looks - 1, then: done) }
    }
}
