import Base
import Contracts
import DataModel
import GatewayKit
import Net

/// Which keys of Redis name records, as far as this gateway knows: the collections of the default namespace with a
/// primary key of one column, as a leader has told them. It serves to find the shard of a key, and for nothing else.
///
/// What is known here may be old, by a second at most, and is never taken for the truth: a leader goes by the catalog
/// that it has applied, and refuses a key whose record, or which itself as a key of Redis, is another shard's. Who is
/// refused asks for the newest list, and calls again.
///
/// While there are no such collections nothing of a key is looked at.
final class RecordDirectory: ReplyReceiver {
    /// A collection whose records keys name.
    struct Named {
        let keyType: DataType
        /// What the shard of a record cannot see to: then commands are done as statements.
        let rules: RecordRules
    }

    private static let pollMilliseconds = 1_000, longestPause = 64

    private let router: NodeRouter
    private let loop: EventLoop
    /// There are such collections: the one flag on the path of every command.
    private(set) var isAny = false
    private var names = ByteMap<Named>()
    /// Of the catalog that the list is from; -1: none was told yet.
    private var version: Int64 = -1
    private var poll: LoopTimer?
    private var isAsking = false
    private var askers: [() -> Void] = []
    /// Who came while a question was under way: its answer may be too old for them.
    private var nextAskers: [() -> Void] = []

    init(_ router: NodeRouter, loop: EventLoop) {
        (self.router, self.loop) = (router, loop)
        poll = loop.schedule(afterMilliseconds: Self.pollMilliseconds, repeating: true) { [unowned self] in
            if !isAsking { ask() }
        }
    }

    func stop() { poll?.cancel() }

    // MARK: Asking it

    /// The slot of a key, or of the record that it names.
    @inline(__always)
    func slot(_ database: UInt8, _ key: ByteView) -> UInt32 {
        isAny && database == 0 ? slot(ofNamed: key) : UInt32(Slot.of(key).rawValue)
    }

    /// A text that is no primary key names nothing: any leader says what is wrong with it.
    @inline(never)
    private func slot(ofNamed key: ByteView) -> UInt32 {
        guard let (named, text) = find(key), let slot = RecordName.slot(text, named.keyType) else {
            return UInt32(Slot.of(key).rawValue)
        }
        return UInt32(slot.rawValue)
    }

    /// The collection that a key of database 0 names a record of, and what is behind the colon.
    func find(_ key: ByteView) -> (Named, ByteView)? {
        guard isAny, let name = RecordName.divide(key), let named = names.value(for: name.collection) else {
            return nil
        }
        return (named, name.text)
    }

    /// Whether a call changes records that have rules which their shard does not know.
    func isRuled(_ call: CallSnapshot) -> Bool {
        guard isAny, call.database == 0, call.method.recordEffect != .none else { return false }
        return call.keys.contains { key in
            key.withView { find($0).map { Self.isRuled(call.method, $0.0.rules) } ?? false }
        }
    }

    @inline(never)
    func isRuled(_ method: Method, _ key: ByteView) -> Bool {
        guard method.recordEffect != .none, let (named, _) = find(key) else { return false }
        return Self.isRuled(method, named.rules)
    }

    private static func isRuled(_ method: Method, _ rules: RecordRules) -> Bool {
        switch method.recordEffect {
        case .changes: rules.contains(.changing)
        // Entries of indexes go when their records do.
        case .removes, .expires: rules.contains(.removing)
        case .none: false
        }
    }

    // MARK: Learning

    /// Calls `done` later, when everything is known here that was there before; or when nobody could be asked. After
    /// several attempts it waits a little first.
    func refresh(attempt: Int = 0, then done: @escaping () -> Void) {
        guard attempt > 0 else { return enqueue(done) }
        let pause = min(1 << min(attempt, 16), Self.longestPause)
        loop.schedule(afterMilliseconds: pause) { [self] in enqueue(done) }
    }

    private func enqueue(_ done: @escaping () -> Void) {
        if isAsking { return nextAskers.append(done) }
        askers.append(done)
        ask()
    }

    private func ask() {
        guard let slot = router.slotOfEachShard.first else { return loop.runLater { [self] in tell() } }
        isAsking = true
        withUnsafePointer(to: version) { version in
            router.call(
                connection: 0, slot: slot, method: .schemaRead, database: RowKey.database,
                key: ByteView(start: nil, count: 0), flags: 0,
                numbers: UnsafeBufferPointer(start: version, count: 1),
                arguments: UnsafeBufferPointer(start: nil, count: 0), receiver: self, ticket: 0)
        }
    }

    func completed(_ ticket: UInt64, _ reply: borrowing ReplyView) {
        if reply.kind == .list { learn(reply.items) }
        answered()
    }

    func failed(_ ticket: UInt64, _ error: DatabaseError) { answered() }

    private func answered() {
        isAsking = false
        loop.runLater { [self] in tell() }
    }

    private func tell() {
        let ready = askers
        askers = []
        for done in ready { done() }
        guard !isAsking, !nextAskers.isEmpty else { return }
        (askers, nextAskers) = (askers + nextAskers, [])
        ask()
    }

    private func learn(_ items: ReplyView.Items) {
        var items = items, told: Int64?, catalog = Catalog()
        while let item = items.next() {
            switch item {
            case .integer(let number): told = number
            case .data(let data):
                guard let object = try? CatalogObject(decoding: data) else { return }
                catalog.apply(.put(object), version: 0)
            case .null, .number: return
            }
        }
        guard let told, told != version else { return }
        var fresh = ByteMap<Named>(), isAny = false
        for (collection, rules) in catalog.namedCollections {
            guard let column = collection.namingColumn else { continue }
            fresh.insert(key: Bytes(collection.name.utf8), Named(keyType: column.type, rules: rules))
            isAny = true
        }
        names = fresh
        version = told
        self.isAny = isAny
    }
}
