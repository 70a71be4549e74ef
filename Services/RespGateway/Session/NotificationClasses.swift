import Base
import Contracts

/// `notify-keyspace-events`: which events clients are told of, and on which channels.
package struct NotificationClasses: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Channels `__keyspace@<db>__:<key>`, whose messages are events.
    package static let keyspace = NotificationClasses(rawValue: 1)
    /// Channels `__keyevent@<db>__:<event>`, whose messages are keys.
    package static let keyevent = NotificationClasses(rawValue: 1 << 1)

    /// The letters, in the order in which Redis shows them. Classes of types and events that do not exist here are
    /// kept and bring nothing: lists, sets, sorted sets, streams, modules, evictions, keys that were asked for and
    /// were not there.
    private static let letters: [(letter: UInt8, value: NotificationClasses)] = "g$lshzxetdnKEm".utf8.enumerated().map {
        position, letter in
        switch letter {
        case UInt8(ascii: "K"): (letter, .keyspace)
        case UInt8(ascii: "E"): (letter, .keyevent)
        default: (letter, NotificationClasses(rawValue: 1 << UInt32(position + 2)))
        }
    }

    /// `A`: all classes but `n` and `m`.
    private static let all = letters.prefix(10).reduce(into: NotificationClasses()) { $0.insert($1.value) }

    /// Reads the letters; nil if one is none of them.
    package init?(_ text: String) {
        self = []
        for letter in text.utf8 {
            if letter == UInt8(ascii: "A") {
                insert(Self.all)
            } else if let known = Self.letters.first(where: { $0.letter == letter }) {
                insert(known.value)
            } else {
                return nil
            }
        }
    }

    /// What CONFIG GET shows. As in Redis, `A` hides `n`.
    package var text: String {
        let isAll = isSuperset(of: Self.all)
        var bytes: Bytes = isAll ? [UInt8(ascii: "A")] : []
        for (position, entry) in Self.letters.enumerated() where contains(entry.value) {
            if position > 10 || !isAll { bytes.append(entry.letter) }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Whether anything is sent at all.
    package var isAny: Bool {
        !isDisjoint(with: [.keyspace, .keyevent]) && !subtracting([.keyspace, .keyevent]).isEmpty
    }

    /// Whether clients are told of the event, if anything is sent.
    package func includes(_ event: KeyEvent) -> Bool { rawValue & Self.masks[Int(event.rawValue)] != 0 }

    /// The class of each event, by its number.
    private static let masks: [UInt32] = {
        var masks = [UInt32](repeating: 0, count: 256)
        for event in KeyEvent.allCases {
            let known = letters.first { $0.letter == event.letter }
            masks[Int(event.rawValue)] = known?.value.rawValue ?? 0
        }
        return masks
    }()
}
