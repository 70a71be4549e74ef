import Base
import DataModel

/// What a saga is to do: steps in order, each with what undoes it.
///
///     offset 0   format version (1)
///            1   attempts at most, varint
///                steps: varint count, then each: name (varint length, UTF-8), action, flag: 1 a compensation follows,
///                compensation; an action is a slot, u16 LE, and calls (varint length, an encoded `CallBatch`)
package struct SagaDefinition: Hashable, Sendable {
    /// Calls at one shard, done at once or not at all.
    package struct Action: Hashable, Sendable {
        /// A slot of the shard.
        package let slot: Slot
        /// An encoded `CallBatch`, without part and token.
        package let calls: Bytes

        package init(slot: Slot, calls: Bytes) { (self.slot, self.calls) = (slot, calls) }
    }

    package struct Step: Hashable, Sendable {
        /// For people.
        package let name: String
        package let action: Action
        /// Nil: there is nothing to undo.
        package let compensation: Action?

        package init(name: String = "", action: Action, compensation: Action?) {
            (self.name, self.action, self.compensation) = (name, action, compensation)
        }
    }

    /// Bounds. Of one session a shard remembers 64 outcomes, so there are at most 64 tokens of a saga.
    package static let stepLimit = 32, nameLimit = 64, callsLimit = 64 << 10, sizeLimit = 256 << 10
    package static let attemptLimit: UInt32 = 1000, idLimit = 128

    package let steps: [Step]
    /// How often an action is tried before it counts as failed.
    package let maximumAttempts: UInt32

    /// Throws what is wrong with it.
    package init(steps: [Step], maximumAttempts: UInt32) throws(DatabaseError) {
        guard !steps.isEmpty else { throw DatabaseError(.invalidArgument, "A saga has at least one step") }
        guard steps.count <= Self.stepLimit else {
            throw DatabaseError(.limitExceeded, "A saga has at most \(Self.stepLimit) steps")
        }
        guard maximumAttempts > 0, maximumAttempts <= Self.attemptLimit else {
            throw DatabaseError(.limitExceeded, "An action is tried between 1 and \(Self.attemptLimit) times")
        }
        var size = 0
        for step in steps {
            guard step.name.utf8.count <= Self.nameLimit else {
                throw DatabaseError(.limitExceeded, "The name of a step has at most \(Self.nameLimit) bytes")
            }
            for action in [step.action, step.compensation].compactMap({ $0 }) {
                guard action.calls.count <= Self.callsLimit else {
                    throw DatabaseError(.limitExceeded, "The calls of an action have at most \(Self.callsLimit) bytes")
                }
                size += action.calls.count
            }
        }
        guard size <= Self.sizeLimit else {
            throw DatabaseError(.limitExceeded, "The calls of a saga have at most \(Self.sizeLimit) bytes")
        }
        (self.steps, self.maximumAttempts) = (steps, maximumAttempts)
    }

    /// Throws what is wrong with an id.
    package static func check(id: String) throws(DatabaseError) {
        guard !id.isEmpty, id.utf8.count <= idLimit else {
            throw DatabaseError(.invalidArgument, "The id of a saga has 1 to \(idLimit) bytes")
        }
        guard id.unicodeScalars.allSatisfy({ $0.value >= 32 && $0.value != 127 }) else {
            throw DatabaseError(.invalidArgument, "The id of a saga has no control characters")
        }
    }

    /// Bytes of it, about.
    package var size: Int {
        steps.reduce(64) { $0 + 64 + $1.name.utf8.count + $1.action.calls.count + ($1.compensation?.calls.count ?? 0) }
    }

    package static let formatVersion: UInt8 = 1

    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(Self.formatVersion)
        buffer.append(varint: UInt64(maximumAttempts))
        buffer.append(varint: UInt64(steps.count))
        for step in steps {
            buffer.append(varint: UInt64(step.name.utf8.count))
            buffer.append(text: step.name)
            Self.append(step.action, into: &buffer)
            buffer.append(step.compensation == nil ? 0 : 1 as UInt8)
            if let compensation = step.compensation { Self.append(compensation, into: &buffer) }
        }
    }

    private static func append(_ action: Action, into buffer: inout ByteBuffer) {
        buffer.append(littleEndian: action.slot.rawValue)
        buffer.append(varint: UInt64(action.calls.count))
        buffer.append(action.calls)
    }

    /// Nil when it is damaged, or of another version.
    package init?(decoding view: ByteView) {
        var reader = ByteReader(view), steps: [Step] = []
        guard reader.byte() == Self.formatVersion, let attempts = reader.varint().flatMap({ UInt32(exactly: $0) }),
            let count = reader.varint(), count <= UInt64(Self.stepLimit)
        else { return nil }
        while UInt64(steps.count) < count {
            guard let name = reader.delimited().flatMap({ String(validating: $0, as: UTF8.self) }),
                let action = Self.action(&reader), let flag = reader.byte(), flag <= 1
            else { return nil }
            var compensation: Action?
            if flag == 1 {
                compensation = Self.action(&reader)
                guard compensation != nil else { return nil }
            }
            steps.append(Step(name: name, action: action, compensation: compensation))
        }
        guard reader.isAtEnd else { return nil }
        do throws(DatabaseError) { try self.init(steps: steps, maximumAttempts: attempts) } catch { return nil }
    }

    private static func action(_ reader: inout ByteReader) -> Action? {
        guard let slot: UInt16 = reader.littleEndian(), Int(slot) < Slot.count, let calls = reader.delimited() else {
            return nil
        }
        return Action(slot: Slot(rawValue: slot), calls: calls.bytes)
    }
}
