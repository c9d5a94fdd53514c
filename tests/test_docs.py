"""What the documents show is what comes out: their Python is run, and its output held against the block below it."""

import contextlib
import io
import pathlib
import re

import pytest

from graphengine.ir.op import Op
from tests.ops_page import page

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\s*```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def blocks(page: pathlib.Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_a_page_shows_what_its_code_prints(
    page: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Op, "registry", dict(Op.registry))  # an op that a page defines is gone after the page
    names: dict[str, object] = {"__name__": page.stem}
    for number, (code, shown) in enumerate(blocks(page)):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"{page.name}[{number}]", "exec"), names)
        if shown:
            assert printed.getvalue().rstrip() == shown.rstrip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: pathlib.Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_gives_the_commands_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "pip install -e . && graphengine demo" in readme
    assert 'pip install -e ".[test]" && pytest' in readme


def test_the_table_of_ops_is_what_the_classes_say() -> None:
    assert (ROOT / "docs" / "ops.md").read_text() == page(), "run python -m tests.ops_page > docs/ops.md"
