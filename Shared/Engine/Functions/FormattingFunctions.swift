import Base
import DataModel

/// to_char, to_date, to_timestamp and to_number.
enum FormattingFunctions {
    static let rows: [ScalarFunction] = moments + numbers + readers

    private static let moments: [ScalarFunction] = [
        .row(
            "to_char", [.timestamp, .text], .text,
            (
                "to_char('2024-02-29 15:04:05'::timestamp, 'FMDay, DD Mon YYYY HH12:MI am')",
                "Thursday, 29 Feb 2024 03:04 pm"
            ),
            volatility: .stable
        ) { a, _ throws(StatementError) in try shown(a[0].moment, nil, a[1].string) },
        .row(
            "to_char", [.timestampWithZone, .text], .text,
            ("to_char('2024-02-29 15:04:05+00'::timestamptz, 'YYYY-MM-DD\"T\"HH24:MI:SSOF')", "2024-02-29T15:04:05+00"),
            volatility: .stable
        ) { a, context throws(StatementError) in try shown(a[0].moment, context.settings.text.zone, a[1].string) },
        .row(
            "to_char", [.interval, .text], .text, ("to_char('15h 2m 12s'::interval, 'HH24:MI:SS')", "15:02:12"),
            volatility: .stable
        ) { a, _ throws(StatementError) in
            guard !a[1].string.isEmpty else { return .null }
            return .text(try DatePicture(a[1].string).text(of: DateParts(a[0].interval)))
        },
    ]

    private static func shown(_ moment: Int64, _ zone: ZoneRules?, _ picture: String) throws(StatementError) -> Value {
        guard moment != .max, moment != .min, !picture.isEmpty else { return .null }
        return .text(try DatePicture(picture).text(of: DateParts(moment: moment, zone: zone)))
    }

    private static let numbers: [ScalarFunction] = [
        (DataType.int32, "to_char(485, '999')", " 485"), (.int64, "to_char(1485::int8, '9,999')", " 1,485"),
        (.decimal, "to_char(-125.8, '999D99')", "-125.80"), (.float32, "to_char(0.5::float4, 'FM90.99')", "0.5"),
        (.float64, "to_char(1234.5::float8, '0009999.990')", " 0001234.500"),
    ].map { (type: DataType, expression: String, result: String) in
        .row("to_char", [type, .text], .text, (expression, result), volatility: .stable) {
            a, _ throws(StatementError) in
            let picture = try NumberPicture(a[1].string)
            switch a[0] {
            case .integer(let value) where type == .int32 && picture.isScientific:
                return .text(try picture.text(of: Double(value), digits: 15))
            case .integer(let value): return .text(try picture.text(of: Decimal(value)))
            case .float(let value): return .text(try picture.text(of: value, digits: type == .float32 ? 6 : 15))
            case let value: return .text(try picture.text(of: value.exact))
            }
        }
    }

    private static let readers: [ScalarFunction] = [
        .row(
            "to_date", [.text, .text], .date, ("to_date('05 Dec 2000', 'DD Mon YYYY')", "2000-12-05"),
            volatility: .stable
        ) { a, _ throws(StatementError) in
            let (day, _, _, _) = try DatePictureReader.read(a[0].string, DatePicture(a[1].string))
            guard day >= Calendar.firstDay, day < Calendar.endOfDates, let date = Int32(exactly: day) else {
                throw StatementError(.datetimeFieldOverflow, "date out of range: \"\(a[0].string)\"")
            }
            return .date(date)
        },
        .row(
            "to_timestamp", [.text, .text], .timestampWithZone,
            ("to_timestamp('2024-02-29 03:04 PM', 'YYYY-MM-DD HH:MI AM')", "2024-02-29 15:04:00+00"),
            volatility: .stable
        ) { a, context throws(StatementError) in
            let (day, time, offset, precision) = try DatePictureReader.read(a[0].string, DatePicture(a[1].string))
            let outOfRange = StatementError(.datetimeFieldOverflow, "timestamp out of range")
            guard day >= Calendar.firstDay, day < Calendar.endOfTimestamps else { throw outOfRange }
            let local = Int64(day) * Calendar.microsecondsPerDay + time
            let moment =
                offset.map { local &- Int64($0) * 1_000_000 } ?? context.settings.text.zone.moment(ofLocal: local)
            guard let checked = DateTimeFields.checked(moment) else { throw outOfRange }
            guard let precision else { return .timestamp(checked) }
            return try Value.timestamp(checked).coerced(
                to: DataType(.timestampWithZone, modifier: precision), isExplicit: true)
        },
        .row(
            "to_number", [.text, .text], .decimal, ("to_number('12,454.8-', '99G999D9S')", "-12454.8"),
            volatility: .stable
        ) { a, _ throws(StatementError) in .decimal(try NumberPicture(a[1].string).number(in: a[0].string)) },
    ]
}
