"""What a build says: before, meanwhile, and of what it could not do well."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Protocol

from datasette_embeddings.database import connect, table_names, translated
from datasette_embeddings.language import share_not_english
from datasette_embeddings.planning import estimate_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from datasette_embeddings import embed
    from datasette_embeddings.catalog import Collection
    from datasette_embeddings.planning import Task

LOOKED_AT = 200
"""Texts whose language is looked at."""

MANY_UNKNOWN = 0.15
"""English text has 1 to 7 percent of words that the static table lacks or cuts up; other languages of Europe 18 and more."""

MANY_FOREIGN = 0.2

THUMBNAIL_BYTES = 10_000
"""What a thumbnail takes in the file, about."""

NAMED = 3
"""Pictures named as examples of those that have no vector for one reason."""


class Reporter(Protocol):
    """Where a build says what it does."""

    def line(self, text: str) -> None:
        """Say one thing."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show progress of long work; the function yielded takes how much was done since the last call."""

    def confirm(self, question: str, otherwise: str) -> None:
        """Return when the person agrees; raise with *otherwise* when there is nobody to ask."""


def accounts(collection: Collection | None) -> str:
    """Return a collection's counts in words."""
    if collection is None or collection.embedded is None:
        return "never built"
    return (
        f"{collection.rows:,} {'pictures' if collection.images else 'rows'}: {collection.embedded:,} embedded, {collection.skipped:,} skipped, "
        f"{collection.failed:,} failed"
    )


def dry_run_line(task: Task) -> str:
    """Return what a build would do for one collection."""
    plan, count = task.plan, task.texts_to_embed
    waiting = plan.waiting()
    cost = task.estimate_cost
    money = "price unknown" if cost is None else "no cost" if cost == 0 else f"about ${cost:.4f}"
    pictures = task.spec.images
    drawn = THUMBNAIL_BYTES if pictures else 0
    grown = waiting * (4 * (task.model.dimensions or 0) + 60 * task.spec.similarities + drawn)
    seconds = estimate_seconds(task)
    lasting = "" if seconds is None else f", about {duration(seconds)}"
    tokens = "" if pictures else f"about {task.estimate_tokens:,} tokens, "
    return (
        f"{task.spec.name}: {plan.rows:,} rows, {plan.added:,} new, {plan.changed:,} changed, {task.removed:,} gone, "
        f"{len(plan.issues):,} without a vector; {count:,} {task.sort} to embed by {task.model.name}, "
        f"{tokens}{money}{lasting}, about {size(grown)} more"
    )


def duration(seconds: float) -> str:
    """Return a length of time in words.

    >>> duration(0.4), duration(75), duration(4000)
    ('1 s', '75 s', '67 min')
    """
    return f"{max(1, round(seconds))} s" if seconds < 120 else f"{round(seconds / 60)} min"


def size(count: float) -> str:
    """Return a number of bytes in words.

    >>> size(1_234), size(12_345_678)
    ('1 kB', '12.3 MB')
    """
    return f"{count / 1e3:.0f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def summary(task: Task, outcome: embed.Outcome, collection: Collection, seconds: float) -> str:
    """Return what a build did for one collection."""
    plan = task.plan
    changes = [
        f"{plan.added:,} new",
        f"{plan.changed:,} changed",
        f"{task.removed:,} removed",
        f"{outcome.texts:,} {task.sort.removesuffix('s') if outcome.texts == 1 else task.sort} embedded",
    ]
    if outcome.reused:
        changes.append(f"{outcome.reused:,} {'vector' if outcome.reused == 1 else 'vectors'} reused")
    if outcome.cost:
        changes.append(f"${outcome.cost:.4f}")
    return f"{task.spec.name}: {accounts(collection)}; {', '.join(changes)}; {seconds:.1f} s"


def prompts_line(task: Task) -> str | None:
    """Return what the model puts before texts by itself, None where the collection says it, or where there is nothing."""
    prompts = task.prompts
    if not (prompts.words and prompts.origin):
        return None
    return (
        f"{task.model.name} puts {prompts.words}, {prompts.origin}; `prefix` of the collection (--prepend of `embed`) says "
        'otherwise, and "" that there is to be none'
    )


def warnings(task: Task, outcome: embed.Outcome) -> list[str]:
    """Return what a build could not do well, and what to do about it."""
    said = []
    model, plan = task.model, task.plan
    if outcome.truncated:
        read = (model.max_tokens or 0) * outcome.truncated
        share = read / max(1, read + outcome.tokens_unread)
        said.append(
            f"{outcome.truncated:,} texts are longer than {model.name} reads ({model.max_tokens} tokens): {share:.0%} of them "
            "is read; embed them in chunks (`chunk: true`, --chunk), put what matters first in `columns` or `template`, or use a "
            "model that reads more"
        )
    if plan.cut:
        said.append(f"{plan.cut:,} texts were cut at the limit for one text; split such rows")
    if outcome.words and outcome.unknown / outcome.words > MANY_UNKNOWN:
        said.append(
            f"{outcome.unknown / outcome.words:.0%} of the words are unknown to {model.name} and count for nothing; "
            "another model may know them: see `datasette embeddings models`"
        )
    share, language = share_not_english(_some_texts(plan))
    if model.language == "English" and share > MANY_FOREIGN:
        said.append(
            f"{share:.0%} of the texts looked at seem not to be English ({language}), for which {model.name} was made; "
            "use a multilingual model, such as sentence-transformers/intfloat/multilingual-e5-small"
        )
    said += [f"{reason}: {_which(ids, task)}" for reason, ids in _reasons(plan)]
    said += [f"{reason}: {count:,} chunks, others of their rows are embedded" for reason, count in plan.unread.items()]
    return said


def _some_texts(plan: embed.Plan) -> list[str]:
    sql = "select content from texts where typeof(content) = 'text' order by hash limit ?"
    return [row[0] for row in plan.pending.execute(sql, [LOOKED_AT])]


def _reasons(plan: embed.Plan) -> list[tuple[str, list[str]]]:
    """Return (why some rows have no vector, their ids), the commonest reasons first."""
    found: dict[str, list[str]] = {}
    for item, status, reason in plan.issues:
        found.setdefault(f"{status}, {reason}", []).append(item)
    return sorted(found.items(), key=lambda pair: -len(pair[1]))[:5]


def _which(ids: Sequence[str], task: Task) -> str:
    """Say how many rows, and which pictures are meant, as somebody has to look at those."""
    if not task.spec.images:
        return f"{len(ids):,} rows"
    named = ", ".join(repr(item) for item in ids[:NAMED])
    return f"{len(ids):,} {'picture' if len(ids) == 1 else 'pictures'} ({named}{', ...' if len(ids) > NAMED else ''})"


def size_by_table(path: Path) -> str:
    """Return the size of a file, and of its largest tables where SQLite can tell."""
    import sqlite3

    total = size(path.stat().st_size)
    with closing(connect(path)) as conn, translated(path):
        try:
            rows = conn.execute(
                "select coalesce(m.tbl_name, s.name), sum(s.pgsize) from dbstat s left join sqlite_master m "
                "on m.name = s.name group by 1 order by 2 desc limit 4"
            ).fetchall()
        except sqlite3.OperationalError:
            return f"{total}, {len(table_names(conn))} tables"
    return total + ": " + ", ".join(f"{name} {size(count)}" for name, count in rows)
