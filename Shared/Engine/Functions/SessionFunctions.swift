import Base
import DataModel

/// What the session and the system say of themselves.
enum SessionFunctions {
    static let rows: [ScalarFunction] =
        names("current_user", "user", "current_role") { $0.user } + names("session_user") { $0.sessionUser }
        + names("current_database", "current_catalog") { $0.database }
        + names("current_schema") { $0.searchPath.first ?? "public" } + [
            ScalarFunction(
                "version", [], .of(.text), volatility: .stable,
                example: ("starts_with(version(), 'PostgreSQL')", "true")
            ) { _, context throws(StatementError) in .text(context.settings.version) }
        ]

    private static func names(_ names: String..., from value: @escaping @Sendable (EngineSettings) -> String)
        -> [ScalarFunction]
    {
        names.map { name in
            // Forms of the language are written without parentheses.
            let isForm = name != "current_database"
            return ScalarFunction(
                name, [], .of(.name), volatility: .stable,
                example: ("length(\(name)\(isForm ? "" : "()")) > 0", "true")
            ) { _, context throws(StatementError) in .text(value(context.settings)) }
        }
    }
}
