//! End-to-end tests of the caching rules, over real sockets. [`RULES`] lists the rules with their tests; the tests below
//! compare the list with the code.

mod age;
mod cache_status;
mod conditional;
mod differential;
mod forwarding;
mod freshen;
mod heuristics;
mod invalidation;
mod lifetime;
mod ranges;
mod request_directives;
mod selecting;
mod stale;
mod storing;

/// Each rule with the tests that show it, each as `file::test`.
const RULES: &[(&str, &[&str])] = &[
    (
        "Every method is forwarded, and a request is sent upstream once; CONNECT and TRACE are refused (RFC 9110 §9)",
        &[
            "forwarding::every_method_is_forwarded_once",
            "forwarding::connect_and_trace_are_refused",
            "forwarding::a_retrieval_is_sent_again_only_when_a_reused_connection_closed_without_a_byte",
            "forwarding::a_write_is_never_sent_twice",
        ],
    ),
    (
        "A response is stored before its caller gets the last byte",
        &[
            "forwarding::a_request_sent_right_after_the_last_byte_finds_the_stored_response",
            "forwarding::a_streamed_response_is_stored_when_its_caller_gets_the_end",
        ],
    ),
    (
        "Without lifetime and validator nothing is reused (RFC 9111 §4.2)",
        &["lifetime::without_lifetime_and_validator_nothing_is_reused"],
    ),
    (
        "`s-maxage` beats `max-age`, which beats `Expires` (RFC 9111 §4.2.1)",
        &["lifetime::s_maxage_beats_max_age_and_max_age_beats_expires"],
    ),
    ("Directives follow the grammar (RFC 9111 §5.2)", &["lifetime::directives_follow_the_grammar"]),
    (
        "`Age` is received, computed and sent (RFC 9111 §4.2.3, §5.1)",
        &[
            "age::a_received_age_shortens_freshness",
            "age::the_sent_age_grows_by_the_time_in_the_store",
            "age::the_sent_age_is_summed_before_it_is_truncated_to_seconds",
            "age::after_three_seconds_in_the_store_the_age_is_never_two",
            "age::date_is_never_rewritten",
        ],
    ),
    (
        "`Expires` counts from the `Date` of the same response (RFC 9111 §5.3)",
        &["lifetime::expires_is_compared_with_the_date_of_the_same_response"],
    ),
    (
        "Dates have one of three forms (RFC 9110 §5.6.7)",
        &["lifetime::only_the_three_date_forms_are_accepted"],
    ),
    (
        "Response directives decide what is stored and what is validated (RFC 9111 §3, §5.2.2)",
        &[
            "storing::response_directives_decide_what_is_stored",
            "storing::no_cache_is_stored_and_validated_on_each_use",
            "storing::an_answer_that_is_not_storable_does_not_delete_the_older_fresh_one",
            "storing::directives_with_field_names_strip_or_validate_those_fields",
        ],
    ),
    (
        "A stale response answers only where that is allowed (RFC 9111 §4.2.4, RFC 5861)",
        &[
            "stale::stale_while_revalidate_answers_at_once_and_validates_in_the_background",
            "stale::outside_the_window_of_stale_while_revalidate_the_caller_waits",
            "stale::stale_if_error_answers_for_5xx_inside_its_window",
            "stale::a_5xx_is_replaced_by_the_stale_response_unless_that_is_forbidden",
            "stale::a_stale_response_answers_when_the_origin_closes_or_cannot_be_reached",
            "stale::no_stale_response_answers_past_the_stale_limit",
            "stale::responses_that_forbid_it_are_never_served_stale",
            "stale::without_a_stored_response_an_error_answers_and_the_connection_stays_open",
            "stale::a_bad_answer_to_a_validation_is_replaced_by_the_stale_response",
        ],
    ),
    (
        "Heuristic lifetimes are a tenth of the age at the origin (RFC 9111 §4.2.2)",
        &[
            "heuristics::heuristically_cacheable_statuses_are_fresh_for_a_tenth_of_their_age",
            "heuristics::a_heuristic_lifetime_has_a_configurable_maximum_of_an_hour",
            "heuristics::other_statuses_have_no_heuristic_lifetime_unless_public",
            "heuristics::an_explicit_or_configured_lifetime_replaces_the_heuristic",
        ],
    ),
    (
        "Any final status with explicit freshness is stored (RFC 9111 §3)",
        &[
            "storing::any_final_status_with_explicit_freshness_is_stored",
            "storing::a_stale_response_of_any_status_is_validated",
        ],
    ),
    (
        "`Vary` selects among stored variants (RFC 9111 §4.1)",
        &[
            "selecting::variants_of_a_target_are_stored_side_by_side",
            "selecting::absent_empty_and_present_fields_select_different_variants",
            "selecting::all_members_and_lines_of_vary_count",
            "selecting::a_response_with_vary_star_is_never_reused",
            "selecting::a_miss_of_every_variant_says_so",
            "selecting::spellings_of_one_preference_are_one_variant",
            "selecting::a_variant_is_validated_with_the_tags_of_the_stored_ones",
        ],
    ),
    (
        "Conditional requests are answered from the store, and validations send the stored validators (RFC 9111 §4.3)",
        &[
            "conditional::conditional_requests_are_answered_from_the_store",
            "conditional::a_304_carries_what_a_200_would",
            "conditional::a_caller_without_a_condition_never_gets_a_304",
            "conditional::validation_sends_the_tag_exactly_as_received",
            "conditional::tags_of_the_caller_are_sent_upstream_and_get_their_304",
            "conditional::a_conditional_request_validates_a_stale_response",
            "conditional::a_conditional_miss_is_fetched_whole_and_evaluated_here",
            "conditional::a_condition_is_evaluated_although_the_answer_is_not_stored",
            "conditional::conditions_that_only_the_origin_can_evaluate_are_forwarded",
        ],
    ),
    (
        "Every field except the hop-by-hop ones is stored (RFC 9111 §3.1)",
        &[
            "storing::every_field_except_hop_by_hop_ones_is_stored",
            "storing::several_lines_of_a_field_stay_several_lines",
        ],
    ),
    (
        "A 304 freshens the response that it selects (RFC 9111 §3.2, §4.3.4, §4.3.5)",
        &[
            "freshen::a_304_replaces_the_fields_it_names_and_keeps_the_others",
            "freshen::a_304_starts_a_new_lifetime",
            "freshen::a_304_with_another_strong_tag_freshens_nothing",
            "freshen::a_304_by_date_alone_freshens",
            "freshen::the_answer_to_head_freshens_or_outdates_the_stored_get",
            "freshen::head_is_answered_from_a_stored_get_and_stores_none",
        ],
    ),
    (
        "An unsafe request invalidates its target (RFC 9111 §4.4)",
        &[
            "invalidation::success_of_any_unsafe_method_invalidates_its_target",
            "invalidation::failures_invalidate_by_kind_and_sharing",
            "invalidation::a_write_without_an_answer_invalidates_its_target",
            "invalidation::a_write_that_was_not_sent_invalidates_nothing",
            "invalidation::safe_methods_invalidate_nothing",
            "invalidation::location_and_content_location_of_the_same_origin_are_invalidated",
            "invalidation::every_variant_is_invalidated",
            "invalidation::an_unsafe_request_leaves_other_targets_stored",
            "invalidation::a_write_outdates_the_configured_paths",
            "invalidation::a_change_outdates_every_related_route",
        ],
    ),
    (
        "Ranges are cut from stored responses, and stored parts are completed (RFC 9111 §3.3, §3.4)",
        &[
            "ranges::a_single_range_is_cut_from_a_complete_stored_response",
            "ranges::if_range_decides_between_part_and_whole",
            "ranges::a_request_for_several_ranges_gets_the_whole_or_goes_upstream",
            "ranges::a_stored_part_answers_ranges_inside_it",
            "ranges::a_stored_part_is_completed_with_one_request",
            "ranges::parts_of_different_representations_are_never_joined",
            "ranges::a_range_request_that_misses_is_forwarded",
            "ranges::a_condition_comes_before_the_range",
            "ranges::head_ignores_ranges",
        ],
    ),
    (
        "A response to `Authorization` needs permission to be shared (RFC 9111 §3.5)",
        &["storing::a_response_to_authorization_needs_permission_to_be_shared"],
    ),
    (
        "An answer to POST with its own `Content-Location` answers GET (RFC 9110 §9.3.3)",
        &[
            "storing::post_with_explicit_freshness_and_its_own_content_location_feeds_get",
            "storing::a_post_answer_feeds_get_although_other_writes_closed_meanwhile",
            "storing::post_itself_is_never_answered_from_the_store",
        ],
    ),
    (
        "The query string is part of the cache key",
        &[
            "selecting::query_strings_are_part_of_the_key",
            "selecting::the_target_goes_upstream_byte_for_byte",
        ],
    ),
    (
        "A valid `CDN-Cache-Control` alone decides (RFC 9213)",
        &["lifetime::a_valid_cdn_cache_control_alone_decides"],
    ),
    (
        "Interim answers are dropped (RFC 9110 §15.2)",
        &["forwarding::interim_answers_and_their_fields_are_dropped"],
    ),
    (
        "Request directives are honoured (RFC 9111 §5.2.1, §5.4)",
        &[
            "request_directives::each_directive_is_honoured",
            "request_directives::only_if_cached_never_asks_the_origin",
            "request_directives::no_store_of_a_request_keeps_its_answer_out_of_the_store",
            "request_directives::max_stale_does_not_overrule_must_revalidate",
            "request_directives::a_reload_that_is_validated_keeps_the_stored_body",
            "request_directives::the_configuration_can_ignore_request_directives",
        ],
    ),
    (
        "A broken body fails for its caller and is not stored (RFC 9111 §3.3)",
        &[
            "forwarding::a_broken_body_fails_for_its_caller_and_is_not_stored",
            "forwarding::a_broken_body_leaves_the_older_response",
        ],
    ),
    (
        "An answer that does not fit its request is never stored (RFC 9110 §15)",
        &[
            "freshen::a_206_without_a_range_request_becomes_502_and_is_not_stored",
            "freshen::a_304_with_a_weak_tag_never_mixes_two_representations",
            "freshen::malformed_tags_are_passed_on_and_never_sent_upstream",
            "freshen::a_304_to_a_request_without_conditions_becomes_502",
            "freshen::answers_that_are_not_http_become_502",
        ],
    ),
    (
        "Every answer carries `Cache-Status` (RFC 9211)",
        &[
            "cache_status::a_miss_then_a_hit",
            "cache_status::a_validated_stale_response_says_so",
            "cache_status::what_is_not_stored_does_not_say_stored",
            "cache_status::a_field_from_upstream_is_appended_to",
            "cache_status::errors_of_the_sidecar_carry_cache_status",
            "cache_status::the_key_is_shown_only_if_configured",
            "cache_status::a_304_to_a_caller_carries_cache_status",
        ],
    ),
];

const SOURCES: &[(&str, &str)] = &[
    ("age", include_str!("age.rs")),
    ("cache_status", include_str!("cache_status.rs")),
    ("conditional", include_str!("conditional.rs")),
    ("forwarding", include_str!("forwarding.rs")),
    ("freshen", include_str!("freshen.rs")),
    ("heuristics", include_str!("heuristics.rs")),
    ("invalidation", include_str!("invalidation.rs")),
    ("lifetime", include_str!("lifetime.rs")),
    ("ranges", include_str!("ranges.rs")),
    ("request_directives", include_str!("request_directives.rs")),
    ("selecting", include_str!("selecting.rs")),
    ("stale", include_str!("stale.rs")),
    ("storing", include_str!("storing.rs")),
];

#[test]
fn every_rule_has_its_tests() {
    for (rule, tests) in RULES {
        assert!(!tests.is_empty(), "add a test of the rule: {rule}");
    }
}

#[test]
fn the_list_names_exactly_the_existing_tests() {
    let mut written: Vec<String> = Vec::new();
    for (file, source) in SOURCES {
        for after in source.split("#[tokio::test]\nasync fn ").skip(1) {
            let name = after.split('(').next().unwrap_or_default();
            written.push(format!("{file}::{name}"));
        }
    }
    let mut listed: Vec<String> =
        RULES.iter().flat_map(|(_, tests)| tests.iter().map(|test| (*test).to_owned())).collect();
    written.sort();
    listed.sort();
    assert_eq!(written, listed);
}
