import Base
import DataModel

/// Window functions.
final class WindowOperator: Operator {
    init(_ child: Operator, _ calls: [(attribute: Attribute, call: WindowCall)]) throws(StatementError) {
        throw StatementError(.featureNotSupported, "window functions are not supported yet")
    }
}
