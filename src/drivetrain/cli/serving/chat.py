"""`drivetrain chat`: talk with a deployment or a registered model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetrain.cli import output
from drivetrain.cli.connect import connect, deployment_names
from drivetrain.cli.output import JsonFlag, note, notes
from drivetrain.errors import DrivetrainError, Invalid

if TYPE_CHECKING:
    from drivetrain.client import Client
    from drivetrain.client.chat import ChatStream


def chat(
    name: Annotated[str, typer.Argument(help="A deployment, or a registered model.", autocompletion=deployment_names)],
    prompt: Annotated[list[str] | None, typer.Argument(help="The question. Without one: a conversation, or standard input.")] = None,
    system: Annotated[str | None, typer.Option(help="Instructions that come before the conversation.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, max=2.0, help="0 always takes the likeliest word.")] = None,
    seed: Annotated[int | None, typer.Option(help="Make sampling repeatable.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Chat with a model; the answer streams in, and its speed and request id follow.

    `drivetrain chat smollm2 "Say hello."`     `git diff | drivetrain chat smollm2`     `drivetrain chat smollm2`
    """
    given = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    messages = [{"role": "system", "content": system}] if system else []
    with connect(timeout=600.0) as client:
        if prompt or not sys.stdin.isatty():
            question = " ".join(prompt or ()) or sys.stdin.read().strip()
            if not question:
                raise Invalid("There is no question: write it after the name, or send it to standard input.")
            answer = client.chat(name, [*messages, {"role": "user", "content": question}], **options)
            _say(answer, as_json=as_json)
            return
        if as_json:
            raise Invalid('--json wants one question: drivetrain chat NAME "…" --json')
        _converse(client, name, messages, options)


def _converse(client: Client, name: str, messages: list[dict[str, str]], options: dict[str, Any]) -> None:
    note(f"[dim]A conversation with {name}. Ctrl-D ends it, Ctrl-C stops an answer.[/]")
    while True:
        try:
            question = notes().input("[bold]> [/]").strip()
        except (EOFError, KeyboardInterrupt):
            notes().print()
            return
        if not question:
            continue
        answer = client.chat(name, [*messages, {"role": "user", "content": question}], **options)
        try:
            _say(answer, as_json=False)
        except KeyboardInterrupt:
            note("\n[dim]stopped[/]")
        except DrivetrainError as error:
            from drivetrain.client import Unreachable

            if isinstance(error, Unreachable):
                raise
            note(f"[red]{error.message}[/]")
            continue
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer.text}]


def _say(answer: ChatStream, *, as_json: bool) -> None:
    if as_json:
        answer.read()
        output.emit(
            {
                "text": answer.text,
                "request_id": answer.request_id,
                "finish": answer.finish,
                "tokens_in": answer.tokens_in,
                "tokens_out": answer.tokens_out,
                "first_token_s": answer.first_s,
                "seconds": answer.seconds,
                "tokens_per_second": answer.tokens_per_second,
            }
        )
        return
    try:
        for piece in answer:
            sys.stdout.write(piece)
            sys.stdout.flush()
    finally:
        sys.stdout.write("\n")
        sys.stdout.flush()
    speed = f"{answer.tokens_per_second:.1f} tokens/s · " if answer.tokens_per_second else ""
    first = f"first after {answer.first_s * 1000:.0f} ms · " if answer.first_s is not None else ""
    note(f"[dim]{answer.tokens_out} tokens · {speed}{first}drivetrain trace {answer.request_id}[/]")
