"""The page as a document: whole, of itself, and allowed no more than it needs; and the sample that it offers."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from pointseg.data.synthetic import SyntheticScans
from pointseg.pages.service_page import page
from pointseg.serving.smoke import sample_scan


class Tags(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


TEXT = page().body.decode()
TAGS = Tags(TEXT).found
OWN = {kind: re.findall(rf"<{kind}>(.*?)</{kind}>", TEXT, re.DOTALL) for kind in ("script", "style")}


@pytest.mark.parametrize("kind", ["script", "style"])
def test_the_policy_names_the_one_script_and_the_one_style_by_hash(kind: str) -> None:
    assert [tag for tag, _ in TAGS].count(kind) == 1
    (text,) = OWN[kind]
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"{kind}-src 'sha256-{digest}'" in page().headers["Content-Security-Policy"]


def test_the_policy_allows_nothing_else() -> None:
    policy = page().headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
    assert "connect-src 'self'" in policy and "frame-ancestors 'none'" in policy


def test_nothing_comes_from_elsewhere() -> None:
    for _, attributes in TAGS:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert value.startswith("data:") or not re.search(r"^/|:", value)
    text = "".join(OWN["script"] + OWN["style"])
    assert not re.search(r"https?:|url\(|@import|innerHTML|localStorage|sessionStorage|cookie", text)


def test_labels_name_every_field() -> None:
    named = {attributes.get("for") for tag, attributes in TAGS if tag == "label"}
    assert {"file", "key"} <= named


def test_the_page_is_light() -> None:
    program = (
        "import sys; from pointseg.pages.service_page import page; from pointseg.serving.smoke import sample_scan; page(); "
        "sample_scan(); print([m for m in ('torch', 'matplotlib', 'jinja2', 'starlette') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_the_sample_is_a_scan_of_the_synthetic_world() -> None:
    points = np.frombuffer(sample_scan(), "<f4").reshape(-1, 4)
    np.testing.assert_array_equal(points, SyntheticScans(1, seed=60)[0].points)
    assert sample_scan() is sample_scan()
