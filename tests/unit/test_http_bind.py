"""How a process listens, and that it does not wait for a server that cannot begin."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

import pytest

from process.http import bind, serving
from process.lifecycle import PortInUse

if TYPE_CHECKING:
    from pathlib import Path


async def test_small_packets_are_sent_at_once() -> None:
    told: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = bind("127.0.0.1", 0, "PORT")
    async with await asyncio.start_server(hear, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await asyncio.wait_for(told, 5), "else the body of an answer waits 40 ms for the receipt of its head"
        writer.close()
        await writer.wait_closed()


async def test_a_certificate_that_was_taken_away_meanwhile_ends_the_wait(tmp_path: Path) -> None:
    listener = bind("127.0.0.1", 0, "PORT")
    served = serving(None, listener, stop_grace_s=1.0, ssl_certfile=tmp_path / "gone.pem", ssl_keyfile=None)
    with pytest.raises(FileNotFoundError):
        await asyncio.wait_for(served.__aenter__(), 10)
    assert listener.fileno() == -1


def test_who_has_an_address_already_is_told_with_the_setting_that_changes_it() -> None:
    with bind("127.0.0.1", 0, "PORT") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"^127.0.0.1:{port} .*: set MANAGEMENT_PORT to another"):
            bind("127.0.0.1", port, "MANAGEMENT_PORT")


@pytest.mark.parametrize(
    ("refused", "setting"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "NODE_PORT"),  # below 1024, not as root
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "NODE_HOST"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "NODE_HOST"),
    ],
)
def test_an_address_that_cannot_be_had_is_the_fault_of_its_port_or_of_its_host(
    monkeypatch: pytest.MonkeyPatch, refused: OSError, setting: str
) -> None:
    def refuse(*_: object) -> None:
        raise refused

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(PortInUse, match=rf"\({refused.strerror}\): set {setting} to another"):
        bind("127.0.0.1", 80, "NODE_PORT")


def test_a_machine_that_knows_no_addresses_of_this_kind_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose kernel was started without IPv6: there is not even a socket."""

    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(PortInUse, match=r"\(Address family not supported by protocol\): set HOST to another"):
        bind("::", 8081, "PORT")
