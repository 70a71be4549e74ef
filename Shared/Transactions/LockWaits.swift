import Base

// Who waits for whom, and who is free when something goes.
extension LockTable {
    /// Something in the way of a request.
    enum Obstacle {
        case holder(PartID)
        /// One that waits, by its sequence number.
        case waiter(UInt64)
    }

    /// Where to look for obstacles.
    enum Obstacles {
        case all
        /// Only at those who have locks.
        case holders
        /// All but those before it in its lane and its transaction.
        case claims
    }

    func isBlocked(_ request: LockRequest, byClaims: Bool = false) -> Bool {
        meets(byClaims ? .claims : .all, request) { _ in true }
    }

    /// Shows what is in the way until `visit` has seen enough, and says whether it has. Of those that wait in a line,
    /// who stands behind one that is shown and wants everything need not be shown too.
    func meets(_ kind: Obstacles, _ request: LockRequest, _ visit: (Obstacle) -> Bool) -> Bool {
        if kind == .all {
            for line in [lanes[request.call.lane], request.owner.flatMap { ownLines[$0.id] }] {
                guard let line, let last = line.places(before: request.sequence).last else { continue }
                if visit(.waiter(last.sequence)) { return true }
            }
        }
        if request.isHardening { return meetsSharers(request, visit) }
        var overtaken: Set<UInt64>?
        for claim in request.claims {
            if meetsHolders(claim, request, visit) { return true }
            guard kind != .holders, let owner = request.owner else { continue }
            switch claim.want {
            case .read, .write: continue
            case .shared, .exclusive: break
            }
            if meetsEarlier(claim, owner, request, &overtaken, visit) { return true }
        }
        return false
    }

    private func meetsHolders(_ claim: LockClaim, _ request: LockRequest, _ visit: (Obstacle) -> Bool) -> Bool {
        for (id, mode) in shardHolders where blocks(id, mode, claim.want, request) {
            if visit(.holder(id)) { return true }
        }
        guard let key = claim.key else {
            for (id, holder) in holders {
                let mode = holder.exclusive > 0 ? LockMode.exclusive : .shared
                if blocks(id, mode, claim.want, request), visit(.holder(id)) { return true }
            }
            return false
        }
        guard let state = keys[key] else { return false }
        if let id = state.exclusive, blocks(id, .exclusive, claim.want, request), visit(.holder(id)) { return true }
        for id in state.shared where blocks(id, .shared, claim.want, request) {
            if visit(.holder(id)) { return true }
        }
        return false
    }

    private func blocks(_ id: PartID, _ mode: LockMode, _ want: LockClaim.Want, _ request: LockRequest) -> Bool {
        guard id != request.owner?.id, let holder = holders[id] else { return false }
        switch want {
        case .write, .exclusive: return true
        case .shared:
            return mode == .exclusive && (holder.isHard || holder.isHardening || !request.passesProvisional)
        case .read:
            guard mode == .exclusive, holder.isHard else { return false }
            guard let moment = request.asOf else { return true }
            // What is prepared from now on is above every moment that somebody reads at.
            return holder.preparedAt.map { $0 <= moment } ?? false
        }
    }

    /// Those that wait already, and come first.
    private func meetsEarlier(
        _ claim: LockClaim, _ owner: LockOwner, _ request: LockRequest, _ overtaken: inout Set<UInt64>?,
        _ visit: (Obstacle) -> Bool
    ) -> Bool {
        let mine = holders[owner.id]
        func meets(_ line: LockQueue) -> Bool {
            for place in line.places(before: request.sequence).reversed() {
                guard place.owner != owner.id, LockClaim.waits(claim.want, behind: place.want) else { continue }
                if mine != nil, owner.kind == .interactive {
                    let those = overtaken ?? dependents(of: owner.id)
                    overtaken = those
                    if those.contains(place.sequence) { continue }
                }
                if visit(.waiter(place.sequence)) { return true }
                if place.owner != nil, place.want == .exclusive { return false }
            }
            return false
        }
        guard let key = claim.key else { return meetsAnyEarlier(claim, request, visit) }
        if meets(shardLine) { return true }
        guard let state = keys[key], mine?.locks[key] == nil else { return false }
        if request.passesProvisional, let id = state.exclusive, let holder = holders[id], !holder.isHard,
            !holder.isHardening
        {
            return false
        }
        return meets(state.main) || (claim.want == .exclusive && meets(state.reads))
    }

    /// The whole shard is wanted: everybody who has come before.
    private func meetsAnyEarlier(_ claim: LockClaim, _ request: LockRequest, _ visit: (Obstacle) -> Bool) -> Bool {
        var overtaken: Set<UInt64> = []
        if let owner = request.owner, owner.kind == .interactive, holders[owner.id] != nil {
            overtaken = dependents(of: owner.id)
        }
        for (sequence, other) in waiting where sequence < request.sequence && other.owner?.id != request.owner?.id {
            guard other.claims.contains(where: { LockClaim.waits(claim.want, behind: $0.want) }) else { continue }
            if !overtaken.contains(sequence), visit(.waiter(sequence)) { return true }
        }
        return false
    }

    /// Those that wait for a transaction's locks, or for one that does.
    private func dependents(of owner: PartID) -> Set<UInt64> {
        var found: Set<UInt64> = [], owners = [owner], seen: Set<PartID> = [owner], fresh: [UInt64] = []
        func note(_ place: LockQueue.Place) {
            if place.owner != owner, found.insert(place.sequence).inserted { fresh.append(place.sequence) }
        }
        while !owners.isEmpty || !fresh.isEmpty {
            if let id = owners.popLast(), let holder = holders[id] {
                for key in holder.locks.keys {
                    guard let state = keys[key] else { continue }
                    for line in Line.allCases { state[line].places.suffix(from: state[line].first).forEach(note) }
                }
                shardLine.places.suffix(from: shardLine.first).forEach(note)
            }
            guard let sequence = fresh.popLast(), let request = waiting[sequence] else { continue }
            if let id = request.owner?.id, holders[id] != nil, seen.insert(id).inserted { owners.append(id) }
            lanes[request.call.lane]?.places(after: sequence).forEach(note)
            for case let key? in request.claims.map(\.key) {
                keys[key]?.main.places(after: sequence).filter { $0.owner != nil }.forEach(note)
            }
        }
        return found
    }

    /// Of a scope that becomes hard: those who share a key that it will change.
    private func meetsSharers(_ request: LockRequest, _ visit: (Obstacle) -> Bool) -> Bool {
        guard let owner = request.owner?.id, let mine = holders[owner], mine.exclusive > 0 else { return false }
        if holders.count == 1 { return false }
        for id in shardHolders.keys where id != owner { if visit(.holder(id)) { return true } }
        for (key, mode) in mine.locks where mode == .exclusive {
            for id in keys[key]?.shared ?? [] where id != owner { if visit(.holder(id)) { return true } }
        }
        guard mine.shard == .exclusive else { return false }
        for id in holders.keys where id != owner { if visit(.holder(id)) { return true } }
        return false
    }

    /// The oldest one-shot transaction that a request will wait for, if it waits.
    func eldest(before request: LockRequest) -> Rank? {
        var eldest: Rank?
        func merge(_ rank: Rank?) { if let rank { eldest = eldest.map { min($0, rank) } ?? rank } }
        _ = meets(.all, request) { obstacle in
            switch obstacle {
            case .holder(let id):
                guard let holder = holders[id], !holder.isEnding else { return false }
                // Who only reads waits for nobody who may take his time; so age decides there too.
                if holder.owner.kind != .interactive || request.passesProvisional { merge(holder.owner.rank) }
            case .waiter(let sequence):
                guard let other = waiting[sequence] else { return false }
                merge(other.owner.map { $0.kind == .interactive ? nil : $0.rank } ?? other.eldest)
            }
            return false
        }
        guard request.owner == nil else { return eldest }
        // Parts that have come before get their locks before a call goes on.
        for case let key? in request.claims.map(\.key) {
            for place in (keys[key]?.main.places(before: request.sequence) ?? []).reversed() where place.owner != nil {
                merge(place.eldest)
                if place.want == .exclusive { break }
            }
        }
        return eldest
    }

    // MARK: Waking

    /// Something has changed at a key: the first of each line may be free.
    mutating func consider(_ key: LockKey, _ agenda: inout LockAgenda) {
        if let next = shardLine.next(after: 0) { agenda.push(.init(sequence: next, key: nil, line: .main)) }
        guard let state = keys[key] else { return }
        if state.isUnused {
            keys[key] = nil
            return
        }
        for line in Line.allCases {
            if let next = state[line].next(after: 0) { agenda.push(.init(sequence: next, key: key, line: line)) }
        }
        if let id = state.exclusive, holders[id]?.isHardening == true, let next = ownLines[id]?.next(after: 0) {
            agenda.push(.init(sequence: next, key: nil, line: nil))
        }
    }

    /// One has left a line: those behind it may be free.
    mutating func consider(_ key: LockKey, after sequence: UInt64, _ agenda: inout LockAgenda) {
        if let next = shardLine.next(after: sequence) { agenda.push(.init(sequence: next, key: nil, line: .main)) }
        guard let state = keys[key] else { return }
        if state.isUnused {
            keys[key] = nil
            return
        }
        for line in [Line.main, .reads] {
            if let next = state[line].next(after: sequence) { agenda.push(.init(sequence: next, key: key, line: line)) }
        }
    }

    /// The whole shard was locked, or somebody wanted that.
    mutating func considerAll(_ agenda: inout LockAgenda) {
        for sequence in waiting.keys { agenda.push(.init(sequence: sequence, key: nil, line: nil)) }
    }

    /// Looks at those on the agenda, and at who is behind them as far as anything may have changed for him.
    mutating func settle(_ agenda: inout LockAgenda, into woken: inout [Woken]) {
        while let item = agenda.pop() {
            if let request = waiting[item.sequence] {
                guard isBlocked(request) else {
                    grant(request, &agenda, &woken)
                    push(behind: item, &agenda)
                    continue
                }
                if let key = item.key, let line = item.line, stops(key, line, request) { continue }
            }
            push(behind: item, &agenda)
        }
    }

    private mutating func push(behind item: LockAgenda.Item, _ agenda: inout LockAgenda) {
        guard let line = item.line else { return }
        let queue = item.key.map { keys[$0]?[line] } ?? shardLine
        guard let next = queue?.next(after: item.sequence) else { return }
        agenda.push(.init(sequence: next, key: item.key, line: line))
    }

    private mutating func grant(_ request: LockRequest, _ agenda: inout LockAgenda, _ woken: inout [Woken]) {
        remove(request.sequence, &agenda)
        if let owner = request.owner {
            if request.isHardening {
                holders[owner.id]?.isHard = true
            } else {
                take(request.claims, owner)
            }
        }
        woken.append(woke(request))
    }

    /// Whether what blocks a request at this key blocks everybody behind it too.
    private func stops(_ key: LockKey, _ line: Line, _ request: LockRequest) -> Bool {
        guard let state = keys[key] else { return true }
        switch line {
        case .main:
            if let id = state.exclusive { return id != request.owner?.id }
            // Behind one that wants to change a shared key nobody shares it, but for those with locks of their own.
            return state.main.holding == 0 && state.shared.contains { $0 != request.owner?.id }
        case .reads: return state.exclusive.flatMap { holders[$0]?.isHard } == true
        case .moments: return false
        }
    }

    // MARK: Being prepared

    /// Shared locks on what an interactive transaction has read, while it is being prepared; it never waits for them.
    /// False: somebody has changed it, or is about to; then it has none of them.
    ///
    /// They pass provisional locks: whoever has those changes the key later, and comes behind (`harden`). A hard lock
    /// will very likely become a change, and who waits to change a key that is only shared must not wait for ever.
    mutating func share(_ scope: LockScope, _ owner: LockOwner) -> Bool {
        var claims: [LockClaim] = []
        let mine = holders[owner.id]
        for key in scope.shared where mine?.locks[key] == nil {
            claims.append(LockClaim(key: key, want: .shared))
        }
        if scope.shard != nil, mine?.shard == nil { claims.append(LockClaim(key: nil, want: .shared)) }
        guard claims.allSatisfy({ isShareable($0, owner) || bugs.contains(.shareWithoutLook) }) else { return false }
        take(claims, owner)
        return true
    }

    private func isShareable(_ claim: LockClaim, _ owner: LockOwner) -> Bool {
        func isPassable(_ id: PartID) -> Bool {
            guard id != owner.id, let holder = holders[id] else { return true }
            return !holder.isHard && !holder.isHardening
        }
        for (id, mode) in shardHolders where mode == .exclusive && !isPassable(id) { return false }
        guard let key = claim.key else {
            return holders.allSatisfy { $0.value.exclusive == 0 || isPassable($0.key) }
        }
        guard let state = keys[key] else { return true }
        if let id = state.exclusive { return isPassable(id) }
        return !state.main.places(before: .max).contains { place in
            place.owner != owner.id && (place.want == .exclusive || place.want == .write)
        }
    }

    /// An open scope is to be prepared: nobody passes its locks from now on, and nobody shares a key that it changes.
    /// It waits for those that do: they are being prepared too (`share`), or read for a moment.
    ///
    /// No circle: whoever is being prepared waits only here, and for another one that is being prepared only if that is
    /// younger; else it is refused. Until it is done, nobody else can share its keys.
    mutating func harden(_ owner: LockOwner, _ call: WaitingCall, now: UInt64) -> Verdict {
        guard let mine = holders[owner.id] else { return .granted }
        if mine.isHard { return .granted }
        var request = LockRequest(call, owner)
        (request.isHardening, request.since, request.sequence) = (true, now, .max)
        (request.timeout, request.eldest) = (.serializationFailure, nil)
        var isYounger = false, mustWait = false
        _ = meets(.all, request) { obstacle in
            mustWait = true
            if case .holder(let id) = obstacle, let holder = holders[id], holder.owner.kind == .interactive,
                holder.owner.rank < owner.rank, !holder.isEnding
            {
                isYounger = true
            }
            return isYounger
        }
        if isYounger { return .refused(.serializationFailure) }
        if !mustWait || bugs.contains(.hardenAtOnce) {
            holders[owner.id]?.isHard = true
            return .granted
        }
        let verdict = enqueue(numbered(request))
        if verdict == .waits { holders[owner.id]?.isHardening = true }
        return verdict
    }
}

extension LockQueue {
    /// Those that came before a request.
    func places(before sequence: UInt64) -> ArraySlice<Place> {
        sequence == .max ? places[first...] : places[first..<position(after: sequence &- 1)]
    }

    func places(after sequence: UInt64) -> ArraySlice<Place> { places[position(after: sequence)...] }
}
