import Base

/// Joins a gRPC connection to its socket: bytes both ways, its clock, its end.
///
/// Writing: calls append to their streams during the tick; at its end `flushAtTickEnd` turns them into frames and
/// makes one write. What does not fit stays in the streams until the socket takes more, so that it can still be
/// cancelled and each stream knows what it has queued. A server stops reading while the peer does not take its
/// answers; a client goes on reading, because two sides that wait for each other would wait for ever.
final class GRPCEndpoint: ConnectionHandler, GRPCConnectionOwner, TickFlushable {
    let connection: Connection
    var isFlushPending = false
    var onReady: (() -> Void)?
    var onDraining: (() -> Void)?
    /// The last call.
    var onClosed: ((GRPCStatus) -> Void)?
    private(set) var grpc: GRPCConnection?

    private let loop: EventLoop
    private let isServer: Bool
    private let drainLimit: Int
    private var timer: LoopTimer?
    private var timerTime = UInt64.max
    private var isCongested = false

    private static let roundsPerFlush = 8

    /// Takes over `connection`; as a server when `services` are given.
    init(_ connection: Connection, services: GRPCServices?, limits: GRPCLimits) throws(HTTP2Failure) {
        self.connection = connection
        loop = connection.loop
        isServer = services != nil
        drainLimit = limits.outputHighMark
        // Below the drain limit, so that output that stays behind is always announced by `outputDrained`.
        connection.options.outputHighWatermark = drainLimit / 2
        connection.options.outputLowWatermark = drainLimit / 8
        grpc = try GRPCConnection(services: services, limits: limits, peer: connection.peer, owner: self)
        connection.handler = self
    }

    // MARK: - For the connection

    func received(_ connection: Connection, _ input: inout ByteBuffer) {
        grpc?.feed(input.readable)
        input.removeAll()
        closeIfFinished()
    }

    func outputCongested(_ connection: Connection) {
        isCongested = true
        if isServer { connection.pauseReading() }
    }

    func outputDrained(_ connection: Connection) {
        isCongested = false
        if isServer { connection.resumeReading() }
        flushNeeded()
    }

    func closed(_ connection: Connection, _ reason: CloseReason) {
        timer?.cancel()
        timer = nil
        let status = grpc?.failureReason ?? GRPCStatus(.unavailable, "the connection ended: \(reason)")
        lose(status)
        end(status)
    }

    /// Gives the connection up. A client's channel hears of it before its calls do: they may make new ones at once,
    /// which must not go to the connection that is lost. A server hears when the calls have ended.
    private func lose(_ status: GRPCStatus) {
        if !isServer { end(status) }
        grpc?.lose(status)
    }

    private func end(_ status: GRPCStatus) {
        let onClosed = onClosed
        (self.onReady, self.onDraining, self.onClosed) = (nil, nil, nil)
        onClosed?(status)
    }

    /// Ends the connection because its protocol has ended or failed. Calls hear of a failure at once.
    private func closeIfFinished() {
        guard let grpc, grpc.isFinished else { return }
        if let failure = grpc.failureReason { lose(failure) }
        connection.close(afterFlush: true)
    }

    func close(_ status: GRPCStatus) {
        lose(status)
        connection.close(afterFlush: true)
    }

    /// The same at once: nothing more is read, and nothing that has not been delivered will be.
    func abandon(_ status: GRPCStatus) {
        lose(status)
        connection.reset()
    }

    // MARK: - For the gRPC connection

    var now: UInt64 { loop.now }

    func flushNeeded() {
        if isServer { loop.flushDownstream(self) } else { loop.flushUpstream(self) }
    }

    func flushAtTickEnd() {
        guard let grpc, connection.isOpen, !isCongested else { return }
        var rounds = 0
        while grpc.session.wantsWrite, connection.bufferedOutput < drainLimit, !isCongested {
            guard rounds < Self.roundsPerFlush else {
                flushNeeded()
                break
            }
            rounds += 1
            grpc.drain(into: &connection.output)
            connection.flush()
        }
        grpc.notify()
        closeIfFinished()
    }

    func wakeNeeded(at time: UInt64) {
        guard time < timerTime else { return }
        timer?.cancel()
        timerTime = time
        let delay = time > loop.now ? (time - loop.now + 999_999) / 1_000_000 : 0
        timer = loop.schedule(afterMilliseconds: Int(clamping: delay)) { [self] in
            timer = nil
            timerTime = .max
            grpc?.tick()
            closeIfFinished()
        }
    }

    func peerReady() { onReady?() }

    func peerDraining() { onDraining?() }
}
