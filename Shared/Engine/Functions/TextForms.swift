import Base
import DataModel

/// Values from text and to text, as the types of PostgreSQL read and write them.
enum TextForms {
    static func parse(_ text: String, _ type: DataType, _ settings: EngineSettings) throws(StatementError) -> Value {
        try ValueText.parse(text, as: type.unconstrained, settings.text)
    }

    static func text(_ value: Value, _ type: DataType, _ settings: EngineSettings) -> String {
        ValueText.text(of: value, as: type, settings.text)
    }

    /// Where only the value is at hand: as the widest type of its kind.
    static func untyped(_ value: Value, _ settings: EngineSettings) -> String {
        ValueText.text(of: value, as: type(of: value), settings.text)
    }

    /// The widest type that has such values.
    static func type(of value: Value) -> DataType {
        switch value {
        case .bool: .bool
        case .integer: .int64
        case .float: .float64
        case .decimal: .decimal
        case .null, .text: .text
        case .bytes: .bytes
        case .uuid: .uuid
        case .date: .date
        case .time: .time
        case .timeWithZone: .timeWithZone
        case .timestamp: .timestamp
        case .interval: .interval
        case .json: .jsonb
        case .array(let array): array.element.array
        case .tuple: .record
        }
    }
}
