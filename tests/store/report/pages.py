"""Reading a report back: its tables by id, its text, its tags."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser


class Page(HTMLParser):
    """A page, parsed. `tables`: rows of cells' texts by the table's id; its `tags`, `attributes` and `links`.

    `bare`: tables that are cut off where they are wider than a phone, for they are not inside a `.scroll`.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: Counter[str] = Counter()
        self.attributes: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.links: list[str] = []
        self.text = ""
        self.bare: list[str] = []
        self._is_scroll: list[bool] = []  # of the divs that are open
        self._rows: list[list[str]] = []
        self._is_cell = False
        self._skipped = 0
        self.feed(html)
        self.close()
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        given = dict(attrs)
        self.links += [given["href"] or ""] if tag == "a" else []
        classes = (given.get("class") or "").split()
        self.classes.update(classes)
        if tag == "div":
            self._is_scroll.append("scroll" in classes)
        elif tag == "table":
            if not any(self._is_scroll):
                self.bare.append(given.get("id") or "")
            self._rows = self.tables.setdefault(given.get("id") or "", [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
            self._is_cell = True
        self._skipped += tag in ("style", "title")

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self._is_scroll.pop()
        self._is_cell = self._is_cell and tag not in ("td", "th")
        self._skipped -= tag in ("style", "title")

    def handle_data(self, data: str) -> None:
        if self._skipped:
            return
        self.text += data
        if self._is_cell:
            self._rows[-1][-1] = " ".join((self._rows[-1][-1] + data).split())

    def body(self, table: str) -> list[list[str]]:
        """A table's rows without its heading."""
        return self.tables[table][1:]
