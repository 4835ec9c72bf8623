"""What stands out among labeling functions, in sentences: what fails, never votes, fell silent, or is not trusted."""

from __future__ import annotations

from collections.abc import Sequence

from weakfish.report.accuracies import FEW
from weakfish.report.functions import Page, Row


def notes(page: Page) -> list[str]:
    """What stands out, in sentences; words between backticks are names."""
    silent = [row.function.name for row in page.rows if not row.function.polarity and row.function.coverage is not None]
    said = [f"{_list(silent)} never {'votes' if len(silent) == 1 else 'vote'}."] if silent else []
    return said + [sentence for row in page.rows for sentence in _about(page, row)]


def _about(page: Page, row: Row) -> list[str]:
    function, name = row.function, f"`{row.function.name}`"
    said = []
    if row.faults.count:
        kind = f" ({row.faults.kind})" if row.faults.kind else ""
        said.append(f"{name} failed on {row.faults.count:,} row{'s' if row.faults.count > 1 else ''}{kind}.")
    dev = row.seen.get("dev")
    if dev and dev.accuracy is not None and dev.accuracy < 0.5 and (dev.votes or 0) >= FEW:
        said.append(f"{name} is wrong more often than right on dev gold: {dev.accuracy:.1%} of {dev.votes:,} votes.")
    prior = page.labels.class_balance.get(function.polarity[0]) if row.place is not None else None
    if function.weight is not None and prior is not None and function.weight < prior:
        said.append(
            f"The label model trusts {name} less than chance: learned {function.weight:.3f}, prior {prior:.3f}."
        )
    return said + _silence(page, row)


def _silence(page: Page, row: Row) -> list[str]:
    """A function that would have voted ten times or more in the last partitions, had it gone on, and did not vote."""
    voted = [part for part in page.partitions if sum(part.votes.get(row.function.name, []))]
    if not voted:
        return []
    last = page.partitions.index(voted[-1]) + 1
    before, after = (sum(part.rows for part in parts) for parts in (page.partitions[:last], page.partitions[last:]))
    share = sum(sum(part.votes[row.function.name]) for part in voted) / max(before, 1)
    if share * after < 10:
        return []
    return [
        f"`{row.function.name}` voted last in {voted[-1].partition}: on {share:.1%} of rows until then, on none of "
        f"{after:,} since."
    ]


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
