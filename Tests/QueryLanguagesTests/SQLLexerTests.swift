import Base
import Contracts
import QueryLanguages
import TestKit
import Testing

/// Expected tokens and messages are what PostgreSQL 15 makes of the same text.
@Suite("SQLLexer")
struct SQLLexerTests {
    /// Tokens in short: their kind's first letters and their text.
    private func words(_ statement: String) throws -> [String] {
        try SQLLexer.tokens(Array(statement.utf8)).dropLast().map { token in
            switch token.kind {
            case .keyword: "k:\(token.text)"
            case .identifier: "i:\(token.text)"
            case .string: "s:\(token.text)"
            case .bits: "b:\(token.text)"
            case .hexadecimal: "x:\(token.text)"
            case .integer(let value): "n:\(value)"
            case .number: "f:\(token.text)"
            case .parameter(let number): "p:\(number)"
            case .symbol: "o:\(token.text)"
            case .punctuation: token.text
            case .end: "end"
            }
        }
    }

    @Test(
        "cuts a statement as PostgreSQL does",
        arguments: [
            ("SELECT a.B, \"A b\" FROM t", "k:select i:a . i:b , i:A b k:from i:t"),
            ("select 1+-2", "k:select n:1 o:+ o:- n:2"), ("a->>'b'", "i:a o:->> s:b"), ("a @-b", "i:a o:@- i:b"),
            ("a*-b", "i:a o:* o:- i:b"), ("x<=y<>z!=w", "i:x o:<= i:y o:<> i:z o:<> i:w"), ("a=>1", "i:a => n:1"),
            ("x::int[]", "i:x :: k:int [ ]"), ("1..2", "n:1 .. n:2"), ("1.5e3 .5 5. 1e10", "f:1.5e3 f:.5 f:5. f:1e10"),
            ("9223372036854775807 9223372036854775808", "n:9223372036854775807 f:9223372036854775808"),
            ("$1 + $23", "p:1 o:+ p:23"), ("'it''s'", "s:it's"), ("'a'\n  'b'", "s:ab"), ("'a' 'b'", "s:a s:b"),
            ("'a'\n-- c\n'b'", "s:ab"), ("E'\\n\\x41\\101\\u00e9\\\\'", "s:\n\u{41}Aé\\"),
            ("e'\\ud83d\\ude00'", "s:😀"), ("U&'d\\0061t\\+000061'", "s:data"), ("U&'d!0061' UESCAPE '!'", "s:da"),
            ("U&\"\\0441\"", "i:с"), ("b'101' X'1Fa'", "b:101 x:1Fa"), ("N'x'", "s:x"),
            ("$$a'b$$ $x$ $$ $x$", "s:a'b s: $$ "), ("a/* x /* y */ z */b", "i:a i:b"), ("a--b\nc", "i:a i:c"),
            ("a-- b", "i:a"), ("'a\\b'", "s:a\\b"), ("ÀB", "i:Àb"), ("\"a\"\"b\"", "i:a\"b"), ("a$1", "i:a$1"),
            (";,()", "; , ( )"), ("a :=b", "i:a := i:b"), ("_x1", "i:_x1"), ("", ""), ("  -- only", ""),
        ])
    func golden(_ statement: String, _ expected: String) throws {
        #expect(try words(statement).joined(separator: " ") == expected)
    }

    @Test(
        "refuses in PostgreSQL's words, with the place",
        arguments: [
            ("select 'abc", "unterminated quoted string at or near \"'abc\"", 7),
            ("select \"abc", "unterminated quoted identifier at or near \"\"abc\"", 7),
            ("a /* b", "unterminated /* comment at or near \"/* b\"", 2),
            ("select \"\"", "zero-length delimited identifier at or near \"\"\"\"", 7),
            ("select 123abc", "trailing junk after numeric literal at or near \"123abc\"", 7),
            ("select $1a", "trailing junk after parameter at or near \"$1a\"", 7),
            ("select $x$ a", "unterminated dollar-quoted string at or near \"$x$ a\"", 7),
            ("select b'102'", "\"2\" is not a valid binary digit", 7),
            ("select x'fg'", "\"g\" is not a valid hexadecimal digit", 7),
            ("é \\ b", "syntax error at or near \"\\\"", 3),
        ])
    func refusals(_ statement: String, _ message: String, _ offset: Int) {
        #expect {
            try SQLLexer.tokens(Array(statement.utf8))
        } throws: {
            ($0 as? SQLSyntaxError)?.message == message && ($0 as? SQLSyntaxError)?.offset == offset
        }
    }

    @Test("counts the position in characters from one")
    func position() {
        let statement = Array("é \\".utf8)
        #expect(SQLSyntaxError("x", at: 3).position(in: statement) == 3)
    }

    @Test("knows PostgreSQL's keywords and their categories")
    func keywords() throws {
        for (word, category) in [
            ("select", .reserved), ("int", .columnName), ("left", .typeOrFunctionName), ("abort", .unreserved),
        ] as [(String, SQLKeyword.Category)] {
            let token = try SQLLexer.tokens(Array(word.utf8))[0]
            guard case .keyword(let keyword) = token.kind else {
                Issue.record("\(word) is a keyword")
                continue
            }
            #expect(keyword.category == category)
        }
        guard case .keyword(let year) = try SQLLexer.tokens(Array("YEAR".utf8))[0].kind else {
            return #expect(Bool(false), "YEAR is a keyword")
        }
        #expect(!year.isBareLabel)
    }

    @Test("cuts long identifiers between characters")
    func longIdentifiers() throws {
        let name = String(repeating: "é", count: 40)
        #expect(try SQLLexer.tokens(Array(name.utf8))[0].text == String(repeating: "é", count: 31))
    }

    @Test("takes any bytes without a trap, and tokens lie in order where they say")
    func anyBytes() {
        var random = SplitMix64(seed: freshSeed("lexer bytes"))
        let pieces =
            [
                "'", "\"", "$", "$$", "E'", "U&'", "U&\"", "\\", "\\u", "\\+", "uescape", "/*", "*/", "--", "\n", "1",
                "e", ".", "x'",
                "b'", "é", "\u{0}", "+", "-", "@", ":", "d83d", "😀", "(", " ",
            ].map { Array($0.utf8) } + [[0xff], [0xc3], [0xf0, 0x9f]]
        for _ in 0..<20_000 {
            var statement: Bytes = []
            for _ in 0..<random.next(below: 12) {
                statement += pieces[Int(random.next(below: UInt64(pieces.count)))]
            }
            do throws(SQLSyntaxError) {
                var end = 0
                for token in try SQLLexer.tokens(statement) {
                    #expect(token.range.lowerBound >= end && token.range.upperBound <= statement.count)
                    end = token.range.upperBound
                }
            } catch {
                #expect((0...statement.count).contains(error.offset))
            }
        }
    }
}
