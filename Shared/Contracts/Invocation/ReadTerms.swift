import Base

/// What a read below strong consistency is content with, and what it has to see all the same (Proto/invocation.proto).
///
/// Decoded apart from the invocation, and only when it asks for less than strong: calls that do not pay nothing.
package struct ReadTerms: Hashable, Sendable {
    /// The levels of the wire contract below strong.
    package enum Level: UInt32, Hashable, Sendable { case boundedStale = 1, any = 2 }

    package static let defaultStalenessMilliseconds: UInt64 = 10_000

    package var level: Level
    /// What was acknowledged longer ago is seen.
    package var stalenessMilliseconds = defaultStalenessMilliseconds
    /// What the session had seen by then is seen; nil: what the batch says counts.
    package var bookmark: Timestamp?
    /// Everything up to this entry of the shard's log is seen.
    package var position = LogIndex.zero

    package init(_ level: Level) { self.level = level }

    /// As encoded fields of an invocation, in any place of it.
    package func append(to buffer: inout Bytes) {
        var fields = ByteBuffer(capacity: 64)
        fields.append(8 << 3)
        fields.append(varint: UInt64(level.rawValue))
        if level == .boundedStale {
            if stalenessMilliseconds != Self.defaultStalenessMilliseconds {
                fields.append(12 << 3)
                fields.append(varint: min(max(stalenessMilliseconds, 1), UInt64(UInt32.max)))
            }
            if let bookmark {
                fields.append(13 << 3 | 1)
                fields.append(littleEndian: max(bookmark.rawValue, 1))
            }
            if position != .zero {
                fields.append(14 << 3)
                fields.append(varint: position.rawValue)
            }
        }
        buffer += fields.readable.bytes
    }
}

extension InvocationView {
    /// What the read is content with; nil for one that asks for strong consistency, or for what is not known here.
    package var readTerms: ReadTerms? {
        guard let level = ReadTerms.Level(rawValue: consistency) else { return nil }
        var terms = ReadTerms(level)
        var reader = ByteReader(encoded)
        while let tag = reader.varint() {
            if tag == 12 << 3, let value = reader.varint() {
                if value != 0 { terms.stalenessMilliseconds = min(value, UInt64(UInt32.max)) }
            } else if tag == 13 << 3 | 1, let value: UInt64 = reader.littleEndian() {
                terms.bookmark = value == 0 ? nil : Timestamp(rawValue: value)
            } else if tag == 14 << 3, let value = reader.varint() {
                terms.position = LogIndex(rawValue: value)
            } else if !Wire.skip(tag & 7, in: &reader) {
                break
            }
        }
        return terms
    }
}

extension ReplyView {
    /// Of a read below strong consistency: the entry of the shard's log up to which it saw everything; zero: not told.
    package var position: LogIndex {
        var reader = ByteReader(body)
        while let tag = reader.varint() {
            if tag == 8 << 3 { return LogIndex(rawValue: reader.varint() ?? 0) }
            guard Wire.skip(tag & 7, in: &reader) else { break }
        }
        return .zero
    }
}

extension ReplyBatchEncoder {
    /// Takes over the one reply that `other` holds, and says how far the log was applied when it was made.
    package func move(_ other: ReplyBatchEncoder, position: LogIndex) {
        var reader = ByteReader(other.gathered)
        guard reader.varint() == 3 << 3 | 2, let message = reader.delimited(), reader.isAtEnd else {
            return other.moveAll(to: self)
        }
        let extra = position == .zero ? 0 : 1 + varintSize(position.rawValue)
        append(message, extra) { buffer in
            guard extra > 0 else { return }
            buffer.append(8 << 3)
            buffer.append(varint: position.rawValue)
        }
        other.reset()
    }
}
