"""Ask the node in this container whether it lives, or whether it is ready: exit code 0 when it is.

    python healthcheck.py live|ready

It reads the configuration, so that it asks the right port and knows whether to use HTTPS. A service without the page, one of
several hosts, lives while it holds the locks of its roles, and is ready when the preconditions of `start` hold.
"""

import json
import ssl
import sys
import urllib.error
import urllib.request

from node import checks
from node.config.loading import load_settings
from node.config.place import find_config
from node.config.web import WebSettings
from node.locks import running_roles
from node.roles import Role

TIMEOUT_S = 10


def url(web: WebSettings, question: str) -> str:
    """Where the node in this container answers. An address such as 0.0.0.0 means all, so loopback is one of them."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(web.host, f"[{web.host}]" if ":" in web.host else web.host)
    return f"{'https' if web.tls else 'http'}://{host}:{web.port}/health/{question}"


def _context(web: WebSettings) -> ssl.SSLContext | None:
    """The node's certificate names its host, not loopback, so it is not verified. Where the page asks for a certificate, it
    is shown its own."""
    if web.tls is None:
        return None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if web.tls.ca_file is not None:
        context.load_cert_chain(web.tls.cert_file, web.tls.key_file)
    return context


def main() -> int:
    """Print the answer, and return the exit code."""
    settings = load_settings(find_config(None), lambda _: None)
    roles = running_roles(settings.node.data_dir)
    if Role.WEB not in roles and roles:
        failing = checks.Standing(settings).failing() if sys.argv[1] == "ready" else []
        sys.stdout.write(json.dumps({"roles": list(roles), "failing": failing}) + "\n")
        return 1 if failing else 0
    web = settings.web
    try:
        with urllib.request.urlopen(url(web, sys.argv[1]), timeout=TIMEOUT_S, context=_context(web)) as answer:
            sys.stdout.write(answer.read().decode() + "\n")
    except urllib.error.HTTPError as error:
        sys.stdout.write(error.read().decode() + "\n")
        return 1
    except OSError as error:
        sys.stdout.write(f"no answer: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
