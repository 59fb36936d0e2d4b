#!/usr/bin/env python3
"""failover_load.py VMSRS SERVER [--failovers N] [--clients N] [--mode M]: a server under `vmsrs run --protect`, whose
primary is killed N times in the middle of its clients' work. Each client judges every answer by its model (load.py):
none is lost, doubled or wrong, and no connection ends. MariaDB's tables are checked at the end, and again after a
restart without the monitor. Exit status 77: skipped.
"""

import argparse
import os
import sys
import tempfile

sys.dont_write_bytecode = True
import failover
import load
import programs


class OverTcp(programs.MariaDB):
    """Its clients come by TCP: what comes by a Unix socket does not go through the gateway."""

    def client(self, program="mariadb"):
        return [programs.find(program), "--no-defaults", "--user=root", "--protocol=tcp", "--host=127.0.0.1", f"--port={self.port}"]


KINDS = {"redis": programs.Redis, "memcached": programs.Memcached, "mariadb": OverTcp}


def check_tables(server):
    answers = server.query("SELECT CONCAT('CHECK TABLE load_test.', table_name, ';') FROM information_schema.tables "
                           "WHERE table_schema = 'load_test';")
    lines = server.query(answers).splitlines()
    assert lines and all(line.endswith("\tOK") for line in lines), lines
    return len(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vmsrs")
    parser.add_argument("server", choices=sorted(KINDS))
    parser.add_argument("--failovers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", metavar="FOLDER", help="the scratch folder, kept")
    options = parser.parse_args()
    if failover.cannot_run():
        return failover.SKIPPED
    with tempfile.TemporaryDirectory(prefix="vmsrs-failover-") as temporary:
        scratch = options.keep or temporary
        events = os.path.join(scratch, "events")
        prefix = [os.path.abspath(options.vmsrs), "run", "--protect", "--failover-window", "1", "--events", events, "--"]
        kind = KINDS[options.server]
        with kind(os.path.join(scratch, "server"), prefix) as server:
            try:
                if hasattr(load.CLIENTS[server.name], "prepare"):
                    load.CLIENTS[server.name].prepare(server)
                killer = failover.Killer(server.process.pid, events, options.failovers, options.seed)
                killer.start()
                steps = load.run(server, options.clients, until=lambda: killer.enough, seed=options.seed)
                assert killer.error is None, killer.error
                text = f"{check_tables(server)} tables checked, " if options.server == "mariadb" else ""
                status = server.stop()
                assert status == 0, f"exit status {status}"
            except Exception:
                print(server.output()[-5000:])
                raise
        if options.server == "mariadb":
            # What the files hold is what the server that was moved about has said.
            with kind(os.path.join(scratch, "server")) as server:
                text += f"{check_tables(server)} natively, "
                assert server.query("SELECT SUM(money) FROM load_test.account;").strip() == "20000"
    print(f"{options.server}: {steps} steps of {options.clients} clients over {killer.killed} failovers, {text}no wrong answer")
    return 0


if __name__ == "__main__":
    sys.exit(main())
