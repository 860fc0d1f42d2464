//! The index of the rules: for each rule and each historic defect, the tests that show the required behaviour.
//!
//! R1 to R10 are the caching rules and P* the scheduling rules of the design; D*, S* and M* are the defects of the seeds'
//! plan (cache, scheduler, manager and sync), G* those of its registry, which that plan calls R1 to R16. The index is read by a test: a function that is renamed or removed, and an
//! id that is left out, make it fail.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

use std::collections::BTreeSet;
use std::path::Path;

const ADVANCE: &str = "guest/src/caching/advance/tests.rs";
const LOOKUP: &str = "guest/src/caching/lookup/tests.rs";
const REFRESH: &str = "guest/src/scheduling/refresh/tests.rs";
const WISHES: &str = "guest/src/scheduling/refresh/tests/wishes.rs";
const BREAKER: &str = "guest/src/scheduling/breaker/tests.rs";
const SCHEDULES: &str = "guest/src/scheduling/breaker/schedules.rs";
const EVIDENCE: &str = "tests/rules_scheduling/evidence.rs";
const LIMIT: &str = "guest/src/scheduling/concurrency/tests.rs";
const PLAN: &str = "guest/src/scheduling/plan.rs";
const MAP: &str = "tests/service_map_following.rs";
const CALLS: &str = "tests/calls.rs";
const SYNC: &str = "tests/sync.rs";
const RESTART: &str = "tests/restart.rs";
const ROLLBACK: &str = "tests/rollback_mode.rs";
const MODEL: &str = "tests/model.rs";
const CACHING: &str = "tests/rules_caching.rs";
const SCHEDULING: &str = "tests/rules_scheduling.rs";
const RULES_SYNC: &str = "tests/rules_sync.rs";
const REGISTRY: &str = "host/src/registry/tests/behaviour.rs";
const DEFECTS: &str = "host/src/registry/tests/defects.rs";

/// What must be shown, where, and by which test.
const INDEX: &[(&str, &str, &str)] = &[
    // ---- caching: the rules -----------------------------------------------------------------------------------------
    ("R1", LOOKUP, "nothing_is_served_past_its_fresh_time_and_the_greatest_staleness"),
    ("R1", LOOKUP, "steps_of_the_wall_clock_within_a_boot_change_no_verdict"),
    ("R1", MAP, "without_its_map_server_connectors_stay_until_max_stale_and_not_a_second_longer"),
    ("R1", MODEL, "no_rule_is_broken_by_any_trace_of_events"),
    ("R2", LOOKUP, "a_wall_clock_behind_the_request_after_a_restart_means_stale_and_refetch"),
    ("R2", LOOKUP, "after_a_restart_the_age_is_counted_on_by_the_wall_clock"),
    ("R2", RESTART, "a_restart_after_a_reboot_knows_the_age_of_its_lists_by_the_wall_clock"),
    ("R2", MAP, "a_wall_clock_that_is_set_ten_years_wrong_changes_nothing_that_is_served"),
    ("R2", MODEL, "no_rule_is_broken_by_any_trace_of_events"),
    ("R3", ADVANCE, "within_one_key_the_version_held_never_falls"),
    ("R3", ADVANCE, "the_same_version_with_other_content_is_equivocation"),
    ("R3", ADVANCE, "a_version_further_ahead_than_clocks_may_differ_is_refused"),
    ("R3", ADVANCE, "another_key_may_not_roll_back_the_map_in_force_unless_its_key_has_left"),
    ("R3", RESTART, "a_disabled_connector_does_not_come_back_with_a_restart"),
    ("R3", MODEL, "no_rule_is_broken_by_any_trace_of_events"),
    ("R4", ADVANCE, "a_confirmation_of_other_bytes_extends_nothing_and_drops_the_tag"),
    ("R4", ADVANCE, "nothing_is_fresh_past_its_signed_expiry"),
    ("R4", ADVANCE, "a_confirmation_past_the_signed_expiry_freezes"),
    ("R4", MAP, "a_map_that_is_confirmed_past_its_expiry_is_frozen_and_that_is_counted"),
    ("R5", WISHES, "a_force_joins_the_run_under_way_and_adds_no_chain"),
    ("R5", WISHES, "a_force_keeps_a_second_between_the_end_of_a_run_and_the_next"),
    ("R5", SYNC, "many_forces_at_once_are_one_run_of_each_connector"),
    ("R6", ADVANCE, "every_failure_but_gone_leaves_the_last_known_good_alone"),
    ("R6", MAP, "whatever_is_no_newer_valid_map_changes_nothing_and_is_counted"),
    ("R6", MAP, "a_disabled_connector_takes_its_tools_away_and_its_session_is_closed"),
    ("R7", ADVANCE, "times_to_live_are_clamped_but_zero_stays_zero"),
    ("R7", ADVANCE, "a_first_value_is_stored_with_its_facts_and_its_ratchet"),
    ("R7", CACHING, "a_list_that_is_never_fresh_is_served_and_refetched_once_for_many_readers"),
    ("R7", CACHING, "without_any_staleness_allowed_a_map_that_ended_is_not_served"),
    ("R8", ADVANCE, "the_negative_pace_doubles_up_to_its_cap_and_a_success_ends_it"),
    ("R8", LOOKUP, "a_reader_that_gets_nothing_keeps_to_the_negative_pace"),
    ("R8", CACHING, "a_map_that_is_not_there_is_asked_for_at_its_pace_however_many_read"),
    ("R8", CACHING, "a_list_that_is_gone_is_not_served_any_more"),
    ("R8", RESTART, "a_map_that_is_gone_for_good_stays_gone_after_a_restart"),
    ("R8", CALLS, "refused_credentials_are_told_and_not_hammered"),
    ("R9", CACHING, "a_read_of_what_is_fresh_asks_neither_the_policy_nor_the_network_and_explains_itself"),
    ("R10", "host/src/service_map/verify.rs", "the_first_fault_in_the_order_decode_signature_schema_is_reported"),
    ("R10", "host/src/service_map/verify.rs", "fields_the_reader_does_not_know_are_still_signed"),
    ("R10", "host/src/model/document.rs", "a_member_name_stands_once_in_an_object_however_it_is_spelt"),
    ("R10", "host/src/model/document.rs", "only_integers_that_doubles_hold_exactly_are_integers"),
    // ---- scheduling: the rules --------------------------------------------------------------------------------------
    ("P-steady", REFRESH, "steady_runs_follow_the_interval_with_jitter_drawn_per_run"),
    ("P-steady", REFRESH, "a_value_that_is_fresh_for_less_than_the_interval_is_refreshed_at_four_fifths_of_that"),
    ("P-steady", SYNC, "lists_are_refreshed_in_the_background_about_once_an_interval"),
    ("P-floor", REFRESH, "unforced_fetches_keep_the_floor_between_them"),
    ("P-floor", WISHES, "a_background_wish_keeps_the_floor_since_the_last_run"),
    ("P-floor", WISHES, "a_short_sleep_breaks_neither_the_floor_nor_the_word_of_the_origin"),
    ("P-floor", MODEL, "no_rule_is_broken_by_any_trace_of_events"),
    ("P-cold", REFRESH, "a_cold_start_fetches_at_once_in_both_modes"),
    ("P-cold", SCHEDULING, "many_readers_of_a_cold_gateway_share_one_fetch"),
    ("P-warm", REFRESH, "a_warm_start_is_spread_over_the_whole_interval"),
    ("P-warm", SCHEDULING, "warm_starts_are_spread_over_the_interval"),
    ("P-warm-wanted", WISHES, "a_reader_that_was_served_brings_a_run_into_the_first_tenth_of_the_interval"),
    ("P-warm-wanted", WISHES, "repeated_wishes_neither_creep_forward_nor_push_back"),
    ("P-failure-empty", REFRESH, "a_map_that_serves_nothing_backs_off_exponentially_up_to_the_interval"),
    ("P-failure-empty", SYNC, "a_map_server_that_comes_up_late_is_used_within_seconds"),
    ("P-failure-serving", REFRESH, "a_map_that_is_served_is_retried_anywhere_in_the_interval_then_in_its_later_half"),
    ("P-failure-serving", WISHES, "no_wish_and_no_announcement_shortens_the_pace_of_a_failure"),
    ("P-connector-backoff", REFRESH, "a_connector_rejoins_within_its_cap_whether_it_is_served_or_not"),
    ("P-connector-backoff", SYNC, "a_server_that_is_down_for_days_joins_within_the_cap_and_is_not_stormed"),
    ("P-retry-after", REFRESH, "what_the_origin_asks_for_is_a_floor_with_jitter_and_ends_at_an_hour"),
    ("P-retry-after", REFRESH, "on_demand_reads_wait_for_what_the_origin_asked"),
    ("P-retry-after", SYNC, "a_server_that_asks_for_time_is_given_it"),
    ("P-retry-after", SCHEDULING, "on_demand_too_a_server_that_asks_for_time_is_given_it"),
    ("P-auth", REFRESH, "refused_credentials_wait_for_ten_intervals_or_for_other_credentials"),
    ("P-auth", REFRESH, "an_announced_change_does_not_shorten_the_wait_of_refused_credentials"),
    ("P-auth", ROLLBACK, "refused_credentials_are_tried_again_after_their_long_wait_if_somebody_reads"),
    ("P-force", WISHES, "a_force_joins_the_run_under_way_and_adds_no_chain"),
    ("P-force", SCHEDULING, "forces_do_not_multiply_the_steady_rate"),
    ("P-one-run", REFRESH, "in_any_history_a_subject_is_always_armed_or_running_and_never_pushed_back_by_a_wish"),
    ("P-one-run", REFRESH, "results_of_other_runs_change_nothing"),
    ("P-one-run", MODEL, "no_rule_is_broken_by_any_trace_of_events"),
    ("P-stop", REFRESH, "nothing_but_a_start_revives_a_subject_that_ended"),
    ("P-stop", MODEL, "no_rule_is_broken_by_any_trace_of_events"),
    ("P-on-demand", ROLLBACK, "after_the_first_sync_nothing_leaves_for_a_day"),
    ("P-on-demand", ROLLBACK, "a_read_of_stale_lists_refreshes_them_one_at_a_time"),
    ("P-breaker-opens", BREAKER, "it_opens_at_the_fifth_failure_in_a_row_and_says_until_when"),
    ("P-breaker-opens", BREAKER, "it_opens_at_half_of_a_full_window"),
    ("P-breaker-probe", BREAKER, "in_any_history_at_most_one_probe_is_under_way"),
    ("P-breaker-probe", CALLS, "the_breaker_opens_after_five_failures_says_when_to_come_back_and_lets_one_probe_pass"),
    ("P-breaker-time", BREAKER, "a_probe_that_fails_opens_it_for_longer_up_to_the_cap"),
    ("P-breaker-time", MODEL, "no_rule_of_breakers_and_limits_is_broken_by_any_history_of_calls"),
    ("P-breaker-evidence", SCHEDULES, "no_call_is_refused_for_longer_than_a_second_after_the_server_answered"),
    ("P-breaker-evidence", EVIDENCE, "in_any_schedule_no_call_is_refused_for_longer_than_a_second_after_an_answer"),
    ("P-breaker-tool-error", CALLS, "a_tools_own_error_passes_and_never_opens_the_breaker"),
    ("P-plan", PLAN, "known_bad_connectors_go_last_even_if_somebody_waits_for_them"),
    ("P-plan", SYNC, "the_order_of_connects_is_the_plans"),
    ("P-slow-lane", SYNC, "forty_hung_servers_do_not_hold_up_four_healthy_ones"),
    ("P-concurrency", LIMIT, "overload_takes_a_quarter_at_most_once_per_limits_worth_of_outcomes"),
    ("P-concurrency", LIMIT, "a_limits_worth_of_good_runs_adds_one_place"),
    ("P-concurrency", LIMIT, "it_starts_at_the_maximum"),
    ("P-concurrency", MODEL, "no_rule_of_breakers_and_limits_is_broken_by_any_history_of_calls"),
    ("P-concurrency-fixed", SYNC, "a_fixed_concurrency_of_one_is_sequential_and_takes_the_sum"),
    // ---- the seeds' defects: cache ----------------------------------------------------------------------------------
    ("D1", CACHING, "the_newest_map_is_served_stale_and_never_the_one_before"),
    ("D1", MODEL, "no_rule_is_broken_by_any_trace_of_events"),
    ("D2", ADVANCE, "after_an_outage_the_first_expiry_too_has_a_fallback"),
    ("D2", CACHING, "the_newest_map_is_served_stale_and_never_the_one_before"),
    ("D3", CACHING, "a_list_that_is_never_fresh_is_served_and_refetched_once_for_many_readers"),
    ("D4", LOOKUP, "a_stale_value_is_a_reason_to_refetch_and_not_a_hit"),
    ("D4", CACHING, "expired_entry_is_served_stale_while_it_is_refreshed"),
    ("D5", MAP, "without_its_map_server_connectors_stay_until_max_stale_and_not_a_second_longer"),
    ("D5", CACHING, "without_any_staleness_allowed_a_map_that_ended_is_not_served"),
    ("D6", LOOKUP, "a_value_is_served_fresh_then_soft_then_stale_then_not_at_all"),
    ("D7", LOOKUP, "steps_of_the_wall_clock_within_a_boot_change_no_verdict"),
    ("D7", MAP, "a_wall_clock_that_is_set_ten_years_wrong_changes_nothing_that_is_served"),
    ("D7", MODEL, "a_boot_clock_that_steps_with_the_wall_clock_is_found_out"),
    ("D8", ADVANCE, "the_staleness_of_expired_bytes_counts_from_their_first_arrival"),
    ("D8", CACHING, "a_map_that_arrives_expired_is_served_as_stale_for_a_day_and_no_longer"),
    ("D9", ADVANCE, "an_older_map_never_replaces_a_newer_one_even_after_the_newer_was_dropped"),
    ("D9", RESTART, "a_take_over_does_not_lose_the_ratchet_of_the_former_writer"),
    ("D10", MAP, "whatever_is_no_newer_valid_map_changes_nothing_and_is_counted"),
    // ---- the seeds' defects: scheduler ------------------------------------------------------------------------------
    ("S1", SCHEDULING, "forces_do_not_multiply_the_steady_rate"),
    ("S2", SCHEDULING, "after_the_end_nothing_is_sent_any_more"),
    ("S3", SCHEDULING, "an_end_and_a_start_during_a_run_leave_one_loop"),
    ("S4", SCHEDULING, "many_readers_of_a_cold_gateway_share_one_fetch"),
    ("S4", ROLLBACK, "many_readers_at_once_cause_one_refresh"),
    ("S5", SYNC, "a_server_that_hangs_for_ever_costs_only_itself"),
    ("S6", REFRESH, "steady_runs_follow_the_interval_with_jitter_drawn_per_run"),
    ("S7", "host/src/config/settings/tests.rs", "values_out_of_range_are_refused_with_the_range"),
    ("S7", "host/src/config/environment.rs", "numbers_are_decimal_digits_only"),
    ("S7", REFRESH, "whatever_the_configuration_an_unforced_run_never_storms"),
    ("S8", "guest/src/environment.rs", "jitter_keeps_to_its_share"),
    ("S8", "guest/src/environment.rs", "draws_stay_within_their_bounds"),
    ("S9", REFRESH, "a_value_that_is_fresh_for_less_than_the_interval_is_refreshed_at_four_fifths_of_that"),
    ("S10", REFRESH, "a_cold_start_fetches_at_once_in_both_modes"),
    ("S10", SCHEDULING, "warm_starts_are_spread_over_the_interval"),
    ("S10", REFRESH, "a_connector_rejoins_within_its_cap_whether_it_is_served_or_not"),
    ("S11", SCHEDULING, "a_force_tells_who_failed_and_why"),
    ("S12", SCHEDULING, "nothing_happens_before_the_start"),
    ("S13", "tests/twins.rs", "what_a_gateway_recorded_is_decided_alike_by_the_native_twin_and_by_a_fresh_instance"),
    ("S13", "tests/sandbox.rs", "the_embedded_policy_imports_clock_and_random_and_exports_the_contract"),
    ("S14", "tests/rules_logs.rs", "every_run_is_logged_with_its_outcome_its_duration_and_the_next_attempt"),
    // ---- the seeds' defects: manager and sync -----------------------------------------------------------------------
    ("M1", RULES_SYNC, "the_gauge_shows_what_was_observed_and_nothing_that_was_hoped_for"),
    ("M2", MAP, "a_disabled_connector_takes_its_tools_away_and_its_session_is_closed"),
    ("M2", MAP, "a_vanished_connector_leaves_no_trace"),
    ("M3", MAP, "a_disabled_connector_takes_its_tools_away_and_its_session_is_closed"),
    ("M3", CALLS, "a_disabled_connector_lets_its_calls_end"),
    ("M4", MAP, "a_changed_endpoint_rebuilds_the_session_and_the_old_list_is_not_served_for_the_new_server"),
    ("M4", RULES_SYNC, "a_changed_version_or_way_to_authenticate_rebuilds_the_session"),
    ("M5", SYNC, "changed_tools_are_served_and_reported"),
    ("M6", SYNC, "one_dead_and_one_hung_server_cost_the_others_nothing"),
    ("M6", SCHEDULING, "a_force_tells_who_failed_and_why"),
    ("M7", RULES_SYNC, "an_open_breaker_takes_away_no_list_and_holds_up_no_refresh"),
    ("M7", CACHING, "expired_entry_is_served_stale_while_it_is_refreshed"),
    ("M8", RULES_SYNC, "what_the_map_says_is_published_whether_connectors_answer_or_not"),
    ("M9", RULES_SYNC, "after_the_end_calls_are_refused_and_forces_do_nothing"),
    ("M9", CALLS, "calls_in_flight_end_before_the_gateway_does"),
    ("M9", RESTART, "a_shutdown_closes_its_legacy_sessions"),
    ("M10", "host/src/service_map/dialect.rs", "duplicate_ids_are_refused"),
    ("M10", SYNC, "many_forces_at_once_are_one_run_of_each_connector"),
    ("M11", RULES_SYNC, "the_maps_deadlines_for_connecting_and_listing_are_kept"),
    ("M11", SYNC, "forty_hung_servers_do_not_hold_up_four_healthy_ones"),
    ("M12", SYNC, "a_result_is_served_the_moment_it_is_there"),
    ("M13", "host/src/catalog/names.rs", "every_name_fits_the_budget_and_the_alphabet"),
    ("M13", "host/src/catalog/names.rs", "different_tools_have_different_names"),
    ("M13", RULES_SYNC, "every_served_name_fits_clients_and_leads_back_to_its_tool"),
    ("M14", "host/src/config/environment.rs", "booleans_are_read_in_any_case_and_nothing_else_is"),
    ("M14", ROLLBACK, "after_the_first_sync_nothing_leaves_for_a_day"),
    ("M14", ROLLBACK, "a_read_of_stale_lists_refreshes_them_one_at_a_time"),
    ("M15", CALLS, "a_quota_per_minute_is_kept_and_the_refusal_says_when_to_come_back"),
    ("M15", CALLS, "each_key_goes_to_its_server_in_its_header_and_nowhere_else"),
    ("M15", CALLS, "a_call_is_given_up_after_the_time_that_the_map_allows_and_the_server_is_told"),
    ("M15", RULES_SYNC, "the_maps_deadlines_for_connecting_and_listing_are_kept"),
    ("M16", "tests/secrets.rs", "no_log_line_error_metric_answer_or_record_holds_a_secret"),
    // ---- the seeds' defects: registry -------------------------------------------------------------------------------
    ("G1", DEFECTS, "a_change_that_is_acknowledged_while_the_document_is_written_is_in_the_next_one"),
    ("G2", DEFECTS, "flushes_at_the_same_time_write_one_document_and_all_wait_for_it"),
    ("G3", DEFECTS, "a_write_that_fails_is_shown_and_tried_again_and_nothing_is_lost"),
    ("G4", REGISTRY, "a_document_that_can_not_be_read_is_copied_and_left_alone_until_it_can"),
    ("G4", "host/src/registry/document.rs", "one_bad_entry_is_a_problem_and_the_others_are_kept"),
    ("G5", "tests/registry_crash.rs", "what_was_acknowledged_outlasts_a_crash_at_every_call"),
    ("G6", REGISTRY, "what_was_acknowledged_outlives_a_process_that_just_ends"),
    (
        "G6",
        "host/src/registry/journal/scan.rs",
        "a_bad_record_of_the_last_batch_is_a_torn_tail_reported_by_its_sequence",
    ),
    ("G7", REGISTRY, "an_upsert_is_acknowledged_by_the_journal_and_the_document_follows_in_its_batch"),
    ("G8", REGISTRY, "two_gateways_and_commands_converge_to_one_document_and_then_stop_writing"),
    ("G8", DEFECTS, "a_program_that_writes_while_we_do_loses_nothing_and_neither_do_we"),
    ("G8", "host/src/registry/lock.rs", "a_lock_file_of_an_old_tool_is_honoured_until_it_is_too_old_to_be_in_use"),
    ("G9", REGISTRY, "an_edit_by_hand_is_stamped_and_kept_with_the_former_value"),
    ("G9", "tests/registry_following.rs", "entries_of_the_registry_become_connectors_and_are_followed"),
    ("G10", DEFECTS, "the_first_callers_of_a_registry_all_see_what_is_in_it"),
    ("G10", REGISTRY, "a_change_that_breaks_a_condition_is_refused_and_changes_nothing"),
    ("G11", DEFECTS, "an_entry_is_checked_before_it_is_taken"),
    ("G11", "host/src/registry/entry.rs", "what_an_http_entry_may_say_is_bounded"),
    ("G12", DEFECTS, "new_files_are_for_their_owner_only_and_the_mode_of_an_old_one_is_kept_and_told"),
    ("G12", "host/src/registry/place.rs", "a_symbolic_link_leads_to_the_folder_of_its_target"),
    ("G13", DEFECTS, "what_was_handed_out_never_changes"),
    ("G13", REGISTRY, "what_is_not_understood_survives_a_thousand_round_trips_byte_for_byte"),
    ("G14", DEFECTS, "write_through_puts_each_change_into_the_document_before_it_is_acknowledged"),
    ("G15", DEFECTS, "the_order_of_the_document_does_not_depend_on_the_order_of_changes"),
    ("G16", DEFECTS, "an_entry_is_checked_before_it_is_taken"),
];

/// The scheduling rules of the design's third section, by the names that the index gives them.
const SCHEDULING_RULES: [&str; 23] = [
    "P-steady",
    "P-floor",
    "P-cold",
    "P-warm",
    "P-warm-wanted",
    "P-failure-empty",
    "P-failure-serving",
    "P-connector-backoff",
    "P-retry-after",
    "P-auth",
    "P-force",
    "P-one-run",
    "P-stop",
    "P-on-demand",
    "P-breaker-opens",
    "P-breaker-probe",
    "P-breaker-time",
    "P-breaker-evidence",
    "P-breaker-tool-error",
    "P-plan",
    "P-slow-lane",
    "P-concurrency",
    "P-concurrency-fixed",
];

/// Every id that must be in the index.
fn ids() -> BTreeSet<String> {
    let numbered = [("R", 10), ("D", 10), ("S", 14), ("M", 16), ("G", 16)];
    let numbered = numbered.into_iter().flat_map(|(letter, last)| (1..=last).map(move |id| format!("{letter}{id}")));
    numbered.chain(SCHEDULING_RULES.map(str::to_owned)).collect()
}

/// Whether a source holds a test of that name: an attribute that makes it one stands before it, or it is a property.
fn holds_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    source.match_indices(&head).any(|(at, _)| {
        let before = source[..at].trim_end_matches(['a', 's', 'y', 'n', 'c', ' ']).trim_end();
        // Attributes and comments between the attribute and the function are passed over.
        let last = before.lines().rev().map(str::trim).find(|line| !line.starts_with("//"));
        last.is_some_and(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn every_rule_and_every_defect_has_a_test_that_exists() {
    let mut missing = ids();
    for (id, file, name) in INDEX {
        assert!(ids().contains(*id), "{id} is no rule and no defect");
        missing.remove(*id);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(holds_test(&source, name), "{id}: {file} holds no test named {name}");
    }
    assert!(missing.is_empty(), "without a test: {missing:?}");
}

#[test]
fn a_test_that_is_gone_or_is_none_is_noticed() {
    let source = "#[test]\nfn one() {}\nfn two() {}\n// fn three()\n    #[test]\n    fn four(seed: u64) {}\n";
    assert!(holds_test(source, "one") && holds_test(source, "four"));
    assert!(!holds_test(source, "two") && !holds_test(source, "three") && !holds_test(source, "on"));
    assert_eq!(ids().len(), 10 + 10 + 14 + 16 + 16 + SCHEDULING_RULES.len());
}
