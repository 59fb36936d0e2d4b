// State of this library that all connections share, written through libsrs.
#ifndef EXAMPLES_MYSQL_SHIM_UDF_SHARED_HPP
#define EXAMPLES_MYSQL_SHIM_UDF_SHARED_HPP

namespace udf {

// Counts a visit in two words, under a lock. `crash`: fails between the two.
long long visit(bool crash);
// -1 if the words differ.
long long visits();

}  // namespace udf

#endif
