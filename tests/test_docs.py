"""The examples of the documentation are run, and its links followed.

Of the command lines in it, those of ``lsegdiff`` are parsed, and those that show what they print are run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import typer

from lsegdiff_core import cli
from lsegdiff_core.config import from_dict
from lsegdiff_core.training.config import TrainConfig

# decoding in pycocotools
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def run(page: Path) -> dict[str, object]:
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)
    return names


def commands(page: Path) -> list[tuple[list[str], str]]:
    """Return the words of each ``lsegdiff`` in a console block, without that one, and the output on show."""
    found = []
    for block in blocks(page, "console"):
        for example in block.removeprefix("$ ").split("\n$ "):
            line, _, output = example.replace("\\\n", " ").partition("\n")
            name, *words = shlex.split(line, comments=True)
            if name == "lsegdiff":
                found.append((words, output.strip()))
    return found


COMMANDS = [
    pytest.param(words, output, id=f"{page.name}: {' '.join(words)}")
    for page in PAGES
    for words, output in commands(page)
]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """What the site adds to MkDocs; it needs MkDocs only when the site is built."""
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@EACH_PAGE
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(page)
    if page.name == "README.md":
        assert names["mask"].any()


@pytest.mark.parametrize(("words", "output"), COMMANDS)
def test_command_lines_are_understood(words: list[str], output: str) -> None:
    command = typer.main.get_command(cli.app)
    context = command.make_context("lsegdiff", list(words))
    while hasattr(command, "resolve_command"):  # a group
        name, command, words = command.resolve_command(context, words)
        context = command.make_context(name, list(words), parent=context)


@pytest.mark.parametrize(("words", "output"), [example for example in COMMANDS if example.values[1]])
def test_command_lines_print_what_is_on_show(
    words: list[str], output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.app(words, standalone_mode=False)
    assert capsys.readouterr().out.replace(os.sep, "/").strip() == output


def test_the_sidecar_on_show_is_what_the_example_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "exporting.md"
    (shown,) = (json.loads(block) for block in blocks(page, "json"))
    written = run(page)["about"]
    # kernels differ in the last bits, and versions go on
    for about in (shown, written):
        del about["mask"]["sha256"]
        about["versions"] = list(about["versions"])
    assert shown == written


def test_the_training_config_on_show_is_valid() -> None:
    (example,) = blocks(ROOT / "docs" / "training-your-own.md", "json")
    assert from_dict(TrainConfig, json.loads(example)).data.sources[0].folder == "mydata"


@EACH_PAGE
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        assert not path or (page.parent / path).exists(), target
        linked = page.parent / path if path else page
        # the anchors of names in the API come from the docstrings; the build of the site checks them
        if anchor and linked.suffix == ".md" and not anchor.startswith("lsegdiff_core."):
            assert anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@EACH_PAGE
def test_links_into_the_code_name_what_is_defined_there(page: Path, hooks: ModuleType) -> None:
    for link in hooks.LINK.finditer(page.read_text(encoding="utf-8")):
        assert (ROOT / link["path"]).is_file(), link[0]
        if link["name"]:
            assert hooks.line_of((ROOT / link["path"]).read_text(encoding="utf-8"), link["name"])


def test_a_link_into_the_code_finds_the_line(hooks: ModuleType) -> None:
    source = "A, B = 1, 2\nC: int = 3\n\n@cache\ndef f(): ...\n\nclass K:\n    x: int\n    def m(self): ...\n"
    lines = {name: hooks.line_of(source, name) for name in ("A", "B", "C", "f", "K", "K.x", "K.m")}
    assert lines == {"A": 1, "B": 1, "C": 2, "f": 5, "K": 7, "K.x": 8, "K.m": 9}
    for name in ("m", "f.x", "K.y"):
        with pytest.raises(LookupError):
            hooks.line_of(source, name)


def test_every_page_is_in_the_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- .+: (.+\.md)$", config, flags=re.MULTILINE)
    assert sorted(listed) == [page.name for page in PAGES[1:]]


def test_the_site_builds_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path)))
    mathematics = (tmp_path / "mathematics.html").read_text(encoding="utf-8")
    assert mathematics.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') > 20
    assert "arithmatex" not in mathematics
    for page in tmp_path.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        assert not re.search(r'<(?:script|img|link)[^>]+(?:src|href)="(?:https?:)?//', html), page
