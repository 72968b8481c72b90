"""The command `drivetrain`: one module for each group of commands, put together here."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from drivetrain.cli.monitoring import alerts, monitor
from drivetrain.cli.output import EXIT_CODES, FAILED, USAGE, complain, emit
from drivetrain.cli.registry import artifacts, models, pull
from drivetrain.cli.rollout import check, retrain, rollout
from drivetrain.cli.server import doctor, env, home, jobs, keys, people
from drivetrain.cli.server import up as up_
from drivetrain.cli.serving import chat, deploy, trace
from drivetrain.cli.tracking import gc, portable, profile, runs, sweep
from drivetrain.errors import DrivetrainError

_CODES = " · ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())

app = typer.Typer(
    name="drivetrain",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    epilog=f"Exit codes: {_CODES}.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

SERVER, MODEL, LOOK, SHARE = "Server", "Models and deployments", "Look", "Share"


def _version(wanted: bool) -> None:
    if wanted:
        import drivetrain

        typer.echo(f"drivetrain {drivetrain.__version__}")
        raise typer.Exit


@app.callback()
def root(
    url: Annotated[str | None, typer.Option(help="The server to use, in place of DRIVETRAIN_URL.", show_default=False)] = None,
    workspace: Annotated[
        str | None, typer.Option("--workspace", "-w", help="The workspace, in place of DRIVETRAIN_WORKSPACE.", show_default=False)
    ] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")] = False,
) -> None:
    """Everything around the model: train, register, serve and trace, on one server.

    Start with `drivetrain up` in one terminal, and `eval "$(drivetrain env)"` in another: your mlflow, openai and ollama
    scripts then work with it as they are.

    Commands find the server by DRIVETRAIN_URL (and DRIVETRAIN_API_KEY), else the one that runs on this machine's default home.
    """
    # For this process alone: everything that looks for a server looks there.
    if url is not None:
        os.environ["DRIVETRAIN_URL"] = url
    if workspace is not None:
        os.environ["DRIVETRAIN_WORKSPACE"] = workspace


app.command(rich_help_panel=SERVER)(up_.up)
app.command(rich_help_panel=SERVER)(env.env)
app.command(rich_help_panel=SERVER)(doctor.doctor)
app.command(rich_help_panel=SERVER)(home.backup)
app.command(rich_help_panel=SERVER)(home.restore)
app.command(rich_help_panel=MODEL)(pull.pull)
app.command(rich_help_panel=MODEL)(deploy.deploy)
app.command(rich_help_panel=MODEL)(deploy.undeploy)
app.command(rich_help_panel=MODEL)(deploy.scale)
app.command(rich_help_panel=MODEL)(deploy.restart)
app.command(rich_help_panel=MODEL)(chat.chat)
app.add_typer(models.app, name="models", rich_help_panel=MODEL)
app.add_typer(artifacts.app, name="artifacts", rich_help_panel=MODEL)
app.add_typer(rollout.app, name="rollout", rich_help_panel=MODEL, help="Move traffic to another version by steps, watched; take it back.")
app.add_typer(retrain.app, name="retrain", rich_help_panel=MODEL, help="Train deployments again by themselves; see what came of it.")
app.command(rich_help_panel=LOOK)(deploy.ps)
app.command(rich_help_panel=LOOK)(check.check)
app.command(rich_help_panel=LOOK)(trace.trace)
app.command(rich_help_panel=LOOK)(trace.feedback)
app.command(rich_help_panel=LOOK)(monitor.drift)
app.command(rich_help_panel=LOOK)(profile.profile)
app.add_typer(monitor.app, name="monitor", rich_help_panel=LOOK, help="What is asked of deployments all the time, and the answers.")
app.add_typer(alerts.app, name="alerts", rich_help_panel=LOOK, help="What is wrong, on what evidence, how to undo it; who is told.")
runs.app.command("export")(portable.export)
runs.app.command("import")(portable.import_)
app.add_typer(runs.app, name="runs", rich_help_panel=LOOK)
app.add_typer(portable.app, name="import", rich_help_panel=LOOK)
app.add_typer(sweep.app, name="sweep", rich_help_panel=LOOK, help="Searches over parameters: their runs, the best, what matters.")
app.add_typer(gc.experiments, name="experiments", rich_help_panel=LOOK)
app.add_typer(gc.app, name="gc", rich_help_panel=LOOK)
app.add_typer(jobs.app, name="jobs", rich_help_panel=LOOK)
app.add_typer(keys.app, name="keys", rich_help_panel=SHARE)
app.add_typer(people.users, name="users", rich_help_panel=SHARE)
app.add_typer(people.workspaces, name="workspaces", rich_help_panel=SHARE)


def main() -> None:
    """Run the command line. What goes wrong is one line with advice and an exit code, never a traceback."""
    as_json = "--json" in sys.argv
    try:
        app(prog_name="drivetrain")
    except SystemExit as end:
        if as_json and end.code == USAGE:
            emit({"error": {"type": "Usage", "message": "The command line is wrong: see --help.", "exit_code": USAGE}})
        raise
    except DrivetrainError as error:
        sys.exit(complain(error, as_json=as_json))
    except BrokenPipeError:
        # Whoever read our output has closed it, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(complain(DrivetrainError(f"{error.strerror or error}{where}"), as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
