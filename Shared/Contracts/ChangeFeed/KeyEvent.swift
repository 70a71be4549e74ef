import Base

/// What a command has done to a key, by the name that Redis gives it: a keyspace notification.
///
/// The raw value is in log entries and on the wire: never renumber, only add.
package enum KeyEvent: UInt8, CaseIterable, Hashable, Sendable {
    case set = 1
    case setRange = 2
    case append = 3
    case incrementBy = 4
    case incrementByFloat = 5
    case setBit = 6
    case delete = 7
    case expire = 8
    case persist = 9
    case renameFrom = 10
    case renameTo = 11
    case copyTo = 12
    case moveFrom = 13
    case moveTo = 14
    case hashSet = 15
    case hashDelete = 16
    case hashIncrementBy = 17
    case hashIncrementByFloat = 18
    /// The key's time has come, and it was collected.
    case expired = 19
    /// The key was not there before; what made it comes next.
    case new = 20

    /// The name on the wire of Redis.
    package var name: StaticString {
        switch self {
        case .set: "set"
        case .setRange: "setrange"
        case .append: "append"
        case .incrementBy: "incrby"
        case .incrementByFloat: "incrbyfloat"
        case .setBit: "setbit"
        case .delete: "del"
        case .expire: "expire"
        case .persist: "persist"
        case .renameFrom: "rename_from"
        case .renameTo: "rename_to"
        case .copyTo: "copy_to"
        case .moveFrom: "move_from"
        case .moveTo: "move_to"
        case .hashSet: "hset"
        case .hashDelete: "hdel"
        case .hashIncrementBy: "hincrby"
        case .hashIncrementByFloat: "hincrbyfloat"
        case .expired: "expired"
        case .new: "new"
        }
    }

    /// The letter of its class in `notify-keyspace-events`.
    package var letter: UInt8 {
        switch self {
        case .set, .setRange, .append, .incrementBy, .incrementByFloat, .setBit: UInt8(ascii: "$")
        case .delete, .expire, .persist, .renameFrom, .renameTo, .copyTo, .moveFrom, .moveTo: UInt8(ascii: "g")
        case .hashSet, .hashDelete, .hashIncrementBy, .hashIncrementByFloat: UInt8(ascii: "h")
        case .expired: UInt8(ascii: "x")
        case .new: UInt8(ascii: "n")
        }
    }
}
