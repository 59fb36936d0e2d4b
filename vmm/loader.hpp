// Puts a program into a fresh guest process: ELF (dynamic through its interpreter, static, PIE or not) or #! script,
// the vDSO, the first stack with argv, environment and auxiliary vector (psABI x86-64, 3.4.1).
#pragma once

#include <string>
#include <vector>

#include "vmm/error.hpp"
#include "vmm/registers.hpp"

namespace vmm {

class Process;

struct ProgramSpec {
  std::vector<std::string> argv;  // argv[0] is looked up in PATH if it has no slash
  std::vector<std::string> envp;  // NAME=value
};

// The registers to start the first thread with. Errors name the file and what to do.
Result<Registers> load_program(Process& process, ProgramSpec const& spec);

}  // namespace vmm
