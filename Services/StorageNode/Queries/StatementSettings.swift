import Base
import Contracts
import DataModel
import Engine

/// What a session says of its statements, from the settings that travel with them.
struct StatementSettings {
    var engine = EngineSettings()
    var text = TextSettings()

    /// Settings that are not known here change nothing that a statement means: gateways send those that do.
    init(_ request: QueryRequest, principal: String, now: Int64, transactionTime: Int64) {
        engine.user = principal
        (engine.statementTime, engine.transactionTime) = (now, transactionTime)
        engine.random = {
            var random = SystemRandom()
            return random.next()
        }
        text.now = transactionTime
        for setting in request.settings {
            switch setting.name {
            case "search_path": engine.searchPath = Self.names(setting.value)
            case "user": engine.user = setting.value
            case "database": engine.database = setting.value
            case _: break
            }
        }
    }

    /// Names between commas, as they are.
    private static func names(_ list: String) -> [String] {
        list.split(separator: ",").map { name in
            String(name.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
        }
    }
}
