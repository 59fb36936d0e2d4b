#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "vmm/syscall.hpp"

namespace vmsrs::cli {
namespace {

char const* name_of(vmm::Support support) {
  switch (support) {
    case vmm::Support::kFull:
      return "full";
    case vmm::Support::kPartial:
      return "partial";
    case vmm::Support::kDenied:
      return "denied";
  }
  return "?";
}

}  // namespace

Command add_syscalls(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  auto markdown = std::make_shared<bool>(false);
  app.add_flag("--json", *json, "as JSON");
  app.add_flag("--markdown", *markdown, "as a Markdown table");
  return [json, markdown] {
    auto const rows = vmm::SyscallTable::instance().rows();
    if (*json) {
      auto all = nlohmann::json::array();
      for (auto const* row : rows) {
        all.push_back(
            {{"number", row->nr}, {"name", row->name}, {"support", name_of(row->support)}, {"note", row->note}});
      }
      fmt::print("{}\n", all.dump(1));
      return 0;
    }
    if (*markdown) fmt::print("| nr | call | support | note |\n|---:|---|---|---|\n");
    for (auto const* row : rows) {
      if (*markdown) {
        fmt::print("| {} | {} | {} | {} |\n", row->nr, row->name, name_of(row->support), row->note);
      } else {
        fmt::print("{:3} {:24} {:8} {}\n", row->nr, row->name, name_of(row->support), row->note);
      }
    }
    return 0;
  };
}

}  // namespace vmsrs::cli
