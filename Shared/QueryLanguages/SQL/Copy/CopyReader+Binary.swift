import Base

// PostgreSQL's binary format: a header, rows of fields with their lengths, and an end.

extension CopyReader {
    static let signature = Bytes("PGCOPY\n".utf8) + [0xFF, 0x0D, 0x0A, 0x00]

    mutating func nextTuple() throws(StatementError) -> Bool {
        if !isHeaderRead {
            guard try readHeader() else { return false }
            isHeaderRead = true
        }
        guard let count = number16(at: start) else { return try ended(isAllowed: pending == 0) }
        if count == -1 {
            guard pending == 2 else {
                line &+= 1
                throw inLine(StatementError(.badCopyFileFormat, "received copy data after EOF marker"))
            }
            isOver = isFinished
            return false
        }
        // The row is read anew when more has come: it is looked at only where lengths stand.
        var place = start + 2, ranges: [Range<Int>?] = []
        guard Int(count) == columns.count else {
            line &+= 1
            throw inLine(
                StatementError(
                    .badCopyFileFormat, "row field count is \(count), expected \(columns.count)"))
        }
        for _ in 0..<columns.count {
            guard let length = number32(at: place) else { return try ended(isAllowed: false) }
            place += 4
            guard length >= 0 else {
                guard length == -1 else {
                    line &+= 1
                    throw inLine(StatementError(.badCopyFileFormat, "invalid field size"))
                }
                ranges.append(nil)
                continue
            }
            guard length <= Self.rowLimit else { throw tooLong() }
            guard place + Int(length) <= buffer.count else { return try ended(isAllowed: false) }
            ranges.append(place..<place + Int(length))
            place += Int(length)
        }
        line &+= 1
        fields.removeAll(keepingCapacity: true)
        scratch.removeAll(keepingCapacity: true)
        for range in ranges {
            let out = scratch.count
            if let range { scratch += buffer[range] }
            fields.append((out..<scratch.count, range == nil))
        }
        start = place
        scan = place
        return true
    }

    /// There is not enough of it: later, or an error if nothing more comes.
    private mutating func ended(isAllowed: Bool) throws(StatementError) -> Bool {
        guard pending <= Self.rowLimit else { throw tooLong() }
        guard isFinished else { return false }
        isOver = true
        if isAllowed { return false }
        line &+= 1
        throw inLine(StatementError(.badCopyFileFormat, "unexpected EOF in COPY data"))
    }

    /// False: it is not there to its end.
    private mutating func readHeader() throws(StatementError) -> Bool {
        guard pending >= 19, let flags = number32(at: start + 11), let length = number32(at: start + 15) else {
            guard isFinished else { return false }
            throw StatementError(.badCopyFileFormat, "COPY file signature not recognized")
        }
        guard buffer[start..<start + 11].elementsEqual(Self.signature) else {
            throw StatementError(.badCopyFileFormat, "COPY file signature not recognized")
        }
        guard flags & 1 << 16 == 0 else {
            throw StatementError(.badCopyFileFormat, "invalid COPY file header (WITH OIDS)")
        }
        guard UInt32(bitPattern: flags) >> 16 == 0 else {
            throw StatementError(.badCopyFileFormat, "unrecognized critical flags in COPY file header")
        }
        guard length >= 0, length <= Self.rowLimit else {
            throw StatementError(.badCopyFileFormat, "invalid COPY file header (missing length)")
        }
        guard pending >= 19 + Int(length) else {
            guard isFinished else { return false }
            throw StatementError(.badCopyFileFormat, "invalid COPY file header (wrong length)")
        }
        start += 19 + Int(length)
        scan = start
        return true
    }

    private func number16(at place: Int) -> Int16? {
        guard place + 2 <= buffer.count else { return nil }
        return Int16(bitPattern: UInt16(buffer[place]) << 8 | UInt16(buffer[place + 1]))
    }

    private func number32(at place: Int) -> Int32? {
        guard place + 4 <= buffer.count else { return nil }
        return Int32(bitPattern: buffer[place..<place + 4].reduce(0) { $0 << 8 | UInt32($1) })
    }
}
