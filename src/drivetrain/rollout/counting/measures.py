"""What guardrails measure: the names that a plan may use, and what they see in an event or in feedback.

| measure | a unit is bad when | source |
|---|---|---|
| errors, timeouts | its request failed (timeouts: by a deadline); cancelled requests say nothing | events |
| latency_p50, _p95, _p99; ttft_…; | a success is over stable's quantile (cost: p95), or over the line of `latency>250`; | events |
| tokens_out_p95; cost; memory>4000 | or a client gave up after more than that; memory is the replica's, in MB | |
| latency_mean, tokens_out_mean, cost_mean, memory_mean | compared as means | events |
| invalid_output | the answer is null, NaN, infinite or empty, of another shape or type than stable's, | events |
| | or outside of what was trained on | |
| invalid_output:json, :nonempty, :matches=REGEX | the answer's text breaks the rule | events that keep outputs |
| predictions | a kind of prediction is more common than `tolerance` times stable's, or as much rarer | events |
| thumbs_down | somebody said so: thumbs_down true, or thumbs, thumbs_up, rating false, negative or down | feedback |
| label_error | the label says another thing than the answer | labels |
| any other word, `word<0.5`, `word>3` | feedback of that name is false, 0, negative, bad …; or beyond the line | feedback |
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import msgspec

from drivetrain.errors import Invalid
from drivetrain.feedback.model import Opinion, Scalar
from drivetrain.rollout.counting.batch import WAYS
from drivetrain.rollout.counting.outputs import Known
from drivetrain.store.events.counters import Counted

MOST_TEXT = 64 * 1024
MOST_MATCHED = 4096
"""Characters that a pattern is searched in: it is somebody's own, and must not take the time of everybody's counting."""
SAID_BAD = frozenset({"bad", "down", "no", "false", "thumbs_down", "negative", "worse", "wrong", "👎"})
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.\- ]{0,120}")
_LINED = re.compile(r"(?P<name>[^<>]+)(?P<side>[<>])(?P<line>-?\d+(\.\d+)?)")
_THUMBS = frozenset({"thumbs", "thumbs_up", "thumb", "rating"})
_LOOPS = re.compile(r"[*+}|][^()]*\)[*+{]")


class Observation(msgspec.Struct, frozen=True, gc=False):
    """What one event or opinion says for a measure; of means, `value`; of predictions, which `way`."""

    bad: bool
    value: float = 0.0
    way: int = 0


class Fixed(NamedTuple):
    """What is fixed of a guardrail before it counts: its line, and what is known of outputs."""

    line: float | None = None
    known: Known | None = None


GOOD, BAD = Observation(False), Observation(True)


class Answered(Protocol):
    """What measures look at in an event. Outputs are read for those alone that look at them (`Measure.needs_output`)."""

    @property
    def error(self) -> str: ...
    @property
    def assigned(self) -> str: ...
    @property
    def latency_ms(self) -> float: ...
    @property
    def ttft_ms(self) -> float | None: ...
    @property
    def tokens_out(self) -> int: ...
    @property
    def cost(self) -> float: ...
    @property
    def memory_mb(self) -> float: ...
    @property
    def wrong(self) -> str: ...
    @property
    def form(self) -> str: ...
    @property
    def said(self) -> float | str | None: ...


class Told(Counted, gc=False, kw_only=True):
    """An event with its output."""

    output: str | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """`quantile`: of stable's own values, where the line is if the plan names none. `scale`: parts of its unit in which a mean's values are
    counted, as whole numbers. `kind`: a mix is of several ways that answers go."""

    name: str
    source: Literal["event", "feedback"]
    kind: Literal["count", "mean", "mix"]
    observe_event: Callable[[Answered, Fixed], Observation | None] | None = None
    observe_opinion: Callable[[Opinion, float | None], Observation | None] | None = None
    quantile: float | None = None
    value: Callable[[Answered], float | None] | None = None
    scale: int = 1
    line: float | None = None
    discrete: bool = False
    """Whether it looks at nothing of an event but `error`, `assigned`, `wrong`, `form` and `said`."""
    warm: bool = False
    """Whether a cold canary's first seconds would be held against it."""
    custom: str = ""
    """The feedback that a measure of the plan's own is about."""

    @property
    def needs_line(self) -> bool:
        return self.quantile is not None and self.line is None

    @property
    def needs_output(self) -> bool:
        return self.name.startswith("invalid_output:")

    @property
    def needs_answers(self) -> bool:
        """Whether it counts only once it is known what stable's answers are like."""
        return self.kind == "mix"

    @property
    def looks_at_outputs(self) -> bool:
        return self.kind == "mix" or self.name == "invalid_output"


def parse(name: str) -> Measure:
    """The measure of this name. Raises `Invalid` for what cannot be one; a word that nobody knows is feedback of that name."""
    plain = name.strip()
    if plain == "errors":
        return Measure(plain, "event", "count", _failed, discrete=True)
    if plain == "timeouts":
        return Measure(plain, "event", "count", lambda event, _: _seen(event, event.error == "timeout"), discrete=True)
    if plain == "cost":
        return _over(plain, _cost, 0.95)
    if plain == "label_error":
        return Measure(plain, "feedback", "count", observe_opinion=_wrong)
    if plain == "thumbs_down":
        return Measure(plain, "feedback", "count", observe_opinion=_thumbs)
    if plain == "predictions":
        return Measure(plain, "event", "mix", _predicted, discrete=True)
    if plain == "invalid_output":
        return Measure(plain, "event", "count", _invalid, discrete=True)
    if plain.startswith("invalid_output:"):
        return _validity(plain)
    stem, _, tail = plain.rpartition("_")
    if stem in _VALUES and tail in _QUANTILES and stem != "memory":
        return _over(plain, _VALUES[stem], _QUANTILES[tail])
    if stem in _VALUES and tail == "mean":
        return _mean(plain, _VALUES[stem])
    if lined := _LINED.fullmatch(plain):
        stem, side, line = lined["name"].strip(), lined["side"], float(lined["line"])
        if stem in _VALUES:
            if side == "<":
                raise Invalid(f"{plain!r}: for {stem}, more is worse: write {stem}>{line:g}.", param="guardrails")
            return _over(plain, _VALUES[stem], None, line)
        _check_word(stem)
        return Measure(plain, "feedback", "count", observe_opinion=_beyond(stem, side, line), custom=stem)
    _check_word(plain)
    return Measure(plain, "feedback", "count", observe_opinion=_said(plain), custom=plain)


def is_feedback(name: str) -> bool:
    """Whether what people say decides; False for what is no measure."""
    try:
        return parse(name).source == "feedback"
    except Invalid:
        return False


def known() -> list[str]:
    """The measures that need nobody's feedback of a name of its own."""
    quantiles = [f"{stem}_{tail}" for stem in _VALUES if stem not in ("cost", "memory") for tail in _QUANTILES]
    outputs = ["invalid_output", "predictions"]
    return ["errors", "timeouts", "cost", *quantiles, *(f"{stem}_mean" for stem in _VALUES), *outputs, "label_error", "thumbs_down"]


def nearest(name: str, said: Iterable[str] = ()) -> str | None:
    """What somebody who wrote `name` may have meant, among the known measures and the feedback that there is."""
    found = difflib.get_close_matches(name.casefold(), [*known(), *said], n=1, cutoff=0.6)
    return found[0] if found else None


def _check_word(name: str) -> None:
    if not _WORD.fullmatch(name):
        raise Invalid(f"{name[:80]!r} is no measure. There are: {', '.join(known())}; or the name of a feedback.", param="guardrails")


def _seen(event: Answered, bad: bool) -> Observation | None:
    return None if event.error == "cancelled" else BAD if bad else GOOD


def _failed(event: Answered, _: Fixed) -> Observation | None:
    """A request that another variant answered, since the one that it belongs to had no replica, is that one's failure."""
    return _seen(event, bool(event.error or event.assigned))


def _over(name: str, value: Callable[[Answered], float | None], quantile: float | None, line: float | None = None) -> Measure:
    warm = name.startswith(("latency", "ttft"))

    def observe(event: Answered, fixed: Fixed) -> Observation | None:
        at = line if line is not None else fixed.line
        if at is None:
            return None
        if warm and event.error == "cancelled" and not event.assigned:
            # Somebody gave up waiting: how long it would have taken nobody knows, but that it is over the line one can see.
            lasted = event.latency_ms if event.ttft_ms is None or name.startswith("latency") else event.ttft_ms
            return Observation(True) if lasted > at else None
        found = value(event)
        return None if found is None else BAD if found > at else GOOD

    return Measure(name, "event", "count", observe, quantile=quantile, value=value, line=line, warm=warm)


def _mean(name: str, value: Callable[[Answered], float | None]) -> Measure:
    def observe(event: Answered, _: Fixed) -> Observation | None:
        found = value(event)
        return None if found is None else Observation(False, found)

    scale = _SCALES[name.removesuffix("_mean")]
    return Measure(name, "event", "mean", observe, value=value, scale=scale, warm=name.startswith(("latency", "ttft")))


def _latency(event: Answered) -> float | None:
    return None if event.error or event.assigned else event.latency_ms


def _ttft(event: Answered) -> float | None:
    return None if event.error or event.assigned else event.ttft_ms


def _tokens(event: Answered) -> float | None:
    return float(event.tokens_out) if not event.error and not event.assigned and event.tokens_out else None


def _cost(event: Answered) -> float | None:
    return event.cost if not event.error and not event.assigned and event.cost else None


def _memory(event: Answered) -> float | None:
    return event.memory_mb if event.memory_mb and not event.assigned else None


_VALUES: dict[str, Callable[[Answered], float | None]] = {
    "latency": _latency,
    "ttft": _ttft,
    "tokens_out": _tokens,
    "cost": _cost,
    "memory": _memory,
}
_SCALES = {"latency": 1_000, "ttft": 1_000, "tokens_out": 1, "cost": 10**9, "memory": 1_000}


def _invalid(event: Answered, fixed: Fixed) -> Observation | None:
    """Whatever the deployment keeps of outputs: they were looked at when they were given."""
    if event.error or event.assigned or not event.form:
        return None
    return BAD if event.wrong or (fixed.known is not None and fixed.known.strange(event.form, event.said)) else GOOD


def _predicted(event: Answered, fixed: Fixed) -> Observation | None:
    if event.error or event.assigned or event.said is None or fixed.known is None:
        return None
    return _WAYS[fixed.known.way(event.said)]


_WAYS = [Observation(True, way=way) for way in range(WAYS)]


def _validity(name: str) -> Measure:
    rule = name.partition(":")[2]
    if rule == "json":
        broken: Callable[[str], bool] = _no_json
    elif rule == "nonempty":
        broken = lambda text: not text.strip()  # noqa: E731 - one of three rules
    elif rule.startswith("matches="):
        try:
            wanted = re.compile(rule.removeprefix("matches="))
        except re.error as error:
            raise Invalid(f"{name!r}: the pattern is no regular expression: {error}.", param="guardrails") from None
        if _LOOPS.search(rule):
            raise Invalid(f"{name!r}: a repetition of something that is repeated or has alternatives may take forever.", param="guardrails")
        broken = lambda text: wanted.search(text[:MOST_MATCHED]) is None  # noqa: E731
    else:
        raise Invalid(f"{name!r}: the rules are json, nonempty and matches=REGEX.", param="guardrails")

    def observe(event: Answered, _: Fixed) -> Observation | None:
        output: str | None = getattr(event, "output", None)
        if event.error or event.assigned or output is None or output.startswith("sha256:"):
            return None
        return Observation(broken(output[:MOST_TEXT]))

    return Measure(name, "event", "count", observe)


def _no_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return True
    return False


def _wrong(opinion: Opinion, _line: float | None) -> Observation | None:
    if opinion.kind != "label" or opinion.correct is None:
        return None
    return Observation(not opinion.correct)


def _thumbs(opinion: Opinion, _line: float | None) -> Observation | None:
    if opinion.kind == "label":
        return None
    name = opinion.name.casefold()
    if name == "thumbs_down":
        return Observation(not negative(opinion.value))
    return Observation(negative(opinion.value)) if name in _THUMBS else None


def _said(name: str) -> Callable[[Opinion, float | None], Observation | None]:
    def observe(opinion: Opinion, line: float | None) -> Observation | None:
        if opinion.name != name:
            return None
        if line is not None and isinstance(opinion.value, (int, float)):
            return Observation(float(opinion.value) < line)
        return Observation(negative(opinion.value))

    return observe


def _beyond(name: str, side: str, line: float) -> Callable[[Opinion, float | None], Observation | None]:
    def observe(opinion: Opinion, _line: float | None) -> Observation | None:
        if opinion.name != name or isinstance(opinion.value, str) or opinion.value is None:
            return None
        value = float(opinion.value)
        return Observation(value < line if side == "<" else value > line)

    return observe


def negative(value: Scalar) -> bool:
    """Whether an opinion's value says that the answer was bad."""
    if isinstance(value, str):
        return value.strip().casefold() in SAID_BAD
    return value is not None and (value is False or value <= 0)
