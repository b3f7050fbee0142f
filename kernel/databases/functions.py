"""The functions that a query may call, by kind of database: those that only compute a value.

What is not listed is refused, for there is no end to the functions that read files, sleep, or call out. The
words that may stand before a bracket without being functions (types, `IN`, `OVER`) are listed too.
"""

from kernel.databases.endpoints import DatabaseKind

_WORDS = """
    all and any array as bernoulli between by case cast cross cube distinct else end escape except
    exists fetch filter first from group having ilike in inner intersect interval is join lateral left
    like limit materialized next not offset on or order outer over partition recursive right rollup row
    select sets similar some system then to union using values when where with within
"""
_TYPES = """
    bigint binary bit blob bool boolean char character date datetime decimal double float int integer
    nchar numeric nvarchar real smallint text time timestamp varbinary varchar varying
"""
_EVERYWHERE = """
    abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling char coalesce concat concat_ws cos cosh
    count cume_dist degrees dense_rank exp first_value floor greatest iif instr lag last_value lead
    least length ln log log10 lower ltrim max min mod nth_value ntile nullif percent_rank pi position
    pow power radians random rank replace round row_number rtrim sign sin sinh sqrt string_agg substr
    substring sum tan tanh trim trunc upper
"""
_POSTGRESQL = """
    age array_agg array_append array_cat array_dims array_fill array_length array_lower array_ndims
    array_position array_positions array_prepend array_remove array_replace array_to_string array_upper
    ascii bit_and bit_count bit_length bit_or bit_xor bool_and bool_or btrim cardinality cbrt
    char_length character_length chr clock_timestamp convert_from convert_to corr cot covar_pop
    covar_samp current_time current_timestamp date_bin date_part date_trunc daterange decode div encode
    erf every extract factorial float4 float8 format gamma gcd generate_series generate_subscripts
    get_bit get_byte host hstore initcap int2 int4 int4range int8 int8range isempty isfinite json
    json_agg json_array json_array_elements json_array_elements_text json_array_length json_build_array
    json_build_object json_each json_each_text json_exists json_extract_path json_extract_path_text
    json_object json_object_agg json_object_keys json_query json_strip_nulls json_table json_to_record
    json_to_recordset json_typeof json_value jsonb jsonb_agg jsonb_array_elements
    jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each
    jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_object jsonb_object_agg
    jsonb_object_keys jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array
    jsonb_path_query_first jsonb_pretty jsonb_set jsonb_strip_nulls jsonb_to_record jsonb_to_recordset
    jsonb_typeof justify_days justify_hours justify_interval lcm left levenshtein localtime
    localtimestamp lower_inc lower_inf lpad make_date make_interval make_time make_timestamp
    make_timestamptz md5 metaphone mode multirange normalize now nullif num_nonnulls num_nulls numrange
    octet_length overlay parse_ident percentile_cont percentile_disc pg_typeof phraseto_tsquery
    plainto_tsquery quote_ident quote_literal quote_nullable random_normal range_merge regexp_count
    regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
    regexp_split_to_table regexp_substr regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope
    regr_sxx regr_sxy regr_syy repeat reverse right row_to_json rpad rtrim scale sha224 sha256 sha384
    sha512 similarity soundex split_part starts_with statement_timestamp stddev stddev_pop stddev_samp
    string_agg string_to_array string_to_table strpos timeofday timestamptz timezone to_ascii to_char
    to_date to_hex to_json to_jsonb to_number to_timestamp to_tsquery to_tsvector transaction_timestamp
    translate trim_array trim_scale ts_rank tsrange tstzrange unaccent unistr unnest upper_inc upper_inf
    uuid uuid_extract_timestamp uuid_extract_version var_pop var_samp variance websearch_to_tsquery
    width_bucket word_similarity xmlagg xmlelement xmlforest xpath
"""
_SQLITE = """
    cast changes format glob group_concat hex ifnull json json_array json_array_length json_each
    json_extract json_group_array json_group_object json_insert json_object json_patch json_quote
    json_remove json_replace json_set json_tree json_type json_valid julianday like likelihood likely
    log2 printf quote soundex strftime timediff total typeof unhex unicode unixepoch unlikely
"""
_FILES = """
    add age aggregate any_value apply approx_count_distinct approx_quantile arbitrary arg_max
    arg_max_null arg_min arg_min_null argmax argmin array_agg array_aggr array_aggregate array_append
    array_apply array_cat array_concat array_contains array_distinct array_extract array_filter
    array_has array_has_all array_has_any array_indexof array_intersect array_length array_pop_back
    array_pop_front array_position array_prepend array_push_back array_push_front array_reduce
    array_resize array_reverse array_reverse_sort array_select array_slice array_sort array_to_json
    array_to_string array_transform array_unique array_value array_where array_zip ascii bar base64 bin
    bit_and bit_count bit_length bit_or bit_position bit_xor bitstring bool_and bool_or cardinality cbrt
    century char_length character_length chr columns contains corr cot count_if count_star countif
    covar_pop covar_samp damerau_levenshtein date_add date_diff date_part date_sub date_trunc datediff
    datepart datesub datetrunc day dayname dayofmonth dayofweek dayofyear days_in_month decade decode
    divide editdist3 element_at encode ends_with entropy epoch epoch_ms epoch_ns epoch_us
    equi_width_bins era even exclude extract factorial favg fdiv filter first flatten fmod format
    format_bytes from_base64 from_binary from_hex from_json fsum gamma gcd gen_random_uuid
    generate_series generate_subscripts geomean geometric_mean grade_up greatest_common_divisor
    group_concat hamming hash hex histogram hour hugeint if ifnull isfinite isinf isnan isodow isoyear
    jaccard jaro_similarity jaro_winkler_similarity json json_array json_array_length json_contains
    json_each json_exists json_extract json_extract_path json_extract_path_text json_extract_string
    json_group_array json_group_object json_keys json_merge_patch json_object json_pretty json_quote
    json_structure json_transform json_tree json_type json_valid json_value julian kahan_sum kurtosis
    kurtosis_pop last last_day lcase lcm least_common_multiple left left_grapheme len length_grapheme
    levenshtein lgamma list list_aggr list_aggregate list_any_value list_append list_apply list_avg
    list_bool_and list_bool_or list_cat list_concat list_contains list_count list_distinct list_element
    list_entropy list_extract list_filter list_first list_grade_up list_has list_has_all list_has_any
    list_histogram list_indexof list_intersect list_last list_max list_median list_min list_mode
    list_pack list_position list_prepend list_product list_reduce list_resize list_reverse
    list_reverse_sort list_select list_slice list_sort list_stddev_pop list_stddev_samp list_string_agg
    list_sum list_transform list_unique list_value list_var_pop list_var_samp list_where list_zip
    listagg log2 lpad mad make_date make_time make_timestamp make_timestamptz map map_concat
    map_contains map_entries map_extract map_from_entries map_keys map_values max_by md5 mean median
    microsecond millennium millisecond min_by minute mismatches mode month monthname multiply nanosecond
    nextafter nfc_normalize now octet_length ord overlay parse_filename prefix printf product quantile
    quantile_cont quantile_disc quarter range reduce regexp_escape regexp_extract regexp_extract_all
    regexp_full_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table
    regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy repeat
    reservoir_quantile reverse right right_grapheme round_even roundbankers row_to_json rpad second sem
    sha1 sha256 skewness split split_part starts_with stddev stddev_pop stddev_samp str_split
    str_split_regex strftime string_split string_split_regex string_to_array strip_accents strlen strpos
    strptime struct struct_concat struct_extract struct_insert struct_keys struct_pack struct_values
    subtract suffix sumkahan time_bucket timezone timezone_hour timezone_minute tinyint to_base
    to_base64 to_binary to_centuries to_days to_decades to_hex to_hours to_json to_microseconds
    to_millennia to_milliseconds to_minutes to_months to_quarters to_seconds to_timestamp to_weeks
    to_years today transaction_timestamp translate try_cast try_strptime typeof ubigint ucase uinteger
    unbin unhex unicode union_extract union_tag union_value unnest url_decode url_encode usmallint
    utinyint uuid uuidv4 uuidv7 var_pop var_samp variance wavg week weekday weekofyear weighted_avg xor
    year yearweek
"""


def _set(*lists: str) -> frozenset[str]:
    return frozenset(" ".join((_WORDS, _TYPES, _EVERYWHERE, *lists)).split())


ALLOWED = {
    DatabaseKind.POSTGRESQL: _set(_POSTGRESQL),
    DatabaseKind.SQLITE: _set(_SQLITE),
    DatabaseKind.FILES: _set(_FILES),
}
"""The lower-case words that may stand before an opening bracket in a query."""
