"""What mitmproxy takes to read and to write the files that `cargo bench --bench formats -- --keep DIR` leaves.

    target/venv-mitmproxy/bin/python3 tests/bench/formats/with_mitmproxy.py DIR/flows.har DIR/flows.mitmproxy

`tests/run` makes that environment. Each file is read by mitmproxy's FlowReader as `-r` does. What was read is written by its
FlowWriter as `-w` does, or, of a HAR file, by its SaveHar as `save.har` does; both into memory. Printed: flows a second, megabytes
a second, and the peak memory of the process, in which all flows are, since mitmproxy keeps them.
"""

import io
import json
import resource
import sys
import time

from mitmproxy.addons.savehar import SaveHar
from mitmproxy.io import FlowReader, FlowWriter


def told(work, flows, size, seconds):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{work:<28}{flows / seconds:>9.0f} flows/s {size / 1e6 / seconds:>8.1f} MB/s {peak:>6} MiB   {flows} flows")


for path in sys.argv[1:]:
    begin = time.perf_counter()
    with open(path, "rb") as file:
        flows = list(FlowReader(file).stream())
        size = file.tell()
    told(f"{path.rsplit('/', 1)[-1]} read", len(flows), size, time.perf_counter() - begin)
    begin = time.perf_counter()
    if path.endswith(".har"):
        written = json.dumps(SaveHar().make_har(flows), indent=4).encode()
    else:
        out = io.BytesIO()
        writer = FlowWriter(out)
        for flow in flows:
            writer.add(flow)
        written = out.getvalue()
    told(f"{path.rsplit('/', 1)[-1]} written", len(flows), len(written), time.perf_counter() - begin)
