import DataModel

/// Tables of `information_schema` for what Orbit does not have.
enum EmptyInformation {
    static let tables: [SystemTable] = rows.map { name, number, isView, columns in
        SystemTable(empty: name, number, in: .informationSchema, isView: isView, columns)
    }

    /// Name, number, whether PostgreSQL makes it a view, and columns: `!` stands for NOT NULL.
    private static let rows: [(String, UInt32, Bool, String)] = [
        (
            "administrable_role_authorizations", 13_241, true,
            """
            grantee name, role_name name, is_grantable varchar
            """
        ),
        (
            "applicable_roles", 13_236, true,
            """
            grantee name, role_name name, is_grantable varchar
            """
        ),
        (
            "attributes", 13_245, true,
            """
            udt_catalog name, udt_schema name, udt_name name, attribute_name name, ordinal_position int4, \
            attribute_default varchar, is_nullable varchar, data_type varchar, character_maximum_length int4, \
            character_octet_length int4, character_set_catalog name, character_set_schema name, \
            character_set_name name, collation_catalog name, collation_schema name, collation_name name, \
            numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, datetime_precision int4, \
            interval_type varchar, interval_precision int4, attribute_udt_catalog name, attribute_udt_schema name, \
            attribute_udt_name name, scope_catalog name, scope_schema name, scope_name name, maximum_cardinality int4, \
            dtd_identifier name, is_derived_reference_attribute varchar
            """
        ),
        (
            "column_domain_usage", 13_280, true,
            """
            domain_catalog name, domain_schema name, domain_name name, table_catalog name, table_schema name, \
            table_name name, column_name name
            """
        ),
        (
            "column_udt_usage", 13_290, true,
            """
            udt_catalog name, udt_schema name, udt_name name, table_catalog name, table_schema name, table_name name, \
            column_name name
            """
        ),
        (
            "domain_constraints", 13_310, true,
            """
            constraint_catalog name, constraint_schema name, constraint_name name, domain_catalog name, \
            domain_schema name, domain_name name, is_deferrable varchar, initially_deferred varchar
            """
        ),
        (
            "domain_udt_usage", 13_315, true,
            """
            udt_catalog name, udt_schema name, udt_name name, domain_catalog name, domain_schema name, domain_name name
            """
        ),
        (
            "domains", 13_320, true,
            """
            domain_catalog name, domain_schema name, domain_name name, data_type varchar, \
            character_maximum_length int4, character_octet_length int4, character_set_catalog name, \
            character_set_schema name, character_set_name name, collation_catalog name, collation_schema name, \
            collation_name name, numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, \
            datetime_precision int4, interval_type varchar, interval_precision int4, domain_default varchar, \
            udt_catalog name, udt_schema name, udt_name name, scope_catalog name, scope_schema name, scope_name name, \
            maximum_cardinality int4, dtd_identifier name
            """
        ),
        (
            "element_types", 13_493, true,
            """
            object_catalog name, object_schema name, object_name name, object_type varchar, \
            collection_type_identifier name, data_type varchar, character_maximum_length int4, \
            character_octet_length int4, character_set_catalog name, character_set_schema name, \
            character_set_name name, collation_catalog name, collation_schema name, collation_name name, \
            numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, datetime_precision int4, \
            interval_type varchar, interval_precision int4, domain_default varchar, udt_catalog name, udt_schema name, \
            udt_name name, scope_catalog name, scope_schema name, scope_name name, maximum_cardinality int4, \
            dtd_identifier name
            """
        ),
        (
            "foreign_servers", 13_528, true,
            """
            foreign_server_catalog name, foreign_server_name name, foreign_data_wrapper_catalog name, \
            foreign_data_wrapper_name name, foreign_server_type varchar, foreign_server_version varchar, \
            authorization_identifier name
            """
        ),
        (
            "foreign_tables", 13_541, true,
            """
            foreign_table_catalog name, foreign_table_schema name, foreign_table_name name, \
            foreign_server_catalog name, foreign_server_name name
            """
        ),
        (
            "parameters", 13_334, true,
            """
            specific_catalog name, specific_schema name, specific_name name, ordinal_position int4, \
            parameter_mode varchar, is_result varchar, as_locator varchar, parameter_name name, data_type varchar, \
            character_maximum_length int4, character_octet_length int4, character_set_catalog name, \
            character_set_schema name, character_set_name name, collation_catalog name, collation_schema name, \
            collation_name name, numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, \
            datetime_precision int4, interval_type varchar, interval_precision int4, udt_catalog name, \
            udt_schema name, udt_name name, scope_catalog name, scope_schema name, scope_name name, \
            maximum_cardinality int4, dtd_identifier name, parameter_default varchar
            """
        ),
        (
            "role_column_grants", 13_344, true,
            """
            grantor name, grantee name, table_catalog name, table_schema name, table_name name, column_name name, \
            privilege_type varchar, is_grantable varchar
            """
        ),
        (
            "role_routine_grants", 13_358, true,
            """
            grantor name, grantee name, specific_catalog name, specific_schema name, specific_name name, \
            routine_catalog name, routine_schema name, routine_name name, privilege_type varchar, is_grantable varchar
            """
        ),
        (
            "role_table_grants", 13_421, true,
            """
            grantor name, grantee name, table_catalog name, table_schema name, table_name name, \
            privilege_type varchar, is_grantable varchar, with_hierarchy varchar
            """
        ),
        (
            "role_usage_grants", 13_459, true,
            """
            grantor name, grantee name, object_catalog name, object_schema name, object_name name, \
            object_type varchar, privilege_type varchar, is_grantable varchar
            """
        ),
        (
            "routine_privileges", 13_353, true,
            """
            grantor name, grantee name, specific_catalog name, specific_schema name, specific_name name, \
            routine_catalog name, routine_schema name, routine_name name, privilege_type varchar, is_grantable varchar
            """
        ),
        (
            "routines", 13_377, true,
            """
            specific_catalog name, specific_schema name, specific_name name, routine_catalog name, \
            routine_schema name, routine_name name, routine_type varchar, module_catalog name, module_schema name, \
            module_name name, udt_catalog name, udt_schema name, udt_name name, data_type varchar, \
            character_maximum_length int4, character_octet_length int4, character_set_catalog name, \
            character_set_schema name, character_set_name name, collation_catalog name, collation_schema name, \
            collation_name name, numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, \
            datetime_precision int4, interval_type varchar, interval_precision int4, type_udt_catalog name, \
            type_udt_schema name, type_udt_name name, scope_catalog name, scope_schema name, scope_name name, \
            maximum_cardinality int4, dtd_identifier name, routine_body varchar, routine_definition varchar, \
            external_name varchar, external_language varchar, parameter_style varchar, is_deterministic varchar, \
            sql_data_access varchar, is_null_call varchar, sql_path varchar, schema_level_routine varchar, \
            max_dynamic_result_sets int4, is_user_defined_cast varchar, is_implicitly_invocable varchar, \
            security_type varchar, to_sql_specific_catalog name, to_sql_specific_schema name, \
            to_sql_specific_name name, as_locator varchar, created timestamptz, last_altered timestamptz, \
            new_savepoint_level varchar, is_udt_dependent varchar, result_cast_from_data_type varchar, \
            result_cast_as_locator varchar, result_cast_char_max_length int4, result_cast_char_octet_length int4, \
            result_cast_char_set_catalog name, result_cast_char_set_schema name, result_cast_char_set_name name, \
            result_cast_collation_catalog name, result_cast_collation_schema name, result_cast_collation_name name, \
            result_cast_numeric_precision int4, result_cast_numeric_precision_radix int4, \
            result_cast_numeric_scale int4, result_cast_datetime_precision int4, result_cast_interval_type varchar, \
            result_cast_interval_precision int4, result_cast_type_udt_catalog name, result_cast_type_udt_schema name, \
            result_cast_type_udt_name name, result_cast_scope_catalog name, result_cast_scope_schema name, \
            result_cast_scope_name name, result_cast_maximum_cardinality int4, result_cast_dtd_identifier name
            """
        ),
        (
            "triggered_update_columns", 13_435, true,
            """
            trigger_catalog name, trigger_schema name, trigger_name name, event_object_catalog name, \
            event_object_schema name, event_object_table name, event_object_column name
            """
        ),
        (
            "triggers", 13_440, true,
            """
            trigger_catalog name, trigger_schema name, trigger_name name, event_manipulation varchar, \
            event_object_catalog name, event_object_schema name, event_object_table name, action_order int4, \
            action_condition varchar, action_statement varchar, action_orientation varchar, action_timing varchar, \
            action_reference_old_table name, action_reference_new_table name, action_reference_old_row name, \
            action_reference_new_row name, created timestamptz
            """
        ),
        (
            "usage_privileges", 13_454, true,
            """
            grantor name, grantee name, object_catalog name, object_schema name, object_name name, \
            object_type varchar, privilege_type varchar, is_grantable varchar
            """
        ),
        (
            "user_defined_types", 13_463, true,
            """
            user_defined_type_catalog name, user_defined_type_schema name, user_defined_type_name name, \
            user_defined_type_category varchar, is_instantiable varchar, is_final varchar, ordering_form varchar, \
            ordering_category varchar, ordering_routine_catalog name, ordering_routine_schema name, \
            ordering_routine_name name, reference_type varchar, data_type varchar, character_maximum_length int4, \
            character_octet_length int4, character_set_catalog name, character_set_schema name, \
            character_set_name name, collation_catalog name, collation_schema name, collation_name name, \
            numeric_precision int4, numeric_precision_radix int4, numeric_scale int4, datetime_precision int4, \
            interval_type varchar, interval_precision int4, source_dtd_identifier name, ref_dtd_identifier name
            """
        ),
        (
            "view_column_usage", 13_468, true,
            """
            view_catalog name, view_schema name, view_name name, table_catalog name, table_schema name, \
            table_name name, column_name name
            """
        ),
        (
            "view_routine_usage", 13_473, true,
            """
            table_catalog name, table_schema name, table_name name, specific_catalog name, specific_schema name, \
            specific_name name
            """
        ),
        (
            "view_table_usage", 13_478, true,
            """
            view_catalog name, view_schema name, view_name name, table_catalog name, table_schema name, table_name name
            """
        ),
    ]
}
