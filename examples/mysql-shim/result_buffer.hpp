// A buffer for a UDF's string result that ends at a page nobody may touch: a result that is too long is a fault before
// it has hit anything. MariaDB's own buffer lies among its other memory.
#ifndef EXAMPLES_MYSQL_SHIM_RESULT_BUFFER_HPP
#define EXAMPLES_MYSQL_SHIM_RESULT_BUFFER_HPP

#include <cstddef>

namespace mysql_shim {

// `size` bytes that end at the guard, this thread's own, until the next call; null if size is over 64 KiB or there is
// no memory.
char* result_buffer(size_t size);

}  // namespace mysql_shim

#endif
