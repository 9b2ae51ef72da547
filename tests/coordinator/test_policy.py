"""Who is let through without a person: no rule approves what it does not fully name, and a no wins."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from builders import approval, job, proposal
from pydantic import ValidationError

from coordinator.config import Config, Policy
from coordinator.model import Job, Phase
from coordinator.policy import Judgement, judge, policy_digest
from coordinator.statements import ApprovalBody

A, B = "a" * 64, "b" * 64
MONDAY = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)  # noon


class _Settings:
    """As much of the configuration as the policy reads."""

    def __init__(self, **policy: Any) -> None:
        self.policy = Policy.model_validate(policy)


def asked(**fields: Any) -> Job:
    """alice proposes to bob, who has not said anything."""
    return job("bob", Phase.PROPOSED, about=proposal(**fields))


def says(policy: dict[str, Any], now: datetime = MONDAY, **fields: Any) -> str:
    """approve, deny or person, with the rule's name."""
    found = verdict(policy, now, **fields).approval
    return f"{found.verdict}: {found.reason}" if found else "person"


def verdict(policy: dict[str, Any], now: datetime = MONDAY, **fields: Any) -> Judgement:
    settings: Any = _Settings(**policy)
    return judge(settings, asked(**fields), now.timestamp())


def rule(verdict: str = "approve", name: str = "r", **fields: Any) -> dict[str, Any]:
    if verdict == "approve":
        fields = {"datasets": "any"} | fields
    return {"name": name, "verdict": verdict, **fields}


def rules(*some: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"rules": list(some), **more}


TWO = {"datasets": {"bob": ["x", "y"], "alice": ["z"]}}
THREE = {"parties": ("alice", "bob", "carol")}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("nothing said", {}, {}, "person"),
    ("default yes", {"default": "approve"}, {}, "approve: no rule fits, so by default"),
    ("default no", {"default": "deny"}, {}, "deny: no rule fits, so by default"),
    ("any", rules(rule()), {}, "approve: rule r"),
    ("the program", rules(rule(programs=[B, A])), {}, "approve: rule r"),
    ("another program", rules(rule(programs=[B])), {}, "person"),
    ("the initiator", rules(rule(initiators=["alice"])), {}, "approve: rule r"),
    ("another initiator", rules(rule(initiators=["carol"])), {}, "person"),
    ("all own data named", rules(rule(datasets=["x", "y", "w"])), TWO, "approve: rule r"),
    ("one dataset not named", rules(rule(datasets=["x"])), TWO, "person"),
    ("no data allowed", rules(rule(datasets=[])), TWO, "person"),
    ("no data asked", rules(rule(datasets=[])), {}, "approve: rule r"),
    ("all parties named", rules(rule(parties=["alice", "carol"])), THREE, "approve: rule r"),
    ("a party not named", rules(rule(parties=["alice"])), THREE, "person"),
    ("one of two does not fit", rules(rule(programs=[A], initiators=["carol"])), {}, "person"),
    ("two rules do not add up", rules(rule(datasets=["x"]), rule(name="s", datasets=["y"])), TWO, "person"),
    ("no wins, whatever the order", rules(rule(), rule("deny", "n", initiators=["alice"])), {}, "deny: rule n"),
    ("no to one of the datasets", rules(rule(), rule("deny", "n", datasets=["y"])), TWO, "deny: rule n"),
    ("no to another dataset", rules(rule(), rule("deny", "n", datasets=["w"])), TWO, "approve: rule r"),
    ("no to one of the parties", rules(rule(), rule("deny", "n", parties=["carol"])), THREE, "deny: rule n"),
    ("a person wins over yes", rules(rule(), rule("person", "p", datasets=["x"])), TWO, "person"),
    ("no wins over a person", rules(rule("person", "p"), rule("deny", "n")), {}, "deny: rule n"),
    ("a rule wins over the default", rules(rule("person", "p"), default="approve"), {}, "person"),
    ("until today", rules(rule(until="2026-11-23")), {}, "approve: rule r"),
    ("until yesterday", rules(rule(until="2026-11-22")), {}, "person"),
    ("a no that has ended", rules(rule(), rule("deny", "n", until="2026-11-22")), {}, "approve: rule r"),
]


@pytest.mark.parametrize(("policy", "fields", "wanted"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_verdicts(policy: dict[str, Any], fields: dict[str, Any], wanted: str) -> None:
    assert says(policy, **fields) == wanted


OFFICE = {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00", "timezone": "Europe/Berlin"}
NIGHT = {"days": ["fri"], "from": "22:00", "to": "06:00"}
WINDOWS: list[tuple[str, dict[str, Any], str, bool, str | None]] = [
    # window, UTC now, counts, when it opens or closes next (UTC)
    ("within", OFFICE, "2026-11-23 12:00", True, "2026-11-23 17:00"),
    ("first minute", OFFICE, "2026-11-23 07:00", True, "2026-11-23 17:00"),
    ("before it", OFFICE, "2026-11-23 06:59", False, "2026-11-23 07:00"),
    ("the end is not in it", OFFICE, "2026-11-23 17:00", False, "2026-11-24 07:00"),
    ("over the week-end", OFFICE, "2026-11-27 17:00", False, "2026-11-30 07:00"),
    ("in summer", OFFICE, "2026-07-06 06:00", True, "2026-07-06 16:00"),
    ("the night before midnight", NIGHT, "2026-11-27 23:00", True, "2026-11-28 06:00"),
    ("the night after midnight", NIGHT, "2026-11-28 05:59", True, "2026-11-28 06:00"),
    ("no night of Thursday", NIGHT, "2026-11-27 05:00", False, "2026-11-27 22:00"),
    ("whole days", {"days": ["sun"]}, "2026-11-28 23:59", False, "2026-11-29 00:00"),
]


@pytest.mark.parametrize(("window", "now", "counts", "next_"), [w[1:] for w in WINDOWS], ids=[w[0] for w in WINDOWS])
def test_windows(window: dict[str, Any], now: str, counts: bool, next_: str) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    approving = verdict(rules(rule(window=window)), at)
    assert (approving.approval is not None) == counts
    # seen through a rule for a person, both the opening and the closing are moments to look again
    waiting = verdict(rules(rule("person", window=window)), at).look_again_at
    assert waiting == datetime.fromisoformat(next_).replace(tzinfo=UTC).timestamp()
    assert approving.look_again_at == (None if counts else waiting)
    assert says(rules(rule("deny", window=window), default="approve"), at)[:4] == ("deny" if counts else "appr")


def test_a_clock_that_is_set_back_repeats_an_hour_within_the_window() -> None:
    window = {"from": "02:30", "to": "03:30", "timezone": "Europe/Berlin"}  # 25 October: 03:00 becomes 02:00
    berlin = ZoneInfo("Europe/Berlin")
    for fold, counts in ((0, True), (1, True)):
        at = datetime(2026, 10, 25, 2, 45, tzinfo=berlin, fold=fold)
        assert (verdict(rules(rule(window=window)), at).approval is not None) == counts


def test_nothing_is_denied_by_default_before_the_window_of_a_rule_that_fits() -> None:
    policy = rules(rule(window=OFFICE), default="deny")
    night = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
    waiting = verdict(policy, night)
    assert waiting.approval is None
    assert waiting.look_again_at == datetime(2026, 11, 23, 7, 0, tzinfo=UTC).timestamp()
    assert says(policy, MONDAY) == "approve: rule r"
    assert says(rules(rule(window=OFFICE, initiators=["carol"]), default="deny"), night).startswith("deny")
    assert says(rules(rule(window=OFFICE, until="2026-11-22"), default="deny"), night).startswith("deny")
    # the last day ends before the window opens again
    assert says(rules(rule(window=OFFICE, until="2026-11-23"), default="deny"), night) == "person"
    evening = datetime(2026, 11, 23, 19, 0, tzinfo=UTC)
    assert says(rules(rule(window=OFFICE, until="2026-11-23"), default="deny"), evening).startswith("deny")


def test_only_what_waits_for_this_party_is_judged() -> None:
    settings: Any = _Settings(default="approve")
    now = MONDAY.timestamp()
    assert judge(settings, asked(), now).approval is not None
    assert judge(settings, job("alice", Phase.PROPOSED, about=proposal()), now) == Judgement()
    assert judge(settings, job("bob", Phase.PROPOSED, approval("bob", "deny")), now) == Judgement()
    assert judge(settings, job("bob", Phase.FAILED, about=proposal()), now) == Judgement()


def test_an_approval_is_bound_to_the_proposal_and_names_the_rule() -> None:
    found = verdict(rules(rule(name="night runs"))).approval
    assert found == ApprovalBody(
        verdict="approve", proposal_digest=asked().signed_proposal.digest(), by="policy", reason="rule night runs"
    )


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("the former form", {"approve": "all"}, "Extra inputs"),
    ("no verdict", rules({"name": "r"}), "verdict"),
    ("yes without a word on data", rules({"name": "r", "verdict": "approve"}), "say which datasets"),
    ("an empty list of programs", rules(rule(programs=[])), "at least 1"),
    ("an empty list of datasets in a no", rules(rule("deny", datasets=[])), "fits no job"),
    ("a digest that is none", rules(rule(programs=["abc"])), "match pattern"),
    ("one name for two", rules(rule(), rule("deny")), "named twice: ['r']"),
    ("a day that is none", rules(rule(window={"days": ["monday"]})), "days"),
    ("no days", rules(rule(window={"days": []})), "at least 1"),
    ("a clock that is none", rules(rule(window={"from": "8:00"})), "match pattern"),
    ("a clock after midnight", rules(rule(window={"to": "24:01"})), "match pattern"),
    ("a window of no time", rules(rule(window={"from": "08:00", "to": "08:00"})), "both 08:00"),
    ("a window from the end", rules(rule(window={"from": "24:00", "to": "08:00"})), "write 00:00"),
    ("a zone that is none", rules(rule(window={"timezone": "Europe/Berlni"})), "'Europe/Berlni' is no time zone"),
    ("a zone that is a path", rules(rule(window={"timezone": "../../etc/passwd"})), "is no time zone"),
    ("a date that is none", rules(rule(until="2026-02-30")), "until"),
    ("a date without end", rules(rule(until="9999-12-31")), "until"),
]


@pytest.mark.parametrize(("policy", "words"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_policies_that_are_refused(policy: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Policy.model_validate(policy)
    assert words in str(caught.value)


def test_the_digest_tells_policies_apart_and_survives_the_file() -> None:
    one = Policy.model_validate(rules(rule(window=OFFICE, until="2026-12-31")))
    assert policy_digest(Policy.model_validate_json(one.model_dump_json())) == policy_digest(one)
    assert policy_digest(one) != policy_digest(Policy())


def test_the_configuration_has_the_rule_for_a_person_without_a_word() -> None:
    assert Config.model_fields["policy"].default == Policy(default="person", rules=())
