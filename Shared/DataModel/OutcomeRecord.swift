import Base

extension CollectionID {
    /// Outcomes of calls that carried an idempotency token.
    @inlinable package static var systemOutcomes: CollectionID { CollectionID(rawValue: 17) }
}

/// The outcome of a call that carried an idempotency token.
///
///     key     bucket u16 | collection u32 = 17 | index u8 = 0 | session u64 | sequence u64, big-endian
///     value   offset 0   format version (1)
///                    1   flags; 1: the reply follows
///                    2   executed at: milliseconds since 1970, u64 LE
///                   10   digest of the call, u64 LE: the same token with another call is a mistake
///                   18   reply, as the wire contract encodes it
///
/// The bucket is that of the call's slot, so that outcomes move with the data that the calls changed.
package struct OutcomeRecord: Hashable, Sendable {
    package var executedAtMilliseconds: UInt64
    package var digest: UInt64
    /// False where the reply was too large to be kept.
    package var isReplyHeld: Bool

    package static let formatVersion: UInt8 = 1
    private static let held: UInt8 = 1

    package init(executedAtMilliseconds: UInt64, digest: UInt64, isReplyHeld: Bool) {
        (self.executedAtMilliseconds, self.digest) = (executedAtMilliseconds, digest)
        self.isReplyHeld = isReplyHeld
    }

    /// Appends the record up to the reply, which follows it.
    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(Self.formatVersion)
        buffer.append(isReplyHeld ? Self.held : 0)
        buffer.append(littleEndian: executedAtMilliseconds)
        buffer.append(littleEndian: digest)
    }

    /// Reads a record; the reply is what `reader` has left. Nil when it is damaged, or of another version.
    package init?(_ reader: inout ByteReader) {
        guard reader.byte() == Self.formatVersion, let flags = reader.byte(), flags <= Self.held,
            let time: UInt64 = reader.littleEndian(), let digest: UInt64 = reader.littleEndian()
        else { return nil }
        self.init(executedAtMilliseconds: time, digest: digest, isReplyHeld: flags == Self.held)
    }

    /// Appends the key of an outcome.
    package static func appendKey(
        _ bucket: BucketID, session: UInt64, sequence: UInt64, into buffer: inout ByteBuffer
    ) {
        NativeKeyLayout.appendPrefix(bucket, .systemOutcomes, into: &buffer)
        buffer.append(bigEndian: session)
        buffer.append(bigEndian: sequence)
    }

    /// Session and sequence of a key; nil if it is none of an outcome.
    package static func parse(key: ByteView) -> (session: UInt64, sequence: UInt64)? {
        var reader = ByteReader(key)
        guard reader.bigEndian(UInt16.self) != nil,
            reader.bigEndian(UInt32.self) == CollectionID.systemOutcomes.rawValue, reader.byte() == 0,
            let session: UInt64 = reader.bigEndian(), let sequence: UInt64 = reader.bigEndian(), reader.isAtEnd
        else { return nil }
        return (session, sequence)
    }
}
