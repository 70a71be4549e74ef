// orbit-simulate: the deterministic simulation. See `usage`.

import Base
import Glibc

let usage = """
    usage: orbit-simulate [SEED] [--seeds COUNT] [--steps N] [--plant BUG] [--trace]
           orbit-simulate bench versions|memtables|log [--keys N]

    Runs one shard on a simulated disk, once per seed from SEED on (default: a random one), and checks that every
    acknowledged write survives and nothing refused appears. Prints how to replay a failure, and exits with 1.

      --seeds COUNT   how many seeds (default 1)
      --steps N       steps of each run (default 400)
      --plant BUG     plants a bug that must be found: ack-before-sync, truncate-to-applied, ignore-checksums
      --trace         prints each step

    bench measures storage layouts and the log on this machine (docs/decisions/0001-version-layout.md).

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
    var seeds: UInt64 = 1
    var steps = 400
    var bug: PlantedBug?
    var isTraced = false

    init(_ words: [String]) {
        var rest = words[...]
        while let word = rest.popFirst() {
            switch word {
            case "--seeds": seeds = Self.number(&rest, word)
            case "--steps": steps = Int(clamping: Self.number(&rest, word))
            case "--plant":
                guard let bug = rest.popFirst().flatMap(PlantedBug.init) else { fail(usage, code: 64) }
                self.bug = bug
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
}

func simulate(_ arguments: Arguments) -> Int32 {
    var random = SystemRandom()
    let first = arguments.seed ?? random.next(below: 1 << 48)
    let plant = arguments.bug.map { " --plant \($0.rawValue)" } ?? ""
    let clock = SystemClock()
    let start = clock.monotonicNanoseconds()
    var announced = start
    var total = SimulationReport()
    var failures = 0
    for seed in first..<first &+ arguments.seeds {
        let simulation = ShardSimulation(seed: seed, bug: arguments.bug)
        if arguments.isTraced { simulation.trace = { writeOut($0 + "\n") } }
        let report = simulation.run(steps: arguments.steps)
        total.add(report)
        if let violation = report.violation {
            failures += 1
            writeOut("seed \(seed) step \(report.step): \(violation)\n")
            writeOut("  replay: scripts/simulate \(seed) --steps \(arguments.steps)\(plant)\n")
        }
        let now = clock.monotonicNanoseconds()
        if now - announced > 5_000_000_000 {
            announced = now
            writeOut("\(seed - first + 1) of \(arguments.seeds) seeds\n")
        }
    }
    let milliseconds = (clock.monotonicNanoseconds() - start) / 1_000_000
    writeOut("\(arguments.seeds) seeds from \(first), \(failures) failed, \(milliseconds) ms: \(total.summary)\n")
    // A simulation that never crashed or damaged anything proves nothing.
    if arguments.seeds >= 100, arguments.bug == nil, let missing = total.unexercised {
        writeOut("not exercised: \(missing)\n")
        return 1
    }
    return failures == 0 ? 0 : 1
}

let words = Array(CommandLine.arguments.dropFirst())
exit(words.first == "bench" ? runBenchmark(Array(words.dropFirst())) : simulate(Arguments(words)))
