"""Reads documents in Markdown: headings with their anchors, sections, tables, links."""

import re

HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
ROW = re.compile(r"^\|(.+)\|$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)]+)\)")


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    named = (re.sub(r"[^\w\- ]", "", title.lower()) for _, title in HEADING.findall(outside_code(text)))
    return {title.replace(" ", "-") for title in named}


def outside_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def section(text: str, title: str) -> str:
    """The text below a heading, down to the next of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"no section {title}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def table(text: str) -> list[list[str]]:
    """The cells of a section's tables, without their heads."""
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in ROW.findall(text)]
    rules = {number for number, row in enumerate(rows) if set("".join(row)) == {"-"}}
    return [row for number, row in enumerate(rows) if not {number, number + 1} & rules]


def plain(cell: str) -> str:
    return cell.replace("`", "").strip()
