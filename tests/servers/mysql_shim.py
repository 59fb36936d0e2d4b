#!/usr/bin/env python3
"""mysql_shim.py BUILD: examples/mysql-shim as its user meets it. `run` serves, keeps a connection over a crash, starts
again with its data, and ends on Ctrl-C; `run --demo` shows 200 crashes of 8 clients, and one that cannot be contained.
Exit status 77: skipped.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import programs

SKIPPED = 77
RUN = os.path.join(programs.ROOT, "examples", "mysql-shim", "run")
KINDS = 15
CRASH_AND_GO_ON = """CREATE DATABASE IF NOT EXISTS here;
USE here;
CREATE OR REPLACE FUNCTION fail_abort RETURNS INTEGER SONAME 'udf_trial.so';
CREATE OR REPLACE FUNCTION udf_reversed RETURNS STRING SONAME 'udf_trial.so';
CREATE OR REPLACE TABLE t (n INT) ENGINE=InnoDB;
BEGIN;
INSERT INTO t VALUES (1);
UPDATE t SET n = fail_abort(-1);
INSERT INTO t VALUES (fail_abort(2));
COMMIT;
"""
# Also what no function of the trial library gives back on its first call: a result longer than the server's buffer.
LATER = "SELECT SUM(n), udf_reversed('desrever'), LENGTH(udf_reversed(REPEAT('ab', 5000))) FROM here.t"


def expect(what, got, wanted):
    if got != wanted:
        raise SystemExit(f"{what}: {got!r}, not {wanted!r}")


def serve(build, scratch):
    port, folder = programs.free_port(), os.path.join(scratch, "serve")
    client = [programs.find("mariadb"), "--no-defaults", "-uroot", "--batch", "--skip-column-names"]
    for sql, out, error in ((CRASH_AND_GO_ON, "", "function fail_abort failed and was undone"),
                            (LATER, "3\treversed\t10000\n", "")):
        with subprocess.Popen([sys.executable, RUN, "--build", build, "--data", folder, "--port", str(port)],
                              stdout=subprocess.PIPE, text=True) as run:
            try:
                ready = next((line for line in run.stdout if "ready" in line), None)
                expect("ready", ready is not None, True)
                asked = subprocess.run([*client, "--force", "-h127.0.0.1", f"-P{port}"], input=sql, text=True,
                                       capture_output=True, timeout=60, check=False)
                expect("the client's output", asked.stdout, out)
                expect("the client's error", error in asked.stderr and asked.stderr.count("ERROR") == bool(error), True)
            finally:
                run.send_signal(signal.SIGINT)
            expect("exit status after Ctrl-C", run.wait(60), 0)
        with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as log:
            expect("a clean end", "Shutdown complete" in log.read(), True)
        os.remove(os.path.join(folder, "log"))


def demo(build, scratch):
    result = os.path.join(scratch, "result.json")
    status = subprocess.run([sys.executable, RUN, "--demo", "--escalate", "--build", build, "--json", result],
                            timeout=170, check=False).returncode
    with open(result, encoding="utf-8") as file:
        results = json.load(file)["results"]
    expect("exit status of the demo", status, 0)
    monitored = results["monitored"]
    expect("crashes", (monitored["crashes"], len(monitored["crashes_by_kind"])), (200, KINDS))
    expect("lost by others, restarts", (monitored["statements_lost_by_others"], monitored["restarts"]), (0, 0))
    expect("CHECK TABLE", set(monitored["check_table"].values()), {"OK"})
    expect("the native server died", results["native"]["died_of"] is not None, True)
    expect("the far overrun", results["escalation"]["died_of"], "SIGABRT")


def main():
    build = os.path.abspath(sys.argv[1])
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("skipped: needs /dev/kvm")
        return SKIPPED
    if shutil.which("mariadbd", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
        print("skipped: needs mariadb-server-core")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="vmsrs-shim-") as scratch:
        serve(build, scratch)
        demo(build, scratch)
    return 0


sys.exit(main())
