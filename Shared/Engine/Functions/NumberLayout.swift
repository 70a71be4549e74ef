/// Puts the digits of a number into the places of a picture.
struct NumberLayout {
    private let picture: NumberPicture
    private var whole: [UInt8], fraction: [UInt8]
    private let isNegative: Bool, hasPoint: Bool
    /// How many digits there are behind the point. Where the picture wants one more, or a point and there is none,
    /// PostgreSQL ends the text.
    private let after: Int
    /// Places before the first digit, and where the number begins: its first digit, a zero before it, or the point.
    private let lead: Int, first: Int
    /// How many places and points there are before a sign at the end.
    private let count: Int
    private var output = "", place = 0, behind = 0, walked = 0
    private var isSigned = false, hasDigit = false, isBehind = false, isCut = false

    init(
        _ picture: NumberPicture, _ whole: String, _ fraction: String, _ isNegative: Bool, _ width: Int, _ after: Int,
        hasPoint: Bool
    ) {
        (self.picture, self.isNegative, self.after, self.hasPoint) = (picture, isNegative, after, hasPoint)
        (self.whole, self.fraction) = (Array(whole.utf8), Array(fraction.utf8))
        let zero = UInt8(ascii: "0")
        // A zero in front of a fraction is not shown where blanks may stand.
        if self.whole == [zero], picture.zeroStart == nil, after > 0 { self.whole = [] }
        if picture.isBare {
            while self.fraction.count > picture.zeroEnd, self.fraction.last == zero { self.fraction.removeLast() }
            if self.whole.isEmpty, self.fraction.isEmpty, width > 0 { self.whole = [zero] }
        }
        lead = max(width - self.whole.count, 0)
        first = min(picture.zeroStart ?? lead, lead)
        count = width + after + (picture.hasPoint ? 1 : 0)
    }

    mutating func text() -> String {
        for item in picture.items {
            add(item)
            if isCut { break }
            guard item.isPlace else { continue }
            walked += 1
            if walked == count { endSign() }
        }
        return output
    }

    private mutating func add(_ item: NumberPicture.Item) {
        let isBare = picture.isBare
        switch item {
        case .nine: digit(isZero: false)
        case .zero: digit(isZero: true)
        case .point:
            sign()
            isBehind = true
            if hasPoint { output += "." } else { isCut = true }
        case .group: output += hasDigit ? "," : isBare ? "" : " "
        case .sign, .roman: break
        case .minus: output += isNegative ? "-" : isBare ? "" : " "
        case .plus: output += isNegative ? (isBare ? "" : " ") : "+"
        case .either: output += isNegative ? "-" : "+"
        case .currency: output += " "
        case .ending(let isUpper):
            guard !isNegative, !picture.hasFraction else { return }
            output += DatePicture.ending(of: String(decoding: whole, as: UTF8.self), isUpper: isUpper)
        case .text(let text): output += text
        }
    }

    private mutating func sign() {
        guard !isSigned else { return }
        isSigned = true
        let isBare = picture.isBare
        if picture.isBracketed {
            output += isNegative ? "<" : isBare ? "" : " "
        } else if picture.signPlace == .start {
            output += isNegative ? "-" : "+"
        } else if picture.signPlace == nil, !picture.hasLooseSign {
            output += isNegative ? "-" : isBare ? "" : " "
        }
    }

    private mutating func endSign() {
        if picture.isBracketed { output += isNegative ? ">" : picture.isBare ? "" : " " }
        if picture.signPlace == .end { output += isNegative ? "-" : "+" }
    }

    private mutating func digit(isZero: Bool) {
        if isBehind {
            if behind < fraction.count {
                output.unicodeScalars.append(Unicode.Scalar(fraction[behind]))
                hasDigit = true
            } else if behind >= after, !picture.isBare || isZero || after == 0 {
                isCut = true
            }
            behind += 1
            return
        }
        if place >= first || place >= lead { sign() }
        if place >= lead {
            output.unicodeScalars.append(Unicode.Scalar(whole[place - lead]))
            hasDigit = true
        } else if place >= first {
            output += "0"
            hasDigit = true
        } else if !picture.isBare {
            output += " "
        }
        place += 1
    }
}
