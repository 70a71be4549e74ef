import Base
import Contracts
import Crypto

/// What all sessions of one gateway loop share: limits, the tables of settings and zones, who is connected, and this
/// tick's time. Pure like a session: the driver sets the clock and gives the random bytes. Loop-confined.
package final class PgServer {
    /// What bounds a session.
    package struct Limits: Sendable {
        package var clients = 10_000
        /// The longest message of a client that has logged in.
        package var message = 64 << 20
        /// Before it has: the longest message.
        package var login = 16 << 10
        /// What a client has not taken; more, and nothing is done for it until it has.
        package var output = 1 << 20
        /// What a client may send ahead of what is under way before nothing more is read.
        package var input = 256 << 10
        /// Prepared statements of a session, and the bytes of their texts.
        package var statements = 10_000, statementBytes = 64 << 20
        /// Portals of a session, and the bytes of their parameters.
        package var portals = 1_000, portalBytes = 64 << 20

        package init() {}
    }

    package let limits: Limits
    package let table: SettingsTable
    package let zones: TimeZoneNames
    /// Nobody has to log in.
    package let isOpen: Bool
    /// Clients can ask for TLS.
    package let offersTLS: Bool
    /// On TLS connections, ask for the password itself rather than for SCRAM.
    package let prefersClearPassword: Bool
    /// The names of the one database that a cluster is.
    package static let databases: Set<String> = ["orbit", "postgres"]

    /// Random bytes, injected by the driver.
    package var randomBytes: (Int) -> Bytes
    package var monotonicMilliseconds: UInt64 = 0
    /// Makes salts of users that do not exist: the same ones each time, while the process runs.
    let decoyKey: Bytes

    package private(set) var sessions: [Int32: PgSession] = [:]
    private var lastProcessID: Int32 = 0

    // Statistics since the start.
    package private(set) var connectionsReceived: UInt64 = 0
    package internal(set) var connectionsRefused: UInt64 = 0
    package internal(set) var loginsRefused: UInt64 = 0
    package internal(set) var statementCount: UInt64 = 0
    package internal(set) var errorCount: UInt64 = 0
    package internal(set) var protocolErrors: UInt64 = 0
    package internal(set) var rowCount: UInt64 = 0

    package init(
        limits: Limits = Limits(), zones: TimeZoneNames, isOpen: Bool = false, offersTLS: Bool = false,
        prefersClearPassword: Bool = false, randomBytes: @escaping (Int) -> Bytes
    ) {
        self.limits = limits
        table = SettingsTable()
        self.zones = zones
        self.isOpen = isOpen
        self.offersTLS = offersTLS
        self.prefersClearPassword = prefersClearPassword
        self.randomBytes = randomBytes
        decoyKey = randomBytes(32)
    }

    /// A session for a new connection. One too many is told so when it has said who it is.
    package func admit(_ runner: any PlanRunner, isEncrypted: Bool = false) -> PgSession {
        connectionsReceived &+= 1
        repeat {
            lastProcessID = lastProcessID == .max ? 1 : lastProcessID + 1
        } while sessions[lastProcessID] != nil
        let secret = randomBytes(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        let session = PgSession(
            id: lastProcessID, secret: Int32(bitPattern: secret), server: self, runner: runner,
            isSurplus: sessions.count >= limits.clients)
        session.isEncrypted = isEncrypted
        sessions[lastProcessID] = session
        return session
    }

    func remove(_ session: PgSession) { sessions[session.id] = nil }

    /// The session that a CancelRequest means, if it knows its secret.
    package func session(processID: Int32, secret: Int32) -> PgSession? {
        guard let session = sessions[processID], session.secret == secret else { return nil }
        return session
    }
}

/// What a session wants besides answers to the client and statements of its runner.
package enum PgSessionAction: Hashable, Sendable {
    /// Send what there is as it is, and encrypt from then on; tell by `encrypted`.
    case startTLS
    /// Read the user's record; answer with `userFound`.
    case findUser(String)
    /// Check a password against its verifiers, on a worker; answer with `passwordChecked`.
    case checkPassword(verifiers: [String], password: Bytes)
    /// The client has logged in: its time to do so is over.
    case loggedIn
    /// Cancel what another session does.
    case cancel(processID: Int32, secret: Int32)
    /// Stop reading from the client, and go on.
    case pauseReading, resumeReading
    /// Tell by `outputDrained` when the client has taken most of what it was sent.
    case awaitDrain
    /// Close when the output has been sent.
    case close
}
