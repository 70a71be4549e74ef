import Base
import CSystem
import Glibc

/// Signals as loop events, by the self-pipe trick: the handler writes one byte, the loop reads it.
///
/// Not a signalfd, because that needs every thread to block the signal, and a blocked mask is inherited by the
/// processes that `orbit` starts; handlers are not.
final class SignalSource: EventSource {
    private var pipeFDs: (read: Int32, write: Int32) = (-1, -1)
    private var handlers: [Int32: @Sendable () -> Void] = [:]

    /// Nil when the process has no descriptors left.
    init?(registeredOn loop: EventLoop) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { return nil }
        pipeFDs = (ends[0], ends[1])
        for end in ends {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        do throws(SystemError) {
            try loop.register(fd: ends[0], interest: .readable, source: self)
        } catch {
            for end in ends { close(end) }
            return nil
        }
    }

    // The pipe is never closed: a handler may write to it for as long as the process lives.

    func handle(_ signal: Int32, _ body: @escaping @Sendable () -> Void) {
        handlers[signal] = body
        _ = orbit_signal_to(signal, pipeFDs.write)
    }

    func ready(_ events: IOEvents) {
        var numbers: (UInt64, UInt64) = (0, 0)
        let arrived = withUnsafeMutableBytes(of: &numbers) { buffer in
            let count = read(pipeFDs.read, buffer.baseAddress, buffer.count)
            return Array(buffer.prefix(max(count, 0)))
        }
        for number in arrived { handlers[Int32(number)]?() }
    }
}
