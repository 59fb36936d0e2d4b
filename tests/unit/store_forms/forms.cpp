#include "tests/unit/store_forms/forms.hpp"

#include <algorithm>
#include <any>
#include <array>
#include <atomic>
#include <bitset>
#include <complex>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <queue>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

namespace {

struct Triple {
  long a, b, c;
};
struct Large {
  long v[40];
};
struct Odd {
  char v[13];
};
struct Bits {
  unsigned a : 3, b : 11, c : 18;
  unsigned long d : 40, e : 24;
};
struct __attribute__((packed)) Packed {
  char pad;
  int i;
  long l;
  short s;
  double d;
};
struct Base {
  virtual ~Base() = default;
  virtual int f() const { return 1; }
  long member = 7;
};
struct Derived : Base {
  int f() const override { return 2; }
  long more = 8;
};
struct Global {
  long word;
  int half;
  char bytes[64];
  std::atomic<int> atomic;
};
Global globals;

}  // namespace

struct State {
  uint8_t b[64];
  uint16_t h[64];
  uint32_t w[64];
  uint64_t q[64];
  float f[64];
  double d[64];
  long double ld;
  __int128 wide;
  std::complex<double> complex;
  char text[256];
  char more[256];
  Triple triple, triple2;
  Large large, large2;
  Odd odd, odd2;
  Bits bits;
  Packed packed;
  void* pointer;
  bool flag;
  std::atomic<uint8_t> a8;
  std::atomic<uint16_t> a16;
  std::atomic<uint32_t> a32;
  std::atomic<uint64_t> a64;
  std::atomic<bool> aflag;
  std::atomic<void*> apointer;
  std::atomic_flag spin;
  uint32_t plain32;
  uint64_t plain64;
  alignas(16) unsigned char place[64];
  std::string s1, s2, s3;
  std::map<int, std::string> map;
  std::set<long> set;
  std::multimap<std::string, int> multi;
  std::unordered_map<int, std::string> hash;
  std::unordered_set<std::string> hashset;
  std::list<int> list, list2;
  std::forward_list<int> forward;
  std::vector<int> v;
  std::vector<std::string> vs;
  std::vector<bool> vb;
  std::deque<long> deque;
  std::priority_queue<int> heap;
  std::shared_ptr<std::string> shared, shared2;
  std::weak_ptr<std::string> weak;
  std::unique_ptr<Base> unique;
  std::optional<std::string> optional;
  std::variant<int, std::string, double> variant;
  std::any any;
  std::function<int(int)> function;
  std::tuple<int, std::string, long> tuple;
  std::array<int, 32> array;
  std::bitset<200> bitset;
  std::pair<int, std::string> pair;
  char* c_block;
  int n = 37;  // of which the compiler knows nothing
};

State* new_state() {
  auto* s = new State();
  for (unsigned i = 0; i < sizeof s->text - 1; ++i) s->text[i] = static_cast<char>('a' + i % 26);
  s->text[40] = 0;
  for (int i = 0; i < 64; ++i) s->q[i] = 1000u + static_cast<unsigned>(i);
  return s;
}

char* globals_begin() {
  return reinterpret_cast<char*>(&globals);
}
unsigned long globals_size() {
  return sizeof globals;
}

namespace {

__attribute__((noinline)) Triple make_triple(long a) {
  Triple t;
  t.a = a;
  t.b = a + 1;
  t.c = a + 2;
  return t;
}
__attribute__((noinline)) Large make_large(long a) {
  Large l{};
  for (long& v : l.v) v = a++;
  return l;
}
void print(char* to, size_t n, char const* format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(to, n, format, args);
  va_end(args);
}
int descending(void const* a, void const* b) {
  uint64_t const x = *static_cast<uint64_t const*>(a);
  uint64_t const y = *static_cast<uint64_t const*>(b);
  return x < y ? 1 : x > y ? -1 : 0;
}
void fill_map(State& s) {
  for (int i = 0; i < 50; ++i) s.map[i * 7 % 50] = "value that is no short string " + std::to_string(i);
  for (int i = 0; i < 50; ++i) s.set.insert(i * 11 % 50);
}
void fill_strings(State& s) {
  s.s1 = "a text that does not fit into the object itself, by far";
  s.s2 = "short";
  s.s3 = "another text that does not fit into the object itself";
}
void fill_list(State& s) {
  for (int i = 0; i < 20; ++i) {
    s.list.push_back(i * 7 % 20);
    s.list2.push_back(100 + i);
    s.forward.push_front(i);
  }
}
void fill_vector(State& s) {
  for (int i = 0; i < 40; ++i) {
    s.v.push_back(i * 17 % 40);
    s.vs.push_back("element number " + std::to_string(i * 13 % 40) + " of a vector");
    s.vb.push_back(i % 3 == 0);
    s.deque.push_back(i);
    s.heap.push(i * 3 % 40);
  }
}
void fill_hash(State& s) {
  for (int i = 0; i < 30; ++i) {
    s.hash[i] = "hashed " + std::to_string(i);
    s.hashset.insert("member " + std::to_string(i));
  }
}
void fill_shared(State& s) {
  s.shared = std::make_shared<std::string>("shared by two");
  s.shared2 = std::make_shared<std::string>("another");
  s.weak = s.shared;
}

}  // namespace

#define FORM(name, prepare, ...)                \
  {                                             \
    name, prepare, [](State& s) { __VA_ARGS__ } \
  }
Form const kForms[] = {
    FORM("scalar.1", nullptr, s.b[3] = 7; s.flag = true;),
    FORM("scalar.2", nullptr, s.h[3] = 7;),
    FORM("scalar.4", nullptr, s.w[3] = 7; s.w[static_cast<unsigned>(s.n)] += 3;),
    FORM("scalar.8", nullptr, s.q[3] = 7; s.pointer = &s; s.q[static_cast<unsigned>(s.n)]++;),
    FORM("scalar.float", nullptr, s.f[1] = 1.5F; s.d[2] = static_cast<double>(s.n) / 3;),
    FORM("scalar.16", nullptr, s.wide = (static_cast<__int128>(s.n) << 70) + 1; s.ld = s.n;
         s.complex = {1.0 + s.n, 2.0};),
    FORM("scalar.volatile", nullptr, *const_cast<uint32_t volatile*>(&s.w[5]) = 5;),
    FORM("scalar.packed", nullptr, s.packed.i = s.n; s.packed.l = -1; s.packed.s = 3; s.packed.d = 2.5;),
    FORM("scalar.bit_field", nullptr, s.bits.b = static_cast<unsigned>(s.n); s.bits.c = 77; s.bits.d = 123456789;
         s.bits.e++;),
    FORM("scalar.global", nullptr, (void)s; globals.word++; globals.half = 3; globals.bytes[s.n % 64]++;),
    FORM(
        "scalar.reference", nullptr, auto& r = s.q[9]; auto set = [&r](uint64_t v) { r = v; }; set(s.q[10] * 3);),
    FORM("scalar.neighbours", nullptr, s.w[0] = 1; s.w[1] = 2; s.w[2] = 3; s.w[3] = 4; s.h[0] = 1; s.h[1] = 2;
         s.h[2] = 3; s.h[3] = 4;),
    FORM("struct.copy", nullptr, s.triple.a = s.n; s.triple2 = s.triple; s.odd.v[5] = 5; s.odd2 = s.odd;),
    FORM("struct.large", nullptr, s.large.v[9] = s.n; s.large.v[39] = 4; s.large2 = s.large;),
    FORM("struct.zeroed", nullptr, std::memset(&s.large2, 0xee, sizeof s.large2); s.large = s.large2;
         s.large2 = Large{}; s.triple = Triple{1, 2, 3};),
    FORM("struct.returned", nullptr, s.triple = make_triple(s.n); s.large = make_large(s.n);),
    FORM("struct.swapped", nullptr, s.triple = {1, 2, 3}; std::swap(s.triple, s.triple2);
         std::swap(s.large, s.large2);),
    FORM("loop.bytes", nullptr, for (int i = 0; i < s.n; ++i) s.b[i] = static_cast<uint8_t>(i + 1);),
    FORM("loop.ints", nullptr, for (int i = 0; i < s.n; ++i) s.w[i] = static_cast<uint32_t>(i) * 3 + 1;),
    FORM("loop.ints_odd_start", nullptr, for (int i = 1; i < s.n; ++i) s.w[i] += s.w[i] + 5;),
    FORM("loop.longs", nullptr, for (int i = 0; i < s.n; ++i) s.q[i] = static_cast<uint64_t>(i);),
    FORM("loop.longs_full", nullptr,
         for (uint64_t& q
              : s.q) q += 5;),
    FORM("loop.doubles", nullptr, for (int i = 0; i < 64; ++i) s.d[i] = s.f[i] + i + 1;),
    FORM("loop.condition", nullptr, for (int i = 0; i < 64; ++i) if (i % 3 == s.n % 3) s.w[i] = 9;),
    FORM("loop.strided", nullptr, for (int i = 0; i < 60; i += 3) s.q[i] = static_cast<uint64_t>(i) + 3;),
    FORM("loop.std", nullptr, std::iota(s.w, s.w + 64, 5u); std::fill_n(s.h, s.n, uint16_t{9});
         std::copy(s.q, s.q + s.n, s.q + 20); std::reverse(s.b, s.b + 64); std::rotate(s.q, s.q + 5, s.q + 60);),
    FORM("loop.sort", nullptr, for (int i = 0; i < 64; ++i) s.q[i] = static_cast<uint64_t>(i * 37 % 64);
         std::sort(s.q, s.q + 64); std::stable_sort(s.q, s.q + 64, std::greater<>());),
    FORM("atomic.add", nullptr, s.a64++; s.a32 += 5; s.a16.fetch_add(3); s.a8--; s.a64.fetch_sub(2);),
    FORM("atomic.store", nullptr, s.a64 = 9; s.a32.store(5, std::memory_order_release); s.a16 = 3; s.a8 = 1;
         s.aflag = true; s.apointer = &s;),
    FORM("atomic.exchange", nullptr, s.a64.exchange(9); s.a32.exchange(4); s.a16.exchange(7); s.a8.exchange(1);
         s.spin.test_and_set();),
    FORM(
        "atomic.cas", nullptr, uint64_t e = 0; s.a64.compare_exchange_strong(e, 5); uint32_t e4 = 0;
        while (!s.a32.compare_exchange_weak(e4, e4 + 3)) {} uint16_t e2 = 0; s.a16.compare_exchange_strong(e2, 3);
        uint8_t e1 = 0; s.a8.compare_exchange_strong(e1, 3);),
    FORM("atomic.bits", nullptr, s.a64 |= 0x55; s.a32 ^= 0xff; s.a16 |= 3; s.a8 |= 0x80; s.a32 &= 0x0f;),
    FORM("atomic.builtin", nullptr, __sync_fetch_and_add(&s.plain64, 3); __sync_bool_compare_and_swap(&s.plain32, 0, 9);
         __atomic_store_n(&s.w[1], 3, __ATOMIC_SEQ_CST); __sync_lock_test_and_set(&s.w[2], 1);),
    FORM("atomic.global", nullptr, (void)s; globals.atomic++;),
    FORM("memory.memcpy", nullptr, std::memcpy(s.more, s.text, static_cast<size_t>(s.n)); std::memcpy(s.b, s.q, 24);
         std::memcpy(s.h, s.q, 3);),
    FORM("memory.memmove", nullptr, std::memmove(s.text + 3, s.text, static_cast<size_t>(s.n));),
    FORM("memory.memset", nullptr, std::memset(s.more, 'x', static_cast<size_t>(s.n)); std::memset(s.d, 1, 64);),
    FORM("memory.mempcpy", nullptr, *static_cast<char*>(mempcpy(s.more, s.text, static_cast<size_t>(s.n))) = '!';),
    FORM("text.strcpy", nullptr, strcpy(s.more, s.text); strcat(s.more, "tail");),
    FORM("text.strncpy", nullptr, std::memset(s.more, 1, 100); strncpy(s.more, s.text, 90);
         strncat(s.more, "tail", 2);),
    FORM("text.stpcpy", nullptr, *stpcpy(s.more, s.text) = '.';),
    FORM("text.snprintf", nullptr, snprintf(s.more, sizeof s.more, "%d and %s", s.n, s.text);
         sprintf(s.more + 100, "%x", s.n); print(s.more + 120, 9, "%s", "cut off because it is long");),
    FORM("text.stringstream", nullptr, std::ostringstream out; out << s.n << " and " << s.text; s.s1 = out.str();),
    FORM("qsort", nullptr, qsort(s.q, 64, sizeof s.q[0], descending);),
    FORM("asm.output", nullptr,
         __asm__("movl $77, %0"
                 : "=m"(s.w[7]));),
    FORM("heap.malloc", nullptr, s.c_block = static_cast<char*>(malloc(100)); s.c_block[50] = 1;
         s.c_block = static_cast<char*>(realloc(s.c_block, 5000)); strcpy(s.c_block + 4000, "end");),
    FORM("heap.strdup", nullptr, s.c_block = strdup(s.text); s.c_block[1] = 'X'; free(s.c_block);
         s.c_block = static_cast<char*>(calloc(3, 30));),
    FORM("object.in_place", nullptr, new (s.place) Derived();),
    FORM("object.new", nullptr, s.unique = std::make_unique<Derived>(); s.unique->member = 4; s.unique.reset();),
    FORM("string.assign", fill_strings, s.s1 = "now short"; s.s2 = s.s3; s.s3.clear();),
    FORM("string.append", fill_strings, s.s1 += " and more of it"; s.s2.append(100, 'x'); s.s2.push_back('y');),
    FORM("string.insert", fill_strings, s.s1.insert(5, "INSERTED"); s.s2.insert(s.s2.begin(), 'a');),
    FORM("string.replace", fill_strings, s.s1.replace(3, 9, "a longer replacement than before");
         s.s3.replace(0, 5, "x");),
    FORM("string.erase", fill_strings, s.s1.erase(4, 10); s.s3.resize(5); s.s2.resize(80, 'z');),
    FORM("string.swap", fill_strings, s.s1.swap(s.s2); s.s3 = std::move(s.s1);),
    FORM("string.in_place", fill_strings, s.s1[7] = 'X'; for (char& c
                                                              : s.s3) c = static_cast<char>(c ^ 0x20);),
    FORM("map.insert", fill_map, for (int i = 50; i < 90; ++i) s.map[i * 29 % 97 + 100] = "new"; s.set.insert(77);
         s.multi.emplace("key", 3); s.multi.emplace("key", 4);),
    FORM("map.erase", fill_map, for (int i = 0; i < 50; i += 2) s.map.erase(i); s.set.erase(s.set.begin());
         s.set.erase(40);),
    FORM("map.assign", fill_map, s.map[7] = "replaced by a text that is longer than before, by some"; s.map[8] = "";),
    FORM("map.clear", fill_map, s.map.clear(); s.set = {1, 2, 3};),
    FORM("map.merge", fill_map, std::set<long> other = {1000, 1001, 3}; s.set.merge(other);
         auto node = s.map.extract(9); node.key() = 900; s.map.insert(std::move(node));),
    FORM("hash.insert", fill_hash, for (int i = 100; i < 180; ++i) s.hash[i] = "grown"; s.hashset.insert("fresh");),
    FORM("hash.erase", fill_hash, s.hash.erase(3); s.hashset.erase("member 4"); s.hash.rehash(500);),
    FORM("list.push", fill_list, s.list.push_back(5); s.list.push_front(6);
         s.list.emplace(std::next(s.list.begin()), 7);),
    FORM("list.erase", fill_list, s.list.pop_front(); s.list.remove(9); s.list.erase(std::next(s.list.begin(), 3));
         s.forward.pop_front();),
    FORM("list.splice", fill_list,
         s.list.splice(std::next(s.list.begin()), s.list2, std::next(s.list2.begin(), 2),
                       std::next(s.list2.begin(), 8));),
    FORM("list.sort", fill_list, s.list.sort(); s.list.reverse(); s.list.merge(s.list2, std::greater<>());
         s.forward.sort();),
    FORM("list.swap", fill_list, s.list.swap(s.list2); s.list2.clear(); s.list.swap(s.list2);),
    FORM("vector.push", fill_vector, for (int i = 0; i < 50; ++i) s.v.push_back(i); s.vs.emplace_back("one more text");
         s.vb.push_back(true); s.vb[3].flip();),
    FORM("vector.insert", fill_vector, s.v.insert(s.v.begin() + 5, 10, 99); s.vs.insert(s.vs.begin(), "first of all");
         s.v.erase(s.v.begin(), s.v.begin() + 3);),
    FORM("vector.sort", fill_vector, std::sort(s.v.begin(), s.v.end()); std::sort(s.vs.begin(), s.vs.end());
         s.v.resize(500); s.vs.clear();),
    FORM("deque.push", fill_vector, for (int i = 0; i < 200; ++i) s.deque.push_front(i); s.deque.pop_back();
         s.heap.pop(); s.heap.push(17);),
    FORM("shared.copy", fill_shared, auto one = s.shared; s.shared2 = one; s.weak = s.shared2; *s.shared += " now";),
    FORM("shared.reset", fill_shared, s.shared.reset(); s.shared = std::make_shared<std::string>("fresh");
         s.shared.swap(s.shared2);),
    FORM("optional", nullptr, s.optional = "a text that is long enough for the heap"; s.optional.reset();
         s.optional.emplace("x");),
    FORM("variant", nullptr, s.variant = "a text that is long enough for the heap"; s.variant = 2.5; s.any = s.n;
         s.any = std::string(70, 'c');),
    FORM(
        "function", nullptr, long a = s.n, b = 3, c = 4;
        s.function = [=](int x) { return static_cast<int>(x + a + b + c); };),
    FORM("tuple", nullptr, s.tuple = {1, "a text that is long enough for the heap", 3}; s.pair = {4, "five"};
         s.array.fill(3); s.bitset.set(77); s.bitset <<= 3;),
};
unsigned const kFormCount = sizeof kForms / sizeof kForms[0];
