import Base
import CPCRE2

/// A regular expression ready to be matched. Not for several threads at once.
///
/// PCRE2 finds where a match begins; how long it is is PostgreSQL's choice: the longest of all there, or the shortest,
/// by the greed of the whole expression. The automaton of PCRE2 tells that length, and a last match that must end there
/// tells the groups. Every item that is tried is counted, so that no pattern takes unbounded time on any text.
final class RegexMatcher {
    let groups: Int
    private let code: OpaquePointer
    private let data: OpaquePointer
    private let automatonData: OpaquePointer
    private let matchContext: OpaquePointer
    private let isGreedy: Bool?
    private let hasBackReference: Bool
    private let counter: UnsafeMutablePointer<Counter>

    /// What the callouts see.
    private struct Counter {
        var steps = 0, limit = RegexMatcher.stepLimit
        /// Where the match must end; negative: anywhere.
        var end = -1
    }

    /// Items tried in one call, a second of work at most.
    private static let stepLimit = 5_000_000
    /// What is tried by going back and forth, before the automaton is asked: it is slower, but never goes back.
    private static let quickLimit = 200_000
    private static let workspaceSize = 1 << 14
    /// The callout behind the pattern; those between its items are numbered 255.
    private static let endCallout: UInt32 = 1

    init(_ text: String, _ options: RegexTranslation.Options) throws(StatementError) {
        let translation = try RegexTranslation(text, options)
        var error: Int32 = 0, offset = 0
        var flags =
            UInt32(PCRE2_UTF) | UInt32(PCRE2_UCP) | UInt32(PCRE2_AUTO_CALLOUT) | UInt32(PCRE2_NO_AUTO_POSSESS)
            | UInt32(PCRE2_DOLLAR_ENDONLY)
        if translation.options.ignoresCase { flags |= UInt32(PCRE2_CASELESS) }
        let pattern = Bytes("(?:\(translation.pattern))(?C\(Self.endCallout))".utf8)
        let compiled = pattern.withUnsafeBufferPointer { bytes in
            pcre2_compile_8(bytes.baseAddress, bytes.count, flags, &error, &offset, nil)
        }
        guard let compiled else { throw Self.compileError(error) }
        guard let data = pcre2_match_data_create_from_pattern_8(compiled, nil),
            let automatonData = pcre2_match_data_create_8(1, nil), let context = pcre2_match_context_create_8(nil)
        else {
            pcre2_code_free_8(compiled)
            throw StatementError(.outOfMemory, "out of memory")
        }
        (code, self.data, self.automatonData, matchContext) = (compiled, data, automatonData, context)
        (groups, isGreedy) = (translation.groups, translation.isGreedy)
        hasBackReference = translation.hasBackReference
        counter = .allocate(capacity: 1)
        counter.initialize(to: Counter())
        pcre2_set_match_limit_8(context, UInt32(Self.stepLimit))
        pcre2_set_heap_limit_8(context, 64 << 10)
        pcre2_set_callout_8(
            context,
            { block, data in
                guard let block, let counter = data?.assumingMemoryBound(to: Counter.self) else { return 0 }
                counter.pointee.steps += 1
                if counter.pointee.steps > counter.pointee.limit { return PCRE2_ERROR_MATCHLIMIT }
                guard block.pointee.callout_number == RegexMatcher.endCallout, counter.pointee.end >= 0 else {
                    return 0
                }
                return block.pointee.current_position == counter.pointee.end ? 0 : 1
            }, counter)
    }

    deinit {
        pcre2_match_context_free_8(matchContext)
        pcre2_match_data_free_8(automatonData)
        pcre2_match_data_free_8(data)
        pcre2_code_free_8(code)
        counter.deallocate()
    }

    private static func compileError(_ error: Int32) -> StatementError {
        switch error {
        case PCRE2_ERROR_LOOKBEHIND_NOT_FIXED_LENGTH: RegexTranslation.refused("a look-behind of varying length")
        case PCRE2_ERROR_PATTERN_TOO_LARGE, PCRE2_ERROR_PARENTHESES_NEST_TOO_DEEP, PCRE2_ERROR_HEAP_FAILED:
            StatementError(.statementTooComplex, "regular expression is too complex")
        case _: RegexTranslation.refused("this construct (PCRE2 error \(error))")
        }
    }

    private static func matchError(_ error: Int32) -> StatementError {
        switch error {
        case PCRE2_ERROR_MATCHLIMIT, PCRE2_ERROR_DEPTHLIMIT, PCRE2_ERROR_HEAPLIMIT, PCRE2_ERROR_DFA_WSSIZE,
            PCRE2_ERROR_DFA_RECURSE:
            StatementError(
                .programLimitExceeded, "regular expression failed: it takes too many steps on this text")
        case _: StatementError(.internalError, "regular expression failed: PCRE2 error \(error)")
        }
    }

    /// A match: the whole first, then the groups; byte ranges.
    struct Match {
        var ranges: [Range<Int>?]
        var whole: Range<Int> { ranges[0] ?? 0..<0 }
    }

    /// Steps are counted from here: for all the matches of one call of a function.
    func beginCall() { counter.pointee = Counter() }

    /// Whether there is a match at all.
    func matches(_ text: Bytes) throws(StatementError) -> Bool {
        if let quick = try quickly(text, from: 0) { return quick.match != nil }
        return try range(text, from: 0, isAnchored: false) != nil
    }

    /// The first match that begins at `start` or behind it.
    func first(in text: Bytes, from start: Int) throws(StatementError) -> Match? {
        let begin: Int, end: Int
        if let quick = try quickly(text, from: start) {
            guard let found = quick.match, isGreedy != nil, !hasBackReference else { return quick.match }
            begin = found.whole.lowerBound
            guard let range = try range(text, from: begin, isAnchored: true),
                range.upperBound != found.whole.upperBound
            else { return found }
            end = range.upperBound
        } else {
            guard let range = try range(text, from: start, isAnchored: false) else { return nil }
            (begin, end) = (range.lowerBound, range.upperBound)
        }
        if groups == 0 { return Match(ranges: [begin..<end]) }
        counter.pointee.end = end
        defer { counter.pointee.end = -1 }
        return try run(text, from: begin, isAnchored: true)
            ?? Match(ranges: [begin..<end] + Array(repeating: nil, count: groups))
    }

    /// By going back and forth; nil where that takes too many steps and the automaton may be asked instead.
    private func quickly(_ text: Bytes, from start: Int) throws(StatementError) -> (match: Match?, Void)? {
        let total = Self.stepLimit
        counter.pointee.limit = hasBackReference ? total : min(counter.pointee.steps + Self.quickLimit, total)
        defer { counter.pointee.limit = total }
        do throws(StatementError) {
            return (try run(text, from: start, isAnchored: false), ())
        } catch {
            guard error.state == .programLimitExceeded, !hasBackReference, counter.pointee.steps <= total else {
                throw error
            }
            return nil
        }
    }

    private func run(_ text: Bytes, from start: Int, isAnchored: Bool) throws(StatementError) -> Match? {
        guard start <= text.count else { return nil }
        let flags = UInt32(PCRE2_NO_UTF_CHECK) | (isAnchored ? UInt32(PCRE2_ANCHORED) : 0)
        let result = text.withUnsafeBufferPointer { bytes in
            var nothing: UInt8 = 0
            return withUnsafePointer(to: &nothing) { empty in
                pcre2_match_8(code, bytes.baseAddress ?? empty, bytes.count, start, flags, data, matchContext)
            }
        }
        if result == PCRE2_ERROR_NOMATCH { return nil }
        guard result > 0, let vector = pcre2_get_ovector_pointer_8(data) else { throw Self.matchError(result) }
        var ranges: [Range<Int>?] = []
        for group in 0...groups {
            let low = vector[group * 2], high = vector[group * 2 + 1]
            // A group that took no part is told as -1.
            let isThere = group < Int(result) && low >= 0 && low <= high && high <= text.count
            ranges.append(isThere ? low..<high : nil)
        }
        return Match(ranges: ranges)
    }

    /// The longest or the shortest match, as the automaton sees it: without groups.
    private func range(_ text: Bytes, from start: Int, isAnchored: Bool) throws(StatementError) -> Range<Int>? {
        guard start <= text.count else { return nil }
        var flags = UInt32(PCRE2_NO_UTF_CHECK)
        if isAnchored { flags |= UInt32(PCRE2_ANCHORED) }
        if isGreedy == false { flags |= UInt32(PCRE2_DFA_SHORTEST) }
        var workspace = [Int32](repeating: 0, count: Self.workspaceSize)
        let result = text.withUnsafeBufferPointer { bytes in
            var nothing: UInt8 = 0
            return withUnsafePointer(to: &nothing) { empty in
                pcre2_dfa_match_8(
                    code, bytes.baseAddress ?? empty, bytes.count, start, flags, automatonData, matchContext,
                    &workspace, workspace.count)
            }
        }
        if result == PCRE2_ERROR_NOMATCH { return nil }
        guard result >= 0, let vector = pcre2_get_ovector_pointer_8(automatonData), vector[0] <= vector[1],
            vector[1] <= text.count
        else { throw Self.matchError(result) }
        return vector[0]..<vector[1]
    }
}
