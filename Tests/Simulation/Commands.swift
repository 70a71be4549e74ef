import Base
import Synchronization

// The commands of orbit-simulate.

/// `orbit-simulate shard`.
func simulateShards(_ arguments: Arguments) -> Int32 {
    let bug = arguments.bug.map { name in
        PlantedBug(rawValue: name)
            ?? { fail("no such bug: \(name); there are \(names(PlantedBug.allCases))\n", code: 64) }()
    }
    let (first, seeds, steps) = (arguments.first, arguments.seeds ?? 1, arguments.steps ?? 400)
    let plant = bug.map { " --plant \($0.rawValue)" } ?? ""
    let start = SystemClock().monotonicNanoseconds()
    var total = SimulationReport()
    var failures = 0
    for seed in first..<first &+ seeds {
        let simulation = ShardSimulation(seed: seed, bug: bug)
        if arguments.isTraced { simulation.trace = { writeOut($0 + "\n") } }
        let report = simulation.run(steps: steps)
        total.add(report)
        guard let violation = report.violation else { continue }
        failures += 1
        writeOut("seed \(seed) step \(report.step): \(violation)\n")
        writeOut("  replay: scripts/simulate shard \(seed) --steps \(steps)\(plant)\n")
    }
    let milliseconds = (SystemClock().monotonicNanoseconds() - start) / 1_000_000
    writeOut("\(seeds) seeds from \(first), \(failures) failed, \(milliseconds) ms: \(total.summary)\n")
    // A simulation that never crashed or damaged anything proves nothing.
    if seeds >= 100, bug == nil, let missing = total.unexercised {
        writeOut("not exercised: \(missing)\n")
        return 1
    }
    return failures == 0 ? 0 : 1
}

private func names(_ bugs: [PlantedBug]) -> String { bugs.map(\.rawValue).joined(separator: ", ") }

/// What the threads of a run add up.
private struct ClusterTotal {
    var report = ClusterReport()
    var seeds: UInt64 = 0
    var failures = 0
    var announced: UInt64 = 0
}

/// `orbit-simulate [SEED]`.
func simulateClusters(_ arguments: Arguments) -> Int32 {
    let bug = arguments.bug.map { name in
        ClusterBug(name: name)
            ?? {
                let known = ClusterBug.catalog.map(\.description).joined(separator: ", ")
                fail("no such bug: \(name); there are \(known)\n", code: 64)
            }()
    }
    let (first, seeds, steps) = (arguments.first, arguments.seeds ?? 1, arguments.steps ?? .max)
    let profile = arguments.profile
    let options =
        (bug.map { " --plant \($0)" } ?? "") + (profile.map { " --profile \($0)" } ?? "")
        + (arguments.steps.map { " --steps \($0)" } ?? "")
    let isTraced = arguments.isTraced
    let start = SystemClock().monotonicNanoseconds()
    let total = Mutex(ClusterTotal())
    SeedRunner(first: first, count: seeds) { seed in
        let simulation = ClusterSimulation(seed: seed, bug: bug, profile: profile)
        if isTraced { simulation.trace = { writeOut($0 + "\n") } }
        let report = simulation.run(steps: steps)
        total.withLock { total in
            total.report.add(report)
            total.seeds += 1
            if let violation = report.violation {
                total.failures += 1
                writeOut("seed \(seed) event \(report.steps): \(violation)\n")
                writeOut("  replay: scripts/simulate \(seed)\(options)\n")
            } else if seeds == 1 {
                writeOut("seed \(seed): digest \(String(report.digest, radix: 16)), \(report.steps) events\n")
            }
            let passed = (SystemClock().monotonicNanoseconds() - start) / 5_000_000_000
            if passed > total.announced {
                total.announced = passed
                writeOut("\(total.seeds) of \(seeds) seeds\n")
            }
        }
        return true
    }.run(threads: isTraced ? 1 : arguments.threads)
    let milliseconds = (SystemClock().monotonicNanoseconds() - start) / 1_000_000
    return total.withLock { total in
        writeOut(
            "\(seeds) clusters from seed \(first), \(total.failures) failed, \(milliseconds) ms: "
                + "\(total.report.summary)\n")
        if seeds >= 100, bug == nil, profile == nil, let missing = total.report.unexercised {
            writeOut("not exercised: \(missing)\n")
            return 1
        }
        return total.failures == 0 ? 0 : 1
    }
}

/// `orbit-simulate bugs`: plants each bug, and counts the seeds until it is found. Every one must be.
func findPlantedBugs(_ arguments: Arguments) -> Int32 {
    let (first, limit) = (arguments.seed ?? 1, arguments.seeds ?? 100)
    let wanted = ClusterBug.catalog.filter { arguments.bug == nil || $0.description == arguments.bug }
    let begin = SystemClock().monotonicNanoseconds()
    var missed: [String] = []
    for bug in wanted {
        let start = SystemClock().monotonicNanoseconds()
        let profile = arguments.profile ?? bug.profile
        let found = Mutex<(seed: UInt64, violation: String)?>(nil)
        // Seeds are begun in order and run to their end: the least that finds it is the same for any count of threads.
        SeedRunner(first: first, count: limit) { seed in
            guard let violation = ClusterSimulation(seed: seed, bug: bug, profile: profile).run().violation else {
                return true
            }
            found.withLock { if seed < $0?.seed ?? .max { $0 = (seed, violation) } }
            return false
        }.run(threads: arguments.threads)
        let milliseconds = (SystemClock().monotonicNanoseconds() - start) / 1_000_000
        found.withLock { found in
            if let (seed, violation) = found {
                let seeds = "\(seed - first + 1) of \(limit) seeds"
                writeOut("\(bug): \(profile), \(seeds), \(milliseconds) ms: \(violation.prefix(160))\n")
            } else {
                missed.append("\(bug)")
                writeOut("\(bug): \(profile), NOT FOUND in \(limit) seeds, \(milliseconds) ms\n")
            }
        }
    }
    let seconds = (SystemClock().monotonicNanoseconds() - begin) / 1_000_000_000
    writeOut("\(wanted.count - missed.count) of \(wanted.count) planted bugs found, \(seconds) s\n")
    if !missed.isEmpty { writeOut("not found: \(missed.joined(separator: ", "))\n") }
    return missed.isEmpty && !wanted.isEmpty ? 0 : 1
}
