"""Models on the Hub, against a stand-in on this machine that keeps repositories in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from hiresseg.errors import ModelError
from hiresseg.models import (
    ClassInfo,
    ModelSpec,
    NetworkConfig,
    StageSpec,
    describe_model,
    load_model,
    save_model,
)
from hiresseg.models.hub import push_model
from hiresseg.models.pointwise import PointwiseNet


class Hub(BaseHTTPRequestHandler):
    """The few answers that huggingface_hub asks for when it makes, fills and reads a repository."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer_get(with_body=False)

    def do_GET(self):
        self.answer_get()

    def answer_get(self, *, with_body=True):
        self.server.asked.append(self.path)
        path = self.path.split("?")[0].strip("/")
        for repo, files in self.server.repos.items():
            if path.startswith(f"api/models/{repo}/tree"):
                return self.say(
                    [{"type": "file", "path": n, "size": len(d), "oid": digest(d)} for n, d in files.items()]
                )
            if path.startswith(f"api/models/{repo}"):
                return self.say({"id": repo, "sha": "c" * 40, "siblings": [{"rfilename": n} for n in files]})
            name = path.removeprefix(f"{repo}/resolve/").partition("/")[2]
            if path.startswith(f"{repo}/resolve/") and name in files:
                extra = {"ETag": f'"{digest(files[name])}"', "X-Repo-Commit": "c" * 40}
                return self.send(files[name], extra, with_body=with_body)
        return self.say({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def do_POST(self):
        self.server.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.split("?")[0].strip("/")
        if path == "api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.server.made.append((repo, asked.get("private", asked.get("visibility") == "private")))
            self.server.repos.setdefault(repo, {})
            return self.say({"url": f"{self.server.url}/{repo}", "name": repo})
        if path == "api/validate-yaml":
            return self.say({"errors": [], "warnings": []})
        repo = "/".join(path.split("/")[2:4])
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            return self.say(
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
                    ]
                }
            )
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                value = entry["value"]
                self.server.repos[repo][value["path"]] = base64.b64decode(value["content"])
        return self.say({"commitUrl": f"{self.server.url}/{repo}/commit/{'c' * 40}", "commitOid": "c" * 40})

    def say(self, value, status=200, extra=None):
        self.send(json.dumps(value).encode(), {"Content-Type": "application/json", **(extra or {})}, status)

    def send(self, data, extra, status=200, *, with_body=True):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **extra}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)


def digest(data):
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.repos, server.made, server.asked = {}, [], []
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path):
    spec = ModelSpec(
        "toy", ("red", "green"), (ClassInfo("a", (0, 0, 0)), ClassInfo("b", (1, 1, 1))), "softmax",
        (0.0, 0.0), (1.0, 1.0), (StageSpec(0, 64, 16),), licence="MIT",
    )  # fmt: skip
    arguments = {"bands": 2, "classes": 2}
    save_model(
        tmp_path / "toy",
        spec,
        [PointwiseNet(**arguments)],
        [NetworkConfig("hiresseg", "PointwiseNet", arguments)],
    )
    (tmp_path / "toy" / "README.md").write_text("---\nlibrary_name: hiresseg\n---\n# toy\n")
    (tmp_path / "toy" / "recipe.toml").write_text("")
    (tmp_path / "toy" / "training").mkdir()
    (tmp_path / "toy" / "training" / "checkpoint.pt").write_bytes(b"large, and a pickle")
    return tmp_path / "toy"


def test_a_model_is_pushed_and_fetched_again(hub, folder):
    url = push_model(folder, "hf://me/toy")
    assert url.startswith(hub.url)
    assert hub.made == [("me/toy", True)]
    assert set(hub.repos["me/toy"]) == {"README.md", "config.json", "model.safetensors", "recipe.toml"}
    # strangers may keep more there, which is left there
    hub.repos["me/toy"]["pytorch_model.bin"] = b"pickle"

    fetched = load_model("hf://me/toy")
    for key, value in load_model(folder).segmenters[0].state_dict().items():
        assert torch.equal(value, fetched.segmenters[0].state_dict()[key])
    assert fetched.spec.digest == describe_model(folder).digest
    assert not any("pytorch_model" in path for path in hub.asked)


def test_what_was_fetched_is_not_fetched_again(hub, folder):
    push_model(folder, "hf://me/toy", private=False)
    assert hub.made == [("me/toy", False)]
    describe_model("hf://me/toy@main")
    hub.asked.clear()
    describe_model("hf://me/toy@main")
    assert not any("resolve" in path and "safetensors" in path for path in hub.asked)


def test_what_is_not_there_or_no_model_is_refused(hub, folder):
    with pytest.raises(ModelError, match=r"hf://me/none cannot be fetched"):
        load_model("hf://me/none")
    with pytest.raises(ModelError, match="write hf://OWNER/NAME"):
        load_model("hf://toy")
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError):
        push_model(folder, "hf://me/toy")
    assert hub.asked[-1:] != ["/api/repos/create"]


def test_without_a_connection_it_is_said(hub, folder):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ModelError, match="cannot be pushed"):
        push_model(folder, "hf://me/toy")
    with pytest.raises(ModelError, match="cannot be fetched"):
        load_model("hf://me/toy")
