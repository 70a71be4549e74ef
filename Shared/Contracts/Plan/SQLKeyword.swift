/// How a keyword may be used where a name is expected (PostgreSQL 15 manual, appendix C).
package struct SQLKeyword: Hashable, Sendable {
    /// Where the word may stand for a name.
    package enum Category: UInt8, Hashable, Sendable {
        /// A name of anything.
        case unreserved
        /// A name of anything but a function or a type.
        case columnName
        /// A name of a function or a type only.
        case typeOrFunctionName
        /// No name.
        case reserved
    }

    package let category: Category
    /// It may be a column's label without AS.
    package let isBareLabel: Bool

    /// The keyword that `word`, folded to lower case, is; nil if it is none.
    package init?(_ word: String) {
        guard word.utf8.count <= Self.longest, let found = Self.table[word] else { return nil }
        self = found
    }

    private init(_ category: Category, isBareLabel: Bool) {
        (self.category, self.isBareLabel) = (category, isBareLabel)
    }

    private static let longest = table.keys.reduce(0) { max($0, $1.utf8.count) }

    private static let table: [String: SQLKeyword] = {
        var table: [String: SQLKeyword] = [:]
        for (category, isBareLabel, words) in rows {
            for word in words.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
                table[String(word)] = SQLKeyword(category, isBareLabel: isBareLabel)
            }
        }
        return table
    }()

    private static let rows: [(Category, Bool, String)] = [
        (.unreserved, true, unreserved), (.unreserved, false, unreservedWithAs),
        (.columnName, true, columnName), (.columnName, false, columnNameWithAs),
        (.typeOrFunctionName, true, typeOrFunctionName), (.typeOrFunctionName, false, typeOrFunctionNameWithAs),
        (.reserved, true, reserved), (.reserved, false, reservedWithAs),
    ]

    private static let unreserved = """
        abort absolute access action add admin after aggregate also alter always asensitive assertion assignment at
        atomic attach attribute backward before begin breadth by cache call called cascade cascaded catalog chain
        characteristics checkpoint class close cluster columns comment comments commit committed compression
        configuration conflict connection constraints content continue conversion copy cost csv cube current cursor
        cycle data database deallocate declare defaults deferred definer delete delimiter delimiters depends depth
        detach dictionary disable discard document domain double drop each enable encoding encrypted enum escape
        event exclude excluding exclusive execute explain expression extension external family finalize first
        following force forward function functions generated global granted groups handler header hold identity if
        immediate immutable implicit import include including increment index indexes inherit inherits inline input
        insensitive insert instead invoker isolation key label language large last leakproof level listen load local
        location lock locked logged mapping match matched materialized maxvalue merge method minvalue mode move name
        names new next nfc nfd nfkc nfkd no normalized nothing notify nowait nulls object of off oids old operator
        option options ordinality others overriding owned owner parallel parameter parser partial partition passing
        password plans policy preceding prepare prepared preserve prior privileges procedural procedure procedures
        program publication quote range read reassign recheck recursive ref referencing refresh reindex relative
        release rename repeatable replace replica reset restart restrict return returns revoke role rollback rollup
        routine routines rows rule savepoint schema schemas scroll search security sequence sequences serializable
        server session set sets share show simple skip snapshot sql stable standalone start statement statistics
        stdin stdout storage stored strict strip subscription support sysid system tables tablespace temp template
        temporary text ties transaction transform trigger truncate trusted type types uescape unbounded uncommitted
        unencrypted unknown unlisten unlogged until update vacuum valid validate validator value version view views
        volatile whitespace work wrapper write xml yes zone
        """

    private static let unreservedWithAs = """
        day filter hour minute month over second varying within without year
        """

    private static let columnName = """
        between bigint bit boolean coalesce dec decimal exists extract float greatest grouping inout int integer
        interval least national nchar none normalize nullif numeric out overlay position real row setof smallint
        substring time timestamp treat trim values varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest
        xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
        """

    private static let columnNameWithAs = """
        char character precision
        """

    private static let typeOrFunctionName = """
        authorization binary collation concurrently cross current_schema freeze full ilike inner is join left like
        natural outer right similar tablesample verbose
        """

    private static let typeOrFunctionNameWithAs = """
        isnull notnull overlaps
        """

    private static let reserved = """
        all analyse analyze and any asc asymmetric both case cast check collate column constraint current_catalog
        current_date current_role current_time current_timestamp current_user default deferrable desc distinct do
        else end false foreign in initially lateral leading localtime localtimestamp not null only or placing
        primary references select session_user some symmetric table then trailing true unique user using variadic
        when
        """

    private static let reservedWithAs = """
        array as create except fetch for from grant group having intersect into limit offset on order returning to
        union where window with
        """
}
