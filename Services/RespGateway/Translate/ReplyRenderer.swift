import Base
import Contracts

/// A node's reply as RESP.
extension ByteBuffer {
    /// Appends `reply` the way the command wants it shown.
    @inline(__always)
    package mutating func append(_ reply: borrowing ReplyView, _ shape: ReplyShape, _ version: RESPVersion) {
        switch reply.kind {
        case .data where shape == .plain: appendBulk(reply.data)
        case .ok where shape == .plain || shape == .ok: append("+OK\r\n")
        case .null where shape == .plain: appendNull(version)
        case .null, .ok, .integer, .number, .data, .list, .error, .batch: appendShaped(reply, shape, version)
        }
    }

    private mutating func appendShaped(_ reply: borrowing ReplyView, _ shape: ReplyShape, _ version: RESPVersion) {
        switch reply.kind {
        case .error:
            appendError(reply.error.respText)
        case .null:
            switch shape {
            case .condition: appendInteger(0)
            case .plain, .status, .seconds, .ok, .map, .pairs, .scan, .matches, .matchesWithLengths, .reference,
                .frequency:
                appendNull(version)
            }
        case .ok:
            switch shape {
            case .condition: appendInteger(1)
            case .plain, .status, .seconds, .ok, .map, .pairs, .scan, .matches, .matchesWithLengths, .reference,
                .frequency:
                append("+OK\r\n")
            }
        case .integer:
            switch shape {
            case .seconds: appendInteger(reply.integer < 0 ? reply.integer : Self.seconds(reply.integer))
            case .ok: append("+OK\r\n")
            case .plain, .status, .condition, .map, .pairs, .scan, .matches, .matchesWithLengths, .reference,
                .frequency:
                appendInteger(reply.integer)
            }
        case .number:
            appendDouble(reply.number, version)
        case .data:
            switch shape {
            case .status: appendStatus(reply.data)
            case .reference: appendInteger(1)
            case .frequency:
                appendError(
                    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when "
                        + "switching between policies at runtime LRU and LFU data will take some time to adjust.")
            case .plain, .seconds, .condition, .ok, .map, .pairs, .scan, .matches, .matchesWithLengths:
                appendBulk(reply.data)
            }
        case .list:
            appendList(reply, shape, version)
        case .batch:
            appendError("ERR an unexpected kind of reply")  // Those who send batches take them apart.
        }
    }

    private static func seconds(_ milliseconds: Int64) -> Int64 {
        let (sum, overflow) = milliseconds.addingReportingOverflow(500)
        return (overflow ? milliseconds : sum) / 1000
    }

    private mutating func appendList(_ reply: borrowing ReplyView, _ shape: ReplyShape, _ version: RESPVersion) {
        var items = reply.items
        let count = reply.itemCount
        switch shape {
        case .map:
            appendMap(count / 2, version)
            while let item = items.next() { append(item, version) }
        case .pairs:
            appendPairs(items, count, version)
        case .scan:
            append("*2\r\n")
            append(items.next() ?? .null, version)
            appendArray(max(count - 1, 0))
            while let item = items.next() { append(item, version) }
        case .matches, .matchesWithLengths:
            appendMatches(reply, withLengths: shape == .matchesWithLengths, version)
        case .plain, .status, .seconds, .condition, .ok, .reference, .frequency:
            appendArray(count)
            while let item = items.next() { append(item, version) }
        }
    }

    private mutating func append(_ item: ReplyView.Item, _ version: RESPVersion) {
        switch item {
        case .null: appendNull(version)
        case .integer(let value): appendInteger(value)
        case .number(let value): appendDouble(value, version)
        case .data(let bytes): appendBulk(bytes)
        }
    }

    private mutating func appendPairs(_ items: ReplyView.Items, _ count: Int, _ version: RESPVersion) {
        var items = items
        switch version {
        case .two:
            appendArray(count)
            while let item = items.next() { append(item, version) }
        case .three:
            appendArray(count / 2)
            for _ in 0..<count / 2 {
                append("*2\r\n")
                append(items.next() ?? .null, version)
                append(items.next() ?? .null, version)
            }
        }
    }

    /// LCS IDX: five numbers a match (`Method.longestCommonSubsequence`), then the total length.
    private mutating func appendMatches(_ reply: borrowing ReplyView, withLengths: Bool, _ version: RESPVersion) {
        var items = reply.items
        func number() -> Int64 {
            guard case .integer(let value) = items.next() else { return 0 }
            return value
        }
        appendMap(2, version)
        appendBulk("matches")
        let matches = max(reply.itemCount - 1, 0) / 5
        appendArray(matches)
        for _ in 0..<matches {
            appendArray(withLengths ? 3 : 2)
            for _ in 0..<2 {
                append("*2\r\n")
                appendInteger(number())
                appendInteger(number())
            }
            let length = number()
            if withLengths { appendInteger(length) }
        }
        appendBulk("len")
        appendInteger(number())
    }
}
