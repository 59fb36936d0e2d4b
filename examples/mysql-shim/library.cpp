// Loads UDF libraries in MariaDB's place: dlopen and dlsym as the server itself calls them (thunks.S has the entries).
#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <string_view>
#include <vector>

#include "examples/mysql-shim/function.hpp"
#include "examples/mysql-shim/imports.hpp"
#include "examples/mysql-shim/thunks.h"

extern "C" {
extern char const mysql_shim_thunks_[];
void* (*mysql_shim_real_dlsym_)(void*, char const*)__attribute__((visibility("hidden"))) = nullptr;
void* (*mysql_shim_real_dlopen_)(char const*, int)__attribute__((visibility("hidden"))) = nullptr;
void* mysql_shim_find_(void* handle, char const* name) __attribute__((visibility("hidden")));
void* mysql_shim_open_(char const* path, int mode, void const* caller) __attribute__((visibility("hidden")));
}

namespace mysql_shim {
namespace {

std::mutex mutex;              // guards what follows; functions[i] below `used` is read without
std::vector<void*> libraries;  // handles of loaded UDF libraries
std::array<Function, MYSQL_SHIM_THUNKS> functions;
size_t used = 0;

template <class F>
void find_real(F& to, char const* name) {
  void* found = dlvsym(RTLD_NEXT, name, "GLIBC_2.34");
  if (found == nullptr) found = dlvsym(RTLD_NEXT, name, "GLIBC_2.2.5");
  to = reinterpret_cast<F>(found);
}

// Others ask before this library's own constructors have run: libsrs looks for the C library's locks.
void find_reals() {
  if (mysql_shim_real_dlsym_ != nullptr && mysql_shim_real_dlopen_ != nullptr) return;
  find_real(mysql_shim_real_dlsym_, "dlsym");
  find_real(mysql_shim_real_dlopen_, "dlopen");
}

bool in_main_program(void const* address) {
  struct Search {
    uint64_t address;
    bool found;
  } search{reinterpret_cast<uint64_t>(address), false};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* arg) {
        auto* s = static_cast<Search*>(arg);
        for (unsigned i = 0; i < info->dlpi_phnum; ++i) {
          ElfW(Phdr) const& p = info->dlpi_phdr[i];
          if (p.p_type == PT_LOAD && s->address - (info->dlpi_addr + p.p_vaddr) < p.p_memsz) s->found = true;
        }
        return 1;  // the first entry is the program
      },
      &search);
  return search.found;
}

// A server plugin has a declaration, a UDF library has none.
bool is_plugin(void* handle) {
  return mysql_shim_real_dlsym_(handle, "_maria_plugin_interface_version_") != nullptr ||
         mysql_shim_real_dlsym_(handle, "_mysql_plugin_interface_version_") != nullptr;
}

bool ends_with(std::string_view text, std::string_view end, std::string_view* rest) {
  if (text.size() <= end.size() || text.substr(text.size() - end.size()) != end) return false;
  *rest = text.substr(0, text.size() - end.size());
  return true;
}

// MariaDB asks for NAME first, then for NAME_…: without that order "set_init" would be ambiguous.
void classify(Function& f) {
  constexpr std::pair<std::string_view, Role> kSuffixes[] = {
      {"_init", Role::kInit}, {"_deinit", Role::kDeinit}, {"_clear", Role::kStep},
      {"_add", Role::kStep},  {"_reset", Role::kStep},    {"_remove", Role::kStep},
  };
  f.name = f.symbol;
  for (auto const& [suffix, role] : kSuffixes) {
    std::string_view name;
    if (!ends_with(f.symbol, suffix, &name)) continue;
    bool const known = std::any_of(functions.begin(), functions.begin() + static_cast<long>(used), [&](auto const& o) {
      return o.role == Role::kRow && o.library == f.library && o.symbol == name;
    });
    if (!known) continue;
    f.name = name;
    f.role = role;
  }
}

}  // namespace

Function const& function(uint64_t number) {
  return functions[number];
}

}  // namespace mysql_shim

using namespace mysql_shim;

void* mysql_shim_open_(char const* path, int mode, void const* caller) {
  find_reals();
  if (path == nullptr || std::strchr(path, '/') == nullptr || !in_main_program(caller)) return nullptr;
  void* const handle = mysql_shim_real_dlopen_(path, mode);
  if (handle == nullptr) return nullptr;  // the caller tries again, and dlerror() has the reason
  bool const udf = !is_plugin(handle);
  if (udf) redirect_imports(handle);
  std::lock_guard lock(mutex);
  std::erase(libraries, handle);
  if (udf) libraries.push_back(handle);
  return handle;
}

void* mysql_shim_find_(void* handle, char const* name) {
  find_reals();
  if (handle == nullptr || handle == RTLD_NEXT || name == nullptr) return nullptr;
  {
    std::lock_guard lock(mutex);
    if (std::find(libraries.begin(), libraries.end(), handle) == libraries.end()) return nullptr;
  }
  void* const target = mysql_shim_real_dlsym_(handle, name);
  link_map* map = nullptr;
  if (target == nullptr || dlinfo(handle, RTLD_DI_LINKMAP, static_cast<void*>(&map)) != 0) return nullptr;
  std::lock_guard lock(mutex);
  size_t i = 0;
  while (i < used && !(functions[i].library == map->l_name && functions[i].symbol == name)) ++i;
  if (i == functions.size()) return nullptr;  // more functions than thunks: unprotected, as without the shim
  functions[i].target = target;
  if (i == used) {
    functions[i].library = map->l_name;
    functions[i].symbol = name;
    classify(functions[i]);
    ++used;
  }
  return const_cast<char*>(mysql_shim_thunks_ + i * MYSQL_SHIM_THUNK_BYTES);
}
