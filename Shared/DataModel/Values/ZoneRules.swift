import Base

/// When a time zone's clocks show what: read from a file of the tz database (TZif, RFC 8536), from a POSIX text, or one
/// offset for ever. Reading is pure; who has files hands their bytes in.
package struct ZoneRules: Sendable {
    /// What clocks show for a while.
    package struct Period: Hashable, Sendable {
        /// Seconds EAST of Greenwich.
        package let offset: Int32
        package let isDaylight: Bool
        package let abbreviation: String

        package init(offset: Int32, isDaylight: Bool = false, abbreviation: String) {
            self.offset = offset
            self.isDaylight = isDaylight
            self.abbreviation = abbreviation
        }
    }

    /// What stays the same for all copies.
    private final class Table: Sendable {
        let name: String, transitions: [Int64], kinds: [UInt8], periods: [Period], rule: PosixRule?

        init(name: String, transitions: [Int64], kinds: [UInt8], periods: [Period], rule: PosixRule?) {
            self.name = name
            self.transitions = transitions
            self.kinds = kinds
            self.periods = periods
            self.rule = rule
        }
    }

    private let table: Table

    package static let utc = ZoneRules(name: "UTC", offset: 0)

    /// One offset for ever, in seconds EAST of Greenwich.
    package init(name: String, offset: Int32) {
        let period = Period(offset: offset, abbreviation: name)
        table = Table(name: name, transitions: [], kinds: [], periods: [period], rule: nil)
    }

    /// `EST5EDT,M3.2.0,M11.1.0`, `<+03>-3`; nil if it is no such text.
    package init?(posix text: String) {
        guard let rule = PosixRule(text) else { return nil }
        table = Table(name: text, transitions: [], kinds: [], periods: [rule.standard], rule: rule)
    }

    /// An offset as timestamps have it: `+2`, `-03:30`, `+0100`.
    package enum Numeric { case none, outOfRange, offset(Int32) }

    /// Reads such an offset, which counts EAST of Greenwich.
    package static func numeric(_ text: String) -> Numeric {
        let bytes = Array(text.utf8)
        guard bytes.first == UInt8(ascii: "+") || bytes.first == UInt8(ascii: "-") else { return .none }
        do throws(DateTimeParser.Failure) { return .offset(try DateTimeParser.zone(bytes)) } catch {
            if case .zoneOutOfRange = error { return .outOfRange }
            return .none
        }
    }

    package var name: String { table.name }

    /// Whether it is the same offset at any time.
    package var isFixed: Bool { table.transitions.isEmpty && table.rule?.daylight == nil }

    // MARK: Looking up

    /// What clocks show at a time, in seconds since 1970 UTC.
    package func period(at time: Int64) -> Period {
        let index = count(upTo: time)
        if index == table.transitions.count, let rule = table.rule { return rule.period(at: time) }
        if index > 0 { return table.periods[Int(table.kinds[index - 1])] }
        return table.periods[0]
    }

    /// How many transitions are at or before that time.
    private func count(upTo time: Int64) -> Int {
        var low = 0, high = table.transitions.count
        while low < high {
            let middle = (low + high) / 2
            if table.transitions[middle] <= time { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// When clocks are changed next, strictly after a time.
    private func transition(after time: Int64) -> Int64? {
        let index = count(upTo: time)
        if index < table.transitions.count { return table.transitions[index] }
        return table.rule?.transition(after: time)
    }

    /// The offset of clocks that show `local` (seconds since 1970 as if it were UTC). Where clocks skip that time, the
    /// offset before is taken; where they show it twice, the one after: standard time, as PostgreSQL does.
    package func offset(ofLocal local: Int64) -> Int32 {
        let early = local &- 86_400
        let before = period(at: early).offset
        guard let boundary = transition(after: early) else { return before }
        let after = period(at: boundary).offset
        let timeBefore = local &- Int64(before), timeAfter = local &- Int64(after)
        if timeBefore < boundary, timeAfter < boundary { return before }
        if timeBefore > boundary, timeAfter >= boundary { return after }
        return timeBefore > timeAfter ? before : after
    }

    /// Local microseconds of a moment in UTC.
    package func local(of moment: Int64) -> Int64 {
        moment &+ Int64(period(at: Self.seconds(moment)).offset) &* 1_000_000
    }

    /// The moment in UTC of local microseconds.
    package func moment(ofLocal local: Int64) -> Int64 {
        local &- Int64(offset(ofLocal: Self.seconds(local))) &* 1_000_000
    }

    private static func seconds(_ microseconds: Int64) -> Int64 {
        Int64(Calendar.floorDivide(Int(microseconds), 1_000_000))
    }

    // MARK: TZif

    /// Reads a file of the tz database; nil if it is none, or damaged.
    package init?(name: String, tzif: ByteView) {
        var reader = ByteReader(tzif)
        guard let first = Header(&reader) else { return nil }
        var header = first, width = 4
        if first.version > 0 {
            // The first block has times of 32 bits, for old readers.
            guard reader.view(first.size(width: 4)) != nil, let second = Header(&reader) else { return nil }
            (header, width) = (second, 8)
        }
        guard let body = reader.view(header.size(width: width)) else { return nil }
        let footer = reader.rest.dropFirst().prefix { $0 != 0x0a }
        let rule = width == 8 ? PosixRule(String(decoding: footer, as: UTF8.self)) : nil
        guard let table = Self.read(body, header, width, name, rule) else { return nil }
        self.table = table
    }

    private static func read(
        _ body: ByteView, _ header: Header, _ width: Int, _ name: String, _ rule: PosixRule?
    ) -> Table? {
        var reader = ByteReader(body)
        var transitions: [Int64] = [], kinds: [UInt8] = []
        for _ in 0..<header.transitions {
            let time = width == 8 ? reader.bigEndian(Int64.self) : reader.bigEndian(Int32.self).map(Int64.init)
            guard let time, transitions.last.map({ $0 < time }) ?? true else { return nil }
            transitions.append(time)
        }
        for _ in 0..<header.transitions {
            guard let kind = reader.byte(), kind < header.periods else { return nil }
            kinds.append(kind)
        }
        var heads: [(offset: Int32, isDaylight: Bool, name: Int)] = []
        for _ in 0..<header.periods {
            guard let offset = reader.bigEndian(Int32.self), offset > -100_000, offset < 100_000,
                let isDaylight = reader.byte(), let position = reader.byte()
            else { return nil }
            heads.append((offset, isDaylight != 0, Int(position)))
        }
        guard let names = reader.view(header.characters), !heads.isEmpty else { return nil }
        let periods = heads.map { head in
            let name = names.dropFirst(head.name).prefix { $0 != 0 }
            return Period(
                offset: head.offset, isDaylight: head.isDaylight, abbreviation: String(decoding: name, as: UTF8.self))
        }
        return Table(name: name, transitions: transitions, kinds: kinds, periods: periods, rule: rule)
    }

    /// What stands in front of each block.
    private struct Header {
        let version: UInt8
        let universal: Int, standard: Int, leaps: Int, transitions: Int, periods: Int, characters: Int

        init?(_ reader: inout ByteReader) {
            guard reader.bigEndian(UInt32.self) == 0x545a_6966, let version = reader.byte(), reader.view(15) != nil
            else { return nil }
            var counts: [Int] = []
            for _ in 0..<6 {
                // Real files are far smaller; sums of these cannot overflow.
                guard let count = reader.bigEndian(UInt32.self), count < 1 << 20 else { return nil }
                counts.append(Int(count))
            }
            self.version = version
            (universal, standard, leaps) = (counts[0], counts[1], counts[2])
            (transitions, periods, characters) = (counts[3], counts[4], counts[5])
        }

        func size(width: Int) -> Int {
            transitions * (width + 1) + periods * 6 + characters + leaps * (width + 4) + standard + universal
        }
    }
}
