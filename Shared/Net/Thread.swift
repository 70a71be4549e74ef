import Base
import CSystem
import Glibc

/// A kernel thread with a name.
package final class Thread: Sendable {
    private let handle: pthread_t

    private init(handle: pthread_t) { self.handle = handle }

    /// Waits for the thread's end; call exactly once.
    package func join() { pthread_join(handle, nil) }

    /// Runs `body` on a new thread; nil when the system has none left.
    package static func start(name: String, _ body: @escaping @Sendable () -> Void) -> Thread? {
        final class Box {
            let name: String
            let body: @Sendable () -> Void
            init(_ name: String, _ body: @escaping @Sendable () -> Void) { (self.name, self.body) = (name, body) }
        }
        let argument = Unmanaged.passRetained(Box(name, body))
        var handle = pthread_t()
        let code = pthread_create(
            &handle, nil,
            { raw in
                guard let raw else { return nil }
                let box = Unmanaged<Box>.fromOpaque(raw).takeRetainedValue()
                orbit_name_thread(String(decoding: box.name.utf8.prefix(15), as: UTF8.self))
                box.body()
                return nil
            }, argument.toOpaque())
        guard code == 0 else {
            argument.release()
            return nil
        }
        return Thread(handle: handle)
    }

    /// Runs `body` on a thread nobody waits for; on the caller's own when the system has none left.
    static func detach(name: String, _ body: @escaping @Sendable () -> Void) {
        guard let thread = start(name: name, body) else {
            body()
            return
        }
        pthread_detach(thread.handle)
    }
}

extension EventLoop {
    /// Runs the loop on a thread of its own until `stop`.
    package func startThread(name: String) throws(SystemError) -> Thread {
        guard let thread = Thread.start(name: name, { self.run() }) else {
            throw SystemError("pthread_create", code: EAGAIN)
        }
        return thread
    }
}
