// Inside Image; shared by those who fill it and those who make a guest of it.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/checkpoint/image.hpp"
#include "vmm/checkpoint/process_state.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmsrs::checkpoint {

struct Image::Content {
  uint64_t number = 0, session = 0;
  vmm::ProcessState state;
  bool has_recovery = false;
  std::vector<std::byte> recovery;
  // The guest's memory, where the restored guest will have it: no page is copied again.
  vmm::ScopedFd file;
  std::byte* memory = nullptr;  // all of the file, mapped
  uint64_t bytes = 0;           // of the file
  uint64_t pages = 0;           // applied so far, for messages

  Content() = default;
  ~Content();
  Content(Content const&) = delete;
  Content& operator=(Content const&) = delete;
  void unmap() noexcept;
};

}  // namespace vmsrs::checkpoint
