// orbit-simulate: the deterministic simulation. See `usage`.

import Base
import Glibc

let words = Array(CommandLine.arguments.dropFirst())
switch words.first {
case "bench": exit(runBenchmark(Array(words.dropFirst())))
case "shard": exit(simulateShards(Arguments(Array(words.dropFirst()))))
case "check": exit(checkHistory(Array(words.dropFirst())))
case "bugs": exit(findPlantedBugs(Arguments(Array(words.dropFirst()))))
case _: exit(simulateClusters(Arguments(words)))
}
