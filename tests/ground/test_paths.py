import hashlib
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from intrinsic_cli import paths
from intrinsic_cli.errors import DataError, ModelError

STATE = """
import os, datasets, huggingface_hub, transformers
from intrinsic_cli import paths
offline = paths.go_offline_if_unreachable()
print(offline, huggingface_hub.is_offline_mode(), datasets.config.HF_HUB_OFFLINE,
      transformers.utils.hub.is_offline_mode(), os.environ.get("HF_HUB_OFFLINE"))
"""


def state(endpoint, **env):
    """What a fresh process says of its offline mode when the hub is at `endpoint`."""
    clean = {
        k: v for k, v in os.environ.items() if k not in paths.OFFLINE_VARIABLES and "proxy" not in k.lower()
    }
    done = subprocess.run(
        [sys.executable, "-c", STATE],
        env=clean | {"HF_ENDPOINT": endpoint} | env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def answering():
    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_hub_that_answers_is_used(answering):
    assert state(answering) == ["False", "False", "False", "False", "None"]


def test_an_offline_variable_is_respected_though_the_hub_answers(answering):
    assert state(answering, TRANSFORMERS_OFFLINE="1") == ["True", "True", "True", "True", "1"]


def test_a_refusing_hub_puts_all_three_libraries_offline():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, never listening: connections are refused
        assert state(f"http://127.0.0.1:{closed.getsockname()[1]}") == ["True", "True", "True", "True", "1"]


def test_a_silent_hub_counts_as_unreachable():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # connections are accepted and never answered
        assert state(f"http://127.0.0.1:{silent.getsockname()[1]}")[0] == "True"


def test_local_path_tells_paths_from_hub_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text,label\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert paths.local_path("nyu-mll/glue", "task.path") is None
    assert paths.local_path("gpt2", "model.name") is None
    assert paths.local_path("rows.csv", "task.path").samefile(tmp_path / "rows.csv")
    assert paths.local_path("./a/b", "task.path").samefile(tmp_path / "a" / "b")
    assert paths.local_path(str(tmp_path), "task.path") == tmp_path


@pytest.mark.parametrize("name", ["./none", "none.csv", "x/y/z", "/none/at/all", "../none.parquet"])
def test_local_path_refuses_what_does_not_exist(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"model\.name=.* does not exist"):
        paths.local_path(name, "model.name", ModelError)


@pytest.mark.parametrize("name", ["glue", "nyu-mll/glue"])
def test_a_folder_named_like_a_hub_id_is_no_silent_choice(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DataError, match=rf"write task\.path=\./{name} for the folder"):
        paths.local_path(name, "task.path")
    assert paths.local_path(f"./{name}", "task.path").is_dir()


def test_fingerprint_of_a_file_is_the_hash_of_its_bytes(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(b"text,label\na,1\n")
    assert paths.fingerprint(file) == hashlib.sha256(b"text,label\na,1\n").hexdigest()
    assert (
        paths.fingerprint(file.rename(tmp_path / "copy.csv"))
        == hashlib.sha256(b"text,label\na,1\n").hexdigest()
    )


def test_fingerprint_of_a_folder_sees_names_and_contents_alone(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "sub").mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "sub" / "weights").write_text("abc")
    first = paths.fingerprint(one)
    (two / ".cache").mkdir()
    (two / ".cache" / "lock").write_text("hidden")
    os.utime(two / "config.json", (1, 1))
    assert paths.fingerprint(two) == first
    (two / "sub" / "weights").write_text("abd")
    assert paths.fingerprint(two) != first
    (two / "sub" / "weights").write_text("abc")
    assert paths.fingerprint(two) == first
    (two / "config.json").rename(two / "settings.json")
    assert paths.fingerprint(two) != first


def test_fingerprint_of_nothing_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        paths.fingerprint(tmp_path / "none")
