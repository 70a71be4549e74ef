import Base

// Lines of text and CSV, and their fields.

extension CopyReader {
    private static let feed = UInt8(ascii: "\n"), carriageReturn = UInt8(ascii: "\r")
    private static let backslash = UInt8(ascii: "\\"), period = UInt8(ascii: ".")

    /// The next line, without its end; nil: it is not there to its end.
    mutating func findLine() throws(StatementError) -> Range<Int>? {
        let isCSV = format.kind == .csv
        while scan < buffer.count {
            let byte = buffer[scan]
            // What is behind these must be known, before anything changes.
            if byte == Self.backslash || byte == Self.carriageReturn, scan + 1 >= buffer.count, !isFinished {
                return nil
            }
            if byte == Self.backslash, !isCSV || scan == start, following(1) == Self.period {
                switch try marker() {
                case .unknown: return nil
                case .none: break
                case .end:
                    isOver = true
                    // What stands before it in its line is a row.
                    return start == scan ? nil : start..<scan
                }
            }
            if isCSV {
                quoted(byte)
            } else if byte == Self.backslash, scan + 1 < buffer.count {
                note(byte)
                note(buffer[scan + 1])
                scan += 2
                continue
            }
            if !isQuoted, byte == Self.feed || byte == Self.carriageReturn { return try lineEnd(byte) }
            note(byte)
            scan += 1
        }
        guard isFinished else { return nil }
        isOver = true
        let last = start..<buffer.count
        (start, scan) = (buffer.count, buffer.count)
        return last
    }

    @inline(__always) private mutating func note(_ byte: UInt8) {
        bits |= byte
        if byte == 0 { hasZero = true }
    }

    private func following(_ distance: Int) -> UInt8? {
        scan + distance < buffer.count ? buffer[scan + distance] : nil
    }

    /// Within quotes a line goes on.
    @inline(__always) private mutating func quoted(_ byte: UInt8) {
        if isQuoted, byte == escape { isEscaped.toggle() }
        if byte == format.quote, !isEscaped { isQuoted.toggle() }
        if byte != escape { isEscaped = false }
        if isQuoted, byte == (newline == .feed ? Self.feed : Self.carriageReturn) { line &+= 1 }
    }

    /// All lines must end as the first one does.
    private mutating func lineEnd(_ byte: UInt8) throws(StatementError) -> Range<Int> {
        let isPair = byte == Self.carriageReturn && following(1) == Self.feed
        switch (newline, byte) {
        case (.unknown, Self.feed): newline = .feed
        case (.unknown, _): newline = isPair ? .both : .carriageReturn
        case (.feed, Self.feed), (.carriageReturn, Self.carriageReturn): break
        case (.both, Self.carriageReturn) where isPair: break
        case (_, Self.feed): throw stray("newline", "\\n")
        case (_, _): throw stray("carriage return", "\\r")
        }
        let found = start..<scan
        start = scan + (newline == .both ? 2 : 1)
        scan = start
        return found
    }

    private func stray(_ name: String, _ escape: String) -> StatementError {
        let isCSV = format.kind == .csv
        return inLine(
            StatementError(
                .badCopyFileFormat, "\(isCSV ? "unquoted" : "literal") \(name) found in data",
                hint: isCSV
                    ? "Use quoted CSV field to represent \(name)." : "Use \"\(escape)\" to represent \(name)."))
    }

    private enum Marker { case none, end, unknown }

    /// At `\.`: whether the data ends here.
    private func marker() throws(StatementError) -> Marker {
        let isCSV = format.kind == .csv
        var place = 2
        if newline == .both {
            guard scan + place < buffer.count || isFinished else { return .unknown }
            switch following(place) {
            case Self.carriageReturn: place += 1
            case Self.feed where !isCSV: throw badMarker("does not match previous newline style")
            case _:
                if isCSV { return .none }
                throw badMarker("corrupt")
            }
        }
        guard scan + place < buffer.count || isFinished else { return .unknown }
        let last = following(place)
        guard last == Self.feed || last == Self.carriageReturn else {
            if isCSV { return .none }
            throw badMarker("corrupt")
        }
        let isAlike =
            switch newline {
            case .unknown: true
            case .feed, .both: last == Self.feed
            case .carriageReturn: last == Self.carriageReturn
            }
        guard isAlike else { throw badMarker("does not match previous newline style") }
        return .end
    }

    private func badMarker(_ what: String) -> StatementError {
        inLine(StatementError(.badCopyFileFormat, "end-of-copy marker \(what)"))
    }

    // MARK: Fields

    /// Divides the row into its fields.
    mutating func split() throws(StatementError) {
        fields.removeAll(keepingCapacity: true)
        scratch.removeAll(keepingCapacity: true)
        if format.kind == .csv { try splitCSV() } else { splitText() }
    }

    private mutating func close(_ out: Int, _ raw: Range<Int>, isLiteral: Bool) {
        var isNull = !isLiteral && raw.count == format.null.count && buffer[raw].elementsEqual(format.null)
        let index = fields.count
        if format.kind == .csv, columns.indices.contains(index) {
            if isNull, forceNotNull[index] {
                scratch += format.null
                isNull = false
            } else if !isNull, forceNull[index], scratch[out...].elementsEqual(format.null) {
                isNull = true
            }
        }
        fields.append((out..<scratch.count, isNull))
    }

    private mutating func splitText() {
        var place = row.lowerBound
        let end = row.upperBound
        while true {
            let first = place, out = scratch.count
            var isFollowed = false, last = place
            while place < end {
                var byte = buffer[place]
                place += 1
                if byte == format.delimiter {
                    isFollowed = true
                    break
                }
                if byte == Self.backslash {
                    guard place < end else { break }
                    byte = escaped(&place, end)
                }
                scratch.append(byte)
                last = place
            }
            let raw = first..<max(first, last)
            // A NULL is known by how it was written; what its escapes stand for is nothing then.
            let isNull = raw.count == format.null.count && buffer[raw].elementsEqual(format.null)
            if isNull { scratch.removeSubrange(out...) }
            close(out, raw, isLiteral: false)
            if !isFollowed { return }
        }
    }

    /// What a backslash and what follows it stand for.
    private func escaped(_ place: inout Int, _ end: Int) -> UInt8 {
        let byte = buffer[place]
        place += 1
        switch byte {
        case UInt8(ascii: "b"): return 8
        case UInt8(ascii: "f"): return 12
        case UInt8(ascii: "n"): return 10
        case UInt8(ascii: "r"): return 13
        case UInt8(ascii: "t"): return 9
        case UInt8(ascii: "v"): return 11
        case UInt8(ascii: "0")...UInt8(ascii: "7"):
            var value = byte & 7, digits = 1
            while digits < 3, place < end, buffer[place] & 0xF8 == 0x30 {
                value = value << 3 | buffer[place] & 7
                place += 1
                digits += 1
            }
            return value
        case UInt8(ascii: "x"):
            var value: UInt8 = 0, digits = 0
            while digits < 2, place < end, let digit = Self.hexadecimal(buffer[place]) {
                value = value << 4 | digit
                place += 1
                digits += 1
            }
            return digits == 0 ? byte : value
        case _: return byte
        }
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - 48
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - 87
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - 55
        case _: nil
        }
    }

    private mutating func splitCSV() throws(StatementError) {
        var place = row.lowerBound
        let end = row.upperBound
        while true {
            let first = place, out = scratch.count
            var isFollowed = false, isLiteral = false, last = place
            while place < end {
                let byte = buffer[place]
                place += 1
                if byte == format.delimiter {
                    isFollowed = true
                    break
                }
                if byte == format.quote {
                    isLiteral = true
                    try takeQuoted(&place, end)
                } else {
                    scratch.append(byte)
                }
                last = place
            }
            close(out, first..<max(first, last), isLiteral: isLiteral)
            if !isFollowed { return }
        }
    }

    /// Up to the quote that ends it.
    private mutating func takeQuoted(_ place: inout Int, _ end: Int) throws(StatementError) {
        while place < end {
            let byte = buffer[place]
            place += 1
            if byte == format.escape, place < end,
                buffer[place] == format.escape || buffer[place] == format.quote
            {
                scratch.append(buffer[place])
                place += 1
            } else if byte == format.quote {
                return
            } else {
                scratch.append(byte)
            }
        }
        throw inLine(StatementError(.badCopyFileFormat, "unterminated CSV quoted field"))
    }
}
