import Base

extension CollectionID {
    /// Sagas.
    @inlinable package static var systemSagas: CollectionID { CollectionID(rawValue: 20) }
}

/// Where a shard keeps a saga: what is to be done, which never changes, and how far it is.
///
///     key   bucket u16 | collection u32 = 20 | index u8: 0 definition, 1 state | id, UTF-8
///
/// The bucket is that of the id's slot.
package enum SagaKey {
    /// One of the two.
    package enum Record: UInt8, CaseIterable, Sendable { case definition = 0, state = 1 }

    /// The slot whose shard leads the saga.
    package static func slot(of id: String) -> Slot {
        var id = id
        return id.withUTF8 { Slot.of(ByteView($0)) }
    }

    /// Appends the key of a record.
    package static func append(_ bucket: BucketID, _ record: Record, id: String, into buffer: inout ByteBuffer) {
        NativeKeyLayout.appendPrefix(bucket, .systemSagas, index: record.rawValue, into: &buffer)
        buffer.append(text: id)
    }

    /// What record of which saga a key names; nil if it is none of a saga.
    package static func parse(_ key: ByteView) -> (record: Record, id: String)? {
        var reader = ByteReader(key)
        guard reader.bigEndian(UInt16.self) != nil,
            reader.bigEndian(UInt32.self) == CollectionID.systemSagas.rawValue,
            let record = reader.byte().flatMap({ Record(rawValue: $0) }),
            let id = String(validating: reader.rest, as: UTF8.self), !id.isEmpty
        else { return nil }
        return (record, id)
    }
}
