import Base

/// All commands, found by name without a `String`: the name, packed into two integers in lower case, probes a small
/// table.
package final class CommandTable: Sendable {
    private struct Slot: Sendable { var low: UInt64 = 0, high: UInt64 = 0, index = -1 }

    /// In the order of their numbers, which in-flight calls and counters carry.
    package let commands: [RESPCommand]
    private let slots: [Slot]
    private let mask: Int
    /// Everything that can be executed: commands, and subcommands in place of their container.
    let leaves: [RESPCommand]

    package init(_ commands: [RESPCommand]) {
        var capacity = 64
        while capacity < commands.count * 4 { capacity *= 2 }
        var slots = [Slot](repeating: Slot(), count: capacity)
        for (index, command) in commands.enumerated() {
            let packed = Array(command.name.utf8).withUnsafeBytes { Self.pack($0) }
            guard let (low, high) = packed else { preconditionFailure("command name too long: \(command.name)") }
            var position = Self.hash(low, high) & (capacity - 1)
            while slots[position].index >= 0 { position = (position + 1) & (capacity - 1) }
            slots[position] = Slot(low: low, high: high, index: index)
        }
        self.commands = commands
        leaves = commands.flatMap { command in
            switch command.body {
            case .container(let rows, alone: nil): rows
            case .container(let rows, alone: .some): [command] + rows
            case .call, .answer: [command]
            }
        }
        self.slots = slots
        mask = capacity - 1
    }

    /// The command of that number, which `index(of:)` gave.
    @inline(__always) subscript(_ index: Int) -> RESPCommand { commands[index] }

    /// The number of the command of that name, in any case.
    @inline(__always) package func index(of name: ByteView) -> Int? {
        guard let (low, high) = Self.pack(name) else { return nil }
        return slots.withUnsafeBufferPointer { slots in
            var position = Self.hash(low, high) & mask
            while true {
                let slot = slots[position]
                guard slot.index >= 0 else { return nil }
                if slot.low == low, slot.high == high { return slot.index }
                position = (position + 1) & mask
            }
        }
    }

    /// The command of that name, `container|subcommand` included.
    package func command(named name: ByteView) -> RESPCommand? {
        if let index = index(of: name) { return commands[index] }
        guard let bar = name.firstIndex(of: UInt8(ascii: "|")) else { return nil }
        guard let index = index(of: ByteView(rebasing: name[..<bar])) else { return nil }
        return commands[index].subcommand(ByteView(rebasing: name[(bar + 1)...]))
    }

    @inline(__always) private static func pack(_ name: ByteView) -> (UInt64, UInt64)? {
        guard name.count <= 15, let base = name.baseAddress else { return nil }
        var low: UInt64 = 0, high: UInt64 = 0
        var position = 0
        while position < name.count {
            let byte = UInt64(base.load(fromByteOffset: position, as: UInt8.self).asciiLowercased)
            if position < 8 { low |= byte &<< UInt64(position * 8) } else { high |= byte &<< UInt64(position * 8 - 64) }
            position += 1
        }
        return (low, high | UInt64(name.count) &<< 56)  // With its length: "get" and "get\0" are different names.
    }

    @inline(__always) private static func hash(_ low: UInt64, _ high: UInt64) -> Int {
        Int(truncatingIfNeeded: ((low ^ (high &* 31)) &* 0x9E37_79B9_7F4A_7C15) >> 40)
    }
}

extension RESPCommand {
    /// The subcommand of that name, in any case.
    package func subcommand(_ name: ByteView) -> RESPCommand? {
        subcommands.first { row in
            let last = row.lastName.utf8
            return last.count == name.count && zip(last, name).allSatisfy { $0 == $1.asciiLowercased }
        }
    }
}

extension CommandTable {
    /// What this gateway serves.
    package static let standard = CommandTable(
        StringCommands.rows + BitmapCommands.rows + HashCommands.rows + KeyCommands.rows + ConnectionCommands.rows
            + ServerCommands.rows + TransactionCommands.rows + PubSubCommands.rows)
}
