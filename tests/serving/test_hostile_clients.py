"""Clients that are too many, too slow, too large, or gone: each is told, no other notices."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import openai
import pytest
from served import (
    PROMPT,
    Held,
    backend,
    calibration,
    completion_body,
    post,
    read_reply,
    running,
    wait_for,
)


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def error(reply: bytes) -> dict[str, object]:
    found: dict[str, object] = json.loads(reply.partition(b"\r\n\r\n")[2])["error"]
    return found


def test_too_many_questions_are_told_to_come_back() -> None:
    held = Held(backend(), calibration())
    with running(held, queue=3) as server, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(server.complete) for _ in range(3)]
        wait_for(lambda: server.metric("cogcalib_queue") == 3)
        got = server.complete()
        assert got.status_code == 503
        assert got.headers["Retry-After"] == "1"
        assert got.json()["error"]["code"] == "overloaded"
        strict = openai.OpenAI(base_url=server.url, api_key="x", max_retries=0)
        with pytest.raises(openai.InternalServerError):
            strict.completions.create(model="atlas", prompt=PROMPT)
        held.let_go.set()
        assert [each.result().status_code for each in waiting] == [200] * 3
        assert server.complete().status_code == 200


def test_more_prompts_than_the_queue_holds_are_refused_for_good() -> None:
    with running(queue=3) as server:
        got = server.complete(prompt=[PROMPT] * 4)
        assert got.status_code == 400
        told = got.json()["error"]
        assert told["message"] == "a request may have 3 prompts here, got 4"
        assert told["param"] == "prompt"
        assert server.complete(prompt=[PROMPT] * 3).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil", "[::2]:1"])
def test_a_foreign_host_is_refused_without_a_key(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running() as server:
        for path in ("/v1/models", "/metrics"):
            got = server.http.get(path, headers={"Host": host})
            assert (got.status_code, got.json()["error"]["code"]) == (403, "wrong_host")
        assert server.http.get("/healthz", headers={"Host": host}).status_code == 200
        for own in ("localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "[::1]"):
            assert server.http.get("/v1/models", headers={"Host": own}).status_code == 200
    monkeypatch.setenv("KEY", "k")
    with running(api_key_env="KEY") as server:
        headers = {"Host": host, "Authorization": "Bearer k"}
        assert server.http.get("/v1/models", headers=headers).status_code == 200


def test_a_question_that_takes_too_long_is_given_up() -> None:
    held = Held(backend(), calibration())
    with running(held, timeout=0.3) as server:
        got = server.complete()
        assert got.status_code == 504
        assert got.json()["error"]["message"] == "not answered within 0.3 s"
        assert server.metric("cogcalib_queue") == 0
        held.let_go.set()
        wait_for(lambda: server.complete().status_code == 200)


def test_a_client_that_hangs_up_is_not_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    held = Held(backend(), calibration())
    with running(held, gather=0.0) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.complete)
        wait_for(lambda: held.batches)
        gone = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        for each in gone:
            each.sendall(post(completion_body()))
        wait_for(lambda: server.metric("cogcalib_queue") == 6)
        for each in gone:
            each.close()
        wait_for(lambda: server.metric("cogcalib_queue") == 1)
        held.let_go.set()
        assert first.result().status_code == 200
        assert server.complete().status_code == 200
        assert [len(batch) for batch in held.batches] == [1, 1]
        assert not caplog.records
        lost = 'cogcalib_requests_total{endpoint="/v1/completions",status="499"}'
        assert server.metric(lost) == 5


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_large_body_is_refused(chunked: bool) -> None:
    body = completion_body(prompt="x" * 100_000)
    with running(max_body=10_000) as server:
        if chunked:
            head = (
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            parts = [body[at : at + 5000] for at in range(0, len(body), 5000)]
            reply = server.raw(head, *(b"%x\r\n%s\r\n" % (len(each), each) for each in parts))
        else:
            reply = server.raw(post(body))
        assert status(reply) == 413
        assert error(reply)["message"] == "a request may have 10000 bytes"
        assert server.complete().status_code == 200


def test_ten_megabytes_are_refused_by_their_length_alone() -> None:
    with running() as server:
        reply = server.raw(post(b"{", length=10 << 20))
        assert status(reply) == 413
        kind = {"Content-Type": "application/json"}
        got = server.http.post("/v1/completions", content=b"[" * (10 << 20), headers=kind)
        assert got.status_code == 413
        assert server.raw(post(b"", length=10**30))[:12] in (b"HTTP/1.1 413", b"HTTP/1.1 400")
        assert server.complete().status_code == 200


def test_a_body_that_does_not_come_is_waited_for_so_long() -> None:
    with running(read_timeout=0.3) as server:
        reply = server.raw(post(b'{"model"', length=100))
        assert status(reply) == 408
        assert error(reply)["message"] == "the request did not come within 0.3 s"
        assert b"connection: close" in reply.lower()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_headers_that_do_not_come_are_waited_for_so_long(sent: bytes) -> None:
    """A trickle of headers, a byte at a time, holds no connection."""
    with running(read_timeout=0.3) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(sent)
            began, closed = time.monotonic(), False
            while not closed and time.monotonic() - began < 30:
                time.sleep(0.05)
                try:
                    if sent:
                        client.sendall(b"a")
                    client.settimeout(0.01)
                    closed = client.recv(100) == b""
                except TimeoutError:
                    continue
                except (ConnectionResetError, BrokenPipeError):
                    closed = True
            assert closed
        assert server.complete().status_code == 200


def test_an_idle_connection_is_kept() -> None:
    asked = post(completion_body())
    with (
        running(read_timeout=0.2) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as client,
    ):
        client.sendall(asked)
        assert status(read_reply(client)) == 200
        time.sleep(0.6)
        client.sendall(asked)
        assert status(read_reply(client)) == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["TLS", "no HTTP", "no length", "header flood", "long path", "bad chunk"],
)
def test_what_is_no_http_is_refused_in_json(sent: bytes) -> None:
    with running() as server:
        reply = server.raw(sent)
        if reply:  # else reset, with more on its way than the server reads
            assert status(reply) == 400
            assert error(reply)["type"] == "invalid_request_error"
        assert server.complete().status_code == 200


def test_garbage_in_json_is_refused() -> None:
    with running() as server:
        for body in (
            b"", b"{", b"[" * 500_000, b'{"a":' * 100_000, b"\xff\xff", b"nul",
            completion_body().replace(b"Lyon", b"\\ud83d"),
            completion_body(max_tokens=1).replace(b"1}", b"1e999}"),
            completion_body(temperature=float("nan")),
        ):  # fmt: skip
            reply = server.raw(post(body))
            assert status(reply) == 400, body[:50]
            assert b"Traceback" not in reply
        assert server.complete().status_code == 200


def test_a_form_of_a_browser_is_refused() -> None:
    with running() as server:
        for kind in (b"text/plain", b"application/x-www-form-urlencoded", b""):
            sent = post(completion_body()).replace(b"application/json", kind)
            assert status(server.raw(sent)) == 415
        with_charset = b"application/json; charset=utf-8"
        sent = post(completion_body()).replace(b"application/json", with_charset)
        assert status(server.raw(sent)) == 200


def test_a_client_that_does_not_read_is_dropped() -> None:
    with running(read_timeout=0.3) as server:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect(("127.0.0.1", server.port))
        asked, got = 50_000, b""
        with client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * asked)
            # More answers than fit into anybody's buffers: it is dropped before it reads.
            time.sleep(2)
            with suppress(ConnectionResetError):
                while chunk := client.recv(1 << 20):
                    got += chunk
        assert 0 < got.count(b"HTTP/1.1 200 OK") < asked
        assert server.complete().status_code == 200


def test_connections_far_above_the_limit_are_dropped() -> None:
    with running(connections=2) as server:
        many = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(100)]
        assert many[-1].recv(1) == b""
        for each in many:
            each.close()
        wait_for(lambda: server.http.get("/healthz").status_code == 200)


def test_more_connections_than_allowed_are_refused() -> None:
    with running(connections=4) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
        for each in idle:
            each.sendall(b"GET /healthz HTTP/1.1\r\n")
        reply = server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status(reply) == 503
        assert error(reply)["code"] == "overloaded"
        assert b"connection: close" in reply.lower()
        for each in idle:
            each.close()
        wait_for(lambda: server.http.get("/healthz").status_code == 200)


def test_what_is_begun_is_finished_when_the_server_ends() -> None:
    held = Held(backend(), calibration())
    with ThreadPoolExecutor(5) as pool:
        with running(held) as server:
            waiting = [pool.submit(server.raw, post(completion_body())) for _ in range(4)]
            wait_for(lambda: server.metric("cogcalib_queue") == 4)
            half = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            half.sendall(b"GET /healthz HTTP/1.1\r\n")
            pool.submit(lambda: (time.sleep(0.3), held.let_go.set()))
            # The block ends here: the server is told to stop while four wait.
        assert [status(each.result()) for each in waiting] == [200] * 4
        assert read_reply(half) == b""
        half.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
