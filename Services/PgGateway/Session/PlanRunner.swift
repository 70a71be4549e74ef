import Base
import Crypto
import DataModel

/// Who runs statements for a session: the seam between the protocol and the nodes. One runner serves one session.
///
/// A session has one statement under way at a time, named by its token; the runner answers with the session's methods
/// (`prepared`, `began`, `rows`, `completed`, `suspended`, `failed`, `copy…`), later and never from inside a call of
/// its own. Views are valid during the call only.
///
/// Transactions are the runner's to open: the first statement with `TransactionUse.within` begins one, and `control`
/// ends it. BEGIN alone reaches nobody. Cursors end with their transaction.
package protocol PlanRunner: AnyObject {
    /// Bind a statement against the catalog without running it: which parameters it has, and which columns it gives.
    /// Answer with `prepared` or `failed`.
    func prepare(_ token: UInt64, _ statement: PlannedStatement, types: [UInt32], _ context: SessionContext)

    /// Run a statement. Answer with `began` when rows follow and `call.wantsColumns`, `rows` any number of times, and
    /// then one of `completed`, `suspended`, `failed`; for COPY see `copyData`.
    func execute(_ token: UInt64, _ call: ExecuteCall, _ context: SessionContext)

    /// Go on with a cursor that was suspended; answered like `execute`, without `began`.
    func fetch(_ token: UInt64, cursor: UInt32, rowLimit: Int)

    /// The session can take rows again, after `rows` returned false.
    func resume(_ token: UInt64)

    /// Forget a cursor. Nothing is answered.
    func close(cursor: UInt32)

    /// End the transaction, or do something with its savepoints. Answer with `completed` or `failed`.
    func control(_ token: UInt64, _ control: TransactionControl, _ use: TransactionUse, _ context: SessionContext)

    /// Forget what the session has drawn from sequences.
    func forgetSequences()

    /// Give up what is under way, if the token is still that. It is answered with `failed` (57014), or as if nothing
    /// had been said.
    func cancel(_ token: UInt64)

    /// After `copyBegan(.fromClient)`: a piece of what the client sends. False: no more before `copyReady`.
    func copyData(_ token: UInt64, _ data: ByteView) -> Bool

    /// After `copyBegan(.fromClient)`: the client has sent everything (nil), or wants it undone, and why. Answer with
    /// `completed` or `failed`.
    func copyEnd(_ token: UInt64, failure: StatementError?)

    /// The session has ended: whatever is open is rolled back. Nothing is answered any more.
    func end()
}

/// A statement for a node: as written, and its plan.
package final class PlannedStatement: Hashable, Sendable {
    /// UTF-8 without zero bytes.
    package let text: Bytes
    /// Where its first character stands in what the client sent, from 0: added to the positions of errors.
    package let characterOffset: Int
    /// The first word, in lower case: for messages.
    package let verb: String
    /// The encoded plan, and by what nodes know it.
    package let plan: Bytes
    package let fingerprint: Bytes
    /// Values of the plan's parameters, which the client has written into the text.
    package let numbers: [LiftedNumber]

    package init(
        text: Bytes, characterOffset: Int = 0, verb: String = "", plan: Bytes = [], numbers: [LiftedNumber] = []
    ) {
        (self.text, self.characterOffset, self.verb, self.plan) = (text, characterOffset, verb, plan)
        self.numbers = numbers
        fingerprint = plan.isEmpty ? [] : Bytes(SHA256.hash(plan).prefix(16))
    }

    package static func == (left: PlannedStatement, right: PlannedStatement) -> Bool {
        left.text == right.text && left.characterOffset == right.characterOffset && left.plan == right.plan
            && left.numbers == right.numbers
    }

    package func hash(into hasher: inout Hasher) { hasher.combine(text) }

    private init(_ other: PlannedStatement, text: Bytes, numbers: [LiftedNumber]) {
        (self.text, characterOffset, verb, plan) = (text, other.characterOffset, other.verb, other.plan)
        (fingerprint, self.numbers) = (other.fingerprint, numbers)
    }

    /// The same plan, written with other numbers.
    func replacing(text: Bytes, numbers: [LiftedNumber]) -> PlannedStatement {
        PlannedStatement(self, text: text, numbers: numbers)
    }
}

/// What a statement is and gives, bound against the catalog of the moment.
package struct StatementDescription: Hashable, Sendable {
    package var parameters: [DataType]
    /// nil: it gives no rows.
    package var columns: [ResultColumn]?

    package init(parameters: [DataType], columns: [ResultColumn]?) {
        (self.parameters, self.columns) = (parameters, columns)
    }
}

/// A column of a result, and of which table's column it is, if of one.
package struct ResultColumn: Hashable, Sendable {
    package var name: String
    package var type: DataType
    package var table: UInt32 = 0, number: Int16 = 0

    package init(_ name: String, _ type: DataType, table: UInt32 = 0, number: Int16 = 0) {
        (self.name, self.type, self.table, self.number) = (name, type, table, number)
    }
}

/// A statement to run, with the values of its parameters as the client sent them.
package struct ExecuteCall {
    package let statement: PlannedStatement
    /// What `prepare` said; nil for a statement that was not prepared. If it does not hold any more, because the
    /// catalog has changed, the statement fails: "cached plan must not change result type" (0A000).
    package let description: StatementDescription?
    package let parameters: BoundParameters
    package let formats: FormatCodes
    package let use: TransactionUse
    /// Rows after which to suspend; 0: never. Statements that write run to their end all the same.
    package let rowLimit: Int
    /// Under this number the rest is fetched after a suspension, while the transaction is open.
    package let cursor: UInt32
    package var wantsColumns: Bool { description == nil }
}

/// How a statement relates to a transaction.
package enum TransactionUse: Hashable, Sendable {
    /// A transaction of its own, ended with it; a cursor does not outlive it.
    case alone
    /// The transaction that is open, or one that is opened now.
    case within(TransactionTerms)
}

/// What is done to an open transaction.
package enum TransactionControl: Hashable, Sendable {
    case commit, rollback
    case savepoint(String), release(String), rollbackTo(String)
    /// By which token others may join it: `completed` says it in place of a tag.
    case identify
    /// Take part in somebody else's, by its token; take part no more.
    case join(String), leave
}

/// How a transaction isolates.
package enum IsolationLevel: String, CaseIterable, Hashable, Sendable {
    /// Reads uncommitted are never given: as in PostgreSQL this is `readCommitted` under another name.
    case readUncommitted = "read uncommitted"
    case readCommitted = "read committed"
    case repeatableRead = "repeatable read"
    case serializable
}

/// What a transaction is begun with.
package struct TransactionTerms: Hashable, Sendable {
    package var isolation = IsolationLevel.readCommitted
    package var isReadOnly = false
    package var isDeferrable = false

    package init() {}
}

/// What statements depend on besides their text.
package struct SessionContext: Hashable, Sendable {
    package var user = ""
    /// Of the role as which the user has logged in; nil: it is a user of the cluster.
    package var roleNumber: UInt32?
    /// As SET SESSION AUTHORIZATION and SET ROLE say; `none` is no role.
    package var sessionUser = "", role = "none"
    package var database = ""
    package var applicationName = ""
    /// Names of schemas, as `search_path` has them: `"$user"` is not resolved.
    package var searchPath: [String] = []
    package var timeZone = "UTC"
    /// The order of day and month in what is read: `MDY`, `DMY` or `YMD`.
    package var dateOrder = "MDY"
    /// Settings of the planner (`planSwitches`) that are off.
    package var switchedOff: [String] = []
    /// What plans do without if they can, where it is off.
    package static let planSwitches = ["enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_hashagg"]
    /// Milliseconds; 0: none.
    package var statementTimeout: Int64 = 0, lockTimeout: Int64 = 0, idleInTransactionSessionTimeout: Int64 = 0
    /// Grows with every change of a setting: what equals a context of the same version need not be sent again.
    package var version: UInt64 = 0

    package init() {}
}

/// Rows of a result, one after another: records (DataModel, `RecordEncoding`), whose column n has the id n + 1. What a
/// record lacks is NULL.
package struct RowBatch {
    package let columnCount: Int
    package let records: [Bytes]

    package init(columnCount: Int, records: [Bytes]) { (self.columnCount, self.records) = (columnCount, records) }
}
