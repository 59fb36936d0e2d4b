#!/usr/bin/env python3
"""Three ways to hear of a program's stores, by the coverage test of tests/unit/store_forms.

usage: bench/run hooks [LEVEL]      LEVEL: an optimisation level, default -O2

Each way compiles forms.cpp and logs what it is told of through libsrs; a form fails if a byte that it changed has no
record with the value before. The other two get libsrs's heap and atomics as the plugin does, but nothing in place of the
C library's functions and libstdc++'s precompiled parts: what is missed there is not theirs to see.
"""

import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build", "release")
FORMS = os.path.join(ROOT, "tests", "unit", "store_forms")
INCLUDES = ["-I" + ROOT, "-I" + os.path.join(ROOT, "libsrs", "include"), "-D_GNU_SOURCE", "-w"]
HEAP = ["-Wl,-u,srs_i_heap_", "-Wl,-u,srs_i_new_"]
LIBRARIES = [os.path.join(BUILD, "lib", f"lib{name}.a") for name in ("srs_instrument_cxx", "srs_instrument", "srs_hosted")]
WAYS = {
    "plugin": (["g++", "-fplugin=" + os.path.join(BUILD, "lib", "srs", "srs_stores.so"), "-mno-red-zone"],
               ["-Wl,-u,srs_i_containers_"]),
    "g++ -fsanitize=thread": (["g++", "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"], []),
    "clang++ trace-stores": (["clang++", "-fsanitize-coverage=func,trace-stores"], []),
}


def run(*command):
    subprocess.run(command, check=True)


def main():
    level = sys.argv[1] if len(sys.argv) > 1 else "-O2"
    rows = {}
    with tempfile.TemporaryDirectory() as work:
        def at(name):
            return os.path.join(work, name)
        for source, name in ((os.path.join(FORMS, "check.cpp"), "check.o"),
                             (os.path.join(ROOT, "bench", "hooks", "runtime.cpp"), "runtime.o")):
            run("g++", "-std=c++20", "-O2", *INCLUDES, "-c", source, "-o", at(name))
        for way, (compiler, link) in WAYS.items():
            if shutil.which(compiler[0]) is None:
                print(f"{way}: {compiler[0]} is not installed")
                continue
            run(*compiler, "-std=c++20", level, *INCLUDES, "-c", os.path.join(FORMS, "forms.cpp"), "-o", at("forms.o"))
            run("g++", at("forms.o"), at("check.o"), at("runtime.o"), *HEAP, *link, *LIBRARIES, "-lpthread", "-o",
                at("forms"))
            said = subprocess.run([at("forms")], capture_output=True, text=True, check=False).stdout
            for line in said.splitlines():
                words = line.split()
                if len(words) > 3 and words[2] == "changed":
                    rows.setdefault(words[0], {})[way] = words[1]
    for form, found in rows.items():
        if any(verdict != "ok" for verdict in found.values()):
            print(f"{form:22}" + "  ".join(f"{way}: {verdict}" for way, verdict in found.items()))
    for way in WAYS:
        verdicts = [found[way] for found in rows.values() if way in found]
        if verdicts:
            print(f"{way}: {verdicts.count('ok')} of {len(verdicts)} forms")


main()
