import Base
import Contracts
import DataModel
import Engine
import Net
import ServiceKit

/// What a session says of its statements, from the settings that travel with them.
struct StatementSettings {
    var engine = EngineSettings()
    /// As SET SESSION AUTHORIZATION and SET ROLE say.
    private var sessionUser: String?, role: String?
    let principal: String

    /// Settings that are not known here change nothing that a statement means: gateways send those that do. Times are
    /// microseconds since 1970.
    init(
        _ request: QueryRequest, principal: String, now: Int64, transactionTime: Int64, zones: ZoneTable
    ) throws(StatementError) {
        self.principal = principal
        engine.user = principal
        engine.sessionUser = principal
        (engine.statementTime, engine.transactionTime) = (now, transactionTime)
        engine.random = {
            var random = SystemRandom()
            return random.next()
        }
        engine.elapsed = { monotonicNanoseconds() }
        engine.text.now = transactionTime
        engine.text.zoneNamed = { ZoneFiles.rules($0) }
        engine.sessionSettings = request.settings
        if !request.sequences.isEmpty { engine.sequences = SessionSequences(request.sequences) }
        for setting in request.settings {
            switch setting.name {
            case "search_path": engine.searchPath = Self.names(setting.value)
            case QueryRequest.Setting.roleNumber:
                guard let number = UInt32(setting.value) else {
                    throw StatementError(.protocolViolation, "malformed number of a role")
                }
                engine.authority = .role(RoleID(rawValue: number))
            case "session_authorization" where setting.value != principal: sessionUser = setting.value
            case "role": role = setting.value
            case "enable_seqscan": engine.avoidsScans = setting.value == "off"
            case "enable_hashjoin": engine.avoidsHashJoins = setting.value == "off"
            case "enable_mergejoin": engine.avoidsMergeJoins = setting.value == "off"
            case "enable_hashagg": engine.avoidsHashAggregates = setting.value == "off"
            case "database": engine.database = setting.value
            case "TimeZone": engine.text.zone = try zones.rules(setting.value)
            case "DateStyle": engine.text.dateOrder = try Self.order(setting.value)
            case _: break
            }
        }
    }

    /// Means by names what `catalog` has: the user who the session has become, and namespaces. Those of the search path
    /// that are not there are left out; `$user` is the user's own.
    mutating func resolve(_ catalog: Catalog) throws(StatementError) {
        if let sessionUser { try engine.becomeSession(of: sessionUser, catalog) }
        if let role { try engine.become(role, catalog) }
        let user = engine.user
        engine.searchPath = engine.searchPath.map { $0 == "$user" ? user : $0 }
            .filter { catalog.hasNamespace($0) }
        engine.catalog = catalog
    }

    /// Identifiers with commas between; one in quotes is what stands in them, a doubled quote being one.
    private static func names(_ list: String) -> [String] {
        let characters = Array(list.unicodeScalars)
        var names: [String] = [], name = String.UnicodeScalarView(), isQuoted = false, index = 0
        while index < characters.count {
            let character = characters[index]
            index += 1
            switch character {
            case "\"" where isQuoted && index < characters.count && characters[index] == "\"":
                name.append(character)
                index += 1
            case "\"": isQuoted.toggle()
            case "," where !isQuoted:
                names.append(String(name))
                name = String.UnicodeScalarView()
            case " " where !isQuoted: break
            case _: name.append(character)
            }
        }
        return (names + [String(name)]).filter { !$0.isEmpty }
    }

    private static func order(_ style: String) throws(StatementError) -> TextSettings.DateOrder {
        switch style {
        case "ISO, MDY": return .monthDayYear
        case "ISO, DMY": return .dayMonthYear
        case "ISO, YMD": return .yearMonthDay
        case _:
            throw StatementError(.invalidParameterValue, "invalid value for parameter \"DateStyle\": \"\(style)\"")
        }
    }
}

/// Zones that statements have named, read once.
final class ZoneTable {
    private static let limit = 1024
    private var known: [String: ZoneRules] = ["UTC": .utc]

    /// By a name of the system's zone files, or as POSIX writes rules.
    func rules(_ name: String) throws(StatementError) -> ZoneRules {
        if let rules = known[name] { return rules }
        guard let rules = ZoneFiles.rules(name) ?? ZoneRules(posix: name) else {
            throw StatementError(.invalidParameterValue, "time zone \"\(name)\" not recognized")
        }
        if known.count >= Self.limit { known = ["UTC": .utc] }
        known[name] = rules
        return rules
    }
}
