"""Models of a hub on this machine: their small files are read, and their sizes asked for, before the weights."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file, save_file

from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec

COMMIT = "a" * 40
LOAD = """
import json, sys
from intrinsic_cli.errors import IdimError
from intrinsic_cli.models import pretrained
from intrinsic_cli.spec import ModelSpec
for spec in json.loads(sys.argv[1]):
    try:
        said = "loaded " + pretrained.load(ModelSpec(**spec), 2).weights_hash
    except IdimError as error:
        said = str(error)
    print(json.dumps(said))
"""


class Hub(BaseHTTPRequestHandler):
    """`server.repos`: folders by id. `server.sizes`: told in place of a file's own."""

    def do_HEAD(self):
        self.serve()

    def do_GET(self):
        self.serve()

    def serve(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.tell("/".join(parts[2:4]))
        elif "resolve" in parts:
            self.send("/".join(parts[:2]), "/".join(parts[parts.index("resolve") + 2 :]))
        else:
            self.answer(404)

    def tell(self, repo):
        if repo not in self.server.repos or "tree" in self.path:
            return self.answer(404)
        sizes = {path.name: path.stat().st_size for path in self.server.repos[repo].iterdir()}
        files = [
            {"rfilename": name, "size": size} for name, size in {**sizes, **self.server.sizes[repo]}.items()
        ]
        return self.answer(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": files}).encode())

    def send(self, repo, name):
        path = self.server.repos[repo] / name
        if not path.is_file():
            return self.answer(404, headers={"X-Error-Code": "EntryNotFound"})
        if self.command == "GET":
            self.server.fetched.append((repo, name))
        return self.answer(200, path.read_bytes(), {"ETag": f'"{repo}/{name}"'})

    def answer(self, status, content=b"", headers=()):
        self.send_response(status)
        for key, value in {"X-Repo-Commit": COMMIT, "Content-Length": len(content), **dict(headers)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small encoder as a folder."""
    from transformers import AutoModel, BertConfig

    folder = tmp_path_factory.mktemp("good")
    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=300
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    pretrained.load(ModelSpec("tiny"), 2).tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def hub(good, tmp_path):
    """Serves copies of `good`, each changed in one way."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repos, server.sizes, server.fetched = {}, {}, []

    def add(name, sizes=None, **config):
        folder = tmp_path / name
        shutil.copytree(good, folder)
        tree = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(tree | config))
        server.repos[f"me/{name}"], server.sizes[f"me/{name}"] = folder, sizes or {}
        return folder

    server.add = add
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def loaded(hub, cache, *specs, **variables):
    """What comes of each spec in one fresh process, and which files were fetched."""
    environment = {
        k: v for k, v in os.environ.items() if not k.endswith("_OFFLINE") and "proxy" not in k.lower()
    }
    environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, json.dumps(specs)], capture_output=True, text=True,
        env=environment | {"HF_HUB_DISABLE_XET": "1", **variables},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_weights_are_fetched_last_and_within_the_limit(hub, good, tmp_path):
    hub.add("good")
    hub.add("large", sizes={"model.safetensors": 30 * 2**30})
    hub.add("pieces", sizes={f"model-{i:05}-of-00004.safetensors": 6 * 2**30 for i in range(1, 5)})
    hub.add("claims", vocab_size=10**9)
    hub.add("wide", hidden_size=16_000, intermediate_size=64_000)
    hub.add("settings", sizes={"tokenizer.json": 2**40})
    hub.add("code", text_config={"trust_remote_code": True})
    hub.add("kernel", _attn_implementation_internal="me/kernels")
    hub.add("attention", attn_implementation="kernels-community/flash-attn3")
    names = ["large", "pieces", "claims", "wide", "settings", "code", "kernel", "attention"]
    said = loaded(hub, tmp_path / "cache", *({"name": f"me/{name}"} for name in names))
    parts = ["has weights of 30 GiB, above model.download_limit=20", "has weights of 24 GiB",
             "vocab_size=1000000000", "more than its weights could hold", "1,099,511,627,776 bytes",
             "trust_remote_code=True", "_attn_implementation_internal='me/kernels'",
             "attn_implementation='kernels-community/flash-attn3'"]  # fmt: skip
    assert [part in line for part, line in zip(parts, said, strict=True)] == [True] * len(names), said
    assert not [file for file in hub.fetched if file[1].endswith(".safetensors")]
    small = {"name": "me/good", "download_limit": 1e-6}
    refused, taken, again = loaded(hub, tmp_path / "cache", small, {"name": "me/good"}, small)
    assert "above model.download_limit=1e-06; raise model.download_limit" in refused
    own = pretrained.load(ModelSpec(str(good)), 2)
    assert taken == again == f"loaded {own.weights_hash}"  # what is here already is not fetched
    assert hub.fetched.count(("me/good", "model.safetensors")) == 1
    offline = loaded(hub, tmp_path / "cache", {"name": "me/good"}, {"name": "me/large"}, HF_HUB_OFFLINE="1")
    assert offline[0] == taken
    assert "is not in the cache" in offline[1]


def test_integers_from_the_hub_are_no_weights(hub, tmp_path):
    folder = hub.add("bytes")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"] = torch.ones(16, 32, dtype=torch.int8)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    [said] = loaded(hub, tmp_path / "cache", {"name": "me/bytes"})
    assert "encoder.layer.0.output.dense.weight is I8" in said
