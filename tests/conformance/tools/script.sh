#!/bin/sh
# A script of builtins: arguments, $0, the exit status.
echo "${0##*/} $# [$1] [$2]"
exit 42
