//! One end-to-end test or more for every numbered rule of the caching rules, over real sockets. [`RULES`] says which test
//! shows which rule; the tests below hold it against the code.

mod age;
mod conditional;
mod differential;
mod forwarding;
mod freshen;
mod heuristics;
mod invalidation;
mod lifetime;
mod ranges;
mod request_directives;
mod says_what_happened;
mod selecting;
mod stale;
mod storing;

/// Rule, what it is about, and the tests that show it, each as `file::test`.
const RULES: &[(u8, &str, &[&str])] = &[
    (
        1,
        "any method, once",
        &[
            "forwarding::every_method_is_forwarded_once",
            "forwarding::connect_and_trace_are_refused",
            "forwarding::a_retrieval_is_sent_again_only_when_a_reused_connection_closed_without_a_byte",
            "forwarding::a_write_is_never_sent_twice",
        ],
    ),
    (
        2,
        "stored before finished",
        &[
            "forwarding::a_request_sent_right_after_the_last_byte_finds_the_stored_response",
            "forwarding::what_a_streaming_caller_has_seen_to_its_end_is_stored",
        ],
    ),
    (3, "no lifetime, no validator", &["lifetime::without_lifetime_and_validator_nothing_is_reused"]),
    (4, "max-age and s-maxage", &["lifetime::max_age_and_s_maxage"]),
    (5, "directive parser", &["lifetime::directives_are_parsed_as_the_grammar_says"]),
    (
        6,
        "Age",
        &[
            "age::the_age_received_counts",
            "age::the_age_sent_grows_by_the_time_in_the_store",
            "age::the_age_sent_is_summed_before_it_is_cut_to_seconds",
            "age::after_three_seconds_in_the_store_the_age_is_never_two",
            "age::date_is_never_rewritten",
        ],
    ),
    (7, "Expires", &["lifetime::expires_is_compared_with_the_date_of_the_same_response"]),
    (8, "dates", &["lifetime::the_three_date_forms_and_nothing_else"]),
    (
        9,
        "response directives",
        &[
            "storing::response_directives",
            "storing::no_cache_is_stored_and_validated_on_each_use",
            "storing::an_answer_that_is_not_storable_does_not_delete_the_older_fresh_one",
            "storing::directives_with_field_names_strip_or_validate_those_fields",
        ],
    ),
    (
        10,
        "stale",
        &[
            "stale::stale_while_revalidate_answers_at_once_and_validates_behind",
            "stale::outside_the_window_of_stale_while_revalidate_the_caller_waits",
            "stale::stale_if_error_answers_for_5xx_inside_its_window",
            "stale::a_5xx_gives_way_to_the_last_known_good_answer_unless_its_origin_forbids_that",
            "stale::a_stale_response_answers_when_the_origin_closes_or_is_away",
            "stale::past_the_stale_limit_nothing_stale_answers",
            "stale::must_revalidate_and_its_kin_are_never_served_stale",
            "stale::without_anything_stored_an_error_answers_and_the_connection_stays",
            "stale::a_bad_answer_to_a_validation_gives_way_to_the_stale_response",
        ],
    ),
    (
        11,
        "heuristics",
        &[
            "heuristics::a_tenth_of_the_age_for_statuses_defined_as_cacheable",
            "heuristics::a_heuristic_lifetime_is_an_hour_at_most_or_what_the_operator_says",
            "heuristics::none_for_other_statuses_unless_public",
            "heuristics::none_where_a_lifetime_is_named_or_configured",
        ],
    ),
    (
        12,
        "status",
        &[
            "storing::any_final_status_with_explicit_freshness_is_stored",
            "storing::a_stale_response_of_any_status_is_validated",
        ],
    ),
    (
        13,
        "Vary",
        &[
            "selecting::variants_live_side_by_side",
            "selecting::absent_empty_and_present_differ",
            "selecting::all_members_and_lines_of_vary_count",
            "selecting::a_star_in_vary_is_never_reused",
            "selecting::a_miss_of_every_variant_says_so",
            "selecting::spellings_of_one_preference_are_one_variant",
            "selecting::a_variant_is_validated_with_the_tags_of_the_stored_ones",
        ],
    ),
    (
        14,
        "conditional requests",
        &[
            "conditional::conditions_are_answered_from_the_store",
            "conditional::a_304_carries_what_a_200_would",
            "conditional::whoever_sent_no_condition_never_sees_a_304",
            "conditional::validation_sends_the_tag_exactly_as_received",
            "conditional::a_caller_s_own_tags_go_along_and_get_their_304",
            "conditional::a_stale_response_validated_for_a_conditional_caller",
            "conditional::a_conditional_miss_is_fetched_whole_and_judged_here",
            "conditional::a_condition_is_judged_although_the_answer_is_not_stored",
            "conditional::conditions_that_only_the_origin_can_judge_reach_it",
        ],
    ),
    (
        15,
        "stored fields",
        &[
            "storing::every_field_is_stored_save_those_of_the_hop",
            "storing::several_lines_of_a_field_stay_several_lines",
        ],
    ),
    (
        16,
        "304 freshens",
        &[
            "freshen::a_304_replaces_the_fields_it_names_and_keeps_the_others",
            "freshen::freshness_starts_anew",
            "freshen::a_304_with_another_strong_tag_freshens_nothing",
            "freshen::a_304_by_date_alone_freshens",
            "freshen::the_answer_to_head_freshens_or_outdates_the_stored_get",
            "freshen::head_is_answered_from_a_stored_get_and_stores_none",
        ],
    ),
    (
        17,
        "invalidation",
        &[
            "invalidation::success_of_any_unsafe_method_invalidates_its_target",
            "invalidation::failures_by_kind_and_sharing",
            "invalidation::no_answer_counts_as_happened",
            "invalidation::what_never_left_did_not_happen",
            "invalidation::safe_methods_invalidate_nothing",
            "invalidation::location_and_content_location_of_the_same_origin_too",
            "invalidation::every_variant_is_invalidated",
            "invalidation::other_targets_stay",
            "invalidation::a_write_outdates_what_the_operator_says_it_does",
            "invalidation::a_change_of_one_outdates_what_the_operator_says_belongs_together",
        ],
    ),
    (
        18,
        "ranges",
        &[
            "ranges::a_single_range_is_cut_from_a_complete_stored_response",
            "ranges::if_range_decides_between_part_and_whole",
            "ranges::several_ranges_get_the_whole_or_the_origin",
            "ranges::a_stored_part_answers_ranges_inside_it",
            "ranges::a_stored_part_is_completed_with_one_request",
            "ranges::parts_of_different_representations_are_never_joined",
            "ranges::a_range_on_nothing_stored_is_passed_on",
            "ranges::a_condition_comes_before_the_range",
            "ranges::head_ignores_ranges",
        ],
    ),
    (19, "Authorization", &["storing::a_response_to_authorization_needs_permission_to_be_shared"]),
    (
        20,
        "POST",
        &[
            "storing::post_with_explicit_freshness_and_its_own_content_location_feeds_get",
            "storing::a_post_answer_feeds_get_although_other_writes_closed_meanwhile",
            "storing::post_itself_is_never_answered_from_the_store",
        ],
    ),
    (
        21,
        "query strings",
        &[
            "selecting::query_strings_are_part_of_the_key",
            "selecting::the_target_goes_upstream_byte_for_byte",
        ],
    ),
    (22, "CDN-Cache-Control", &["lifetime::a_valid_cdn_cache_control_alone_decides"]),
    (23, "interim answers", &["forwarding::interim_answers_are_dropped_and_leave_no_trace"]),
    (
        24,
        "request directives",
        &[
            "request_directives::each_directive_is_honoured",
            "request_directives::only_if_cached_never_asks_the_origin",
            "request_directives::no_store_of_a_request_keeps_its_answer_out_of_the_store",
            "request_directives::max_stale_does_not_overrule_must_revalidate",
            "request_directives::a_reload_that_is_validated_keeps_the_stored_body",
            "request_directives::the_operator_can_switch_it_off",
        ],
    ),
    (
        25,
        "broken bodies",
        &[
            "forwarding::a_broken_body_is_seen_to_be_broken_and_not_stored",
            "forwarding::a_broken_body_leaves_the_older_response",
        ],
    ),
    (
        26,
        "unexpected answers",
        &[
            "freshen::a_206_without_a_range_is_no_answer_and_not_stored",
            "freshen::a_weak_tag_for_a_strong_one_freshens_nothing_wrongly",
            "freshen::tags_that_are_none_are_passed_on_and_never_sent_back",
            "freshen::a_304_to_a_request_without_conditions_is_no_answer",
            "freshen::answers_that_are_not_http_become_502",
        ],
    ),
    (
        27,
        "Cache-Status",
        &[
            "says_what_happened::a_miss_then_a_hit",
            "says_what_happened::stale_and_validated",
            "says_what_happened::what_is_not_stored_does_not_say_stored",
            "says_what_happened::a_field_from_upstream_is_appended_to",
            "says_what_happened::errors_of_our_own_carry_it_too",
            "says_what_happened::the_key_is_shown_where_the_operator_says_so",
            "says_what_happened::a_304_to_a_caller_carries_it",
        ],
    ),
];

const SOURCES: &[(&str, &str)] = &[
    ("age", include_str!("age.rs")),
    ("conditional", include_str!("conditional.rs")),
    ("forwarding", include_str!("forwarding.rs")),
    ("freshen", include_str!("freshen.rs")),
    ("heuristics", include_str!("heuristics.rs")),
    ("invalidation", include_str!("invalidation.rs")),
    ("lifetime", include_str!("lifetime.rs")),
    ("ranges", include_str!("ranges.rs")),
    ("request_directives", include_str!("request_directives.rs")),
    ("says_what_happened", include_str!("says_what_happened.rs")),
    ("selecting", include_str!("selecting.rs")),
    ("stale", include_str!("stale.rs")),
    ("storing", include_str!("storing.rs")),
];

#[test]
fn every_rule_has_its_tests() {
    let numbers: Vec<u8> = RULES.iter().map(|(number, _, _)| *number).collect();
    assert_eq!(numbers, (1..=27).collect::<Vec<_>>());
    for (number, rule, tests) in RULES {
        assert!(!tests.is_empty(), "rule {number} ({rule}) has no test");
    }
}

#[test]
fn the_table_and_the_tests_are_the_same() {
    let mut written: Vec<String> = Vec::new();
    for (file, source) in SOURCES {
        for after in source.split("#[tokio::test]\nasync fn ").skip(1) {
            let name = after.split('(').next().unwrap_or_default();
            written.push(format!("{file}::{name}"));
        }
    }
    let mut listed: Vec<String> =
        RULES.iter().flat_map(|(_, _, tests)| tests.iter().map(|test| (*test).to_owned())).collect();
    written.sort();
    listed.sort();
    assert_eq!(written, listed);
}
