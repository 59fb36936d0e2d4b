"""Clients that ask a server for random things and judge every answer by a model of their own.

A client owns what its name prefixes, so that several can work on one server. step() makes one request, or a few that
belong together; a wrong answer raises Wrong.
"""

import os
import random
import subprocess
import threading
import zlib


class Wrong(Exception):
    """An answer that is not the model's."""


def expect(what, got, wanted):
    if got != wanted:
        raise Wrong(f"{what}: got {got!r:.300}, not {wanted!r:.300}")


class Client:
    def __init__(self, server, name, seed):
        self.server, self.name = server, name
        self.random = random.Random(seed)
        self.steps = 0
        self.operations = [getattr(self, word) for word in sorted(dir(self)) if word.startswith("do_")]

    def step(self):
        self.steps += 1
        self.random.choice(self.operations)()

    def blob(self, largest):
        """Bytes of a random length, short ones more often."""
        length = self.random.randrange(1, self.random.choice([16, 200, 5000, largest]))
        return self.random.randbytes(1 + length // 7) * 7

    def close(self):
        pass


class Lines(Client):
    """A client of a protocol of lines and counted blocks."""

    def __init__(self, server, name, seed):
        super().__init__(server, name, seed)
        self.link = server.connect()
        self.file = self.link.makefile("rb")

    def line(self):
        text = self.file.readline()
        if not text.endswith(b"\r\n"):
            raise Wrong(f"{self.server.name} closed the connection")
        return text[:-2]

    def block(self, size):
        data = self.file.read(size + 2)
        expect("end of a block", data[size:], b"\r\n")
        return data[:size]

    def close(self):
        self.file.close()
        self.link.close()


class RedisClient(Lines):
    def __init__(self, server, name, seed):
        super().__init__(server, name, seed)
        self.model = {}

    def send(self, *words):
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.link.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))

    def answer(self):
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return None if rest == b"-1" else self.block(int(rest))
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        return line.decode()

    def ask(self, wanted, *words):
        self.send(*words)
        expect(f"redis {words[0]} {words[1]}", self.answer(), wanted)

    def key(self, kind):
        return f"{self.name}:{kind}:{self.random.randrange(20)}"

    def do_set(self):
        key, value = self.key("s"), self.blob(200_000)
        self.ask("+OK", "SET", key, value)
        self.model[key] = value

    def do_get(self):
        key = self.key("s")
        self.ask(self.model.get(key), "GET", key)

    def do_append(self):
        key = self.key("s")
        self.ask(len(self.model.get(key, b"")) + 1, "APPEND", key, b"+")
        self.model[key] = self.model.get(key, b"") + b"+"
        self.ask(self.model[key][:1000], "GETRANGE", key, 0, 999)

    def do_delete(self):
        key = self.key("s")
        self.ask(1 if self.model.pop(key, None) is not None else 0, "DEL", key)

    def do_count(self):
        key = self.key("n")
        self.model[key] = self.model.get(key, 0) + 3
        self.ask(self.model[key], "INCRBY", key, 3)

    def do_list(self):
        key, value = self.key("l"), self.blob(300)
        items = self.model.setdefault(key, [])
        items.append(value)
        self.ask(len(items), "RPUSH", key, value)
        self.ask(items[-5:], "LRANGE", key, -5, -1)
        if len(items) > 50:
            self.ask(items.pop(0), "LPOP", key)

    def do_sorted(self):
        key = self.key("z")
        scores = self.model.setdefault(key, {})
        member = f"m{self.random.randrange(100)}".encode()
        self.ask(0 if member in scores else 1, "ZADD", key, self.random.randrange(1000), member)
        self.send("ZSCORE", key, member)
        scores[member] = int(self.answer())
        wanted = sorted(scores, key=lambda m: (scores[m], m))
        self.ask(wanted, "ZRANGE", key, 0, -1)

    def do_many_at_once(self):
        """A transaction, and requests sent together before the first answer is read."""
        key = self.key("p")
        self.send("MULTI")
        for _ in range(20):
            self.send("INCR", key)
        self.send("EXEC")
        expect("redis MULTI", [self.answer() for _ in range(21)], ["+OK"] + ["+QUEUED"] * 20)
        before = self.model.get(key, 0)
        expect("redis EXEC", self.answer(), list(range(before + 1, before + 21)))
        self.model[key] = before + 20

    def do_expire(self):
        key = self.key("e")
        self.ask("+OK", "SET", key, b"soon", "PX", 1)
        self.ask(0, "EXISTS", key + "none")


class MemcachedClient(Lines):
    def __init__(self, server, name, seed):
        super().__init__(server, name, seed)
        self.model = {}

    def key(self):
        return f"{self.name}-{self.random.randrange(50)}"

    def store(self, command, key, value):
        self.link.sendall(f"{command} {key} 5 0 {len(value)}\r\n".encode() + value + b"\r\n")
        return self.line()

    def get(self, key):
        self.link.sendall(f"get {key}\r\n".encode())
        line = self.line()
        if line == b"END":
            return None
        value = self.block(int(line.rsplit(b" ", 1)[1]))
        expect("memcached get", self.line(), b"END")
        return value

    def do_set(self):
        key, value = self.key(), self.blob(200_000)
        expect("memcached set", self.store("set", key, value), b"STORED")
        self.model[key] = value

    def do_get(self):
        key = self.key()
        expect("memcached get", self.get(key), self.model.get(key))

    def do_add_and_append(self):
        key = self.key()
        expect("memcached add", self.store("add", key, b"new"), b"NOT_STORED" if key in self.model else b"STORED")
        self.model.setdefault(key, b"new")
        expect("memcached append", self.store("append", key, b"+more"), b"STORED")
        self.model[key] += b"+more"
        expect("memcached get", self.get(key), self.model[key])

    def do_delete(self):
        key = self.key()
        self.link.sendall(f"delete {key}\r\n".encode())
        expect("memcached delete", self.line(), b"DELETED" if self.model.pop(key, None) is not None else b"NOT_FOUND")

    def do_count(self):
        key = f"{self.name}-n"
        if key not in self.model:
            expect("memcached set", self.store("set", key, b"0"), b"STORED")
            self.model[key] = 0
        self.model[key] += 7
        self.link.sendall(f"incr {key} 7\r\n".encode())
        expect("memcached incr", self.line(), str(self.model[key]).encode())

    def do_many_at_once(self):
        keys = [self.key() for _ in range(10)]
        self.link.sendall(b"".join(f"get {key}\r\n".encode() for key in keys))
        for key in keys:
            line, value = self.line(), None
            if line != b"END":
                value = self.block(int(line.rsplit(b" ", 1)[1]))
                expect("memcached get", self.line(), b"END")
            expect("memcached get", value, self.model.get(key))


class NginxClient(Lines):
    """Files that prepare() made, whole, in part and compressed, over one kept connection."""

    SIZES = (0, 10, 4000, 70_000, 3_000_000)

    @classmethod
    def prepare(cls, server):
        for size in cls.SIZES:
            with open(os.path.join(server.folder, "www", f"{size}.html"), "wb") as file:
                file.write(cls.content(size))

    @staticmethod
    def content(size):
        return random.Random(size).randbytes(size // 2 + 1).hex().encode()[:size]

    def get(self, path, *headers, method="GET"):
        text = f"{method} {path} HTTP/1.1\r\nHost: here\r\n" + "".join(header + "\r\n" for header in headers) + "\r\n"
        self.link.sendall(text.encode())
        status, fields = int(self.line().split()[1]), {}
        while True:
            line = self.line()
            if not line:
                break
            name, value = line.decode().split(": ", 1)
            fields[name.lower()] = value
        body = b""
        if method == "HEAD" or status == 304:
            pass
        elif fields.get("transfer-encoding") == "chunked":
            while True:
                part = self.block(int(self.line(), 16))
                if not part:
                    break
                body += part
        else:
            body = self.file.read(int(fields["content-length"]))
        return status, fields, body

    def size(self):
        return self.random.choice(self.SIZES)

    def do_whole(self):
        size = self.size()
        status, _, body = self.get(f"/{size}.html")
        expect("nginx GET", (status, body == self.content(size)), (200, True))

    def do_part(self):
        size = self.random.choice(self.SIZES[2:])
        first = self.random.randrange(size)
        last = self.random.randrange(first, size)
        status, fields, body = self.get(f"/{size}.html", f"Range: bytes={first}-{last}")
        expect("nginx range", (status, fields["content-range"]), (206, f"bytes {first}-{last}/{size}"))
        expect("nginx range's bytes", body == self.content(size)[first:last + 1], True)

    def do_compressed(self):
        size = self.random.choice(self.SIZES[2:4])
        status, fields, body = self.get(f"/{size}.html", "Accept-Encoding: gzip")
        expect("nginx gzip", (status, fields.get("content-encoding")), (200, "gzip"))
        expect("nginx gzip's bytes", zlib.decompress(body, 31) == self.content(size), True)

    def do_head(self):
        size = self.size()
        status, fields, _ = self.get(f"/{size}.html", method="HEAD")
        expect("nginx HEAD", (status, fields["content-length"]), (200, str(size)))

    def do_missing(self):
        expect("nginx missing", self.get("/missing")[0], 404)

    def do_folder(self):
        status, _, body = self.get("/")
        expect("nginx folder", (status, all(f"{size}.html".encode() in body for size in self.SIZES)), (200, True))


class MariaDBClient(Client):
    """Through the command-line client, one session kept."""

    @staticmethod
    def prepare(server):
        server.query("""CREATE DATABASE IF NOT EXISTS load_test;
USE load_test;
CREATE TABLE IF NOT EXISTS account (id INT PRIMARY KEY, money BIGINT) ENGINE=InnoDB;
REPLACE INTO account SELECT seq, 1000 FROM seq_1_to_20;""")

    def __init__(self, server, name, seed):
        super().__init__(server, name, seed)
        self.process = subprocess.Popen(
            [*server.client(), "--batch", "--skip-column-names", "--unbuffered", "--force", "--max-allowed-packet=16M",
             "load_test"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.table, self.rows, self.inserted = f"t_{name}", {}, 0
        self.ask(f"DROP TABLE IF EXISTS {self.table}; CREATE TABLE {self.table} (id INT AUTO_INCREMENT PRIMARY KEY,"
                 " number INT, words TEXT CHARACTER SET utf8mb4, KEY (number)) ENGINE=InnoDB;")

    def ask(self, sql):
        """The lines of the answers to these statements."""
        end = f"end of {self.name} {self.steps}"
        try:
            self.process.stdin.write(f"{sql}\nSELECT '{end}';\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Wrong(f"the session of {self.name} ended with {self.process.wait()}") from None
        lines = []
        for line in self.process.stdout:
            if line == end + "\n":
                return lines
            lines.append(line.rstrip("\n").split("\t"))
        raise Wrong(f"the session of {self.name} ended with {self.process.wait()}: {lines[-3:]}")

    def do_insert(self):
        rows = []
        for _ in range(self.random.choice([1, 1, 1, 50])):
            self.inserted += 1
            word = "".join(self.random.choice("abcäöü€") for _ in range(self.random.choice([3, 30, 3000])))
            rows.append((self.inserted, self.random.randrange(100), word))
        values = ",".join(f"({i},{n},'{w}')" for i, n, w in rows)
        expect("INSERT", self.ask(f"INSERT INTO {self.table} VALUES {values};"), [])
        self.rows.update({i: (n, w) for i, n, w in rows})

    def do_select(self):
        number = self.random.randrange(100)
        wanted = [[str(i), w] for i, (n, w) in sorted(self.rows.items()) if n == number]
        got = self.ask(f"SET NAMES utf8mb4; SELECT id, words FROM {self.table} WHERE number = {number} ORDER BY id;")
        expect("SELECT", got, wanted)

    def do_aggregate(self):
        groups = {}
        for n, w in self.rows.values():
            groups.setdefault(n % 7, []).append(len(w))
        wanted = [[str(k), str(len(v)), str(sum(v))] for k, v in sorted(groups.items())]
        expect("GROUP BY", self.ask(f"SELECT number % 7 AS k, COUNT(*), SUM(CHAR_LENGTH(words)) FROM {self.table} "
                                    "GROUP BY k ORDER BY k;"), wanted)

    def do_update(self):
        number = self.random.randrange(100)
        expect("UPDATE", self.ask(f"UPDATE {self.table} SET words = 'x' WHERE number = {number};"), [])
        self.rows.update({i: (n, "x") for i, (n, w) in self.rows.items() if n == number})

    def do_delete(self):
        if len(self.rows) > 300:
            expect("DELETE", self.ask(f"DELETE FROM {self.table} WHERE number < 50;"), [])
            self.rows = {i: row for i, row in self.rows.items() if row[0] >= 50}

    def do_undo(self):
        got = self.ask(f"BEGIN; DELETE FROM {self.table}; SELECT COUNT(*) FROM {self.table}; ROLLBACK;"
                       f"SELECT COUNT(*) FROM {self.table};")
        expect("ROLLBACK", got, [["0"], [str(len(self.rows))]])

    def do_transfer(self):
        """Money between two accounts that all clients share: their sum stays, whoever has to wait or to start again."""
        one, other = sorted(self.random.sample(range(1, 21), 2))
        money = self.random.randrange(-50, 50)
        got = self.ask(f"BEGIN; UPDATE account SET money = money - {money} WHERE id = {one};"
                       f"UPDATE account SET money = money + {money} WHERE id = {other}; COMMIT;"
                       "SELECT SUM(money) FROM account;")
        expect("transfer", got, [["20000"]])

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


CLIENTS = {"redis": RedisClient, "memcached": MemcachedClient, "nginx": NginxClient, "mariadb": MariaDBClient}


def run(server, clients, steps=None, until=None, seed=1, name="c"):
    """So many clients at once, each so many steps, or while until() is false. Returns the steps; the first wrong
    answer is raised."""
    kind = CLIENTS[server.name]
    wrong, done, lock = [], [0], threading.Lock()

    def work(number):
        client = None
        try:
            client = kind(server, f"{name}{number}", seed * 1000 + number)
            while not wrong and (until is None or not until()) and (steps is None or client.steps < steps):
                client.step()
        except Exception as error:  # pylint: disable=broad-except
            wrong.append(error)
        finally:
            with lock:
                done[0] += client.steps if client else 0
            if client:
                client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]
    return done[0]
