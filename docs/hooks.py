"""What the site adds to MkDocs: links into the code with their line, and equations as MathML.

A link such as ``[sigma_at](../src/lsegdiff_core/diffusion/schedule.py#sigma_at)`` opens the file where the pages are
read as plain files. The site gets a page of that file, and the link leads to the line where the name is defined; a
name that is not defined there stops the build.
"""

from __future__ import annotations

import ast
import html
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(\.\./(?P<path>[^)#\s]+)(?:#(?P<name>[\w.]+))?\)")
MATH = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', flags=re.DOTALL)
LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml", ".yml": "yaml", ".md": "markdown"}
PAGES = "source/"


def line_of(source: str, name: str) -> int:
    """Return the line of ``source`` where ``name`` is defined: a function, a class, a constant or ``Class.member``.

    Raises
    ------
    LookupError
        If it is not defined there.
    """
    body, line = ast.parse(source).body, 0
    for part in name.split("."):
        node = next((node for node in body if part in _names(node)), None)
        if node is None:
            raise LookupError(name)
        body, line = getattr(node, "body", []), node.lineno
    return line


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return []


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside docs/ that a page links to."""
    from mkdocs.structure.files import File, InclusionLevel

    paths = {link["path"] for page in files.documentation_pages() for link in LINK.finditer(page.content_string)}
    for path in sorted(paths):
        text = (ROOT / path).read_text(encoding="utf-8")
        language = LANGUAGES.get(Path(path).suffix, "text")
        content = (
            f"---\ntitle: {path}\nsearch: {{exclude: true}}\n---\n\n# {path}\n\n"
            f'~~~~~~ {{.{language} linenums="1"}}\n{text}\n~~~~~~\n'
        )
        files.append(File.generated(config, f"{PAGES}{path}.md", content=content, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links that leave docs/ to the pages of those files."""
    if page.file.src_uri.startswith(PAGES):
        return markdown
    beside = posixpath.dirname(page.file.src_uri) or "."

    def target(link: re.Match[str]) -> str:
        uri = posixpath.relpath(f"{PAGES}{link['path']}.md", beside)
        if link["name"] is None:
            return f"]({uri})"
        line = line_of((ROOT / link["path"]).read_text(encoding="utf-8"), link["name"])
        return f']({uri}#__codelineno-0-{line} "{link["path"]}, line {line}")'

    return LINK.sub(target, markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write equations as MathML, which browsers draw by themselves, and make lines of code known as link targets."""
    from latex2mathml.converter import convert

    if page.file.src_uri.startswith(PAGES):
        page.present_anchor_ids = {
            *(page.present_anchor_ids or ()),
            *re.findall(r'id="(__codelineno-[\d-]+)"', content),
        }
    return MATH.sub(
        lambda math: convert(html.unescape(math[2]).strip(), display="inline" if math[1] == "span" else "block"),
        content,
    )
