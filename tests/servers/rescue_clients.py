"""Clients of Debian's unmodified servers that keep a model of their data while faults strike the server, and the campaign
that counts what comes of them (scripts/rescue-campaign, scripts/inject-campaign).
"""

import collections
import json
import os
import random
import shutil
import socket
import sys
import threading
import time

sys.dont_write_bytecode = True
import programs

PATIENCE = 15  # seconds without an answer: the server hangs
CRASHES = ("null_read", "wild_write", "noncanonical", "code_write", "division", "jump", "abort", "exception", "recursion",
           "init")


class Lost(Exception):
    """The connection was closed."""


class Hangs(Exception):
    """No answer in time."""


class Link:
    def __init__(self, address):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(address)
        except OSError as error:
            raise Lost from error
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        try:
            self.socket.sendall(data)
        except TimeoutError as error:
            raise Hangs from error
        except OSError as error:
            raise Lost from error

    def take(self, size=None):
        try:
            data = self.file.readline() if size is None else self.file.read(size)
        except TimeoutError as error:
            raise Hangs from error
        except OSError as error:
            raise Lost from error
        if not data or (size is not None and len(data) != size):
            raise Lost
        return data

    def close(self):
        self.file.close()
        self.socket.close()


class Session(Link):
    """MariaDB's protocol: root without a password, statements, one column of answers at most."""

    def __init__(self, path):
        super().__init__(path)
        self.packet()
        body = (0x200 | 0x8000 | 0x80000 | 0x2000).to_bytes(4, "little") + (1 << 24).to_bytes(4, "little")
        self.say(1, body + bytes([45]) + bytes(23) + b"root\0\0mysql_native_password\0")
        if self.packet()[0] != 0:
            raise Lost

    def say(self, number, body):
        self.send(len(body).to_bytes(3, "little") + bytes([number]) + body)

    def packet(self):
        head = self.take(4)
        return self.take(int.from_bytes(head[:3], "little"))

    def ask(self, sql):
        """None, the rows, or an error's number."""
        self.say(0, b"\x03" + sql.encode())
        first = self.packet()
        if first[0] == 0:
            return None
        if first[0] == 0xFF:
            return int.from_bytes(first[1:3], "little")
        for _ in range(first[0]):
            self.packet()
        self.packet()
        rows = []
        while True:
            row = self.packet()
            if row[0] == 0xFF:
                return int.from_bytes(row[1:3], "little")
            if row[0] == 0xFE and len(row) < 9:
                return rows
            values, at = [], 0
            for _ in range(first[0]):
                size = row[at]
                at += 1
                if size == 0xFB:
                    values.append(None)
                    continue
                if size == 0xFC:
                    size = int.from_bytes(row[at:at + 2], "little")
                    at += 2
                values.append(row[at:at + size].decode())
                at += size
            rows.append(values[0] if len(values) == 1 else tuple(values))


class MariaDBServer(programs.MariaDB):
    def answers(self):
        try:
            super().answers()
        except IndexError as error:  # this connection was struck
            raise OSError("cut off") from error


class Campaign:
    """One server under the monitor, clients with models, what they saw."""

    def __init__(self, options, build, scratch):
        self.options, self.scratch = options, scratch
        self.vmsrs = os.path.join(build, "bin", "vmsrs")
        self.library = os.path.join(build, "lib")
        self.count = collections.Counter()
        self.wrong, self.causes = [], collections.Counter()
        self.lock = threading.Lock()
        self.generation, self.stopping, self.hanging = 0, False, False
        self.restart_seconds = []
        self.server = None
        self.folder = os.path.join(scratch, "server")
        self.strikes_left = options.faults
        self.landing, self.locks, self.quiet = [], 0, True

    def monitor(self):
        report = f"{self.scratch}/report{self.generation}"
        return [self.vmsrs, *self.strikes(), "--rescue=guarded", "--rescue-loop", str(self.options.loop), "--report",
                report, "--rescue-adapter", f"{self.library}/librescue_{self.options.server}.so", "--env", "LC_ALL=C",
                "--"]

    def strikes(self):
        """The monitor's command, and its options for the faults."""
        if self.options.kind == "calls":
            return ["run", "--strikes", str(self.strikes_left), "--strike-call", "sendmsg", "--strike-each", "20"]
        if self.options.kind == "random" and not self.quiet:
            return ["run", "--strikes", str(self.strikes_left), "--strike-us", str(self.options.us), "--strike-seed",
                    str(self.options.seed + self.generation)]
        return ["run"]

    def struck(self):
        """How many faults this server has had."""
        return len(self.faults())

    def note(self, what, n=1):
        with self.lock:
            self.count[what] += n

    def bad(self, text):
        with self.lock:
            self.wrong.append(text)

    def faults(self):
        found = []
        try:
            with open(f"{self.scratch}/report{self.generation}", encoding="utf-8") as file:
                for line in file:
                    entry = json.loads(line)
                    if entry["type"] == "fault":
                        found.append(entry)
        except (FileNotFoundError, ValueError):
            pass
        return found

    def start(self):
        while True:
            begin = time.monotonic()
            self.server = self.make()
            try:
                self.server.start()
            except RuntimeError:  # struck while it was asked for its first answer
                if not self.faults():
                    raise
                self.settle()
                continue
            self.restart_seconds.append(time.monotonic() - begin)
            return

    def settle(self):
        """A server that ended or hangs: what its report says, and a new one."""
        faults = self.faults()
        rescued = sum(f["outcome"] == "rescued" for f in faults)
        self.note("rescued", rescued)
        self.note("faults", len(faults))
        if faults:
            self.landing += [f["land_us"] for f in faults if f["outcome"] == "rescued"]
            self.locks += sum(f["locks_released"] for f in faults if f["outcome"] == "rescued")
        # Another thread may have been struck after the one that the guard ended the server for.
        last = next((f["outcome"] for f in faults if "not rescued" in f["outcome"]), "")
        if self.hanging:
            self.note("hung")
            self.causes["hung"] += 1
            self.server.kill()
        elif self.server.process.poll() is not None:
            if "not rescued: after a rescue" in last:
                self.note("ended by its probe")
            elif "not rescued" in last:
                self.note("ended by the guard")
            else:
                self.note("ended otherwise")
            cause = last.split("not rescued: ")[-1] if "not rescued" in last else f"status {self.server.process.poll()}"
            self.causes[cause.split(": ")[0] if "engine" in cause or "0x" in cause else cause] += 1
        if self.options.keep and (self.hanging or self.server.process.poll() is not None):
            shutil.copy(self.server.log, f"{self.options.keep}.log{self.generation}")
            shutil.copy(f"{self.scratch}/report{self.generation}", f"{self.options.keep}.report{self.generation}")
        # A strike can be followed by faults that nobody asked for.
        self.strikes_left = max(0, self.strikes_left - self.struck())
        self.hanging = False
        self.generation += 1

    def run(self):
        self.quiet = True
        self.start()
        self.prepare()
        if self.options.kind == "random":
            self.again(quiet=False)
        memory = None
        clients = [threading.Thread(target=self.client, args=(i,)) for i in range(self.options.clients)]
        for client in clients:
            client.start()
        end = time.monotonic() + self.options.seconds
        while time.monotonic() < end and any(c.is_alive() for c in clients):
            time.sleep(0.05)
            if self.server.process.poll() is not None or self.hanging:
                with self.restarting:
                    self.settle()
                    if self.strikes_left <= 0 or self.stopping:
                        self.stopping = True
                    self.start()
                    self.restarted()
                continue
            if memory is None and len(self.faults()) >= min(100, self.options.faults // 5):
                resident = self.memory_mb()
                if resident is not None:
                    memory = (resident, len(self.faults()))
            if self.options.kind != "udf" and self.struck() >= self.strikes_left:
                self.stopping = True
        self.stopping = True
        for client in clients:
            client.join()
        if memory is not None and len(self.faults()) > memory[1] and self.generation == 0:
            resident = self.memory_mb()
            if resident is not None:
                self.count["KB a fault"] = round((resident - memory[0]) * 1024 / (len(self.faults()) - memory[1]), 1)
        if self.options.kind == "random":
            self.settle_end()
            self.again(quiet=True)
        self.judge()
        status = self.server.stop()
        if status != self.clean_status:
            self.bad(f"exit status {status}")
        self.settle_end()

    restarting = threading.Lock()

    def again(self, quiet):
        """The same server and data, with or without strikes."""
        if self.server.process.poll() is None:
            self.server.stop()
        self.quiet = quiet
        self.generation += 1
        self.start()

    def settle_end(self):
        faults = self.faults()
        self.note("rescued", sum(f["outcome"] == "rescued" for f in faults))
        self.note("faults", len(faults))
        self.landing += [f["land_us"] for f in faults if f["outcome"] == "rescued"]
        self.locks += sum(f["locks_released"] for f in faults if f["outcome"] == "rescued")

    def memory_mb(self):
        with open(f"/proc/{self.server.process.pid}/status", encoding="ascii") as file:
            # None: it has just ended, and memory is the first thing that goes.
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS:")), None)

    def connected(self, make):
        """A fresh connection, over restarts; None: the campaign ends."""
        while not self.stopping:
            try:
                with self.restarting:
                    generation = self.generation
                return make(), generation
            except (Lost, Hangs):
                time.sleep(0.02)
        return None, 0

    def restarted(self):
        pass


class Memcached(Campaign):
    clean_status = 0

    def make(self):
        return programs.Memcached(self.folder, self.monitor())

    def prepare(self):
        pass

    def judge(self):
        pass

    def client(self, number):
        pick = random.Random(f"{self.options.seed}-{number}")
        model, link, seen = {}, None, -1
        maybe = {}  # what an interrupted request may have left: key to both values
        while not self.stopping:
            if link is None:
                link, generation = self.connected(lambda: Link(("127.0.0.1", self.server.port)))
                if link is None:
                    return
                if generation != seen:
                    model, maybe, seen = {}, {}, generation
            key = f"c{number}-{pick.randrange(40)}"
            operation = pick.choice(("set", "get", "get", "delete", "append", "many"))
            old = model.get(key)
            value = (f"{key}={pick.random()}:" * pick.randrange(1, pick.choice((4, 60, 2000)))).encode()
            new = {"set": value, "delete": None, "append": old + b"+" if old is not None else None}.get(operation, old)
            try:
                if operation == "set":
                    link.send(b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), len(value), value))
                    self.expect(key, link.take(), (b"STORED\r\n",))
                elif operation == "delete":
                    link.send(b"delete %s\r\n" % key.encode())
                    self.expect(key, link.take(), self.either(key, maybe, old, b"DELETED\r\n", b"NOT_FOUND\r\n"))
                elif operation == "append" and key not in maybe:
                    link.send(b"append %s 0 0 1\r\n+\r\n" % key.encode())
                    self.expect(key, link.take(), (b"STORED\r\n",) if old is not None else (b"NOT_STORED\r\n",))
                elif operation == "append":
                    continue
                else:
                    keys = [key] if operation == "get" else [f"c{number}-{pick.randrange(40)}" for _ in range(8)]
                    link.send(b"".join(b"get %s\r\n" % k.encode() for k in keys))
                    for k in keys:
                        got = self.value(link)
                        if got not in maybe.get(k, (model.get(k),)):
                            self.bad(f"{k}: {got!r:.80}, not one of {maybe.get(k, (model.get(k),))!r:.200}")
                        maybe.pop(k, None)
                        model[k] = got
                    self.note("requests", len(keys))
                    continue
                model[key] = new
                maybe.pop(key, None)
                self.note("requests")
            except Lost:
                link.close()
                link = None
                self.note("connections lost")
                if operation in ("set", "delete", "append"):
                    maybe[key] = (*maybe.get(key, (old,)), new)
            except Hangs:
                link.close()
                link = None
                self.hanging = True

    @staticmethod
    def either(key, maybe, old, there, gone):
        return tuple(there if value is not None else gone for value in maybe.get(key, (old,)))

    def expect(self, key, got, wanted):
        if got not in wanted:
            self.bad(f"{key}: {got!r:.80}, not {wanted!r:.80}")

    @staticmethod
    def value(link):
        line = link.take()
        if line == b"END\r\n":
            return None
        data = link.take(int(line.rsplit(b" ", 1)[1]) + 2)[:-2]
        link.take()
        return data


class MariaDB(Campaign):
    clean_status = 0

    def make(self):
        options = ["--thread-cache-size=0", f"--plugin-dir={self.library}/mysql-plugins", "--skip-stack-trace",
                   "--max-connect-errors=1000000"]
        return MariaDBServer(self.folder, self.monitor(), data=os.path.join(self.scratch, "data"), options=options)

    def prepare(self):
        names = "".join(f"CREATE FUNCTION fail_{kind} RETURNS INTEGER SONAME 'udf_trial.so';" for kind in CRASHES)
        self.server.query(f"""CREATE DATABASE trial; USE trial;
CREATE TABLE account (id INT PRIMARY KEY, money BIGINT) ENGINE=InnoDB;
CREATE TABLE journal (id INT AUTO_INCREMENT PRIMARY KEY, client INT, n INT, KEY (client)) ENGINE=InnoDB;
INSERT INTO account SELECT seq, 1000 FROM seq_0_to_63; {names}""")
        self.money = {i: 1000 for i in range(64)}
        self.entries = collections.Counter()
        self.open = []  # commits of which the client could not find out what became
        self.crashes = collections.Counter()

    def session(self):
        session = Session(self.server.socket)
        session.ask("USE trial")
        return session

    def client(self, number):
        pick = random.Random(f"{self.options.seed}-{number}")
        session, mine = None, [number * 8 + i for i in range(8)]
        crashes = self.options.faults // self.options.clients + (number < self.options.faults % self.options.clients)
        step = 0
        while not self.stopping and (self.options.kind != "udf" or crashes > 0):
            step += 1
            if session is None:
                session, _ = self.connected(self.session)
                if session is None:
                    return
            a, b = pick.sample(mine, 2)
            amount = pick.randrange(1, 20)
            expected, committing = False, False
            try:
                self.said(session, "BEGIN")
                self.said(session, f"UPDATE account SET money = money - {amount} WHERE id = {a}")
                self.said(session, f"INSERT INTO journal (client, n) VALUES ({number}, {step})")
                if self.options.kind == "udf" and step % 2 == 0:
                    kind = CRASHES[(step // 2 + number) % len(CRASHES)]
                    statement = pick.choice((f"SELECT fail_{kind}(-1)",
                                             f"UPDATE account SET money = money + fail_{kind}(-1) WHERE id = {b}",
                                             f"SELECT id, fail_{kind}(-id - 1) FROM account WHERE id < 10 ORDER BY money"))
                    if kind == "init":  # sees the value of a constant only
                        statement = "SELECT fail_init(-1)"
                    expected = True
                    crashes -= 1
                    self.note("crashes asked for")
                    with self.lock:
                        self.crashes[kind] += 1
                    session.ask(statement)
                    self.bad(f"{statement}: the connection is still there")
                    expected = False
                self.said(session, f"UPDATE account SET money = money + {amount} WHERE id = {b}")
                committing = True
                self.said(session, "COMMIT")
                committing = False
                self.money[a] -= amount
                self.money[b] += amount
                self.entries[number] += 1
                if step % 5 == 0:
                    self.look(session, mine, number)
            except Lost:
                self.note("connections lost")
                session.close()
                session = None
                if not expected and self.options.kind == "udf" and not self.stopping:
                    self.bad(f"client {number} lost its connection without having crashed it")
                if committing:
                    self.find_out(number, a, b, amount)
            except Hangs:
                session.close()
                session = None
                self.hanging = True

    def find_out(self, number, a, b, amount):
        """A commit that was cut off: done or not, but not half of it."""
        while True:
            session, _ = self.connected(self.session)
            if session is None:  # the campaign ends: judge() will
                self.open.append((number, a, b, amount))
                return
            try:
                self.take_over(session, number, a, b, amount)
                session.close()
                return
            except (Lost, Hangs):
                continue

    def take_over(self, session, number, a, b, amount):
        money = dict(self.said(session, f"SELECT id, money FROM account WHERE id IN ({a}, {b})"))
        if int(money[str(a)]) == self.money[a] - amount:
            self.money[a] -= amount
            self.money[b] += amount
            self.entries[number] += 1

    def said(self, session, sql):
        answer = session.ask(sql)
        self.note("statements")
        if isinstance(answer, int):
            if answer in (1205, 1213):  # a lock's time-out, a deadlock: nobody else uses these rows
                self.bad(f"{sql}: error {answer}")
            else:
                raise Lost if answer in (1053, 1927) else AssertionError(f"{sql}: error {answer}")
        return answer

    def look(self, session, mine, number):
        rows = self.said(session, f"SELECT id, money FROM account WHERE id IN ({', '.join(map(str, mine))})")
        for key, money in rows:
            if int(money) != self.money[int(key)]:
                self.bad(f"account {key}: {money}, not {self.money[int(key)]}")
        entries = self.said(session, f"SELECT COUNT(*) FROM journal WHERE client = {number}")
        if int(entries[0]) != self.entries[number]:
            self.bad(f"journal of {number}: {entries}, not {self.entries[number]}")

    def judge(self):
        checked = self.server.query("CHECK TABLE trial.account, trial.journal EXTENDED")
        self.count["CHECK TABLE OK"] = checked.count("\tOK")
        if checked.count("\tOK") != 2:
            self.bad(checked)
        session = self.session()
        for number, a, b, amount in self.open:
            self.take_over(session, number, a, b, amount)
        for number in range(self.options.clients):
            self.look(session, list(range(number * 8, number * 8 + 8)), number)
        session.close()
