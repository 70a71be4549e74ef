import Base
import Raft

/// A story about a group: lines that begin with `> ` are commands, the lines under each are what happened, `#` lines
/// are for the reader.
///
/// | command | what it does |
/// |---|---|
/// | `replicas N [spare N] [lease off] [quiesce MS] [inflight N] [batch N] [bug NAME]` | starts a group |
/// | `tick MS` | time passes, timers run |
/// | `idle MS` | time passes, nobody looks at a clock |
/// | `campaign A` | A's clock runs ahead of the others until it campaigns |
/// | `deliver [A B] [quietly]` | messages arrive (those from A to B), and what they lead to, until there are none |
/// | `once [A B]` | only the oldest message (from A to B) arrives |
/// | `drop [A B]` | messages under way (from A to B) are lost |
/// | `repeat A B` | the oldest message from A to B is doubled |
/// | `partition A B …` | those are cut off from the others; `cut A B`: one way |
/// | `heal` | all links work |
/// | `disk slow`, `disk fast` | writes wait for `persist A [N]`, or not |
/// | `propose A [N]`, `read A`, `lease A` | the client's side |
/// | `transfer A B`, `add A B`, `remove A B`, `learn A B`, `members A B C …` | asked of A |
/// | `compact A [INDEX]`, `crash A`, `restart A [cut]` | the driver's side; `cut`: its log may have lost its end |
/// | `lose A N` | while A is down, its disk loses so many entries that were durable |
/// | `unreachable A B`, `down A B`, `wake A` | what A's driver notices |
/// | `status`, `network` | what is |
struct Scenario {
    private var cluster = Cluster(voters: 1, seed: 1)
    private var output: [String] = []

    /// The text with what happens now.
    static func replay(_ text: String) -> String {
        var scenario = Scenario()
        var lines: [String] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init) {
            if line.hasPrefix("> ") {
                lines.append(line)
                lines += scenario.perform(line.dropFirst(2).split(separator: " ").map(String.init))
            } else if line.isEmpty || line.hasPrefix("#") {
                lines.append(line)
            }
        }
        return lines.joined(separator: "\n")
    }

    private mutating func perform(_ words: [String]) -> [String] {
        output = []
        let known = run(words[0], Array(words.dropFirst()))
        if !known { output.append("unknown command") }
        tell()
        cluster.checkLogMatching()
        output += cluster.violations.map { "VIOLATION \($0)" }
        cluster.violations = []
        return output
    }

    /// Moves what happened to the output, so that it stands behind the message that led to it.
    private mutating func tell() {
        output += cluster.story.map { "  " + $0 }
        cluster.story = []
    }

    private mutating func run(_ verb: String, _ words: [String]) -> Bool {
        let numbers = words.compactMap { UInt32($0) }
        func at(_ index: Int) -> Int { index < numbers.count ? Int(numbers[index]) - 1 : 0 }
        func peer(_ index: Int) -> NodeID { node(index < numbers.count ? numbers[index] : 0) }
        switch verb {
        case "replicas": begin(words)
        case "tick": cluster.pass(milliseconds: UInt64(numbers[0]))
        case "idle": cluster.time += UInt64(numbers[0]) * 1_000_000
        case "campaign": campaign(at(0))
        case "deliver": deliver(numbers, isQuiet: words.contains("quietly"))
        case "once": if let index = find(numbers) { deliver(index, isQuiet: false) }
        case "drop": drop(numbers)
        case "repeat": if let index = find(numbers) { cluster.network.append(cluster.network[index]) }
        case "partition": partition(Set(numbers))
        case "cut": cluster.cut.insert([peer(0), peer(1)])
        case "heal": cluster.cut.removeAll()
        case "disk": cluster.persistsAtOnce = words == ["fast"]
        case "persist": cluster.persist(at(0), numbers.count > 1 ? Int(numbers[1]) : .max)
        case "propose": cluster.propose(at(0), count: numbers.count > 1 ? Int(numbers[1]) : 1)
        case "read": cluster.read(at(0))
        case "compact": cluster.compact(at(0), through: numbers.count > 1 ? UInt64(numbers[1]) : .max)
        case "crash": cluster.crash(at(0))
        case "restart": cluster.start(at(0), mayVote: !words.contains("cut"))
        case "lose": cluster.replicas[at(0)].loseEnd(Int(numbers[1]))
        case "unreachable": cluster.step(at(0), .unreachable(peer(1)))
        case "down": cluster.step(at(0), .peerDown(peer(1)))
        case "wake": cluster.step(at(0), .wake)
        case "transfer": cluster.step(at(0), .transferLeadership(to: peer(1)))
        case "add", "remove", "learn", "members": changeMembers(verb, at(0), Array(numbers.dropFirst()))
        case "status": for replica in cluster.replicas { output.append(Narration.describe(replica)) }
        case "network": output += cluster.network.map { Narration.describe($0.message) }
        case "lease":
            let isValid = cluster.replicas[at(0)].core?.leaseIsValid(at: cluster.now(at(0))) == true
            output.append(isValid ? "valid" : "not valid")
        case _: return false
        }
        return true
    }

    // MARK: Commands

    private mutating func begin(_ words: [String]) {
        func option(_ name: String) -> String? {
            words.firstIndex(of: name).flatMap { $0 + 1 < words.count ? words[$0 + 1] : nil }
        }
        cluster = Cluster(
            voters: words.first.flatMap { Int($0) } ?? 1, spare: option("spare").flatMap { Int($0) } ?? 0, seed: 7)
        let bugs = PlantedBugs.catalog.first { $0.name == option("bug") }?.bug ?? []
        let isLeaseOn = option("lease") != "off"
        let quiesce = option("quiesce").flatMap { UInt64($0) }.map { $0 * 1_000_000 }
        let inFlight = option("inflight").flatMap { Int($0) }
        let batch = option("batch").flatMap { Int($0) }
        cluster.configure = {
            $0.plantedBugs = bugs
            $0.isLeaseOn = isLeaseOn
            $0.quiesceAfter = quiesce
            $0.inFlightMessages = inFlight ?? $0.inFlightMessages
            $0.appendEntries = batch ?? $0.appendEntries
        }
        cluster.isTelling = true
        cluster.persistsAtOnce = true
        for position in cluster.replicas.indices { cluster.start(position) }
        cluster.time += 500_000_000  // Behind the fence of the start.
    }

    private mutating func campaign(_ position: Int) {
        cluster.replicas[position].ahead += 1_000_000_000
        cluster.step(position, .tick)
    }

    private func find(_ link: [UInt32]) -> Int? {
        cluster.network.firstIndex {
            link.count < 2 || ($0.message.from == node(link[0]) && $0.message.to == node(link[1]))
        }
    }

    private mutating func deliver(_ index: Int, isQuiet: Bool) {
        let message = cluster.network[index].message
        let isLost = cluster.isCut(message) || cluster.replicas[cluster.position(message.to)].core == nil
        if !isQuiet { output.append(Narration.describe(message) + (isLost ? " (lost)" : "")) }
        cluster.deliver(index)
        tell()
    }

    private mutating func deliver(_ link: [UInt32], isQuiet: Bool) {
        var left = 2000
        while left > 0, let index = find(link) {
            deliver(index, isQuiet: isQuiet)
            left -= 1
        }
        if left == 0 { output.append("it does not end") }
    }

    private mutating func drop(_ link: [UInt32]) {
        while let index = find(link) {
            let message = cluster.network.remove(at: index).message
            output.append(Narration.describe(message) + " (lost)")
            if case .snapshot = message.body {
                cluster.step(cluster.position(message.from), .snapshotSent(to: message.to, isDone: false))
            }
        }
    }

    private mutating func partition(_ side: Set<UInt32>) {
        for one in cluster.replicas.map(\.id) where side.contains(one.rawValue) {
            for other in cluster.replicas.map(\.id) where !side.contains(other.rawValue) {
                cluster.cut.formUnion([[one, other], [other, one]])
            }
        }
    }

    private mutating func changeMembers(_ verb: String, _ position: Int, _ nodes: [UInt32]) {
        guard let membership = cluster.replicas[position].core?.membership else { return }
        let named = nodes.map { node($0) }
        let others = membership.learners.filter { !named.contains($0) }
        let target =
            switch verb {
            case "add": Membership(voters: membership.voters + named, learners: others)
            case "remove": Membership(voters: membership.voters.filter { !named.contains($0) }, learners: others)
            case "learn":
                Membership(voters: membership.voters.filter { !named.contains($0) }, learners: others + named)
            case _: Membership(voters: named)
            }
        cluster.step(position, .proposeMembership(target))
    }
}
