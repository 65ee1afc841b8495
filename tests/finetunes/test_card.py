"""Uploading: the card, and the whole call against a hub of our own on this machine."""

import base64
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import yaml
from support.make_golden import FOLDER

from intrinsic_cli.finetunes import card
from intrinsic_cli.finetunes.file import FineTune
from intrinsic_cli.spec import AdapterSpec, ModelSpec, SubspaceSpec

GOLDEN = FOLDER / "did-fastfood-v1.safetensors"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as an upload needs; commits are kept in `server.commits`."""

    def log_message(self, *words):
        pass

    def answer(self, status, content=None):
        body = json.dumps(content or {}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.answer(200)

    def do_GET(self):
        self.answer(401 if self.path.startswith("/api/models/") else 200, {"error": "Invalid token"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer hf_right":
            self.answer(401, {"error": "Invalid token"})
        elif self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.answer(200, {"url": f"{self.server.address}/me/small"})
        elif self.path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            self.answer(
                200, {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}
            )
        elif "/commit/" in self.path:
            self.server.commits.append([json.loads(line) for line in body.splitlines()])
            self.answer(200, {"commitUrl": f"{self.server.address}/me/small/commit/1", "commitOid": "1" * 40})
        else:
            self.answer(404)


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.created, server.commits = [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()


def push(endpoint, token, *words, **more):
    """`idim push` in a process of its own, whose hub is `endpoint`."""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_OFFLINE")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1", **more}
    return subprocess.run(
        [sys.executable, "-m", "intrinsic_cli", "push", str(GOLDEN), "me/small", *words],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.long
def test_push_uploads_the_file_and_a_card(hub):
    done = push(hub.address, "hf_right", "--private")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip().endswith("/me/small")
    assert (hub.created[0]["name"], hub.created[0]["organization"]) == ("small", "me")
    assert hub.created[0]["visibility"] == "private"
    files = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"])
        for line in hub.commits[0]
        if line["key"] == "file"
    }
    assert files[card.FILE] == GOLDEN.read_bytes()
    assert 'hf_hub_download("me/small", "fine-tune.safetensors")' in files["README.md"].decode()


@pytest.mark.long
def test_a_refusal_is_one_line(hub):
    done = push(hub.address, "hf_wrong")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the hub refused me/small" in done.stderr
    assert hub.commits == []


@pytest.mark.long
def test_without_a_network_the_way_out_is_said():
    done = push("http://127.0.0.1:9", "hf_right", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert done.stderr == (
        "idim: can't upload to me/small: the hub can't be reached; connect to a network and try again\n"
    )


def front(text):
    return yaml.safe_load(text.split("---")[1])


def test_the_card_names_base_model_score_and_space():
    found = replace(FineTune.read(GOLDEN), model=ModelSpec("minilm"), score=0.875)
    told = card.write(found, "me/small")
    head = front(told)
    assert head["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert head["library_name"] == "idim"
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "accuracy", "value": 0.875}
    assert "accuracy 0.8750 on 40 validation rows" in told
    assert "fastfood, version 1, seed 3" in told
    assert found.weights_hash in told


@pytest.mark.parametrize("name", ["/home/me/models/secret", "../net", "tiny"])
def test_a_local_base_model_is_not_named_as_one_of_the_hub(name):
    told = card.write(replace(FineTune.read(GOLDEN), model=ModelSpec(name)), "me/small")
    assert "base_model" not in front(told)
    assert "/home" not in told


def test_a_card_can_not_be_made_to_say_more():
    found = replace(FineTune.read(GOLDEN), labels=("<script>", "a | b"), task="x](http://evil)", score=None)
    told = card.write(found, "me/small")
    assert "<script>" not in told
    assert "](http" not in told
    assert "model-index" not in front(told)
    found = replace(found, score=0.5, metric="<img src=x> [a](http://evil)")
    told = card.write(found, "me/small").split("---")[2]  # behind the front matter, which YAML quotes
    assert "<img" not in told
    assert "](http" not in told


def test_the_card_of_a_language_models_adapter_says_what_it_is():
    """No P, no labels, no classifier: what is not there is not named."""
    found = replace(
        FineTune.read(GOLDEN), kind="generation", metric="exact_match", score=0.5, labels=(),
        subspace=SubspaceSpec("full"), adapter=AdapterSpec("lora", 4),
        tensors={"model.layers.0.q_proj.lora_A.default.weight": torch.ones(4, 8)},
    )  # fmt: skip
    told = card.write(found, "me/small")
    head = front(told)
    assert head["pipeline_tag"] == "text-generation"
    assert head["model-index"][0]["results"][0]["task"] == {"type": "text-generation"}
    assert set(head["tags"]) == {"idim", "intrinsic-dimension", "lora"}
    assert "a fine-tuning by lora" in told
    assert "random subspace" not in told
    rows = dict(
        line.strip("| ").split(" | ")
        for line in told.splitlines()
        if line.startswith("| ") and "---" not in line and line != "| | |"
    )
    assert rows["d"] == "32"
    assert "seed" in rows
    assert not {"projection", "labels"} & set(rows)
    choice = replace(found, kind="choice", metric="accuracy", labels=("bad", "good"))
    assert "| labels | bad, good |" in card.write(choice, "me/small")
    written = card.write(
        replace(found, subspace=SubspaceSpec("did"), tensors=FineTune.read(GOLDEN).tensors), "me/small"
    )
    assert {"did", "lora"} <= set(front(written)["tags"])
    assert "fastfood, version 1, seed 3" in written
