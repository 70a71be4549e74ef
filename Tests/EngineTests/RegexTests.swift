import Base
import TestKit
import Testing

@testable import Engine

@Suite("Regular expressions")
struct RegexTests {
    @Test("no pattern takes unbounded time")
    func limits() {
        let text = String(repeating: "x", count: 2000)
        // Going back and forth would take 2^2000 steps; the automaton takes none back.
        #expect(Expressions.answer("SELECT '\(text)' ~ '(x+x+)+y'") == "f")
        #expect(Expressions.answer("SELECT length(substring('\(text)' from '(?:x+x+)+'))") == "2000")
        // With a reference back there is no automaton.
        let answer = Expressions.answer("SELECT '\(text)y' ~ '(x+)(x+)(x+)\\1\\2\\3zy'")
        #expect(answer.hasPrefix("54000: regular expression failed"))
        #expect(Expressions.answer("SELECT 'a' ~ '\(String(repeating: "(", count: 5000))'").hasPrefix("54001"))
        #expect(Expressions.answer("SELECT 'a' ~ '((((a{250}){250}){250}){250})'").hasPrefix("54001"))
        #expect(Expressions.answer("SELECT regexp_count('ab', 'b', 2147483647)") == "0")
    }

    @Test("any characters are a pattern or an error, and end")
    func random() {
        var random = SplitMix64(seed: freshSeed("regular expressions"))
        let pieces = [
            "a", "b", "(", ")", "[", "]", "|", "*", "+", "?", "{", "}", "1", ",", "\\", "d", "w", "^", "$", ".", "-",
            ":", "(?:", "(?=", "(?<!", "[[:alpha:]]", "\\1", "\\m", "é", "[^", "{2}", "*?", "(?i)", "***=",
        ]
        for _ in 0..<400 {
            var pattern = ""
            for _ in 0..<Int.random(in: 1...9, using: &random) { pattern += pieces.randomElement(using: &random) ?? "" }
            let quoted = TextFunctions.quoted(pattern)
            let answer = Expressions.answer("SELECT regexp_replace('aab1 éb(a)', \(quoted), '<\\1\\&>', 'g') IS NULL")
            let isError = ["2201B", "0A000", "54001", "54000"].contains { answer.hasPrefix($0) }
            #expect(answer == "f" || isError, "\(pattern): \(answer)")
        }
    }
}
