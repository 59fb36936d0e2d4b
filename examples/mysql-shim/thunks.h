/* What thunks.S and library.cpp must agree on. */
#ifndef EXAMPLES_MYSQL_SHIM_THUNKS_H
#define EXAMPLES_MYSQL_SHIM_THUNKS_H

#define MYSQL_SHIM_THUNKS 2048
#define MYSQL_SHIM_THUNK_BYTES 16

#endif
