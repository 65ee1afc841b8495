"""The hub answers, refuses, is silent or was never asked: what a process makes of it."""

import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch
import transformers as hf

from intrinsic_cli import hub
from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec

STATE = """
import os, datasets, huggingface_hub, transformers
from intrinsic_cli import hub
offline = hub.go_offline_if_unreachable()
print(offline, huggingface_hub.is_offline_mode(), datasets.config.HF_HUB_OFFLINE,
      transformers.utils.hub.is_offline_mode(), os.environ.get("HF_HUB_OFFLINE"))
"""


def state(endpoint, **env):
    """What a fresh process says of its offline mode when the hub is at `endpoint`."""
    clean = {
        k: v for k, v in os.environ.items() if k not in hub.OFFLINE_VARIABLES and "proxy" not in k.lower()
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


def offline(code, home, *words):
    """A fresh process that runs `code` offline, with its caches in `home`."""
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HF_DATASETS_CACHE": str(home / "data")}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True)


def into_the_cache(folder, home, name):
    """Move a model's folder to where the hub's client would have put it."""
    repository = home / "hub" / f"models--{name}"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    folder.rename(repository / "snapshots" / ("0" * 40))


def test_a_model_in_the_cache_that_can_not_be_read_says_what_is_wrong(tmp_path):
    base = pretrained.load(ModelSpec("tiny"), 2)
    for part in (base.model, base.tokenizer):
        part.save_pretrained(tmp_path / "torn")
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    into_the_cache(tmp_path / "torn", tmp_path / "home", "some--torn")
    code = (
        "from intrinsic_cli.models import pretrained; from intrinsic_cli.spec import ModelSpec;"
        "pretrained.load(ModelSpec('some/torn'), 2)"
    )
    last = offline(code, tmp_path / "home").stderr.splitlines()[-1]
    assert "ModelError: the weights of model some/torn are corrupt" in last
    assert "cache" not in last


def test_a_model_that_is_not_in_the_cache(tmp_path):
    code = (
        "from intrinsic_cli.models import pretrained; from intrinsic_cli.spec import ModelSpec;"
        "pretrained.load(ModelSpec('nobody/nothing', revision='v7'), 2)"
    )
    last = offline(code, tmp_path).stderr.splitlines()[-1]
    assert "ModelError: model nobody/nothing (revision v7) is not in the cache" in last
    assert f"{tmp_path / 'hub'} " in last
    assert "model.name=/path" in last


def test_data_that_are_not_in_the_cache(tmp_path):
    code = (
        "from intrinsic_cli.tasks import splits; from intrinsic_cli.spec import DataSpec, TaskSpec;"
        "task = TaskSpec('x', 'nobody/nothing', None, ('text',), 'label', 'train', None, ('accuracy',));"
        "splits.load(task, DataSpec())"
    )
    last = offline(code, tmp_path).stderr.splitlines()[-1]
    assert "DataError: data set nobody/nothing is not in the cache" in last
    assert f"{tmp_path / 'data'} " in last
    assert "task.path=/path" in last


def test_a_data_set_that_is_known_by_its_name_says_how_to_get_it(tmp_path):
    code = "import sys; from intrinsic_cli.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = offline(code, tmp_path, "run", "task=imdb", "model=tiny", f"output_dir={tmp_path / 'out'}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "data set stanfordnlp/imdb is not in the cache" in done.stderr
    assert "give a local copy by task.path=/path" in done.stderr
    assert not (tmp_path / "out").exists()


def test_pickled_weights_in_the_hubs_cache_only_when_allowed(tmp_path):
    bert, cache = tmp_path / "bert", tmp_path / "home"
    config = hf.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=300
    )
    config.save_pretrained(bert)
    pretrained.load(ModelSpec("tiny"), 2).tokenizer.save_pretrained(bert)
    torch.save(hf.AutoModel.from_config(config).state_dict(), bert / "pytorch_model.bin")
    into_the_cache(bert, cache, "some--pickled")
    code = (
        "import sys; from intrinsic_cli.models import pretrained; from intrinsic_cli.spec import ModelSpec;"
        "print(pretrained.load(ModelSpec('some/pickled', allow_pickle=len(sys.argv) > 1), 2).head)"
    )
    refusal = offline(code, cache).stderr.splitlines()[-1]
    assert "ModelError: model some/pickled has no safetensors weights" in refusal
    allowed = offline(code, cache, "allow")
    assert "classifier.weight" in allowed.stdout, allowed.stderr
