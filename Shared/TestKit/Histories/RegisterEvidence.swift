/// Registers: a read shows which write it saw, and nothing of those before. An order of two versions is known
/// - where one transaction read the first and wrote the second. It might be the other way round, but then its writer
///   would both come before it and depend on it, which no level allows;
/// - where the first is the beginning, when the key had no value;
/// - where one transaction saw or wrote the first, had ended, and then another saw or wrote the second: if real time is
///   what the level promises.
extension Evidence {
    private struct Register {
        /// Transactions that saw a version which was there before theirs; nil is the beginning.
        var readers: [Int?: [Int]] = [:]
        /// A version and one that came after it.
        var successors: [(before: Int?, after: Int)] = []
        /// The first and the last version that a transaction knew, and who it is.
        var sights: [(transaction: Int, first: Int?, last: Int?)] = []
        /// Versions written by somebody who had not read one.
        var blind: [Int] = []
        var updates: [(transaction: Int, version: Int)] = []
    }

    mutating func collectRegister(_ key: Int) {
        var register = Register()
        for group in committedGroups(key) { collectGroup(group, key, &register) }
        if register.readers[nil] != nil {
            for write in register.blind { register.successors.append((nil, write)) }
        }
        for (before, after) in register.successors {
            for reader in register.readers[before] ?? [] {
                depend(.readWrite, reader, index.writes[after].transaction, key, before, after)
            }
        }
        collectSights(key, register)
        suspectLostUpdates(register.updates, key: key)
    }

    private mutating func collectGroup(
        _ group: ArraySlice<HistoryIndex.Access>, _ key: Int, _ register: inout Register
    ) {
        let transaction = group[group.startIndex].transaction
        var own: Int?
        var seen: [Int?] = []
        var isOwn = true
        for access in group {
            if let write = access.write {
                own = write
                continue
            }
            guard
                case .readRegister(_, let value) = index.history.transactions[transaction].operations[access.operation]
            else { continue }
            let version = value.flatMap { index.write(of: $0, key: key) }
            if let own {
                isOwn = isOwn && version == own
                continue
            }
            if let version, index.writes[version].transaction == transaction {
                isOwn = false
            } else if let found = soundVersion(value, version, key, transaction) {
                seen.append(found)
            }
        }
        if !isOwn {
            add(.own, [transaction], "\(name(transaction)) and \(keyName(key)): it does not read what it wrote")
        } else if let first = seen.first, seen.contains(where: { $0 != first }) {
            suspects.append(
                Suspect(
                    kind: .nonRepeatableRead, transactions: [transaction],
                    text: "\(name(transaction)) read \(keyName(key)) twice, and others wrote in between"))
        }
        for version in seen {
            register.readers[version, default: []].append(transaction)
            if let version { dependOn(version, by: transaction, key) }
        }
        if let own {
            if let first = seen.first {
                register.successors.append((first, own))
                register.updates.append((transaction, first ?? -1))
            } else {
                register.blind.append(own)
            }
        }
        guard !group.isEmpty, own != nil || !seen.isEmpty else { return }
        register.sights.append((transaction, seen.first ?? own, own ?? seen.last ?? nil))
    }

    /// The version that a read saw, in two layers: nil if it cannot have been there, and then that is told; the
    /// beginning is nil inside.
    private mutating func soundVersion(_ value: Int?, _ version: Int?, _ key: Int, _ reader: Int) -> Int?? {
        guard let value else { return .some(nil) }
        let text = "\(name(reader)) read \(index.history.name(ofValue: value)) in \(keyName(key))"
        guard var version else {
            add(.unwritten, [reader], "\(text), which nobody wrote")
            return nil
        }
        let writer = index.writes[version].transaction
        if index.isAborted(writer) {
            add(.abortedRead, [reader, writer], "\(text), whose writer \(name(writer)) has aborted")
            return nil
        }
        if index.writes[version].next != nil { tellIntermediate(version, key, reader) }
        while let next = index.writes[version].next { version = next }
        return .some(version)
    }

    /// What real time says of the versions: whoever began after another had ended knows nothing older.
    private mutating func collectSights(_ key: Int, _ register: Register) {
        struct Pair: Hashable {
            var before: Int?
            var after: Int
        }
        let sights = register.sights
        var known: Set<Pair> = []
        for (first, second) in Dependency.timePairs(sights.map { interval($0.transaction) }) {
            let before = sights[first].last
            guard let after = sights[second].first, before != after else { continue }
            guard known.insert(Pair(before: before, after: after)).inserted else { continue }
            let writer = index.writes[after].transaction
            let witnesses = [sights[first].transaction, sights[second].transaction]
            if let before {
                depend(.writeWrite, index.writes[before].transaction, writer, key, before, after, witnesses: witnesses)
            }
            for reader in register.readers[before] ?? [] {
                depend(.readWrite, reader, writer, key, before, after, witnesses: witnesses)
            }
        }
    }
}
