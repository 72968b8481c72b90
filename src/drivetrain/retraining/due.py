"""Is it time to train again? What a policy asks for, what of it is met, and what is waited for, in numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from drivetrain.monitoring.model import Alert
from drivetrain.retraining import ledger
from drivetrain.retraining.model import BACKOFF_SECONDS, LEAST_ROWS, MOST_FAILURES, Policy
from drivetrain.words import span


class Due(Struct, frozen=True):
    """Whether to begin, and why (or what is waited for)."""

    begin: bool
    words: str
    cause: str = ""
    trigger: dict[str, Any] = {}


class Labels(Struct, frozen=True):
    """How many labels there are: in all; of answers since what is wrong began (None: no alert); of answers that could be trained on, and of
    those that are held out, each as far as it matters."""

    all: int
    since: int | None
    kept: int
    held: int


def wanted(policy: Policy, alerts: Sequence[Alert]) -> list[Alert]:
    """The alerts that call for it."""
    return [alert for alert in alerts if alert.source in policy.trigger.alerts]


def began_ms(alerts: Sequence[Alert]) -> int:
    """Since when what the alerts tell of has been so: by their own estimate, and no later than they were raised."""
    return min(min(alert.first_ms, int(alert.evidence.get("since_ms") or alert.first_ms)) for alert in alerts)


def judge(row: sa.Row[Any], alerts: Sequence[Alert], *, labels: Callable[[], Labels], rolling: bool) -> Due:
    """Whether a policy calls for a retraining now. `row`: of the policy. `labels` is asked only if the answer hangs on it."""
    policy = ledger.policy_of(row)
    trigger = policy.trigger
    rested, alarmed = row.rested_ms / 1000, row.alarmed_ms / 1000
    if row.failures >= MOST_FAILURES:
        return Due(False, stopped(policy, row.failures))
    lasting = wanted(policy, alerts)
    scheduled = trigger.every_seconds is not None and rested >= trigger.every_seconds
    if not lasting and not scheduled:
        every = f", or until {span(trigger.every_seconds - rested)} have passed" if trigger.every_seconds is not None else ""
        return Due(False, f"It waits for an alert of {' or '.join(trigger.alerts)}{every}." if trigger.alerts else f"It waits{every[4:]}.")
    why = "; ".join(f"{alert.title}: {_sentence(alert.text)}" for alert in lasting)
    if not lasting:
        why = f"It is trained every {span(trigger.every_seconds or 0.0)}."
    found = labels()
    fresh = found.all - row.labels
    met: list[str] = []
    missing: list[str] = []

    def ask(fine: bool, is_met: str, is_missing: str) -> None:
        (met if fine else missing).append(is_met if fine else is_missing)

    if row.tries:
        left = BACKOFF_SECONDS[min(row.tries, len(BACKOFF_SECONDS)) - 1] - row.waited_ms / 1000
        last = f"{row.tries} attempt{'' if row.tries == 1 else 's'} before ended without a version"
        ask(left <= 0, last, f"another {span(left)}, since {last}")
    if rolling:
        missing.append("the end of the deployment's rollout")
    if not scheduled:
        if trigger.sustained_seconds:
            lasted, least = span(alarmed), span(trigger.sustained_seconds)
            is_missing = f"the alert to last for {least} ({lasted} so far)"
            ask(alarmed >= trigger.sustained_seconds, f"the alert has lasted for {lasted}", is_missing)
        if not row.fresh and trigger.cool_down_seconds:
            left = trigger.cool_down_seconds - rested
            ask(left <= 0, "it has cooled down", f"another {span(left)} to cool down since the last time")
    least = f"{trigger.min_labels}"
    ask(fresh >= trigger.min_labels, f"{fresh} labels have come since the last time", f"{least} new labels ({fresh} have come)")
    if found.since is not None and not scheduled:
        lately = "labels of answers since what is wrong began"
        ask(found.since >= trigger.min_labels, f"{found.since} {lately}", f"{least} {lately} ({found.since} so far)")
    few = f"{policy.gate.min_rows} labelled answers that are held out, to judge by ({found.held} so far)"
    ask(found.held >= policy.gate.min_rows, f"{found.held} or more are held out to judge by", few)
    if found.kept < LEAST_ROWS:
        missing.append(f"{LEAST_ROWS} labelled answers to train on ({found.kept} so far)")
    told = f" Met: {'; '.join(met)}." if met else ""
    if missing:
        return Due(False, f"{why} It waits for {'; and for '.join(missing)}.{told}")
    evidence: dict[str, Any] = {
        "alerts": [{"id": alert.id, "source": alert.source, "title": alert.title, "text": alert.text} for alert in lasting],
        "new_labels": fresh,
        "rested_seconds": round(rested),
        "alarmed_seconds": round(alarmed),
    }
    if found.since is not None:
        evidence["labels_since_alert"] = found.since
    return Due(True, f"{why}{told}", "alert" if lasting else "schedule", evidence)


def stopped(policy: Policy, failures: int) -> str:
    """That it tries no more by itself, and what ends that."""
    return (
        f"The last {failures} attempts in a row have failed, so it tries no more by itself. To look: drivetrain retrain list "
        f"{policy.deployment}. To try again by hand: drivetrain retrain now {policy.deployment}. It goes on by itself once that ends well, "
        f"or the policy is set anew or resumed (drivetrain retrain resume {policy.deployment})."
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
