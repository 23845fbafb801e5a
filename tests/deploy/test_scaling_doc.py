"""docs/scaling.md has what benches/replicas/run writes into it."""

import re

from engine import ROOT


def test_its_tables_are_written() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text()
    tables = re.findall(r"<!-- begin (\w+): written by (\S+) --docs -->\n(.*?)<!-- end \1 -->", text, re.DOTALL)
    assert {name for name, _, _ in tables} == {"machine", "replicas", "models"}
    for name, program, table in tables:
        assert (ROOT / program).is_file()
        assert table.strip(), name
    replicas = next(table for name, _, table in tables if name == "replicas")
    assert re.findall(r"^\| (\d+) \|", replicas, re.MULTILINE) == ["1", "2", "3", "4"]
