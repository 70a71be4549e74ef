import Base
import Contracts

/// Commands on strings as arrays of bits.
enum BitmapCommands {
    static let rows: [RESPCommand] = [
        .bitCount, .bitField, .bitFieldReadOnly, .bitOperation, .bitPosition, .getBit, .setBit,
    ]
}

extension RESPCommand {
    static let bitCount = RESPCommand(
        "bitcount", -2, .readonly, .bitmap, keys: [.init([.readOnly, .access])], acl: .bitmap, since: "2.6.0",
        complexity: "O(N)", summary: "Count set bits in a string"
    ) { words, call throws(DatabaseError) in
        try parseCount(words, call)
    }

    static let bitField = RESPCommand(
        "bitfield", -2, [.write, .denyOOM], .bitmap,
        keys: [
            .init(
                [.readWrite, .access, .update, .variable],
                notes: "This command allows both access and modification of the key")
        ],
        acl: .bitmap, since: "3.2.0", complexity: "O(1) for each subcommand specified",
        summary: "Perform arbitrary bitfield integer operations on strings"
    ) { words, call throws(DatabaseError) in
        try BitFieldParser.parse(words, call, onlyGets: false)
    }

    static let bitFieldReadOnly = RESPCommand(
        "bitfield_ro", -2, [.readonly, .fast], .bitmap, keys: [.init([.readOnly, .access])], acl: .bitmap,
        since: "6.0.0", complexity: "O(1) for each subcommand specified",
        summary: "Perform arbitrary bitfield integer operations on strings. Read-only variant of BITFIELD"
    ) { words, call throws(DatabaseError) in
        try BitFieldParser.parse(words, call, onlyGets: true)
    }

    static let bitOperation = RESPCommand(
        "bitop", -4, [.write, .denyOOM], .bitmap,
        keys: [.init(at: 2, [.overwrite, .update]), .init(at: 3, last: -1, [.readOnly, .access])], acl: .bitmap,
        since: "2.6.0", complexity: "O(N)", summary: "Perform bitwise operations between strings"
    ) { words, call throws(DatabaseError) in
        try parseOperation(words, call)
    }

    static let bitPosition = RESPCommand(
        "bitpos", -3, .readonly, .bitmap, keys: [.init([.readOnly, .access])], acl: .bitmap, since: "2.8.7",
        complexity: "O(N)", summary: "Find first bit set or clear in a string"
    ) { words, call throws(DatabaseError) in
        try parsePosition(words, call)
    }

    static let getBit = RESPCommand(
        "getbit", 3, [.readonly, .fast], .bitmap, keys: [.init([.readOnly, .access])], acl: .bitmap,
        since: "2.2.0", summary: "Returns the bit value at offset in the string value stored at key"
    ) { words, call throws(DatabaseError) in
        let offset = try bitOffset(words[2])
        call.call(.getBit, words[1])
        call.append(offset)
    }

    static let setBit = RESPCommand(
        "setbit", 4, [.write, .denyOOM], .bitmap, keys: [.init([.readWrite, .access, .update])], acl: .bitmap,
        since: "2.2.0", summary: "Sets or clears the bit at offset in the string value stored at key"
    ) { words, call throws(DatabaseError) in
        let offset = try bitOffset(words[2])
        guard let bit = words[3].decimal, bit == 0 || bit == 1 else {
            throw DatabaseError(.notAnInteger, "bit is not an integer or out of range")
        }
        call.call(.setBit, words[1])
        call.append(offset)
        call.append(bit)
    }
}

/// A bit's number, within what a string can hold in Redis (512 MB).
private func bitOffset(_ word: ByteView) throws(DatabaseError) -> Int64 {
    guard let offset = word.decimal, offset >= 0, offset < 1 << 32 else { throw .bitOffset }
    return offset
}

/// BITCOUNT key [first last [BYTE | BIT]]
private func parseCount(_ words: Words, _ call: CallFrame) throws(DatabaseError) {
    call.call(.bitCount, words[1])
    guard words.count > 2 else { return }
    guard words.count == 4 || words.count == 5 else { throw .syntaxError }
    call.append(try words.integer(2))
    call.append(try words.integer(3))
    call.flags = 1
    if words.count == 5, try isBitUnit(words, 4) { call.flags = 3 }
}

private func isBitUnit(_ words: Words, _ position: Int) throws(DatabaseError) -> Bool {
    if words.matches(position, "bit") { return true }
    guard words.matches(position, "byte") else { throw .syntaxError }
    return false
}

/// BITPOS key bit [first [last [BYTE | BIT]]]
private func parsePosition(_ words: Words, _ call: CallFrame) throws(DatabaseError) {
    let bit = try words.integer(2)
    guard bit == 0 || bit == 1 else { throw DatabaseError(.invalidArgument, "The bit argument must be 1 or 0.") }
    guard words.count <= 6 else { throw .syntaxError }
    call.call(.bitPosition, words[1])
    call.append(bit)
    call.append(words.count > 3 ? try words.integer(3) : 0)
    call.append(words.count > 4 ? try words.integer(4) : -1)
    if words.count > 3 { call.flags |= 1 }
    if words.count > 4 { call.flags |= 2 }
    if words.count > 5, try isBitUnit(words, 5) { call.flags |= 4 }
}

/// BITOP operation destination source [source ...]
private func parseOperation(_ words: Words, _ call: CallFrame) throws(DatabaseError) {
    let names: [StaticString] = ["and", "or", "xor", "not"]
    guard let operation = names.firstIndex(where: { words.matches(1, $0) }) else { throw .syntaxError }
    guard operation != 3 || words.count == 4 else {
        throw DatabaseError(.syntax, "BITOP NOT must be called with a single source key.")
    }
    call.call(.bitOperation, words[2])
    call.target = .keys
    call.append(Int64(operation))
    call.append(words, from: 3)
}

/// BITFIELD key { GET type offset | SET type offset value | INCRBY type offset value | OVERFLOW WRAP|SAT|FAIL } ...
///
/// Every operation becomes six numbers (`Method.bitField`); OVERFLOW holds for those that follow it.
private enum BitFieldParser {
    static func parse(_ words: Words, _ call: CallFrame, onlyGets: Bool) throws(DatabaseError) {
        call.call(.bitField, words[1])
        var overflow: Int64 = 0, isReadOnly = true, position = 2
        while position < words.count {
            let left = words.count - position - 1
            if words.matches(position, "get"), left >= 2 {
                try append(0, words, position, value: 0, overflow, call)
                position += 3
            } else if words.matches(position, "set"), left >= 3 {
                try append(1, words, position, value: nil, overflow, call)
                isReadOnly = false
                position += 4
            } else if words.matches(position, "incrby"), left >= 3 {
                try append(2, words, position, value: nil, overflow, call)
                isReadOnly = false
                position += 4
            } else if words.matches(position, "overflow"), left >= 1 {
                let names: [StaticString] = ["wrap", "sat", "fail"]
                guard let kind = names.firstIndex(where: { words.matches(position + 1, $0) }) else {
                    throw DatabaseError(.syntax, "Invalid OVERFLOW type specified")
                }
                overflow = Int64(kind)
                position += 2
            } else {
                throw .syntaxError
            }
        }
        guard isReadOnly || !onlyGets else {
            throw DatabaseError(.syntax, "BITFIELD_RO only supports the GET subcommand")
        }
        if isReadOnly { call.flags = 1 }
    }

    private static func append(
        _ kind: Int64, _ words: Words, _ position: Int, value: Int64?, _ overflow: Int64, _ call: CallFrame
    ) throws(DatabaseError) {
        let (isSigned, bits) = try type(words[position + 1])
        let offset = try offset(words[position + 2], bits)
        let value = if let value { value } else { try words.integer(position + 3) }
        call.append(kind)
        call.append(isSigned ? 1 : 0)
        call.append(bits)
        call.append(offset)
        call.append(value)
        call.append(overflow)
    }

    /// `i8`, `u63`
    private static func type(_ word: ByteView) throws(DatabaseError) -> (isSigned: Bool, bits: Int64) {
        let isSigned = word.first?.asciiLowercased == UInt8(ascii: "i")
        guard isSigned || word.first?.asciiLowercased == UInt8(ascii: "u"),
            let bits = ByteView(rebasing: word.dropFirst()).decimal, bits >= 1, bits <= (isSigned ? 64 : 63)
        else {
            throw DatabaseError(
                .syntax,
                "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.")
        }
        return (isSigned, bits)
    }

    /// In bits; `#3` counts in fields.
    private static func offset(_ word: ByteView, _ bits: Int64) throws(DatabaseError) -> Int64 {
        let isCounted = word.first == UInt8(ascii: "#")
        guard let number = (isCounted ? ByteView(rebasing: word.dropFirst()) : word).decimal else { throw .bitOffset }
        let (offset, overflow) = number.multipliedReportingOverflow(by: isCounted ? bits : 1)
        guard !overflow, offset >= 0, offset < 1 << 32 else { throw .bitOffset }
        return offset
    }
}

extension DatabaseError {
    fileprivate static let bitOffset = DatabaseError(.notAnInteger, "bit offset is not an integer or out of range")
}
