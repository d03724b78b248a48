"""The command ``equikernel``: a thin layer. Nothing heavy is imported before a command runs.

Exit codes: 0 success, 1 an identity failed (verify), 2 bad input, 3 a problem without a solution, 130 interrupted.
Errors are one sentence on stderr; ``--json`` prints one JSON object on stdout and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from typer.exceptions import Abort, TyperException

from equikernel.cli.certify import check, phase
from equikernel.cli.commands import app
from equikernel.cli.design import compare, compress, depth, design, nearest_deq
from equikernel.cli.experiments import experiments
from equikernel.cli.init_stats import init_stats
from equikernel.cli.init_sweep import init_sweep
from equikernel.cli.kernel import kernel
from equikernel.cli.moments import dual, moments
from equikernel.cli.series import series
from equikernel.cli.symbolic import equations
from equikernel.errors import EquikernelError

__all__ = ["main"]

for command in (
    design,
    compare,
    compress,
    nearest_deq,
    depth,
    kernel,
    check,
    phase,
    moments,
    dual,
    series,
    equations,
    init_stats,
    init_sweep,
):
    app.command()(command)
app.add_typer(experiments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = app(given, prog_name="equikernel", standalone_mode=False)
        sys.stdout.flush()
    except EquikernelError as error:
        return _fail(str(error), error.exit_code)
    except TyperException as error:
        return _fail(_usage(error, given), error.exit_code)
    except (KeyboardInterrupt, Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of a pipe has gone (| head): leave quietly, and keep the interpreter's last flush from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "equikernel":
            raise
        return _fail(f"this needs the package {error.name}: pip install 'equikernel[validation]'", 2)
    except MemoryError as error:
        return _fail(f"not enough memory ({error}): ask for fewer samples with --n", 2)
    return result if isinstance(result, int) else 0


def _usage(error: TyperException, given: Sequence[str]) -> str:
    """What is wrong with the arguments, in one sentence, and what to do."""
    sentence = " ".join(error.format_message().split()).rstrip(".")
    if sentence.startswith("No such option: -") and not sentence.startswith("No such option: --") and "--" not in given:
        return f"{sentence}; an expression that begins with - goes after --, as in: equikernel solve -- '-x + abs(x)'"
    return f"{sentence}; see equikernel --help" if sentence else "no command given; see equikernel --help"


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"equikernel: {' '.join(sentence.split())}\n")
    return code
