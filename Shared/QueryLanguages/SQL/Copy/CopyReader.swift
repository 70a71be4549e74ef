import Base

/// Reads the data of a COPY FROM, which comes in pieces that are cut anywhere, row by row.
///
/// A value: bytes go in by `append`, rows come out by `next`, which answers false when the next row is not there to
/// its end; after `finish` there is nothing more to come. Of a row the fields are at hand until the next one. The rules
/// are PostgreSQL's (copyfromparse.c of version 15), and so are the words of errors, with their CONTEXT.
///
/// Memory: what has come of one row, and of those that were not asked for yet.
package struct CopyReader: Sendable {
    /// Bytes that a row may have.
    package static let rowLimit = 64 << 20

    enum Newline { case unknown, feed, carriageReturn, both }

    let format: CopyFormat
    /// Of the quotes of CSV, where it is another character than they are.
    let escape: UInt8?
    package let table: String
    let columns: [String]
    let forceNotNull: [Bool], forceNull: [Bool]

    // What has come.
    var buffer: Bytes = []
    /// Where the row that is being read begins, and how far it was looked at.
    var start = 0, scan = 0
    var isFinished = false, isOver = false
    /// Counts rows, and line breaks within values.
    package internal(set) var line: UInt64 = 0

    // The line that is being looked for, and where it began: a value in quotes may have several.
    var isBegun = false
    private var firstLine: UInt64 = 0
    var newline = Newline.unknown
    var isQuoted = false, isEscaped = false
    /// All bytes of it, one over the other: whether there may be anything beside ASCII. And whether one is zero.
    var bits: UInt8 = 0, hasZero = false
    var isHeaderRead: Bool

    // The row: its line, its values behind one another, and where each is; `isNull` has no place.
    var row = 0..<0
    var isRowWhole = false
    var scratch: Bytes = []
    var fields: [(range: Range<Int>, isNull: Bool)] = []

    /// `columns` are those that the data has, in their order; `table` is named in errors. Throws where an option names
    /// a column that is not there. `isListed`: the statement has named the columns.
    package init(
        _ format: CopyFormat, table: String, columns: [String], isListed: Bool
    ) throws(StatementError) {
        (self.format, self.table, self.columns) = (format, table, columns)
        escape = format.escape == format.quote ? nil : format.escape
        forceNotNull = try CopyFormat.Columns.named(format.forceNotNull)
            .chosen(of: columns, table: table, option: "FORCE_NOT_NULL", isListed: isListed)
        forceNull = try CopyFormat.Columns.named(format.forceNull)
            .chosen(of: columns, table: table, option: "FORCE_NULL", isListed: isListed)
        isHeaderRead = format.kind != .binary && format.header == .none
    }

    // MARK: In

    /// Bytes that have come and are in no row yet.
    package var pending: Int { buffer.count - start }

    package mutating func append(_ view: ByteView) {
        guard !isOver else { return }
        isRowWhole = false
        if start > 0 {
            buffer.removeSubrange(0..<start)
            scan -= start
            start = 0
        }
        buffer.append(contentsOf: view)
    }

    /// There is nothing more.
    package mutating func finish() { isFinished = true }

    // MARK: Out

    /// Reads the next row. False: it is not there, or, once `finish` was called, there are no more.
    package mutating func next() throws(StatementError) -> Bool {
        if isOver { return false }
        if format.kind == .binary { return try nextTuple() }
        while !isOver {
            if scan == start, start == buffer.count {
                if isFinished { isOver = true }
                return false
            }
            if !isBegun { begin() }
            guard let found = try findLine() else {
                guard pending <= Self.rowLimit else { throw tooLong() }
                return false
            }
            (isBegun, isRowWhole) = (false, true)
            row = found
            try checkText()
            try split()
            if isHeaderRead { break }
            isHeaderRead = true
            if format.header == .match { try matchHeader() }
            fields = []
            if isOver { return false }
        }
        guard columns.isEmpty || fields.count <= columns.count else {
            throw inLine(StatementError(.badCopyFileFormat, "extra data after last expected column"))
        }
        return true
    }

    private mutating func begin() {
        line &+= 1
        (isBegun, firstLine) = (true, line)
        (isQuoted, isEscaped, isRowWhole) = (false, false, false)
        (bits, hasZero) = (0, false)
    }

    /// Fields of the row.
    package var count: Int { fields.count }

    /// A field of the row; nil: NULL. Throws where the row has ended before it.
    package func field(_ index: Int) throws(StatementError) -> Bytes? {
        guard let range = try range(of: index) else { return nil }
        return Bytes(scratch[range])
    }

    /// As `field`, without making it: `body` has it during the call only. Nil: NULL.
    package func withField<Result>(_ index: Int, _ body: (ByteView) -> Result) throws(StatementError) -> Result? {
        guard let range = try range(of: index) else { return nil }
        return scratch.withUnsafeBytes { body(ByteView(rebasing: $0[range])) }
    }

    private func range(of index: Int) throws(StatementError) -> Range<Int>? {
        guard fields.indices.contains(index) else {
            let name = columns.indices.contains(index) ? columns[index] : ""
            throw inLine(StatementError(.badCopyFileFormat, "missing data for column \"\(name)\""))
        }
        return fields[index].isNull ? nil : fields[index].range
    }

    // MARK: Errors

    /// The error with the field that it is about as its context.
    package func inColumn(_ error: StatementError, _ index: Int) -> StatementError {
        guard error.context == nil, columns.indices.contains(index) else { return error }
        var error = error
        error.context = "COPY \(table), line \(line), column \(columns[index])"
        guard format.kind != .binary else { return error }
        if fields.indices.contains(index), !fields[index].isNull {
            error.context? += ": \"\(Self.shown(scratch[fields[index].range]))\""
        } else {
            error.context? += ": null input"
        }
        return error
    }

    /// The error with the line that it is about as its context.
    package func inLine(_ error: StatementError) -> StatementError {
        guard error.context == nil else { return error }
        var error = error
        error.context = "COPY \(table), line \(line)"
        if isRowWhole, format.kind != .binary { error.context? += ": \"\(Self.shown(buffer[row]))\"" }
        return error
    }

    /// As much of it as is shown.
    private static func shown(_ bytes: ArraySlice<UInt8>) -> String {
        guard bytes.count > 100 else { return String(decoding: bytes, as: UTF8.self) }
        var end = bytes.startIndex + 100
        while end > bytes.startIndex, bytes[end] & 0xC0 == 0x80 { end -= 1 }
        return String(decoding: bytes[..<end], as: UTF8.self) + "..."
    }

    func tooLong() -> StatementError {
        inLine(StatementError(.programLimitExceeded, "a row of COPY data exceeds \(Self.rowLimit >> 20) MB"))
    }

    private func checkText() throws(StatementError) {
        guard hasZero || bits >= 0x80 else { return }
        var index = row.lowerBound
        while index < row.upperBound {
            let width = UTF8Width.character(buffer[index..<row.upperBound])
            guard width > 0 else {
                let count = min(UTF8Width.announced(buffer[index]), row.upperBound - index)
                let words = buffer[index..<index + count].map { "0x" + ($0 < 16 ? "0" : "") + String($0, radix: 16) }
                var error = StatementError(
                    .characterNotInRepertoire,
                    "invalid byte sequence for encoding \"UTF8\": \(words.joined(separator: " "))")
                error.context = "COPY \(table), line \(firstLine)"
                throw error
            }
            index += width
        }
    }

    private func matchHeader() throws(StatementError) {
        guard fields.count == columns.count else {
            throw inLine(
                StatementError(
                    .badCopyFileFormat,
                    "wrong number of fields in header line: got \(fields.count), expected \(columns.count)"))
        }
        for (index, column) in columns.enumerated() {
            let number = index + 1
            guard !fields[index].isNull else {
                let null = String(decoding: format.null, as: UTF8.self)
                throw inLine(
                    StatementError(
                        .badCopyFileFormat,
                        "column name mismatch in header line field \(number): got null value (\"\(null)\"), "
                            + "expected \"\(column)\""))
            }
            let name = String(decoding: scratch[fields[index].range], as: UTF8.self)
            guard name.utf8.elementsEqual(column.utf8) else {
                throw inLine(
                    StatementError(
                        .badCopyFileFormat,
                        "column name mismatch in header line field \(number): got \"\(name)\", expected \"\(column)\""
                    ))
            }
        }
    }
}

/// How many bytes a character of UTF-8 takes.
private enum UTF8Width {
    /// What the first byte says.
    static func announced(_ first: UInt8) -> Int {
        switch first {
        case 0xC0...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF7: 4
        case _: 1
        }
    }

    /// Of the character at the beginning; 0: it is none, or the zero that no text has.
    static func character(_ bytes: ArraySlice<UInt8>) -> Int {
        guard let first = bytes.first, first != 0 else { return 0 }
        if first < 0x80 { return 1 }
        let width = announced(first)
        guard width > 1, bytes.count >= width,
            String(validating: bytes.prefix(width), as: UTF8.self) != nil
        else { return 0 }
        return width
    }
}
