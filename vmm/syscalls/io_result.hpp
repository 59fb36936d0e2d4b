// What every data transfer does with its host call's result.
#pragma once

#include <cstdint>

namespace vmm {

class OpenFile;
class Thread;

// Whether Linux sends SIGPIPE with this file's EPIPE: pipes and stream sockets, no datagrams.
bool sends_sigpipe(OpenFile const& file);
// SIGPIPE for -EPIPE, and the right restart code.
int64_t finish_io(Thread& thread, OpenFile const& file, int64_t result);

}  // namespace vmm
