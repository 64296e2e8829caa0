"""The matrix of rules: rule, code, test, reason. `python -m tests.rule_matrix` writes it anew.

Code is named by function and not by line, so that the page changes only when a rule moves.
"""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "protocols" / "MATRIX.md"
NUMBER = re.compile(r"ISP-\d+\.\d+")
RANGE = re.compile(r"ISP-(\d+)\.(\d+) to (?:ISP-)?(?:\d+\.)?(\d+)")
RULE = re.compile(r"^- \*\*(ISP-\d+\.\d+)\*\* (.*)$", re.MULTILINE)
CODE = re.compile(r"`([A-Z][A-Z0-9_]{2,})`")
NO_REASON = frozenset({"MANDATORY", "GENERALISE"})  # words of agreements in capitals

# The test that turns red when the rule is taken out of the code.
TESTS = {
    "ISP-1.1": "test_decision.py::test_an_agency_that_is_not_active_neither_sends_nor_receives",
    "ISP-1.2": "test_trust.py::test_what_was_signed_waits_in_vain_once_its_certificate_is_revoked",
    "ISP-1.3": "test_signature.py::"
    "test_a_registered_period_or_revocation_holds_whatever_the_certificate_says",
    "ISP-1.4": "test_examine.py::test_a_peer_speaks_for_its_own_agencies_only",
    "ISP-1.5": "test_examine.py::test_a_message_may_be_as_old_as_the_replay_window_and_no_older",
    "ISP-1.6": "../contract/test_store.py::test_the_same_id_for_other_content_is_a_replay",
    "ISP-2.1": "test_examine.py::test_a_payload_must_follow_its_schema",
    "ISP-2.2": "test_envelope.py::test_what_the_byte_check_lets_through_holds_no_forbidden_node",
    "ISP-2.3": "test_examine.py::test_a_message_type_must_be_in_the_catalogue",
    "ISP-2.4": "test_rules.py::test_what_breaks_the_rule_is_found_at_its_place",
    "ISP-3.1": "test_decision.py::test_a_protocol_says_nothing_about_the_other_direction",
    "ISP-3.2": "test_decision.py::test_a_message_that_names_another_protocol_is_refused",
    "ISP-3.3": "test_decision.py::test_a_purpose_is_matched_exactly",
    "ISP-3.4": "test_decision.py::test_another_version_of_the_message_type_is_not_covered",
    "ISP-3.5": "test_decision.py::test_a_protocol_ends_after_its_last_day",
    "ISP-3.6": "test_decision.py::"
    "test_suspending_an_amendment_does_not_bring_back_what_it_replaced",
    "ISP-3.7": "test_decision.py::test_a_protocol_is_overdue_from_its_review_date",
    "ISP-3.8": "test_decision.py::"
    "test_past_its_review_date_a_protocol_holds_for_ninety_days_with_a_warning",
    "ISP-3.9": "test_decision.py::test_a_protocol_and_all_it_stands_on_must_be_in_force",
    "ISP-3.10": "test_decision.py::"
    "test_of_several_clauses_that_refuse_the_one_that_came_furthest_is_told",
    "ISP-3.11": "test_two_keys.py::test_a_later_version_that_widens_needs_both",
    "ISP-3.12": "test_two_keys.py::test_a_local_flow_never_widens",
    "ISP-3.13": "test_handover.py::test_a_record_is_sent_only_to_whoever_has_taken_it",
    "ISP-3.14": "test_policy_head.py::"
    "test_a_log_whose_last_line_is_gone_is_refused_and_its_cure_named",
    "ISP-3.15": "test_designation.py::test_nobody_signs_for_an_agency_that_has_not_said_so",
    "ISP-4.1": "test_decision.py::test_a_message_may_name_the_gateway_it_relies_on",
    "ISP-4.2": "test_decision.py::test_a_gateway_holds_from_its_first_day_to_its_last",
    "ISP-4.3": "test_decision.py::test_section_115_reaches_relevant_authorities_only",
    "ISP-4.4": "test_decision.py::test_a_carve_out_for_a_kind_of_sender_bites",
    "ISP-4.5": "test_decision.py::test_what_the_sender_judged_detrimental_never_passes",
    "ISP-4.6": "test_gateway_rows.py::"
    "test_a_basis_or_condition_bears_nothing_by_itself_and_is_asked_for_besides",
    "ISP-4.7": "test_gateway_rows.py::test_a_basis_or_condition_demands_what_it_must",
    "ISP-5.1": "test_decision.py::"
    "test_a_practitioner_must_be_named_in_a_role_cleared_and_signed_in_well_enough",
    "ISP-5.2": "test_decision.py::"
    "test_a_practitioner_must_be_named_in_a_role_cleared_and_signed_in_well_enough",
    "ISP-5.3": "test_decision.py::test_a_reason_for_access_must_be_given_where_it_is_asked",
    "ISP-6.1": "test_decision.py::test_the_world_permits_and_names_the_authority",
    "ISP-6.2": "test_decision.py::test_informed_only_passes_and_says_so",
    "ISP-6.3": "test_decision.py::test_doubt_of_any_kind_about_consent_is_no",
    "ISP-6.4": "test_decision.py::test_harm_opens_a_sensitive_service_and_nothing_else",
    "ISP-6.5": "test_decision.py::test_paragraph_18_asks_why_consent_was_not_obtained",
    "ISP-6.6": "test_override.py::test_it_answers_the_question_of_consent",
    "ISP-6.7": "test_consent.py::test_a_no_to_a_category_outweighs_a_yes_for_that_category",
    "ISP-6.8": "test_consent_record.py::test_what_nobody_could_rely_on_is_not_recorded",
    "ISP-6.9": "test_override.py::test_what_lacks_anything_is_not_recorded",
    "ISP-7.1": "test_decision.py::test_the_identifier_or_the_reason_for_leaving_it_out_is_asked",
    "ISP-7.2": "test_decision.py::test_before_commencement_a_missing_identifier_is_a_warning",
    "ISP-8.1": "test_minimise.py::"
    "test_of_a_shielded_person_address_and_location_go_whatever_a_clause_allows",
    "ISP-8.2": "test_decision.py::"
    "test_a_flow_without_meaning_but_for_the_place_refuses_a_shielded_person",
    "ISP-9.1": "test_minimise.py::test_what_no_rule_reaches_is_forbidden",
    "ISP-9.2": "test_minimise.py::"
    "test_a_rule_that_forbids_outweighs_all_that_allow_and_takes_what_is_below",
    "ISP-9.3": "test_minimise.py::test_of_several_rules_that_allow_the_strictest_transform_holds",
    "ISP-9.4": "test_decision.py::test_a_mandatory_item_must_be_there",
    "ISP-9.5": "test_minimise.py::test_the_salt_of_a_withheld_or_changed_value_is_kept_back",
    "ISP-9.6": "test_minimise.py::test_that_a_sensitive_service_was_there_is_not_said",
    "ISP-10.1": "test_decision.py::test_the_world_permits_and_names_the_authority",
    "ISP-10.2": "../contract/test_http_submit.py::"
    "test_refusals_for_different_reasons_have_a_code_of_their_own",
}


def rules() -> dict[str, str]:
    """Return the rules of the rule book, by number."""
    return dict(RULE.findall((ROOT / "protocols" / "RULES.md").read_text()))


def places() -> dict[str, list[str]]:
    """Return, for each rule, the functions that cite it: of the core, or ``edge/`` and so on."""
    return {number: list(found) for number, found in sources().items()}


@cache
def sources() -> dict[str, dict[str, str]]:
    """Return, for each rule, the functions that cite it, each with its text."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for folder, prefix in (("core", ""), ("edge", "edge/")):
        for path in sorted((ROOT / "broker" / folder).glob("*.py")):
            lines = path.read_text().splitlines()
            spans = _functions(ast.parse("\n".join(lines)))
            for line, content in enumerate(lines, 1):
                cited = _cited(content)
                around = [span for span in spans if span[1] <= line <= span[2]] if cited else []
                name, first, last = around[-1] if around else ("", 1, len(lines))
                place = f"{prefix}{path.stem}.{name}".rstrip(".")
                for number in cited:
                    found[number][place] = "\n".join(lines[first - 1 : last])
    return dict(found)


def _functions(tree: ast.Module) -> list[tuple[str, int, int]]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    spans = [(node.name, node.lineno, node.end_lineno or 0) for node in nodes]
    return sorted(spans, key=lambda span: span[1])


def _cited(line: str) -> set[str]:
    found = set(NUMBER.findall(line))
    for step, first, last in RANGE.findall(line):
        found |= {f"ISP-{step}.{number}" for number in range(int(first), int(last) + 1)}
    return found


def page() -> str:
    """Return the page."""
    lines = [
        "# Matrix of the rules",
        "",
        "Each rule of [RULES.md](RULES.md), where the core applies it, the test that holds it,",
        "and the codes it refuses with.",
        "Written by `python -m tests.rule_matrix`; a test keeps it true.",
        "Code is that of `broker/core/`, or where `edge/` is said of `broker/edge/`; a function is",
        "found by the number of the rule, which it cites. Tests are those of `tests/unit/`.",
        "Not here: faults of the broker itself, and requests that are no messages.",
        "",
        "| rule | source | code | test | reason codes |",
        "|---|---|---|---|---|",
    ]
    where = places()
    for number, words in rules().items():
        source = words.partition("Source: ")[2].rstrip(".") or "this broker"
        reasons = reasons_of(words)
        cells = (
            number,
            source,
            ", ".join(f"`{one}`" for one in where.get(number, ())),
            f"`{TESTS.get(number, '')}`",
            ", ".join(f"`{one}`" for one in reasons) or "none: it permits or warns",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def reasons_of(words: str) -> list[str]:
    """Return the reason codes that the words of a rule name, in their order."""
    named = dict.fromkeys(CODE.findall(words))
    return [one for one in named if one not in NO_REASON and one in names()]


def names() -> frozenset[str]:
    """Return the names of all reasons, as the rule book writes them."""
    from broker.core.reasons import Reason

    return frozenset(Reason.__members__)


if __name__ == "__main__":
    PAGE.write_text(page())
