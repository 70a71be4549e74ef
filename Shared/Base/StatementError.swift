/// Why a statement failed, in the words and with the fields that a SQL client is used to.
///
/// Parsers, the engine and the value types throw it; gateways of SQL dialects show all of it, others map `state` to a
/// code of their own. Fields follow the error messages of PostgreSQL's protocol (section 55.8 of its manual).
package struct StatementError: Error, Hashable, Sendable, CustomStringConvertible {
    package var state: SQLState
    package var message: String
    package var detail: String?
    package var hint: String?
    /// The character of the statement that the error is about, counted from 1; 0 if none.
    package var position: Int
    package var schema: String?
    package var table: String?
    package var column: String?
    package var constraint: String?
    package var dataType: String?

    package init(
        _ state: SQLState, _ message: String, detail: String? = nil, hint: String? = nil, position: Int = 0,
        schema: String? = nil, table: String? = nil, column: String? = nil, constraint: String? = nil,
        dataType: String? = nil
    ) {
        self.state = state
        self.message = message
        self.detail = detail
        self.hint = hint
        self.position = position
        self.schema = schema
        self.table = table
        self.column = column
        self.constraint = constraint
        self.dataType = dataType
    }

    /// An error of the value types and the data path, whose row has a SQLSTATE.
    package init(_ error: DatabaseError) {
        self.init(SQLState(rawValue: error.code.row.sqlState), error.message)
    }

    package var description: String { "\(state.rawValue): \(message)" }
}

/// Five characters that say what went wrong: class (two), condition (three). PostgreSQL's manual, appendix A.
package struct SQLState: RawRepresentable, Hashable, Sendable {
    package let rawValue: String

    package init(rawValue: String) { self.rawValue = rawValue }

    private init(_ rawValue: String) { self.rawValue = rawValue }
}

/// Those in use, by class. Names are PostgreSQL's condition names.
extension SQLState {
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
}
