import Base
import DataModel
import Testing

@Suite("Arithmetic of dates and intervals")
struct DateTimeArithmeticTests {
    @Test("answers and refuses what PostgreSQL 15 does")
    func corpus() throws {
        let settings = try Corpus.settings()
        let lines = Corpus.lines.filter { $0.type.hasPrefix("= ") }
        #expect(lines.count > 100, "the corpus was not found")
        for line in lines {
            let parts = line.text.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            let answer: [String]
            do throws(StatementError) {
                answer = ["ok", try evaluate(line.type, parts, settings)]
            } catch {
                answer = [error.state.rawValue, error.message] + (error.detail.map { [$0] } ?? [])
            }
            #expect(answer == line.answer, "\(line.type) \(line.text)")
        }
    }

    private func timestamp(_ text: String, _ settings: TextSettings, _ type: DataType) throws(StatementError) -> Int64 {
        guard case .timestamp(let moment) = try ValueText.parse(text, as: type, settings) else { return 0 }
        return moment
    }

    private func interval(_ text: String) throws(StatementError) -> Interval {
        guard case .interval(let interval) = try ValueText.parse(text, as: .interval) else { return Interval() }
        return interval
    }

    private func evaluate(
        _ expression: String, _ parts: [String], _ settings: TextSettings
    ) throws(StatementError) -> String {
        let isZoned = expression.contains("timestamptz"), zone = isZoned ? settings.zone : nil
        let type = isZoned ? DataType.timestampWithZone : .timestamp
        let first = parts[0], second = parts.count > 1 ? parts[1] : ""
        func text(_ moment: Int64) -> String { ValueText.text(of: .timestamp(moment), as: type, settings) }
        func text(_ interval: Interval) -> String { ValueText.text(of: .interval(interval), as: .interval, settings) }
        switch expression {
        case "= $1::timestamp + $2::interval", "= $1::timestamptz + $2::interval":
            let moment = try timestamp(first, settings, type)
            return text(try DateTimeArithmetic.adding(interval(second), to: moment, zone: zone))
        case "= $1::timestamp - $2::timestamp":
            return text(
                try DateTimeArithmetic.difference(
                    timestamp(first, settings, type), timestamp(second, settings, type)))
        case "= age($1::timestamp, $2::timestamp)":
            return text(
                try DateTimeArithmetic.age(timestamp(first, settings, type), timestamp(second, settings, type)))
        case "= $1::interval * $2::float8": return text(try interval(first).multiplied(by: Double(second) ?? 0))
        case "= $1::interval / $2::float8": return text(try interval(first).divided(by: Double(second) ?? 0))
        case "= $1::interval + $2::interval": return text(try interval(first).adding(interval(second)))
        case "= justify_interval($1::interval)": return text(try interval(first).justified())
        case "= justify_hours($1::interval)": return text(try interval(first).justifyingHours())
        case "= justify_days($1::interval)": return text(try interval(first).justifyingDays())
        case "= date_trunc($1, $2::timestamp)", "= date_trunc($1, $2::timestamptz)":
            return text(try DateTimeArithmetic.truncated(timestamp(second, settings, type), to: first, zone: zone))
        case "= date_trunc($1, $2::interval)":
            return text(try DateTimeArithmetic.truncated(interval(second), to: first))
        case _:
            guard let type = PostgresTypes.type(named: String(expression.dropFirst(10))) else { return "?" }
            let value = try ValueText.parse(second, as: type, settings)
            return try DateTimeArithmetic.extract(first, from: value, as: type, zone: settings.zone)?.text ?? ""
        }
    }
}
