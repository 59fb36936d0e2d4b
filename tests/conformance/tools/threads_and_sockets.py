"""Threads, a TCP server on an ephemeral port, selectors, a timer, a file; prints deterministic text."""
import hashlib
import os
import selectors
import socket
import tempfile
import threading
import time

listener = socket.create_server(("127.0.0.1", 0))


def serve():
    for _ in range(20):
        connection, _address = listener.accept()
        with connection:
            connection.sendall(hashlib.sha256(connection.recv(100)).hexdigest().encode())


server = threading.Thread(target=serve)
server.start()
answers = {}


def ask(number):
    with socket.create_connection(listener.getsockname()) as connection:
        connection.sendall(b"user %d" % number)
        answers[number] = connection.recv(100)


askers = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
for thread in askers:
    thread.start()
for thread in askers + [server]:
    thread.join()
print(hashlib.sha256(b"".join(answers[i] for i in range(20))).hexdigest())

left, right = socket.socketpair()
with selectors.DefaultSelector() as selector:
    selector.register(left, selectors.EVENT_READ)
    print(selector.select(timeout=0.05))
    right.send(b"x")
    print(len(selector.select(timeout=5)))
begin = time.monotonic()
time.sleep(0.05)
print(time.monotonic() - begin >= 0.05)
with tempfile.TemporaryFile() as file:
    file.write(b"a" * 100000)
    file.seek(99999)
    print(file.read(), os.fstat(file.fileno()).st_size)
