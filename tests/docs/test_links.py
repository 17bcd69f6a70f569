"""Links between pages, and to headings in them, lead somewhere; README has those of the repository on GitHub."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mapper.cli.schema import Kind
from tests.docs.blocks import PAGES, ROOT

LINK = re.compile(r"(?<!`)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]*)\)")
GENERATED = {"cli.md", "api.md", *(f"file-{kind.value}.md" for kind in Kind)}
CHECKED = [page for page in (*PAGES, ROOT / "CHANGELOG.md") if page.is_file()]


def anchors(page: Path) -> set[str]:
    """What GitHub and MyST call the headings of `page`."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#{1,6} +(.*?) *#*$", text, re.MULTILINE)}


def slug(heading: str) -> str:
    """The anchor of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def links(page: Path) -> list[str]:
    """The targets of all links of `page`, code left out."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    return LINK.findall(text)


@pytest.mark.parametrize("page", CHECKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if found.parent == ROOT / "docs/reference":
            assert found.name in GENERATED, f"{page.name}: {target}"
            continue
        assert found.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name}: {target}"


def test_there_are_links() -> None:
    assert sum(len(links(page)) for page in CHECKED) > 50
    assert "what-is-not-modelled" in anchors(ROOT / "docs/machines.md")


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A *b* `c`, d\n\nsee [here](#a-b-c-d) and [there](nowhere.md)\n")
    assert links(page) == ["#a-b-c-d", "nowhere.md"]
    assert anchors(page) == {"a-b-c-d"}
