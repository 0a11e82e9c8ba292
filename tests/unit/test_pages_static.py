"""What of the dashboard is not ours is what its registry gave, with its licence; and no page takes anything else."""

from __future__ import annotations

import hashlib
import tomllib
from importlib.resources import files

from gateway.page import routes
from management.pages import frame
from management.pages.static_files import FILES

VENDOR = files("management.pages") / "static" / "vendor"


def test_every_vendored_file_is_listed_unchanged_and_has_its_licence() -> None:
    listed = tomllib.loads((VENDOR / "vendor.toml").read_text())["file"]
    for each in listed:
        assert hashlib.sha256((VENDOR / each["name"]).read_bytes()).hexdigest() == each["sha256"], each["name"]
        assert len((VENDOR / each["licence"]).read_text()) > 300
        assert each["integrity"].startswith("sha512-")
    there = {path.name for path in VENDOR.iterdir()} - {"vendor.toml"}
    assert there == {each["name"] for each in listed} | {each["licence"] for each in listed}
    assert {name.removeprefix("vendor/") for name in FILES if name.startswith("vendor/")} == {
        each["name"] for each in listed
    }


def test_no_file_of_ours_names_another_host() -> None:
    for folder in ("static", "templates"):
        for path in (files("management.pages") / folder).iterdir():
            if path.is_file():
                text = path.read_text().replace("http://www.w3.org/2000/svg", "")
                assert "//cdn" not in text
                assert 'src="http' not in text
                assert "url(http" not in text
                assert "style=" not in text, path.name
                assert " on" + "click" not in text, path.name


def test_no_page_takes_anything_from_elsewhere_or_stands_in_anothers_frame() -> None:
    for policy, data in ((frame.POLICY, set[str]()), (routes.POLICY, {"data:"})):
        allowed = {name: set(sources) for name, *sources in map(str.split, policy.split(";"))}
        assert set[str]().union(*allowed.values()) == {"'none'", "'self'", *data}
        assert "data:" not in allowed["script-src"]
        for name in ("default-src", "base-uri", "frame-ancestors"):
            assert allowed[name] == {"'none'"}
