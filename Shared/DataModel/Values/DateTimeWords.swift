/// The words that dates and times know.
enum DateTimeWord: Equatable {
    case month(Int), weekday, era(isBC: Bool), meridiem(isAfternoon: Bool), zone(Int32), now, today(Int), epoch
    case infinity, midnight, timeMark, julianMark, daylight, ignored

    static func find(_ word: String) -> DateTimeWord? {
        if let special = table[word] { return special }
        return zones[word].map { .zone(Int32($0 * 60)) }
    }

    private static let table: [String: DateTimeWord] = {
        var table: [String: DateTimeWord] = [
            "now": .now, "today": .today(0), "tomorrow": .today(1), "yesterday": .today(-1), "epoch": .epoch,
            "infinity": .infinity, "+infinity": .infinity, "allballs": .midnight, "t": .timeMark, "j": .julianMark,
            "jd": .julianMark, "julian": .julianMark, "at": .ignored, "on": .ignored, "ad": .era(isBC: false),
            "bc": .era(isBC: true), "am": .meridiem(isAfternoon: false), "pm": .meridiem(isAfternoon: true),
            "dst": .daylight, "sept": .month(9),
        ]
        let months = [
            "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
            "november", "december",
        ]
        for (index, name) in months.enumerated() {
            table[name] = .month(index + 1)
            table[String(name.prefix(3))] = .month(index + 1)
        }
        let days = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
        for name in days + days.map({ String($0.prefix(3)) }) + ["tues", "thur", "thurs", "weds"] {
            table[name] = .weekday
        }
        return table
    }()

    /// Abbreviations of zones, in minutes east of Greenwich: the common part of PostgreSQL's default set.
    private static let zones: [String: Int] = [
        "utc": 0, "ut": 0, "uct": 0, "gmt": 0, "z": 0, "zulu": 0, "wet": 0, "bst": 60, "cet": 60, "met": 60, "mez": 60,
        "west": 60, "wetdst": 60, "cest": 120, "mest": 120, "mesz": 120, "cetdst": 120, "metdst": 120, "eet": 120,
        "ist": 120, "sast": 120, "eest": 180, "eetdst": 180, "eat": 180, "idt": 180, "msk": 180, "msd": 240,
        "uzt": 300, "pkt": 300, "npt": 345, "ict": 420, "wib": 420, "cct": 480, "hkt": 480, "myt": 480, "pht": 480,
        "sgt": 480, "wast": 420, "awst": 480, "jst": 540, "kst": 540, "kdt": 600, "sadt": 630, "acst": 570,
        "acdt": 630, "aest": 600, "aedt": 660, "ligt": 600, "nzt": 720, "nzst": 720, "nzdt": 780, "chast": 765,
        "chadt": 825, "azot": -60, "azost": 0, "brt": -180, "brst": -120, "art": -180, "clt": -180, "clst": -180,
        "nst": -210, "nft": -210, "ndt": -150, "ast": -240, "adt": -180, "est": -300, "edt": -240, "cst": -360,
        "cdt": -300, "mst": -420, "mdt": -360, "pst": -480, "pdt": -420, "akst": -540, "akdt": -480, "hst": -600,
    ]
}
