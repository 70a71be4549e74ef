import DataModel

/// Tables of pg_catalog for what Orbit does not have: clients ask them, and find nothing.
enum EmptyTables {
    static let tables: [SystemTable] = rows.map { name, number, isView, columns in
        SystemTable(empty: name, number, in: .systemCatalog, isView: isView, columns)
    }

    /// Name, number, whether PostgreSQL makes it a view, and columns: `!` stands for NOT NULL.
    private static let rows: [(String, UInt32, Bool, String)] = [
        (
            "pg_aggregate", 2600, false,
            """
            aggfnoid regproc!, aggkind char!, aggnumdirectargs int2!, aggtransfn regproc!, aggfinalfn regproc!, \
            aggcombinefn regproc!, aggserialfn regproc!, aggdeserialfn regproc!, aggmtransfn regproc!, \
            aggminvtransfn regproc!, aggmfinalfn regproc!, aggfinalextra bool!, aggmfinalextra bool!, \
            aggfinalmodify char!, aggmfinalmodify char!, aggsortop oid!, aggtranstype oid!, aggtransspace int4!, \
            aggmtranstype oid!, aggmtransspace int4!, agginitval text, aggminitval text
            """
        ),
        (
            "pg_amop", 2602, false,
            """
            oid oid!, amopfamily oid!, amoplefttype oid!, amoprighttype oid!, amopstrategy int2!, amoppurpose char!, \
            amopopr oid!, amopmethod oid!, amopsortfamily oid!
            """
        ),
        (
            "pg_amproc", 2603, false,
            """
            oid oid!, amprocfamily oid!, amproclefttype oid!, amprocrighttype oid!, amprocnum int2!, amproc regproc!
            """
        ),
        (
            "pg_available_extensions", 12_081, true,
            """
            name name, default_version text, installed_version text, comment text
            """
        ),
        (
            "pg_cast", 2605, false,
            """
            oid oid!, castsource oid!, casttarget oid!, castfunc oid!, castcontext char!, castmethod char!
            """
        ),
        (
            "pg_conversion", 2607, false,
            """
            oid oid!, conname name!, connamespace oid!, conowner oid!, conforencoding int4!, contoencoding int4!, \
            conproc regproc!, condefault bool!
            """
        ),
        (
            "pg_cursors", 12_077, true,
            """
            name text, statement text, is_holdable bool, is_binary bool, is_scrollable bool, creation_time timestamptz
            """
        ),
        (
            "pg_default_acl", 826, false,
            """
            oid oid!, defaclrole oid!, defaclnamespace oid!, defaclobjtype char!, defaclacl _text!
            """
        ),
        (
            "pg_enum", 3501, false,
            """
            oid oid!, enumtypid oid!, enumsortorder float4!, enumlabel name!
            """
        ),
        (
            "pg_event_trigger", 3466, false,
            """
            oid oid!, evtname name!, evtevent name!, evtowner oid!, evtfoid oid!, evtenabled char!, evttags _text
            """
        ),
        (
            "pg_extension", 3079, false,
            """
            oid oid!, extname name!, extowner oid!, extnamespace oid!, extrelocatable bool!, extversion text!, \
            extconfig _oid, extcondition _text
            """
        ),
        (
            "pg_foreign_data_wrapper", 2328, false,
            """
            oid oid!, fdwname name!, fdwowner oid!, fdwhandler oid!, fdwvalidator oid!, fdwacl _text, fdwoptions _text
            """
        ),
        (
            "pg_foreign_server", 1417, false,
            """
            oid oid!, srvname name!, srvowner oid!, srvfdw oid!, srvtype text, srvversion text, srvacl _text, \
            srvoptions _text
            """
        ),
        (
            "pg_foreign_table", 3118, false,
            """
            ftrelid oid!, ftserver oid!, ftoptions _text
            """
        ),
        (
            "pg_group", 12_010, true,
            """
            groname name, grosysid oid, grolist _oid
            """
        ),
        (
            "pg_inherits", 2611, false,
            """
            inhrelid oid!, inhparent oid!, inhseqno int4!, inhdetachpending bool!
            """
        ),
        (
            "pg_init_privs", 3394, false,
            """
            objoid oid!, classoid oid!, objsubid int4!, privtype char!, initprivs _text!
            """
        ),
        (
            "pg_largeobject_metadata", 2995, false,
            """
            oid oid!, lomowner oid!, lomacl _text
            """
        ),
        (
            "pg_locks", 12_073, true,
            """
            locktype text, database oid, relation oid, page int4, tuple int2, virtualxid text, transactionid xid, \
            classid oid, objid oid, objsubid int2, virtualtransaction text, pid int4, mode text, granted bool, \
            fastpath bool, waitstart timestamptz
            """
        ),
        (
            "pg_matviews", 12_038, true,
            """
            schemaname name, matviewname name, matviewowner name, tablespace name, hasindexes bool, ispopulated bool, \
            definition text
            """
        ),
        (
            "pg_parameter_acl", 6243, false,
            """
            oid oid!, parname text!, paracl _text
            """
        ),
        (
            "pg_partitioned_table", 3350, false,
            """
            partrelid oid!, partstrat char!, partnatts int2!, partdefid oid!, partattrs int2vector!, \
            partclass oidvector!, partcollation oidvector!, partexprs text
            """
        ),
        (
            "pg_policies", 12_018, true,
            """
            schemaname name, tablename name, policyname name, permissive text, roles _name, cmd text, qual text, \
            with_check text
            """
        ),
        (
            "pg_policy", 3256, false,
            """
            oid oid!, polname name!, polrelid oid!, polcmd char!, polpermissive bool!, polroles _oid!, polqual text, \
            polwithcheck text
            """
        ),
        (
            "pg_prepared_statements", 12_095, true,
            """
            name text, statement text, prepare_time timestamptz, parameter_types _regtype, from_sql bool, \
            generic_plans int8, custom_plans int8
            """
        ),
        (
            "pg_prepared_xacts", 12_090, true,
            """
            transaction xid, gid text, prepared timestamptz, owner name, database name
            """
        ),
        (
            "pg_publication", 6104, false,
            """
            oid oid!, pubname name!, pubowner oid!, puballtables bool!, pubinsert bool!, pubupdate bool!, \
            pubdelete bool!, pubtruncate bool!, pubviaroot bool!
            """
        ),
        (
            "pg_publication_namespace", 6237, false,
            """
            oid oid!, pnpubid oid!, pnnspid oid!
            """
        ),
        (
            "pg_publication_rel", 6106, false,
            """
            oid oid!, prpubid oid!, prrelid oid!, prqual text, prattrs int2vector
            """
        ),
        (
            "pg_publication_tables", 12_068, true,
            """
            pubname name, schemaname name, tablename name, attnames _name, rowfilter text
            """
        ),
        (
            "pg_range", 3541, false,
            """
            rngtypid oid!, rngsubtype oid!, rngmultitypid oid!, rngcollation oid!, rngsubopc oid!, \
            rngcanonical regproc!, rngsubdiff regproc!
            """
        ),
        (
            "pg_replication_slots", 12_257, true,
            """
            slot_name name, plugin name, slot_type text, datoid oid, database name, temporary bool, active bool, \
            active_pid int4, xmin xid, catalog_xmin xid, restart_lsn text, confirmed_flush_lsn text, wal_status text, \
            safe_wal_size int8, two_phase bool
            """
        ),
        (
            "pg_rules", 12_023, true,
            """
            schemaname name, tablename name, rulename name, definition text
            """
        ),
        (
            "pg_seclabel", 3596, false,
            """
            objoid oid!, classoid oid!, objsubid int4!, provider text!, label text!
            """
        ),
        (
            "pg_shdepend", 1214, false,
            """
            dbid oid!, classid oid!, objid oid!, objsubid int4!, refclassid oid!, refobjid oid!, deptype char!
            """
        ),
        (
            "pg_shdescription", 2396, false,
            """
            objoid oid!, classoid oid!, description text!
            """
        ),
        (
            "pg_shseclabel", 3592, false,
            """
            objoid oid!, classoid oid!, provider text!, label text!
            """
        ),
        (
            "pg_stat_activity", 12_222, true,
            """
            datid oid, datname name, pid int4, leader_pid int4, usesysid oid, usename name, application_name text, \
            client_addr text, client_hostname text, client_port int4, backend_start timestamptz, \
            xact_start timestamptz, query_start timestamptz, state_change timestamptz, wait_event_type text, \
            wait_event text, state text, backend_xid xid, backend_xmin xid, query_id int8, query text, \
            backend_type text
            """
        ),
        (
            "pg_stat_all_tables", 12_142, true,
            """
            relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, \
            idx_tup_fetch int8, n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_tup_hot_upd int8, n_live_tup int8, \
            n_dead_tup int8, n_mod_since_analyze int8, n_ins_since_vacuum int8, last_vacuum timestamptz, \
            last_autovacuum timestamptz, last_analyze timestamptz, last_autoanalyze timestamptz, vacuum_count int8, \
            autovacuum_count int8, analyze_count int8, autoanalyze_count int8
            """
        ),
        (
            "pg_stat_database", 12_266, true,
            """
            datid oid, datname name, numbackends int4, xact_commit int8, xact_rollback int8, blks_read int8, \
            blks_hit int8, tup_returned int8, tup_fetched int8, tup_inserted int8, tup_updated int8, tup_deleted int8, \
            conflicts int8, temp_files int8, temp_bytes int8, deadlocks int8, checksum_failures int8, \
            checksum_last_failure timestamptz, blk_read_time float8, blk_write_time float8, session_time float8, \
            active_time float8, idle_in_transaction_time float8, sessions int8, sessions_abandoned int8, \
            sessions_fatal int8, sessions_killed int8, stats_reset timestamptz
            """
        ),
        (
            "pg_stat_replication", 12_227, true,
            """
            pid int4, usesysid oid, usename name, application_name text, client_addr text, client_hostname text, \
            client_port int4, backend_start timestamptz, backend_xmin xid, state text, sent_lsn text, write_lsn text, \
            flush_lsn text, replay_lsn text, write_lag interval, flush_lag interval, replay_lag interval, \
            sync_priority int4, sync_state text, reply_time timestamptz
            """
        ),
        (
            "pg_stat_user_indexes", 12_192, true,
            """
            relid oid, indexrelid oid, schemaname name, relname name, indexrelname name, idx_scan int8, \
            idx_tup_read int8, idx_tup_fetch int8
            """
        ),
        (
            "pg_stat_user_tables", 12_161, true,
            """
            relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, \
            idx_tup_fetch int8, n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_tup_hot_upd int8, n_live_tup int8, \
            n_dead_tup int8, n_mod_since_analyze int8, n_ins_since_vacuum int8, last_vacuum timestamptz, \
            last_autovacuum timestamptz, last_analyze timestamptz, last_autoanalyze timestamptz, vacuum_count int8, \
            autovacuum_count int8, analyze_count int8, autoanalyze_count int8
            """
        ),
        (
            "pg_statio_user_tables", 12_179, true,
            """
            relid oid, schemaname name, relname name, heap_blks_read int8, heap_blks_hit int8, idx_blks_read int8, \
            idx_blks_hit int8, toast_blks_read int8, toast_blks_hit int8, tidx_blks_read int8, tidx_blks_hit int8
            """
        ),
        (
            "pg_statistic_ext", 3381, false,
            """
            oid oid!, stxrelid oid!, stxname name!, stxnamespace oid!, stxowner oid!, stxstattarget int4!, \
            stxkeys int2vector!, stxkind _char!, stxexprs text
            """
        ),
        (
            "pg_statistic_ext_data", 3429, false,
            """
            stxoid oid!, stxdinherit bool!, stxdndistinct bytea, stxddependencies bytea, stxdmcv bytea, stxdexpr _text
            """
        ),
        (
            "pg_subscription", 6100, false,
            """
            oid oid!, subdbid oid!, subskiplsn text!, subname name!, subowner oid!, subenabled bool!, subbinary bool!, \
            substream bool!, subtwophasestate char!, subdisableonerr bool!, subconninfo text!, subslotname name, \
            subsynccommit text!, subpublications _text!
            """
        ),
        (
            "pg_subscription_rel", 6102, false,
            """
            srsubid oid!, srrelid oid!, srsubstate char!, srsublsn text
            """
        ),
        (
            "pg_timezone_abbrevs", 12_122, true,
            """
            abbrev text, utc_offset interval, is_dst bool
            """
        ),
        (
            "pg_transform", 3576, false,
            """
            oid oid!, trftype oid!, trflang oid!, trffromsql regproc!, trftosql regproc!
            """
        ),
        (
            "pg_trigger", 2620, false,
            """
            oid oid!, tgrelid oid!, tgparentid oid!, tgname name!, tgfoid oid!, tgtype int2!, tgenabled char!, \
            tgisinternal bool!, tgconstrrelid oid!, tgconstrindid oid!, tgconstraint oid!, tgdeferrable bool!, \
            tginitdeferred bool!, tgnargs int2!, tgattr int2vector!, tgargs bytea!, tgqual text, tgoldtable name, \
            tgnewtable name
            """
        ),
        (
            "pg_ts_config", 3602, false,
            """
            oid oid!, cfgname name!, cfgnamespace oid!, cfgowner oid!, cfgparser oid!
            """
        ),
        (
            "pg_ts_config_map", 3603, false,
            """
            mapcfg oid!, maptokentype int4!, mapseqno int4!, mapdict oid!
            """
        ),
        (
            "pg_ts_dict", 3600, false,
            """
            oid oid!, dictname name!, dictnamespace oid!, dictowner oid!, dicttemplate oid!, dictinitoption text
            """
        ),
        (
            "pg_ts_parser", 3601, false,
            """
            oid oid!, prsname name!, prsnamespace oid!, prsstart regproc!, prstoken regproc!, prsend regproc!, \
            prsheadline regproc!, prslextype regproc!
            """
        ),
        (
            "pg_ts_template", 3764, false,
            """
            oid oid!, tmplname name!, tmplnamespace oid!, tmplinit regproc!, tmpllexize regproc!
            """
        ),
        (
            "pg_user_mapping", 1418, false,
            """
            oid oid!, umuser oid!, umserver oid!, umoptions _text
            """
        ),
        (
            "pg_user_mappings", 12_327, true,
            """
            umid oid, srvid oid, srvname name, umuser oid, usename name, umoptions _text
            """
        ),
    ]
}
