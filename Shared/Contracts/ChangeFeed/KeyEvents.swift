import Base

/// What one command has done to one key: keyspace notifications, in their order.
///
/// In a note of a log entry, one behind the other: u8 number of events, u8 for each, u8 database, key (varint length,
/// bytes). It is on disk: only add.
package struct KeyEvents: Hashable, Sendable {
    package var database: UInt8
    package var key: Bytes
    package var events: [KeyEvent]

    package init(database: UInt8, key: Bytes, events: [KeyEvent]) {
        (self.database, self.key, self.events) = (database, key, events)
    }

    /// Appends them to a note.
    package static func append(_ events: [KeyEvent], _ database: UInt8, _ key: ByteView, to note: inout ByteBuffer) {
        note.append(UInt8(truncatingIfNeeded: events.count))
        for event in events.prefix(255) { note.append(event.rawValue) }
        note.append(database)
        note.append(varint: UInt64(key.count))
        note.append(key)
    }

    /// Reads a note; nil where it is damaged. Events that this version does not know are left out.
    package static func parse(_ note: ByteView) -> [KeyEvents]? {
        var reader = ByteReader(note), found: [KeyEvents] = []
        while let count = reader.byte() {
            var events: [KeyEvent] = []
            for _ in 0..<count {
                guard let number = reader.byte() else { return nil }
                if let event = KeyEvent(rawValue: number) { events.append(event) }
            }
            guard let database = reader.byte(), let key = reader.delimited() else { return nil }
            found.append(KeyEvents(database: database, key: key.bytes, events: events))
        }
        return found
    }

    /// Bytes in memory, about.
    var cost: Int { 96 + key.count + events.count }
}

// MARK: The wire

extension KeyEvents {
    func encode(into buffer: inout ByteBuffer) {
        buffer.field(1, varint: UInt64(database))
        buffer.field(2, bytes: key)
        for event in events { buffer.field(3, text: event.name) }
    }

    init(decoding message: ByteView) throws(DatabaseError) {
        self.init(database: 0, key: [], events: [])
        try WireField.forEach(message) { number, field throws(DatabaseError) in
            switch number {
            case 1:
                guard let value = UInt8(exactly: field.number) else { throw Wire.malformed }
                database = value
            case 2: key = field.view.bytes
            case 3: if let event = KeyEvent(named: field.view) { events.append(event) }
            case _: break
            }
        }
    }
}

extension KeyEvent {
    private static let byName: [Bytes: KeyEvent] = Dictionary(
        uniqueKeysWithValues: allCases.map { ($0.name.withUTF8Buffer { Bytes($0) }, $0) })

    /// Nil for a name that this version does not know.
    package init?(named name: ByteView) {
        guard let known = Self.byName[name.bytes] else { return nil }
        self = known
    }
}
