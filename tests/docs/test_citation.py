"""CITATION.cff names this version, and the paper as README does."""

from __future__ import annotations

import pytest

import mapper
from tests.docs.blocks import ROOT

yaml = pytest.importorskip("yaml")


def test_the_citation_is_that_of_the_readme() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    readme = " ".join((ROOT / "README.md").read_text().split())
    paper = citation["preferred-citation"]
    assert citation["version"] == mapper.__version__ and citation["license"] == "Apache-2.0"
    assert citation["authors"] == [{"name": "The mapper developers"}]
    assert {"cff-version", "message", "title", "type"} <= citation.keys()
    assert paper["title"] in readme and paper["doi"] in readme and paper["journal"] in readme
    assert f"{paper['volume']}({paper['issue']}), {paper['year']}" in readme
    assert [author["family-names"] for author in paper["authors"]] == readme.partition(", \"Analysis")[0].rpartition(
        "Where it comes from ")[2].split(", ")  # fmt: skip
