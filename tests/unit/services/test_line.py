"""L5: lines between hosts that break without a word."""

from __future__ import annotations

import socket

from strongroom.services import line


def test_kernel_is_told_to_notice_a_silent_line_within_half_a_minute() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as made:
        line.watch_line(made)
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, ask, times, unconfirmed = (
            made.getsockopt(socket.IPPROTO_TCP, option)
            for option in (
                socket.TCP_KEEPIDLE,
                socket.TCP_KEEPINTVL,
                socket.TCP_KEEPCNT,
                socket.TCP_USER_TIMEOUT,
            )
        )
    assert idle + ask * times <= 30
    assert unconfirmed <= 30_000
