"""Generated requests against the description that a real service gives of itself: no 5xx, no status and no body off it.

    pip install -r tests/contract/requirements.txt
    python tests/contract/run.py [examples a phase and operation, 700 unless given]

Runs once without a token and once with one. Needs deno and a Vulkan driver, as `deno task test` does.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
CHECKOUT = HERE.parent.parent
PORT = 8460
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def ask(path: str, body: object | None = None, token: str | None = None) -> object:
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def wait_until_ready() -> None:
    for _ in range(300):
        try:
            ask("/readyz")
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("The service does not get ready.")


def run(examples: int, token: str | None) -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder, "root")
        shutil.copytree(CHECKOUT / "examples" / "tiny-llama", root / "models" / "tiny")
        shutil.copy(CHECKOUT / "examples" / "preferences.train.jsonl", root / "rows.jsonl")
        settings = {"SIMPO_ROOT": str(root), "SIMPO_STATE": str(pathlib.Path(folder, "state")), "PORT": str(PORT)}
        settings |= {"SIMPO_DEVICE": "software", "SIMPO_LOG": "warning"} | ({"SIMPO_TOKEN": token} if token else {})
        service = subprocess.Popen(["deno", "task", "serve"], cwd=CHECKOUT, env=os.environ | settings)
        try:
            wait_until_ready()
            job = {"model": "models/tiny", "dataset": {"path": "rows.jsonl"}, "max_steps": 1}
            made = ask("/train", job, token)
            config = pathlib.Path(folder, "schemathesis.toml")
            config.write_text(f'[parameters]\nid = "{made["id"]}"\n')
            command = [
                "st", "--config-file", str(config), "run", f"http://127.0.0.1:{PORT}/openapi.json",
                "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", str(examples),
                "--continue-on-failure", "--request-timeout", "60",
            ]
            if token:
                command += ["--header", f"Authorization: Bearer {token}"]
            found = subprocess.run(command, env=os.environ | {"SCHEMATHESIS_HOOKS": str(HERE / "hooks.py")}, cwd=folder)
            if service.poll() is not None:
                raise SystemExit("The service has ended.")
            return found.returncode
        finally:
            service.terminate()
            service.wait(30)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 700
    sys.exit(max(run(count, None), run(count, "a-token")))
