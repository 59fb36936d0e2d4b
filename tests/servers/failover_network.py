#!/usr/bin/env python3
"""failover_network.py BUILD: the parts of a protected bookstore on two hosts (network name spaces with a link between
them), their roles in etcd. The link is cut under load: the backup goes on; when it is whole again the old primary, which
has run on meanwhile, finds its term over and ends, and its users have seen nothing of it. Exit status 77: skipped.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import failover

PATIENCE = 40
HERE, THERE = "10.77.1.1", "10.77.1.2"  # the gateway's host, the primary's


class Hosts:
    def __init__(self):
        self.names = [f"vmsrs-{os.getpid()}-{n}" for n in range(2)]
        self.links = [f"vt{os.getpid() % 100000}{end}" for end in "ab"]
        self.processes = []

    def build(self):
        run = lambda *words: subprocess.run(words, check=True, capture_output=True, text=True)
        for name in self.names:
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "link", "add", self.links[0], "netns", self.names[0], "type", "veth", "peer", "name", self.links[1], "netns", self.names[1])
        for name, link, address in zip(self.names, self.links, (HERE, THERE)):
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", link)
            run("ip", "-n", name, "link", "set", link, "up")

    def link(self, state):
        subprocess.run(["ip", "-n", self.names[1], "link", "set", self.links[1], state], check=True)

    def start(self, host, log, *words):
        with open(log, "ab") as out:
            process = subprocess.Popen(["ip", "netns", "exec", self.names[host], *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.processes.append(process)
        return process

    def end(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
            process.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def wait_for(what, found, logs):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        result = found()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {PATIENCE} s\n" + "".join(f"--- {log}\n{text(log)[-2000:]}" for log in logs))


def text(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def main():
    if failover.cannot_run():
        return failover.SKIPPED
    etcd = shutil.which("etcd")
    if os.geteuid() != 0 or etcd is None or shutil.which("ip") is None:
        print("skipped: needs root, etcd and ip")
        return failover.SKIPPED
    tools = os.path.join(os.path.abspath(sys.argv[1]), "bin")
    hosts = Hosts()
    with tempfile.TemporaryDirectory(prefix="vmsrs-failover-") as scratch:
        at = lambda name: os.path.join(scratch, name)
        try:
            hosts.build()
        except subprocess.CalledProcessError as error:
            hosts.end()
            print(f"skipped: needs network name spaces: {error.stderr.strip()}")
            return failover.SKIPPED
        try:
            with open(at("key"), "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32) + "\n")
            client, peer = f"http://{HERE}:2379", f"http://{HERE}:2380"
            hosts.start(0, at("etcd"), etcd, "--data-dir", at("data"), "--listen-client-urls", client, "--advertise-client-urls",
                        client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster",
                        f"default={peer}", "--log-level", "error", "--unsafe-no-fsync")
            asked = ["ip", "netns", "exec", hosts.names[0], sys.executable, "-c", f"import socket; socket.create_connection(('{HERE}', 2379), 1)"]
            wait_for("etcd", lambda: subprocess.run(asked, check=False, capture_output=True).returncode == 0, [at("etcd")])
            parts = ["--key-file", at("key"), "--coordinator", f"etcd://{HERE}:2379/bookstore"]
            hosts.start(0, at("gateway"), f"{tools}/vmsrs", "gateway", "--listen", f"{HERE}:7000", "--data", f"{HERE}:0", *parts, "-v")
            wait_for("the gateway", lambda: "primaries come to" in text(at("gateway")), [at("etcd"), at("gateway")])
            primary = hosts.start(1, at("primary"), f"{tools}/vmsrs", "run", "--gateway", f"{HERE}:7000", *parts, "--lease", "2000", "--",
                                  f"{tools}/bookstore", "--port", "0", "--threads", "16")
            logs = [at("gateway"), at("primary"), at("backup")]
            backup = hosts.start(0, at("backup"), f"{tools}/vmsrs", "backup", "--listen", f"{HERE}:7001", "--gateway", f"{HERE}:7000",
                                 *parts, "--lease", "2000", "-v")
            said = wait_for("the server", lambda: re.search(r"http://[\d.]+:(\d+)\s", text(at("primary"))), logs)
            load = hosts.start(0, at("load"), f"{tools}/bookstore-load", "--port", said[1], "--users", "8", "--requests", "1500", "--timeout",
                               "60000", "--seconds", "100", "--json", at("result"))
            wait_for("protection", lambda: "protected, strict" in text(at("gateway")), logs)
            time.sleep(1)
            assert load.poll() is None, text(at("load"))
            hosts.link("down")
            began = time.monotonic()
            wait_for("the backup's taking over", lambda: text(at("gateway")).count("is here") > 1 or load.poll() is not None, logs)
            took = time.monotonic() - began
            time.sleep(1)
            assert primary.poll() is None, f"the old primary did not run on\n{text(at('primary'))}"
            hosts.link("up")
            status = wait_for("the old primary's end", lambda: primary.poll(), logs)
            load.wait(100)
            with open(at("result"), encoding="utf-8") as file:
                result = json.load(file)
            judged = {name: result[name] for name in ("wrong_answers", "lost_updates", "connections_lost", "users_given_up")}
            assert load.returncode == 0 and not any(judged.values()), f"{judged}\n{text(at('load'))[-2000:]}"
            assert backup.poll() is None, text(at("backup"))
            print(f"cut off: {took:.1f} s until the backup went on; {result['requests']} requests, {judged}; "
                  f"the old primary ended with {status}: {text(at('primary')).splitlines()[-1]}")
        finally:
            hosts.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
