"""The load tools that come with the servers: each runs for about the time asked for, and gives requests a second.

redis-benchmark (redis-tools), memcaslap (libmemcached-tools: nine gets to one set, values of 1 KiB), mysqlslap
(mariadb-client: one select by primary key, of table bench.t).
"""

import re
import subprocess


class ToolFailed(Exception):
    """What the tool said instead of a figure."""


def _output(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise ToolFailed(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def _figure(pattern, output):
    found = re.search(pattern, output)
    if found is None:
        raise ToolFailed(output)
    return float(found.group(1))


def _by_count(run, seconds):
    """For a tool that takes a number of requests: a few tell how many take so long."""
    rate = run(2000)
    return run(max(2000, int(rate * seconds)))


def redis_benchmark(test, port, clients, pipeline, seconds):
    def run(count):
        output = _output(["redis-benchmark", "-p", str(port), "-c", str(clients), "-P", str(pipeline), "-n", str(count),
                          "-t", test, "--csv"])
        return _figure(rf'"{test.upper()}[^"]*","([\d.]+)"', output)

    return _by_count(run, seconds)


def memcaslap(port, clients, seconds):
    output = _output(["memcaslap", "-s", f"127.0.0.1:{port}", "-T", "1", "-c", str(clients),
                      "-t", f"{max(1, round(seconds))}s"])
    return _figure(r"TPS: (\d+)", output)


def mysqlslap(port, clients, seconds):
    def run(count):
        output = _output(["mysqlslap", "--no-defaults", "--host=127.0.0.1", f"--port={port}", "--user=root",
                          f"--concurrency={clients}", f"--number-of-queries={count}", "--create-schema=bench",
                          "--query=select v from t where id = 500"])
        return count / max(1e-3, _figure(r"Average number of seconds to run all queries: ([\d.]+)", output))

    return _by_count(run, seconds)
