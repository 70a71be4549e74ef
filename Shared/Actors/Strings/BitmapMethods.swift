import Base
import Contracts
import DataModel

// Strings as arrays of bits; bit 0 is the highest of the first byte.

extension ActorRuntime {
    func setBit(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let offset = call.numbers[0], bit = call.numbers[1]
        guard offset >= 0, offset >> 3 < Int64(limits.valueBytes) else { throw Failure.bitOffset }
        guard bit == 0 || bit == 1 else { throw Failure.bit }
        let found = try writableString(call.database, call.key)
        let position = Int(offset >> 3), mask = UInt8(0x80) >> UInt8(offset & 7)
        var old = false
        edit(found, position..<position + 1) { target in
            old = target[0] & mask != 0
            if bit == 1 { target[0] |= mask } else { target[0] &= ~mask }
        }
        reply.integer(old ? 1 : 0)
    }

    func getBit(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let offset = call.numbers[0]
        guard offset >= 0 else { throw Failure.bitOffset }
        guard let found = try readableString(call.database, call.key), offset >> 3 < Int64(found.bytes.count) else {
            return reply.integer(0)
        }
        let byte = found.bytes[Int(offset >> 3)]
        reply.integer(byte & (UInt8(0x80) >> UInt8(offset & 7)) != 0 ? 1 : 0)
    }

    func bitCount(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        guard let found = try readableString(call.database, call.key) else { return reply.integer(0) }
        let inBits = call.flags & 2 != 0
        var bits = 0..<found.bytes.count * 8
        if call.flags & 3 != 0 {
            let count = inBits ? bits.count : found.bytes.count
            guard let range = indexRange(first: call.numbers[0], last: call.numbers[1], count: count) else {
                return reply.integer(0)
            }
            bits = inBits ? range : range.lowerBound * 8..<range.upperBound * 8
        }
        reply.integer(found.bytes.withUnsafeBytes { BitOperations.countOnes($0, bits) })
    }

    func bitPosition(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let bit = call.numbers[0]
        guard bit == 0 || bit == 1 else { throw Failure.bitBound }
        guard let found = try readableString(call.database, call.key) else { return reply.integer(bit == 1 ? -1 : 0) }
        let inBits = call.flags & 4 != 0, hasEnd = call.flags & 2 != 0
        let count = found.bytes.count * (inBits ? 8 : 1)
        let first = call.flags & 3 != 0 ? call.numbers[1] : 0
        let last = hasEnd ? call.numbers[2] : Int64(count) - 1
        guard let range = indexRange(first: first, last: last, count: count, checksOrder: false) else {
            return reply.integer(-1)
        }
        let bits = inBits ? range : range.lowerBound * 8..<range.upperBound * 8
        let position = found.bytes.withUnsafeBytes { BitOperations.position(of: bit == 1, in: $0, bits) }
        if let position { return reply.integer(position) }
        // Without an end the string goes on with zeros.
        reply.integer(bit == 0 && !hasEnd ? found.bytes.count * 8 : -1)
    }

    func bitOperation(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let operation = try operation(of: call)
        var sources: [Bytes] = []
        for position in 0..<call.arguments.count {
            sources.append(try readableString(call.database, call.arguments[position])?.bytes ?? [])
        }
        try store(BitOperations.combine(operation, sources), call, reply)
    }

    func bitOperationOfValues(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let operation = try operation(of: call)
        var sources: [Bytes] = []
        for position in 0..<call.arguments.count {
            guard call.arguments[position].count <= limits.valueBytes else { throw Failure.tooLong }
            sources.append(call.arguments[position].bytes)
        }
        try store(BitOperations.combine(operation, sources), call, reply)
    }

    private func operation(of call: ActorCallView) throws(DatabaseError) -> BitOperations.Operation {
        guard call.numbers.count > 0, let operation = BitOperations.Operation(rawValue: call.numbers[0]) else {
            throw Failure.syntax
        }
        guard operation != .not || call.arguments.count == 1 else {
            throw DatabaseError(.invalidArgument, "BITOP NOT must be called with a single source key.")
        }
        return operation
    }

    /// Makes the result of BITOP the value of the destination.
    private func store(_ result: Bytes, _ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let target = try writable(call.database, call.key)
        let count = result.count
        if count == 0 {
            drop(target)
        } else {
            setString(target, result)
            target.isRaw = true
        }
        reply.integer(count)
    }

    func bitField(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        let operations = try bitFieldOperations(call)
        let isReadOnly = operations.allSatisfy { $0.kind == .get }
        guard !isReadOnly else {
            let bytes = try readableString(call.database, call.key)?.bytes ?? []
            reply.beginList()
            for operation in operations { reply.encoder.listInteger(bytes.withUnsafeBytes { operation.read($0) }) }
            return reply.encoder.endList()
        }
        let found = try writableString(call.database, call.key)
        var end = 0
        for operation in operations where operation.kind != .get { end = max(end, operation.bytes.upperBound) }
        // Grown to the highest write even if that write then fails, as Redis does.
        edit(found, 0..<0) { _ in }
        if found.bytes.count < end { edit(found, end - 1..<end) { _ in } }
        reply.beginList()
        for operation in operations {
            if operation.kind == .get {
                reply.encoder.listInteger(found.bytes.withUnsafeBytes { operation.read($0) })
                continue
            }
            var answer: Int64?
            edit(found, operation.bytes) { answer = operation.write(in: $0) }
            if let answer { reply.encoder.listInteger(answer) } else { reply.encoder.listNull() }
        }
        reply.encoder.endList()
    }

    private func bitFieldOperations(_ call: ActorCallView) throws(DatabaseError) -> [BitFieldOperation] {
        guard call.numbers.count % 6 == 0 else { throw Failure.syntax }
        var operations: [BitFieldOperation] = []
        for start in stride(from: 0, to: call.numbers.count, by: 6) {
            let numbers = (0..<6).map { call.numbers[start + $0] }
            guard let kind = BitFieldOperation.Kind(rawValue: numbers[0]),
                let overflow = BitFieldOperation.Overflow(rawValue: numbers[5])
            else { throw Failure.syntax }
            let isSigned = numbers[1] != 0
            guard numbers[2] >= 1, numbers[2] <= (isSigned ? 64 : 63) else { throw Failure.bitFieldType }
            guard numbers[3] >= 0, numbers[3] <= Int64(limits.valueBytes) * 8 - numbers[2] else {
                throw Failure.bitOffset
            }
            operations.append(
                BitFieldOperation(
                    kind: kind, isSigned: isSigned, width: Int(numbers[2]), offset: Int(numbers[3]), value: numbers[4],
                    overflow: overflow))
        }
        return operations
    }
}
