"""The project's own scripts: that the checks see what they are to see, and that a check cannot pass by not looking."""

import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPTS = os.path.join(ROOT, "scripts")


def load(name):
    path = os.path.join(SCRIPTS, name)
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_").removesuffix(".py"), path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class CheckLayers(unittest.TestCase):
    check = load("check-layers")

    def breaches(self, check, name, *lines):
        return list(check(name, list(lines)))

    def test_each_layer_is_held_back_from_what_lies_above_it(self):
        for name, include in (("libsrs/src/a.cpp", "vmm/vm.hpp"), ("vmm/a.cpp", "runtime/a.hpp"),
                              ("vmm/a.cpp", "srs/abi.h"), ("vmm/a.cpp", "cli/a.hpp"),
                              ("runtime/a.cpp", "cli/a.hpp"), ("runtime/a.cpp", "srs/srs.h"),
                              ("runtime/store/a.cpp", "vmm/vm.hpp"), ("runtime/store/a.cpp", "runtime/a.hpp"),
                              ("cli/a.cpp", "examples/a.hpp"), ("examples/shop/a.cpp", "runtime/a.hpp")):
            for form in ('#include "%s"', "#include <%s>", '  #  include "%s"  // why'):
                with self.subTest(name=name, include=form % include):
                    self.assertEqual(len(self.breaches(self.check.check_layers, name, form % include)), 1)

    def test_what_lies_below_and_outside_is_free(self):
        for name, include in (("libsrs/src/a.cpp", "<srs/abi.h>"), ("vmm/a.cpp", '"vmm/vm.hpp"'),
                              ("runtime/a.cpp", '"vmm/hooks.hpp"'), ("runtime/store/a.cpp", '"srs/abi.h"'),
                              ("cli/main.cpp", '"runtime/a.hpp"'), ("vmm/a.cpp", "<sys/mman.h>"),
                              ("tests/unit/a_test.cpp", '"runtime/a.hpp"'), ("examples/shop/a.cpp", "<srs/srs.hpp>")):
            with self.subTest(name=name, include=include):
                self.assertEqual(self.breaches(self.check.check_layers, name, f"#include {include}"), [])

    def test_a_quoted_include_names_the_path_from_the_root(self):
        self.assertEqual(len(self.breaches(self.check.check_layers, "vmm/a.cpp", '#include "vm.hpp"')), 1)

    def test_machine_paths_and_undone_work_are_seen(self):
        for line in ("see /" + "root/x", "cd /" + "work/main", "'/" + "home/ann/src'", "// TO" + "DO later"):
            with self.subTest(line=line):
                self.assertEqual(len(self.breaches(self.check.check_style, "docs/a.md", line)), 1)
        for line in ("/usr/lib/x", "network/work/rooted", "${HOME}/work/x", "https://host/root/x"):
            with self.subTest(line=line):
                self.assertEqual(self.breaches(self.check.check_style, "docs/a.md", line), [])

    def test_a_file_of_600_lines_is_the_longest(self):
        self.assertEqual(self.breaches(self.check.check_style, "vmm/a.cpp", *[""] * 600), [])
        self.assertEqual(len(self.breaches(self.check.check_style, "vmm/a.cpp", *[""] * 601)), 1)


class TestSummary(unittest.TestCase):
    def summary(self, *cases):
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write("<testsuite>" + "".join(cases) + "</testsuite>")
            file.flush()
            return subprocess.run([os.path.join(SCRIPTS, "test-summary"), file.name], capture_output=True, text=True,
                                  check=False)

    SKIPPED = ('<testcase name="integration.A" status="notrun"><skipped message="SKIP"/><system-out>'
               '[ RUN ] A\na_test.cpp:3: Skipped\nneeds /dev/kvm\n\n[  SKIPPED ] A\n</system-out></testcase>')
    RUN = '<testcase name="unit.B" status="run"/>'

    def test_names_what_was_skipped_and_why(self):
        done = self.summary(self.SKIPPED, self.RUN)
        self.assertEqual(done.returncode, 0)
        self.assertIn("skipped: 1: needs /dev/kvm", done.stdout)
        self.assertIn("integration.A", done.stdout)

    def test_nothing_run_is_a_failure(self):
        self.assertNotEqual(self.summary(self.SKIPPED).returncode, 0)
        self.assertNotEqual(self.summary().returncode, 0)
        self.assertEqual(self.summary(self.RUN).returncode, 0)


class InstallPackages(unittest.TestCase):
    """With a dpkg-query and an apt-get of our own in front."""

    def run_with(self, installed, apt_installs=True, programs=("dpkg-query", "apt-get", "sudo")):
        with tempfile.TemporaryDirectory() as folder:
            state = os.path.join(folder, "state")
            with open(state, "w", encoding="utf-8") as file:
                file.writelines(f"{name} installed\n" for name in installed)
            fakes = {
                "dpkg-query": f'cat "{state}"',
                "apt-get": f'echo "APT $*" >> "{folder}/apt.log"\n'
                           f'[[ $* =~ DPkg::Path=([^:]*): ]] && ls "${{BASH_REMATCH[1]}}" > "{folder}/services"\n' + (
                    f'for word; do echo "$word installed" >> "{state}"; done' if apt_installs else "exit 100"),
                "sudo": '"$@"',
            }
            for name in programs:
                path = os.path.join(folder, name)
                with open(path, "w", encoding="utf-8") as file:
                    file.write("#!/bin/bash\n" + fakes[name] + "\n")
                os.chmod(path, 0o755)
            # No other program of the machine that could say what is installed.
            for tool in ("awk", "bash", "cat", "chmod", "dirname", "env", "id", "ln", "ls", "mktemp", "rm"):
                for base in ("/usr/bin", "/bin"):
                    if os.path.exists(f"{base}/{tool}"):
                        os.symlink(f"{base}/{tool}", os.path.join(folder, tool))
                        break
            done = subprocess.run([os.path.join(SCRIPTS, "install-packages")], capture_output=True, text=True,
                                  check=False, env={"PATH": folder})
            services = os.path.join(folder, "services")
            if os.path.exists(services):
                with open(services, encoding="utf-8") as file:
                    self.services = file.read().split()
            log = os.path.join(folder, "apt.log")
            with open(log if os.path.exists(log) else os.devnull, encoding="utf-8") as file:
                return done, file.read()

    @staticmethod
    def wanted():
        with open(os.path.join(SCRIPTS, "packages.txt"), encoding="utf-8") as file:
            return [line.split()[0] for line in file if line.split()[1:2] == ["build"]]

    def test_nothing_missing_asks_no_network(self):
        done, log = self.run_with(self.wanted())
        self.assertEqual((done.returncode, log), (0, ""), done.stderr)

    def test_installs_just_what_is_missing(self):
        done, log = self.run_with([name for name in self.wanted() if name != "ninja-build"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(log, r"APT .* update\nAPT .* install .* ninja-build\n$")

    def test_no_service_is_started_or_enabled(self):
        self.run_with([name for name in self.wanted() if name != "memcached"])
        self.assertEqual(self.services, ["deb-systemd-helper", "deb-systemd-invoke", "invoke-rc.d", "update-rc.d"])

    def test_a_failed_installation_names_the_packages(self):
        done, _ = self.run_with([name for name in self.wanted() if name != "ninja-build"], apt_installs=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("ninja-build", done.stderr)

    def test_another_kind_of_system_is_told_what_it_needs(self):
        done, _ = self.run_with([], programs=())
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("not a Debian-like system", done.stderr)
        self.assertIn("libzydis-dev", done.stderr)


class Injection(unittest.TestCase):
    """scripts/inject-campaign: what an injection came to, and the bounds."""

    sys.path.insert(0, os.path.join(ROOT, "tests", "servers"))
    injection = __import__("injection")

    def classify(self, outcome, report=None, **client):
        seen = self.injection.Client()
        for key, value in client.items():
            setattr(seen, key, value)
        line = {"type": "injection", "index": 0, "kind": "null_read", "thread": 1002}
        with tempfile.TemporaryDirectory() as folder:
            log, file = os.path.join(folder, "log"), os.path.join(folder, "report")
            with open(log, "w", encoding="utf-8") as to:
                to.writelines(json.dumps(entry) + "\n" for entry in (line, outcome) if entry)
                to.write('{"type": "outco')  # the server ended within it
            with open(file, "w", encoding="utf-8") as to:
                to.write(json.dumps(report) + "\n" if report else "")
            (found,) = self.injection.classify(log, file, seen)
        return found[1]

    def test_each_outcome(self):
        fault = {"type": "outcome", "index": 0, "fault": "page", "signal": 11, "contained": True}
        none = {"type": "outcome", "index": 0, "fault": "", "signal": 0, "contained": False}
        report = {"type": "fault", "thread": 1002, "outcome": "landed", "exposed": 0}
        self.assertEqual(self.classify(fault, report), "recovered")
        self.assertEqual(self.classify(none), "no effect")
        self.assertEqual(self.classify(None), "no effect")
        self.assertEqual(self.classify(fault, {**report, "exposed": 1}), "exposed")
        self.assertEqual(self.classify(fault, {**report, "tainted": True}), "leaked")
        self.assertEqual(self.classify(fault, {**report, "outcome": "not contained: why"}), "escalated")
        self.assertEqual(self.classify({**fault, "contained": False}), "escalated")
        self.assertEqual(self.classify(none, status=139), "died")
        self.assertEqual(self.classify(fault, report, status=1), "died")
        self.assertEqual(self.classify(fault, report, wrong=["stock"]), "wrong answer")
        self.assertEqual(self.classify(fault, report, hung=["no answer"]), "hung")
        # A server that the monitor ended on purpose is down; that is no wrong answer and no hang.
        ended = {**report, "outcome": "not contained: why"}
        self.assertEqual(self.classify(fault, ended, status=139, hung=["no answer"]), "escalated")

    def test_bounds(self):
        bound = self.injection.upper_bound
        self.assertAlmostEqual(bound(0, 3000), 0.000998, places=6)
        self.assertAlmostEqual(bound(1, 100), 0.04656, places=4)  # Clopper and Pearson 1934, one-sided
        self.assertEqual(bound(0, 0), 1.0)
        self.assertEqual(bound(5, 5), 1.0)


class Demo(unittest.TestCase):
    """The demo's verdict: every promise, broken alone, fails it."""

    demo = load("demo.py")

    def verdict(self, native=None, monitored=None):
        class Options:
            users = 20
        good = {
            "native": {"server_died": True, "signal": "SIGSEGV"},
            "monitored": {"users": 20, "crashed": 2, "wrong_answers": 0, "lost_updates": 0, "server_restarts": 0,
                          "server_died": False, "judged_to_the_end": True, "passed": True, "faults": [{}, {}],
                          "kvm_exits": 1},
        }
        good["native"].update(native or {})
        good["monitored"].update(monitored or {})
        return self.demo.failures(good, Options)

    def test_good(self):
        self.assertEqual(self.verdict(), [])

    def test_each_promise(self):
        for native in ({"server_died": False}, {"signal": ""}, {"signal": "SIGTERM"}):
            self.assertEqual(len(self.verdict(native=native)), 1, native)
        for key, value in (("users", 19), ("crashed", 1), ("crashed", 3), ("wrong_answers", 1), ("lost_updates", 1),
                           ("server_restarts", 1), ("server_died", True), ("judged_to_the_end", False),
                           ("passed", False), ("faults", [{}]), ("kvm_exits", 0)):
            self.assertEqual(len(self.verdict(monitored={key: value})), 1, key)


if __name__ == "__main__":
    unittest.main()
