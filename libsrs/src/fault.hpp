// std::terminate inside a scope is a fault of the scope.
#ifndef SRS_SRC_FAULT_HPP
#define SRS_SRC_FAULT_HPP

namespace srs::lib {

// Puts our handler in front of the program's, if the program has a C++ runtime.
void hook_terminate();

}  // namespace srs::lib

#endif
