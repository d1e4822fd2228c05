"""Documents and the questions they answer, read from packages that anybody can have: what `hybrid` and `relevance` search in.

Every package is pinned by its SHA-256 (scripts/fit_corpus.py, which also holds sets of its own, and `PACKAGES` here) and kept in the
folder `fit_corpus.CACHE`; the demonstration's rows are those of `make demo-build`. A heading is asked only where one document has
it, and what is asked is not in the text of its document. Of the packages here the static model has seen nothing when it was made.
"""

from __future__ import annotations

import bz2
import hashlib
import html
import html.parser
import json
import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from bench import functions_quality
from scripts import fit_corpus

ASKED = Path(__file__).parent / "asked.json"

PACKAGES = {
    "apache2-doc": (
        "pool/main/a/apache2/apache2-doc_2.4.68-1~deb12u1_all.deb",
        "cee8fe80ffb5de2744cd690c3d795b489e43a1c44c4e3a634c521642f22d7835",
    ),
    "octave-doc": (
        "pool/main/o/octave/octave-doc_7.3.0-2_all.deb",
        "b27897cc7e3d688daa5cb8f8d1ea47077f3fbd205ce32e22522200ff0c1eadd5",
    ),
    "perl-doc": (
        "pool/main/p/perl/perl-doc_5.36.0-7+deb12u3_all.deb",
        "e9e3564ff5ade27de0585835f2acad769bcc545c0a0045a9f55d5401f27f7591",
    ),
    "perl-modules-5.36": (
        "pool/main/p/perl/perl-modules-5.36_5.36.0-7+deb12u3_all.deb",
        "3d237ccb1ea32727b6573d43c67d78337aa928a81148d36cef54b369a07c240a",
    ),
    "Translation-de": (
        "dists/bookworm/main/i18n/Translation-de.bz2",
        "2cc65c7f8b85d8a2964c3735bbf86be79bfd3342ef8908150e268137fe5dac7f",
    ),
}
"""Debian's packages of documentation, and descriptions of its packages in German: name -> (path on a mirror, SHA-256). 25 MB."""

QUESTIONS = 400
"""Asked of each set made here: intervals of about 0.04 to either side."""


class Asked(NamedTuple):
    """One query, and the documents that answer it."""

    text: str
    right: frozenset[str]


class Corpus(NamedTuple):
    """Documents by id, and what they are asked. *floor*: whether they are in the table of noise floors."""

    name: str
    documents: dict[str, str]
    queries: list[Asked]
    floor: bool = False
    language: str = "en"


class Block(NamedTuple):
    """A paragraph of a page in Markdown; *title*: what it can be asked by, empty where it is no heading or summary."""

    text: str
    title: str = ""


Pages = Mapping[str, Sequence[Block]]


def asked() -> dict[str, list[tuple[str, str]]]:
    """Return the questions of asked.json."""
    questions: dict[str, list[tuple[str, str]]] = json.loads(ASKED.read_text("utf-8"))
    return questions


def deb_files(name: str) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of the files in one of `PACKAGES`, downloaded once."""
    fetch(name)
    for path, body in sorted(fit_corpus.deb_files(name)):
        yield path, body.decode("utf-8", "replace")


def fetch(name: str) -> Path:
    """Return the checked local file of one of `PACKAGES`, downloaded once."""
    fit_corpus.DEBIAN.setdefault(name, PACKAGES[name])
    return fit_corpus.fetch(name)


# ---------------------------------------------------------------- sets of the static model


def fitted(til: Path | None, questions: Sequence[tuple[str, str]]) -> Iterator[Corpus]:
    """Yield the evaluation sets of the static model, one right document to each query."""
    for name, pairs in fit_corpus.evaluation_sets(til).items():
        documents = {str(number): pair.document for number, pair in enumerate(pairs)}
        queries = [Asked(pair.query, frozenset({str(number)})) for number, pair in enumerate(pairs)]
        yield Corpus(name, documents, queries, floor=True)
        if name == "til":
            titles = {str(number): pair.query for number, pair in enumerate(pairs)}
            whole = {item: f"{titles[item]}\n\n{body}" for item, body in documents.items()}
            yield Corpus("til, in other words", whole, by_title(questions, titles))


# ---------------------------------------------------------------- the demonstration


def articles(questions: Sequence[tuple[str, str]]) -> Iterator[Corpus]:
    """Yield the three sets of the demonstration's articles."""
    from demo import articles

    rows = [(row[0], row[1], row[4]) for row in articles.rows()]
    times = Counter(title for _, title, _ in rows)
    bodies = {item: body for item, _, body in rows}
    titles = [Asked(title, frozenset({item})) for item, title, _ in rows if times[title] == 1]
    whole = {item: f"{title}\n\n{body}" for item, title, body in rows}
    yield Corpus("articles: title -> body", bodies, titles)
    yield Corpus("articles: heading -> page", whole, headings(rows), floor=True)
    yield Corpus("articles, in other words", whole, by_title(questions, {item: title for item, title, _ in rows}))


def headings(rows: Sequence[tuple[str, str, str]]) -> list[Asked]:
    """Return the section headings of two words and more that one page has, in an order that says nothing."""
    pages: dict[str, set[str]] = {}
    for item, title, body in rows:
        prose = re.sub(r"^(```|~~~).*?^\1", "", body, flags=re.MULTILINE | re.DOTALL)  # "# ..." is a comment in code
        for heading in re.findall(r"^#{1,4} +(.+?)\s*#*$", prose, re.MULTILINE):
            if heading.lower() != title.lower() and len(heading.split()) > 1:
                pages.setdefault(heading, set()).add(item)
    alone = [heading for heading, items in pages.items() if len(items) == 1]
    alone.sort(key=lambda heading: hashlib.sha256(heading.encode()).digest())
    return [Asked(heading, frozenset(pages[heading])) for heading in alone]


def functions() -> Corpus:
    """Return the demonstration's functions and the twenty questions on them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "functions.db"
        functions_quality.fill(path, None)
        with closing(sqlite3.connect(path)) as conn:
            documents = dict(conn.execute("select id, symbol || char(10, 10) || code from functions").fetchall())
    questions = json.loads(functions_quality.QUESTIONS.read_text("utf-8"))["questions"]
    queries = [Asked(one["question"], frozenset(one["answers"]) & documents.keys()) for one in questions]
    return Corpus("functions, questions", documents, queries, floor=True)


def sentences(questions: Sequence[tuple[str, str]]) -> Corpus:
    """Return the demonstration's sentences."""
    from demo import sentences

    documents = {str(row[0]): str(row[1]) for row in sentences.rows()}
    return Corpus("sentences, in other words", documents, by_title(questions, documents), floor=True)


def by_title(questions: Sequence[tuple[str, str]], titles: dict[str, str]) -> list[Asked]:
    """Return questions whose answer is named by its title."""
    items: dict[str, set[str]] = {}
    for item, title in titles.items():
        items.setdefault(title, set()).add(item)
    return [Asked(question, frozenset(items[title])) for question, title in questions if title in items]


# ---------------------------------------------------------------- documentation


SECTION_WORDS = range(40, 2_000)
"""Of GNU Octave's manual: shorter ones say nothing, longer ones are lists of functions."""


def octave() -> Corpus:
    """Return the sections of GNU Octave's manual without their headings, which are what is asked."""
    pages = {
        path.rpartition("/")[2]: blocks(text)
        for path, text in deb_files("octave-doc")
        if "/octave.html/" in path and path.endswith(".html")
    }
    sections = {item: page for item, page in pages.items() if words(page) in SECTION_WORDS}
    documents, (queries,) = ask(sections, [lambda item: True], words_at_least=2, bare=True)
    return Corpus("octave: heading -> section", documents, queries)


DESCRIPTIONS = 600
"""Of 14,000 that are translated into German: about as many as `deb` has in English."""


def german() -> Corpus:
    """Return descriptions of Debian's packages in German, each asked by its synopsis."""
    text = bz2.decompress(fetch("Translation-de").read_bytes()).decode("utf-8")
    entries = re.findall(
        r"^Package: (\S+)\nDescription-md5: .*\nDescription-de: (.+)\n((?: .*\n?)+)", text, re.MULTILINE
    )
    by_synopsis = {
        synopsis: (package, re.sub(r"^ \.?", "", body, flags=re.MULTILINE)) for package, synopsis, body in entries
    }
    long_enough = [synopsis for synopsis, (_, body) in by_synopsis.items() if len(body) >= 150]
    chosen = sorted(long_enough, key=fit_corpus.order)[:DESCRIPTIONS]
    documents = dict(by_synopsis[synopsis] for synopsis in chosen)
    queries = [Asked(synopsis, frozenset({by_synopsis[synopsis][0]})) for synopsis in chosen[:QUESTIONS]]
    return Corpus("deb, de: synopsis -> description", documents, queries, language="de")


APACHE_LISTS = re.compile(
    r"(^|/)(index|sitemap|license|directives|quickreference|overrides|(directive|module)-dict)\.html$"
)
"""Pages that list what other pages say."""


def apache(language: str) -> Corpus:
    """Return the pages of the Apache server's manual in a language that it is translated to.

    Asked are headings and the summary lines of directives, of which a page has up to ninety.
    """
    pages = {
        path.partition(f"/manual/{language}/")[2]: blocks(text)
        for path, text in deb_files("apache2-doc")
        if f"/manual/{language}/" in path and f'<html lang="{language}"' in text and not APACHE_LISTS.search(path)
    }
    long_enough = {item: page for item, page in pages.items() if words(page) >= 200}
    documents, (queries,) = ask(long_enough, [lambda item: True], words_at_least=3)
    return Corpus(f"apache, {language}: heading -> page", documents, queries, language=language)


PERL_LISTS = {"perltoc", "perlfaq", "perlcn", "perljp", "perlko", "perltw", "perlartistic", "perlgpl"}
"""Pages that list the headings of others, are in another language, or are licences."""

PERL_WORDS = range(1_000, 5_000)
"""Long pages, but no books: sixty books more would be half of all words, and the bench twice as slow."""


def perl() -> Iterator[Corpus]:
    """Yield two sets of the long pages of Perl's manual: headings, and the questions of its FAQ, whose pages hold up to eighty."""
    pages = {
        re.sub(r".*/5\.36\.0/(pod/)?|\.(pod|pm)$", "", path): pod(text)
        for path, text in chain(deb_files("perl-doc"), deb_files("perl-modules-5.36"))
        if path.endswith((".pod", ".pm")) and "delta" not in path and Path(path).stem not in PERL_LISTS
    }
    chosen = {item: page for item, page in pages.items() if is_faq(item) or words(page) in PERL_WORDS}
    documents, asked_of = ask(chosen, [lambda item: not is_faq(item), is_faq], words_at_least=3)
    for name, queries in zip(("heading -> page", "question -> page of the FAQ"), asked_of, strict=True):
        yield Corpus(f"perl: {name}", documents, queries)


def is_faq(item: str) -> bool:
    """Tell whether a page of Perl's manual is one of questions and answers."""
    return item.startswith("perlfaq")


def words(page: Iterable[Block]) -> int:
    """Return how many words a page has."""
    return sum(len(block.text.split()) for block in page)


def ask(
    pages: Pages, which: Sequence[Callable[[str], bool]], words_at_least: int, *, bare: bool = False
) -> tuple[dict[str, str], list[list[Asked]]]:
    """Return pages without the titles that are asked, and for each choice of pages in *which* its questions, at most QUESTIONS.

    Titles are of so many words at least, each of one page only, chosen by hash. *bare* pages are without those that are not asked, too.
    """
    holders: dict[str, set[str]] = {}
    for item, page in pages.items():
        for block in page:
            if len(block.title.split()) >= words_at_least:
                holders.setdefault(block.title, set()).add(item)
    alone = {title: item for title, (item, *others) in holders.items() if not others}
    ordered = sorted(alone, key=fit_corpus.order)
    chosen = [[title for title in ordered if choose(alone[title])][:QUESTIONS] for choose in which]
    gone = set(chain(*chosen))
    documents = {
        item: "\n\n".join(block.text for block in page if not block.title or not (bare or block.title in gone))
        for item, page in pages.items()
    }
    return documents, [[Asked(title, frozenset({alone[title]})) for title in titles] for titles in chosen]


def pod(text: str) -> list[Block]:
    """Return the documentation of a Perl file: https://perldoc.perl.org/perlpod.

    >>> pod("=head2 Why C<int>?\\n\\nSee L<perlop/Floats>.\\n\\n=cut\\n\\nsub x;")
    [Block(text='## Why int?', title='Why int?'), Block(text='See perlop/Floats.', title='')]
    """
    found = []
    for part in re.findall(r"^=(?!cut)[a-z].*?(?=^=cut|\Z)", text, re.MULTILINE | re.DOTALL):
        shown = re.sub(r"^=begin\b.*?^=end\b", "", part, flags=re.MULTILINE | re.DOTALL)
        for paragraph in re.split(r"\n\s*\n", shown):
            command = re.match(r"=(\w+)\s*(.*)", paragraph, re.DOTALL)
            if command and command[1].startswith("head"):
                title = pod_text(" ".join(command[2].split()))
                found.append(Block(f"{'#' * int(command[1][4:])} {title}", title))
            elif command and command[1] == "item":
                found.append(Block(f"* {pod_text(command[2]).strip('* ')}"))
            elif not command and paragraph.strip():
                verbatim = paragraph.lstrip("\n").startswith((" ", "\t"))
                found.append(Block(paragraph.strip("\n") if verbatim else pod_text(paragraph.strip())))
    return found


def pod_text(text: str) -> str:
    """Return a paragraph without its formatting codes.

    >>> pod_text("B<See C<< -E<gt> >>>, L<the FAQ|perlfaq>X<faq>")
    'See ->, the FAQ'
    """
    escaped: list[str] = []

    def escape(code: re.Match[str]) -> str:
        escaped.append(html.unescape(f"&{code[1]};"))
        return ESCAPED

    text = re.sub(r"E<(\w+)>", escape, re.sub(r"[XZ]<[^<>]*>", "", text))
    text = re.sub(r"L<(?:([^<>|]*)\|)?([^<>]*)>", lambda link: link[1] or link[2], text)
    for count in (4, 3, 2):
        text = re.sub(rf"[A-Z]<{{{count}}}\s+(.*?)\s+>{{{count}}}", r"\1", text, flags=re.DOTALL)
    while (plain := re.sub(r"[BCFIS]<([^<>]*)>", r"\1", text)) != text:
        text = plain
    return re.sub(ESCAPED, lambda _: escaped.pop(0), text)


ESCAPED = "\ue000"
"""Stands for a sign that is written as an escape until the codes around it are gone."""


def blocks(text: str) -> list[Block]:
    """Return the headings and paragraphs of a page in HTML, without what only leads to other pages."""
    parser = _Page()
    parser.feed(text)
    parser.close()
    return parser.blocks


class _Page(html.parser.HTMLParser):
    """Collects blocks."""

    KEPT = frozenset({"h1", "h2", "h3", "h4", "h5", "p", "li", "dt", "dd", "pre", "th", "td", "caption"})
    DROPPED = frozenset({"script", "style", "head", "button"})
    GUIDES = frozenset({"page-header", "path", "quickview", "toplang", "bottomlang", "footer", "up", "top", "seealso"})
    GUIDES |= {"header", "nav-panel"}
    """Ids and classes of what leads to other pages."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Block] = []
        self.parts: list[str] = []
        self.tag = ""
        self.dropping: list[str] = []
        self.summary = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        names = {values.get("id"), *(values.get("class") or "").split()}
        if self.dropping:
            self.dropping += [tag] if tag == self.dropping[0] else []
        elif tag in self.DROPPED or (tag == "div" and names & self.GUIDES):
            self.dropping = [tag]
        elif tag in self.KEPT:
            self.flush()
            self.tag = tag
        elif tag == "a" and (values.get("href") or "").endswith("directive-dict.html#Description"):
            self.summary = True

    def handle_endtag(self, tag: str) -> None:
        if self.dropping:
            if tag == self.dropping[0]:
                self.dropping.pop()
        elif tag in self.KEPT:
            self.flush()

    def handle_data(self, data: str) -> None:
        if not self.dropping:
            self.parts.append(data)

    def close(self) -> None:
        super().close()
        self.flush()

    def flush(self) -> None:
        text = "".join(self.parts).replace("¶", "").strip("\n")
        text, tag = (text if self.tag == "pre" else " ".join(text.split())), self.tag
        self.parts, self.tag = [], ""
        if not text.strip():
            return
        if re.fullmatch(r"h\d", tag):
            title = re.sub(r"^(Appendix )?[\dA-Z]{1,3}(\.\d+)*\.? ", "", text)
            self.blocks.append(Block(f"{'#' * int(tag[1])} {title}", title if tag > "h1" else ""))
        elif tag == "td" and self.summary:
            self.summary = False
            self.blocks.append(Block(text, text))
        else:
            self.blocks.append(Block(f"```\n{text}\n```" if tag == "pre" else text))
