import Base

/// Writes the data of a COPY TO as PostgreSQL does: lines of text or CSV, or its binary format.
package struct CopyWriter: Sendable {
    package let format: CopyFormat
    private let forceQuote: [Bool]

    /// `columns` are those of the rows. Throws where an option names one that is not there. `isListed`: the statement
    /// has named them.
    package init(
        _ format: CopyFormat, table: String, columns: [String], isListed: Bool
    ) throws(StatementError) {
        self.format = format
        forceQuote = try format.forceQuote.chosen(
            of: columns, table: table, option: "FORCE_QUOTE", isListed: isListed)
    }

    /// What comes before the rows; nil: nothing.
    package func header(_ columns: [String]) -> Bytes? {
        switch format.kind {
        case .binary: return CopyReader.signature + Bytes(repeating: 0, count: 8)
        case .text, .csv:
            guard format.header != .none else { return nil }
            var line: Bytes = []
            for (index, column) in columns.enumerated() {
                separate(index, &line)
                let name = Bytes(column.utf8)
                if format.kind == .csv {
                    appendCSV(name[...], isForced: false, isAlone: columns.count == 1, &line)
                } else {
                    appendText(name[...], &line)
                }
            }
            line.append(UInt8(ascii: "\n"))
            return line
        }
    }

    /// What comes behind the rows; nil: nothing.
    package var trailer: Bytes? { format.kind == .binary ? [0xFF, 0xFF] : nil }

    /// A row of text or CSV; nil is NULL. The values are those of output functions.
    package func line(_ values: [Bytes?]) -> Bytes {
        var line: Bytes = []
        for (index, value) in values.enumerated() {
            separate(index, &line)
            guard let value else {
                line += format.null
                continue
            }
            if format.kind == .csv {
                let isForced = index < forceQuote.count && forceQuote[index]
                appendCSV(value[...], isForced: isForced, isAlone: values.count == 1, &line)
            } else {
                appendText(value[...], &line)
            }
        }
        line.append(UInt8(ascii: "\n"))
        return line
    }

    private func separate(_ index: Int, _ line: inout Bytes) { if index > 0 { line.append(format.delimiter) } }

    private func appendText(_ value: ArraySlice<UInt8>, _ line: inout Bytes) {
        for byte in value {
            let escape: UInt8
            switch byte {
            case 8: escape = UInt8(ascii: "b")
            case 9: escape = UInt8(ascii: "t")
            case 10: escape = UInt8(ascii: "n")
            case 11: escape = UInt8(ascii: "v")
            case 12: escape = UInt8(ascii: "f")
            case 13: escape = UInt8(ascii: "r")
            case UInt8(ascii: "\\"), format.delimiter: escape = byte
            case _:
                line.append(byte)
                continue
            }
            line.append(UInt8(ascii: "\\"))
            line.append(escape)
        }
    }

    private func appendCSV(_ value: ArraySlice<UInt8>, isForced: Bool, isAlone: Bool, _ line: inout Bytes) {
        let needsQuotes =
            isForced || value.elementsEqual(format.null) || isAlone && value.elementsEqual("\\.".utf8)
            || value.contains {
                $0 == format.delimiter || $0 == format.quote || $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r")
            }
        guard needsQuotes else {
            line += value
            return
        }
        line.append(format.quote)
        for byte in value {
            if byte == format.quote || byte == format.escape { line.append(format.escape) }
            line.append(byte)
        }
        line.append(format.quote)
    }
}
