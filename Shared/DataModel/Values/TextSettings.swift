import Base

/// What reading and printing values depends on besides their type: a session's settings, and the time.
package struct TextSettings: Sendable {
    /// Which of two numbers in a date is the month, where its form leaves that open (PostgreSQL's DateStyle).
    package enum DateOrder: Sendable { case monthDayYear, dayMonthYear, yearMonthDay }

    /// The session's zone.
    package var zone: ZoneRules
    /// Finds rules by name in any case, `America/New_York` say; nil if there are none.
    package var zoneNamed: @Sendable (String) -> ZoneRules?
    package var dateOrder = DateOrder.monthDayYear
    /// The start of the transaction, in microseconds since 1970 UTC: `now`, `today`.
    package var now: Int64

    package init(
        zone: ZoneRules = .utc, now: Int64 = 0, zoneNamed: @escaping @Sendable (String) -> ZoneRules? = { _ in nil }
    ) {
        self.zone = zone
        self.now = now
        self.zoneNamed = zoneNamed
    }

    /// The rules of a zone by any of its names: an abbreviation, a name of the tz database, a POSIX text.
    package func rules(ofZone name: String) -> ZoneRules? {
        if case .zone(let seconds) = DateTimeWord.find(name.lowercasedASCII) {
            return ZoneRules(name: name, offset: seconds)
        }
        return zoneNamed(name) ?? ZoneRules(posix: name.uppercased())
    }
}
