import Base
import DataModel

// How far a saga is, as it is stored.
//
//     offset 0   format version (1)
//            1   status, phase, position, flags (1: cancelled, 2: what is under way may
//                have been executed), a byte each
//            5   session, created at, updated at, since: u64 LE each
//           37   attempts, u32 LE
//           41   reason: the rest, UTF-8

extension Saga {
    package static let formatVersion: UInt8 = 1

    /// Appends the record of its state.
    package func encodeState(into buffer: inout ByteBuffer) {
        buffer.append(Self.formatVersion)
        buffer.append(status.rawValue)
        buffer.append(phase.rawValue)
        buffer.append(UInt8(truncatingIfNeeded: position))
        buffer.append((isCancelled ? 1 : 0) | (isUncertain ? 2 : 0) as UInt8)
        for number in [session, createdAt, updatedAt, since] { buffer.append(littleEndian: number) }
        buffer.append(littleEndian: attempts)
        buffer.append(text: reason)
    }

    /// A saga that was written. Nil when a record is damaged, or of another version.
    package init?(id: String, definition: ByteView, state: ByteView) {
        guard let definition = SagaDefinition(decoding: definition) else { return nil }
        var reader = ByteReader(state)
        guard reader.byte() == Self.formatVersion, let status = reader.byte().flatMap({ Status(rawValue: $0) }),
            let phase = reader.byte().flatMap({ Phase(rawValue: $0) }), let position = reader.byte(),
            Int(position) < definition.steps.count, let flags = reader.byte(), flags <= 3,
            let session: UInt64 = reader.littleEndian(), session != 0, let created: UInt64 = reader.littleEndian(),
            let updated: UInt64 = reader.littleEndian(), let since: UInt64 = reader.littleEndian(),
            let attempts: UInt32 = reader.littleEndian(), reader.rest.count <= Self.reasonLimit,
            let reason = String(validating: reader.rest, as: UTF8.self)
        else { return nil }
        guard status != .running || phase == .action, status != .compensating || phase != .action else { return nil }
        let isCompensating = phase == .compensation && (status == .compensating || status == .failed)
        guard !isCompensating || definition.steps[Int(position)].compensation != nil else { return nil }
        self.init(id: id, definition, session: session, now: created)
        (self.status, self.phase, self.position, isCancelled) = (status, phase, Int(position), flags & 1 != 0)
        isUncertain = flags & 2 != 0
        (updatedAt, self.since, self.attempts, self.reason) = (updated, since, attempts, reason)
        restored()
    }
}
