// Whether a host has power, asked out of band: not through the host itself, which does not answer.
//
//   none                   nobody can tell
//   sim:DIRECTORY          a simulated controller for tests: DIRECTORY/HOST holds "on" or "off"
//   command:TEXT           TEXT, with {host} replaced, is run by the shell; its output has the word "on" or "off", as
//   that
//                          of `ipmitool -I lanplus -H {host}-bmc … chassis power status`
#pragma once

#include <memory>
#include <string>

#include "runtime/detect/verdict.hpp"
#include "vmm/error.hpp"

namespace vmsrs::runtime::detect {

class PowerController {
 public:
  virtual ~PowerController() = default;
  // May take up to timeout_ms; kUnknown: it cannot be told.
  virtual Power state(std::string const& host, uint64_t timeout_ms) = 0;
};

vmm::Result<std::unique_ptr<PowerController>> make_power_controller(std::string const& text);

}  // namespace vmsrs::runtime::detect
