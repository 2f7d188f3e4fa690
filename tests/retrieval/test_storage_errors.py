"""Errors of LanceDB and its object storage become one sentence without internals."""

import re
import subprocess
import sys

import pytest

from sfumato.errors import BadInput
from sfumato.retrieval.condition import filtered
from sfumato.retrieval.database import TABLE, connect, create_table, explained
from sfumato.retrieval.index import ImageIndex
from sfumato.retrieval.storage_errors import storage_reason

CARGO = "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/lance-io-13.0.0/src"


def namespace_error(inner: str, url: str = "http://127.0.0.1:5555/pictures?list-type=2&prefix=x.index%2F") -> str:
    return (
        'Invalid input, Failed to connect to namespace: IO { source: Generic { store: "S3", source: ListRequest { '
        f"source: RetryError(RetryErrorImpl {{ method: GET, uri: Some({url}), retries: 3, max_retries: 3, elapsed: "
        f"494.822118ms, retry_timeout: 180s, inner: {inner} }}) }} }}, location: Location {{ file: "
        f'"{CARGO}/object_store.rs", line: 1506, column: 92 }}, backtrace: MaybeBacktrace }}'
    )


REFUSED = (
    "Http(HttpError { kind: Connect, source: reqwest::Error { kind: Request, source: hyper_util::client::legacy::Error("
    'Connect, ConnectError("tcp connect error", 127.0.0.1:5555, Os { code: 111, kind: ConnectionRefused, message: '
    '"Connection refused" })) } })'
)
UNKNOWN = (
    "Http(HttpError { kind: Connect, source: reqwest::Error { kind: Request, source: hyper_util::client::legacy::Error("
    'Connect, ConnectError("dns error", Custom { kind: Uncategorized, error: "failed to lookup address information: '
    'Name or service not known" })) } })'
)
NO_BUCKET = (
    r'Status { status: 404, body: Some("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Error><Code>NoSuchBucket</Code>'
    '<Message>The specified bucket does not exist</Message><BucketName>pictures</BucketName></Error>") }'
)
REQUEST = (
    "lance error: LanceError(IO): Generic N/A error: LanceError(IO): Generic S3 error: Error performing GET "
    "http://127.0.0.1:5555/pictures/x.index/images.lance/data/11.lance in 360.840585ms, after 3 retries, max_retries: "
    "3, retry_timeout: 180s  - HTTP error: error sending request, /rustc/2d81/library/core/src/result.rs:1896:29, "
    "/rustc/2d81/library/core/src/ops/function.rs:250:5"
)
LIST = (
    "lance error: LanceError(IO): Generic S3 error: Error performing list request: Error performing GET "
    "http://127.0.0.1:5555/pictures?list-type=2 in 498.551665ms, after 3 retries, max_retries: 3, retry_timeout: 180s  "
    f"- HTTP error: error sending request, {CARGO}/object_store.rs:182:69"
)
REGION = (
    "lance error: LanceError(IO): Generic S3 error: Failed to resolve region for bucket 'pictures', "
    f"{CARGO}/object_store/providers/aws.rs:319:13"
)
ADDRESS = "http://127.0.0.1:5555"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (namespace_error(REFUSED), f"{ADDRESS}: Connection refused"),
        (
            namespace_error(UNKNOWN, "https://s3.us-east-1.amazonaws.com/pictures?list-type=2"),
            "https://s3.us-east-1.amazonaws.com: failed to lookup address information: Name or service not known",
        ),
        (namespace_error(NO_BUCKET), f"{ADDRESS}: The specified bucket does not exist"),
        (
            namespace_error('Status { status: 403, body: Some("denied") }', "http://169.254.169.254/latest?a=b"),
            "http://169.254.169.254: status: 403",
        ),
        (namespace_error("Other"), f"{ADDRESS}: Failed to connect to namespace"),
        (REQUEST, f"{ADDRESS}: HTTP error: error sending request"),
        (LIST, f"{ADDRESS}: HTTP error: error sending request"),
        (REGION, "Failed to resolve region for bucket 'pictures'"),
        (
            "Invalid input, No object store provider found for scheme: 'ftp'",
            "No object store provider found for scheme: 'ftp'",
        ),
        ("nothing there", "nothing there"),
        ("", "RuntimeError"),
    ],
)
def test_reason_has_no_internals(message, reason):
    assert storage_reason(RuntimeError(message)) == reason


def test_message_on_object_storage_says_what_to_check():
    with pytest.raises(BadInput) as refused, explained("s3://pictures/x.index"):
        raise RuntimeError(REGION)
    assert str(refused.value) == (
        "The index s3://pictures/x.index cannot be used: Failed to resolve region for bucket 'pictures'; check the "
        "URI, the network and the credentials."
    )
    with pytest.raises(BadInput) as refused, explained("x.index"):
        raise RuntimeError("nothing there")
    assert str(refused.value) == "The index x.index cannot be used: nothing there."


@pytest.mark.slow
def test_unreachable_object_storage_is_one_sentence(monkeypatch):
    """Nothing listens on the port."""
    for name, value in {"ENDPOINT": "http://127.0.0.1:9", "ALLOW_HTTP": "true", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "none")
    with pytest.raises(BadInput) as refused:
        ImageIndex.open("s3://pictures/x.index")
    begin = re.escape("The index s3://pictures/x.index cannot be used: http://127.0.0.1:9: ")
    assert re.fullmatch(rf"{begin}[\w ]+; check the URI, the network and the credentials\.", str(refused.value))


def test_failed_storage_is_not_blamed_on_the_condition(index):
    with pytest.raises(BadInput, match=r"cannot be used: .*error sending request"), filtered(index, "folder = 'one'"):
        raise RuntimeError(REQUEST)


def test_table_that_another_process_has_just_created_is_opened(tmp_path, index):
    """Object storage has no lock: the table appears between the look for it and its creation."""
    database = connect(str(tmp_path / "index"))

    class Late:
        seen = 0

        def open_table(self, name):
            self.seen += 1
            if self.seen == 1:
                database.create_table(TABLE, schema=index.table.schema)
                raise ValueError(f"Table '{name}' was not found")
            return database.open_table(name)

        def create_table(self, name, schema):
            return database.create_table(name, schema=schema)

    found = create_table(Late(), str(tmp_path / "index"), index.table.schema)
    assert found.schema == index.table.schema


CONFLICT = """
import sys
from threading import Barrier, Thread
import pyarrow as pa
from sfumato.retrieval.database import TABLE, connect, merge_files
table = connect(sys.argv[1]).create_table(TABLE, pa.table({"a": [0]}))
for _ in range(6):
    table.add(pa.table({"a": [1]}))
begin = Barrier(4)
def merge(own):
    begin.wait()
    merge_files(own)
threads = [Thread(target=merge, args=(connect(sys.argv[1]).open_table(TABLE),)) for _ in range(4)]
for each in threads:
    each.start()
for each in threads:
    each.join()
"""


@pytest.mark.slow
def test_conflicts_that_are_handled_are_not_logged(tmp_path):
    """LanceDB logs a warning about each conflict, unless the environment selects another level."""
    words = [sys.executable, "-c", CONFLICT, str(tmp_path / "index")]
    run = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300)
    assert run.stderr == ""
