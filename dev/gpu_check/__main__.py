"""Check on a GPU what only a GPU can show: tests on the card, then benchmarks, in nine minutes at most.

    python -m dev.gpu_check                    all sections, into outputs/gpu_check/gpu_check.json and gpu_check.md
    python -m dev.gpu_check step precision     these two
    python -m dev.gpu_check --dry-run          on the CPU, in small, to see that it runs

It draws its photos, or takes those of --data-dir, and needs no network. Each section runs in a process of its own with
its own time limit, so that a slow or failing one costs the others nothing; after each, both files are written anew.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from core.environment import WINDOWS

from core.cli import UserError, command_parser, run_cli
from core.files import read_json, write_json, write_text
from dev.command import ROOT, refuse_unknown

LIMITS: Mapping[str, int] = {
    "photos": 80,
    "tests": 90,
    "step": 45,
    "precision": 45,
    "compile": 60,
    "job": 110,
    "folds": 60,
    "inference": 30,
}
"""Seconds of each section; "photos" are drawn and cropped before the others."""
END_SECONDS = 5
DONE, FAILED, STOPPED = "done", "failed", "stopped at its time limit"


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.section:
        run_section(args)
        return
    found: dict[str, dict] = {}
    names = ["photos", *(args.names or [name for name in LIMITS if name != "photos"])]
    for name in names:
        print(f"== {name}, at most {LIMITS[name]} s", flush=True)
        found[name] = in_process(name, args)
        print(f"   {found[name]['state']} after {found[name]['seconds']:.0f} s", flush=True)
        write_json(args.out / "gpu_check.json", {"dry_run": args.dry_run, "sections": found})
        write_text(args.out / "gpu_check.md", as_markdown(found))
        if name == "photos" and found[name]["state"] != DONE:
            break
    print(f"results: {args.out / 'gpu_check.md'}")
    faults = [name for name, record in found.items() if record["state"] == FAILED]
    if faults:
        raise UserError(f"sections failed: {', '.join(faults)}; their last lines are in {args.out / 'gpu_check.md'}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="SECTION", help=f"any of {', '.join(LIMITS)} (default: all)")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with few photos and a tiny network")
    parser.add_argument("--data-dir", type=Path, help="photos to measure on (default: drawn people)")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu_check"), help="folder of results and of the work")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    refuse_unknown(args.names, LIMITS, "section")
    args.out = args.out.resolve()
    return args


def in_process(name: str, args: argparse.Namespace) -> dict:
    """Run a section in a process of its own; return its record: state, seconds, and report or last line."""
    where = ["--data-dir", str(args.data_dir.resolve())] if args.data_dir else []
    words = ["-m", "dev.gpu_check", "--section", name, "--out", str(args.out), *where]
    command = [sys.executable, *words, *(["--dry-run"] if args.dry_run else [])]
    result_path, began = args.out / f"{name}.json", time.monotonic()
    result_path.unlink(missing_ok=True)
    # A file, not a pipe, which a process that outlives the section would keep open.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as printed:
        process = subprocess.Popen(command, cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT)
        try:
            code = process.wait(timeout=LIMITS[name])
        except subprocess.TimeoutExpired:
            # As Ctrl-C does, so that it ends what it has started; after some seconds in any case.
            process.terminate() if WINDOWS else process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=END_SECONDS)
            process.kill()
            process.wait()
            return {"state": STOPPED, "seconds": time.monotonic() - began}
        seconds = time.monotonic() - began
        printed.seek(0)
        last = (printed.read().strip().splitlines() or ["no output"])[-1]
    result = {"said": last} if code else {"report": read_json(result_path)}
    return {"state": FAILED if code else DONE, "seconds": seconds, **result}


def run_section(args: argparse.Namespace) -> None:
    """Run one section in this process, and write its report into the folder of the results."""
    # Only now: torch takes seconds to import, for which --help and the parent process need not wait.
    from dev.gpu_check.sections import SECTIONS, setup_of

    report = SECTIONS[args.section](setup_of(args.out, args.data_dir, dry_run=args.dry_run))
    write_json(args.out / f"{args.section}.json", report.record())


def as_markdown(found: Mapping[str, dict]) -> str:
    """Return a table of all figures, ratios and facts, and the sections that have none."""
    lines = ["| section | figure | value |", "|---|---|---|"]
    for name, record in found.items():
        report = record.get("report")
        if report is None:
            lines.append(f"| {name} | {record['state']} | {record.get('said', '')} |".replace("  ", " "))
            continue
        rows = [(title, f"{_span(rate)} {report['unit']}") for title, rate in report["rates"].items()]
        rows += [(title, f"{_span(ratio)} times") for title, ratio in report["ratios"].items()]
        rows += [(title, _text(value)) for title, value in report["facts"].items()]
        lines += [f"| {name} | {title} | {value} |" for title, value in rows]
    return "\n".join(lines) + "\n"


def _span(figure: Mapping[str, float]) -> str:
    return f"{figure['median']:.3g} ({figure['low']:.3g}–{figure['high']:.3g})"


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    run_cli(main)
