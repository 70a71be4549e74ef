import Base
import Net
import ServiceKit

/// Asks an admin port or the supervisor; a process that does not answer is status 0.
enum AdminClient {
    static func get(
        _ address: String, _ path: String, loop: EventLoop, timeoutMilliseconds: Int,
        _ completion: @escaping (_ status: Int, _ body: Bytes) -> Void
    ) {
        guard let address = try? SocketAddress(parsing: address) else { return completion(0, []) }
        HTTPClient.send(loop: loop, address, path, timeoutMilliseconds: timeoutMilliseconds) { result in
            switch result {
            case .success(let response): completion(response.status, response.body)
            case .failure: completion(0, [])
            }
        }
    }

    /// Asks and waits, on a loop of its own: for commands that have nothing else to do.
    static func ask(_ address: String, _ path: String) throws -> (status: Int, body: Bytes) {
        let loop = try EventLoop()
        var answer: (status: Int, body: Bytes) = (0, [])
        loop.schedule(afterMilliseconds: 0) {
            get(address, path, loop: loop, timeoutMilliseconds: 2000) { status, body in
                answer = (status, body)
                loop.stop()
            }
        }
        loop.run()
        return answer
    }

    /// The supervisor's view of the cluster; nil when none answers.
    static func supervisorStatus(_ paths: ClusterPaths) throws -> JSON? {
        let (status, body) = try ask("unix:\(paths.control)", "/status")
        return status == 200 ? try JSON(parsing: body) : nil
    }
}

/// Looks at a condition every 20 ms until it holds or the time is over; the loop does the waiting.
func poll(forMilliseconds limit: Int, every interval: Int = 20, until condition: () throws -> Bool) throws -> Bool {
    let clock = SystemClock()
    let end = clock.monotonicNanoseconds() + UInt64(limit) * 1_000_000
    while true {
        if try condition() { return true }
        guard clock.monotonicNanoseconds() < end else { return false }
        let loop = try EventLoop()
        loop.schedule(afterMilliseconds: interval) { loop.stop() }
        loop.run()
    }
}
