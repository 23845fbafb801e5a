"""Each detector is shown to detect: tests against a server with one planted fault have to fail.

And to be quiet: the same tests hold with the same proxy before the server and no fault in it.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from suite import Entry, Row

FAULTY = Path(__file__).resolve().parent / "faulty.py"

# (fault, test, part of the full run, what the failing figure says)
PLANTED = [
    ("Internal", "malformed_requests_are_refused_in_json_at_once", 1, "500"),
    ("PlainText", "malformed_requests_are_refused_in_json_at_once", 1, "content-type"),
    ("Slow", "malformed_requests_are_refused_in_json_at_once", 1, "slowest refusal"),
    ("Dies", "malformed_requests_are_refused_in_json_at_once", 1, ""),
    ("Internal", "mutated_bodies_are_answered_or_refused", 0.2, "500"),
    ("LeaksMemory", "mutated_bodies_are_answered_or_refused", 0.2, "memory growth"),
    ("Nulls", "no_answer_holds_a_number_that_is_none", 1, "not finite"),
    ("Smuggles", "ambiguous_framing_is_refused_and_closed", 1, "got through"),
    ("NoChunks", "good_framing_is_served", 1, "not served"),
    ("Reorders", "pipelined_requests_are_answered_in_order", 1, "out of order"),
    ("PlainText", "one_byte_chunks_are_cut_off", 1, ""),
    ("Slow", "a_declared_length_over_the_limit_is_refused_at_once", 1, "slowest refusal"),
    ("Hoards", "bodies_of_no_length_stay_within_the_budget", 1, "peak memory"),
    ("Hoards", "large_bodies_side_by_side_stay_within_the_budget", 1, "peak memory"),
    ("Patient", "slow_senders_are_cut_and_no_one_else_notices", 0.2, "open after"),
    ("Patient", "idle_connections_are_closed_at_their_limit", 1, "last closed"),
    ("LeaksConnections", "clients_that_leave_leave_nothing", 0.1, "connections back to 0"),
    ("LeaksConnections", "rows_of_clients_that_left_are_not_computed", 1, "no connections"),
    ("HangsUp", "a_client_that_half_closes_is_answered", 1, ""),
    ("Mixes", "answers_belong_to_their_requests", 0.1, "another's"),
    ("Loses", "answers_belong_to_their_requests", 0.1, "lost"),
    ("WrongBits", "rows_have_the_same_bits_in_any_company", 1, "other bits"),
    ("WrongBits", "neighbours_in_a_batch_change_no_bit", 0.1, "other bits"),
    ("Failing", "overload_is_shed_and_the_rest_goes_on", 0.3, "other than 200 and 503"),
    ("NoRetryAfter", "overload_is_shed_and_the_rest_goes_on", 0.3, "without Retry-After"),
    ("SlowLiveness", "overload_is_shed_and_the_rest_goes_on", 0.3, "liveness p99"),
    ("Collapses", "overload_is_shed_and_the_rest_goes_on", 0.3, "goodput"),
    ("Late", "deadlines_hold_under_overload", 0.3, "p99 of 200s"),
    ("ForgetsDeadlines", "what_cannot_be_in_time_is_not_computed", 1, "statuses"),
    ("Abrupt", "sigterm_under_load_loses_nothing", 0.3, ""),
    ("StaysReady", "sigterm_under_load_loses_nothing", 0.3, ""),
    ("EndsWithOne", "sigterm_under_load_loses_nothing", 0.3, "exit codes"),
    ("Deaf", "a_second_signal_ends_at_once", 1, ""),
    ("Deaf", "sigterm_while_models_load_ends_at_once", 0.3, "slowest end"),
    ("Failing", "a_rolling_restart_fails_nothing", 1, "failed requests"),
    ("Failing", "a_killed_replica_fails_nothing_after_a_second", 1, "failed later"),
    ("Failing", "a_frozen_replica_fails_nothing_after_the_check", 1, "failed later"),
    ("Miscounts", "metrics_equal_what_was_sent", 1, "counters that differ"),
    ("CountsNames", "junk_adds_no_series", 0.2, "new series"),
    ("TornPages", "scrapes_side_by_side_are_whole", 1, "something wrong"),
    ("BadPage", "promtool_finds_nothing_wrong", 1, "promtool"),
    ("Backlog", "a_burst_of_connections_is_taken_at_once", 1, "second try"),
    ("Spins", "few_files_limit_connections_not_the_server", 1, "cores used"),
    ("Spins", "no_file_left_stops_accepting_for_a_while_only", 1, "cores used"),
    ("Aborts", "little_memory_refuses_bodies_and_does_not_abort", 1, ""),
    ("SilentDrops", "a_log_that_cannot_be_written_costs_lines_only", 1, "lines dropped 0"),
    ("BlockingLog", "a_log_that_cannot_be_written_costs_lines_only", 0.1, ""),
    ("WallClock", "a_jump_of_the_clock_changes_no_deadline", 1, "not answered with 200"),
    ("Mixes", "a_bad_network_gives_right_answers_or_none", 0.5, "wrong answers"),
    ("LeaksConnections", "a_bad_network_gives_right_answers_or_none", 0.5, "connections back to 0"),
    ("Failing", "a_row_that_panics_fails_its_own_request_only", 0.1, "wrong or failed"),
    ("Mixes", "a_row_that_panics_fails_its_own_request_only", 0.1, "wrong or failed"),
    ("Unsupervised", "a_worker_that_hangs_is_replaced", 1, ""),
    ("Unsupervised", "a_thread_of_connections_that_hangs_is_seen", 1, "live is 503"),
    ("Unsupervised", "a_load_that_hangs_or_panics_delays_no_other", 1, ""),
    ("Internal", "a_million_mutations_are_answered_or_refused", 0.003, "500"),
    ("PlainText", "a_million_mutations_are_answered_or_refused", 0.003, "no JSON"),
    ("Nulls", "a_million_mutations_are_answered_or_refused", 0.003, "200 OK"),
    ("Dies", "a_million_mutations_are_answered_or_refused", 0.003, "answers other than"),
    ("LeaksMemory", "a_million_mutations_are_answered_or_refused", 0.003, "memory growth"),
    ("Hoards", "a_hundred_refused_bodies_leave_nothing", 0.1, "memory growth"),
    ("LeaksMemory", "a_hundred_bursts_of_large_bodies_leave_nothing", 0.1, "at the very most"),
    ("Abrupt", "stops_at_random_moments_lose_nothing", 0.1, "lost"),
    ("EndsWithOne", "stops_at_random_moments_lose_nothing", 0.1, "exit codes"),
    ("Stubborn", "stops_at_random_moments_lose_nothing", 0.02, "still running"),
    ("Litters", "kills_at_random_moments_leave_nothing", 0.1, "left behind"),
    ("StartsSlowly", "kills_at_random_moments_leave_nothing", 0.04, "slowest"),
    ("WrongBits", "kills_at_random_moments_leave_nothing", 0.1, "two versions"),
    ("Failing", "rolling_restarts_at_2000_a_second_fail_nothing", 0.4, "failed requests"),
    ("Failing", "kills_at_2000_a_second_fail_nothing_after_a_second", 0.4, "failed later"),
    ("ClosesIdle", "a_balancer_that_idles_for_less_meets_no_closing", 0.2, "502"),
]

# The proxy itself spoils these: it takes the time that they measure, or a core, is too slow for their
# rate, or accepts when the server behind it does not. That they are quiet without a fault is what the full run shows.
SPOILED = {
    "clients_that_leave_leave_nothing",
    "a_burst_of_connections_is_taken_at_once",
    "overload_is_shed_and_the_rest_goes_on",
    "deadlines_hold_under_overload",
    "sigterm_under_load_loses_nothing",
    "sigterm_while_models_load_ends_at_once",
    "stops_at_random_moments_lose_nothing",
    "rolling_restarts_at_2000_a_second_fail_nothing",
    "kills_at_2000_a_second_fail_nothing_after_a_second",
    "few_files_limit_connections_not_the_server",
    "no_file_left_stops_accepting_for_a_while_only",
    "little_memory_refuses_bodies_and_does_not_abort",
}


def run(
    command: list[str], scratch: Path, chosen: list[Entry], show: Callable[[list[Row]], list[Row]]
) -> list[Row]:
    by_name = {entry.name: entry for entry in chosen}
    found, quiet = [], {}
    for fault, name, scale, says in PLANTED:
        if name not in by_name:
            continue
        entry = by_name[name]
        faulty = [sys.executable, str(FAULTY), fault, *command]
        rows = entry.run(faulty, scratch, scale)
        failing = [row.figure for row in rows if row.state in ("FAIL", "known")]
        if any(row.state == "skip" for row in rows):
            found += show(rows)
            continue
        noticed = [figure for figure in failing if says in figure]
        shown = (noticed or failing or ["nothing noticed"])[0][:120]
        found += show([Row(entry.promise, name, f"{fault}: {shown}", "noticed", "pass" if noticed else "FAIL")])
        quiet[name] = max(scale, quiet.get(name, 0))
    for name, scale in quiet.items():
        if name in SPOILED:
            continue
        entry = by_name[name]
        rows = entry.run([sys.executable, str(FAULTY), "none", *command], scratch, scale)
        failing = [f"{row.figure} ({row.bound})" for row in rows if row.state == "FAIL"]
        state = "FAIL" if failing else "pass"
        found += show(
            [Row(entry.promise, name, f"no fault: {'; '.join(failing)[:300] or 'nothing'}", "nothing noticed", state)]
        )
    return found
