"""The command `fleet local`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet.local import env_file
from fleet.local.machine import GIB, NotEnough, find_machine, require_disk, require_memory
from fleet.local.model import DEFAULT, TINY_FOLDER, Model, NoSuchModel, model_of
from fleet.local.trial import TrialFailed, trial
from fleet.start.ending import CannotStart
from fleet.start.environment import complete
from process.settings import WrongSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.local.machine import Machine

EXTRA_BYTES = 8 * GIB
"""What torch takes on a disk, with the libraries for GPUs."""
ENV_FILE = Path(".env.local")


@click.command(short_help="Prepare this machine for a local model.")
@click.argument("model", required=False)
@click.option("--tiny", is_flag=True, help="Make a tiny model with random weights instead. It speaks nonsense.")
@click.option("--no-trial", is_flag=True, help="Do not try a prompt.")
def local(model: str | None, *, tiny: bool, no_trial: bool) -> None:
    """Prepare this machine for MODEL and write .env.local, which start.sh picks up.

    \b
    MODEL   a name on Hugging Face's hub, a directory in the format of transformers, a .gguf (needs llama-server
            on PATH) or a .llamafile; without it Qwen/Qwen2.5-0.5B-Instruct, 1 GB

    \b
    LOCAL_PROGRAM=…   a Python that has torch and transformers, instead of installing them into .venv
    DEVICE=…          cpu, cuda:1, …: instead of the best that is found
    HF_TOKEN=…        for models that the hub does not give to everyone

    Of a download that broke off, the files that are whole are not fetched again when the command is run again.
    """
    if tiny and model:
        raise click.UsageError("--tiny makes the model: give no other")
    try:
        _prepare(str(TINY_FOLDER) if tiny else model or DEFAULT, tiny=tiny, try_it=not no_trial)
    except (NoSuchModel, NotEnough, TrialFailed, CannotStart, WrongSettings, _Failed) as problem:
        click.echo(f"local.sh: {problem}", err=True)
        sys.exit(1)


class _Failed(Exception):
    """A step ended badly, and has said why."""


def _prepare(word: str, *, tiny: bool, try_it: bool) -> None:
    environ = complete(os.environ, Path.cwd())
    # Not from .env.local, which has what an earlier run found.
    wanted = complete(os.environ, Path.cwd(), [".env"]).get("DEVICE", "").strip()
    os.environ.update(environ)  # for all that is run from here on: a token for the hub may stand in .env
    machine = find_machine(wanted)
    _say(f"Device: {machine.device} ({machine.name}), {machine.memory_bytes / GIB:.1f} GiB of memory are free.")
    program = environ.get("LOCAL_PROGRAM", "")
    model = Model(str(TINY_FOLDER.resolve()), "transformers", 0) if tiny else model_of(word)
    if model.engine == "transformers":
        python = program or _with_extra()
        if tiny:
            _say(f"Making a tiny model in {TINY_FOLDER}.")
            _run(python, "-m", "workernode.local.tiny", model.path)
        elif model.on_hub:
            _fetch(python, model.path, environ, machine)
    if model.weights_bytes:
        require_memory(machine, in_memory(model.weights_bytes, machine, environ, halves=model.halves))
    name = "tiny" if tiny else Path(word).name
    values = {
        "NODE_TYPE": "local",
        "LOCAL_ENGINE": model.engine,
        "MODEL_PATH": model.path,
        "MODEL_NAME": name,
        "DEVICE": machine.device,
        **({"LOCAL_PROGRAM": program} if program else {}),
    }
    if try_it:
        _say("Trying one prompt.")
        _say(trial({**environ, **values}, _say))
    env_file.write(ENV_FILE, values)
    _say(f"{ENV_FILE} is written. ./start.sh serves the model as {name!r}.")


def _with_extra() -> str:
    """This Python, once it has what a model needs."""
    if importlib.util.find_spec("torch") is None:
        require_disk(Path(".venv"), EXTRA_BYTES, "Installing torch and transformers")
        _run("scripts/environment", "local")
    return sys.executable


def in_memory(weights_bytes: int, machine: Machine, environ: Mapping[str, str], *, halves: bool) -> int:
    """What the weights take: on a processor float32 whatever their files hold, unless the settings say otherwise."""
    told = environ.get("DTYPE", "") not in ("", "auto", "float32") or environ.get("QUANTIZATION")
    return weights_bytes * 2 if halves and machine.device == "cpu" and not told else weights_bytes


def _fetch(python: str, name: str, environ: Mapping[str, str], machine: Machine) -> None:
    revision = environ.get("REVISION") or "main"
    told = _run(python, "-m", "fleet.local.hub", "size", name, revision, capture=True)
    total, missing, kind, place = told.split(maxsplit=3)
    _say(f"{name}: {int(total) / GIB:.1f} GiB, of which {int(missing) / GIB:.1f} are to be fetched.")
    require_memory(machine, in_memory(int(total), machine, environ, halves=kind == "halves"))
    require_disk(Path(place.strip()), int(missing), name)
    _run(python, "-m", "fleet.local.hub", "fetch", name, revision)


def _run(*argv: str, capture: bool = False) -> str:
    """Run a step; its progress goes to the terminal. Raises :class:`_Failed`."""
    try:
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE if capture else sys.stderr, text=True)
    except OSError as error:
        raise _Failed(f"{argv[0]} cannot be run: {error.strerror}.") from None
    except subprocess.CalledProcessError:
        raise _Failed("That did not work; its lines stand above.") from None
    return done.stdout or ""


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)
