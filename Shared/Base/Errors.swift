/// Every failure a client can see. One row holds every protocol's code; gateways read their own column.
///
/// The raw value is the code's wire form between processes: never renumber, only add.
package enum ErrorCode: Int32, CaseIterable, Hashable, Sendable {
    case internalFailure = 1
    case wrongType = 2
    case notAnInteger = 3
    case notAFloat = 4
    case overflow = 5
    case syntax = 6
    case invalidArgument = 7
    case noSuchKey = 8
    case featureNotSupported = 9
    case unknownCommand = 10
    case limitExceeded = 11
    case outOfMemory = 12
    case notLeader = 13
    case staleMap = 14
    case crossShard = 15
    case unavailable = 16
    case deadlineExceeded = 17
    case outcomeUnknown = 18
    case authenticationRequired = 19
    case authenticationFailed = 20
    case permissionDenied = 21
    case protocolViolation = 22
    case busy = 23
    case diskFull = 24
    case corruption = 25
    /// A call that came again: it was executed, and its reply is not there any more.
    case alreadyExecuted = 26
    /// This replica cannot prove that it is as fresh as a read below strong demands: the leader can.
    case tooStale = 27
    /// A transaction gave way to another one, and did nothing: it can be tried again.
    case transactionConflict = 28
    /// What an open transaction has read or writes was changed by another one since.
    case serializationFailure = 29
    /// The transaction was in a circle of transactions that wait for one another, and was chosen to end.
    case deadlock = 30
    /// A key is locked, and the call was not to wait.
    case lockNotAvailable = 31
    /// A lock did not get free in the time that the call may wait.
    case lockTimeout = 32
    /// The transaction failed before, or a shard has lost what it did there: only ROLLBACK is left.
    case transactionAborted = 33
    /// The transaction has done more than may be kept of one that is open.
    case transactionTooLarge = 34
    /// What was there at that time is not kept any more.
    case snapshotTooOld = 35
    /// No such transaction is open.
    case noSuchTransaction = 36
    /// The transaction was idle for too long, and has been rolled back.
    case idleTimeout = 37
    /// A text that is no value of the type that was asked for.
    case invalidText = 40
    case divisionByZero = 41
    /// The call was made by another version of the schema than the shard has.
    case staleSchema = 42
    /// A write where only reads are possible.
    case readOnly = 38

    /// SQLSTATE (PostgreSQL appendix A), MySQL error number, CQL error code (v5 section 9), gRPC status, RESP prefix.
    package struct Row: Hashable, Sendable {
        package let sqlState: String, mysql: UInt16, cql: UInt32, grpc: UInt8, http: UInt16, resp: String, retry: Retry
        /// True if replaying the operation on the same state fails identically on every replica.
        package let isDeterministic: Bool
    }

    /// What a client may do after the error.
    package enum Retry: Hashable, Sendable { case never, sameRequest, newTransaction, afterRefresh }

    package var row: Row {
        switch self {
        case .internalFailure: Self.row("XX000", 1105, 0x0000, 13, 500, "ERR", .never, false)
        case .wrongType: Self.row("42804", 1366, 0x2200, 9, 409, "WRONGTYPE", .never, true)
        case .notAnInteger: Self.row("22P02", 1366, 0x2200, 3, 400, "ERR", .never, true)
        case .notAFloat: Self.row("22P02", 1366, 0x2200, 3, 400, "ERR", .never, true)
        case .overflow: Self.row("22003", 1264, 0x2200, 11, 400, "ERR", .never, true)
        case .syntax: Self.row("42601", 1064, 0x2000, 3, 400, "ERR", .never, true)
        case .invalidArgument: Self.row("22023", 1210, 0x2200, 3, 400, "ERR", .never, true)
        case .noSuchKey: Self.row("02000", 1032, 0x2200, 5, 404, "ERR", .never, true)
        case .featureNotSupported: Self.row("0A000", 1235, 0x2200, 12, 501, "ERR", .never, true)
        case .unknownCommand: Self.row("42601", 1047, 0x2000, 12, 404, "ERR", .never, true)
        case .limitExceeded: Self.row("54000", 1153, 0x2200, 8, 413, "ERR", .never, true)
        case .outOfMemory: Self.row("53200", 1038, 0x1001, 8, 507, "OOM", .sameRequest, false)
        case .notLeader: Self.row("57P03", 1053, 0x1000, 14, 503, "TRYAGAIN", .afterRefresh, false)
        case .staleMap: Self.row("57P03", 1053, 0x1000, 14, 503, "TRYAGAIN", .afterRefresh, false)
        case .crossShard: Self.row("0A000", 1235, 0x2200, 12, 501, "CROSSSLOT", .never, true)
        case .unavailable: Self.row("57P03", 1053, 0x1000, 14, 503, "CLUSTERDOWN", .sameRequest, false)
        case .deadlineExceeded: Self.row("57014", 1317, 0x1200, 4, 504, "ERR", .sameRequest, false)
        case .outcomeUnknown: Self.row("08007", 1180, 0x1100, 2, 500, "ERR", .never, false)
        case .authenticationRequired: Self.row("28000", 1045, 0x0100, 16, 401, "NOAUTH", .never, true)
        case .authenticationFailed: Self.row("28P01", 1045, 0x0100, 16, 401, "WRONGPASS", .never, true)
        case .permissionDenied: Self.row("42501", 1142, 0x2100, 7, 403, "NOPERM", .never, true)
        case .protocolViolation: Self.row("08P01", 1835, 0x000A, 3, 400, "ERR", .never, true)
        case .busy: Self.row("53300", 1040, 0x1001, 8, 429, "BUSY", .sameRequest, false)
        case .diskFull: Self.row("53100", 1021, 0x0000, 8, 507, "MISCONF", .sameRequest, false)
        case .corruption: Self.row("XX001", 1030, 0x0000, 15, 500, "ERR", .never, false)
        case .alreadyExecuted: Self.row("55000", 1105, 0x2200, 6, 409, "ERR", .never, false)
        case .tooStale: Self.row("57P03", 1053, 0x1000, 14, 503, "TRYAGAIN", .afterRefresh, false)
        case .transactionConflict: Self.row("40001", 1213, 0x1000, 10, 409, "TRYAGAIN", .newTransaction, false)
        case .serializationFailure: Self.row("40001", 1213, 0x1000, 10, 409, "CONFLICT", .newTransaction, false)
        case .deadlock: Self.row("40P01", 1213, 0x1000, 10, 409, "DEADLOCK", .newTransaction, false)
        case .lockNotAvailable: Self.row("55P03", 3572, 0x1000, 9, 409, "LOCKED", .sameRequest, false)
        case .lockTimeout: Self.row("55P03", 1205, 0x1000, 4, 409, "LOCKED", .sameRequest, false)
        case .transactionAborted: Self.row("25P02", 1402, 0x2200, 10, 409, "EXECABORT", .newTransaction, false)
        case .transactionTooLarge: Self.row("54000", 1197, 0x2200, 8, 413, "ERR", .never, false)
        case .snapshotTooOld: Self.row("72000", 1412, 0x2200, 11, 410, "TOOOLD", .newTransaction, false)
        case .noSuchTransaction: Self.row("25P01", 1397, 0x2200, 5, 404, "NOTXN", .never, false)
        case .idleTimeout: Self.row("25P03", 1613, 0x1000, 10, 408, "EXECABORT", .newTransaction, false)
        case .invalidText: Self.row("22P02", 1366, 0x2200, 3, 400, "ERR", .never, true)
        case .divisionByZero: Self.row("22012", 1365, 0x2200, 11, 400, "ERR", .never, true)
        case .staleSchema: Self.row("57P03", 1053, 0x1000, 14, 503, "TRYAGAIN", .afterRefresh, false)
        case .readOnly: Self.row("25006", 1792, 0x2200, 9, 409, "READONLY", .never, false)
        }
    }

    private static func row(
        _ sqlState: String, _ mysql: UInt16, _ cql: UInt32, _ grpc: UInt8, _ http: UInt16, _ resp: String,
        _ retry: Retry, _ isDeterministic: Bool
    ) -> Row {
        Row(
            sqlState: sqlState, mysql: mysql, cql: cql, grpc: grpc, http: http, resp: resp, retry: retry,
            isDeterministic: isDeterministic)
    }
}

/// A failure on its way to a client: what kind, and in which words (without the dialect's prefix).
package struct DatabaseError: Error, Hashable, Sendable, CustomStringConvertible {
    package let code: ErrorCode
    package let message: String

    package init(_ code: ErrorCode, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { "\(code): \(message)" }
}
