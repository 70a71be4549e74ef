import Base
import Contracts
import Glibc
import Net

extension Command {
    static let user = Command(
        "user", operands: "list|add|password|enable|disable|delete [NAME]", count: 1...2,
        summary: "Shows and changes the users of a running cluster.",
        options: [
            .data, CommandOption("generate", nil, "make a password and show it, instead of asking for one"),
            CommandOption("if-missing", nil, "with add: no error when the user is there already"),
            CommandOption("node", "ADDRESS", "ask this storage node (a Unix socket) instead of a local cluster's"),
            CommandOption("rules", "RULES", "what a new user may do, as in Redis ACL (default: ~* &* +@all)"),
        ]
    ) { arguments in try UserCommand(arguments).run() }
}

/// `orbit user`: takes a password from `ORBIT_PASSWORD`, asks for it on the terminal, or reads a line of standard
/// input; stores verifiers only.
struct UserCommand {
    private static let verbs = ["list", "add", "password", "enable", "disable", "delete"]

    private let arguments: Arguments
    private let verb: String
    private let name: String
    private let store: UserStore
    private let loop: EventLoop
    private let console = Console()

    init(_ arguments: Arguments) throws {
        self.arguments = arguments
        verb = arguments.operands[0]
        guard Self.verbs.contains(verb) else { throw UsageError(Arguments.unknown(verb, among: Self.verbs)) }
        guard (verb == "list") == (arguments.operands.count == 1) else {
            throw UsageError(verb == "list" ? "orbit user list takes no name" : "orbit user \(verb) takes a NAME")
        }
        name = arguments.operands.count == 2 ? arguments.operands[1] : ""
        guard verb == "list" || (1...128).contains(name.utf8.count), !name.utf8.contains(where: { $0 <= 0x20 }) else {
            throw UsageError("a user's name has 1 to 128 bytes and no blanks")
        }
        if verb != "add", arguments.has("rules") { throw UsageError("--rules goes with orbit user add") }
        if verb != "add", verb != "password", arguments.has("generate") {
            throw UsageError("--generate goes with orbit user add and orbit user password")
        }
        if verb != "add", arguments.has("if-missing") { throw UsageError("--if-missing goes with orbit user add") }
        loop = try EventLoop()
        if let node = arguments.text("node") {
            let address = try SocketAddress(parsing: node)
            guard case .unix = address else { throw UsageError("--node takes a Unix socket: unix:/path") }
            store = UserStore(nodes: [address], loop: loop)
        } else {
            store = try UserStore(plan: Command.existingCluster(arguments).0, loop: loop)
        }
    }

    func run() throws -> Int32 {
        switch verb {
        case "list": try list()
        case "add":
            var record = try UserStore.record(name, password: newPassword())
            record.rules = arguments.text("rules") ?? record.rules
            guard try wait({ store.put(record, onlyIfAbsent: true, $0) }) == .ok else {
                if arguments.has("if-missing") { return 0 }
                throw UsageError("user \(name) is there already; orbit user password changes its password")
            }
            console.out("User \(name) is added.")
        case "password":
            var record = try existing()
            record.verifiers = try UserStore.record(name, password: newPassword()).verifiers
            _ = try wait { store.put(record, onlyIfAbsent: false, $0) }
            console.out("The password of \(name) is changed.")
        case "enable", "disable":
            var record = try existing()
            record.isEnabled = verb == "enable"
            _ = try wait { store.put(record, onlyIfAbsent: false, $0) }
            console.out("User \(name) is \(verb)d.")
        default:
            guard try wait({ store.delete(name, $0) }) == .integer(1) else {
                throw UsageError("there is no user \(name)")
            }
            console.out("User \(name) is deleted.")
        }
        return 0
    }

    private func list() throws {
        var records: [UserRecord] = []
        for slot in try slotOfEachShard() { records += try users(ofShardWith: slot) }
        records.sort { $0.name < $1.name }
        let rows = records.map { [$0.name, $0.isEnabled ? "enabled" : "disabled", $0.rules] }
        for line in Console.table([["NAME", "STATE", "RULES"]] + rows) { console.out(line) }
    }

    /// A node that is asked by its address may have no coordinator: it has one shard then.
    private func slotOfEachShard() throws -> [UInt32] {
        guard !arguments.has("node") else { return [0] }
        return try PlacementOperator(Command.existingCluster(arguments).0).slotOfEachShard()
    }

    private func users(ofShardWith slot: UInt32) throws -> [UserRecord] {
        var (records, last, limit): ([UserRecord], Bytes, Int) = ([], [], UserStore.pageLimit)
        while true {
            let reply: UserStore.Reply
            do {
                reply = try wait { store.page(ofShardWith: slot, after: last, limit: limit, $0) }
            } catch let error as DatabaseError where error.code == .limitExceeded && limit > 1 {
                limit /= 2  // Large records: fewer at a time.
                continue
            }
            guard case .list(let items) = reply else { return records }
            // Keys and values alternate; a value says everything.
            for index in stride(from: 1, to: items.count, by: 2) {
                records.append(try items[index].withUnsafeBytes { try UserRecord(decoding: $0) })
            }
            guard items.count >= 2 * limit else { return records }
            last = items[items.count - 2]
        }
    }

    private func existing() throws -> UserRecord {
        guard case .data(let bytes) = try wait({ store.get(name, $0) }) else {
            throw UsageError("there is no user \(name); orbit user list shows them")
        }
        return try bytes.withUnsafeBytes { try UserRecord(decoding: $0) }
    }

    /// Runs the loop until an operation is answered.
    private func wait(_ operation: (@escaping UserStore.Completion) -> Void) throws -> UserStore.Reply {
        var answer: Result<UserStore.Reply, DatabaseError> = .failure(DatabaseError(.unavailable, "no answer"))
        operation { result in
            answer = result
            loop.stop()
        }
        loop.run()
        return try answer.get()
    }

    private func newPassword() throws -> String {
        if arguments.has("generate") {
            let made = ClusterDirectory.makePassword()
            console.out("Password: \(made)")
            return made
        }
        if let given = getenv("ORBIT_PASSWORD") { return String(cString: given) }
        let isTerminal = isatty(0) == 1
        let password = try readPassword("New password: ", isTerminal: isTerminal)
        if isTerminal, try readPassword("Once more: ", isTerminal: true) != password {
            throw UsageError("the two do not match")
        }
        guard !password.isEmpty else { throw UsageError("the password is empty") }
        return password
    }

    /// A line of standard input; on a terminal nothing of it is shown.
    private func readPassword(_ prompt: String, isTerminal: Bool) throws -> String {
        guard isTerminal else { return readLine() ?? "" }
        var settings = termios()
        guard tcgetattr(0, &settings) == 0 else { throw SystemError("tcgetattr") }
        var silent = settings
        silent.c_lflag &= ~tcflag_t(ECHO)
        tcsetattr(0, TCSANOW, &silent)
        defer {
            tcsetattr(0, TCSANOW, &settings)
            console.out()
        }
        console.out(prompt)
        return readLine() ?? ""
    }
}
