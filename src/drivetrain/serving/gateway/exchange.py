"""One request on its way through the gateway: routed, queued, sent (and sent again), answered, recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import msgspec

from drivetrain.errors import DrivetrainError, Invalid, Overloaded, TooLarge, Unavailable, UpstreamFailed, UpstreamTimeout
from drivetrain.identity.model import Context, Scope
from drivetrain.serving.assignment import stand_in
from drivetrain.serving.gateway.balance import Moved, Pool, Replica
from drivetrain.serving.gateway.capture import kept, plain
from drivetrain.serving.gateway.directory import Directory
from drivetrain.serving.gateway.outputs import look
from drivetrain.serving.gateway.record import Record
from drivetrain.serving.gateway.shadow import Shadows
from drivetrain.serving.gateway.upstream import Answer, Lost
from drivetrain.serving.routes import DeploymentRoute, Prices, RolloutRoute, VariantRoute
from drivetrain.store.events.model import Event, Exposure
from drivetrain.wire.request import Disconnected

MOST_ATTEMPTS = 3
"""How often a request may be handed to a replica that then dies: it may be the request that kills them."""
PATIENCE = 5.0
"""Seconds that a request still waits for a variant that is known to be in trouble."""
MOST_UNIT = 256
MOST_MESSAGE = 2000


class Incoming(Protocol):
    """What an exchange needs of a request: `drivetrain.wire.request.Request` has it."""

    @property
    def id(self) -> str: ...

    @property
    def context(self) -> Context: ...

    def header(self, name: str) -> str | None: ...

    async def disconnected(self) -> None: ...


class Exchange:
    """A context manager; see `drivetrain.serving.gateway.gateway`."""

    def __init__(self, directory: Directory, record: Record, shadows: Shadows, request: Incoming, dialect: str, task: str) -> None:
        self._directory = directory
        self._log = record
        self._shadows = shadows
        self._request = request
        self._began = time.perf_counter()
        self._deployment: DeploymentRoute | None = None
        self._pool: Pool | None = None
        self._replica: Replica | None = None
        self._answer: Answer | None = None
        self._watch: asyncio.Task[None] | None = None
        self._task: asyncio.Task[object] | None = None
        self._gone = False
        self._recorded = False
        self._unit = ""
        self._exposed = ""  # the variant that the unit was exposed to, in a rollout
        self._prices: Prices | None = None
        self._sent: tuple[str, bytes, bool] | None = None
        self._memory = 0.0
        self._lost = ""  # why the last replica did not take the request
        context = request.context
        self.event = Event(
            id=request.id,
            t=time.time_ns(),
            workspace=context.workspace_id,
            user=context.user_name,
            key=context.key_id or "",
            dialect=dialect,
            task=task,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop_watching()
        self._let_go(served=False)
        if self._deployment is not None:
            self._directory.left(self._deployment.id)
        if self._gone and kind is asyncio.CancelledError:
            assert self._task is not None
            self._task.uncancel()
            error = Disconnected()
            self._record(error)
            raise error from None
        self._record(error)

    async def route(self, name: str, *, unit: str | None, stream: bool, body: bytes) -> DeploymentRoute:
        """Decide who serves this. `unit`: what the body names as its user. `body`: the input that the event keeps."""
        request, event = self._request, self.event
        request.context.require(Scope.invoke)
        event.deployment_name = name
        event.stream = stream
        event.bytes_in = len(body)
        deployment = await self._directory.resolve(request.context, name)
        self._deployment = deployment
        self._directory.entered(deployment.id)
        given = request.header("x-drivetrain-unit") or unit or request.header("x-session-id") or ""
        if len(given) > MOST_UNIT:
            raise Invalid(f"The unit (header X-Drivetrain-Unit, or the body's user) has more than {MOST_UNIT} characters.", param="user")
        event.deployment = deployment.id
        event.deployment_name = deployment.name
        event.unit = given
        event.input = kept(deployment.capture, deployment.capture_rate, event.id, body)
        self._unit = given if given and deployment.unit == "person" else event.id
        self._assign(deployment)
        return deployment

    async def fetch(self, target: str, body: bytes) -> Answer:
        """The replica's whole answer (status 200). Raises `Invalid` with the replica's words when it refuses the input."""
        answer = await self._send(target, body, stream=False)
        if answer.status != 200:
            raise _refused(answer.status, answer.body)
        self.event.bytes_out = len(answer.body)
        self._let_go(served=True)
        return answer

    async def open(self, target: str, body: bytes) -> Answer:
        """The replica's answer (status 200) at its first byte. Read it with `chunks`, inside the block."""
        answer = await self._send(target, body, stream=True)
        self._answer = answer
        if answer.status != 200:
            raise _refused(answer.status, await answer.rest())
        self.event.ttft_ms = self.elapsed_ms
        self._stop_watching()  # from here on `request.streaming` does
        return answer

    async def ready(self) -> None:
        """Wait until a replica is ready (and has a slot free); nothing is sent to it."""
        self._start_watching()
        assert self._pool is not None
        deadline = asyncio.get_running_loop().time() + self._directory.settings.queue_seconds
        self._replica = self._pool.take() or await self._queue(deadline)

    @property
    def elapsed_ms(self) -> float:
        """Since the request came in."""
        return (time.perf_counter() - self._began) * 1000

    def finish(self, *, output: Callable[[], str] | str | bytes | None = None, tokens: tuple[int, int, int] | None = None) -> None:
        """The answer is complete: write the event. Call it before the last byte is sent. `tokens`: in, of these cached, out."""
        self._stop_watching()
        self._let_go(served=True)
        if tokens is not None:
            self.event.tokens_in, self.event.tokens_cached, self.event.tokens_out = tokens
        self._keep(output)
        self._record(None)
        deployment = self._deployment
        if deployment is not None and self._sent is not None and len(deployment.variants) > 1:
            self._shadows.repeat(deployment, self.event, *self._sent)

    def broke(self, error: DrivetrainError, *, output: Callable[[], str] | None = None) -> None:
        """The answer broke off after it had begun: write the event. The dialect tells the client in its own way."""
        self._stop_watching()
        self._let_go(served=False)
        self._keep(output)
        self._record(error)

    def _keep(self, output: Callable[[], str] | str | bytes | None) -> None:
        deployment = self._deployment
        if deployment is not None:
            text, event = output() if callable(output) else output, self.event
            event.wrong, event.form, event.said = look(event.task, text, plain=plain(deployment.capture))
            event.output = kept(deployment.capture, deployment.capture_rate, event.id, text)

    def _assign(self, deployment: DeploymentRoute) -> VariantRoute:
        variant = self._directory.choose(deployment, self._unit)
        event = self.event
        event.assigned = ""
        if self._exposed and variant.id != self._exposed:
            event.rollout = ""  # the weights were moved while it waited: it says nothing of either variant
        elif deployment.rollout is not None and not self._exposed:
            self._expose(deployment, deployment.rollout, variant)
        if not variant.replicas and len(deployment.variants) > 1 and (other := stand_in(deployment, variant)) is not None:
            event.assigned, variant = variant.id, other
        event.variant, event.variant_name = variant.id, variant.name
        event.repo, event.version, event.commit, event.engine = variant.repo, variant.version, variant.commit, variant.engine
        if event.task not in variant.tasks:
            can = ", ".join(variant.tasks) or "nothing yet"
            advice = _ADVICE.get(variant.tasks[0], "") if variant.tasks else ""
            raise Invalid(f"The model {deployment.name!r} does not do {event.task}; it does: {can}. {advice}".rstrip(), param="model")
        self._pool = self._directory.pool(variant)
        self._prices = variant.prices
        return variant

    def _expose(self, deployment: DeploymentRoute, rollout: RolloutRoute, variant: VariantRoute) -> None:
        """Say once whose unit this is."""
        event = self.event
        self._exposed = variant.id
        event.rollout, event.phase = rollout.id, rollout.phase
        self._log.exposures.add(
            Exposure(
                exposure=event.id,
                t=event.t,
                deployment=deployment.id,
                variant=variant.id,
                unit=event.unit if deployment.unit == "person" else "",
                rollout=rollout.id,
                phase=rollout.phase,
            )
        )

    async def _send(self, target: str, body: bytes, *, stream: bool) -> Answer:
        self._start_watching()
        self._sent = (target, body, stream)
        loop = asyncio.get_running_loop()
        settings = self._directory.settings
        deadline = loop.time() + settings.queue_seconds
        deaths = 0
        self.event.attempts = 0
        while True:
            assert self._pool is not None
            replica = self._pool.take() or await self._queue(deadline)
            self._replica = replica
            self.event.attempts += 1
            self.event.replica = replica.id
            try:
                answer = await replica.upstream.request(
                    target, body, request_id=self.event.id, stream=stream, seconds=settings.request_seconds
                )
            except Lost as error:
                deaths += error.sent
                if deaths >= MOST_ATTEMPTS:
                    raise UpstreamFailed(
                        f"{deaths} replicas in a row went away while they worked on this request; it may be what stops them. "
                        "Their output is in the server's logs folder."
                    ) from error
                self._lost = str(error)
            else:
                if answer.status != 503:
                    replica.succeeded()
                    return answer
                answer.close()
                self._lost = "the replica is still loading"
            # Nothing has reached the client: ask another replica, or the next one.
            self._pool.failed(replica)
            self._let_go(served=False)
            self._directory.need(self.event.deployment)
            if loop.time() >= deadline:
                raise self._unreachable()

    async def _queue(self, deadline: float) -> Replica:
        """Wait for a free slot; for on-demand deployments and after crashes that includes the start of a replica."""
        directory, loop = self._directory, asyncio.get_running_loop()
        began = loop.time()
        try:
            while True:
                deployment = directory.deployment(self.event.deployment, self.event.deployment_name)
                variant = self._assign(deployment)
                pool = self._pool
                assert pool is not None
                directory.follow()
                if not variant.replicas:
                    directory.need(deployment.id)
                patience = deadline - loop.time()
                if not variant.replicas and variant.problem:
                    if variant.final:
                        raise _troubled(deployment, variant)
                    if not variant.starting:
                        patience = min(patience, PATIENCE)
                try:
                    return await pool.wait(max(patience, 0.0))
                except Moved:
                    continue
                except TimeoutError:
                    self._gave_up(deployment, variant, out_of_time=loop.time() >= deadline - 0.001)
        finally:
            self.event.queue_ms += (loop.time() - began) * 1000

    def _gave_up(self, deployment: DeploymentRoute, before: VariantRoute, *, out_of_time: bool) -> None:
        route = self._directory.deployment(deployment.id, deployment.name)
        now = next((variant for variant in route.variants if variant.id == before.id), before)
        if not now.replicas and now.problem and (out_of_time or not now.starting):
            raise _troubled(deployment, now)
        if out_of_time:
            if self._lost:
                raise self._unreachable()
            waited = f"within {self._directory.settings.queue_seconds:g} seconds (setting queue_seconds)"
            if now.replicas:
                assert self._pool is not None
                raise Overloaded(f"{deployment.name!r} had no free slot {waited}.", retry_after=self._pool.retry_after())
            raise Unavailable(f"No replica of {deployment.name!r} was ready {waited}. See what it does: drivetrain ps", retry_after=5)

    def _unreachable(self) -> Unavailable:
        return Unavailable(f"No replica of {self.event.deployment_name!r} could take the request in time: {self._lost}.", retry_after=5)

    def _let_go(self, *, served: bool) -> None:
        """Give back the connection and the slot."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()
        replica, self._replica = self._replica, None
        if replica is not None and self.event.rollout:
            self._memory = replica.memory_mb()
        if replica is not None and self._pool is not None:
            self._pool.release(replica, self.elapsed_ms / 1000 if served else None)

    def _start_watching(self) -> None:
        if self._watch is None:
            self._task = asyncio.current_task()
            self._watch = asyncio.get_running_loop().create_task(self._request.disconnected())
            self._watch.add_done_callback(self._client_gone)

    def _stop_watching(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.remove_done_callback(self._client_gone)
            watch.cancel()

    def _client_gone(self, watch: asyncio.Task[None]) -> None:
        if self._watch is watch and not watch.cancelled() and self._task is not None:
            self._watch = None
            self._gone = True
            self._task.cancel()

    def _record(self, error: BaseException | None) -> None:
        if self._recorded:
            return
        self._recorded = True
        event = self.event
        event.latency_ms = self.elapsed_ms
        event.memory_mb = self._memory
        if self._prices is not None:
            event.cost = self._prices.cost(event.tokens_in, event.tokens_out)
        if error is not None:
            event.status, event.error, event.message = _classified(error)
        self._log.write(event, self._deployment)


def _troubled(deployment: DeploymentRoute, variant: VariantRoute) -> Unavailable:
    return Unavailable(f"The model {deployment.name!r} cannot answer: {variant.problem}", retry_after=5)


_ADVICE = {
    "infer": "Call it as Open Inference v2 (/kserve) or at /invoke/NAME/invocations.",
    "chat": "Call it at /v1/chat/completions or with an ollama client.",
    "completion": "Call it at /v1/completions.",
    "embeddings": "Call it at /v1/embeddings.",
}


def _classified(error: BaseException) -> tuple[int, str, str]:
    """Status, kind and message of what ended an exchange. 499: the client did not wait for its answer."""
    if isinstance(error, DrivetrainError):
        if isinstance(error, UpstreamTimeout):
            kind = "timeout"
        elif isinstance(error, UpstreamFailed):
            kind = "upstream"
        elif isinstance(error, Overloaded):
            kind = "overloaded"
        elif isinstance(error, Unavailable):
            kind = "unavailable"
        else:
            kind = "invalid" if error.status < 500 else "internal"
        return error.status, kind, error.message[:MOST_MESSAGE]
    if isinstance(error, (Disconnected, asyncio.CancelledError)):
        return 499, "cancelled", ""
    return 500, "internal", type(error).__name__


class _Words(msgspec.Struct):
    message: str = ""


class _Refusal(msgspec.Struct):
    error: _Words | str = ""


_refusals = msgspec.json.Decoder(_Refusal)


def _refused(status: int, body: bytes) -> DrivetrainError:
    """A replica's own error answer, in our terms."""
    try:
        said = _refusals.decode(body).error
        words = said if isinstance(said, str) else said.message
    except (msgspec.DecodeError, UnicodeDecodeError):
        words = body[:500].decode("utf-8", "replace")
    words = words or f"the replica answered with status {status}"
    if status == 413:
        return TooLarge(words)
    if status == 429:
        return Overloaded(words)
    if 400 <= status < 500 or status == 501:
        return Invalid(words)
    return UpstreamFailed(f"The replica could not answer: {words}")
