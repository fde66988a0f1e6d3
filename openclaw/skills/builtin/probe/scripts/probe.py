"""How a host or URL is reached from here: each layer by itself, timed, as one JSON document."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import statistics
import sys
import time
from typing import Any
from urllib.parse import urlsplit

Doc = dict[str, Any]
AGENT = "openclaw-mesh-probe/1.0"
DAY_S = 86400


def ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)


def resolve(host: str, port: int) -> Doc:
    began = time.perf_counter()
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return {"host": host, "addresses": [], "ms": ms_since(began), "problem": str(error)}
    return {
        "host": host,
        "addresses": list(dict.fromkeys(str(row[4][0]) for row in found)),
        "ms": ms_since(began),
    }


def connect(address: str, port: int, count: int, timeout_s: float) -> Doc:
    times: list[float] = []
    problem = None
    for _ in range(count):
        began = time.perf_counter()
        try:
            with socket.create_connection((address, port), timeout_s):
                times.append(ms_since(began))
        except OSError as error:
            problem = error.strerror or str(error) or type(error).__name__
    return {
        "address": address,
        "port": port,
        "asked": count,
        "answered": len(times),
        "ms": spread(times),
        "problem": problem,
    }


def spread(times: list[float]) -> Doc | None:
    if not times:
        return None
    return {"min": min(times), "median": round(statistics.median(times), 3), "max": max(times)}


def tls(host: str, address: str, port: int, timeout_s: float) -> Doc:
    """With a certificate that is checked; where that fails, once more without, to see the rest."""
    try:
        return {**handshake(ssl.create_default_context(), host, address, port, timeout_s), "trusted": True}
    except ssl.SSLCertVerificationError as error:
        lenient = ssl.create_default_context()
        lenient.check_hostname, lenient.verify_mode = False, ssl.CERT_NONE
        why = error.verify_message or str(error)
        try:
            return {**handshake(lenient, host, address, port, timeout_s), "trusted": False, "why": why}
        except OSError as second:
            return {"problem": str(second)}
    except OSError as error:
        return {"problem": str(error)}


def handshake(context: ssl.SSLContext, host: str, address: str, port: int, timeout_s: float) -> Doc:
    with socket.create_connection((address, port), timeout_s) as plain:
        began = time.perf_counter()
        with context.wrap_socket(plain, server_hostname=host) as secure:
            took, certificate, cipher = ms_since(began), secure.getpeercert() or {}, secure.cipher()
            found: Doc = {"version": secure.version(), "cipher": cipher[0] if cipher else None, "ms": took}
    if "notAfter" in certificate:
        left_s = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
        found |= {
            "subject": named(certificate.get("subject")),
            "issuer": named(certificate.get("issuer")),
            "expires": certificate["notAfter"],
            "days_left": int(left_s // DAY_S),
        }
    return found


def named(parts: Any) -> str:
    fields = {key: value for part in parts or () for key, value in part}
    return str(fields.get("commonName") or fields.get("organizationName") or "")


def ask(url: str, timeout_s: float) -> Doc:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    connection: http.client.HTTPConnection
    if secure:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # its trust was judged by itself
        connection = http.client.HTTPSConnection(
            str(parts.hostname), port, timeout=timeout_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(str(parts.hostname), port, timeout=timeout_s)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.connect()
        began = time.perf_counter()
        connection.request("GET", path, headers={"User-Agent": AGENT, "Accept": "*/*"})
        answer = connection.getresponse()
        answer.read(1)
        return {
            "status": answer.status,
            "reason": answer.reason,
            "first_byte_ms": ms_since(began),
            "server": answer.getheader("Server"),
            "type": answer.getheader("Content-Type"),
            "location": answer.getheader("Location"),
        }
    except (OSError, http.client.HTTPException) as error:
        return {"problem": str(error) or type(error).__name__}
    finally:
        connection.close()


def probe_tcp(host: str, port: int, params: Doc) -> Doc:
    name = resolve(host, port)
    found: Doc = {"name": name, "tcp": []}
    if not name["addresses"]:
        return {**found, "problem": f"name resolution: {name['problem']}"}
    found["tcp"] = [
        connect(address, port, params["count"], params["timeout_s"]) for address in name["addresses"]
    ]
    if not any(each["answered"] for each in found["tcp"]):
        found["problem"] = f"TCP: {found['tcp'][0]['problem']}"
    return found


def probe_url(params: Doc) -> Doc:
    parts = urlsplit(params["url"])
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = probe_tcp(str(parts.hostname), port, params)
    if "problem" in found:
        return found
    address = next(each["address"] for each in found["tcp"] if each["answered"])
    if parts.scheme == "https":
        found["tls"] = tls(str(parts.hostname), address, port, params["timeout_s"])
        if "problem" in found["tls"]:
            return {**found, "problem": f"TLS: {found['tls']['problem']}"}
    found["http"] = ask(params["url"], params["timeout_s"])
    if "problem" in found["http"]:
        found["problem"] = f"HTTP: {found['http']['problem']}"
    return found


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    result = probe_url(given) if sys.argv[1] == "url" else probe_tcp(given["host"], given["port"], given)
    print(json.dumps({"reached": "problem" not in result, **result}, indent=2))
    sys.exit(1 if "problem" in result else 0)
