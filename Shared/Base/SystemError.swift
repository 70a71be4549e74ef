import CSystem
import Glibc

/// A failed system call: which call on what, and the error number it left.
package struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    package let code: Int32
    /// What was tried, for people: `open /data/log/0001`.
    package let call: String

    /// Reads `errno` when no code is given, so it must be made right after the call.
    package init(_ call: @autoclosure () -> String, code: Int32 = errno) {
        self.code = code  // Before `call()`: making the text may change errno.
        self.call = call()
    }

    /// The symbol, `ENOENT`.
    package var name: String { String(cString: orbit_error_name(code)) }

    package var description: String { "\(call): \(String(cString: orbit_error_text(code))) (\(name))" }

    /// The error a client is given for it: a full disk and damage are told apart, the rest is ours.
    package var databaseError: DatabaseError {
        switch code {
        case ENOSPC, EDQUOT: DatabaseError(.diskFull, description)
        case EIO, EILSEQ, EUCLEAN: DatabaseError(.corruption, description)
        case EMFILE, ENFILE, EAGAIN: DatabaseError(.busy, description)
        default: DatabaseError(.internalFailure, description)  // An open set of numbers, not an enum of ours.
        }
    }
}
