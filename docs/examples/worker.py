"""A worker over HTTP, by Python's standard library alone: python worker.py PORT.

It takes each attempt that is posted to it, and makes it in a thread of its own.
"""

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORKER_ID = f"worker-{time.time_ns():x}"
SEEN = set()


def call_back(envelope, what, **said):
    """Tell Springline about an attempt; None if the attempt is not this worker's, or not any more."""
    said |= {"attempt": envelope["attempt"], "attemptId": envelope["attemptId"], "workerId": WORKER_ID}
    request = urllib.request.Request(
        f"{envelope['callbackBaseUrl']}/api/v1/tasks/{envelope['taskId']}/{what}",
        json.dumps(said).encode(),
        {"Authorization": f"Bearer {envelope['taskToken']}", "Content-Type": "application/json"},
    )
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                return None
        except OSError:
            pass  # No answer: the same callback is sent again.
        time.sleep(1)


def make(envelope):
    """Make one attempt: here it waits, for as many seconds as the run's configuration says."""
    if call_back(envelope, "started") is None:
        return
    ends_at = time.monotonic() + envelope["payload"]["config"].get("seconds", 0)
    while (left := ends_at - time.monotonic()) > 0:
        time.sleep(min(left, envelope["heartbeatTimeoutSec"] / 4))
        beat = call_back(envelope, "heartbeat", message=f"{max(left, 0):.0f} s left")
        if beat is None:
            return
        if beat["shouldCancel"]:
            call_back(envelope, "completed", outcome="CANCELLED")
            return
    call_back(envelope, "completed", outcome="SUCCEEDED", output={"rowCount": 1})


class Door(BaseHTTPRequestHandler):
    """Takes envelopes; the same one may come several times."""

    def do_POST(self):
        """Answer at once, and work behind the answer."""
        envelope = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_new = envelope["attemptId"] not in SEEN
        SEEN.add(envelope["attemptId"])
        if is_new:
            threading.Thread(target=make, args=[envelope], daemon=True).start()
        self.send_response(202 if is_new else 409)
        self.end_headers()


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Door).serve_forever()
