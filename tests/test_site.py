"""The site of docs/: it builds without a warning, asks for nothing from another machine, and its search knows the names."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.nightly  # the whole site is built
_ASKED = re.compile(r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc=["']?((?:https?:)?//[^"'\s>]+)""")
_LINKED = re.compile(r"<link\b[^>]*>")
_STYLES = re.compile(r"""(?:url\(|@import\s)\s*["']?((?:https?:)?//[^"')\s]+)""")


def asked(text: str) -> list[str]:
    """What a browser would fetch from other machines to show a page."""
    links = [link for link in _LINKED.findall(text) if not re.search(r"rel=.?(canonical|next|prev|edit)", link)]
    return [*_ASKED.findall(text), *_STYLES.findall(text), *re.findall(r"(?:https?:)//[^\"'\s>]+", " ".join(links))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("mkdocs", "material", "mkdocstrings", "griffe"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_page_asks_another_machine(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 20
    found = {str(page.relative_to(site)): asked(page.read_text()) for page in pages}
    assert not {page: urls for page, urls in found.items() if urls}
    assert not [page for page in site.rglob("*.html") if 'data-md-component="source"' in page.read_text()]  # asks GitHub
    assert not [page for page in site.rglob("*.html") if 'class="mermaid"' in page.read_text()]


def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # served for any address, so its own are absolute
            continue
        for target in re.findall(r"""(?:src|href)=["']?([^"'\s>]+)""", page.read_text()):
            if not re.match(r"[a-z]+:|#|//|/", target):
                assert (page.parent / target.split("#")[0].split("?")[0]).exists(), f"{page.name}: {target}"


def test_the_search_knows_names_and_works_from_the_disk(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    text = {entry["location"]: f"{entry['title']} {entry['text']}" for entry in index["docs"]}
    assert any(location.startswith("mixers/hmix.html") for location in text)
    for name in ("HMix", "ImageLoader", "MixLoader", "__call__", "load_state_dict"):
        assert any(name in entry for location, entry in text.items() if location.startswith("api.html")), name
    assert (site / "search" / "search_index.js").exists()
    assert "iframe-worker.js" in (site / "index.html").read_text()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_without_a_network_finds_a_mixer_in_pages_on_the_disk(site: Path, tmp_path: Path) -> None:
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000", f"--user-data-dir={tmp_path}"]
    address = f"{(site / 'index.html').as_uri()}?q=HMix"
    command = ["chromium", *flags.split(), *offline, "--dump-dom", address]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    found = re.findall(r'<a href="([^"]*)"[^>]*md-search-result__link', shown)
    assert any(link.endswith("/mixers/hmix.html") for link in found)


def test_a_request_is_noticed() -> None:
    assert asked('<script src="https://x.org/a.js"></script>') == ["https://x.org/a.js"]
    assert asked("<link rel=stylesheet href=https://fonts.googleapis.com/css>") == ["https://fonts.googleapis.com/css"]
    assert asked("@import url(//x.org/a.css)") == ["//x.org/a.css"]
    assert not asked('<a href="https://x.org">x</a><link rel="canonical" href="https://x.org">')
