// libsrs for C++17 and later: typed shared memory, an allocator, and request scopes. See
// <srs/srs.h>.
#ifndef SRS_SRS_HPP
#define SRS_SRS_HPP

#include <srs/srs.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

namespace srs {

namespace detail {

template <class T>
inline constexpr bool is_counter =
    std::is_integral_v<T> && !std::is_same_v<std::remove_cv_t<T>, bool> && (sizeof(T) == 4 || sizeof(T) == 8);

template <class To, class From>
inline To bits(From const& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class T>
inline T load(T const* p) {
  if constexpr (sizeof(T) == 1) {
    return bits<T>(srs_load8(p));
  } else if constexpr (sizeof(T) == 2) {
    return bits<T>(srs_load16(p));
  } else if constexpr (sizeof(T) == 4) {
    return bits<T>(srs_load32(p));
  } else if constexpr (sizeof(T) == 8) {
    return bits<T>(srs_load64(p));
  } else {
    return *p;
  }
}

template <class T>
inline void store(T* p, T const& value) {
  if constexpr (sizeof(T) == 1) {
    srs_store8(p, bits<std::uint8_t>(value));
  } else if constexpr (sizeof(T) == 2) {
    srs_store16(p, bits<std::uint16_t>(value));
  } else if constexpr (sizeof(T) == 4) {
    srs_store32(p, bits<std::uint32_t>(value));
  } else if constexpr (sizeof(T) == 8) {
    srs_store64(p, bits<std::uint64_t>(value));
  } else {
    srs_assign(p, &value, sizeof value);
  }
}

template <class T>
inline T fetch_add(T* p, T addend) {
  if constexpr (sizeof(T) == 4) {
    return static_cast<T>(srs_fetch_add32(p, static_cast<std::uint32_t>(addend)));
  } else {
    return static_cast<T>(srs_fetch_add64(p, static_cast<std::uint64_t>(addend)));
  }
}

// Two's complement, without the undefined behaviour of a signed overflow.
template <class T>
inline T negative(T value) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(U{0} - static_cast<U>(value));
}
template <class T>
inline T sum(T a, T b) {
  using U = std::make_unsigned_t<T>;
  return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
}

}  // namespace detail

// A T in shared memory: every write is logged. Use it as a T. On 4- and 8-byte integers +=, -=, ++
// and -- are atomic and commute with other scopes' (srs_fetch_add); all else needs the program's
// own lock, as a T does.
template <class T>
class shared {
  static_assert(std::is_trivially_copyable_v<T>, "srs::shared<T> needs a trivially copyable T");

 public:
  using value_type = T;

  shared() : shared(T{}) {}
  shared(T const& value) { store(value); }
  shared(shared const& other) : shared(other.load()) {}
  shared& operator=(shared const& other) {
    store(other.load());
    return *this;
  }
  T const& operator=(T const& value) {
    store(value);
    return value;
  }

  [[nodiscard]] T load() const { return detail::load(&value_); }
  void store(T const& value) { detail::store(&value_, value); }
  operator T() const { return load(); }
  T operator->() const {
    static_assert(std::is_pointer_v<T>);
    return load();
  }

  // The field `member` of the T, written alone: only its bytes are logged.
  template <class M, class C>
  void set(M C::*member, std::common_type_t<M> const& value) {
    static_assert(std::is_same_v<C, T> && std::is_trivially_copyable_v<M>);
    detail::store(&(value_.*member), value);
  }
  [[nodiscard]] T const* address() const { return &value_; }

  template <class U>
  T operator+=(U const& addend) {
    if constexpr (detail::is_counter<T>) {
      T const n = static_cast<T>(addend);
      return detail::sum(detail::fetch_add(&value_, n), n);
    } else {
      return change([&](T v) { return v + addend; });
    }
  }
  template <class U>
  T operator-=(U const& addend) {
    if constexpr (detail::is_counter<T>) {
      return *this += detail::negative(static_cast<T>(addend));
    } else {
      return change([&](T v) { return v - addend; });
    }
  }
  T operator++() { return *this += 1; }
  T operator--() { return *this -= 1; }
  T operator++(int) {
    if constexpr (detail::is_counter<T>) {
      return detail::fetch_add(&value_, T{1});
    } else {
      T const old = load();
      *this += 1;
      return old;
    }
  }
  T operator--(int) {
    if constexpr (detail::is_counter<T>) {
      return detail::fetch_add(&value_, detail::negative(T{1}));
    } else {
      T const old = load();
      *this -= 1;
      return old;
    }
  }
  template <class U>
  T operator*=(U const& u) {
    return change([&](T v) { return v * u; });
  }
  template <class U>
  T operator/=(U const& u) {
    return change([&](T v) { return v / u; });
  }
  template <class U>
  T operator%=(U const& u) {
    return change([&](T v) { return v % u; });
  }
  template <class U>
  T operator&=(U const& u) {
    return change([&](T v) { return v & u; });
  }
  template <class U>
  T operator|=(U const& u) {
    return change([&](T v) { return v | u; });
  }
  template <class U>
  T operator^=(U const& u) {
    return change([&](T v) { return v ^ u; });
  }
  template <class U>
  T operator<<=(U const& u) {
    return change([&](T v) { return v << u; });
  }
  template <class U>
  T operator>>=(U const& u) {
    return change([&](T v) { return v >> u; });
  }

 private:
  template <class F>
  T change(F f) {
    T const value = static_cast<T>(f(load()));
    store(value);
    return value;
  }

  T value_;
};

// A T of 4 or 8 bytes that threads share without a lock; sequentially consistent.
template <class T>
class atomic {
  static_assert(std::is_trivially_copyable_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "srs::atomic<T> needs a trivially copyable T of 4 or 8 bytes");
  using word = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

 public:
  using value_type = T;

  atomic() : atomic(T{}) {}
  atomic(T value) { detail::store(&value_, value); }
  atomic(atomic const&) = delete;
  atomic& operator=(atomic const&) = delete;
  T operator=(T value) {
    store(value);
    return value;
  }

  [[nodiscard]] T load() const {
    word w;
    __atomic_load(reinterpret_cast<word const*>(&value_), &w, __ATOMIC_SEQ_CST);
    return detail::bits<T>(w);
  }
  void store(T value) { exchange(value); }
  operator T() const { return load(); }

  T exchange(T value) {
    if constexpr (sizeof(T) == 4) {
      return detail::bits<T>(srs_exchange32(&value_, detail::bits<word>(value)));
    } else {
      return detail::bits<T>(srs_exchange64(&value_, detail::bits<word>(value)));
    }
  }
  // As std::atomic: on failure `expected` becomes the value found. Never fails spuriously.
  bool compare_exchange_strong(T& expected, T desired) {
    word const wanted = detail::bits<word>(expected);
    word found;
    if constexpr (sizeof(T) == 4) {
      found = srs_cas32(&value_, wanted, detail::bits<word>(desired));
    } else {
      found = srs_cas64(&value_, wanted, detail::bits<word>(desired));
    }
    if (found == wanted) return true;
    expected = detail::bits<T>(found);
    return false;
  }
  bool compare_exchange_weak(T& expected, T desired) { return compare_exchange_strong(expected, desired); }

  T fetch_add(T addend) {
    static_assert(detail::is_counter<T>);
    return detail::fetch_add(&value_, addend);
  }
  T fetch_sub(T addend) { return fetch_add(detail::negative(addend)); }
  T operator+=(T addend) { return detail::sum(fetch_add(addend), addend); }
  T operator-=(T addend) { return *this += detail::negative(addend); }
  T operator++() { return *this += 1; }
  T operator--() { return *this -= T{1}; }
  T operator++(int) { return fetch_add(1); }
  T operator--(int) { return fetch_sub(1); }

 private:
  alignas(sizeof(T)) T value_;
};

// Standard allocator over srs_malloc. The container's own stores into its nodes are not logged
// unless the element type logs them (shared<T>) or the program is compiled with the compiler hooks.
template <class T>
struct allocator {
  using value_type = T;

  allocator() = default;
  template <class U>
  allocator(allocator<U> const&) noexcept {}

  [[nodiscard]] T* allocate(std::size_t n) {
    if (n > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_array_new_length();
    void* p = alignof(T) > 16 ? srs_aligned_alloc(alignof(T), n * sizeof(T)) : srs_malloc(n * sizeof(T));
    if (p == nullptr) throw std::bad_alloc();
    return static_cast<T*>(p);
  }
  void deallocate(T* p, std::size_t) noexcept { srs_free(p); }

  template <class U>
  friend bool operator==(allocator const&, allocator<U> const&) noexcept {
    return true;
  }
  template <class U>
  friend bool operator!=(allocator const&, allocator<U> const&) noexcept {
    return false;
  }
};

// One T in monitored memory; throws std::bad_alloc. `destroy` runs the destructor and frees.
template <class T, class... Args>
[[nodiscard]] T* create(Args&&... args) {
  T* p = allocator<T>().allocate(1);
  struct guard {
    T* p;
    ~guard() { srs_free(p); }
  } owned{p};
  ::new (static_cast<void*>(p)) T(std::forward<Args>(args)...);
  owned.p = nullptr;
  return p;
}
template <class T>
void destroy(T* p) {
  if (p == nullptr) return;
  p->~T();
  srs_free(p);
}

struct options {
  int isolation = SRS_DEFAULT;  // srs_isolation
  int policy = SRS_DEFAULT;     // srs_policy
  std::uint64_t deadline_ms = 0;
  std::uint64_t user = 0;
  bool commit_on_send = false;
  std::size_t stack_size = 0;
  std::uint64_t memory_limit = 0;
  int on_fault = SRS_CLIENT_KEEP;  // srs_client
  int client_fd = -1;
  std::string_view answer = {};
};

// Runs f() as a request scope: see srs_request. Whatever f captures by reference and changes
// outside shared memory is not undone by an abort.
template <class F>
srs_status request(F&& f, options const& o = {}) {
  srs_options const c{o.isolation,    o.policy,       o.deadline_ms, o.user,      o.commit_on_send ? 1 : 0,
                      o.stack_size,   o.memory_limit, o.on_fault,    o.client_fd, o.answer.data(),
                      o.answer.size()};
  using function = std::remove_reference_t<F>;
  return srs_request([](void* self) { (*static_cast<function*>(self))(); },
                     const_cast<void*>(static_cast<void const*>(std::addressof(f))), &c);
}

}  // namespace srs

#endif
