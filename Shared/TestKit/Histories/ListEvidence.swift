/// Lists: a read shows the order of all that was appended before, so the order of versions is known up to the longest
/// read, and whatever committed and is not in there comes after it.
extension Evidence {
    /// A list whose reads have been compared.
    private struct Order {
        /// The writes of the trunk in order; nil for what nobody wrote or is there again.
        var writes: [Int?] = []
        /// Where a write is in the trunk.
        var places: [Int: Int] = [:]
        /// The last committed write before each place, and the first one from there on; one more than there are places.
        var before: [Int?] = []
        var after: [Int?] = []
        /// Committed writes that no read shows.
        var unseen: [Int] = []
    }

    mutating func collectList(_ key: Int) {
        let state = index.keys[key]
        if let reader = state.trunkReader { tellFlaws(state.trunk, key, reader) }
        for odd in state.oddReads { tellOddRead(odd, key) }
        let order = self.order(key)
        var last: Int?
        for case let write? in order.writes where index.isCommitted[index.writes[write].transaction] {
            if let last { dependOnWrite(.writeWrite, last, write, key) }
            last = write
        }
        for write in order.unseen {
            if let last { dependOnWrite(.writeWrite, last, write, key) }
        }
        let odd = Set(state.oddReads)
        var updates: [(transaction: Int, version: Int)] = []
        for group in committedGroups(key) {
            if let version = collectGroup(group, key, order, odd) {
                updates.append((group[group.startIndex].transaction, version))
            }
        }
        suspectLostUpdates(updates, key: key)
    }

    private mutating func dependOnWrite(_ kind: Dependency.Kind, _ before: Int, _ after: Int, _ key: Int) {
        depend(kind, index.writes[before].transaction, index.writes[after].transaction, key, before, after)
    }

    private func order(_ key: Int) -> Order {
        var order = Order()
        let state = index.keys[key]
        for (place, value) in state.trunk.enumerated() {
            guard let write = index.write(of: value, key: key), order.places[write] == nil else {
                order.writes.append(nil)
                continue
            }
            order.writes.append(write)
            order.places[write] = place
        }
        func committed(_ place: Int) -> Int? {
            order.writes[place].flatMap { index.isCommitted[index.writes[$0].transaction] ? $0 : nil }
        }
        order.before.append(nil)
        for place in order.writes.indices { order.before.append(committed(place) ?? order.before[place]) }
        order.after = Array(repeating: nil, count: order.writes.count + 1)
        for place in order.writes.indices.reversed() { order.after[place] = committed(place) ?? order.after[place + 1] }
        order.unseen = state.accesses.compactMap { access in
            guard let write = access.write, index.isCommitted[access.transaction] else { return nil }
            return order.places[write] == nil ? write : nil
        }
        return order
    }

    /// One transaction and one list; returns the version that it replaced, if it read one and then appended.
    private mutating func collectGroup(
        _ group: ArraySlice<HistoryIndex.Access>, _ key: Int, _ order: Order, _ odd: Set<HistoryIndex.OddRead>
    ) -> Int? {
        let transaction = group[group.startIndex].transaction
        let own = group.compactMap(\.write)
        var appended = 0
        var foreign: Int?
        var replaced: Int?
        var isOwn = isInOrder(own, order)
        var isRepeated = true
        for access in group {
            guard access.write == nil else {
                appended += 1
                continue
            }
            let name = HistoryIndex.OddRead(transaction: transaction, operation: access.operation)
            guard let count = index.list(access)?.count, odd.isEmpty || !odd.contains(name) else { continue }
            var visible = 0
            for (number, write) in own.enumerated() {
                let isVisible = order.places[write].map { $0 < count } ?? false
                visible += isVisible ? 1 : 0
                if isVisible != (number < appended) { isOwn = false }
            }
            if let foreign, foreign != count - visible { isRepeated = false }
            foreign = foreign ?? count - visible
            if appended == 0 { replaced = replaced ?? count }
            collectRead(count, by: transaction, key, order)
        }
        if !isOwn {
            add(.own, [transaction], "\(name(transaction)) and \(keyName(key)): it does not find what it appended")
        } else if !isRepeated {
            suspects.append(
                Suspect(
                    kind: .nonRepeatableRead, transactions: [transaction],
                    text: "\(name(transaction)) read \(keyName(key)) twice, and others appended in between"))
        }
        return own.isEmpty ? nil : replaced
    }

    /// What a transaction appended to a list is there from the first to some last one, in its order.
    private func isInOrder(_ own: [Int], _ order: Order) -> Bool {
        guard own.count > 1 else { return true }
        var last = -1
        var isOver = false
        for write in own {
            guard let place = order.places[write] else {
                isOver = true
                continue
            }
            if isOver || place < last { return false }
            last = place
        }
        return true
    }

    private mutating func collectRead(_ count: Int, by transaction: Int, _ key: Int, _ order: Order) {
        let last = order.before[count]
        if let last {
            let writer = index.writes[last].transaction
            dependOn(last, by: transaction, key)
            // Unless what replaced it stands before it: that is another matter.
            if writer != transaction, order.writes[count - 1] == last, let next = index.writes[last].next,
                order.places[next] ?? .max >= count
            {
                tellIntermediate(last, key, transaction)
            }
        }
        if let next = order.after[count] {
            depend(.readWrite, transaction, index.writes[next].transaction, key, last, next)
        } else {
            for next in order.unseen {
                depend(.readWrite, transaction, index.writes[next].transaction, key, last, next)
            }
        }
    }

    mutating func dependOn(_ write: Int, by reader: Int, _ key: Int) {
        depend(.writeRead, index.writes[write].transaction, reader, key, write, write)
    }

    mutating func tellIntermediate(_ write: Int, _ key: Int, _ reader: Int) {
        let writer = index.writes[write].transaction
        let text = "\(name(reader)) read \(valueName(write)) in \(keyName(key)), which \(name(writer)) itself replaced"
        add(.intermediateRead, [reader, writer], text)
    }

    /// What cannot be in any list: true if there was something.
    @discardableResult
    private mutating func tellFlaws(_ values: [Int], _ key: Int, _ reader: Int) -> Bool {
        var seen: Set<Int> = []
        var hasFlaw = false
        for value in values {
            let write = index.write(of: value, key: key)
            let writer = write.map { index.writes[$0].transaction }
            let isNew = seen.insert(value).inserted
            if let writer, isNew, !index.isAborted(writer) { continue }
            hasFlaw = true
            let text = "\(name(reader)) read \(index.history.name(ofValue: value)) in \(keyName(key))"
            if let writer, isNew {
                add(.abortedRead, [reader, writer], "\(text), whose writer \(name(writer)) has aborted")
            } else if let writer {
                add(.duplicate, [reader, writer], "\(text) twice; \(name(writer)) appended it once")
            } else {
                add(.unwritten, [reader], "\(text), which nobody wrote")
            }
        }
        return hasFlaw
    }

    /// A read that is no beginning of the trunk: because of what it shows, or because it has another order.
    private mutating func tellOddRead(_ odd: HistoryIndex.OddRead, _ key: Int) {
        let state = index.keys[key]
        let access = HistoryIndex.Access(transaction: odd.transaction, operation: odd.operation)
        guard let values = index.list(access), !tellFlaws(values, key, odd.transaction) else { return }
        let place = zip(values, state.trunk).prefix { $0 == $1 }.count
        func value(_ list: [Int]) -> String {
            list.indices.contains(place) ? index.history.name(ofValue: list[place]) : "nothing"
        }
        let other = state.trunkReader.map(name) ?? "nobody"
        add(
            .incompatibleOrders, [odd.transaction] + (state.trunkReader.map { [$0] } ?? []),
            "place \(place + 1) of \(keyName(key)) holds \(value(values)) for \(name(odd.transaction)), "
                + "\(value(state.trunk)) for \(other)")
    }
}
