"""Write the table in ``README.md`` and the pictures from the stored results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final

from benchmarks import backfill, capacity, formats, lengths, polls
from benchmarks.common import FOLDER, IMAGES, RESULTS, say

README: Final = FOLDER / "README.md"
BEGIN: Final = "<!-- written by report.py: begin -->"
END: Final = "<!-- written by report.py: end -->"
COLOURS: Final = {
    capacity.QUEUE: "#0b6e4f",
    capacity.BACKOFF: "#c98a00",
    capacity.RETRY: "#b23a48",
    backfill.ONE_TASK: "#0b6e4f",
    backfill.THREE_TASKS: "#3f9b7a",
    backfill.ENDING: "#7fc4a8",
    backfill.BY_HAND: "#b23a48",
    backfill.RESCHEDULED: "#c98a00",
    polls.BARE: "#8a8f98",
    polls.OURS: "#0b6e4f",
    polls.HTTP: "#c98a00",
    polls.DBT: "#b23a48",
}
PICTURES: Final = {
    "polls": "CPU per poll",
    "capacity": "Report runs running over time",
    "backfill": "Report runs running over time, in a backfill by a real Airflow",
}
NOTED: Final = ("python", "apache-airflow", "aiohttp", "requests")


def main() -> None:
    """Write everything that has results."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    IMAGES.mkdir(exist_ok=True)
    if "polls" in found:
        draw_polls(found["polls"])
    if "capacity" in found:
        draw_capacity(found["capacity"])
    if "backfill" in found:
        draw_backfill(found["backfill"])
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{table(found)}\n\n{END}{after}")
    say(f"Wrote {README.name} and {IMAGES.name}/.")


def table(found: dict[str, Any]) -> str:
    """Write the table, the machine and time of each measurement, and the pictures."""
    rows = [
        "| what | measured | bound | holds | alternatives, in the same run |",
        "|---|---|---|---|---|",
    ]
    for name, rows_of in ROWS.items():
        if name in found:
            rows += [f"| {' | '.join(row)} |" for row in rows_of(found[name])]
    pictures = (f"\n![{PICTURES[name]}](images/{name}.png)" for name in PICTURES if name in found)
    return "\n".join([*rows, "", *_provenance(found), *pictures])


def _provenance(found: dict[str, Any]) -> Iterator[str]:
    for name, result in found.items():
        machine, versions = result["machine"], result["versions"]
        noted = ", ".join(f"{each} {versions[each]}" for each in NOTED)
        peers = ", ".join(
            f"{each.removeprefix('apache-airflow-providers-')} {version}"
            for each, version in versions.items()
            if each.startswith("apache-airflow-providers-")
        )
        yield (
            f"- `{name}`: {result['date']}, `{result['command']}`; {machine['cpu']}, "
            f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, load "
            f"average {machine['load_average'][0]} at the end; {noted}; providers {peers}."
        )


def _held(holds: bool) -> str:
    return "yes" if holds else "**no**"


def polls_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the waits."""
    bounds = result["bounds"]
    for load in result["loads"]:
        ways, ratios = load["ways"], load["ratio_to_bare"]
        ours = ways[polls.OURS]
        yield (
            f"CPU per poll, {load['waiters']:,} waiting triggers over TLS",
            f"{ours['cpu_ms_per_poll']:.2f} ms, {ratios[polls.OURS]:.2f} x a bare session",
            f"{bounds['ratio_to_bare']} x",
            _held(ratios[polls.OURS] <= bounds["ratio_to_bare"]),
            _beside(ways, "cpu_ms_per_poll", "{:.2f} ms"),
        )
        yield (
            f"the same by medians, {load['waiters']:,}",
            f"{load['ratio_to_bare_of_medians'][polls.OURS]:.2f} x a bare session",
            "",
            "",
            "",
        )
        yield (
            f"memory per waiter with its imports, {load['waiters']:,}",
            f"{ours['kib_per_waiter']:.0f} KiB",
            f"{bounds['kib_per_waiter']} KiB",
            _held(ours["kib_per_waiter"] <= bounds["kib_per_waiter"]),
            _beside(ways, "kib_per_waiter", "{:.0f} KiB"),
        )
        yield (
            f"new connections per poll, {load['waiters']:,}",
            f"{ours['connections_per_poll']:g}",
            "0",
            _held(round(ours["connections_per_poll"], 2) == 0),
            _beside(ways, "connections_per_poll", "{:g}"),
        )
        yield (
            f"worst delay of the event loop, {load['waiters']:,}",
            f"{ours['loop_delay_worst_ms']:.0f} ms",
            "",
            "",
            _beside(ways, "loop_delay_worst_ms", "{:.0f} ms"),
        )
    for counted in result["connections_at_default_intervals"]:
        waiters = counted["waiters"]
        yield (
            f"new connections at the default intervals (scaled), {waiters} waiter"
            + ("s" if waiters > 1 else ""),
            f"{counted['connections']} in {counted['polls']} polls",
            "0 per poll",
            _held(round(counted["connections"] / counted["polls"], 2) == 0),
            "",
        )
    many = result["ten_thousand_at_defaults"]
    yield (
        f"{many['waiters']:,} waiters at all defaults, right after a start",
        f"{many['share_of_core']:.1%} of a core at {many['polls_per_second']:.0f} polls/s",
        "",
        "",
        "",
    )
    yield (
        f"{many['waiters']:,} waiters: memory each, worst delay of the event loop",
        f"{many['kib_per_waiter']:.0f} KiB, {many['loop_delay_worst_ms']:.0f} ms",
        "",
        "",
        "",
    )


def _beside(ways: dict[str, Any], name: str, form: str) -> str:
    return ", ".join(f"{way} {form.format(ways[way][name])}" for way in ways if way != polls.OURS)


def lists_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of waits on v1."""
    waits = f"{result['waiters']} waits on v1 by the list"
    ours, gets = result["ways"]["by the list"], result["ways"]["one GET each"]
    for what, name, unit in (
        ("requests per wait", "requests_per_wait", ""),
        ("CPU per wait", "cpu_ms_per_wait", " ms"),
    ):
        beside = f"one GET each {gets[name]:.3g}{unit}"
        yield f"{what}, {waits}", f"{ours[name]:.3g}{unit}", "", "", beside


def lengths_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of report runs by their length."""
    for length in lengths.LENGTHS:
        ways = {each["way"]: each for each in result["found"] if each["length"] == length}
        ours = ways.pop(lengths.OURS)
        yield (
            f"a report run of about {length} s: noticed so much later, requests",
            _lateness(ours),
            "",
            "",
            ", ".join(f"{way} {_lateness(each)}" for way, each in ways.items()),
        )


def _lateness(found: dict[str, Any]) -> str:
    return f"{found['late_mean']:.1f} s ({found['late_worst']:.0f} s), {found['requests']:.1f}"


def capacity_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the simulated backfills."""
    for pace, bounds in result["bounds"].items():
        ways = {each["way"]: each for each in result["ways"] if each["pace"] == pace}
        ours = ways.pop(capacity.QUEUE)
        what = f"{result['runs']} creates-with-wait, limit {result['limit']}, {pace}"
        yield (
            f"{what}: makespan",
            f"{ours['makespan_seconds']:.1f} s, {ours['of_lower_bound']:.2f} x the least possible",
            f"{bounds['of_lower_bound']:.2f} x",
            _held(ours["of_lower_bound"] <= bounds["of_lower_bound"]),
            ", ".join(f"{way} {each['of_lower_bound']:.2f} x" for way, each in ways.items()),
        )
        yield (
            f"{what}: refused POSTs per run",
            f"{ours['refused_per_run']:.2f}",
            f"{bounds['refused_per_run']:.0f}",
            _held(ours["refused_per_run"] <= bounds["refused_per_run"]),
            ", ".join(f"{way} {each['refused_per_run']:.2f}" for way, each in ways.items()),
        )


def backfill_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the backfills in a real Airflow."""
    ways = {each["way"]: each for each in result["ways"]}
    ours = ways.pop(backfill.ONE_TASK)
    what = (
        f"backfill of {result['intervals']} weeks, limit {result['limit']}, "
        f"{result['run_seconds']:g} s runs"
    )
    least = ours["lower_bound_seconds"]
    seconds, slots = "makespan_seconds", "slot_seconds_per_interval"
    is_below = ways[backfill.THREE_TASKS][slots] < ways[backfill.BY_HAND][slots]
    bounds = {
        seconds: (
            f"{backfill.BOUND_SECONDS:.0f} s",
            _held(ours[seconds] <= backfill.BOUND_SECONDS),
        ),
        slots: ("three tasks below by hand", _held(is_below)),
    }
    for each, name, form in (
        (f"wall time (least possible: {least:.0f} s)", seconds, "{:.0f} s"),
        ("worker-slot seconds per interval", slots, "{:.1f}"),
        ("retries used", "retries", "{}"),
        ("of these by Airflow's own mistake", "retries_by_mismatch", "{}"),
        ("POSTs per interval", "posts_per_interval", "{:.2f}"),
        ("report runs per interval", "report_runs_per_interval", "{:.2f}"),
        ("complete files landed", "whole_files", "{}"),
    ):
        yield (
            f"{what}: {each}",
            form.format(ours[name]),
            *bounds.get(name, ("", "")),
            ", ".join(f"{way} {form.format(found[name])}" for way, found in ways.items()),
        )


def imports_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the imports."""
    medians = dict(result["median_ms"])
    ours, bound = medians.pop("reportrun"), result["bound_ms"]
    loads = result["loads"]["reportrun"]
    yield (
        "importing operators and sensors, on top of `airflow.sdk`",
        f"{ours:.0f} ms ({result['median_cpu_ms']['reportrun']:.0f} ms of CPU)",
        f"{bound:.0f} ms",
        _held(ours <= bound),
        ", ".join(f"{way} {ms:.0f} ms" for way, ms in medians.items()),
    )
    yield (
        "HTTP libraries that this loads",
        ", ".join(loads) or "none",
        "none",
        _held(not loads),
        ", ".join(
            f"{way}: {' and '.join(loaded) or 'none'}"
            for way, loaded in result["loads"].items()
            if way != "reportrun"
        ),
    )
    parsed = dict(result["parse_median_ms"])
    yield (
        "parsing the weekly example's DAG file, on top of `airflow.sdk`",
        f"{parsed.pop('weekly example'):.0f} ms",
        "",
        "",
        ", ".join(f"{way} {ms:.0f} ms" for way, ms in parsed.items()),
    )


def landing_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the landings."""
    bounds = result["bounds"]
    for where, name in (("on disk", "on_disk"), ("in memory", "in_memory")):
        found = result[name]
        if not found:
            continue
        is_bound = name == "in_memory"
        yield (
            f"landing 1 GiB on a local path, {where}",
            f"{found['mib_per_second']['landing']} MiB/s, {found['of_curl']:.2f} x curl",
            f"{bounds['of_curl']} x" if is_bound else "",
            _held(found["of_curl"] >= bounds["of_curl"]) if is_bound else "",
            f"`curl -o` {found['mib_per_second']['curl']} MiB/s",
        )
        yield _cpu_row(found, curl="`curl -o`")
    memory = max(found["memory_mib"] for found in (result["on_disk"], result["in_memory"]) if found)
    yield (
        "growth of resident memory by that",
        f"{memory:.0f} MiB",
        f"{bounds['memory_mib']} MiB",
        _held(memory <= bounds["memory_mib"]),
        "",
    )
    if "in_s3" in result:
        yield from s3_rows(result["in_s3"])


def s3_rows(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the landings in S3."""
    bounds, speeds, memory = found["bounds"], found["mib_per_second"], found["memory_mib"]
    yield (
        "landing 1 GiB in S3",
        f"{speeds['landing']} MiB/s, {found['of_curl_and_boto3']:.2f} x curl and boto3",
        f"{bounds['of_curl_and_boto3']} x",
        _held(found["of_curl_and_boto3"] >= bounds["of_curl_and_boto3"]),
        f"curl and boto3 {speeds['curl_and_boto3']} MiB/s, HttpToS3Operator {speeds['http_to_s3']}",
    )
    yield (
        "growth of resident memory by that",
        f"{memory['landing']:.0f} MiB",
        f"{bounds['memory_mib']} MiB",
        _held(memory["landing"] <= bounds["memory_mib"]),
        f"HttpToS3Operator {memory['http_to_s3']:.0f} MiB",
    )
    yield _cpu_row(found, curl_and_boto3="curl and boto3")


def _cpu_row(found: dict[str, Any], **names: str) -> tuple[str, ...]:
    """Return the row with the CPU of landings, of their servers, and of the alternatives."""
    servers = found.get("server_cpu_seconds", {})

    def told(way: str) -> str:
        server = f" (server {servers[way]:.2f} s)" if servers else ""
        return f"{found['cpu_seconds'][way]:.2f} s{server}"

    others = ", ".join(f"{name} {told(way)}" for way, name in names.items())
    return ("CPU of that", told("landing"), "", "", others)


def largest_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the largest file."""
    for where, found in (("on a local path", result["on_disk"]), ("in S3", result["in_s3"])):
        if found is not None:
            told = f"{found['seconds']:.0f} s, {found['memory_mib']:.0f} MiB more memory"
            yield (f"landing 5 GB {where}, once", told, "", "", "")


def formats_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the conversion."""
    speeds, memory = dict(result["mib_per_second"]), dict(result["memory_mib"])
    bounds, libraries = result["bounds"], result["libraries"]
    ours, grown = speeds.pop(formats.OURS), memory.pop(formats.OURS)
    exact, cpu = speeds.pop(formats.EXACT), dict(result["cpu_seconds"])
    yield (
        "converting 1 GiB of CSV to Parquet",
        f"{ours} MiB/s, {result['of_exact']:.2f} x DuckDB with the same types",
        f"{bounds['of_exact']} x",
        _held(result["of_exact"] >= bounds["of_exact"]),
        f"duckdb {libraries[formats.DUCKDB]} with the same types {exact} MiB/s",
    )
    yield (
        "the same beside tools that guess types, and make a float of money",
        f"{ours} MiB/s",
        "",
        "",
        ", ".join(f"{way} {libraries[way]} {speed} MiB/s" for way, speed in speeds.items()),
    )
    yield (
        "CPU of that",
        f"{cpu.pop(formats.OURS):.1f} s",
        "",
        "",
        ", ".join(f"{way} {seconds:.1f} s" for way, seconds in cpu.items()),
    )
    yield (
        "growth of resident memory by that",
        f"{grown:.0f} MiB",
        f"{bounds['memory_mib']} MiB",
        _held(grown <= bounds["memory_mib"]),
        ", ".join(f"{way} {mib:.0f} MiB" for way, mib in memory.items()),
    )


ROWS: Final = {
    "polls": polls_rows,
    "lists": lists_rows,
    "lengths": lengths_rows,
    "capacity": capacity_rows,
    "backfill": backfill_rows,
    "landing": landing_rows,
    "largest": largest_rows,
    "formats": formats_rows,
    "imports": imports_rows,
}


def draw_polls(result: dict[str, Any]) -> None:
    """Draw CPU per poll."""
    plt = _pyplot()
    figure, axes = plt.subplots(
        1, len(result["loads"]), figsize=(8, 2.4), sharex=True, sharey=True, layout="constrained"
    )
    for axis, load in zip(axes, result["loads"], strict=True):
        ways = list(load["ways"])
        spent = [load["ways"][way]["cpu_ms_per_poll"] for way in ways]
        bars = axis.barh(ways, spent, color=[COLOURS[way] for way in ways])
        axis.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        axis.axvline(
            load["ways"][polls.BARE]["cpu_ms_per_poll"] * result["bounds"]["ratio_to_bare"],
            color="#444444",
            linestyle=":",
            linewidth=1,
        )
        axis.set_title(f"{load['waiters']:,} waiters", fontsize=10)
        axis.set_xlabel("CPU per poll, ms (dotted: the bound)", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.margins(x=0.18)
    axes[0].invert_yaxis()
    _save(figure, "polls")


def draw_capacity(result: dict[str, Any]) -> None:
    """Draw the number of running report runs over time, for each alternative and pace."""
    plt = _pyplot()
    paces = list(result["paces"])
    figure, grid = plt.subplots(
        3, len(paces), figsize=(9, 4.6), sharex=True, sharey=True, layout="constrained"
    )
    for column, pace in enumerate(paces):
        ways = [each for each in result["ways"] if each["pace"] == pace]
        for axis, each in zip(grid[:, column], ways, strict=True):
            times, running = _running(each["spans_seconds"])
            axis.fill_between(times, running, step="post", color=COLOURS[each["way"]], alpha=0.8)
            axis.axhline(result["limit"], color="#444444", linestyle=":", linewidth=1)
            axis.axvline(each["lower_bound_seconds"], color="#444444", linestyle=":", linewidth=1)
            axis.set_title(
                f"{each['way']}, {pace}: {each['makespan_seconds']:.0f} s, "
                f"{each['refused']} refused POSTs",
                fontsize=9,
            )
            axis.tick_params(labelsize=8)
        grid[-1, column].set_xlabel("seconds; dotted: limit, and least possible end", fontsize=8)
    grid[1, 0].set_ylabel("report runs running", fontsize=8)
    _save(figure, "capacity")


def draw_backfill(result: dict[str, Any]) -> None:
    """Draw the number of running report runs over time, for each alternative."""
    plt = _pyplot()
    ways = result["ways"]
    figure, axes = plt.subplots(
        len(ways), 1, figsize=(9, 1.4 * len(ways)), sharex=True, sharey=True, layout="constrained"
    )
    for axis, each in zip(axes, ways, strict=True):
        times, running = _running(each["spans_seconds"])
        axis.fill_between(times, running, step="post", color=COLOURS[each["way"]], alpha=0.8)
        axis.axhline(result["limit"], color="#444444", linestyle=":", linewidth=1)
        axis.axvline(each["lower_bound_seconds"], color="#444444", linestyle=":", linewidth=1)
        axis.set_title(
            f"{each['way']}: {each['makespan_seconds']:.0f} s, "
            f"{each['slot_seconds_per_interval']:.1f} worker-slot seconds per interval, "
            f"{each['refused']} refused POSTs, {each['retries']} retries",
            fontsize=9,
        )
        axis.tick_params(labelsize=8)
    axes[-1].set_xlabel(
        "seconds since `airflow backfill create`; dotted: limit, and least possible end", fontsize=8
    )
    figure.supylabel("report runs running", fontsize=8)
    _save(figure, "backfill")


def _running(spans: list[list[float]]) -> tuple[list[float], list[int]]:
    """Count from the starts and ends of report runs how many run after each of them."""
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    times = [0.0, *(at for at, _ in changes)]
    return times, [0, *accumulate(change for _, change in changes)]


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _save(figure: Any, name: str) -> None:
    figure.savefig(IMAGES / f"{name}.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
