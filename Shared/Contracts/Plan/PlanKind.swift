/// What a node of a plan is. The raw value is its wire form: never renumber, only add at the end of a group.
///
/// In brackets: its children in their order. `x?` may be absent; `x*` is a `list`, absent when it would be empty; `x…`
/// are any number of children. Then: what name, number and flags mean, where they mean anything. `PlanShape` has the
/// same as a table that plans are validated by.
package enum PlanKind: UInt16, CaseIterable, Hashable, Sendable {
    // MARK: Structure
    /// Node 0: what is absent.
    case none = 0
    /// [elements…] Several of something, in order.
    case list
    /// A bare name: `name`.
    case identifier
    /// [qualifier?] A name with what it lies in: `b` in `a.b`; the qualifier is `a`.
    case name
    /// [value?] An option of a statement, `name` in lower case; without a value it is just said. What is a word where a
    /// value stands is an `identifier`.
    case option

    // MARK: Expressions: literals and references
    /// NULL.
    case null = 16
    /// TRUE or FALSE: `number` 1 or 0.
    case boolean
    /// A whole number: `number`.
    case integer
    /// Any other number: `name` is its text.
    case decimal
    /// A quoted literal, its type not known yet: `name`.
    case string
    /// A bit string: `name` is `b` or `x` and the digits.
    case bits
    /// `$n`: `number`.
    case parameter
    /// [qualifier?] `name`, of `qualifier`: a column, or a field of one; only the binder knows.
    case columnReference
    /// [qualifier?] `*`, `t.*`, `s.t.*`: in a list of targets, or an argument that is a whole row.
    case star
    /// DEFAULT, where a column's value stands.
    case `default`
    /// A value of the session or the transaction without parentheses: `name` (`current_date`, `current_user`, …);
    /// `number` is the precision, -1 if none is said.
    case specialValue
    /// WHERE CURRENT OF the cursor `name`.
    case currentOf

    // MARK: Expressions: made of others
    /// [left?, right, qualifier?] `name` as written (`<>` for `!=`), of the schema `qualifier` if OPERATOR(…) said one;
    /// no left operand: a prefix operator. Its position is the operator's.
    case `operator` = 64
    /// [operands…] n operands, n > 1.
    case and
    /// [operands…] n operands, n > 1.
    case or
    /// [operand]
    case not
    /// [operand] IS [NOT] NULL: `isNegated`.
    case nullTest
    /// [operand] IS [NOT] TRUE, FALSE, UNKNOWN: `number` 0, 1, 2; `isNegated`.
    case booleanTest
    /// [left, right] IS [NOT] DISTINCT FROM: `isNegated`.
    case distinctTest
    /// [operand, low, high] `isNegated`, `isSymmetric`.
    case between
    /// [operand, pattern, escape?] `number` 0 LIKE, 1 ILIKE, 2 SIMILAR TO; `isNegated`.
    case like
    /// [operand, elements] `isNegated`.
    case inList
    /// [operand, query] `isNegated`.
    case inQuery
    /// [operand, query, qualifier?] `operand name ANY (query)`; ALL: `isAll`. LIKE and ILIKE are named `~~`, `!~~`,
    /// `~~*`, `!~~*`.
    case quantifiedQuery
    /// [operand, array, qualifier?] `operand name ANY (array)`; ALL: `isAll`.
    case quantifiedArray
    /// [query] A query for its one value.
    case scalarQuery
    /// [query]
    case exists
    /// [query] ARRAY(query).
    case arrayQuery
    /// [operand?, whens, else?]
    case `case`
    /// [condition, result] Of CASE; the condition is a value to compare with, if CASE has an operand.
    case when
    /// [operand, type] `x::t`, CAST(x AS t), `t 'x'`.
    case cast
    /// [qualifier?, modifiers*] `name` of `qualifier`; `number` dimensions of an array; SETOF: `isAll`; a type that the
    /// language spells with keywords (`int4` for INTEGER) is `isBuiltIn`; `%TYPE`: `isMarked`. Modifiers of an
    /// interval: a mask of its fields, and a precision.
    case typeName
    /// [qualifier?, arguments*, orderBy*, filter?, over?] `name` of `qualifier`; `isBuiltIn` for special forms
    /// (EXTRACT, AT TIME ZONE, …), their arguments in the order of the function. `isDistinct`, `isStar`, `isVariadic`
    /// (the last argument), `isWithinGroup` (then `orderBy` is that of WITHIN GROUP).
    case functionCall
    /// [value] `name => value`, in a call.
    case namedArgument
    /// [operands…]
    case coalesce
    /// [left, right]
    case nullIf
    /// [operands…]
    case greatest
    /// [operands…]
    case least
    /// [operand, collation]
    case collate
    /// [elements…] ARRAY[…]; elements that are constructors make dimensions.
    case arrayConstructor
    /// [elements…] ROW(…): `isExplicit`; or (…, …).
    case row
    /// [arguments…] GROUPING(…).
    case grouping
    /// [operand, index] Of one in parentheses, apart from those: `isMarked`.
    case arraySubscript
    /// [operand, low?, high?] As the one before.
    case arraySlice
    /// [operand] `(operand).name`.
    case fieldSelection
    /// [operand] `(operand).*`.
    case allFields
    /// [partitionBy*, orderBy*, frame?] `name` is that of a window it begins from, or empty. In a WINDOW clause: inside
    /// of `namedWindow`.
    case window
    /// OVER name.
    case windowReference
    /// [start, end?] `number` 0 RANGE, 1 ROWS, 2 GROUPS, plus 4 × (1 EXCLUDE CURRENT ROW, 2 GROUP, 3 TIES).
    case frame
    /// [offset?] `number` 0 unbounded preceding, 1 offset preceding, 2 current row, 3 offset following, 4 unbounded
    /// following.
    case frameBound

    // MARK: Queries
    /// [with?, distinctOn*, targets*, from*, where?, groupBy*, having?, windows*, orderBy*, limit?, offset?, locking*]
    /// A select block: `isDistinct`, `isGroupDistinct`, `isWithTies`. LIMIT ALL is no limit.
    case select = 160
    /// [with?, left, right, orderBy*, limit?, offset?, locking*] `number` 0 UNION, 1 INTERSECT, 2 EXCEPT; `isAll`;
    /// `isWithTies`.
    case setOperation
    /// [with?, rows, orderBy*, limit?, offset?, locking*] Each row is a `list` of expressions; `isWithTies`.
    case values
    /// [tables…] `isRecursive`.
    case with
    /// [columns*, statement] `name AS (statement)`; `number` 0 as it likes, 1 MATERIALIZED, 2 NOT MATERIALIZED.
    case commonTable
    /// [value] A result column; `name` is what AS says, or empty.
    case target
    /// [value, qualifier?] `isDescending`, `isNullsFirst`, `isNullsLast`; USING: the operator `name` of `qualifier`.
    case orderItem
    /// [contents…] `number` 0 (), 2 ROLLUP, 3 CUBE, 4 GROUPING SETS; a parenthesised list in it is a `row`.
    case groupingSet
    /// [window] WINDOW name AS window.
    case namedWindow
    /// [relations*] FOR …: `number` 0 KEY SHARE, 1 SHARE, 2 NO KEY UPDATE, 3 UPDATE; `isNoWait`, `isSkipLocked`.
    /// Relations are `name`s.
    case locking
    /// Rows that come with the request, as the columns of an `insert` take them: only as its source.
    case input

    // MARK: Relations of FROM
    /// [qualifier?, alias?] `name` of `qualifier`; `isOnly`.
    case table = 192
    /// [columns*] AS name (columns): `identifier`s.
    case alias
    /// [query, alias?] `isLateral`.
    case derivedTable
    /// [calls, alias?] Elements are `tableFunction`s, several with ROWS FROM; `isLateral`, `isWithOrdinality`.
    case functionTable
    /// [call, columns*] A call, and its `columnDefinition`s if it returns records.
    case tableFunction
    /// [left, right, condition?, using*, alias?] `number` 0 INNER, 1 LEFT, 2 RIGHT, 3 FULL, 4 CROSS; `isNatural`;
    /// `name` is the alias of USING (…) AS name. Using has `identifier`s.
    case join

    // MARK: Statements on rows
    /// [with?, target, columns*, source?, conflict?, returning*] No source: DEFAULT VALUES. Columns are `identifier`s.
    /// `number` 1 OVERRIDING USER, 2 SYSTEM VALUE.
    case insert = 224
    /// [elements*, elementsWhere?, assignments*, where?] ON CONFLICT (elements) or ON CONSTRAINT `name`: DO NOTHING, or
    /// DO UPDATE if there are assignments. Elements are `indexElement`s.
    case conflict
    /// [value] Column `name` = value.
    case assignment
    /// [columns, source] (columns) = source, a `row` or a `scalarQuery`.
    case multipleAssignment
    /// [with?, target, assignments, from*, where?, returning*]
    case update
    /// [with?, target, using*, where?, returning*]
    case delete
    /// [tables] `isCascade`, RESTART IDENTITY: `isMarked`. Tables are `table`s.
    case truncate
    /// [table?, columns*, query?, options*, where?] COPY of a table or a query; FROM: `isMarked`; `name` is the file,
    /// empty for STDIN and STDOUT; PROGRAM: `isExplicit`. Option values: expression, `identifier`, `star`, or a list of
    /// `identifier`s.
    case copy

    // MARK: Definitions
    /// [table, elements*, options*] `isConditional`, `isTemporary`, `isUnlogged`; `number` is ON COMMIT: 0 not said, 1
    /// PRESERVE ROWS, 2 DELETE ROWS, 3 DROP. Elements are `columnDefinition`s, constraints and `likeTable`s.
    case createTable = 256
    /// [type?, collation?, constraints*] Column `name`.
    case columnDefinition
    /// `name` of the constraint, or empty, as with all of them.
    case notNullConstraint
    /// NULL, which says nothing.
    case nullConstraint
    /// [value]
    case defaultConstraint
    /// [condition] NO INHERIT: `isMarked`; NOT VALID: `isWithoutData`.
    case checkConstraint
    /// [value] GENERATED ALWAYS AS (value) STORED.
    case generatedConstraint
    /// [options*] GENERATED … AS IDENTITY; ALWAYS: `isAll`. Options as of a sequence.
    case identityConstraint
    /// [columns*, include*, options*] Columns are `identifier`s, none at a column. `isDeferrable`,
    /// `isInitiallyDeferred`.
    case primaryKeyConstraint
    /// [columns*, include*, options*] As the one before; NULLS NOT DISTINCT: `isMarked`.
    case uniqueConstraint
    /// [columns*, table, referenced*, setColumns*] `number`: match (0 simple, 1 full, 2 partial) + 16 × on update + 256
    /// × on delete (0 no action, 1 restrict, 2 cascade, 3 set null, 4 set default). `isDeferrable`,
    /// `isInitiallyDeferred`; NOT VALID: `isWithoutData`.
    case foreignKeyConstraint
    /// [table, options*] LIKE table INCLUDING …: an `option` each; EXCLUDING has a value FALSE.
    case likeTable
    /// [table, columns*, query, options*] Flags and `number` as of `createTable`; WITH NO DATA: `isWithoutData`. SELECT
    /// INTO too.
    case createTableAs
    /// [table, elements, include*, where?, options*, method?] Index `name`, or empty; `isUnique`, `isConcurrent`,
    /// `isConditional`; NULLS NOT DISTINCT: `isMarked`. Include has `indexElement`s.
    case createIndex
    /// [value, collation?, operatorClass?] `isDescending`, `isNullsFirst`, `isNullsLast`; a plain column is a
    /// `columnReference`.
    case indexElement
    /// [sequence, options*] `isConditional`, `isTemporary`, `isUnlogged`. Options: increment, minvalue, maxvalue,
    /// start, cache (with values; FALSE for NO MINVALUE, NO MAXVALUE), cycle (TRUE, FALSE), owned_by (`name`), as
    /// (`typeName`), sequence_name, restart (a value or none).
    case createSequence
    /// [owner?, elements*] Schema `name`, empty if it is that of its owner; `isConditional`. Elements are statements.
    case createSchema
    /// [view, columns*, query, options*] `isReplace`, `isTemporary`, `isRecursive`; `number` 1 LOCAL, 2 CASCADED CHECK
    /// OPTION.
    case createView
    /// [objects] `number` is a `PlanObject`; `isConditional`, `isCascade`, `isConcurrent`. Objects are `name`s.
    case drop
    /// [object, actions] ALTER of a table, an index, a sequence, a view: `number` is a `PlanObject`; `isConditional`.
    case alter
    /// [column] `isConditional`.
    case addColumn
    /// `name`; `isConditional`, `isCascade`.
    case dropColumn
    /// [type, collation?, using?] Of column `name`.
    case setColumnType
    /// [value?] Of column `name`; none: DROP DEFAULT.
    case setColumnDefault
    /// Of column `name`; `isNegated`: DROP NOT NULL.
    case setColumnNotNull
    /// [options] Of column `name`: an attribute (statistics, storage, compression, n_distinct …).
    case setColumnOptions
    /// [options*] To column `name`; ALWAYS: `isAll`.
    case addIdentity
    /// [options] Of column `name`: options of a sequence; `generated` with a value TRUE for ALWAYS, FALSE for BY
    /// DEFAULT.
    case setIdentity
    /// Of column `name`; `isConditional`.
    case dropIdentity
    /// Of column `name`; `isConditional`.
    case dropExpression
    /// [constraint]
    case addConstraint
    /// `name`; `isConditional`, `isCascade`.
    case dropConstraint
    /// `name`; `isDeferrable`, `isInitiallyDeferred`.
    case alterConstraint
    /// `name`.
    case validateConstraint
    /// [to] Column `name`.
    case renameColumn
    /// [to] Constraint `name`.
    case renameConstraint
    /// [to]
    case rename
    /// Schema `name`.
    case setSchema
    /// Role `name`.
    case setOwner
    /// [options] Storage parameters; RESET: `isNegated`.
    case setOptions
    /// [sequence, options] `isConditional`.
    case alterSequence
    /// [action] Schema `name`; a `rename` or a `setOwner`.
    case alterSchema
    /// [object, table?, text] `number` is a `PlanObject`; the object of a constraint has its table beside it; the text
    /// is a string or NULL.
    case comment
    /// [options*] Role `name`; CREATE USER: `isMarked`. Options: superuser, createdb, createrole, inherit, login,
    /// replication, bypassrls (TRUE, FALSE), password (string or NULL), connection_limit, valid_until, in_role, role,
    /// admin (lists of `identifier`s).
    case createRole
    /// [options*] Role `name`; options as of `createRole`; `rename` with the new name.
    case alterRole
    /// [roles] `isConditional`.
    case dropRole
    /// [privileges*, objects, grantees, grantor?] No privileges: ALL. `number` is a `PlanObject`; REVOKE: `isNegated`;
    /// WITH GRANT OPTION or GRANT OPTION FOR: `isMarked`; ALL … IN SCHEMA: `isAll`; `isCascade`.
    case grant
    /// [columns*] `name`.
    case privilege
    /// [roles, grantees, grantor?] REVOKE: `isNegated`; WITH ADMIN OPTION or ADMIN OPTION FOR: `isMarked`; `isCascade`.
    case grantRole

    // MARK: Statements of a session
    /// [modes*] BEGIN and START TRANSACTION. Modes are `option`s: isolation (a string: `serializable`, `repeatable
    /// read`, `read committed`, `read uncommitted`), read_only, deferrable (TRUE, FALSE).
    case begin = 384
    /// AND CHAIN: `isMarked`.
    case commit
    /// AND CHAIN: `isMarked`.
    case rollback
    /// `name`.
    case savepoint
    /// `name`.
    case releaseSavepoint
    /// `name`.
    case rollbackTo
    /// `name`.
    case prepareTransaction
    /// `name`.
    case commitPrepared
    /// `name`.
    case rollbackPrepared
    /// [modes] SET TRANSACTION; SESSION CHARACTERISTICS: `isMarked`. Modes as of `begin`.
    case setTransaction
    /// [constraints*] None: ALL. DEFERRED: `isInitiallyDeferred`.
    case setConstraints
    /// [values*] Parameter `name`, in lower case if it was not quoted; LOCAL: `isMarked`. None: DEFAULT. Values are
    /// literals, a word is a string.
    case set
    /// Parameter `name`, or `all`.
    case show
    /// Parameter `name`, or `all`.
    case reset
    /// [types*, statement] `name`.
    case prepare
    /// [arguments*] `name`.
    case execute
    /// `name`, or ALL: `isAll`.
    case deallocate
    /// [query, options*] `name`. Options: binary, scroll (TRUE, FALSE), hold (TRUE, FALSE), insensitive (TRUE, FALSE).
    case declareCursor
    /// Cursor `name`; MOVE: `isMarked`; `number` rows forwards, if `isDescending` backwards; all of them: `isAll`;
    /// ABSOLUTE: `isExplicit`; RELATIVE: `isNatural`.
    case fetch
    /// `name`, or ALL: `isAll`.
    case closeCursor
    /// [statement, options*] Options with a value or none.
    case explain
    /// `name`: all, plans, sequences, temp.
    case discard
    /// [tables] `number` is the mode, 1 ACCESS SHARE to 8 ACCESS EXCLUSIVE; `isNoWait`.
    case lock
    /// [tables*, options*] Tables are `vacuumTarget`s; ANALYZE alone: `isMarked`.
    case vacuum
    /// [table, columns*]
    case vacuumTarget
    /// CHECKPOINT.
    case checkpoint
}
