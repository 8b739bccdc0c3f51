"""A stand-in for Hugging Face's hub on 127.0.0.1 that creates repositories, takes commits and serves files."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """`files` has the uploads by repository and path; `asked` has every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=[0.01], daemon=True).start()


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"POST {self.path}")
        if self.path == "/api/repos/create":
            given = json.loads(content)
            name = f"{given['organization']}/{given['name']}" if given.get("organization") else given["name"]
            self.server.files.setdefault(name, {})
            return self._json({"url": f"{self.server.address}/{name}"})
        if self.path == "/api/validate-yaml":  # of the model card's header
            return self._json({"errors": [], "warnings": []})
        name, verb = re.fullmatch(r"/api/models/([\w./-]+?)/(preupload|commit)/main.*", self.path).groups()
        if verb == "preupload":
            paths = [item["path"] for item in json.loads(content)["files"]]
            plain = {"uploadMode": "regular", "shouldIgnore": False}
            return self._json({"files": [{"path": path, **plain} for path in paths]})
        for line in map(json.loads, content.splitlines()):
            if line["key"] == "file":
                self.server.files[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self._json({"commitUrl": f"{self.server.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        found = re.fullmatch(r"/([\w./-]+)/resolve/(\w+)/([\w.-]+)", self.path)
        content = None if found is None else self.server.files.get(found[1], {}).get(found[3])
        if content is None:
            kind = "RepoNotFound" if found is None or found[1] not in self.server.files else "EntryNotFound"
            return self._answer(404, b"{}", {"X-Error-Code": kind})
        return self._answer(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass
