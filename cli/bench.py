"""`swiftvr-bench`: measure speed, memory and quality on this machine."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..benchmarks.suite.protocols import PRESETS, PROTOCOLS
from ..benchmarks.suite.record import SUITES, read_run
from ..engines.bundle.auto import AUTO
from ..engines.bundle.targets import find_target
from ..errors import MachineError, MisuseError
from ..runtime.media.files import check_overwrite, check_parent
from . import console, start
from .options import (
    CONTEXT,
    FiniteRange,
    SectionedCommand,
    checkpoint_option,
    debug_option,
    engine_options,
    path_option,
    precision_option,
    quiet_option,
    target_option,
    threads_option,
    verbose_option,
    was_given,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..benchmarks.suite.compare import Change
    from ..benchmarks.suite.plan import BenchOptions
    from ..benchmarks.suite.record import BenchRun

_LONGEST_S = 30 * 86400
"""Of a case. No system has timers for any number of seconds."""
_EPILOG = """\b
Examples:
  swiftvr-bench --preset quick
  swiftvr-bench --preset rtx5090 -o rtx5090.json
  swiftvr-bench --bundle b1080 --suite core,file
  swiftvr-bench --checkpoint SwiftVR --protocol paper-1080p --against torch --turns 5
  swiftvr-bench --compare old.json new.json --fail-above 1.05

Exit codes: 0 done, 1 a case failed or a figure is worse than --fail-above, 2 the request cannot be met,
130 interrupted. RUN.json is written after every case and is valid at any time."""

_SECTIONS = {
    "What to measure": ("preset", "bundles", "checkpoint", "suites", "protocols"),
    "Bundles that are built": ("precision", "target"),
    "How": ("device", "threads", "graphs", "overlap", "turns", "clip", "clean", "limit"),
    "Comparing": ("against", "compare", "fail_above", "traces"),
    "Result": ("output", "page", "overwrite", "show"),
    "Messages": ("quiet", "verbose"),
}


def _names(known: tuple[str, ...], what: str) -> Any:
    """A callback of click: names separated by commas."""

    def split(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[str, ...] | None:
        if text is None:
            return None
        names = tuple(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))
        for name in names:
            if name not in known:
                raise click.BadParameter(f"the {what} {name!r} is not known, expected some of {', '.join(known)}")
        if not names:
            raise click.BadParameter(f"no {what} was named, expected some of {', '.join(known)}")
        return names

    return split


@click.command(cls=SectionedCommand, sections=_SECTIONS, epilog=_EPILOG, context_settings=CONTEXT)
@click.option(
    "--preset",
    metavar="NAME",
    type=click.Choice(tuple(PRESETS)),
    help="; ".join(f"{preset.name} ({preset.text})" for preset in PRESETS.values())
    + ". Other options replace its own.",
)
@path_option("--bundle", "bundles", multiple=True, help="A bundle to measure. May be repeated.")
@checkpoint_option("What to build bundles from, and the weights of --against torch:")
@click.option(
    "--suite",
    "suites",
    metavar="S,S",
    callback=_names(SUITES, "suite"),
    help=f"Some of {', '.join(SUITES)}.  [default: all]",
)
@click.option(
    "--protocol",
    "protocols",
    metavar="P,P",
    callback=_names(tuple(PROTOCOLS), "protocol"),
    help=f"Some of {', '.join(PROTOCOLS)} (docs/benchmarking.md). A bundle has its own size: with "
    "--bundle, name one protocol, for its numbers of frames.  [default: paper-1080p]",
)
@precision_option
@target_option
@click.option("--device", metavar="D", help="cpu, cuda or cuda:N.  [default: what a bundle is for]")
@threads_option
@engine_options
@click.option(
    "--turns",
    metavar="N",
    type=click.IntRange(1, 100),
    default=1,
    help="Measure each case N times, but for builds.  [default: 1]",
)
@path_option("--clip", metavar="FILE", help="A video to use instead of the protocol's.")
@path_option("--clean", metavar="FILE", help="The same frames undamaged, in the size of the output, to compare with.")
@click.option(
    "--limit",
    metavar="SECONDS",
    type=FiniteRange(1, _LONGEST_S),
    default=3600.0,
    help="How long a process of a case, or a run of a command, may take.  [default: 3600]",
)
@click.option(
    "--against",
    metavar="WHAT",
    multiple=True,
    help="torch (the plain network, on the same frames and weights), or a command with {input} and {output}. The sides "
    "take turns. May be repeated.",
)
@click.option(
    "--compare",
    metavar="A.json B.json",
    nargs=2,
    type=click.Path(path_type=Path),
    help="Compare two records; measures nothing.",
)
@click.option(
    "--fail-above",
    metavar="RATIO",
    type=FiniteRange(1),
    help="With --compare: exit with 1 if a figure of B is worse than that of A by more than this factor, with its "
    "whole interval, or is missing from it.",
)
@click.option(
    "--import",
    "traces",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Add the times that trtexec wrote with --exportTimes. May be repeated.",
)
@path_option("-o", "--output", metavar="RUN.json", help="Record of the run.  [default: swiftvr-bench-TIME.json]")
@path_option("--page", metavar="FILE.html", help="Page with charts and pictures.  [default: RUN.html]")
@click.option("-y", "--overwrite", is_flag=True, help="Replace the record and the page if they exist.")
@path_option(
    "--show", metavar="RUN.json", help="Print the tables of a record, and with --page write its page; measures nothing."
)
@quiet_option
@verbose_option
@debug_option
@click.version_option(package_name="swiftvr-trt")
def command(quiet: bool, verbose: int, **given: Any) -> None:
    """Measure how fast, how large and how faithful a model is on this machine.

    Everything is written to one record in JSON, with the raw samples and how each figure was obtained. Say what to
    measure with --preset, or with --bundle or --checkpoint.
    """
    console.show_log(verbose)
    if given["compare"]:
        _refuse_others("--compare", {"compare", "fail_above"})
        _compare(given, quiet=quiet)
        return
    if given["fail_above"] is not None:
        raise click.UsageError("--fail-above was given without --compare, expected both")
    if given["show"] is not None:
        _refuse_others("--show", {"show", "page", "overwrite"})
        if given["page"] is not None:
            _check_page(given["page"], given["show"], overwrite=given["overwrite"])
        _show(read_run(given["show"]), given["show"], given["page"], quiet=quiet)
        return
    if _only_imports(given):
        _refuse_others("--import alone", {"traces", "output", "page", "overwrite"})
    _refuse_what_bundles_decide(given)
    output = given["output"] or Path(time.strftime("swiftvr-bench-%Y%m%d-%H%M%S.json"))
    page = given["page"] or output.with_suffix(".html")
    check_parent(output)
    check_overwrite(output, overwrite=given["overwrite"])
    _check_page(page, output, overwrite=given["overwrite"])
    run = _measure(given, output, (lambda _line: None) if quiet else console.say)
    _show(run, output, page, quiet=quiet)
    if failed := sum(bool(case.problem) for case in run.cases):
        raise MachineError(f"{failed} of {len(run.cases)} cases failed; {output} says why")


def _refuse_others(mode: str, used: set[str]) -> None:
    """Raise if an option was given for which a command that measures nothing has no use."""
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        if was_given(name) and name not in used | {"quiet", "verbose", "debug"}:
            raise click.UsageError(f"{option.opts[-1]} was given with {mode}, which has no use for it; leave it out")


def _refuse_what_bundles_decide(given: dict[str, Any]) -> None:
    """Raise if an option was given that says something else than a bundle that was named."""
    if not given["bundles"]:
        return
    for name in ("precision", "target"):
        if was_given(name):
            raise click.UsageError(f"--{name} was given with --bundle, which has its own; leave one of them out")
    if "build" in (given["suites"] or ()):
        raise click.UsageError("the suite build was given with --bundle, expected --checkpoint alone to build from")
    if len(given["protocols"] or ()) > 1:
        raise click.UsageError("several protocols were given with --bundle, expected one: a bundle has one size")


def _check_page(page: Path, record: Path, *, overwrite: bool) -> None:
    """Raise, before anything is measured, if no page can be written there."""
    if page.absolute() == record.absolute():
        raise MisuseError(f"--page {page} is the record: give the page a name of its own, e.g. run.html")
    check_parent(page)
    check_overwrite(page, overwrite=overwrite)


def _measure(given: dict[str, Any], output: Path, say: Any) -> BenchRun:
    from ..benchmarks.suite.runner import run_cases
    from ..benchmarks.suite.trtexec import cases_of_traces, record_of

    argv = ("swiftvr-bench", *sys.argv[1:])
    imported = cases_of_traces(given["traces"])  # before hours of measuring
    if _only_imports(given):
        return record_of(imported, argv, output)
    return run_cases(_options(given, say), argv, output, say, imported)


def _only_imports(given: dict[str, Any]) -> bool:
    """True if nothing is measured, since nothing was named to measure."""
    return bool(given["traces"]) and not (given["preset"] or given["bundles"] or given["checkpoint"])


def _options(given: dict[str, Any], say: Any) -> BenchOptions:
    """What is asked for: the preset, with what else was given in its place."""
    from ..benchmarks.suite.plan import BenchOptions
    from ..benchmarks.suite.protocols import find_protocol
    from ..runtime.devices.gpu import require_driver
    from ..runtime.restore.restorer import choose_device
    from ..runtime.restore.selection import locate_checkpoint

    preset = PRESETS[given["preset"]] if given["preset"] else None
    bundles, named = tuple(dict.fromkeys(given["bundles"])), given["checkpoint"]
    if named is None and preset is not None and not bundles:
        named = preset.checkpoint
    protocols = given["protocols"] or (preset.protocols if preset else ("paper-1080p",))
    suites = given["suites"] or (preset.suites if preset else SUITES)
    if bundles:
        suites = tuple(suite for suite in suites if suite != "build")
    target = given["target"] if was_given("target") or preset is None else preset.target
    if not bundles and set(suites) - {"build"} and choose_device(_target_name(target), given["device"]) != "cpu":
        require_driver()  # before anything is downloaded or built
    options = BenchOptions(
        tuple(map(find_protocol, protocols)),
        suites,
        None if named is None else Path(named),
        bundles,
        device=given["device"],
        against=tuple(dict.fromkeys(given["against"])),
        clip=given["clip"],
        clean=given["clean"],
        threads=given["threads"] or 0,
        graphs=given["graphs"],
        overlap=given["overlap"],
        turns=given["turns"],
        limit_s=given["limit"],
    )
    precisions = (given["precision"],) if was_given("precision") or preset is None else preset.precisions
    options = replace(options, target=target, precisions=precisions)
    if named is None:
        return options
    return replace(options, checkpoint=locate_checkpoint(named, say))  # what is refused is refused before a download


def _target_name(target: str) -> str:
    """The target; `auto` stands for one that this machine can run."""
    return "cpu" if target == AUTO else find_target(target).name


def _show(run: BenchRun, output: Path, page: Path | None, *, quiet: bool) -> None:
    """The tables on standard output, what went wrong on standard error, and the page. quiet: no tables."""
    from ..benchmarks.page import write_page
    from ..benchmarks.suite.compare import sides_of
    from ..benchmarks.suite.plan import BUNDLE
    from ..benchmarks.suite.tables import machine_of, problems_of, tables_of
    from .tables import print_rows

    if not quiet:
        for line in machine_of(run):
            console.say(line)
        for table in tables_of(run):
            print_rows(table.title, table.headings, table.rows)
        for against in dict.fromkeys(case.subject.side for case in run.cases if case.subject.side != BUNDLE):
            _print_changes(f"B / A, A: {against}, B", tuple(sides_of(run, against)))
    for line in problems_of(run):
        console.say(f"note: {line}")
    if page is not None:
        write_page(run, page)
    if not quiet:
        console.say(f"record: {output}" + (f", page: {page}" if page else ""))


def _print_changes(title: str, changes: Sequence[Change]) -> None:
    """A table for each protocol and subject."""
    from ..benchmarks.suite.compare import by_subject
    from .tables import print_rows

    for where, rows in by_subject(changes).items():
        print_rows(f"{title}: {where}", ("", "A", "B", "ratio", "95 %"), rows)


def _compare(given: dict[str, Any], *, quiet: bool) -> None:
    from ..benchmarks.suite.compare import compare_runs, worst

    before, after = map(read_run, given["compare"])
    changes = compare_runs(before, after)
    if not quiet:
        _print_changes("B / A", changes)
    limit = given["fail_above"]
    if limit is not None and (bad := worst(changes, limit)):
        what = "missing from B" if bad.after is None else f"worse: {' to '.join(bad.row[1:3])}"
        raise MachineError(f"{bad.name} is {what}; a factor of {limit:g} is allowed")


def main() -> None:
    """The program, for `python -m`."""
    start.swiftvr_bench()


if __name__ == "__main__":
    main()
