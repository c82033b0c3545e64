"""A stock build of OHIF reads a study of this node by DICOMweb, behind a proxy as a site would have one. It takes minutes in
software rendering, so it is not part of the test suite: make ohif

python -m tests.web.ohif DIST-FOLDER PICTURE.png
"""

import json
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from tests.conftest import free_port
from tests.web.browser import Window, chromium
from tests.web.shelf import served_shelf

MANY_GREYS = 30
"""Grey values of an image; letters over an empty viewport have fewer."""
SOFTWARE_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


def app_config(address: str) -> str:
    """What a site writes into OHIF's app-config.js."""
    root = f"{address}/dicom-web"
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "node",
        "configuration": {
            "friendlyName": "DiffMSR node", "name": "node", "qidoRoot": root, "wadoRoot": root, "wadoUriRoot": root,
            "imageRendering": "wadors", "thumbnailRendering": "wadors", "qidoSupportsIncludeField": True,
            "supportsWildcard": True, "supportsFuzzyMatching": False, "enableStudyLazyLoad": True,
        },
    }  # fmt: skip
    config = {
        "routerBasename": "/", "extensions": [], "modes": [], "showStudyList": True, "defaultDataSourceName": "node",
        "dataSources": [source], "investigationalUseDialog": {"option": "never"},
    }  # fmt: skip
    return f"window.config = {json.dumps(config)};"


class Proxy(SimpleHTTPRequestHandler):
    """Serves OHIF, and passes /dicom-web on with the name of who has logged in."""

    def __init__(self, *arguments: Any, node: str, **more: Any) -> None:
        self._node = node
        super().__init__(*arguments, **more)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/dicom-web"):
            self._pass_on()
        elif path == "/app-config.js":
            host = self.headers["Host"]
            self._answer(200, "text/javascript", app_config(f"http://{host}").encode())
        else:
            if not Path(self.translate_path(path)).is_file():
                self.path = "/index.html"
            super().do_GET()

    def _pass_on(self) -> None:
        headers = {"X-Remote-User": "anna", "Accept": self.headers.get("Accept", "*/*"), "Host": self.headers["Host"]}
        request = urllib.request.Request(f"{self._node}{self.path}", headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                self._answer(answer.status, answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as error:
            print(error.code, self.path, self.headers.get("Accept"), error.read()[:200])
            self._answer(error.code, "text/plain", b"")

    def _answer(self, status: int, media_type: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def main(ohif: Path, picture: Path) -> None:
    """Show the first study, and write what the browser shows."""
    with tempfile.TemporaryDirectory() as folder, served_shelf(Path(folder), proxy_addresses=["127.0.0.1"]) as shelf:
        node = shelf.root.removesuffix("/dicom-web")
        handler = partial(Proxy, node=node, directory=str(ohif))
        proxy = ThreadingHTTPServer(("127.0.0.1", free_port()), handler)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        with chromium(*SOFTWARE_WEBGL) as browser:
            window = Window(browser, f"http://127.0.0.1:{proxy.server_port}/")
            page = window.page
            page.goto(f"/viewer?StudyInstanceUIDs={shelf.uid}", timeout=120_000)
            page.wait_for_selector("canvas.cornerstone-canvas", timeout=120_000)
            for description in ("t2", "t1", "AI SR x4: T2"):
                page.get_by_text(description, exact=True).first.wait_for(timeout=120_000)
            page.wait_for_timeout(10_000)  # the guided tour that greets a new user comes late
            page.evaluate("() => document.querySelectorAll('[class*=shepherd]').forEach(e => e.remove())")
            page.get_by_text("AI SR x4: T2", exact=True).first.dispatch_event("dblclick")
            page.wait_for_timeout(20_000)
            page.screenshot(path=picture)
            shown = Image.open(BytesIO(page.locator("canvas.cornerstone-canvas").first.screenshot())).convert("L")
            print("\n".join(window.complaints[:20]))
            if len(set(shown.tobytes())) < MANY_GREYS:
                sys.exit(f"OHIF shows no image; see {picture}")
        proxy.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
