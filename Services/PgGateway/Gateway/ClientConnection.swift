import Base
import Contracts
import Crypto
import GatewayKit
import Net

/// Carries out what a session decides: one object per client connection.
///
/// During a call of the session the connection's output is lent to it; what the session asks for is done right after.
final class ClientConnection: ConnectionHandler {
    /// How long a client may take to log in.
    private static let loginMilliseconds = 10_000

    let gateway: Gateway
    private let connection: Connection
    let session: PgSession

    init(_ gateway: Gateway, _ connection: Connection) {
        self.gateway = gateway
        self.connection = connection
        let runner = NodePlanRunner(gateway.router, loop: gateway.loop, connection: gateway.nextConnection())
        session = gateway.server.admit(runner, isEncrypted: connection.isEncrypted)
        connection.setDeadline(afterMilliseconds: Self.loginMilliseconds)
        runner.client = self
    }

    /// Calls `body` with the session: the only way to it once the connection serves. Never from inside another call.
    func event(_ body: (PgSession) -> Void) {
        gateway.beginEvent()
        swap(&connection.output, &session.output)
        body(session)
        let isFlushed = session.takesFlush()
        swap(&connection.output, &session.output)
        // Also when there is nothing to send: the memory that the connection has borrowed is given back then.
        if isFlushed { connection.setNeedsFlush() }
        if session.hasActions { for action in session.takeActions() { perform(action) } }
    }

    // MARK: The client

    func received(_ connection: Connection, _ input: inout ByteBuffer) { event { $0.receive(&input) } }

    func inputEnded(_ connection: Connection) { event { $0.inputEnded() } }

    func outputDrained(_ connection: Connection) { event { $0.outputDrained() } }

    func deadlineReached(_ connection: Connection) { connection.close(reason: .deadline) }

    func closed(_ connection: Connection, _ reason: CloseReason) {
        session.peerClosed()
        gateway.remove(self)
        connection.handler = nil
    }

    // MARK: What the session wants

    private func perform(_ action: PgSessionAction) {
        switch action {
        case .startTLS: startTLS()
        case .findUser(let name):
            gateway.users.fetch(name) { [self] result in event { $0.userFound(result) } }
        case .checkPassword(let verifiers, let password): check(password, verifiers)
        case .loggedIn: connection.clearDeadline()
        case .cancel(let processID, let secret):
            gateway.loop.runLater { [gateway] in gateway.cancel(processID: processID, secret: secret) }
        case .pauseReading: connection.pauseReading()
        case .resumeReading: connection.resumeReading()
        case .awaitDrain:
            // The watermarks speak only of output that the kernel did not take: look again after this tick's flush.
            gateway.loop.schedule(afterMilliseconds: 0) { [self] in lookAtOutput() }
        case .close: connection.close(afterFlush: true)
        }
    }

    /// Either everything went out at the end of the tick, or the connection says when it has.
    private func lookAtOutput() {
        guard connection.isOpen, connection.bufferedOutput <= connection.options.outputLowWatermark else { return }
        event { $0.outputDrained() }
    }

    private func startTLS() {
        guard let engine = gateway.makeTLS() else { return connection.close() }
        connection.startTLS(engine) { _ in }  // A failure closes the connection.
    }

    private func check(_ password: Bytes, _ verifiers: [String]) {
        guard !gateway.users.isBusy else {
            gateway.loop.runLater { [self] in
                event { $0.terminate(StatementError(.tooManyConnections, "too many logins at once, try again")) }
            }
            return
        }
        gateway.users.check(password, verifiers) { [self] match in event { $0.passwordChecked(match != nil) } }
    }
}
