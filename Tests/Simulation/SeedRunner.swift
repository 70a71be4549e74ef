import Base
import Glibc
import Synchronization

/// Runs seeds on several threads: each simulation has one thread of its own, and shares nothing.
final class SeedRunner: @unchecked Sendable {  // What threads share is in `state`.
    private struct State {
        var next: UInt64
        var left: UInt64
        var isOver = false
    }

    private let state: Mutex<State>
    private let body: @Sendable (UInt64) -> Bool

    /// `body` runs one seed, on any thread; false ends the run early.
    init(first: UInt64, count: UInt64, _ body: @escaping @Sendable (UInt64) -> Bool) {
        state = Mutex(State(next: first, left: count))
        self.body = body
    }

    /// Returns when all seeds are done.
    func run(threads count: Int) {
        var threads: [pthread_t] = []
        for _ in 1..<max(count, 1) {
            var thread = pthread_t()
            let code = pthread_create(
                &thread, nil,
                { pointer in
                    guard let pointer else { return nil }
                    Unmanaged<SeedRunner>.fromOpaque(pointer).takeUnretainedValue().work()
                    return nil
                }, Unmanaged.passUnretained(self).toOpaque())
            if code == 0 { threads.append(thread) }
        }
        work()
        for thread in threads { pthread_join(thread, nil) }
    }

    private func work() {
        while let seed = takeSeed() {
            if !body(seed) { state.withLock { $0.isOver = true } }
        }
    }

    private func takeSeed() -> UInt64? {
        state.withLock { state in
            guard state.left > 0, !state.isOver else { return nil }
            defer { (state.next, state.left) = (state.next &+ 1, state.left - 1) }
            return state.next
        }
    }

    /// As many threads as there are processors.
    static var processors: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }
}
