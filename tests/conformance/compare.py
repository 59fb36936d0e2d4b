#!/usr/bin/env python3
"""compare.py VMSRS COMMAND...: runs a command natively and under the monitor; output and status must be the same.

COMMAND may be one *.args file: one argument a line, {dir} standing for the folder of the file, {million} for a file of a
million numbers, each on a line, in no order. Exit status 77: skipped.
"""

import os
import subprocess
import sys
import tempfile

SECONDS = 120 * int(os.environ.get("VMSRS_TIME_SCALE", "1"))  # where the processor is emulated
SKIPPED = 77


def arguments(words):
    if len(words) != 1 or not words[0].endswith(".args"):
        return words
    folder = os.path.dirname(os.path.abspath(words[0]))
    with open(words[0], encoding="utf-8") as file:
        return [line.rstrip("\n").replace("{dir}", folder).replace("\\n", "\n") for line in file]


def run(command):
    with tempfile.TemporaryDirectory() as scratch:
        if "{million}" in command:
            with open(os.path.join(scratch, "million"), "w", encoding="ascii") as file:
                file.writelines(f"{i * 7368787 % 1000003}\n" for i in range(1000000))
        command = ["million" if word == "{million}" else word for word in command]
        done = subprocess.run(command, cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS,
                              check=False)
    # A shell's view of a death by signal, which is the monitor's exit status too.
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return done.stdout, done.stderr, status


def main():
    vmsrs, command = sys.argv[1], arguments(sys.argv[2:])
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("skipped: needs /dev/kvm")
        return SKIPPED
    native = run(command)
    guest = run([vmsrs, "run", "--", *command])
    same = True
    for name, one, other in zip(("stdout", "stderr", "status"), native, guest):
        if one != other:
            same = False
            print(f"{name} differs:\n  native:    {one!r}\n  monitored: {other!r}")
    if same:
        print(f"same: {len(native[0])} bytes of output, status {native[2]}")
    return 0 if same else 1


sys.exit(main())
