"""What mitmproxy takes to read and to write the files that `cargo bench --bench formats -- --keep DIR` leaves.

    target/venv-mitmproxy/bin/python3 tests/bench/formats/with_mitmproxy.py DIR/flows.har DIR/flows.mitmproxy

`tests/run` makes that environment. Each file is read by mitmproxy's FlowReader as `-r` does. What was read is written by its
FlowWriter as `-w` does, or, of a HAR file, by its SaveHar as `save.har` does; both into a file beside the first, as the
benchmark's exports are. Neither the start of Python nor its imports are counted, nor, of writing, any reading: the flows are in
memory. Printed: flows a second by the clock and by processor time, megabytes a second, and the peak memory of the process, in
which all flows are, since mitmproxy keeps them.
"""

import json
import os
import resource
import sys
import time

from mitmproxy.addons.savehar import SaveHar
from mitmproxy.io import FlowReader, FlowWriter


class Told:
    def __init__(self, work):
        self.work, self.clock, self.cpu = work, time.perf_counter(), time.process_time()

    def end(self, flows, size):
        clock, cpu = time.perf_counter() - self.clock, time.process_time() - self.cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        rates = f"{flows / clock:>9.0f} flows/s {flows / cpu:>9.0f} per CPU s {size / 1e6 / clock:>8.1f} MB/s"
        print(f"{self.work:<28}{rates} {peak:>6} MiB   {flows} flows")


for path in sys.argv[1:]:
    name = path.rsplit("/", 1)[-1]
    told = Told(f"{name} read")
    with open(path, "rb") as file:
        flows = list(FlowReader(file).stream())
        size = file.tell()
    told.end(len(flows), size)
    told = Told(f"{name} written")
    with open(path + ".written", "wb") as file:
        if path.endswith(".har"):
            file.write(json.dumps(SaveHar().make_har(flows), indent=4).encode())
        else:
            writer = FlowWriter(file)
            for flow in flows:
                writer.add(flow)
        size = file.tell()
    told.end(len(flows), size)
    os.remove(path + ".written")
