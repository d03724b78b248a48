"""The fuzz campaign: random activations, every way to their moments, all of which must agree or refuse honestly.

    .venv/bin/python benchmarks/fuzz.py --seed 1 --count 2000 --breakpoints 300 --resume fuzz.jsonl --out fuzz.json
    .venv/bin/python benchmarks/fuzz.py --seed 1 --only grammar/17

Each trial runs in a worker process with a limit of CPU seconds for every stage; a worker over its limit is killed by
the kernel, which counts as a hang of that stage, and the trial is run again without the stage. An exception that is not
one of ``equikernel.errors`` is a crash. Trials depend on (seed, kind, index) alone. Finished trials are lines of the
``--resume`` file and are not run again (with ``--again``, those that failed are). The exit code is 1 if anything
disagreed, crashed or hung.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from fuzz_texts import KINDS
from fuzz_trial import STAGES, Trial, run_trial

from equikernel.validation.store import write_text

# a certificate, two checks of it, a scan and a solve; 35 digits next to a root
_LONGER = {"certificate": 5.0, "mpmath": 3.0}
_WALL_FACTOR = 25.0  # a stage may wait that much longer than its CPU limit when the machine is busy
_GRACE = 30.0
_MEMORY = 6 * 2**30
_OUTCOMES = ("agreed", "refused", "disagreed", "crashed", "hung")
_FAILURES = frozenset(_OUTCOMES[2:])

Task = tuple[str, int]
"""Kind and index of a trial."""


def _serve(connection: Connection, seed: int, limit: float) -> None:
    """The worker: trials in, records out; every stage announced, its CPU limit set by the kernel."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))

    def report(stage: str) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent = used.ru_utime + used.ru_stime
        resource.setrlimit(
            resource.RLIMIT_CPU, (math.ceil(spent + limit * _LONGER.get(stage, 1.0)), resource.RLIM_INFINITY)
        )
        connection.send(("stage", stage))

    while True:
        kind, index, skip = connection.recv()
        try:
            record = run_trial(Trial(seed, kind, index), skip, report)
        except Exception:  # noqa: BLE001 - whatever escapes a stage is what the campaign looks for
            connection.send(("crash", traceback.format_exc()))
        else:
            connection.send(("done", record))


class _Worker:
    """A process and the trial it is on."""

    def __init__(self, seed: int, limit: float) -> None:
        self.seed, self.limit = seed, limit
        self.task: Task | None = None
        self.faults: dict[str, dict[str, str]] = {}
        self.stage = ""
        self.deadline = 0.0
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, self.seed, self.limit), daemon=True)
        self.process.start()
        other.close()

    def assign(self, task: Task) -> None:
        self.task, self.faults = task, {}
        self._send()

    def _send(self) -> None:
        if self.task is None:
            raise AssertionError("a worker is sent a trial it has")
        self.stage = "parse"
        self._wait_on()
        self.connection.send((*self.task, frozenset(self.faults)))

    def _wait_on(self) -> None:
        self.deadline = time.monotonic() + _GRACE + _WALL_FACTOR * self.limit

    def advance(self, *, ready: bool) -> dict[str, Any] | None:
        """What came of waiting: a finished record, or None; a fault of a stage runs the trial again without it."""
        if not ready:
            if time.monotonic() < self.deadline:
                return None
            return self._fault(
                "hung", f"over {self.limit:g} CPU seconds (or {_WALL_FACTOR:g} times as many of waiting)"
            )
        try:
            what, payload = self.connection.recv()
        except EOFError:
            self.process.join()
            hung = self.process.exitcode is not None and -self.process.exitcode == _XCPU
            reason = (
                f"over {self.limit * _LONGER.get(self.stage, 1.0):g} CPU seconds"
                if hung
                else f"the process ended with {self.process.exitcode}"
            )
            return self._fault("hung" if hung else "crashed", reason)
        self._wait_on()
        if what == "stage":
            self.stage = payload
            return None
        if what == "crash":
            return self._fault("crashed", payload)
        return self._finished(payload)

    def _fault(self, status: str, detail: str) -> dict[str, Any] | None:
        self.faults[self.stage] = {"status": status, "detail": detail}
        if status == "hung" or not self.process.is_alive():
            self.stop()
            self._start()
        if self.stage == "parse":
            return self._finished({"stages": {}, "disagreements": []})
        self._send()
        return None

    def _finished(self, result: dict[str, Any]) -> dict[str, Any]:
        if self.task is None:
            raise AssertionError("a finished trial was begun")
        kind, index = self.task
        trial = Trial(self.seed, kind, index)
        result["stages"] |= self.faults
        self.task = None
        head = {"seed": self.seed, "kind": kind, "index": index, "text": trial.text, "tau": trial.tau}
        return {**head, "outcome": outcome(result), **result}

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


_XCPU = 24  # SIGXCPU


def outcome(result: dict[str, Any]) -> str:
    """What came of a trial: the worst that happened, "agreed" when two methods or more gave numbers, else "refused"."""
    states = {record["status"] for record in result["stages"].values()}
    if result["disagreements"]:
        return "disagreed"
    for failure in ("crashed", "hung"):
        if failure in states:
            return failure
    return "agreed" if sum(1 for record in result["stages"].values() if "digits" in record) > 1 else "refused"


def run_trials(tasks: Sequence[Task], seed: int, limit: float, workers: int) -> Iterator[dict[str, Any]]:
    """Records of the trials in the order in which they finish.

    Args:
        tasks: kinds and indices.
        seed: of the campaign.
        limit: CPU seconds of a stage.
        workers: processes.
    """
    waiting = list(tasks)[::-1]
    pool = [_Worker(seed, limit) for _ in range(min(workers, len(waiting)))]
    for worker in pool:
        worker.assign(waiting.pop())
    while any(worker.task is not None for worker in pool):
        busy = [worker for worker in pool if worker.task is not None]
        ready = wait_for([worker.connection for worker in busy], timeout=1.0)
        for worker in busy:
            record = worker.advance(ready=worker.connection in ready)
            if record is not None:
                yield record
                if waiting:
                    worker.assign(waiting.pop())
    for worker in pool:
        worker.stop()


def tally(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """How many trials of each kind came out how, and how every stage ended (refusals by the class of their error)."""
    table: dict[str, dict[str, int]] = {}
    for kind in KINDS:
        counts = Counter(record["outcome"] for record in records if record["kind"] == kind)
        table[f"trials: {kind}"] = {outcome: counts[outcome] for outcome in _OUTCOMES}
    for stage in STAGES:
        ended: Counter[str] = Counter()
        for record in records:
            state = record["stages"].get(stage)
            if state is not None:
                ended[state["status"] + (f" ({state['error']})" if "error" in state else "")] += 1
        table[f"stage: {stage}"] = dict(sorted(ended.items()))
    return table


def _print_tally(records: Sequence[dict[str, Any]]) -> None:
    for name, counts in tally(records).items():
        print(f"{name:28s}", ", ".join(f"{outcome} {count}" for outcome, count in counts.items() if count) or "none")
    for record in records:
        if record["outcome"] in _FAILURES:
            print(
                f"{record['outcome']}: {record['kind']}/{record['index']} {record['text']!r} at tau = {record['tau']!r}"
            )
            _print_faults(record)


def _print_faults(record: dict[str, Any]) -> None:
    for sentence in record["disagreements"]:
        print("   ", sentence)
    for stage, state in record["stages"].items():
        if "detail" in state:
            print(f"    {stage} {state['status']}: {state['detail'].strip().splitlines()[-1]}")


def _rerun(seed: int, only: str) -> None:
    """One trial in this process, everything shown."""
    kind, _, index = only.partition("/")
    trial = Trial(seed, kind, int(index))
    print(f"{trial.text!r} at tau = {trial.tau!r}, {trial.bits} bits")
    result = run_trial(trial, frozenset(), lambda stage: print(f"  {stage} ..."))
    print(json.dumps(result, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz the Gaussian moments and the certificates")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100, help="trials over the whole grammar")
    parser.add_argument("--breakpoints", type=int, default=15, help="trials with random breakpoints")
    parser.add_argument("--time-limit", type=float, default=20.0, help="CPU seconds of a stage")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--resume", type=Path, help="a .jsonl file: finished trials, appended to")
    parser.add_argument("--again", action="store_true", help="run the failures in the --resume file again")
    parser.add_argument("--out", type=Path, help="a .json file for the tally")
    parser.add_argument("--only", help="KIND/INDEX: one trial in this process, shown in full")
    return parser.parse_args()


def _finished(resume: Path | None, seed: int, *, again: bool) -> list[dict[str, Any]]:
    """The records of earlier runs with the same seed; with ``again``, without the failures, which leave the file."""
    if resume is None or not resume.exists():
        return []
    lines = resume.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not (again and json.loads(line)["outcome"] in _FAILURES)]
    if len(kept) < len(lines):
        write_text(resume, "".join(f"{line}\n" for line in kept))
    return [record for line in kept if (record := json.loads(line))["seed"] == seed]


def main() -> int:
    """Run the trials that are not finished, print the tally, write it."""
    given = _arguments()
    if given.only is not None:
        _rerun(given.seed, given.only)
        return 0
    wanted = [("grammar", i) for i in range(given.count)] + [("breakpoints", i) for i in range(given.breakpoints)]
    records = _finished(given.resume, given.seed, again=given.again)
    finished = {(r["kind"], r["index"]) for r in records}
    started = time.perf_counter()
    for record in run_trials([t for t in wanted if t not in finished], given.seed, given.time_limit, given.workers):
        records.append(record)
        if given.resume is not None:
            with given.resume.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        if sys.stderr.isatty() or record["outcome"] in _FAILURES:
            print(
                f"{len(records)}/{len(wanted)} {record['kind']}/{record['index']} {record['outcome']}", file=sys.stderr
            )
    records = [r for r in records if (r["kind"], r["index"]) in set(wanted)]
    _print_tally(records)
    if given.out is not None:
        parameters = {"seed": given.seed, "count": given.count, "breakpoints": given.breakpoints}
        summary = {**parameters, "time_limit": given.time_limit, "seconds": time.perf_counter() - started}
        write_text(given.out, json.dumps({**summary, "tally": tally(records)}, indent=1) + "\n")
    return 1 if any(r["outcome"] in _FAILURES for r in records) else 0


if __name__ == "__main__":
    sys.exit(main())
