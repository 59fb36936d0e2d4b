// A UDF library's own imports of memory functions, led to the shim's heap (heap.hpp).
#ifndef EXAMPLES_MYSQL_SHIM_IMPORTS_HPP
#define EXAMPLES_MYSQL_SHIM_IMPORTS_HPP

namespace mysql_shim {

// Writes the addresses of the shim's functions into the global offset table of this loaded library, and of no other.
// Idempotent. `handle` is dlopen's.
void redirect_imports(void* handle);

}  // namespace mysql_shim

#endif
