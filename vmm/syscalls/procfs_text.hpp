// Text of the files in the guest's /proc/<pid>, see proc(5).
#pragma once

#include <string>
#include <string_view>

namespace vmm {

class OpenFile;
class Thread;

// tid 0: the process's file, else the thread's. Unknown names are empty.
std::string proc_process_text(Thread& thread, int tid, std::string_view name);
std::string proc_fdinfo_text(OpenFile const& file);

}  // namespace vmm
