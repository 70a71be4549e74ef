import Base
import DataModel

/// Values from text and to text, as the types of PostgreSQL read and write them.
package enum TextForms {
    /// Names of objects are looked up in the catalog of the settings.
    package static func parse(_ text: String, _ type: DataType, _ settings: EngineSettings) throws(StatementError)
        -> Value
    {
        guard ObjectNames.kinds.contains(type.kind), !type.isArray else {
            // An interval's fields say what a bare number in the text counts.
            let isInterval = type.kind == .interval && !type.isArray
            return try ValueText.parse(text, as: isInterval ? type : type.unconstrained, settings.text)
        }
        return .oid(try ObjectNames(SystemCatalog(settings)).number(text, type.kind))
    }

    /// Within an execution, which knows its catalogs already.
    static func parse(_ text: String, _ type: DataType, _ context: ExecutionContext) throws(StatementError) -> Value {
        guard ObjectNames.kinds.contains(type.kind), !type.isArray else {
            return try parse(text, type, context.settings)
        }
        return .oid(try ObjectNames(context.system).number(text, type.kind))
    }

    static func text(_ value: Value, _ type: DataType, _ settings: EngineSettings) -> String {
        guard ObjectNames.kinds.contains(type.kind) else { return ValueText.text(of: value, as: type, settings.text) }
        return named(value, type, settings) { SystemCatalog(settings) }
    }

    static func text(_ value: Value, _ type: DataType, _ context: ExecutionContext) -> String {
        guard ObjectNames.kinds.contains(type.kind) else { return text(value, type, context.settings) }
        return named(value, type, context.settings) { context.system }
    }

    /// Numbers of objects, as their names.
    private static func named(
        _ value: Value, _ type: DataType, _ settings: EngineSettings, _ system: () -> SystemCatalog
    ) -> String {
        switch value {
        case .integer(let number): return ObjectNames(system()).text(number, type.kind)
        case .array(let array):
            let names = ObjectNames(system())
            let elements = array.elements.map { element -> Value in
                if case .integer(let number) = element { .text(names.text(number, type.kind)) } else { element }
            }
            guard let texts = ArrayValue(.text, dimensions: array.dimensions, elements: elements) else { return "" }
            return ValueText.text(of: .array(texts), as: .text.array, settings.text)
        case _: return ValueText.text(of: value, as: type, settings.text)
        }
    }

    /// Where only the value is at hand: as the widest type of its kind.
    static func untyped(_ value: Value, _ settings: EngineSettings) -> String {
        ValueText.text(of: value, as: type(of: value), settings.text)
    }

    /// The widest type that has such values.
    static func type(of value: Value) -> DataType { value.isNull ? .text : value.plainType }
}
