import Base
import Glibc

let usage = """
    usage: orbit-simulate [SEED] [--seeds COUNT] [--steps N] [--plant BUG] [--profile NAME] [--threads N] [--trace]
           orbit-simulate shard [SEED] [--seeds COUNT] [--steps N] [--plant BUG] [--trace]
           orbit-simulate bugs [SEED] [--seeds COUNT] [--plant BUG] [--profile NAME] [--threads N]
           orbit-simulate bench versions|history|memtables|log [--keys N]
           orbit-simulate check FILE [--level read-committed|snapshot|serializable|strict-serializable]

    Runs a whole cluster in virtual time, once per seed from SEED on (default: a random one): elections, replication,
    changes of members, snapshots and clients' reads and writes, on a network and on disks that fail. Checks that one
    leader leads, that replicas agree, that nothing acknowledged is lost and that clients saw a linearizable history.
    Prints how to replay a failure, and exits with 1.

    shard runs one shard on a simulated disk, and checks that every acknowledged write survives and nothing refused
    appears. bugs plants one bug after the other, says how many seeds it took to find each, and fails when one is not
    found; each is looked for under the profile that is made for it, if there is one.

      --seeds COUNT   how many seeds (default 1; for bugs, how many at most for each: 100)
      --steps N       stops a cluster after N events; steps of each run of a shard (default 400)
      --plant BUG     plants a bug that must be found
      --profile NAME  what the faults of a cluster are after: mixed, or a classic accident that is played on purpose:
                      figure8, usurper, lostVote, earlyReader, sleeper (default: the seed decides, mostly mixed)
      --threads N     default: one per processor
      --trace         prints what happens

    check reads a history of transactions that clients have recorded (docs/simulation.md), and says what it shows that
    the level forbids (default: strict-serializable); then it exits with 1.

    bench measures storage layouts and the log on this machine (docs/decisions/0001-version-layout.md,
    0010-versions.md).

    """

func writeOut(_ text: String) {
    print(text, terminator: "")
    fflush(nil)
}

func fail(_ text: String, code: Int32) -> Never {
    var text = text
    text.withUTF8 { _ = write(2, $0.baseAddress, $0.count) }
    exit(code)
}

/// What the command line asks for.
struct Arguments {
    var seed: UInt64?
    var seeds: UInt64?
    var steps: Int?
    /// The name of a planted bug.
    var bug: String?
    var profile: FaultProfile?
    var threads = SeedRunner.processors
    var isTraced = false

    init(_ words: [String]) {
        var rest = words[...]
        while let word = rest.popFirst() {
            switch word {
            case "--seeds": seeds = Self.number(&rest, word)
            case "--steps": steps = Int(clamping: Self.number(&rest, word))
            case "--threads": threads = Int(clamping: Self.number(&rest, word))
            case "--plant":
                guard let name = rest.popFirst() else { fail(usage, code: 64) }
                bug = name
            case "--profile":
                guard let name = rest.popFirst(), let known = FaultProfile(rawValue: name) else {
                    let names = FaultProfile.allCases.map(\.rawValue).joined(separator: ", ")
                    fail("--profile needs one of: \(names)\n", code: 64)
                }
                profile = known
            case "--trace": isTraced = true
            case "--help", "-h":
                writeOut(usage)
                exit(0)
            default:
                guard seed == nil, let number = UInt64(word) else {
                    fail("unknown argument \(word)\n\(usage)", code: 64)
                }
                seed = number
            }
        }
    }

    private static func number(_ rest: inout ArraySlice<String>, _ option: String) -> UInt64 {
        guard let number = rest.popFirst().flatMap({ UInt64($0) }) else { fail("\(option) needs a number\n", code: 64) }
        return number
    }

    /// The first seed: the one asked for, or any.
    var first: UInt64 {
        var random = SystemRandom()
        return seed ?? random.next(below: 1 << 48)
    }
}
