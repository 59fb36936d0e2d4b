// Options of `vmsrs run` that say how it is seen by `vmsrs status` and `vmsrs detectd`, and what the commands around
// the registry share.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "runtime/detect/publisher.hpp"

namespace vmsrs::cli {

struct StatusOptions {
  bool on = true;
  bool service = false;
  std::string name, registry;
  std::vector<std::string> probes;
  uint32_t timeout_ms = 1000, period_ms = 250, start_ms = 60'000;
};

void add_status_options(CLI::App& app, StatusOptions& options);
void add_registry_option(CLI::App& app, std::string& registry);
void add_probe_times(CLI::App& app, StatusOptions& options);

// Null: off, or there is no registry to be had and nothing was asked that needs one.
vmm::Result<std::unique_ptr<runtime::detect::Publisher>> make_publisher(StatusOptions const& options,
                                                                        std::string const& program, bool verbose);

// The same options, as words for another command.
std::vector<std::string> status_words(StatusOptions const& options);

// "[NAME=]URL"; the name of the n-th without one is "app", "app2"…
vmm::Result<runtime::detect::AppRegistration> app_of(std::string const& text, size_t n, StatusOptions const& times);

}  // namespace vmsrs::cli
