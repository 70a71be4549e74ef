/// Why a statement failed, in the words and with the fields that a SQL client is used to.
///
/// Parsers, the engine and the value types throw it; gateways of SQL dialects show all of it, others map `state` to a
/// code of their own. Fields follow the error messages of PostgreSQL's protocol (section 55.8 of its manual).
///
/// What most errors do not have lies behind a reference: every function that may throw one has room for it in its
/// frame, and parsers recurse.
package struct StatementError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What only some errors have.
    private struct Fields: Hashable, Sendable {
        var detail: String?, hint: String?
        var schema: String?, table: String?, column: String?, constraint: String?, dataType: String?
        var context: String?
        var row = 0
    }

    private indirect enum Further: Hashable, Sendable {
        case none
        case some(Fields)
    }

    package var state: SQLState
    package var message: String
    /// The character of the statement that the error is about, counted from 1; 0 if none.
    package var position: Int
    private var further = Further.none

    package init(
        _ state: SQLState, _ message: String, detail: String? = nil, hint: String? = nil, position: Int = 0,
        schema: String? = nil, table: String? = nil, column: String? = nil, constraint: String? = nil,
        dataType: String? = nil, context: String? = nil
    ) {
        (self.state, self.message, self.position) = (state, message, position)
        fields = Fields(
            detail: detail, hint: hint, schema: schema, table: table, column: column, constraint: constraint,
            dataType: dataType, context: context)
    }

    /// An error of the value types and the data path, whose row has a SQLSTATE.
    package init(_ error: DatabaseError) {
        self.init(SQLState(rawValue: error.code.row.sqlState), error.message)
    }

    package var description: String { "\(state.rawValue): \(message)" }

    private var fields: Fields {
        get { if case .some(let fields) = further { fields } else { Fields() } }
        set { further = newValue == Fields() ? .none : .some(newValue) }
    }

    /// A second sentence, and advice.
    package var detail: String? {
        get { fields.detail }
        set { fields.detail = newValue }
    }
    package var hint: String? {
        get { fields.hint }
        set { fields.hint = newValue }
    }

    // The names of what it is about.
    package var schema: String? {
        get { fields.schema }
        set { fields.schema = newValue }
    }
    package var table: String? {
        get { fields.table }
        set { fields.table = newValue }
    }
    package var column: String? {
        get { fields.column }
        set { fields.column = newValue }
    }
    package var constraint: String? {
        get { fields.constraint }
        set { fields.constraint = newValue }
    }
    package var dataType: String? {
        get { fields.dataType }
        set { fields.dataType = newValue }
    }

    /// Where it came about, beside the statement: the line of a COPY.
    package var context: String? {
        get { fields.context }
        set { fields.context = newValue }
    }
    /// The row of the statement's input that it is about, counted from 1; 0 if none.
    package var row: Int {
        get { fields.row }
        set { fields.row = newValue }
    }
}

/// Five characters that say what went wrong: class (two), condition (three). PostgreSQL's manual, appendix A.
package struct SQLState: RawRepresentable, Hashable, Sendable {
    package let rawValue: String

    package init(rawValue: String) { self.rawValue = rawValue }

    private init(_ rawValue: String) { self.rawValue = rawValue }
}

/// Those in use, by class. Names are PostgreSQL's condition names.
extension SQLState {
    package static let successfulCompletion = SQLState("00000")
    package static let featureNotSupported = SQLState("0A000")

    // Class 22: data exceptions.
    package static let dataException = SQLState("22000")
    package static let stringDataRightTruncation = SQLState("22001")
    package static let nullValueNotAllowed = SQLState("22004")
    package static let numericValueOutOfRange = SQLState("22003")
    package static let invalidDatetimeFormat = SQLState("22007")
    package static let datetimeFieldOverflow = SQLState("22008")
    package static let intervalFieldOverflow = SQLState("22015")
    package static let invalidTimeZoneDisplacementValue = SQLState("22009")
    package static let divisionByZero = SQLState("22012")
    package static let characterNotInRepertoire = SQLState("22021")
    package static let invalidParameterValue = SQLState("22023")
    package static let arraySubscriptError = SQLState("2202E")
    package static let untranslatableCharacter = SQLState("22P05")
    package static let invalidTextRepresentation = SQLState("22P02")
    package static let invalidBinaryRepresentation = SQLState("22P03")
    package static let invalidJSONText = SQLState("22032")

    // Class 42: syntax errors and access rule violations.
    package static let syntaxError = SQLState("42601")
    package static let datatypeMismatch = SQLState("42804")
    package static let undefinedObject = SQLState("42704")
    package static let undefinedFunction = SQLState("42883")

    // Class 54: program limits exceeded.
    package static let programLimitExceeded = SQLState("54000")
    package static let statementTooComplex = SQLState("54001")

    package static let internalError = SQLState("XX000")

    // Warnings and no data.
    package static let warning = SQLState("01000")
    package static let noData = SQLState("02000")

    // Connections and the protocol.
    package static let connectionFailure = SQLState("08006")
    package static let transactionResolutionUnknown = SQLState("08007")
    package static let protocolViolation = SQLState("08P01")

    // Cardinality.
    package static let invalidGrantOperation = SQLState("0LP01")
    package static let invalidRoleSpecification = SQLState("0P000")
    package static let cardinalityViolation = SQLState("21000")

    // Data exceptions that few name.
    package static let sequenceGeneratorLimitExceeded = SQLState("2200H")
    package static let substringError = SQLState("22011")
    package static let invalidPrecedingOrFollowingSize = SQLState("22013")
    package static let invalidArgumentForNtile = SQLState("22014")
    package static let invalidArgumentForNthValue = SQLState("22016")
    package static let invalidUseOfEscapeCharacter = SQLState("2200C")
    package static let invalidEscapeCharacter = SQLState("22019")
    package static let invalidEscapeSequence = SQLState("22025")
    package static let stringDataLengthMismatch = SQLState("22026")
    package static let invalidRegularExpression = SQLState("2201B")
    package static let invalidArgumentForLogarithm = SQLState("2201E")
    package static let invalidArgumentForPowerFunction = SQLState("2201F")
    package static let invalidArgumentForWidthBucket = SQLState("2201G")
    package static let invalidRowCountInLimitClause = SQLState("2201W")
    package static let invalidRowCountInResultOffsetClause = SQLState("2201X")
    package static let duplicateJSONObjectKeyValue = SQLState("22030")
    package static let invalidSQLJSONSubscript = SQLState("22033")
    package static let badCopyFileFormat = SQLState("22P04")

    // Constraints.
    package static let integrityConstraintViolation = SQLState("23000")
    package static let restrictViolation = SQLState("23001")
    package static let notNullViolation = SQLState("23502")
    package static let foreignKeyViolation = SQLState("23503")
    package static let uniqueViolation = SQLState("23505")
    package static let checkViolation = SQLState("23514")
    package static let withCheckOptionViolation = SQLState("44000")

    // Cursors, transactions, names of a session.
    package static let invalidCursorState = SQLState("24000")
    package static let invalidTransactionState = SQLState("25000")
    package static let activeSQLTransaction = SQLState("25001")
    package static let readOnlySQLTransaction = SQLState("25006")
    package static let noActiveSQLTransaction = SQLState("25P01")
    package static let inFailedSQLTransaction = SQLState("25P02")
    package static let idleInTransactionSessionTimeout = SQLState("25P03")
    package static let invalidSQLStatementName = SQLState("26000")
    package static let invalidAuthorizationSpecification = SQLState("28000")
    package static let invalidPassword = SQLState("28P01")
    package static let dependentObjectsStillExist = SQLState("2BP01")
    package static let invalidCursorName = SQLState("34000")
    package static let invalidSavepointSpecification = SQLState("3B001")
    package static let invalidCatalogName = SQLState("3D000")
    package static let invalidSchemaName = SQLState("3F000")
    package static let serializationFailure = SQLState("40001")
    package static let statementCompletionUnknown = SQLState("40003")
    package static let deadlockDetected = SQLState("40P01")

    // Names, types and rules.
    package static let insufficientPrivilege = SQLState("42501")
    package static let invalidName = SQLState("42602")
    package static let invalidColumnDefinition = SQLState("42611")
    package static let nameTooLong = SQLState("42622")
    package static let duplicateColumn = SQLState("42701")
    package static let ambiguousColumn = SQLState("42702")
    package static let undefinedColumn = SQLState("42703")
    package static let duplicateObject = SQLState("42710")
    package static let duplicateAlias = SQLState("42712")
    package static let duplicateFunction = SQLState("42723")
    package static let ambiguousFunction = SQLState("42725")
    package static let groupingError = SQLState("42803")
    package static let wrongObjectType = SQLState("42809")
    package static let invalidForeignKey = SQLState("42830")
    package static let cannotCoerce = SQLState("42846")
    package static let generatedAlways = SQLState("428C9")
    package static let reservedName = SQLState("42939")
    package static let undefinedTable = SQLState("42P01")
    package static let undefinedParameter = SQLState("42P02")
    package static let duplicateCursor = SQLState("42P03")
    package static let duplicateDatabase = SQLState("42P04")
    package static let duplicatePreparedStatement = SQLState("42P05")
    package static let duplicateSchema = SQLState("42P06")
    package static let duplicateTable = SQLState("42P07")
    package static let ambiguousParameter = SQLState("42P08")
    package static let ambiguousAlias = SQLState("42P09")
    package static let invalidColumnReference = SQLState("42P10")
    package static let invalidCursorDefinition = SQLState("42P11")
    package static let invalidFunctionDefinition = SQLState("42P13")
    package static let invalidPreparedStatementDefinition = SQLState("42P14")
    package static let invalidSchemaDefinition = SQLState("42P15")
    package static let invalidTableDefinition = SQLState("42P16")
    package static let invalidObjectDefinition = SQLState("42P17")
    package static let indeterminateDatatype = SQLState("42P18")
    package static let invalidRecursion = SQLState("42P19")
    package static let windowingError = SQLState("42P20")
    package static let collationMismatch = SQLState("42P21")
    package static let indeterminateCollation = SQLState("42P22")

    // Resources, states and interventions.
    package static let diskFull = SQLState("53100")
    package static let outOfMemory = SQLState("53200")
    package static let tooManyConnections = SQLState("53300")
    package static let tooManyColumns = SQLState("54011")
    package static let tooManyArguments = SQLState("54023")
    package static let objectNotInPrerequisiteState = SQLState("55000")
    package static let objectInUse = SQLState("55006")
    package static let cantChangeRuntimeParam = SQLState("55P02")
    package static let lockNotAvailable = SQLState("55P03")
    package static let queryCanceled = SQLState("57014")
    package static let adminShutdown = SQLState("57P01")
    package static let idleSessionTimeout = SQLState("57P05")
    package static let cannotConnectNow = SQLState("57P03")
    package static let snapshotTooOld = SQLState("72000")
    package static let dataCorrupted = SQLState("XX001")
}

extension StatementError {
    /// `title` is what the statement, or the function, is called: `SELECT FOR UPDATE`, `nextval()`.
    package static func inReadOnlyTransaction(_ title: String) -> StatementError {
        StatementError(.readOnlySQLTransaction, "cannot execute \(title) in a read-only transaction")
    }
}
