#!/usr/bin/env python3
"""Real servers, checkpointed under load and restored: everything that they had acknowledged by then is there.

usage: checkpoint_servers.py VMSRS BOOKSTORE BOOKSTORE_LOAD
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

VMSRS, BOOKSTORE, LOAD = sys.argv[1:4]
PATIENCE = 60 * int(os.environ.get("VMSRS_TIME_SCALE", "1"))


def expect(good, what):
    if not good:
        sys.exit(f"wrong: {what}")


def checkpoint(guest, state, epochs):
    done = subprocess.run([VMSRS, "checkpoint", "--epochs", str(epochs), "--every", "20", str(guest.pid), state],
                          capture_output=True, text=True, timeout=PATIENCE, check=False)
    expect(done.returncode == 0, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def stop(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def wait_for_port(port):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        except OSError:
            time.sleep(0.02)
    sys.exit(f"wrong: nobody listens on port {port}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Redis:
    def __init__(self, port):
        self.socket = wait_for_port(port)
        self.file = self.socket.makefile("rb")

    def ask(self, *words):
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        line = self.file.readline()
        if line[:1] == b"$" and line != b"$-1\r\n":
            return self.file.read(int(line[1:]) + 2)[:-2]
        return line.rstrip()


def redis(scratch):
    program = os.path.join(scratch, "redis-server")
    os.symlink(shutil.which("redis-check-rdb"), program)
    port = free_port()
    state = os.path.join(scratch, "redis-state")
    guest = subprocess.Popen([VMSRS, "run", "--", program, "--port", str(port), "--save", "", "--dir", scratch],
                             stdout=subprocess.DEVNULL)
    acknowledged = {}
    ended = threading.Event()
    try:
        client = Redis(port)
        for i in range(2000):
            expect(client.ask(b"SET", b"key%d" % i, b"value%d" % i * 8) == b"+OK", "SET")

        def writer():
            other = Redis(port)
            n = 0
            while not ended.is_set():
                try:
                    if other.ask(b"SET", b"live", b"%d" % n) == b"+OK":
                        acknowledged["live"] = n
                except OSError:
                    return
                n += 1

        thread = threading.Thread(target=writer)
        thread.start()
        time.sleep(0.2)
        before = acknowledged["live"]
        epochs = checkpoint(guest, state, 5)
        ended.set()
        thread.join()
        after = acknowledged["live"]
    finally:
        stop(guest)
    guest = subprocess.Popen([VMSRS, "restore", state], stdout=subprocess.DEVNULL)
    try:
        client = Redis(port)
        for i in range(2000):
            expect(client.ask(b"GET", b"key%d" % i) == b"value%d" % i * 8, f"GET key{i}")
        live = int(client.ask(b"GET", b"live"))
        expect(before <= live <= after + 1, f"live is {live}, acknowledged {before} before and {after} after")
        expect(client.ask(b"SET", b"new", b"1") == b"+OK" and client.ask(b"GET", b"new") == b"1", "SET after the restore")
    finally:
        stop(guest)
    pauses = sorted(e["pause_ns"] / 1e6 for e in epochs)
    print(f"redis: {len(epochs)} epochs, longest pause {pauses[-1]:.2f} ms, 2000 keys are there")


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        return json.load(answer)


def load(port, scratch, name, *more):
    out = os.path.join(scratch, name)
    return out, subprocess.Popen([LOAD, "--port", str(port), "--json", out, *more], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)


def stock_and_orders_agree(port, copies_at_start):
    """The number of orders. What was under way when the checkpoint was taken may still come to its end: then again."""
    for _ in range(100):
        count = get(port, "/ledger")["count"]
        books = get(port, "/books")["books"]
        sold, told = {}, 0
        while told < count:
            page = get(port, f"/ledger?from={told + 1}")["orders"]
            expect(page, f"{count} orders, {told} are told")
            told += len(page)
            for order in page:
                sold[order["book"]] = sold.get(order["book"], 0) + order["copies"]
        left = {b.get("book", b.get("id")): b["stock"] for b in books}
        wrong = [b for b in left if left[b] + sold.get(b, 0) != copies_at_start[b]]
        if not wrong and get(port, "/ledger")["count"] == count:
            return count
        time.sleep(0.05)
    b = (wrong or [0])[0]
    sys.exit(f"wrong: book {b}: {left[b]} left and {sold.get(b, 0)} sold of {copies_at_start[b]}")


def bookstore(scratch):
    state = os.path.join(scratch, "bookstore-state")
    report = os.path.join(scratch, "report")
    guest = subprocess.Popen([VMSRS, "run", "--report", report, "--", BOOKSTORE, "--inject", "--port", "0", "--threads", "28"],
                             stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r"(\d+)\D*$", guest.stdout.readline()).group(1))
        at_start = {b.get("book", b.get("id")): b["stock"] for b in get(port, "/books")["books"]}
        _, users = load(port, scratch, "first", "--users", "20", "--requests", "100000", "--faults", "3:store:mid,5:load:mid,7:abort:mid")
        time.sleep(1)
        before = get(port, "/ledger")["count"]
        epochs = checkpoint(guest, state, 10)
    finally:
        stop(guest)
    stop(users)
    guest = subprocess.Popen([VMSRS, "restore", "--report", report, state], stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port).close()
        count = stock_and_orders_agree(port, at_start)
        expect(count >= before, f"{before} orders were there before the checkpoint, {count} are after the restore")
        # It serves, and contains faults, as before.
        out, users = load(port, scratch, "second", "--users", "20", "--requests", "30", "--faults", "2:store:mid,9:load:mid")
        users.wait(timeout=PATIENCE)
        with open(out, encoding="utf-8") as file:
            judged = json.load(file)
        expect(judged["passed"], json.dumps(judged)[:2000])
        stock_and_orders_agree(port, at_start)
    finally:
        stop(guest)
    pauses = sorted(e["pause_ns"] / 1e6 for e in epochs)
    print(f"bookstore: {len(epochs)} epochs under load, longest pause {pauses[-1]:.2f} ms, {count} orders agree with the stock")


def main():
    with tempfile.TemporaryDirectory(prefix="vmsrs-checkpoint-") as scratch:
        redis(scratch)
        bookstore(scratch)


if __name__ == "__main__":
    main()
