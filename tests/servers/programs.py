"""Debian's servers as the tests start them: in a scratch folder, on loopback, natively or under the monitor.

Nothing of the system's own services is used: no data directory, no configuration, no port that is not free.
"""

import os
import shutil
import signal
import socket
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
START_SECONDS = 60
STOP_SECONDS = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def find(name):
    """A program's path, also where users other than root do not look."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        raise FileNotFoundError(f"{name} is not installed: scripts/install-packages does it")
    return path


class Server:
    """One server process; `prefix` is the command that it is run by, empty for a native run."""

    name = ""

    def __init__(self, scratch, prefix=()):
        self.folder = scratch
        self.prefix = list(prefix)
        self.port = free_port()
        self.process = None
        self.ready_seconds = 0.0
        os.makedirs(scratch, exist_ok=True)
        self.log = os.path.join(scratch, "output.log")

    def command(self):
        raise NotImplementedError

    def answers(self):
        """Asks for the first answer; raises OSError while there is none."""
        raise NotImplementedError

    def start(self):
        begin = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.prefix + self.command(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd=self.folder)
        while True:
            try:
                self.answers()
                break
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > begin + START_SECONDS:
                    self.kill()
                    raise RuntimeError(f"{self.name} did not start ({error}):\n{self.output()[-4000:]}") from error
                time.sleep(0.001)
        self.ready_seconds = time.monotonic() - begin
        return self

    def connect(self):
        link = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self, number=signal.SIGTERM):
        """Asks it to end; its exit status as a shell tells it."""
        self.process.send_signal(number)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.name} did not end within {STOP_SECONDS} s of signal {number}:\n"
                               f"{self.output()[-4000:]}") from None
        return status if status >= 0 else 128 - status

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()


class Redis(Server):
    name = "redis"

    def command(self):
        # Debian's redis-server is this program by another name; the package of that name would bring the service.
        program = os.path.join(self.folder, "redis-server")
        if not os.path.exists(program):
            os.symlink(find("redis-check-rdb"), program)
        return [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.folder]

    def answers(self):
        with self.connect() as link:
            link.sendall(b"PING\r\n")
            if link.recv(16) != b"+PONG\r\n":
                raise OSError("no PONG")


class Memcached(Server):
    name = "memcached"

    def command(self):
        user = ["-u", "root"] if os.geteuid() == 0 else []
        return [find("memcached"), *user, "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-t", "4"]

    def answers(self):
        with self.connect() as link:
            link.sendall(b"version\r\n")
            if not link.recv(64).startswith(b"VERSION "):
                raise OSError("no VERSION")


class Nginx(Server):
    name = "nginx"

    def command(self):
        www = os.path.join(self.folder, "www")
        os.makedirs(www, exist_ok=True)
        scratch = "".join(f"  {what}_temp_path {self.folder}/{what};\n"
                          for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(os.path.join(self.folder, "nginx.conf"), "w", encoding="ascii") as file:
            file.write(f"""daemon off;
master_process off;
pid {self.folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 512; }}
http {{
{scratch}  access_log {self.folder}/access.log;
  sendfile on;
  server {{ listen 127.0.0.1:{self.port}; root {www}; autoindex on; gzip on; gzip_min_length 100; }}
}}
""")
        return [find("nginx"), "-c", os.path.join(self.folder, "nginx.conf"), "-p", self.folder]

    def answers(self):
        with self.connect() as link:
            link.sendall(b"GET /nothing-here HTTP/1.0\r\n\r\n")
            if not link.recv(64).startswith(b"HTTP/1.1 404"):
                raise OSError("no answer")


class MariaDB(Server):
    """A MariaDB server; `data` is a folder that install_data() made, copied for this server alone."""

    name = "mariadb"

    def __init__(self, scratch, prefix=(), data=None, options=(), below=""):
        super().__init__(scratch, prefix)
        self.socket = os.path.join(scratch, "s")
        self.data = os.path.join(scratch, below, "data")
        self.options = list(options)
        if not os.path.exists(self.data):
            if data is None:
                self.install_data(self.data)
            else:
                shutil.copytree(data, self.data)

    @staticmethod
    def install_data(folder):
        user = ["--user=root"] if os.geteuid() == 0 else []
        done = subprocess.run([find("mariadb-install-db"), "--no-defaults", *user, f"--datadir={folder}",
                               "--auth-root-authentication-method=normal", "--skip-test-db"],
                              capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"mariadb-install-db: {done.stdout}{done.stderr}")

    def command(self):
        user = ["--user=root"] if os.geteuid() == 0 else []
        # Asynchronous I/O of the kernel is not hosted, and it would reserve 8 TiB of addresses.
        return [find("mariadbd"), "--no-defaults", *user, f"--datadir={self.data}", f"--socket={self.socket}",
                f"--port={self.port}", "--bind-address=127.0.0.1", "--innodb-use-native-aio=0",
                "--innodb-buffer-pool-size-max=256M", f"--pid-file={self.folder}/pid", f"--tmpdir={self.folder}",
                *self.options]

    def answers(self):
        """The greeting, and the answer to a query as root: a login with an empty password."""
        with self.connect() as link:
            hello = link.recv(4096)
            if len(hello) < 5 or hello[4] != 10:
                raise OSError("no greeting")
            body = (0x200 | 0x8000 | 0x80000).to_bytes(4, "little") + (1 << 24).to_bytes(4, "little")
            body += bytes([33]) + bytes(23) + b"root\0\0mysql_native_password\0"
            link.sendall(len(body).to_bytes(3, "little") + b"\1" + body)
            if link.recv(4096)[4] != 0:
                raise OSError("no login")
            link.sendall(b"\x09\0\0\0\x03SELECT 1")
            if not link.recv(4096):
                raise OSError("no answer")

    def client(self, program="mariadb"):
        return [find(program), "--no-defaults", "--user=root", f"--socket={self.socket}"]

    def query(self, sql, *options, timeout=60):
        done = subprocess.run([*self.client(), "--batch", "--skip-column-names", *options], input=sql, text=True,
                              capture_output=True, timeout=timeout, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"mariadb: {done.stderr}")
        return done.stdout


ALL = {kind.name: kind for kind in (Redis, Memcached, Nginx, MariaDB)}
